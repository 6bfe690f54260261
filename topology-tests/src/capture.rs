//! Looks at the packets of pods on the links between a node and its switches, and proves that they are bare: IPv4 or
//! IPv6 right behind Ethernet, from pod address to pod address, with no tunnel and no translation.
//!
//! ```text
//! talk     pods exchange datagrams and streams that carry a mark
//! tap      packet sockets in the node, one a link: every octet that goes by
//! frame    octets -> Ethernet, IPv4 or IPv6, ports
//! verdict  is it a pod's frame, and is it bare?
//! ```
//!
//! The proof can fail in three ways. A frame that carries the mark, or any tunnel's header, but is not bare, is found
//! guilty. A datagram that was sent but seen bare on no link went by another way, or hidden: so an encrypted tunnel
//! is found, too, though nobody can look into it; so did a stream of which no segment was seen, one way or the other. And a link or a kind of traffic of which nothing was seen proves
//! nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{Lab, Node, Pod};

pub mod frame;
pub mod talk;
pub mod tap;
pub mod verdict;

use talk::{Datagram, Exchanged, Talk};
use tap::Tap;
use verdict::{Bare, Expectation, Verdict, Way};

/// Packets of one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The two ends, as `n11-tor1a`.
    pub link: String,
    /// Frames of pods, by way, family and protocol: `out IPv4 UDP`.
    pub bare: BTreeMap<String, usize>,
    /// One of them in words.
    pub sample: Option<String>,
    /// What is wrong with others, one line each.
    pub guilty: Vec<String>,
    /// Frames of nobody's pods: BGP, neighbour discovery.
    pub others: usize,
}

/// What the proof came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Link by link.
    pub links: Vec<Seen>,
    /// Datagrams exchanged, questions and answers.
    pub datagrams: usize,
    /// Streams exchanged.
    pub streams: usize,
    /// What is not as it should be, one line each; empty: it is proven.
    pub faults: Vec<String>,
}

/// Has two pods of different nodes talk, and looks at all links of the first one's node meanwhile.
///
/// `routers_in` is the number of routers between the far pod and the switches' links to the node, the far node among
/// them; from the near pod it is always one, its own node.
///
/// # Errors
/// When pods do not reach each other, or a link cannot be looked at.
pub fn prove_bare(lab: &Lab, near: &Pod, far: &Pod, routers_in: u8) -> Result<Proof> {
    let node = near.node();
    let links = links_of(lab, node)?;
    let talk = Talk::new()?;
    let expected = |link: &Link| {
        Ok(Expectation {
            mark: talk.mark(),
            near: near.addresses()?,
            far: far.addresses()?,
            node_mac: link.node_mac,
            switch_mac: link.switch_mac,
            ttl_out: first_ttl(near)?.after(1),
            ttl_in: first_ttl(far)?.after(routers_in),
        })
    };
    let expectations = links.iter().map(expected).collect::<Result<Vec<_>>>()?;
    let taps = links.iter().map(|link| Tap::start(node, &link.interface)).collect::<Result<Vec<_>>>()?;
    let exchanged = talk.exchange(near, far)?;
    let mut times_seen = Times::of(&exchanged);
    let mut proof =
        Proof { datagrams: exchanged.datagrams.len(), streams: exchanged.streams.len(), ..Proof::default() };
    for ((link, tap), expected) in links.iter().zip(taps).zip(&expectations) {
        let mut seen = Seen { link: link.name.clone(), ..Seen::default() };
        for frame in tap.stop()? {
            match expected.judge(&frame) {
                Verdict::NotPods => seen.others += 1,
                Verdict::Guilty(why) => seen.guilty.push(why),
                Verdict::Bare(bare) => {
                    if let Some(datagram) = bare.payload.as_deref().and_then(|bytes| talk.datagram(bytes)) {
                        *times_seen.datagrams.entry(datagram).or_default() += 1;
                    }
                    if let Some(stream) = bare.stream {
                        *times_seen.streams.entry(stream).or_default() += 1;
                    }
                    seen.take(bare);
                }
            }
        }
        proof.links.push(seen);
    }
    proof.judge(&times_seen);
    Ok(proof)
}

/// How often everything that was said was seen bare, on all links together.
#[derive(Debug, Default)]
struct Times {
    datagrams: BTreeMap<Datagram, usize>,
    /// Segments of each stream, each way: the sender's end first.
    streams: BTreeMap<(SocketAddr, SocketAddr), usize>,
}

impl Times {
    fn of(exchanged: &Exchanged) -> Self {
        let both_ways = |&(one, other): &(SocketAddr, SocketAddr)| [(one, other), (other, one)];
        Self {
            datagrams: exchanged.datagrams.iter().map(|datagram| (*datagram, 0)).collect(),
            streams: exchanged.streams.iter().flat_map(both_ways).map(|way| (way, 0)).collect(),
        }
    }
}

impl Seen {
    fn take(&mut self, bare: Bare) {
        *self.bare.entry(bare.kind()).or_default() += 1;
        if bare.way == Way::Out && bare.payload.is_some() {
            self.sample.get_or_insert(bare.words);
        }
    }

    /// Frames of pods that are bare.
    pub fn count(&self) -> usize {
        self.bare.values().sum()
    }
}

impl Proof {
    fn judge(&mut self, times_seen: &Times) {
        for link in &self.links {
            self.faults.extend(link.guilty.iter().map(|why| format!("{}: {why}", link.link)));
            if link.count() == 0 {
                self.faults.push(format!("{}: no packet of a pod was seen", link.link));
            }
        }
        let kinds = ["out", "in"].into_iter().flat_map(|way| {
            let families = ["IPv4", "IPv6"].into_iter();
            families
                .flat_map(move |family| ["UDP", "TCP"].map(|protocol| format!("{way} {family} {protocol}")))
        });
        let unseen = kinds.filter(|kind| !self.links.iter().any(|link| link.bare.contains_key(kind)));
        self.faults.extend(unseen.map(|kind| format!("no packet seen on any link: {kind}")));
        let missing = times_seen.datagrams.values().filter(|times| **times == 0).count();
        if missing > 0 {
            let sent = self.datagrams;
            self.faults.push(format!(
                "{missing} of {sent} datagrams were seen bare on no link: they went by another way, or hidden"
            ));
        }
        let missing = times_seen.streams.values().filter(|times| **times == 0).count();
        if missing > 0 {
            let ways = times_seen.streams.len();
            self.faults.push(format!(
                "{missing} of {ways} ways of streams were seen bare on no link: they went elsewhere, or hidden"
            ));
        }
        let repeated = times_seen.datagrams.values().filter(|times| **times > 1).count();
        if repeated > 0 {
            self.faults.push(format!("{repeated} datagrams were seen more than once: they go in circles"));
        }
    }
}

/// A link from the node to a switch.
struct Link {
    name: String,
    interface: String,
    node_mac: [u8; 6],
    switch_mac: [u8; 6],
}

fn links_of(lab: &Lab, node: &Node) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for link in &lab.topology().links {
        let [one, other] = &link.ends;
        let (own, switch) = match (one.node == node.name(), other.node == node.name()) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => continue,
        };
        links.push(Link {
            name: format!("{}-{}", own.node, switch.node),
            interface: own.interface.clone(),
            node_mac: mac(node, &own.interface)?,
            switch_mac: mac(&lab.node(&switch.node)?, &switch.interface)?,
        });
    }
    if links.is_empty() {
        bail!("{} has no link", node.name());
    }
    Ok(links)
}

fn mac(node: &Node, interface: &str) -> Result<[u8; 6]> {
    let text = node.run_ok(&["ip", "-json", "link", "show", "dev", interface])?;
    let links: Value = serde_json::from_str(&text).context("ip -json link")?;
    let address = links[0]["address"].as_str().unwrap_or_default();
    let octets: Vec<u8> = address.split(':').filter_map(|hex| u8::from_str_radix(hex, 16).ok()).collect();
    octets.try_into().ok().with_context(|| format!("{} {interface}: {address:?} is no MAC", node.name()))
}

/// What each family's packets of a pod start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerFamily {
    /// IPv4: time to live.
    pub ipv4: u8,
    /// IPv6: hop limit.
    pub ipv6: u8,
}

impl PerFamily {
    fn after(self, routers: u8) -> Self {
        Self { ipv4: self.ipv4.saturating_sub(routers), ipv6: self.ipv6.saturating_sub(routers) }
    }

    fn of(self, address: IpAddr) -> u8 {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

fn first_ttl(pod: &Pod) -> Result<PerFamily> {
    let read = |path: &str| -> Result<u8> {
        let text = pod.run_ok(&["cat", &format!("/proc/sys/net/{path}")])?;
        text.trim().parse().with_context(|| format!("{path} of {}: {text:?}", pod.name()))
    };
    Ok(PerFamily { ipv4: read("ipv4/ip_default_ttl")?, ipv6: read("ipv6/conf/eth0/hop_limit")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(kinds: &[&str]) -> Seen {
        let bare = kinds.iter().map(|kind| ((*kind).to_owned(), 1)).collect();
        Seen { link: "n1-tor1".into(), bare, ..Seen::default() }
    }

    fn all_kinds() -> Seen {
        seen(&[
            "out IPv4 UDP",
            "out IPv4 TCP",
            "out IPv6 UDP",
            "out IPv6 TCP",
            "in IPv4 UDP",
            "in IPv4 TCP",
            "in IPv6 UDP",
            "in IPv6 TCP",
        ])
    }

    fn faults(links: Vec<Seen>, times: &[usize]) -> Vec<String> {
        let datagrams =
            (0..).zip(times).map(|(number, times)| (Datagram::question(number), *times)).collect();
        judge(links, Times { datagrams, streams: BTreeMap::new() })
    }

    fn judge(links: Vec<Seen>, times: Times) -> Vec<String> {
        let mut proof = Proof { links, datagrams: times.datagrams.len(), ..Proof::default() };
        proof.judge(&times);
        proof.faults
    }

    #[test]
    fn a_stream_that_nobody_saw_one_way_is_a_fault() {
        let [one, other] = ["10.0.0.1:1", "10.0.0.2:2"].map(|end| end.parse().expect("an end"));
        let exchanged = Exchanged { datagrams: Vec::new(), streams: vec![(one, other)] };
        let mut times = Times::of(&exchanged);
        times.streams.insert((one, other), 3);
        let words = "1 of 2 ways of streams were seen bare on no link: they went elsewhere, or hidden";
        assert_eq!(judge(vec![all_kinds()], times), [words]);
    }

    #[test]
    fn all_seen_once_and_bare_is_a_proof() {
        assert_eq!(faults(vec![all_kinds()], &[1, 1]), Vec::<String>::new());
    }

    #[test]
    fn nothing_seen_proves_nothing() {
        let found = faults(vec![seen(&[])], &[]);
        assert_eq!(found.len(), 9, "{found:?}");
        assert_eq!(found[0], "n1-tor1: no packet of a pod was seen");
        let one_link = faults(vec![all_kinds(), seen(&[])], &[1]);
        assert_eq!(one_link, ["n1-tor1: no packet of a pod was seen"]);
        let no_stream = Seen { bare: BTreeMap::from([("in IPv4 UDP".into(), 9)]), ..all_kinds() };
        assert_eq!(faults(vec![no_stream], &[1]).len(), 7);
    }

    #[test]
    fn a_datagram_that_nobody_saw_or_that_came_twice_is_a_fault() {
        let found = faults(vec![all_kinds()], &[1, 0, 2, 0]);
        assert_eq!(
            found,
            [
                "2 of 4 datagrams were seen bare on no link: they went by another way, or hidden",
                "1 datagrams were seen more than once: they go in circles",
            ]
        );
    }

    #[test]
    fn a_guilty_frame_is_a_fault_of_its_link() {
        let guilty = Seen { guilty: vec!["VXLAN".into()], ..all_kinds() };
        assert_eq!(faults(vec![guilty], &[1]), ["n1-tor1: VXLAN"]);
    }
}
