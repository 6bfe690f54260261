//! Sessions, and prefixes by what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use cambric_bfd::{Refusal, State};
use cambric_bgp::Admin;
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerTally, Tally};

use super::count;
use super::page::{Label, Page, label, none};

/// As many peers that are nodes have series of their own; of more, none has.
pub(super) const MOST_NODES: usize = 50;

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) tally: Tally,
    /// Addresses of the cluster's nodes.
    pub(super) nodes: BTreeSet<IpAddr>,
    /// Packets of BFD that were not taken.
    pub(super) bfd_refused: BTreeMap<Refusal, u64>,
}

impl Seen {
    pub(super) fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let Tally { counts, refusals, sessions_lost, .. } = &self.tally;
        let help = "Whether the session with the peer is Established. Of peers that are nodes of the cluster (a mesh) \
                    only while there are at most 50 of them: see cambric_bgp_sessions";
        let up = self.shown().map(|peer| (labels(peer), u8::from(peer.state == PeerState::Established)));
        page.gauge("cambric_bgp_session_up", help, up)?;
        let help = "Sessions with the peer that ended, since it was configured; of the peers that have \
                    cambric_bgp_session_up. Of all peers: cambric_bgp_sessions_lost_total";
        let flaps = self.shown().map(|peer| (labels(peer), peer.sessions_lost));
        page.counter("cambric_bgp_session_flaps", help, flaps)?;
        let help = "Peers by what they are (node: a node of the cluster; other) and by the state of their session (up, \
                    down; disabled: by the operator)";
        page.gauge("cambric_bgp_sessions", help, self.sessions())?;
        let help =
            "Sessions that ended since the start, of all peers, those among them that are removed by now";
        page.counter("cambric_bgp_sessions_lost", help, [none(*sessions_lost)])?;
        let help = "Prefixes of all peers together: received (told by a peer), accepted and refused (of these), \
                    unkept (refused, and beyond the limit, so only counted), sent (told to a peer)";
        let prefixes = counts.iter().flat_map(|(family, counts)| {
            let directions = [
                ("received", counts.received),
                ("accepted", counts.accepted),
                ("refused", counts.refused),
                ("unkept", counts.not_kept),
                ("sent", counts.sent),
            ];
            directions.map(|(direction, number)| {
                (vec![label("direction", direction), label("family", family)], count(number))
            })
        });
        page.gauge("cambric_bgp_prefixes", help, prefixes)?;
        let help = "Prefixes that a peer told and that were refused, each time it told them, by the reason that \
                    `show route refused` gives";
        let refused = refusals.iter().map(|(reason, number)| (vec![label("reason", reason)], *number));
        page.counter("cambric_bgp_prefixes_refused", help, refused)?;
        self.write_bfd(page)
    }

    fn write_bfd(&self, page: &mut Page<'_>) -> fmt::Result {
        let with_bfd = || self.shown().filter_map(|peer| Some((peer, peer.bfd.as_ref()?)));
        let help = "Whether the BFD session with the peer is Up; of the peers that have one and cambric_bgp_session_up";
        let up = with_bfd().map(|(peer, bfd)| (labels(peer), u8::from(bfd.state == State::Up)));
        page.gauge("cambric_bfd_session_up", help, up)?;
        let help =
            "How often the BFD session with the peer was lost, for whatever reason, since it was configured";
        page.counter(
            "cambric_bfd_session_flaps",
            help,
            with_bfd().map(|(peer, bfd)| (labels(peer), bfd.downs)),
        )?;
        let help = "BFD packets that were not taken, by the check that they failed (RFC 5880 section 6.8.6)";
        let is_used = self.tally.peers.iter().any(|peer| peer.bfd.is_some()) || !self.bfd_refused.is_empty();
        let refused = Refusal::ALL.into_iter().filter(|_| is_used).map(|refusal| {
            let number = self.bfd_refused.get(&refusal).copied().unwrap_or_default();
            (vec![label("reason", format!("{refusal:?}"))], number)
        });
        page.counter("cambric_bfd_packets_refused", help, refused)
    }

    /// Peers with series of their own.
    fn shown(&self) -> impl Iterator<Item = &PeerTally> {
        let is_node = |peer: &&PeerTally| self.nodes.contains(&peer.address.ip());
        let few = self.tally.peers.iter().filter(is_node).count() <= MOST_NODES;
        self.tally.peers.iter().filter(move |peer| few || !is_node(peer))
    }

    fn sessions(&self) -> Vec<(Vec<Label>, f64)> {
        let mut sessions = Vec::new();
        for (kind, are_nodes) in [("node", true), ("other", false)] {
            for state in ["up", "down", "disabled"] {
                let is_one = |peer: &&PeerTally| {
                    self.nodes.contains(&peer.address.ip()) == are_nodes && state_of(peer) == state
                };
                let number = self.tally.peers.iter().filter(is_one).count();
                sessions.push((vec![label("kind", kind), label("state", state)], count(number)));
            }
        }
        sessions
    }
}

fn state_of(peer: &PeerTally) -> &'static str {
    match (peer.admin, peer.state) {
        (Admin::Disabled, _) => "disabled",
        (Admin::Enabled, PeerState::Established) => "up",
        (Admin::Enabled, _) => "down",
    }
}

fn labels(peer: &PeerTally) -> Vec<Label> {
    vec![label("peer", &peer.name), label("address", &peer.address)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(nodes: usize) -> Seen {
        let peer = |address: IpAddr, state| PeerTally {
            address: address.into(),
            name: format!("peer-{address}"),
            state,
            admin: Admin::Enabled,
            sessions_lost: 2,
            bfd: None,
        };
        let nodes: BTreeSet<IpAddr> =
            (0..nodes).map(|n| IpAddr::from([10, 0, 0, u8::try_from(n).expect("few")])).collect();
        let tor = peer(IpAddr::from([192, 0, 2, 1]), PeerState::Active);
        let peers = nodes.iter().map(|address| peer(*address, PeerState::Established)).chain([tor]).collect();
        Seen { tally: Tally { peers, ..Tally::default() }, nodes, bfd_refused: BTreeMap::new() }
    }

    #[test]
    fn a_large_mesh_has_no_series_of_its_own_and_the_switches_keep_theirs() {
        assert_eq!(seen(MOST_NODES).shown().count(), MOST_NODES + 1);
        let large = seen(MOST_NODES + 1);
        assert_eq!(large.shown().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["peer-192.0.2.1"]);
        let numbers: Vec<f64> = large.sessions().into_iter().map(|(_, number)| number).collect();
        assert_eq!(numbers, [51.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
