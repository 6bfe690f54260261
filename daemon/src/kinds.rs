//! Our own kinds, group `cambric.dev/v1alpha1`, all cluster-scoped.
//!
//! Addresses and prefixes are text here: [`values`](crate::values) reads them, so that an error can name object,
//! field and value. A field that these types do not have is refused by name and never passed over: whoever
//! writes it expects it to do something.
//!
//! The types carry their schemas: `deploy/crds` is made from them (see [`crds`](crate::crds)). Lists, maps and texts
//! in them have bounds: an API server estimates what the rules over them cost, and refuses a kind without.

mod advertisement;
mod cluster;
mod filter;
mod monitoring;
mod node_override;
mod peer;
mod schema;
mod session_state;
mod status;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::advertisement::{
    Advertised, AdvertisedKind, BGPAdvertisement, BGPAdvertisementSpec, RouteAttributes, ServiceAddress,
};
pub use self::cluster::{BGPClusterConfig, BGPClusterConfigSpec, Mesh, NodeAddress, NodeAddressFrom};
pub use self::filter::{
    BGPFilter, BGPFilterSpec, FilterAction, FilterChange, FilterMatch, FilterPrefix, FilterRule, RouteSource,
};
pub use self::monitoring::{BmpStation, BmpTable, MOST_STATIONS};
pub use self::node_override::{BGPNodeOverride, BGPNodeOverrideSpec};
pub use self::peer::{
    BGPPeerConfig, BGPPeerConfigSpec, Bfd, Connect, ExportPolicy, FamilyAddPath, FamilyFilters, FamilyName,
    Feature, GracefulRestart, ImportPolicy, LocalRole, MOST_OWN_AS, MOST_PATHS, MOST_RANGE_PEERS, Multihop,
    PeerAs, PeerEntry, SecretKey, TtlSecurity,
};
pub use self::session_state::{BGPSessionState, BGPSessionStateSpec, BGPSessionStateStatus, SessionPhase};
pub use self::status::{Condition, ConditionStatus, ConfigStatus};

/// The group of all our kinds.
pub const GROUP: &str = "cambric.dev";
/// The group and version of all our kinds.
pub const API_VERSION: &str = "cambric.dev/v1alpha1";
/// Most entries of a list: the API server wants to know what a rule over all of them costs.
pub const MOST_LIST_ITEMS: usize = 256;
/// Most labels that a selector asks for.
pub const MOST_LABELS: usize = 64;
/// The longest value of a label.
pub const MOST_LABEL_OCTETS: usize = 63;
/// The longest name of a label, with its prefix.
pub const MOST_LABEL_NAME_OCTETS: usize = 317;
/// The longest name of an object.
pub const MOST_NAME_OCTETS: usize = 253;
/// The longest name of a peer.
pub const MOST_PEER_NAME_OCTETS: usize = 63;
/// The longest name of a network interface (`IFNAMSIZ` with its NUL, include/uapi/linux/if.h).
pub const MOST_INTERFACE_OCTETS: usize = 15;

/// Which nodes; as the `matchLabels` of a Kubernetes label selector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSelector {
    /// A node must have all of these; without any, all nodes are meant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::labels")]
    pub match_labels: BTreeMap<String, String>,
}
