//! Links, and who is on them.

use serde::{Deserialize, Serialize};

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
