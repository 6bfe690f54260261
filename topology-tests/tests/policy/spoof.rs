//! A pod that forges: sources, BGP, ARP, neighbour discovery. Nothing of it passes, and who keeps to the rules is not
//! harmed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::{Result, ensure};
use cambric_lab::capture::tap::Tap;
use cambric_lab::place::in_netns;
use cambric_lab::reach::{self, Echo};
use cambric_lab::{Node, Place, Pod, fabric, poll};

use crate::cluster::{Cluster, NewPod};
use crate::packets::{Discovery, GATEWAY, Mac, Sender, sockets};
use crate::{LIMIT, in_policy_lab};

const TRIES: u16 = 1000;
/// Where datagrams are counted.
const PORT: u16 = 7070;
const BGP: u16 = 179;
const FORGED_MAC: Mac = [0x0a, 0xba, 0xdb, 0xad, 0, 1];

#[test]
fn a_pod_that_forges_reaches_nobody_and_harms_nobody() {
    in_policy_lab(
        |_| {},
        |cluster| {
            let start = |node, name| cluster.start(NewPod { node, namespace: "default", name, label: "a=b" });
            let pods = [start("c1", "forger")?, start("c1", "victim")?, start("c2", "far")?];
            let node = cluster.node("c1")?;
            fabric::whole(cluster.lab, LIMIT)?;
            let scene = Scene {
                cluster,
                forger: &pods[0],
                link: cluster.link_of(&pods[0])?,
                sender: Sender::of(&pods[0])?,
                victim: &pods[1],
                far: &pods[2],
            };
            let flows = fabric::start_flows(&pods[1], &pods[2])?;
            let before = neighbours_by(&node, &scene.link)?;
            scene.forged_sources(IpAddr::is_ipv4)?;
            scene.forged_sources(IpAddr::is_ipv6)?;
            scene.bgp(IpAddr::is_ipv4)?;
            scene.bgp(IpAddr::is_ipv6)?;
            scene.forged_neighbours(&node)?;
            let after = neighbours_by(&node, &scene.link)?;
            println!("neighbours of the node by the forger's link: {before:?} before, {after:?} after");
            ensure!(after == before, "not what it was");
            for report in fabric::stop_flows(flows)? {
                println!("victim and far talked meanwhile: {} of {} packets lost", report.lost, report.sent);
                ensure!(report.lost == 0, "{report:?}");
            }
            Ok(())
        },
    );
}

struct Scene<'a> {
    cluster: &'a Cluster<'a>,
    forger: &'a Pod,
    /// The node's end of the forger's link.
    link: String,
    sender: Sender,
    victim: &'a Pod,
    far: &'a Pod,
}

/// Addresses of a family that are not the forger's.
fn others(scene: &Scene<'_>, wanted: fn(&IpAddr) -> bool) -> Result<Vec<IpAddr>> {
    let mut all = [scene.victim.addresses()?, scene.far.addresses()?].concat();
    for text in [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.254",
        "198.51.100.0",
        "203.0.113.200",
        "169.254.1.1",
        "10.1.2.3",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::fe",
        "2001:db8:101::ffff",
        "2001:db8:dead::1",
        "fe80::1",
        "fe80::99",
    ] {
        all.push(text.parse()?);
    }
    all.retain(wanted);
    Ok(all)
}

impl Scene<'_> {
    /// Forged sources towards everybody, then as many datagrams with the own one: those arrive, behind the others.
    fn forged_sources(&self, wanted: fn(&IpAddr) -> bool) -> Result<()> {
        let own = SocketAddr::new(self.forger.address(wanted)?, PORT);
        let sources = others(self, wanted)?;
        let places: [(&dyn Place, IpAddr); 4] = [
            (self.victim, self.victim.address(wanted)?),
            (self.far, self.far.address(wanted)?),
            (&self.cluster.node("c1")?, node_address("c1", own.is_ipv4())),
            (&self.cluster.node("f1")?, node_address("f1", own.is_ipv4())),
        ];
        for (place, address) in places {
            let socket = Counter::open(place, address)?;
            let target = SocketAddr::new(address, PORT);
            for number in 0..TRIES {
                let source = sources[usize::from(number) % sources.len()];
                self.sender.datagram(SocketAddr::new(source, PORT), target, b"forged")?;
            }
            for _ in 0..TRIES {
                self.sender.datagram(own, target, b"honest")?;
                // Not more than a socket holds.
                socket.count();
            }
            let what = format!("all honest datagrams at {}", place.name());
            poll::until(&what, LIMIT, || socket.count().honest == u32::from(TRIES))?;
            let counted = socket.count();
            println!(
                "{TRIES} datagrams with forged sources to {target} ({}): {} passed; {} of {TRIES} honest ones",
                place.name(),
                counted.forged,
                counted.honest
            );
            ensure!(counted.forged == 0, "forged datagrams reached {}", place.name());
        }
        Ok(())
    }

    /// First segments to the BGP port of everybody who has one, from the own address; an answer comes back if one passed.
    fn bgp(&self, wanted: fn(&IpAddr) -> bool) -> Result<()> {
        let own = self.forger.address(wanted)?;
        for name in ["c1", "c2", "f1"] {
            let address = node_address(name, own.is_ipv4());
            let echo = Echo::start(&self.cluster.node(name)?, address)?;
            let answers = |port: u16| -> Result<usize> {
                let tap = Tap::start(self.forger, "eth0")?;
                for number in 0..TRIES {
                    self.sender.syn(SocketAddr::new(own, 10_000 + number), SocketAddr::new(address, port))?;
                }
                // What is answered behind them all.
                reach::ask(self.forger, reach::Protocol::Tcp, echo.address(), LIMIT)?;
                let frames = tap.stop()?;
                Ok(frames.iter().filter(|frame| is_segment_from(&frame.octets, address, port)).count())
            };
            let (bgp, other) = (answers(BGP)?, answers(reach::PORT)?);
            println!(
                "{TRIES} connections to port {BGP} of {name}, {address}: {bgp} answered; to another port {other} segments"
            );
            ensure!(bgp == 0, "port {BGP} of {name} has answered");
            ensure!(other >= usize::from(TRIES), "the test sees no answers: {other}");
        }
        Ok(())
    }

    /// ARP and neighbour discovery for everybody else.
    fn forged_neighbours(&self, node: &Node) -> Result<()> {
        let all = others(self, |_| true)?;
        let ipv4: Vec<Ipv4Addr> = all
            .iter()
            .filter_map(|address| match address {
                IpAddr::V4(address) => Some(*address),
                IpAddr::V6(_) => None,
            })
            .collect();
        let ipv6: Vec<Ipv6Addr> = all
            .iter()
            .filter_map(|address| match address {
                IpAddr::V6(address) => Some(*address),
                IpAddr::V4(_) => None,
            })
            .collect();
        let gateway = Ipv4Addr::new(169, 254, 1, 1);
        let IpAddr::V6(own) = self.forger.address(IpAddr::is_ipv6)? else { unreachable!("of IPv6") };
        for number in 0..TRIES {
            // Every second one of somebody whom nobody knows: they would fill the table.
            let [high, low] = number.to_be_bytes();
            let (forged4, forged6) = if number % 2 == 0 {
                (ipv4[usize::from(number / 2) % ipv4.len()], ipv6[usize::from(number / 2) % ipv6.len()])
            } else {
                (Ipv4Addr::new(10, 9, high, low), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 9, number))
            };
            self.sender.arp(1, (FORGED_MAC, forged4), gateway)?;
            self.sender.arp(2, (FORGED_MAC, forged4), gateway)?;
            let to_gateway = |from, said| self.sender.discovery(from, GATEWAY, said);
            to_gateway(forged6, Discovery::Solicitation { target: GATEWAY, source_mac: FORGED_MAC })?;
            for from in [own, forged6] {
                to_gateway(from, Discovery::Advertisement { target: forged6, mac: FORGED_MAC })?;
            }
        }
        // Whatever came before this has been judged.
        let echo = Echo::start(node, node_address("c1", true))?;
        reach::ask(self.forger, reach::Protocol::Udp, echo.address(), LIMIT)?;
        let after = neighbours(node)?;
        let mac = FORGED_MAC.map(|octet| format!("{octet:02x}")).join(":");
        let believed = after.iter().filter(|line| line.contains(&mac)).count();
        println!(
            "{} forged ARP and {} forged neighbour discovery messages: {believed} believed",
            2 * TRIES,
            3 * TRIES
        );
        ensure!(believed == 0, "{after:#?}");
        // Those who were claimed to be elsewhere are where they are, and so is the forger.
        for address in self.forger.addresses()? {
            let echo = Echo::start(self.forger, address)?;
            for place in [self.victim as &dyn Place, self.far, node] {
                reach::ask(place, reach::Protocol::Udp, echo.address(), LIMIT)?;
            }
        }
        Ok(())
    }
}

fn node_address(name: &str, is_ipv4: bool) -> IpAddr {
    let last = match name {
        "c1" => 1,
        "c2" => 2,
        _ => 254,
    };
    if is_ipv4 { [192, 0, 2, last].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)].into() }
}

/// Whether a frame is of TCP from this address and port.
fn is_segment_from(frame: &[u8], address: IpAddr, port: u16) -> bool {
    let (is_tcp, source, segment) = match address {
        IpAddr::V4(address) => {
            (frame.get(23) == Some(&6), frame.get(26..30) == Some(&address.octets()[..]), frame.get(34..36))
        }
        IpAddr::V6(address) => {
            (frame.get(20) == Some(&6), frame.get(22..38) == Some(&address.octets()[..]), frame.get(54..56))
        }
    };
    is_tcp && source && segment == Some(&port.to_be_bytes()[..])
}

/// All that the node knows of neighbours, each with its link and its MAC.
fn neighbours(node: &Node) -> Result<BTreeSet<String>> {
    let lines = node.run_ok(&["ip", "neigh", "show"])? + &node.run_ok(&["ip", "-6", "neigh", "show"])?;
    // Without the state, which ages.
    let stable = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[..words.len().saturating_sub(1)].join(" ")
    };
    Ok(lines.lines().map(stable).collect())
}

/// Of these, those by one link: its pod alone.
fn neighbours_by(node: &Node, link: &str) -> Result<BTreeSet<String>> {
    Ok(neighbours(node)?.into_iter().filter(|line| line.contains(&format!(" dev {link} "))).collect())
}

/// Counts datagrams by what they say.
struct Counter {
    socket: UdpSocket,
    counted: std::cell::Cell<Counted>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    forged: u32,
    honest: u32,
}

impl Counter {
    fn open(place: &dyn Place, address: IpAddr) -> Result<Self> {
        let [ipv4, ipv6] = in_netns(place, || sockets(PORT))??;
        let socket = if address.is_ipv4() { ipv4 } else { ipv6 };
        Ok(Self { socket, counted: std::cell::Cell::default() })
    }

    fn count(&self) -> Counted {
        let (mut counted, mut words) = (self.counted.get(), [0; 16]);
        while let Ok((length, _)) = self.socket.recv_from(&mut words) {
            match &words[..length] {
                b"forged" => counted.forged += 1,
                b"honest" => counted.honest += 1,
                _ => {}
            }
        }
        self.counted.set(counted);
        counted
    }
}
