//! The other ends of connections: pods by selectors, and address blocks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicyPeer};

use super::Reader;
use crate::cidr::{Blocks, Cidr};
use crate::program::Family;
use crate::selector::{Requirement, Selector, Test};

/// The label that every namespace has: its name.
pub(crate) const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Some pods of some namespaces. What is outside of the cluster, and pods on the host's network, are never among them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSelector {
    /// Where.
    pub namespaces: Namespaces,
    /// Which there.
    pub pods: Selector,
}

/// Some namespaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// One.
    Named(Arc<str>),
    /// By their labels.
    Matching(Selector),
}

impl Namespaces {
    /// A selector that asks for the name alone is a name: so both share a set, and both are found by it.
    fn matching(selector: Selector) -> Namespaces {
        let mut requirements = selector.requirements();
        if let (Some(Requirement { key, test: Test::In(names) }), None) =
            (requirements.next(), requirements.next())
            && &**key == NAME_LABEL
            && let (Some(name), 1) = (names.first(), names.len())
        {
            return Namespaces::Named(name.clone());
        }
        drop(requirements);
        Namespaces::Matching(selector)
    }
}

/// The other ends that a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peers {
    /// Also outside of the cluster.
    Anyone,
    /// These.
    Listed(Arc<PeerList>),
}

/// Any of these. Two lists that say the same are equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerList {
    /// Pods.
    pub selectors: BTreeSet<PodSelector>,
    /// IPv4 addresses, those of pods among them.
    pub ipv4: Blocks,
    /// IPv6 addresses.
    pub ipv6: Blocks,
}

impl PeerList {
    /// The addresses of a family.
    pub fn blocks(&self, family: Family) -> &Blocks {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Whether its blocks have an address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.blocks(Family::of(address)).contains(address)
    }
}

impl Peers {
    /// Missing and empty are the same: anyone.
    pub(super) fn read(peers: Option<&[NetworkPolicyPeer]>, field: &str, reader: &mut Reader<'_>) -> Peers {
        let peers = peers.unwrap_or_default();
        if peers.is_empty() {
            return Peers::Anyone;
        }
        let (mut selectors, mut blocks) = (BTreeSet::new(), Vec::new());
        for (at, peer) in peers.iter().enumerate() {
            match read_one(peer, &format!("{field}[{at}]"), reader) {
                Some(Peer::Pods(selector)) => _ = selectors.insert(selector),
                Some(Peer::Block(whole, except)) => blocks.push((whole, except)),
                None => {}
            }
        }
        let [ipv4, ipv6] = Family::ALL.map(|family| Blocks::of(family, &blocks));
        Peers::Listed(Arc::new(PeerList { selectors, ipv4, ipv6 }))
    }
}

enum Peer {
    Pods(PodSelector),
    Block(Cidr, Vec<Cidr>),
}

/// `None`: there is a fault in it.
fn read_one(peer: &NetworkPolicyPeer, field: &str, reader: &mut Reader<'_>) -> Option<Peer> {
    let pods = peer.pod_selector.as_ref().map(|s| reader.selector(s, &format!("{field}.podSelector")));
    let namespaces =
        peer.namespace_selector.as_ref().map(|s| reader.selector(s, &format!("{field}.namespaceSelector")));
    let namespaces = match (namespaces, &pods, &peer.ip_block) {
        (None, None, None) => {
            reader.fault(field, "expected a selector or an ipBlock");
            return None;
        }
        (None, None, Some(block)) => return read_block(block, &format!("{field}.ipBlock"), reader),
        (_, _, Some(_)) => {
            reader.fault(field, "an ipBlock beside a selector");
            return None;
        }
        (None, Some(_), None) => Namespaces::Named(reader.namespace.clone()),
        (Some(selector), _, None) => Namespaces::matching(selector),
    };
    Some(Peer::Pods(PodSelector { namespaces, pods: pods.unwrap_or_default() }))
}

fn read_block(block: &IPBlock, field: &str, reader: &mut Reader<'_>) -> Option<Peer> {
    let whole = match Cidr::read(&block.cidr) {
        Ok(whole) => whole,
        Err(why) => {
            reader.fault(&format!("{field}.cidr"), format!("{:?}: {why}", block.cidr));
            return None;
        }
    };
    let mut except = Vec::new();
    for (at, text) in block.except.iter().flatten().enumerate() {
        match Cidr::read(text) {
            Ok(part) if whole.is_wider_than(part) => except.push(part),
            bad => {
                let why = bad.err().unwrap_or("not a smaller part of the block");
                reader.fault(&format!("{field}.except[{at}]"), format!("{text:?}: {why}"));
            }
        }
    }
    Some(Peer::Block(whole, except))
}
