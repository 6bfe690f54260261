//! Wiring: links, addresses, neighbours, routes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use cambric_policy::change::Key;
use cambric_policy::program::IfName;

use super::host::{Host, Seen};
use super::netns::Netns;

/// MAC of every host end.
const HOST_MAC: &str = "02:ca:3b:00:00:01";
/// Longest path of a packet in links, there or back.
pub const LONGEST_PATH: usize = 3;
/// For what takes milliseconds.
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// A place that packets are sent from and come to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum At {
    /// A pod's namespace.
    Pod(Key),
    /// A node's own namespace.
    Node(String),
    /// All that is outside the cluster, in one namespace.
    Outside,
}

/// A pod that is to be wired.
#[derive(Debug, Clone)]
pub struct NewPod {
    pub key: Key,
    /// Where.
    pub node: String,
    /// The host end.
    pub interface: IfName,
    pub addresses: BTreeSet<IpAddr>,
}

#[derive(Debug)]
struct Pod {
    host: Host,
    node: usize,
    interface: IfName,
    mac: String,
    addresses: BTreeSet<IpAddr>,
    links: [Link; 2],
}

/// One way of a link.
#[derive(Debug, Clone)]
struct Link {
    from: At,
    interface: u32,
    to: At,
}

/// All of it.
#[derive(Debug)]
pub struct Rig {
    /// On which the calling thread might run before.
    processors: CpuSet,
    names: Vec<String>,
    /// The nodes, and behind them the outside.
    hosts: Vec<Host>,
    mesh: Vec<Link>,
    pods: BTreeMap<Key, Pod>,
    pods_made: u64,
    next_mark: std::cell::Cell<u64>,
}

impl Rig {
    /// Nodes and the addresses of each, and addresses outside.
    pub fn new(nodes: &[(String, Vec<IpAddr>)], outside: &[IpAddr]) -> Rig {
        let processors = sched_getaffinity(Pid::from_raw(0)).expect("processors");
        bind_to_one_processor();
        let hosts: Vec<Host> = (0..=nodes.len()).map(|_| Host::new(Netns::new())).collect();
        let of = |nth: usize| nodes.get(nth).map_or(outside, |(_, addresses)| addresses);
        for (nth, host) in hosts.iter().enumerate() {
            host.netns.set("ipv4/ip_forward", "1");
            host.netns.set("ipv4/conf/all/send_redirects", "0");
            host.netns.set("ipv4/conf/default/send_redirects", "0");
            host.netns.set("ipv6/conf/all/forwarding", "1");
            let later = (nth + 1..hosts.len()).map(|peer| {
                let (netns, mac) = (hosts[peer].netns.path(), mesh_mac(nth, peer));
                let back = mesh_mac(peer, nth);
                format!("link add mesh{peer} address {mac} type veth peer name mesh{nth} address {back} netns {netns}")
            });
            host.netns.ip(&["link set lo up".to_owned()].into_iter().chain(later).collect::<Vec<_>>());
        }
        for (nth, host) in hosts.iter().enumerate() {
            let mut lines: Vec<String> =
                of(nth).iter().map(|address| format!("addr add {} dev lo", whole(*address))).collect();
            for peer in (0..hosts.len()).filter(|peer| *peer != nth) {
                let (me, it) = (nth + 1, peer + 1);
                lines.push(format!("link set mesh{peer} addrgenmode none up"));
                lines.push(format!("addr add fe80::{me:x}/64 dev mesh{peer} nodad"));
                lines.push(format!(
                    "neigh add fe80::{it:x} lladdr {} dev mesh{peer} nud permanent",
                    mesh_mac(peer, nth)
                ));
                lines.extend(of(peer).iter().map(|address| route_by_mesh("add", *address, peer)));
            }
            if let (true, world) = (nth < nodes.len(), nodes.len()) {
                lines.push(format!("route add 0.0.0.0/0 via inet6 fe80::{:x} dev mesh{world}", world + 1));
                lines.push(format!("route add ::/0 via fe80::{:x} dev mesh{world}", world + 1));
            }
            host.netns.ip(&lines);
        }
        let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
        let at = |nth: usize| names.get(nth).map_or(At::Outside, |name| At::Node(name.clone()));
        let mesh = (0..hosts.len()).flat_map(|nth| (0..hosts.len()).map(move |peer| (nth, peer)));
        let mesh = mesh.filter(|(nth, peer)| nth != peer).map(|(nth, peer)| Link {
            from: at(nth),
            interface: hosts[nth].index(&format!("mesh{peer}")),
            to: at(peer),
        });
        let mesh = mesh.collect();
        let (pods, next_mark) = (BTreeMap::new(), 1.into());
        let rig = Rig { processors, mesh, names, hosts, pods, pods_made: 0, next_mark };
        rig.wait_for(&rig.mesh);
        rig
    }

    /// Starts something whose threads run on all processors.
    pub fn on_all_processors<T>(&self, start: impl FnOnce() -> T) -> T {
        sched_setaffinity(Pid::from_raw(0), &self.processors).expect("processors");
        let started = start();
        bind_to_one_processor();
        started
    }

    /// Wires pods.
    pub fn add_pods(&mut self, pods: &[NewPod]) {
        let mut at_hosts: Vec<Vec<String>> = self.hosts.iter().map(|_| Vec::new()).collect();
        let mut made = Vec::new();
        for NewPod { key, node, interface, addresses } in pods {
            let node = self.nth(node);
            self.pods_made += 1;
            let number = self.pods_made;
            let mac = format!("0a:00:00:00:{:02x}:{:02x}", number >> 8, number & 0xff);
            let netns = Netns::new();
            let path = netns.path();
            let lines = &mut at_hosts[node];
            lines.push(format!(
                "link add {interface} address {HOST_MAC} type veth peer name eth0 address {mac} netns {path}"
            ));
            lines.push(format!("link set {interface} addrgenmode none up"));
            lines.push(format!("addr add fe80::1/128 dev {interface} scope link nodad"));
            lines.push(format!("route append fe80::/64 dev {interface} proto kernel"));
            for address in addresses {
                lines.push(format!("neigh add {address} lladdr {mac} dev {interface} nud permanent"));
                lines.push(format!("route add {} dev {interface} proto 204 scope link", whole(*address)));
            }
            for (_, lines) in at_hosts.iter_mut().enumerate().filter(|(nth, _)| *nth != node) {
                lines.extend(addresses.iter().map(|address| route_by_mesh("add", *address, node)));
            }
            made.push((key, node, interface, mac, netns, addresses));
        }
        for (host, lines) in self.hosts.iter().zip(&at_hosts).filter(|(_, lines)| !lines.is_empty()) {
            host.netns.ip(lines);
        }
        for (key, node, interface, mac, netns, addresses) in made {
            self.add_inside(key, node, interface, mac, netns, addresses);
        }
        self.wait_for(pods.iter().flat_map(|pod| &self.pods[&pod.key].links));
    }

    fn add_inside(
        &mut self,
        key: &Key,
        node: usize,
        interface: &IfName,
        mac: String,
        netns: Netns,
        addresses: &BTreeSet<IpAddr>,
    ) {
        // The address that the kernel would make of the MAC; its own could be used only a moment later.
        let own = mac.split(':').collect::<Vec<_>>();
        let link_local = format!("fe80::800:ff:fe00:{}{}", own[4], own[5]);
        let mut lines = vec![
            "link set lo up".to_owned(),
            "link set eth0 addrgenmode none up".to_owned(),
            format!("addr add {link_local}/64 dev eth0 nodad"),
        ];
        for address in addresses {
            let gateway = if address.is_ipv4() { "169.254.1.1" } else { "fe80::1" };
            lines.push(format!(
                "addr add {} dev eth0{}",
                whole(*address),
                if address.is_ipv6() { " nodad" } else { "" }
            ));
            lines.push(format!("route add {gateway} dev eth0"));
            lines.push(format!("neigh add {gateway} lladdr {HOST_MAC} dev eth0 nud permanent"));
            lines.push(format!("route add default via {gateway} dev eth0"));
        }
        netns.ip(&lines);
        let host = Host::new(netns);
        let (pod, on) = (At::Pod(key.clone()), At::Node(self.names[node].clone()));
        let out = Link { from: pod.clone(), interface: host.index("eth0"), to: on.clone() };
        let back = Link { from: on, interface: self.hosts[node].index(interface), to: pod };
        let (interface, addresses, links) = (interface.clone(), addresses.clone(), [out, back]);
        let replaced = self.pods.insert(key.clone(), Pod { host, node, interface, mac, addresses, links });
        assert!(replaced.is_none(), "{key} is wired twice");
    }

    /// Unwires a pod; its host end is gone when this returns.
    pub fn remove_pod(&mut self, key: &Key) {
        let pod = self.pods.remove(key).expect("a pod that is wired");
        self.hosts[pod.node].netns.ip(&[format!("link del {}", pod.interface)]);
        for host in self.hosts.iter().enumerate().filter(|(nth, _)| *nth != pod.node).map(|(_, host)| host) {
            let lines: Vec<String> =
                pod.addresses.iter().map(|address| route_by_mesh("del", *address, pod.node)).collect();
            host.netns.ip(&lines);
        }
    }

    /// The host end of a pod's link.
    pub fn interface(&self, key: &Key) -> IfName {
        self.pods[key].interface.clone()
    }

    /// Whether that pod is wired.
    pub fn has(&self, key: &Key) -> bool {
        self.pods.contains_key(key)
    }

    /// The pods that are wired.
    pub fn pods(&self) -> impl Iterator<Item = &Key> {
        self.pods.keys()
    }

    /// The MAC of a pod's end.
    pub fn mac(&self, key: &Key) -> &str {
        &self.pods[key].mac
    }

    /// The namespaces of all nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Netns> {
        self.hosts[..self.names.len()].iter().map(|host| &host.netns)
    }

    /// A node's namespace.
    pub fn node(&self, name: &str) -> &Netns {
        &self.hosts[self.nth(name)].netns
    }

    /// A place's namespace.
    pub fn netns(&self, at: &At) -> &Netns {
        &self.host(at).netns
    }

    pub(super) fn host(&self, at: &At) -> &Host {
        match at {
            At::Pod(key) => &self.pods.get(key).unwrap_or_else(|| panic!("{key} is not wired")).host,
            At::Node(name) => &self.hosts[self.nth(name)],
            At::Outside => &self.hosts[self.names.len()],
        }
    }

    /// Returns when all that was sent before has gone `links` links further, or has ended on its way. Tells what came
    /// in meanwhile and since the last look, and where.
    pub fn settle(&self, links: usize, mut on_packet: impl FnMut(&At, Seen)) {
        let all = || self.mesh.iter().chain(self.pods.values().flat_map(|pod| &pod.links));
        for _ in 0..links {
            let first = self.next_mark.get();
            let mut awaited: BTreeMap<&At, BTreeSet<u64>> = BTreeMap::new();
            for (link, number) in all().zip(first..) {
                self.host(&link.from).mark(link.interface, number);
                awaited.entry(&link.to).or_default().insert(number);
                self.next_mark.set(number + 1);
            }
            let until = Instant::now() + MOST_PATIENCE;
            while !awaited.is_empty() {
                awaited.retain(|at, numbers| {
                    let here = |number| {
                        numbers.remove(&number);
                    };
                    self.host(at).look(here, |seen| on_packet(at, seen));
                    !numbers.is_empty()
                });
                thread::yield_now();
                assert!(awaited.is_empty() || Instant::now() < until, "marks that never came: {awaited:?}");
            }
        }
    }

    /// Packets that this processor threw away because its queue was full, since ever. What was sent while this number
    /// grew says nothing.
    pub fn overflowed(&self) -> u64 {
        let own = sched_getcpu().expect("a processor") as u64;
        let text = fs::read_to_string("/proc/net/softnet_stat").expect("numbers of the processors");
        let numbers = text.lines().map(|line| {
            line.split_whitespace().map(|word| u64::from_str_radix(word, 16).expect("a number")).collect()
        });
        let mut numbers = numbers.filter(|line: &Vec<u64>| line.get(12) == Some(&own));
        numbers.next().expect("the numbers of this processor")[1]
    }

    /// Returns when marks pass. A link that has just come up drops all for a moment: its queue is put there by a worker
    /// of the kernel (`linkwatch_event`).
    fn wait_for<'a>(&'a self, links: impl IntoIterator<Item = &'a Link>) {
        let until = Instant::now() + MOST_PATIENCE;
        for link in links {
            let mut passes = false;
            while !passes {
                assert!(Instant::now() < until, "nothing passes from {:?} to {:?}", link.from, link.to);
                let number = self.next_mark.get();
                self.next_mark.set(number + 1);
                self.host(&link.from).mark(link.interface, number);
                self.host(&link.to).look(|seen| passes |= seen == number, |_| ());
                if !passes {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn nth(&self, node: &str) -> usize {
        self.names.iter().position(|name| name == node).unwrap_or_else(|| panic!("no node {node}"))
    }
}

impl Drop for Rig {
    /// Elsewhere: the kernel waits at the end of each packet socket until nobody looks at it any more
    /// (`packet_release`).
    fn drop(&mut self) {
        let (hosts, pods) = (std::mem::take(&mut self.hosts), std::mem::take(&mut self.pods));
        thread::spawn(move || drop((hosts, pods)));
    }
}

/// Binds the calling thread to the processor it is on.
fn bind_to_one_processor() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu().expect("a processor")).expect("its number");
    sched_setaffinity(Pid::from_raw(0), &one).expect("a processor");
}

fn mesh_mac(of: usize, towards: usize) -> String {
    format!("02:00:00:00:{of:02x}:{towards:02x}")
}

fn route_by_mesh(what: &str, address: IpAddr, peer: usize) -> String {
    let family = if address.is_ipv4() { "inet6 " } else { "" };
    format!("route {what} {} via {family}fe80::{:x} dev mesh{peer}", whole(address), peer + 1)
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
