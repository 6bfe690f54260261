//! Peers.

use serde::{Deserialize, Serialize};

/// A peer: one line of `show protocols`, one block of `show protocols all`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Protocol {
    /// As configured.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Its AS; 0 before it has announced one, where any that is external will do.
    pub asn: u32,
    /// `internal` or `external`.
    pub kind: String,
    /// Why it is a peer: `address`, `node n2 of the mesh`, `default gateway of ipv4`, `called from 10.1.0.0/16`.
    #[serde(default)]
    pub found: String,
    /// What was configured.
    #[serde(default)]
    pub settings: Option<Settings>,
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
    /// What was wrong with the last of these, and what was done.
    #[serde(default)]
    pub last_flaw: Option<LastError>,
    /// Routes that are kept for it and that it has not told in this session, by family.
    #[serde(default)]
    pub stale: Vec<Stale>,
    /// Its session of BFD, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
}

/// A session of BFD (RFC 5880).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Bfd {
    /// AdminDown, Down, Init, Up.
    pub state: String,
    /// Seconds in that state.
    pub since_s: u64,
    /// What the peer said last; absent while nothing is heard of it.
    #[serde(default)]
    pub remote: Option<BfdRemote>,
    /// Milliseconds between two of our packets, before jitter; absent while we send none.
    #[serde(default)]
    pub transmit_ms: Option<u64>,
    /// Milliseconds without a packet after which the path is lost; absent while nothing is heard.
    #[serde(default)]
    pub detection_ms: Option<u64>,
    /// How often it came up.
    pub ups: u64,
    /// How often it was lost after that.
    pub downs: u64,
    /// How it was lost last.
    #[serde(default)]
    pub last_down: Option<LastError>,
}

/// What a peer says of its session of BFD.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct BfdRemote {
    /// Its state.
    pub state: String,
    /// Why that changed last.
    pub diagnostic: String,
    /// Whether its BFD goes on while its control plane does not (C).
    pub control_plane_independent: bool,
    /// How often it would send, in milliseconds.
    pub transmit_ms: u64,
    /// How often it can receive, in milliseconds.
    pub receive_ms: u64,
    /// How many of its packets we may miss.
    pub multiplier: u8,
}

/// Routes that are kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Stale {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// How many.
    pub routes: usize,
    /// `away`: it is; `back`: it is, and has not told all; `long-lived`: they are the last resort (RFC 9494).
    pub why: String,
    /// Seconds until they go.
    pub left_s: u64,
}

/// What was configured for a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Settings {
    /// Its AS: a number, `external` or `internal`.
    #[serde(default)]
    pub asn: String,
    /// Source address of our connections; absent if the kernel chooses it.
    #[serde(default)]
    pub local_address: Option<String>,
    /// Interface of the session; absent if any will do.
    #[serde(default)]
    pub local_interface: Option<String>,
    /// TCP port it listens on.
    pub port: u16,
    /// Whether only the peer connects.
    #[serde(default)]
    pub passive: bool,
    /// Whether only we connect.
    #[serde(default)]
    pub active: bool,
    /// How far away it may be: `adjacent`, `ttl-security` or `multihop`.
    #[serde(default)]
    pub distance: String,
    /// Over how many hops its packets may come with `ttl-security`; the TTL of ours with `multihop`.
    #[serde(default)]
    pub hops: Option<u8>,
    /// Whether connections are signed (TCP MD5, RFC 2385). The key is never told.
    #[serde(default)]
    pub md5: bool,
    /// Our AS towards it, if it is not the node's.
    #[serde(default)]
    pub local_asn: Option<u32>,
    /// Whether its AS is replaced by ours in the paths that it is told.
    #[serde(default)]
    pub as_override: bool,
    /// How often our AS may be in a path that it tells.
    #[serde(default)]
    pub own_as: u8,
    /// Whether it is a client of ours as a route reflector (RFC 4456).
    #[serde(default)]
    pub reflector_client: bool,
    /// Seconds that we propose; 0 means that it never expires.
    pub hold_time_s: u16,
    /// What we believe: `declared` or `all`.
    pub import: String,
    /// What we tell: `own` or `all`.
    pub export: String,
    /// Most routes of a family that are believed.
    pub max_prefixes: usize,
    /// Seconds that it shall keep our routes; absent: the default.
    #[serde(default)]
    pub restart_time_s: Option<u64>,
    /// Seconds beyond that, as a last resort; 0: not at all.
    #[serde(default)]
    pub long_lived_s: Option<u64>,
    /// Where there may be several paths to a prefix (RFC 7911).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_path: Vec<AddPath>,
    /// What we are to it (RFC 9234): `provider`, `route server`, `route server client`, `customer` or `peer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_role: Option<String>,
    /// Whether it has no session if it says no role.
    #[serde(default)]
    pub strict_role: bool,
    /// At how many percent of these a warning is logged; 0 if an older daemon does not say it.
    #[serde(default)]
    pub warn_at_percent: u8,
    /// Filters that routes of a family go through, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<FamilyFilters>,
}

/// Several paths to the prefixes of one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct AddPath {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Whether it may tell several.
    #[serde(default)]
    pub receive: bool,
    /// How many it is told at most; absent: one, without an identifier.
    #[serde(default)]
    pub send: Option<u8>,
}

/// Names of filters, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct FamilyFilters {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// For what the peer tells.
    #[serde(default)]
    pub import: Vec<String>,
    /// For what it is told.
    #[serde(default)]
    pub export: Vec<String>,
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
    /// Milliseconds between two of our KEEPALIVEs; absent if none are sent.
    #[serde(default)]
    pub keepalive_ms: Option<u64>,
    /// Families both speak.
    pub families: Vec<String>,
    /// 2 or 4.
    pub as_octets: u8,
    /// Longest message, in octets.
    pub most_message_bytes: usize,
    /// Whether routes can be asked for again (RFC 2918).
    pub route_refresh: bool,
    /// Whether what is told again is framed (RFC 7313).
    #[serde(default)]
    pub enhanced_refresh: bool,
    /// Whether routes outlive a NOTIFICATION that is no Hard Reset (RFC 8538).
    #[serde(default)]
    pub graceful_notification: bool,
    /// Seconds that its routes are kept beyond its restart time, if both speak RFC 9494.
    #[serde(default)]
    pub long_lived_s: Option<u64>,
    /// Families of which it may tell several paths to a prefix, by agreement (RFC 7911).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub several_received: Vec<String>,
    /// Families of which it is told several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub several_sent: Vec<String>,
    /// Our capabilities, in words.
    #[serde(default)]
    pub we_offered: Vec<String>,
    /// The peer's capabilities, in words.
    #[serde(default)]
    pub it_offered: Vec<String>,
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
    /// How many there may be of these, that is `max_prefixes` of the settings; 0 if an older daemon does not say it.
    #[serde(default)]
    pub limit: usize,
    /// Of these, refused by policy or limit.
    pub refused: usize,
    /// Of the refused, those that were counted and not kept, for the peer told too many: no listing has
    /// them.
    #[serde(default)]
    pub not_kept: usize,
    /// Routes it was told.
    pub sent: usize,
}
