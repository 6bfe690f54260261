//! Schemas of values that Rust's types do not tell apart from any other text.
//!
//! The rules are in Kubernetes' dialect of CEL, with its functions on addresses (Kubernetes 1.31). They say
//! what [`values`](crate::values) says; `crds` tests that both agree.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{MOST_LIST_ITEMS, MOST_PEER_NAME_OCTETS};

/// The longest text of an IPv6 address: the last 32 bits may be written as an IPv4 address.
const ADDRESS_LENGTH: usize = 45;

/// An address that a router can be talked to at.
pub(super) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": ADDRESS_LENGTH,
        "x-kubernetes-validations": [{
            "rule": "isIP(self) && ip.isCanonical(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() \
                     || (ip(self).family() == 4 && ip(self).isLinkLocalUnicast()))",
            "message": "must be the IP address of a router, as RFC 5952 writes it; IPv6 link-local addresses are not served yet",
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

/// Ranges of addresses.
pub(super) fn prefixes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MOST_LIST_ITEMS,
        "items": {
            "type": "string",
            "format": "cidr",
            "maxLength": ADDRESS_LENGTH + 4,
            "x-kubernetes-validations": [{
                "rule": "isCIDR(self) && cidr(self).prefixLength() > 0 && cidr(self) == cidr(self).masked()",
                "message": "must be address/length without host bits, and not every address",
            }],
        },
    })
}
