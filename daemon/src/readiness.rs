//! What is missing before pods may start: their ranges, the peers' routes, and a peer that knows of us.

use cambric_bgp::{Prefix, Source};

use crate::intent::Intent;

/// What the BGP speaker has achieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Whether all peers that are there have told their routes, in both families.
    pub peers_routes: PeersRoutes,
    /// Those of [`to_announce`] that no peer has been told yet.
    pub untold: Vec<Prefix>,
}

/// Whether the peers that are there have told their routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeersRoutes {
    /// They have.
    Told,
    /// Some are missing.
    Awaited,
}

/// Own ranges that a peer must know, each with the aggregates that may be told in its place. A family that no peer
/// carries is told to nobody, and nobody waits for it; nor for what is drained.
pub fn to_announce(intent: &Intent) -> Vec<Vec<Prefix>> {
    if intent.wanted.drain.pods.is_some() {
        return Vec::new();
    }
    let peers = &intent.wanted.peers;
    let carried = |prefix: &&Prefix| peers.values().any(|peer| peer.families.contains(&prefix.family()));
    let aggregates = intent.wanted.originated.iter().filter(|(_, own)| own.source == Source::Aggregate);
    let aggregates: Vec<Prefix> = aggregates.map(|(prefix, _)| *prefix).collect();
    let with_aggregates = |range: &Prefix| {
        let around = aggregates.iter().filter(|aggregate| aggregate.covers(range));
        std::iter::once(range).chain(around).copied().collect()
    };
    intent.pod_prefixes.iter().filter(carried).map(with_aggregates).collect()
}

/// What routing on `node` waits for, in words; nothing when it is ready.
pub fn waiting_for(node: &str, intent: &Intent, progress: &Progress) -> Vec<String> {
    let mut waiting = Vec::new();
    if intent.pod_prefixes.is_empty() {
        waiting.push(format!("podCIDRs of Node {node}"));
    }
    if progress.peers_routes == PeersRoutes::Awaited {
        waiting.push("the peers' routes".to_owned());
    }
    waiting.extend(progress.untold.iter().map(|prefix| format!("a peer to announce {prefix} to")));
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::intent;
    use crate::objects::{Node, Objects, Shown};

    fn intent_with(pod_cidrs: &[&str]) -> Intent {
        let range = |text: &&str| ("spec.podCIDRs".to_owned(), text.parse().expect("prefix"));
        let node = Node { pod_ranges: pod_cidrs.iter().map(range).collect(), ..Node::default() };
        let node = Shown { place: "Node n1".to_owned(), says: node };
        let objects = Objects { nodes: [("n1".to_owned(), node)].into(), ..Objects::default() };
        intent(&objects, "n1", &[]).expect("node is known")
    }

    #[test]
    fn a_node_without_pod_ranges_is_not_ready() {
        let done = Progress { peers_routes: PeersRoutes::Told, untold: Vec::new() };
        assert_eq!(waiting_for("n1", &intent_with(&[]), &done), ["podCIDRs of Node n1"]);
        assert_eq!(waiting_for("n1", &intent_with(&["10.1.0.0/24"]), &done), Vec::<String>::new());
    }

    #[test]
    fn a_family_that_no_peer_carries_is_not_waited_for() {
        assert_eq!(to_announce(&intent_with(&["10.1.0.0/24"])), Vec::<Vec<Prefix>>::new());
    }
}
