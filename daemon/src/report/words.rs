//! What operators are told in Events, and with which reason.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cambric_bgp::ScopedAddress;
use cambric_bgp::Wanted;
use cambric_bgp::peer::PeerState;
use cambric_bgp::router::PeerStatus;
use cambric_kube::{Health, KindState};
use tokio::time::Instant;

use super::events::{About, Happening, Severity};
use super::node::OwnNode;
use super::sessions::plan::LARGEST_MESH;
use crate::objects::{FoundBy, Kind, Problem, Reason};

/// A server that was away for less is not spoken of: watches are cut now and then.
const WORTH_TELLING: Duration = Duration::from_secs(10);

/// The subject of what is said of a mesh as a whole: no name of a peer.
const OF_MESH: &str = "the mesh";
/// Names that are given as examples of many.
const EXAMPLES: usize = 3;

/// Something about this node.
pub(super) fn of_node(
    severity: Severity,
    reason: &'static str,
    action: &'static str,
    subject: impl Into<String>,
    note: String,
) -> Happening {
    Happening { about: About::Node, severity, reason, action, subject: subject.into(), note }
}

/// Which sessions are up.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    up: BTreeSet<ScopedAddress>,
    mesh: LargeMesh,
}

impl Sessions {
    /// There are these peers now: what was known of others is forgotten. To be called whenever they have become others.
    pub(super) fn look(
        &mut self,
        wanted: &Wanted,
        mesh: &BTreeMap<ScopedAddress, String>,
    ) -> Option<Happening> {
        let may_come =
            |address: &ScopedAddress| wanted.listen_ranges.keys().any(|range| range.contains(address.ip()));
        self.up.retain(|address| wanted.peers.contains_key(address) || may_come(address));
        if mesh.len() <= LARGEST_MESH {
            self.mesh = LargeMesh::default();
            return None;
        }
        self.mesh.look(mesh)
    }

    /// Attempts that fail are no news: a session has to have been there. `mesh` are the peers that are other nodes, with
    /// their names: of many of them none is told of by itself.
    pub(super) fn changed(
        &mut self,
        peer: &PeerStatus,
        state: PeerState,
        mesh: &BTreeMap<ScopedAddress, String>,
    ) -> Option<Happening> {
        let (name, address) = (&peer.config.name, &peer.address);
        let is_up = state == PeerState::Established;
        if mesh.len() > LARGEST_MESH && mesh.contains_key(address) {
            let was_up = if is_up { !self.up.insert(address.clone()) } else { self.up.remove(address) };
            return if is_up || was_up { self.mesh.changed(address.clone(), is_up, mesh) } else { None };
        }
        let asn = peer.asn.map(|asn| format!(", AS {asn}")).unwrap_or_default();
        let whom = format!("BGP session with {name} ({address}{asn})");
        if is_up {
            self.up.insert(address.clone());
            return Some(of_node(Severity::Normal, "SessionUp", "Peering", name, format!("{whom} is up")));
        }
        if !self.up.remove(address) {
            return None;
        }
        let why = peer.last_error.as_ref().map(|error| format!(": {}", error.what)).unwrap_or_default();
        Some(of_node(Severity::Warning, "SessionDown", "Peering", name, format!("{whom} is down{why}")))
    }
}

/// The sessions of a mesh that is too large to tell of each. A node of it that goes is seen by all others, so one alone
/// is no news; many that are down at once say something about this node, or about the network.
#[derive(Debug, Default)]
struct LargeMesh {
    /// They were up before.
    down: BTreeSet<ScopedAddress>,
    /// So many of them were told; 0, if it is well.
    told: usize,
}

impl LargeMesh {
    fn changed(
        &mut self,
        address: ScopedAddress,
        is_up: bool,
        mesh: &BTreeMap<ScopedAddress, String>,
    ) -> Option<Happening> {
        if is_up {
            self.down.remove(&address);
        } else {
            self.down.insert(address);
        }
        self.news(mesh)
    }

    /// Nodes that are gone are not down.
    fn look(&mut self, mesh: &BTreeMap<ScopedAddress, String>) -> Option<Happening> {
        self.down.retain(|address| mesh.contains_key(address));
        self.news(mesh)
    }

    /// Told when a tenth is down, again when twice as many are, and when it is less than a twentieth.
    fn news(&mut self, mesh: &BTreeMap<ScopedAddress, String>) -> Option<Happening> {
        let (all, tenth) = (mesh.len(), mesh.len().div_ceil(10));
        let next = tenth.max(self.told.saturating_mul(2));
        let down = self.down.len();
        if down >= next {
            self.told = down;
            let names: Vec<&str> = self
                .down
                .iter()
                .take(EXAMPLES)
                .filter_map(|address| Some(mesh.get(address)?.as_str()))
                .collect();
            let note =
                format!("{down} of {all} BGP sessions of the mesh are down: {}, ...", names.join(", "));
            return Some(of_node(Severity::Warning, "SessionDown", "Peering", OF_MESH, note));
        }
        if self.told > 0 && down < tenth.div_ceil(2) {
            self.told = 0;
            let note = format!("BGP sessions of the mesh are up again: {down} of {all} are down");
            return Some(of_node(Severity::Normal, "SessionUp", "Peering", OF_MESH, note));
        }
        None
    }
}

/// A problem for the operator. What this node alone finds nobody else tells of, whoever speaks of the object as a rule:
/// it is about the node, and its words name the object.
pub(super) fn problem(problem: &Problem, own: &str) -> Happening {
    let about = match &problem.of {
        // Its own node speaks of it in any case.
        Some(of) if of.kind == Kind::BGPNodeOverride && of.name == own => About::Object((**of).clone()),
        Some(_) if problem.found_by == FoundBy::ThisNode => About::Node,
        Some(of) if of.kind == Kind::Node && of.name == own => About::Node,
        Some(of) => About::Object((**of).clone()),
        None => About::Node,
    };
    let reason = match &problem.reason {
        Reason::Other => "Problem",
        reason => reason.as_str(),
    };
    let (subject, note) = (problem.what.clone(), problem.to_string());
    Happening { about, severity: Severity::Warning, reason, action: "Configuring", subject, note }
}

/// Something is wrong with the source itself. All nodes see it, for each kind and with other numbers each time: one Event
/// a node says that it is so, and whoever reads it asks the node for the rest.
pub(super) fn source(problem: &Problem) -> Happening {
    let (reason, note) = match &problem.reason {
        Reason::Missing => ("Missing", "kinds of cambric.dev are not installed: there is none of them"),
        Reason::Unreadable => (
            "Unreadable",
            "the API server does not answer, refuses, or shows an older state than is known: what is known stays in force",
        ),
        _ => return of_node(Severity::Warning, "Problem", "Watching", "source", problem.to_string()),
    };
    let note = format!("{note}; the log and the status of cambricd on this node say which");
    of_node(Severity::Warning, reason, "Watching", "source", note)
}

/// The own Node has come or gone.
pub(super) fn own_node(name: &str, before: &OwnNode, now: &OwnNode) -> Option<Happening> {
    match (before, now) {
        (OwnNode::Present { .. }, OwnNode::Gone) => Some(of_node(
            Severity::Warning,
            "OwnNodeGone",
            "Serving",
            name,
            format!(
                "Node {name} is gone from the cluster; cambricd goes on as before: routes, sessions and pods stay"
            ),
        )),
        (OwnNode::Gone, OwnNode::Present { .. }) => Some(of_node(
            Severity::Normal,
            "OwnNodeBack",
            "Serving",
            name,
            format!("Node {name} is registered again"),
        )),
        _ => None,
    }
}

/// Whether the API server answers.
#[derive(Debug, Default)]
pub(super) struct Api {
    away_since: Option<Instant>,
}

impl Api {
    /// News if it has come back.
    pub(super) fn seen(&mut self, now: Instant, health: &Health) -> Option<Happening> {
        let is_away = health.trouble.is_some()
            || health.kinds.values().any(|kind| matches!(kind.state, KindState::Away(_)));
        if is_away {
            self.away_since.get_or_insert(now);
            return None;
        }
        let away = now.saturating_duration_since(self.away_since.take()?);
        let note = format!(
            "the API server answers again after {}; this node went on with what it knew",
            words(away)
        );
        let back = || of_node(Severity::Normal, "APIServerBack", "Watching", "", note);
        (away >= WORTH_TELLING).then(back)
    }
}

/// A time, roughly.
fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use cambric_bgp::config::ListenRange;
    use cambric_bgp::peer::LastError;
    use cambric_bgp::router::PeerOrigin;
    use cambric_bgp::types::PeerKind;
    use cambric_bgp::{Admin, Asn, PeerConfig, PeerId, RouterConfig, RouterId, ScopedAddress};
    use cambric_kube::Trouble;

    use super::*;
    use crate::objects::ObjectRef;

    fn peer() -> PeerStatus {
        let address: std::net::IpAddr = "192.0.2.2".parse().expect("address");
        let now = std::time::Instant::now();
        PeerStatus {
            id: PeerId(1),
            address: address.into(),
            origin: PeerOrigin::Configured,
            config: PeerConfig::new("tor1", address, Asn::new(65101).expect("not 0")),
            asn: Asn::new(65101),
            kind: PeerKind::External,
            admin: Admin::Enabled,
            state: PeerState::Active,
            since: now,
            expected_since: now,
            session: None,
            last_error: Some(LastError { at: now, what: "hold timer expired".to_owned() }),
            flawed_updates: 0,
            last_flaw: None,
            bfd: None,
            stale: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    #[test]
    fn a_session_that_was_never_up_does_not_go_down() {
        let (mut sessions, peer) = (Sessions::default(), peer());
        let mut changed = |state| sessions.changed(&peer, state, &BTreeMap::new());
        assert_eq!(changed(PeerState::Active), None);
        let up = changed(PeerState::Established).expect("news");
        assert_eq!(up.note, "BGP session with tor1 (192.0.2.2, AS 65101) is up");
        let down = changed(PeerState::Active).expect("news");
        assert_eq!(down.note, "BGP session with tor1 (192.0.2.2, AS 65101) is down: hold timer expired");
        assert_eq!((down.reason, down.severity), ("SessionDown", Severity::Warning));
        assert_eq!(changed(PeerState::Connect), None, "once");
    }

    #[test]
    fn an_as_that_nobody_knows_yet_is_not_told() {
        let (mut sessions, peer) = (Sessions::default(), PeerStatus { asn: None, ..peer() });
        let up = sessions.changed(&peer, PeerState::Established, &BTreeMap::new()).expect("news");
        assert_eq!(up.note, "BGP session with tor1 (192.0.2.2) is up");
    }

    #[test]
    fn whoever_called_from_a_range_is_not_forgotten_while_the_range_is_there() {
        let range = "192.0.2.0/24".parse().expect("prefix");
        let (none, caller) = (BTreeMap::new(), PeerStatus { origin: PeerOrigin::Range(range), ..peer() });
        let router = RouterConfig::new(Asn::new(65001).expect("not 0"), RouterId::new(1).expect("not 0"));
        let without = Wanted::new(router);
        let listen = ListenRange { template: caller.config.clone(), most_peers: 10 };
        let with = Wanted { listen_ranges: [(range, listen)].into(), ..without.clone() };
        let is_down_told = |wanted: &Wanted| {
            let mut sessions = Sessions::default();
            sessions.changed(&caller, PeerState::Established, &none).expect("news");
            assert_eq!(sessions.look(wanted, &none), None);
            sessions.changed(&caller, PeerState::Active, &none).is_some()
        };
        assert!(is_down_told(&with));
        assert!(!is_down_told(&without), "it was removed by an operator");
    }

    /// All nodes see it when one goes: thousands of Events would say the same.
    #[test]
    fn of_a_large_mesh_only_many_sessions_that_are_down_are_told_and_all_at_once() {
        let peers: Vec<PeerStatus> = (0..400_u32)
            .map(|at| PeerStatus {
                address: std::net::IpAddr::from((0x0A00_0000 + at).to_be_bytes()).into(),
                ..peer()
            })
            .collect();
        let names = peers.iter().enumerate().map(|(at, peer)| (peer.address.clone(), format!("n{at}")));
        let mesh: BTreeMap<ScopedAddress, String> = names.collect();
        let mut sessions = Sessions::default();
        let mut become_ = |peers: &[PeerStatus], state| -> Vec<String> {
            let news = peers.iter().filter_map(|peer| sessions.changed(peer, state, &mesh));
            news.map(|happening| format!("{}: {}", happening.reason, happening.note)).collect()
        };
        assert_eq!(become_(&peers, PeerState::Established), [""; 0]);
        assert_eq!(become_(&peers[..39], PeerState::Active), [""; 0], "that is for those nodes to tell");
        let says = |number: u32| {
            format!("SessionDown: {number} of 400 BGP sessions of the mesh are down: n0, n1, n2, ...")
        };
        assert_eq!(become_(&peers[39..], PeerState::Active), [40, 80, 160, 320].map(says));
        assert_eq!(become_(&peers, PeerState::Connect), [""; 0]);
        let up = "SessionUp: BGP sessions of the mesh are up again: 19 of 400 are down";
        assert_eq!(become_(&peers, PeerState::Established), [up]);
        let configured = PeerStatus { address: "192.0.2.2".parse().expect("address"), ..peer() };
        assert_eq!(become_(&[configured], PeerState::Established).len(), 1, "it has a name of its own");
    }

    #[test]
    fn a_conflict_is_told_with_its_object_and_names_the_winner() {
        let winner = ObjectRef { kind: Kind::BGPClusterConfig, name: "old".to_owned() };
        let what = "spec.nodeSelector: Conflicted: BGPClusterConfig old has the same";
        let found = Problem::new("BGPClusterConfig new", what).about(Kind::BGPClusterConfig, "new");
        let told = problem(&found.because(Reason::Conflicted { winner }), "n1");
        assert_eq!(told.reason, "Conflicted");
        assert_eq!(told.note, format!("BGPClusterConfig new: {what}"));
        assert!(matches!(told.about, About::Object(of) if of.name == "new"));
        let of_own = problem(&Problem::new("Node n1", "spec.podCIDRs: none").about(Kind::Node, "n1"), "n1");
        assert_eq!((of_own.about, of_own.reason), (About::Node, "Problem"));
    }

    #[test]
    fn what_this_node_alone_finds_is_about_the_node_and_names_the_object() {
        let what = "spec.nodeAddress.interface: bond0: this host has no such interface";
        let found = Problem::new("BGPClusterConfig c", what).about(Kind::BGPClusterConfig, "c");
        let told = problem(&found.because(Reason::Invalid).found_here(), "n1");
        assert_eq!((told.about, told.reason), (About::Node, "Invalid"));
        assert_eq!(told.note, format!("BGPClusterConfig c: {what}"));
    }

    #[test]
    fn what_is_wrong_with_the_source_is_one_happening_whatever_kind_and_numbers_it_names() {
        let of = |kind: &str, version: u32| {
            let what = format!("a list of version {version} came after version 9");
            source(&Problem::new(format!("API server x: {kind}"), what).because(Reason::Unreadable))
        };
        assert_eq!(of("Pod", 1), of("Node", 2));
        assert_eq!((of("Pod", 1).about, of("Pod", 1).reason), (About::Node, "Unreadable"));
        let missing = source(&Problem::new("x", "404").because(Reason::Missing));
        assert_eq!((missing.reason, missing.severity), ("Missing", Severity::Warning));
    }

    #[test]
    fn a_server_that_was_away_for_long_is_told_when_it_is_back() {
        let (mut api, start) = (Api::default(), Instant::now());
        let well = Health::default();
        let trouble = Trouble { what: "connection refused".to_owned(), since: SystemTime::now() };
        let away = Health { trouble: Some(trouble), ..Health::default() };
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(api.seen(after(0), &well), None);
        assert_eq!(api.seen(after(1), &away), None);
        assert_eq!(api.seen(after(5), &well), None, "a moment is not worth a word");
        assert_eq!(api.seen(after(10), &away), None);
        assert_eq!(api.seen(after(300), &away), None);
        let back = api.seen(after(610), &well).expect("news");
        let says = "the API server answers again after 10 min; this node went on with what it knew";
        assert_eq!((back.note.as_str(), back.severity), (says, Severity::Normal));
        assert_eq!(api.seen(after(611), &well), None);
    }

    #[test]
    fn own_node_that_goes_is_an_alarm_and_its_return_is_told() {
        let present = OwnNode::Present { uid: "1".to_owned(), tainted: false, unavailable: false };
        let gone = own_node("n1", &present, &OwnNode::Gone).expect("news");
        assert_eq!((gone.reason, gone.severity), ("OwnNodeGone", Severity::Warning));
        assert_eq!(own_node("n1", &OwnNode::Gone, &present).expect("news").reason, "OwnNodeBack");
        assert_eq!(own_node("n1", &OwnNode::Unknown, &present), None);
    }
}
