//! What kube-proxy writes on a node, shortened to what a packet meets: cluster addresses and node ports, with traffic policy
//! `Cluster`, in the two forms it has (`pkg/proxy/iptables`, `pkg/proxy/nftables`). Names of chains are shorter.

use std::fmt::Write;
use std::net::IpAddr;

use crate::rig::Rig;

/// The pods' blocks: what comes from them is not masqueraded.
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00::/64"];
const MASQUERADE: &str = "0x4000";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Iptables,
    Nftables,
}

/// A port of a service, in both families.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Makes its chains' names.
    pub(crate) nth: u8,
    pub(crate) addresses: [IpAddr; 2],
    /// As the tools write it.
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
    pub(crate) pods: Vec<[IpAddr; 2]>,
    pub(crate) pod_port: u16,
}

impl Service {
    fn name(&self) -> String {
        format!("{}-{}-{}", self.nth, self.protocol.to_uppercase(), self.port)
    }
}

/// Writes the rules on both nodes.
pub(crate) fn program(rig: &Rig, form: Form, services: &[Service]) {
    for node in ["node1", "node2"] {
        for family in [0, 1] {
            match form {
                Form::Iptables => {
                    let tool = ["iptables-nft-restore", "ip6tables-nft-restore"][family];
                    rig.node(node).run(tool, &["--noflush"], &iptables(services, family));
                }
                Form::Nftables => {
                    rig.node(node).run("nft", &["-f", "-"], &nftables(services, family));
                }
            }
        }
    }
}

/// An address and a port, as both tools write them.
fn socket(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

fn iptables(services: &[Service], family: usize) -> String {
    let mut chains = String::new();
    let mut rules = format!(
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE}
-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE}/{MASQUERADE} -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE}
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
"
    );
    let mut line = |text: String| writeln!(rules, "{text}").expect("a string");
    for service in services {
        let (name, protocol, own) = (service.name(), service.protocol, service.addresses[family]);
        let at = format!("-d {own} -p {protocol} -m {protocol} --dport {}", service.port);
        write!(chains, ":KUBE-SVC-{name} - [0:0]\n:KUBE-EXT-{name} - [0:0]\n").expect("a string");
        line(format!("-A KUBE-SERVICES {at} -j KUBE-SVC-{name}"));
        line(format!("-A KUBE-EXT-{name} -j KUBE-MARK-MASQ"));
        line(format!("-A KUBE-EXT-{name} -j KUBE-SVC-{name}"));
        if let Some(port) = service.node_port {
            line(format!("-A KUBE-NODEPORTS -p {protocol} -m {protocol} --dport {port} -j KUBE-EXT-{name}"));
        }
        line(format!("-A KUBE-SVC-{name} ! -s {} {at} -j KUBE-MARK-MASQ", PODS[family]));
        for (nth, pod) in service.pods.iter().enumerate() {
            let endpoint = format!("KUBE-SEP-{name}-{nth}");
            let left = service.pods.len() - nth;
            let chance = match left {
                1 => String::new(),
                _ => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            writeln!(chains, ":{endpoint} - [0:0]").expect("a string");
            line(format!("-A KUBE-SVC-{name} {chance}-j {endpoint}"));
            line(format!("-A {endpoint} -s {} -j KUBE-MARK-MASQ", pod[family]));
            let there = socket(pod[family], service.pod_port);
            line(format!("-A {endpoint} -p {protocol} -m {protocol} -j DNAT --to-destination {there}"));
        }
    }
    line("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS".to_owned());
    format!(
        "*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark {MASQUERADE}/{MASQUERADE} -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
{chains}{rules}COMMIT
"
    )
}

fn nftables(services: &[Service], family: usize) -> String {
    let word = ["ip", "ip6"][family];
    let mut chains = String::new();
    let (mut by_address, mut by_port) = (Vec::new(), Vec::new());
    for service in services {
        let (name, protocol, own, port) =
            (service.name(), service.protocol, service.addresses[family], service.port);
        by_address.push(format!("{own} . {protocol} . {port} : goto service-{name}"));
        if let Some(port) = service.node_port {
            by_port.push(format!("{protocol} . {port} : goto external-{name}"));
        }
        let endpoints: Vec<String> =
            (0..service.pods.len()).map(|nth| format!("{nth} : goto endpoint-{name}-{nth}")).collect();
        for (nth, pod) in service.pods.iter().enumerate() {
            let there = socket(pod[family], service.pod_port);
            write!(
                chains,
                "chain endpoint-{name}-{nth} {{
                    {word} saddr {} jump mark-for-masquerade
                    meta l4proto {protocol} dnat to {there}
                }}\n",
                pod[family]
            )
            .expect("a string");
        }
        write!(
            chains,
            "chain service-{name} {{
                {word} daddr {own} {protocol} dport {port} {word} saddr != {} jump mark-for-masquerade
                numgen random mod {} vmap {{ {} }}
            }}
            chain external-{name} {{
                jump mark-for-masquerade
                goto service-{name}
            }}\n",
            PODS[family],
            service.pods.len(),
            endpoints.join(", ")
        )
        .expect("a string");
    }
    let elements = |elements: &[String]| match elements {
        [] => String::new(),
        some => format!("elements = {{ {} }}", some.join(", ")),
    };
    let (type_of, loopback) = [("ipv4_addr", "127.0.0.0/8"), ("ipv6_addr", "::1")][family];
    format!(
        "table {word} kube-proxy {{
            chain mark-for-masquerade {{
                mark set mark or {MASQUERADE}
            }}
            {chains}
            map service-ips {{ type {type_of} . inet_proto . inet_service : verdict; {} }}
            map service-nodeports {{ type inet_proto . inet_service : verdict; {} }}
            chain services {{
                {word} daddr . meta l4proto . th dport vmap @service-ips
                fib daddr type local {word} daddr != {loopback} meta l4proto . th dport vmap @service-nodeports
            }}
            chain masquerading {{
                mark and {MASQUERADE} == 0 return
                mark set mark xor {MASQUERADE}
                masquerade fully-random
            }}
            chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
            chain nat-output {{ type nat hook output priority -100; jump services; }}
            chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
        }}",
        elements(&by_address),
        elements(&by_port)
    )
}
