//! What is to be written next of all sessions. Pure: time is an argument, requests are values.
//!
//! - An object is made, and its state written, at once.
//! - After that, a session that comes and goes is written every ten seconds, other reasons and counts every minute: in
//!   clusters of more than a thousand nodes less often, so that nodes with one session write 17 counts a second together.
//! - A spec that has become another is written every ten seconds; one that the server does not show as it was written is
//!   written again as seldom as counts.
//! - The steps of one attempt after another (Active, Connect, OpenSent, OpenConfirm) are not written: `since` is when the
//!   session went down.
//! - All of it comes out of one budget of 40 requests, and one more each second.
//! - Sessions that a manifest names have an object each; those of a mesh only if it has at most fifty nodes, and those
//!   that called from a range only while they are at most fifty.
//! - What an earlier daemon left is found by one list, and goes if it is no session any more. The list is allowed to be
//!   behind: an object that is there when it is to be made is read, and kept if it is ours; and what should have gone is
//!   looked for once more some minutes later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cambric_bgp::peer::PeerState;
use cambric_bgp::router::{PeerOrigin, PeerStatus};
use cambric_bgp::{Admin, Asn, ScopedAddress};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::conditions::verdict::shortened;
use super::super::write::{Refusal, hash};
use super::name;
use crate::budget::Budget;
use crate::kinds::{API_VERSION, BGPSessionStateSpec, BGPSessionStateStatus, SessionPhase};

/// A mesh of more nodes has no objects, and no Events of single sessions: all of them together would be the square of
/// that.
pub(crate) const LARGEST_MESH: usize = 50;
/// Requests at once, and between two more.
const REQUESTS: (u32, Duration) = (40, Duration::from_secs(1));
/// Between two writes of one session that flaps.
const BETWEEN_STATES: Duration = Duration::from_secs(10);
/// Between two writes of one session of which only counts or the reason have changed, in a cluster of a thousand nodes or
/// less.
const BETWEEN_COUNTS: Duration = Duration::from_secs(60);
/// Between the first list of a run and another one: on each node another time between this and twice of it.
const BETWEEN_LISTS: Duration = Duration::from_secs(300);
/// The longest reason in octets.
const MOST_REASON_OCTETS: usize = 500;

/// How often counts alone are written: together, nodes write as often as a thousand do.
pub(crate) fn between_counts(nodes: usize) -> Duration {
    let thousands = u32::try_from(nodes.div_ceil(1000)).unwrap_or(u32::MAX);
    BETWEEN_COUNTS.saturating_mul(thousands.max(1))
}

/// One request. Names and objects are those of BGPSessionStates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Request {
    /// All of this node.
    List,
    /// The one of this name, as a list of at most one, of the newest state. A list without any is [`Refusal::Conflict`].
    Read(String),
    /// A new one, without status: an API server takes none with it.
    Create(Value),
    /// A merge patch.
    Patch(String, Value),
    /// A merge patch of the status.
    Status(String, Value),
    /// It goes.
    Delete(String),
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// This, and say how it went.
    Do(Request),
    /// Nothing before then; nothing at all, if nothing happens.
    Wait(Option<Instant>),
}

/// A session as it should be shown.
#[derive(Debug, Clone, PartialEq)]
struct Session {
    spec: BGPSessionStateSpec,
    status: BGPSessionStateStatus,
    since: Timestamp,
}

/// Whose object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This Node's.
    Ours,
    /// An earlier Node's of our name, or nobody can find it: it goes.
    Foreign,
    /// It has not been read.
    Unknown,
}

/// An object as it is there.
#[derive(Debug, Clone, PartialEq)]
struct There {
    spec: Value,
    status: BGPSessionStateStatus,
    whose: Whose,
    /// What was written as its spec last, and when, if we did that.
    specified: Option<(Value, Instant)>,
    /// When its status was written last, if we did that.
    written: Option<Instant>,
}

/// What people want to be told at once when it becomes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Disabled,
    Down,
    Up,
}

impl Stage {
    fn of(status: &BGPSessionStateStatus) -> Option<Stage> {
        Some(match status.state? {
            SessionPhase::Disabled => Stage::Disabled,
            SessionPhase::Established => Stage::Up,
            _ => Stage::Down,
        })
    }
}

/// What should be there, and what is.
#[derive(Debug)]
pub(crate) struct Plan {
    node: String,
    /// The uid of the Node object; nothing is written without.
    owner: Option<String>,
    wanted: Option<BTreeMap<String, Session>>,
    /// `None`: nobody knows.
    there: Option<BTreeMap<String, There>>,
    /// When what is there is listed once more.
    list_again: Option<Instant>,
    between_counts: Duration,
    budget: Budget,
}

impl Plan {
    pub(crate) fn new(node: &str, now: Instant) -> Plan {
        Plan {
            node: node.to_owned(),
            owner: None,
            wanted: None,
            there: None,
            list_again: None,
            between_counts: BETWEEN_COUNTS,
            budget: Budget::new(REQUESTS.0, REQUESTS.1, now),
        }
    }

    /// The objects are listed again before anything is written.
    pub(crate) fn forget_what_is_there(&mut self) {
        self.there = None;
    }

    /// After a look at the peers; `mesh` are those among them that are other nodes, with their names. `now` on the three
    /// clocks.
    pub(crate) fn look(
        &mut self,
        owner: Option<String>,
        peers: &[PeerStatus],
        mesh: &BTreeMap<ScopedAddress, String>,
        nodes: usize,
        now: (Instant, std::time::Instant, SystemTime),
    ) {
        if self.owner != owner {
            // Objects of the old Node go with it.
            self.forget_what_is_there();
        }
        self.owner = owner;
        self.between_counts = between_counts(nodes);
        let others: BTreeSet<&String> = mesh.values().collect();
        let is_large = others.len() >= LARGEST_MESH;
        let is_called = |peer: &&PeerStatus| peer.origin != PeerOrigin::Configured;
        let are_many = peers.iter().filter(is_called).count() > LARGEST_MESH;
        let is_one_of_many = |peer: &&PeerStatus| {
            (is_large && mesh.contains_key(&peer.address)) || (are_many && is_called(peer))
        };
        let shown = peers.iter().filter(|peer| !is_one_of_many(peer));
        let session = |peer: &PeerStatus| {
            let session = Session::of(&self.node, peer, now.1, now.2);
            // All of a range have one name.
            let name = match peer.origin {
                PeerOrigin::Configured => session.spec.peer.clone(),
                PeerOrigin::Range(_) => format!("{}-{}", session.spec.peer, peer.address),
            };
            (name::object(&self.node, &name), session)
        };
        self.wanted = Some(shown.map(session).collect());
    }

    /// What to do at `now`.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        match self.due(now) {
            Next::Do(request) => match self.budget.take(now) {
                Ok(()) => Next::Do(request),
                Err(until) => Next::Wait(Some(until)),
            },
            wait => wait,
        }
    }

    /// The same, without a look at the budget.
    fn due(&self, now: Instant) -> Next {
        let (Some(wanted), Some(owner)) = (&self.wanted, &self.owner) else { return Next::Wait(None) };
        let Some(there) = &self.there else { return Next::Do(Request::List) };
        if self.list_again.is_some_and(|at| at <= now) {
            return Next::Do(Request::List);
        }
        let is_leftover =
            |name: &String, there: &There| there.whose == Whose::Foreign || !wanted.contains_key(name);
        if let Some((name, _)) = there.iter().find(|(name, there)| is_leftover(name, there)) {
            return Next::Do(Request::Delete(name.clone()));
        }
        if let Some((name, _)) = there.iter().find(|(_, there)| there.whose == Whose::Unknown) {
            return Next::Do(Request::Read(name.clone()));
        }
        let mut next = self.list_again;
        for (name, session) in wanted {
            let Some(there) = there.get(name) else {
                return Next::Do(Request::Create(session.object(name, owner)));
            };
            let spec = json!(session.spec);
            if there.spec != spec {
                // A definition of another version may not have a field: the server leaves it out each time.
                let between = |was: &Value| if *was == spec { self.between_counts } else { BETWEEN_STATES };
                let may_be = there.specified.as_ref().map(|(was, at)| *at + between(was));
                if may_be.is_none_or(|at| at <= now) {
                    return Next::Do(Request::Patch(name.clone(), session.respecified(&there.spec)));
                }
                next = next.min(may_be).or(may_be);
            }
            let Some(may_be) = session.may_be_written(there, self.between_counts) else { continue };
            if may_be.is_none_or(|at| at <= now) {
                return Next::Do(Request::Status(name.clone(), session.patch(&there.status)));
            }
            next = next.min(may_be).or(may_be);
        }
        Next::Wait(next)
    }

    /// It was served with this answer.
    pub(crate) fn done(&mut self, request: &Request, answer: &Value, now: Instant) {
        let owner = self.owner.clone().unwrap_or_default();
        let there_of = |object: &Value, specified, written| There {
            spec: object["spec"].clone(),
            status: serde_json::from_value(object["status"].clone()).unwrap_or_default(),
            whose: match object.pointer("/metadata/ownerReferences/0/uid") {
                Some(uid) if *uid == owner => Whose::Ours,
                _ => Whose::Foreign,
            },
            specified,
            written,
        };
        let name =
            |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
        match request {
            Request::List => {
                let items = answer["items"].as_array().into_iter().flatten();
                // Two nodes may have one label, if their names are long.
                let own = items.filter(|item| item["spec"]["node"] == self.node.as_str());
                let listed = own.filter_map(|item| Some((name(item)?, there_of(item, None, None))));
                let mut listed: BTreeMap<String, There> = listed.collect();
                match self.there.take() {
                    // What was read or written since is newer than what a list says.
                    Some(known) => {
                        listed.extend(known);
                        self.list_again = None;
                    }
                    None => {
                        let share = (hash([self.node.as_str(), "list"]) % 1000) as f64 / 1000.0;
                        self.list_again = Some(now + BETWEEN_LISTS.mul_f64(1.0 + share));
                    }
                }
                self.there = Some(listed);
            }
            Request::Read(name) => {
                let found = &answer["items"][0];
                let mut there_now = there_of(found, None, None);
                // What has another label no later daemon finds by a list.
                let label = found.pointer("/metadata/labels/cambric.dev~1node").and_then(Value::as_str);
                if found["spec"]["node"] != self.node.as_str() || label != Some(&name::label(&self.node)) {
                    there_now.whose = Whose::Foreign;
                }
                self.there.as_mut().and_then(|there| there.insert(name.clone(), there_now));
            }
            Request::Create(object) | Request::Patch(_, object) => {
                if let (Some(there), Some(name)) = (&mut self.there, name(answer)) {
                    let written = there.get(&name).and_then(|there| there.written);
                    there.insert(name, there_of(answer, Some((specified(object), now)), written));
                }
            }
            Request::Status(name, _) => {
                if let Some(there) = &mut self.there {
                    let specified = there.get(name).and_then(|there| there.specified.clone());
                    there.insert(name.clone(), there_of(answer, specified, Some(now)));
                }
            }
            Request::Delete(name) => {
                self.there.as_mut().and_then(|there| there.remove(name));
            }
        }
    }

    /// It was not served.
    pub(crate) fn failed(&mut self, request: &Request, why: &Refusal) {
        match (request, why) {
            // Somebody else removed it: it is not there.
            (
                Request::Patch(name, _) | Request::Status(name, _) | Request::Delete(name),
                Refusal::NotFound,
            )
            | (Request::Read(name), Refusal::Conflict) => {
                self.there.as_mut().and_then(|there| there.remove(name));
            }
            // One of this name is there that the list does not show: the list was behind, or its label or node another.
            (Request::Create(object), Refusal::Conflict) => {
                let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
                let unknown = There {
                    spec: Value::Null,
                    status: BGPSessionStateStatus::default(),
                    whose: Whose::Unknown,
                    specified: None,
                    written: None,
                };
                self.there.as_mut().and_then(|there| there.insert(name.to_owned(), unknown));
            }
            _ => {}
        }
    }
}

impl Session {
    fn of(node: &str, peer: &PeerStatus, now: std::time::Instant, clock: SystemTime) -> Session {
        let state = match (peer.admin, peer.state) {
            (Admin::Disabled, _) => SessionPhase::Disabled,
            (_, PeerState::Idle) => SessionPhase::Idle,
            (_, PeerState::Active) => SessionPhase::Active,
            (_, PeerState::Connect) => SessionPhase::Connect,
            (_, PeerState::OpenSent) => SessionPhase::OpenSent,
            (_, PeerState::OpenConfirm) => SessionPhase::OpenConfirm,
            (_, PeerState::Established) => SessionPhase::Established,
        };
        // What ended an earlier session says nothing about this one.
        let error = peer.last_error.as_ref().filter(|_| state != SessionPhase::Established);
        let since = clock.checked_sub(now.saturating_duration_since(peer.since)).unwrap_or(clock);
        let since = Timestamp::try_from(since).unwrap_or(Timestamp::UNIX_EPOCH);
        let sum = |of: fn(&cambric_bgp::rib::Counts) -> usize| {
            Some(peer.counts.values().map(|counts| of(counts) as u64).sum())
        };
        let spec = BGPSessionStateSpec {
            node: node.to_owned(),
            peer: peer.config.name.clone(),
            address: peer.address.to_string(),
            asn: peer.asn.map(Asn::value),
        };
        let status = BGPSessionStateStatus {
            state: Some(state),
            since: Some(since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            reason: error.map(|error| shortened(&printable(&error.what), MOST_REASON_OCTETS)),
            received: sum(|counts| counts.received),
            accepted: sum(|counts| counts.accepted),
            refused: sum(|counts| counts.refused),
            advertised: sum(|counts| counts.sent),
        };
        Session { spec, status, since }
    }

    fn labels(&self) -> Value {
        json!({"cambric.dev/node": name::label(&self.spec.node), "cambric.dev/peer": name::label(&self.spec.peer)})
    }

    fn object(&self, name: &str, owner: &str) -> Value {
        json!({
            "apiVersion": API_VERSION,
            "kind": "BGPSessionState",
            "metadata": {
                "name": name,
                "labels": self.labels(),
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": self.spec.node, "uid": owner}],
            },
            "spec": self.spec,
        })
    }

    /// What is absent is taken away (RFC 7386).
    fn respecified(&self, there: &Value) -> Value {
        let mut spec = json!(self.spec);
        if self.spec.asn.is_none() && there.get("asn").is_some() {
            spec["asn"] = Value::Null;
        }
        json!({"metadata": {"labels": self.labels()}, "spec": spec})
    }

    /// When its status may be written: `None`, if it says the same already; `Some(None)`: at once.
    fn may_be_written(&self, there: &There, between_counts: Duration) -> Option<Option<Instant>> {
        let (now, there_now) = (Stage::of(&self.status), Stage::of(&there.status));
        let is_same_session = now != Some(Stage::Up) || self.is_since(&there.status);
        let details = |status: &BGPSessionStateStatus| {
            let counts = [status.received, status.accepted, status.refused, status.advertised];
            (status.reason.clone(), counts)
        };
        match (now == there_now && is_same_session, details(&self.status) == details(&there.status)) {
            (true, true) => None,
            (true, false) => Some(there.written.map(|at| at + between_counts)),
            (false, _) => Some(there.written.map(|at| at + BETWEEN_STATES)),
        }
    }

    /// Whether it is the same moment: two clocks do not go exactly alike.
    fn is_since(&self, there: &BGPSessionStateStatus) -> bool {
        let since = there.since.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
        since.is_some_and(|since| self.since.duration_since(since).abs().as_secs() <= 2)
    }

    /// What is absent is taken away (RFC 7386).
    fn patch(&self, there: &BGPSessionStateStatus) -> Value {
        let mut wanted = self.status.clone();
        if Stage::of(&wanted) == Stage::of(there) && !matches!(Stage::of(there), Some(Stage::Up)) {
            // It is down since then, whatever was tried meanwhile.
            wanted.since.clone_from(&there.since);
        }
        let mut status = json!(wanted);
        if self.status.reason.is_none() && there.reason.is_some() {
            status["reason"] = Value::Null;
        }
        json!({"status": status})
    }
}

/// The spec that a request wrote, as it is shown: without what it took away.
fn specified(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    spec
}

/// Words of a peer may steer no terminal.
fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
pub(in crate::report) mod tests;
