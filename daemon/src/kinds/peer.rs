//! Neighbours, and what many of them have in common.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, MOST_NAME_OCTETS, schema};

/// One neighbour: at an address, behind an interface or a gateway, or whoever calls from a range.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.address), has(self.interface), has(self.defaultGateway), has(self.listenRange)]\
             .exists_one(given, given)",
    "message": "exactly one of address, interface, defaultGateway and listenRange must be there",
}, {
    "rule": "has(self.asn) != has(self.peerAS)",
    "message": "exactly one of asn and peerAS must be there",
}, {
    "rule": "!has(self.localAddress) || !has(self.address) || !isIP(self.localAddress) || !isIP(self.address) \
             || ip(self.localAddress).family() == ip(self.address).family()",
    "message": "localAddress must be of the family of address",
}, {
    "rule": "!has(self.localAddress) || !has(self.defaultGateway) || !isIP(self.localAddress) \
             || (ip(self.localAddress).family() == 4) == (self.defaultGateway == 'ipv4')",
    "message": "localAddress must be of the family of defaultGateway",
}, {
    "rule": "!has(self.listenRange) || (!has(self.port) && !has(self.localAddress) && !has(self.localInterface))",
    "message": "port, localAddress and localInterface are for peers that are called; whoever is in a listenRange calls",
}, {
    "rule": "!has(self.interface) || (!has(self.localAddress) && !has(self.localInterface))",
    "message": "localAddress and localInterface are not used with interface",
}, {
    "rule": "!has(self.maxPeers) || has(self.listenRange)",
    "message": "maxPeers goes with listenRange",
}]))]
pub struct PeerEntry {
    /// For people, and for commands on this peer: letters, digits, '.', '_', ':' and '-'.
    #[schemars(schema_with = "schema::peer_name")]
    pub name: String,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub address: Option<String>,
    /// The interface that it is behind: unnumbered. Its link-local IPv6 address is found by router advertisements (RFC 4861),
    /// which this node sends there, too, with lifetime 0; IPv4 routes have IPv6 next hops (RFC 8950). Both families, if no
    /// peerConfig says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interface")]
    pub interface: Option<String>,
    /// It is the gateway of the node's default route of this family: of those in the main table the one with the lowest
    /// metric that Cambric has not written. The peer moves with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_gateway: Option<FamilyName>,
    /// Whoever opens a session from this range: each is a peer as long as it is there or routes are kept for it, and all
    /// are called as this entry. Own addresses and those of other peers are none of them; of ranges that overlap the
    /// longest counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::prefix")]
    pub listen_range: Option<String>,
    /// Its AS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub asn: Option<u32>,
    /// How many peers there may be at once from listenRange; 100 if absent. Whoever comes then is turned away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_RANGE_PEERS))]
    pub max_peers: Option<u32>,
    /// Its AS, where the number does not matter.
    #[serde(default, rename = "peerAS", skip_serializing_if = "Option::is_none")]
    pub peer_as: Option<PeerAs>,
    /// TCP port it listens on; 179 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Source address of our connections, of the same family; chosen by the kernel if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::address")]
    pub local_address: Option<String>,
    /// The interface that our connections leave by, and that the peer's come in by; any if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interface")]
    pub local_interface: Option<String>,
    /// Name of a BGPPeerConfig; the defaults if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MOST_NAME_OCTETS))]
    pub peer_config: Option<String>,
}

/// Most peers from one range.
pub const MOST_RANGE_PEERS: u32 = 5000;

/// Which AS a peer may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PeerAs {
    /// Any other than the node's.
    External,
    /// The node's.
    Internal,
}

/// What many neighbours have in common.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(group = "cambric.dev", version = "v1alpha1", kind = "BGPPeerConfig", plural = "bgppeerconfigs")]
#[kube(shortname = "bgppc", category = "cambric", derive = "PartialEq", status = "ConfigStatus")]
#[kube(doc = "What many neighbours have in common.")]
#[kube(printcolumn = r#"{"name":"Hold","type":"integer","jsonPath":".spec.holdTimeSeconds"}"#)]
#[kube(printcolumn = r#"{"name":"Families","type":"string","jsonPath":".spec.families"}"#)]
#[kube(printcolumn = r#"{"name":"Import","type":"string","jsonPath":".spec.import"}"#)]
#[kube(printcolumn = r#"{"name":"Export","type":"string","jsonPath":".spec.export"}"#)]
#[kube(
    printcolumn = r#"{"name":"Accepted","type":"string","jsonPath":".status.conditions[?(@.type==\"Accepted\")].status"}"#
)]
#[kube(
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#
)]
#[kube(
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#
)]
#[kube(printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.holdTimeSeconds) || self.holdTimeSeconds == 0 || self.holdTimeSeconds >= 3",
    "message": "holdTimeSeconds must be 0 or at least 3 (RFC 4271 section 4.2)",
}, {
    "rule": "!has(self.keepaliveSeconds) \
             || self.keepaliveSeconds * 3 <= (has(self.holdTimeSeconds) ? self.holdTimeSeconds : 90)",
    "message": "keepaliveSeconds must be at most a third of holdTimeSeconds (RFC 4271 section 4.4)",
}, {
    "rule": "!has(self.ttlSecurity) || !has(self.multihop)",
    "message": "ttlSecurity and multihop exclude each other",
}, {
    "rule": "!has(self.bfd) || !has(self.multihop)",
    "message": "bfd is for a peer on a link (RFC 5881), and excludes multihop",
}, {
    "rule": "!has(self.reflectorClient) || self.reflectorClient != 'Enabled' \
             || (!has(self.localAS) && !has(self.localRole) \
                 && (!has(self.asOverride) || self.asOverride != 'Enabled'))",
    "message": "a client of a reflector is internal; localAS, asOverride and localRole are for external peers",
}, {
    "rule": "!has(self.strictRole) || self.strictRole != 'Enabled' || has(self.localRole)",
    "message": "strictRole goes with localRole",
}]))]
pub struct BGPPeerConfigSpec {
    /// 0, or 3 to 65535; 90 if absent (RFC 4271 section 10).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_time_seconds: Option<u16>,
    /// At least 1 and at most a third of the hold time; a third if absent (RFC 4271 section 4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub keepalive_seconds: Option<u16>,
    /// What the session carries; the family of the peer's address if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "set"))]
    pub families: Option<Vec<FamilyName>>,
    /// Who opens the TCP connection.
    #[serde(default)]
    pub connect: Connect,
    /// What the peer may tell us.
    #[serde(default)]
    pub import: ImportPolicy,
    /// What it is told.
    #[serde(default)]
    pub export: ExportPolicy,
    /// Most routes accepted of a family; 20000 if absent. Further ones are refused, the session stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub max_prefixes: Option<u32>,
    /// At how many percent of these a warning is logged; 80 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub max_prefixes_warn_percent: Option<u8>,
    /// Filters for what the peer tells and is told, by family. If one is missing, no peer has this configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["family"]))]
    pub filters: Option<Vec<FamilyFilters>>,
    /// The key of TCP MD5 signatures (RFC 2385); none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKey>,
    /// Packets of the peer must have come over few hops (RFC 5082). The peer needs the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<TtlSecurity>,
    /// An external peer is not on a link of the node. An internal one need not be, without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multihop: Option<Multihop>,
    /// Fast detection of lost paths, and the end of the session when one is lost (RFC 5880, RFC 5882); off if absent. Not with
    /// `multihop`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// What is agreed on for restarts (RFC 4724); 120 s, and an hour beyond that, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<GracefulRestart>,
    /// AS that the node has towards this external peer, as while a network changes its AS (RFC 7705); its own if absent.
    #[serde(default, rename = "localAS", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = u32::MAX))]
    pub local_as: Option<u32>,
    /// Whether the AS of this external peer is replaced by ours in the paths that it is told: sites of one AS behind this
    /// node take each other's routes then.
    #[serde(default)]
    pub as_override: Feature,
    /// How often our own AS may be in a path that the peer tells; 0 if absent: such a path is a loop (RFC 4271 section 9).
    #[serde(default, rename = "allowOwnAS", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_OWN_AS))]
    pub allow_own_as: Option<u8>,
    /// Whether this internal peer is a client of ours, as of a route reflector: it is told what other internal peers
    /// tell, and they what it tells (RFC 4456).
    #[serde(default)]
    pub reflector_client: Feature,
    /// Several paths to a prefix (RFC 7911), by family; one each way if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["family"]))]
    pub add_path: Option<Vec<FamilyAddPath>>,
    /// What the node is to this external peer (RFC 9234): routes that it should not pass on are held back or refused by
    /// that. The peer must say the other half of it, if it says anything; no role if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_role: Option<LocalRole>,
    /// Whether a peer that says no role has no session.
    #[serde(default)]
    pub strict_role: Feature,
}

/// Several paths to the prefixes of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FamilyAddPath {
    /// Of this family.
    pub family: FamilyName,
    /// Whether the peer may tell several.
    #[serde(default)]
    pub receive: Feature,
    /// How many the peer is told at most, the best ones; one, and without an identifier, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MOST_PATHS))]
    pub send_paths: Option<u8>,
}

/// Most paths to a prefix that a peer is told.
pub const MOST_PATHS: u8 = 64;

/// What a node is to an external peer (RFC 9234 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LocalRole {
    /// The peer is our customer.
    Provider,
    /// The peer is our client.
    RouteServer,
    /// The peer is our route server.
    RouteServerClient,
    /// The peer is our provider.
    Customer,
    /// The peer is beside us.
    Peer,
}

/// Most times our own AS may be in a path.
pub const MOST_OWN_AS: u8 = 10;

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Feature {
    /// It is not.
    #[default]
    Disabled,
    /// It is.
    Enabled,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum FamilyName {
    /// IPv4 unicast.
    #[default]
    #[serde(rename = "ipv4")]
    Ipv4,
    /// IPv6 unicast.
    #[serde(rename = "ipv6")]
    Ipv6,
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Connect {
    /// Whoever is first.
    #[default]
    Both,
    /// The peer: we only listen.
    Passive,
    /// We: connections of the peer are turned away.
    Active,
}

/// What a peer may tell us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ImportPolicy {
    /// What the cluster declares.
    #[default]
    Declared,
    /// Everything that is sound.
    All,
}

/// What a peer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum ExportPolicy {
    /// Our own prefixes; an internal peer also what external peers told us.
    #[default]
    Own,
    /// Every best path.
    All,
}

/// Filters of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FamilyFilters {
    /// Of this family.
    pub family: FamilyName,
    /// Names of BGPFilters that what the peer tells goes through, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names")]
    pub import: Vec<String>,
    /// Names of BGPFilters that what the peer is told goes through, one after another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names")]
    pub export: Vec<String>,
}

/// A key in a Secret of the namespace that the daemon runs in; in a folder, of `cambric-system` or of no namespace. It has
/// 1 to 80 octets, all of which count: a line feed at its end, too.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKey {
    /// Name of the Secret. Without it there is no session: never an empty password, and never none.
    #[schemars(length(min = 1, max = MOST_NAME_OCTETS))]
    pub name: String,
    /// Which of its entries; `password` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MOST_NAME_OCTETS))]
    pub key: Option<String>,
}

/// How far away the peer may be (RFC 5082).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TtlSecurity {
    /// 1 for a neighbour on a link.
    #[schemars(range(min = 1, max = 254))]
    pub hops: u8,
}

/// How far away an external peer may be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Multihop {
    /// TTL of our packets.
    #[schemars(range(min = 2, max = 255))]
    pub ttl: u8,
}

/// A session of BFD beside that of BGP; single hop, asynchronous (RFC 5881).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bfd {
    /// Between two of our packets, if the peer can receive that; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 60000))]
    pub transmit_milliseconds: Option<u32>,
    /// Between two packets of the peer, at least; 300 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 60000))]
    pub receive_milliseconds: Option<u32>,
    /// How many of our packets the peer may miss; 3 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 255))]
    pub multiplier: Option<u8>,
}

/// How long routes are kept while one side restarts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GracefulRestart {
    /// How long the peer waits for us; 120 if absent (RFC 4724 section 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4095))]
    pub restart_seconds: Option<u16>,
    /// How long stale routes are kept beyond that as a last resort (RFC 9494 section 3); 3600 if absent, 0 for not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 0x00FF_FFFF))]
    pub long_lived_seconds: Option<u32>,
}
