//! Peers.

use serde::{Deserialize, Serialize};

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
}

/// What was configured for a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Settings {
    /// Source address of our connections; absent if the kernel chooses it.
    #[serde(default)]
    pub local_address: Option<String>,
    /// TCP port it listens on.
    pub port: u16,
    /// Whether only the peer connects.
    #[serde(default)]
    pub passive: bool,
    /// Seconds that we propose; 0 means that it never expires.
    pub hold_time_s: u16,
    /// What we believe: `declared` or `all`.
    pub import: String,
    /// What we tell: `own` or `all`.
    pub export: String,
    /// Most routes of a family that are believed.
    pub max_prefixes: usize,
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
