//! Schemas of values that Rust's types do not tell apart from any other text.
//!
//! The rules are in Kubernetes' dialect of CEL, with its functions on addresses (Kubernetes 1.32: 1.31 has them and takes
//! what `masked()` costs for unbounded). They say what [`values`](crate::values) says; `crds` tests that both agree.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{
    BmpStation, MOST_INTERFACE_OCTETS, MOST_LABEL_NAME_OCTETS, MOST_LABEL_OCTETS, MOST_LABELS,
    MOST_LIST_ITEMS, MOST_NAME_OCTETS, MOST_PEER_NAME_OCTETS, MOST_STATIONS, PeerEntry,
};

/// The longest text of an IPv6 address: the last 32 bits may be written as an IPv4 address.
const ADDRESS_LENGTH: usize = 45;
/// Of a prefix.
const PREFIX_LENGTH: usize = ADDRESS_LENGTH + 4;
/// Most entries of a list inside a rule of a filter, or the like.
const MOST_INNER_ITEMS: usize = 64;

/// An address that a router can be talked to at.
pub(super) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": ADDRESS_LENGTH,
        "x-kubernetes-validations": [{
            "rule": "isIP(self) && ip.isCanonical(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() \
                     || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))",
            "message": "must be the IP address of a router, as RFC 5952 writes it; a peer with a link-local one is named by its interface",
        }],
    })
}

/// Addresses of one node, at which others reach it.
pub(super) fn own_addresses(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 2,
        "items": {
            "type": "string",
            "maxLength": ADDRESS_LENGTH,
            "x-kubernetes-validations": [{
                "rule": "isIP(self) && ip.isCanonical(self) && ip(self).isGlobalUnicast()",
                "message": "must be the IP address of one node, as RFC 5952 writes it; no loopback or link-local address",
            }],
        },
        "x-kubernetes-validations": [{
            "rule": "self.size() < 2 || !isIP(self[0]) || !isIP(self[1]) || ip(self[0]).family() != ip(self[1]).family()",
            "message": "one address of each family",
        }],
    })
}

/// Neighbours, each under a name of its own, no two of which are one.
pub(super) fn peers(generator: &mut SchemaGenerator) -> Schema {
    let no_two_have_one = |field: &str| {
        json!({
            "rule": format!("self.all(one, !has(one.{field}) \
                             || self.exists_one(other, has(other.{field}) && other.{field} == one.{field}))"),
            "message": format!("no two peers may have one {field}"),
        })
    };
    let rules = ["address", "listenRange", "defaultGateway"].map(no_two_have_one);
    json_schema!({
        "type": "array",
        "maxItems": MOST_LIST_ITEMS,
        "items": generator.subschema_for::<PeerEntry>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-validations": rules,
    })
}

/// Stations of a node.
pub(super) fn stations(generator: &mut SchemaGenerator) -> Schema {
    let rule = "self.all(one, self.exists_one(other, other.address == one.address \
                && (has(other.port) ? other.port : 11019) == (has(one.port) ? one.port : 11019)))";
    json_schema!({
        "type": "array",
        "maxItems": MOST_STATIONS,
        "items": generator.subschema_for::<BmpStation>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "x-kubernetes-validations": [{
            "rule": rule,
            "message": "no two stations may have one address and port",
        }],
    })
}

/// A name that can be typed, and is taken for nothing else.
pub(super) fn peer_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MOST_PEER_NAME_OCTETS,
        "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        "x-kubernetes-validations": [{
            "rule": "!isIP(self) && self != 'all'",
            "message": "must be no IP address, and not \"all\"",
        }],
    })
}

/// Peers that are referred to. One of a mesh is called as its Node.
pub(super) fn peer_names(_: &mut SchemaGenerator) -> Schema {
    list_of(json!({"type": "string", "minLength": 1, "maxLength": MOST_NAME_OCTETS}))
}

/// Objects that are referred to, in an order.
pub(super) fn object_names(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "items": {"type": "string", "minLength": 1, "maxLength": MOST_NAME_OCTETS},
    })
}

/// A BGP identifier.
pub(super) fn router_id(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 15,
        "x-kubernetes-validations": [{
            "rule": "isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",
            "message": "must be of the form a.b.c.d, and not 0.0.0.0 (RFC 6286 section 2.1)",
        }],
    })
}

/// A network interface. The kernel takes no slash, colon or space (`dev_valid_name`, net/core/dev.c).
pub(super) fn interface(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MOST_INTERFACE_OCTETS,
        "pattern": INTERFACE_PATTERN,
    })
}

/// Not the names of folders, either.
const INTERFACE_PATTERN: &str = "^[A-Za-z0-9_.@+-]*[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*$";

/// Labels that something must have.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": MOST_LABELS,
        "additionalProperties": {"type": "string", "maxLength": MOST_LABEL_OCTETS},
    })
}

/// The name of a label, with or without a prefix.
pub(super) fn label_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": MOST_LABEL_NAME_OCTETS,
        "pattern": "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
    })
}

/// Ranges of addresses.
pub(super) fn prefixes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "array", "maxItems": MOST_LIST_ITEMS, "items": one_prefix()})
}

/// Ranges of addresses, at least one.
pub(super) fn some_prefixes(_: &mut SchemaGenerator) -> Schema {
    list_of(one_prefix())
}

/// A range of addresses.
pub(super) fn prefix(_: &mut SchemaGenerator) -> Schema {
    Schema::try_from(one_prefix()).unwrap_or_default()
}

fn one_prefix() -> Value {
    json!({
        "type": "string",
        "format": "cidr",
        "maxLength": PREFIX_LENGTH,
        "x-kubernetes-validations": [{
            "rule": "isCIDR(self) && cidr(self).prefixLength() > 0 && cidr(self) == cidr(self).masked()",
            "message": "must be address/length without host bits, and not every address",
        }],
    })
}

/// A prefix, the default route among them.
pub(super) fn any_prefix(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "format": "cidr",
        "maxLength": PREFIX_LENGTH,
        "x-kubernetes-validations": [{
            "rule": "isCIDR(self) && cidr(self) == cidr(self).masked()",
            "message": "must be address/length without host bits",
        }],
    })
}

/// A pattern over AS paths. Whether brackets close and the like, the daemon says.
pub(super) fn as_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 256,
        "pattern": r"^[0-9 _^$.*+?|()\[\]{},:-]+$",
    })
}

/// Communities (RFC 1997).
pub(super) fn communities(_: &mut SchemaGenerator) -> Schema {
    list_of(json!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^([0-9]{1,5}:[0-9]{1,5}|graceful-shutdown|no-export|no-advertise|no-export-subconfed|no-peer)$",
    }))
}

/// Large communities (RFC 8092).
pub(super) fn large_communities(_: &mut SchemaGenerator) -> Schema {
    list_of(json!({
        "type": "string",
        "maxLength": 32,
        "pattern": "^[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$",
    }))
}

fn list_of(item: Value) -> Schema {
    json_schema!({"type": "array", "minItems": 1, "maxItems": MOST_INNER_ITEMS, "items": item})
}

/// A moment (RFC 3339).
pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "maxLength": 40})
}

/// As `metav1.Condition` has it.
pub(super) fn condition_type(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": 316,
        "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
    })
}

/// As `metav1.Condition` has it.
pub(super) fn condition_reason(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": 1024,
        "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
    })
}
