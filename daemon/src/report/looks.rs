//! What nobody tells of by itself: repairs of routes and policies, routes that are refused. Numbers are looked at now
//! and then, and compared with those of the last look.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cambric_bgp::Router;
use cambric_bgp::ScopedAddress;
use cambric_bgp::router::PeerStatus;
use cambric_routes::{Prefix, RepairCause, Routes, Snapshot};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::events::{Happening, Severity};
use super::recorder::Teller;
use super::words::of_node;
use crate::policy::Policy;
use crate::state::State;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(30);

/// Ends when the daemon does.
pub(super) async fn run(teller: Teller, state: watch::Receiver<State>, routes: Routes, policy: Policy) {
    let mut seen = Seen::default();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Ok(snapshot) = routes.snapshot().await else { return };
        let speaker = state.borrow().speaker.clone();
        let peers = match speaker {
            Some(speaker) => speaker.look(Router::peers).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let pods = state.borrow().pod_routes.put_back;
        let Snapshot { repairs, conflicts, .. } = snapshot;
        for happening in seen.compare(&Look { repairs, conflicts, pods, policy: of_policy(&policy), peers }) {
            teller.tell(happening);
        }
    }
}

fn of_policy(policy: &Policy) -> BTreeMap<String, u64> {
    let repairs = policy.state().map(|state| state.enforcer.repairs).unwrap_or_default();
    repairs.into_iter().map(|(cause, repairs)| (cause.to_string(), repairs.count)).collect()
}

/// One look.
#[derive(Default)]
struct Look {
    /// Repairs of routes by cause.
    repairs: BTreeMap<RepairCause, u64>,
    /// Prefixes where a foreign route has the place of ours, with its protocol.
    conflicts: BTreeMap<Prefix, u8>,
    /// Host routes of pods that were put back.
    pods: u64,
    /// Repairs of policies by cause.
    policy: BTreeMap<String, u64>,
    peers: Vec<PeerStatus>,
}

/// What was seen, and told, before.
#[derive(Debug, Default)]
struct Seen {
    routes: BTreeMap<String, u64>,
    policy: BTreeMap<String, u64>,
    foreign: BTreeSet<String>,
    /// How many refused routes of a peer were told.
    refused: BTreeMap<ScopedAddress, usize>,
    over_limit: BTreeSet<ScopedAddress>,
}

impl Seen {
    fn compare(&mut self, look: &Look) -> Vec<Happening> {
        let mut news = Vec::new();
        // What the kernel drops with a link or does not tell of is nobody's doing.
        let by_others = |cause: &RepairCause| !matches!(cause, RepairCause::LinkLost | RepairCause::Overrun);
        let routes = look.repairs.iter().filter(|(cause, _)| by_others(cause));
        let mut routes: BTreeMap<String, u64> =
            routes.map(|(cause, count)| (cause.to_string(), *count)).collect();
        if look.pods > 0 {
            routes.insert("pod-route-lost".to_owned(), look.pods);
        }
        for cause in grown(&self.routes, &routes) {
            let note = format!("routes were repaired ({cause}): another program had changed what is ours");
            news.push(of_node(Severity::Warning, "RouteRepaired", "Repairing", cause, note));
        }
        for cause in grown(&self.policy, &look.policy) {
            let note = format!("policy was repaired ({cause}): another program had changed what is ours");
            news.push(of_node(Severity::Warning, "PolicyDrift", "Repairing", cause, note));
        }
        (self.routes, self.policy) = (routes, look.policy.clone());
        news.extend(self.foreign(&look.conflicts));
        for peer in &look.peers {
            news.extend(self.refused(peer));
            news.extend(self.limit(peer));
        }
        let is_peer = |address: &ScopedAddress| look.peers.iter().any(|peer| peer.address == *address);
        self.refused.retain(|address, _| is_peer(address));
        self.over_limit.retain(is_peer);
        news
    }

    fn foreign(&mut self, conflicts: &BTreeMap<Prefix, u8>) -> Vec<Happening> {
        let mut now = BTreeSet::new();
        let mut news = Vec::new();
        for (prefix, protocol) in conflicts {
            let prefix = prefix.to_string();
            if !self.foreign.contains(&prefix) {
                let note = format!("{prefix}: a foreign route (protocol {protocol}) has the place of ours");
                news.push(of_node(Severity::Warning, "ForeignRoute", "Routing", prefix.clone(), note));
            }
            now.insert(prefix);
        }
        self.foreign = now;
        news
    }

    /// Told when there are some, and again when they are twice as many.
    fn refused(&mut self, peer: &PeerStatus) -> Option<Happening> {
        let refused: usize = peer.counts.values().map(|counts| counts.refused).sum();
        let told = self.refused.get(&peer.address).copied().unwrap_or_default();
        if refused == 0 {
            self.refused.remove(&peer.address);
        }
        if refused == 0 || refused < told.saturating_mul(2) {
            return None;
        }
        self.refused.insert(peer.address.clone(), refused);
        let (name, address) = (&peer.config.name, &peer.address);
        let note = format!(
            "{refused} routes of {name} ({address}) are refused; `cambric show route refused` says why for each"
        );
        Some(of_node(Severity::Warning, "PrefixesRefused", "Importing", name, note))
    }

    fn limit(&mut self, peer: &PeerStatus) -> Option<Happening> {
        let not_kept: usize = peer.counts.values().map(|counts| counts.not_kept).sum();
        if not_kept == 0 {
            self.over_limit.remove(&peer.address);
            return None;
        }
        let (name, address, limit) = (&peer.config.name, &peer.address, peer.config.max_prefixes);
        let note = format!(
            "{name} ({address}) tells more than its {limit} routes: those beyond are refused, and the session stays"
        );
        self.over_limit
            .insert(address.clone())
            .then(|| of_node(Severity::Warning, "PrefixLimit", "Importing", name, note))
    }
}

/// Keys whose number is higher now.
fn grown<'a>(before: &BTreeMap<String, u64>, now: &'a BTreeMap<String, u64>) -> Vec<&'a str> {
    let has_grown =
        |(cause, count): &(&String, &u64)| **count > before.get(*cause).copied().unwrap_or_default();
    now.iter().filter(has_grown).map(|(cause, _)| cause.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use cambric_bgp::peer::PeerState;
    use cambric_bgp::rib::Counts;
    use cambric_bgp::router::PeerOrigin;
    use cambric_bgp::types::PeerKind;
    use cambric_bgp::{Admin, Asn, Family, PeerConfig, PeerId};

    use super::*;

    fn peer(refused: usize, not_kept: usize) -> PeerStatus {
        let address: std::net::IpAddr = "192.0.2.2".parse().expect("address");
        let now = std::time::Instant::now();
        let counts = Counts { refused, not_kept, ..Counts::default() };
        PeerStatus {
            id: PeerId(1),
            address: address.into(),
            origin: PeerOrigin::Configured,
            config: PeerConfig::new("tor1", address, Asn::new(65101).expect("not 0")),
            asn: Asn::new(65101),
            kind: PeerKind::External,
            admin: Admin::Enabled,
            state: PeerState::Established,
            since: now,
            expected_since: now,
            session: None,
            last_error: None,
            flawed_updates: 0,
            last_flaw: None,
            bfd: None,
            stale: Vec::new(),
            counts: [(Family::Ipv4, counts)].into(),
        }
    }

    fn reasons(news: &[Happening]) -> Vec<&str> {
        news.iter().map(|happening| happening.reason).collect()
    }

    #[test]
    fn repairs_are_told_when_their_number_grows_and_links_that_went_down_are_none() {
        let mut seen = Seen::default();
        let mut look = Look {
            repairs: [(RepairCause::LinkLost, 24), (RepairCause::RouteDeleted, 1)].into(),
            policy: [("table".to_owned(), 1)].into(),
            ..Look::default()
        };
        let news = seen.compare(&look);
        assert_eq!(reasons(&news), ["RouteRepaired", "PolicyDrift"]);
        assert!(news[0].note.contains("route-deleted"), "{news:?}");
        assert_eq!(seen.compare(&look), Vec::new());
        look.repairs.insert(RepairCause::RouteDeleted, 2);
        look.pods = 1;
        assert_eq!(reasons(&seen.compare(&look)), ["RouteRepaired", "RouteRepaired"]);
    }

    #[test]
    fn refused_routes_are_told_again_when_they_are_twice_as_many() {
        let mut seen = Seen::default();
        let mut told =
            |refused| seen.compare(&Look { peers: vec![peer(refused, 0)], ..Look::default() }).len();
        assert_eq!([0, 3, 3, 5, 6, 7, 0, 1].map(&mut told), [0, 1, 0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn a_peer_beyond_its_limit_is_told_once_until_it_is_back() {
        let mut seen = Seen::default();
        let mut told = |not_kept| {
            let news = seen.compare(&Look { peers: vec![peer(0, not_kept)], ..Look::default() });
            reasons(&news) == ["PrefixLimit"]
        };
        assert_eq!([0, 1, 9, 0, 2].map(&mut told), [false, true, false, false, true]);
    }

    #[test]
    fn a_foreign_route_is_told_once_while_it_is_there() {
        let mut seen = Seen::default();
        let mut with = Look::default();
        let prefix: ipnetwork::IpNetwork = "10.1.0.0/24".parse().expect("prefix");
        with.conflicts.insert(prefix.into(), 4);
        let news = seen.compare(&with);
        assert_eq!(news[0].note, "10.1.0.0/24: a foreign route (protocol 4) has the place of ours");
        assert_eq!(seen.compare(&with), Vec::new());
        assert_eq!(seen.compare(&Look::default()), Vec::new());
        assert_eq!(seen.compare(&with).len(), 1);
    }
}
