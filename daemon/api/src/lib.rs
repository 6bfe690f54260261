//! The words that `cambricd` and `cambric` exchange.
//!
//! Over the control socket (`/run/cambric/cambricd.sock`) go JSON lines: one [`Request`], then one
//! [`Reply`], as often as the client likes. Each reply has a numeric code in the manner of birdc (its
//! `doc/reply_codes`), and birdc's own where it has one for the matter: 0xxx done, 1xxx here is what you
//! asked for, 8xxx it cannot be done now, 9xxx not understood.
//!
//! A long listing comes in several lines, each a reply of its own; all but the last say `"more":true`. So
//! neither side need hold a table twice, and the speaker is asked for a piece at a time: a piece is of one
//! moment, the whole is not.
//!
//! Fields are only ever added. Both sides pass over fields that they do not know, and a verb that the
//! daemon does not know is answered with 9001.
//!
//! Times are whole seconds since the event, as a client has no use for the daemon's clock.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/cambric/cambricd.sock";

/// The longest line that either side reads, 64 MiB: a full listing of a large table fits.
pub const MOST_LINE_BYTES: u64 = 64 << 20;

/// What the client wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case")]
pub enum Request {
    /// The daemon as a whole.
    ShowStatus,
    /// The peers.
    ShowProtocols {
        /// Only this one, by name or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// The routing table.
    ShowRoute {
        /// Only the most specific route that holds this address.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// Only the route to this prefix.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<String>,
    },
    /// How many routes there are.
    ShowRouteCount,
    /// What peers were told, with the attributes as they were sent.
    ShowRouteExport {
        /// By name or address.
        peer: String,
    },
    /// All that peers told, before our policy, with what became of it.
    ShowRouteImport {
        /// By name or address.
        peer: String,
    },
    /// What is refused, and why.
    ShowRouteRefused {
        /// Only what this one told, by name or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<String>,
    },
    /// The interfaces of the node.
    ShowInterfaces {
        /// Only the one of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// Gateways, peers and other neighbours on the links of the node.
    ShowNeighbors {
        /// Only those on the interface of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
    },
    /// What would change if the manifests of a folder were in force; changes nothing.
    ConfigureCheck {
        /// A path as the daemon sees it; its own source unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
    },
    /// Lets a peer that was disabled come back.
    Enable {
        /// By name or address, or [`ALL`].
        peer: String,
    },
    /// Ends the session with a peer and has no other one until it is enabled.
    Disable {
        /// By name or address, or [`ALL`].
        peer: String,
    },
    /// Ends the session with a peer and connects again at once.
    Restart {
        /// By name or address, or [`ALL`].
        peer: String,
    },
}

/// Stands for every peer where one is to be named.
pub const ALL: &str = "all";

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Four digits; see the crate's head.
    pub code: u16,
    /// The listing goes on in the next line.
    #[serde(default, skip_serializing_if = "is_false")]
    pub more: bool,
    /// What the reader of a listing should know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The rest.
    #[serde(flatten)]
    pub body: Body,
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "there is one reply at a time")]
pub enum Body {
    /// 0008 to 0012: by peer.
    Actions(Vec<Action>),
    /// 0014: by family.
    RouteCounts(Vec<RouteCount>),
    /// 0020, and 8002 if there are problems.
    Check(Check),
    /// 1000
    Status(Status),
    /// 1001
    Interfaces(Vec<Interface>),
    /// 1002
    Protocols(Vec<Protocol>),
    /// 1007
    Routes(Vec<Route>),
    /// 1013
    Neighbors(Vec<Neighbor>),
    /// 8xxx and 9xxx: one sentence for the operator.
    Error(String),
}

impl Reply {
    fn new(code: u16, body: Body) -> Reply {
        Reply { code, more: false, note: None, body }
    }

    /// Code of what happened to the peers, if the same to all; 0000 otherwise.
    pub fn actions(actions: Vec<Action>) -> Reply {
        let code = actions.first().map_or(0, |first| first.outcome.code());
        let is_common = actions.iter().all(|action| action.outcome.code() == code);
        Reply::new(if is_common { code } else { 0 }, Body::Actions(actions))
    }

    /// Code 0014.
    pub fn route_counts(counts: Vec<RouteCount>) -> Reply {
        Reply::new(14, Body::RouteCounts(counts))
    }

    /// Code 0020, or 8002 if it found problems.
    pub fn check(check: Check) -> Reply {
        Reply::new(if check.problems.is_empty() { 20 } else { 8002 }, Body::Check(check))
    }

    /// Code 1000.
    pub fn status(status: Status) -> Reply {
        Reply::new(1000, Body::Status(status))
    }

    /// Code 1001.
    pub fn interfaces(interfaces: Vec<Interface>) -> Reply {
        Reply::new(1001, Body::Interfaces(interfaces))
    }

    /// Code 1002.
    pub fn protocols(protocols: Vec<Protocol>) -> Reply {
        Reply::new(1002, Body::Protocols(protocols))
    }

    /// Code 1007.
    pub fn routes(routes: Vec<Route>) -> Reply {
        Reply::new(1007, Body::Routes(routes))
    }

    /// Code 1013.
    pub fn neighbors(neighbors: Vec<Neighbor>) -> Reply {
        Reply::new(1013, Body::Neighbors(neighbors))
    }

    /// Code 8003: nothing of that name; `near` are names that may have been meant.
    pub fn no_such(what: &str, name: &str, near: &[String]) -> Reply {
        let near = match near {
            [] => String::new(),
            near => format!("; there is {}", near.join(", ")),
        };
        Reply::new(8003, Body::Error(format!("no {what} \"{name}\"{near}")))
    }

    /// Code 8004: what would have to do it stops, or has not started.
    pub fn unavailable(why: impl std::fmt::Display) -> Reply {
        Reply::new(8004, Body::Error(why.to_string()))
    }

    /// Code 8008: it was tried, and failed.
    pub fn failed(why: impl std::fmt::Display) -> Reply {
        Reply::new(8008, Body::Error(why.to_string()))
    }

    /// Code 9001: not understood.
    pub fn not_understood(why: impl std::fmt::Display) -> Reply {
        Reply::new(9001, Body::Error(why.to_string()))
    }

    /// Whether it says that something is wrong.
    pub fn is_error(&self) -> bool {
        self.code >= 8000
    }

    /// Takes in the next piece of a listing.
    ///
    /// # Errors
    /// The piece, if it is none of this listing.
    pub fn append(&mut self, next: Reply) -> Result<(), Box<Reply>> {
        match (&mut self.body, next.body) {
            (Body::Routes(routes), Body::Routes(further)) => routes.extend(further),
            (_, body) => {
                return Err(Box::new(Reply { code: next.code, more: next.more, note: next.note, body }));
            }
        }
        self.more = next.more;
        self.note = next.note.or(self.note.take());
        Ok(())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// `show status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// Names this run of the daemon: another one after a restart.
    #[serde(default)]
    pub run: String,
    /// The node it serves.
    pub node: String,
    /// BGP identifier; absent while the Node object is unknown.
    #[serde(default)]
    pub router_id: Option<String>,
    /// Our AS.
    #[serde(default)]
    pub asn: Option<u32>,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Where objects come from, as given on the command line.
    pub source: String,
    /// Whether routing is ready, that is whether pods may start.
    pub ready: bool,
    /// What it still waits for, in words; empty when ready.
    #[serde(default)]
    pub waiting_for: Vec<String>,
    /// What the operator should mend: manifests that were refused, conflicts, foreign routes.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What the operator did himself and may have forgotten: peers that are disabled.
    #[serde(default)]
    pub notices: Vec<String>,
    /// What this node announces.
    #[serde(default)]
    pub originated: Vec<String>,
    /// Peers in the state Established.
    pub peers_established: usize,
    /// Peers configured.
    pub peers_total: usize,
    /// The kernel's side, by family.
    #[serde(default)]
    pub kernel: Vec<KernelStatus>,
    /// How the kernel was kept as it should be, since the daemon started.
    #[serde(default)]
    pub keeping: Keeping,
}

/// What others did to our routes in the kernel, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Keeping {
    /// Routes, or groups if a group repaired them all, by the name of the cause.
    #[serde(default)]
    pub repairs: BTreeMap<String, u64>,
    /// How often events of the kernel were lost.
    #[serde(default)]
    pub overruns: u64,
    /// How often everything was compared with the kernel.
    #[serde(default)]
    pub checks: u64,
}

/// Routes of ours in the kernel, one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct KernelStatus {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Routes that should be there.
    pub wanted: usize,
    /// Routes that are.
    pub installed: usize,
    /// Next-hop groups in use.
    pub groups: usize,
}

/// A peer: one line of `show protocols`, one block of `show protocols all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Protocol {
    /// As configured.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its AS.
    pub asn: u32,
    /// `internal` or `external`.
    pub kind: String,
    /// State of RFC 4271: Idle, Active, Connect, OpenSent, OpenConfirm, Established.
    pub state: String,
    /// The operator has disabled it; it is Idle until it is enabled.
    #[serde(default)]
    pub disabled: bool,
    /// Seconds in that state.
    pub since_s: u64,
    /// Why the last connection or session ended, in words.
    #[serde(default)]
    pub last_error: Option<LastError>,
    /// What was agreed on; only while Established.
    #[serde(default)]
    pub session: Option<Session>,
    /// By family that is configured.
    #[serde(default)]
    pub families: Vec<FamilyCounts>,
    /// UPDATEs with a fault that the session survived (RFC 7606).
    #[serde(default)]
    pub flawed_updates: u64,
}

/// Why a connection or session ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct LastError {
    /// Seconds ago.
    pub ago_s: u64,
    /// Whose fault, and the cause.
    pub what: String,
}

/// What two speakers agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Session {
    /// The peer's BGP identifier.
    pub router_id: String,
    /// Seconds; 0 means that it never expires.
    pub hold_time_s: u16,
    /// Families both speak.
    pub families: Vec<String>,
    /// 2 or 4.
    pub as_octets: u8,
    /// Longest message, in octets.
    pub most_message_bytes: usize,
    /// Whether routes can be asked for again (RFC 2918).
    pub route_refresh: bool,
    /// The peer's graceful restart capability (RFC 4724).
    #[serde(default)]
    pub graceful_restart: Option<GracefulRestart>,
}

/// A graceful restart capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct GracefulRestart {
    /// The peer has restarted (R).
    pub restarted: bool,
    /// Seconds we keep its routes without it.
    pub restart_time_s: u16,
    /// Families it keeps over a restart.
    pub families: Vec<String>,
}

/// Numbers of a peer and family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FamilyCounts {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Routes it told.
    pub received: usize,
    /// Of these, fit for use.
    pub accepted: usize,
    /// Of these, refused by policy or limit.
    pub refused: usize,
    /// Of the refused, those that were counted and not kept, for the peer told too many: no listing has
    /// them.
    #[serde(default)]
    pub not_kept: usize,
    /// Routes it was told.
    pub sent: usize,
}

/// A prefix with its paths, the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Route {
    /// Address and length.
    pub prefix: String,
    /// At least one.
    pub paths: Vec<Path>,
}

/// One way to a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Path {
    /// Who told it; absent for our own. In a listing of what peers were told: who was told.
    #[serde(default)]
    pub peer: Option<String>,
    /// Gateway; absent for our own, unless it was told to a peer.
    #[serde(default)]
    pub next_hop: Option<String>,
    /// `best`, `multipath`, `lost` or `refused`; `sent` for what a peer was told.
    pub verdict: String,
    /// The step that it lost by, or why it was refused; by name.
    #[serde(default)]
    pub reason: Option<String>,
    /// Kept for a peer that is restarting (RFC 4724).
    #[serde(default)]
    pub stale: bool,
    /// Nearest AS first.
    #[serde(default)]
    pub as_path: Vec<u32>,
    /// IGP, EGP or incomplete.
    pub origin: String,
    /// Absent unless sent.
    #[serde(default)]
    pub local_pref: Option<u32>,
    /// Absent unless sent.
    #[serde(default)]
    pub med: Option<u32>,
    /// `asn:value`
    #[serde(default)]
    pub communities: Vec<String>,
    /// `asn:value:value`
    #[serde(default)]
    pub large_communities: Vec<String>,
}

/// An interface: one line of `show interfaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `up`; `no-carrier` if it is up and nothing is at the other end; `down`.
    pub state: String,
    /// Longest packet, in octets.
    pub mtu_bytes: u32,
    /// Ethernet address; absent if it has no such thing.
    #[serde(default)]
    pub mac: Option<String>,
    /// `uplink` if a peer is reached over it, `pod`, `loopback`, `other`.
    pub role: String,
    /// Address and length each.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Peers reached over it.
    #[serde(default)]
    pub peers: Vec<String>,
    /// Gateways on it that carry routes.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// Learned routes that leave over it.
    #[serde(default)]
    pub routes: usize,
}

/// Somebody on a link: one line of `show neighbors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Neighbor {
    /// Its address.
    pub address: String,
    /// On which link; absent if none reaches it.
    #[serde(default)]
    pub interface: Option<String>,
    /// Ethernet address, if the kernel knows one.
    #[serde(default)]
    pub mac: Option<String>,
    /// State of the kernel's entry, as `ip neighbor` calls it: REACHABLE, STALE, FAILED and the like; absent
    /// without an entry.
    #[serde(default)]
    pub state: Option<String>,
    /// The peer there.
    #[serde(default)]
    pub peer: Option<String>,
    /// State of that peer.
    #[serde(default)]
    pub session: Option<String>,
    /// Learned routes that use it as a gateway.
    #[serde(default)]
    pub routes: usize,
    /// Why it is not used as a gateway although routes name it.
    #[serde(default)]
    pub unusable: Option<String>,
}

/// `show route count`, one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct RouteCount {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Prefixes that somebody told, or we ourselves.
    pub prefixes: usize,
    /// Of these, those with a path that is used or told on.
    pub usable: usize,
    /// Paths of all prefixes.
    pub paths: usize,
    /// Of these, refused.
    pub refused: usize,
}

/// What was found in a folder of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Check {
    /// The folder.
    pub path: String,
    /// What the operator should mend.
    #[serde(default)]
    pub problems: Vec<String>,
    /// What would change, in words.
    #[serde(default)]
    pub changes: Vec<String>,
}

/// What became of one peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// Its name.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// What happened.
    pub outcome: Outcome,
}

/// What happened to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// 0008: nothing, it was so before.
    AlreadyDisabled,
    /// 0009
    Disabled,
    /// 0010: nothing, it was so before.
    AlreadyEnabled,
    /// 0011
    Enabled,
    /// 0012
    Restarted,
    /// Something that this version does not know.
    #[serde(other)]
    Other,
}

impl Outcome {
    fn code(self) -> u16 {
        match self {
            Outcome::AlreadyDisabled => 8,
            Outcome::Disabled => 9,
            Outcome::AlreadyEnabled => 10,
            Outcome::Enabled => 11,
            Outcome::Restarted => 12,
            Outcome::Other => 0,
        }
    }
}

/// Why a line could not be exchanged.
#[derive(Debug, Error)]
pub enum LineError {
    /// The socket.
    #[error("control socket: {0}")]
    Io(#[from] io::Error),
    /// The other side does not speak this protocol.
    #[error("line is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// The other side hung up.
    #[error("the other side closed the connection")]
    Closed,
    /// Over [`MOST_LINE_BYTES`].
    #[error("line is over {MOST_LINE_BYTES} octets")]
    TooLong,
}

/// Writes one line.
///
/// # Errors
/// The socket's.
pub fn write_line(to: &mut impl Write, value: &impl Serialize) -> Result<(), LineError> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(to.flush()?)
}

/// Reads one line.
///
/// # Errors
/// [`LineError`]; after [`LineError::Json`] the next line can be read.
pub fn read_line<T: for<'de> Deserialize<'de>>(from: &mut impl BufRead) -> Result<T, LineError> {
    let mut line = Vec::new();
    let read = io::Read::take(&mut *from, MOST_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Err(LineError::Closed),
        Some(b'\n') => Ok(serde_json::from_slice(&line)?),
        Some(_) if read as u64 == MOST_LINE_BYTES => Err(LineError::TooLong),
        Some(_) => Err(LineError::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies_survive_the_line() {
        let mut line = Vec::new();
        let request = Request::ShowRoute { address: Some("10.244.1.7".to_owned()), prefix: None };
        write_line(&mut line, &request).expect("vector");
        assert_eq!(line, b"{\"verb\":\"show-route\",\"for\":\"10.244.1.7\"}\n");
        assert_eq!(read_line::<Request>(&mut line.as_slice()).expect("own line"), request);

        let reply = Reply::routes(vec![Route { prefix: "::/0".to_owned(), paths: Vec::new() }]);
        let mut line = Vec::new();
        write_line(&mut line, &reply).expect("vector");
        assert_eq!(read_line::<Reply>(&mut line.as_slice()).expect("own line"), reply);
    }

    #[test]
    fn unknown_fields_are_passed_over_and_unknown_verbs_are_not() {
        let known = b"{\"verb\":\"show-status\",\"colour\":\"red\"}\n";
        assert!(read_line::<Request>(&mut known.as_slice()).is_ok());
        let unknown = b"{\"verb\":\"dance\"}\n";
        assert!(matches!(read_line::<Request>(&mut unknown.as_slice()), Err(LineError::Json(_))));
        assert!(matches!(read_line::<Request>(&mut b"".as_slice()), Err(LineError::Closed)));
        assert!(matches!(read_line::<Request>(&mut b"{}".as_slice()), Err(LineError::Closed)));
    }

    #[test]
    fn pieces_of_a_listing_make_one_and_an_error_among_them_stays_one() {
        let piece =
            |prefix: &str| Reply::routes(vec![Route { prefix: prefix.to_owned(), paths: Vec::new() }]);
        let mut listing = Reply { more: true, ..piece("10.0.0.0/24") };
        listing.append(Reply { note: Some("some more".to_owned()), ..piece("10.0.1.0/24") }).expect("routes");
        let Body::Routes(routes) = &listing.body else { panic!("{listing:?}") };
        assert_eq!(
            routes.iter().map(|route| route.prefix.as_str()).collect::<Vec<_>>(),
            ["10.0.0.0/24", "10.0.1.0/24"]
        );
        assert_eq!((listing.more, listing.note.as_deref()), (false, Some("some more")));
        let error = Reply::unavailable("gone");
        assert_eq!(listing.append(error.clone()), Err(Box::new(error)));
    }

    #[test]
    fn code_says_what_happened_to_all_peers() {
        let action = |outcome| Action { peer: "a".to_owned(), address: "10.0.0.1".to_owned(), outcome };
        let code = |outcomes: &[Outcome]| Reply::actions(outcomes.iter().map(|o| action(*o)).collect()).code;
        assert_eq!(code(&[Outcome::Disabled, Outcome::Disabled]), 9);
        assert_eq!(code(&[Outcome::Enabled, Outcome::AlreadyEnabled]), 0);
        assert_eq!(code(&[]), 0);
        let newer: Action =
            serde_json::from_str(r#"{"peer":"a","address":"::1","outcome":"painted"}"#).expect("known");
        assert_eq!(newer.outcome, Outcome::Other);
    }

    #[test]
    fn check_with_problems_is_an_error_that_says_all_it_found() {
        let check = Check { changes: vec!["peer a is new".to_owned()], ..Check::default() };
        assert_eq!(Reply::check(check.clone()).code, 20);
        let reply = Reply::check(Check { problems: vec!["a.yaml: no".to_owned()], ..check });
        assert!(reply.code == 8002 && reply.is_error(), "{reply:?}");
    }
}
