//! The words that `cambricd` and `cambric` exchange.
//!
//! Over the control socket (`/run/cambric/cambricd.sock`) go JSON lines: one [`Request`], then one
//! [`Reply`], as often as the client likes. Each reply has a numeric code in the manner of birdc:
//! 0xxx done, 1xxx here is what you asked for, 8xxx it cannot be done now, 9xxx not understood.
//!
//! Fields are only ever added. Both sides pass over fields that they do not know, and a verb that the
//! daemon does not know is answered with 9001.
//!
//! Times are whole seconds since the event, as a client has no use for the daemon's clock.
#![forbid(unsafe_code)]

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
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Four digits; see the crate's head.
    pub code: u16,
    /// The rest.
    #[serde(flatten)]
    pub body: Body,
}

/// What an answer holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "there is one reply at a time")]
pub enum Body {
    /// 1000
    Status(Status),
    /// 1002
    Protocols(Vec<Protocol>),
    /// 1007
    Routes(Vec<Route>),
    /// 8xxx and 9xxx: one sentence for the operator.
    Error(String),
}

impl Reply {
    /// Code 1000.
    pub fn status(status: Status) -> Reply {
        Reply { code: 1000, body: Body::Status(status) }
    }

    /// Code 1002.
    pub fn protocols(protocols: Vec<Protocol>) -> Reply {
        Reply { code: 1002, body: Body::Protocols(protocols) }
    }

    /// Code 1007.
    pub fn routes(routes: Vec<Route>) -> Reply {
        Reply { code: 1007, body: Body::Routes(routes) }
    }

    /// Code 8003: nothing of that name.
    pub fn no_such(what: &str, name: &str) -> Reply {
        Reply { code: 8003, body: Body::Error(format!("no {what} \"{name}\"")) }
    }

    /// Code 9001: not understood.
    pub fn not_understood(why: impl std::fmt::Display) -> Reply {
        Reply { code: 9001, body: Body::Error(why.to_string()) }
    }
}

/// `show status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
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
    /// Who told it; absent for our own.
    #[serde(default)]
    pub peer: Option<String>,
    /// Gateway; absent for our own.
    #[serde(default)]
    pub next_hop: Option<String>,
    /// `best`, `multipath`, `lost` or `refused`.
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
        let request = Request::ShowRoute { address: Some("10.244.1.7".to_owned()) };
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
}
