//! Commands, attributes, errors and types of ipset, as the kernel numbers and names them.
//!
//! linux/netfilter/ipset/ip_set.h; the types are in net/netfilter/ipset/ip_set_hash_*.c.

use crate::program::SetKind;

const SUBSYSTEM: u16 = 6 << 8;
pub(super) const CREATE: u16 = SUBSYSTEM | 2;
pub(super) const DESTROY: u16 = SUBSYSTEM | 3;
pub(super) const LIST: u16 = SUBSYSTEM | 7;
pub(super) const ADD: u16 = SUBSYSTEM | 9;
pub(super) const DEL: u16 = SUBSYSTEM | 10;
pub(super) const TYPE: u16 = SUBSYSTEM | 13;
pub(super) const GET_BYNAME: u16 = SUBSYSTEM | 14;
pub(super) const GET_BYINDEX: u16 = SUBSYSTEM | 15;

/// IPSET_PROTOCOL: the kernel speaks 7 since 4.20.
pub(super) const PROTOCOL_VERSION: u8 = 7;
/// IPSET_FLAG_LIST_SETNAME: names only.
pub(super) const NAMES_ONLY: u32 = 1 << 1;
/// IPSET_FLAG_LIST_HEADER: no members.
pub(super) const HEADERS_ONLY: u32 = 1 << 2;

/// IPSET_ATTR_*, of a command.
pub(super) mod command {
    pub(in crate::kernel) const PROTOCOL: u16 = 1;
    pub(in crate::kernel) const SETNAME: u16 = 2;
    pub(in crate::kernel) const TYPENAME: u16 = 3;
    pub(in crate::kernel) const REVISION: u16 = 4;
    pub(in crate::kernel) const FAMILY: u16 = 5;
    pub(in crate::kernel) const FLAGS: u16 = 6;
    pub(in crate::kernel) const DATA: u16 = 7;
    pub(in crate::kernel) const ADT: u16 = 8;
    pub(in crate::kernel) const LINENO: u16 = 9;
    pub(in crate::kernel) const INDEX: u16 = 11;
}

/// IPSET_ATTR_*, of a set or a member.
pub(super) mod data {
    pub(in crate::kernel) const IP: u16 = 1;
    pub(in crate::kernel) const CIDR: u16 = 3;
    pub(in crate::kernel) const PORT: u16 = 4;
    pub(in crate::kernel) const PROTO: u16 = 7;
    pub(in crate::kernel) const FLAGS: u16 = 8;
    pub(in crate::kernel) const LINENO: u16 = 9;
    pub(in crate::kernel) const HASHSIZE: u16 = 18;
    pub(in crate::kernel) const MAXELEM: u16 = 19;
    pub(in crate::kernel) const IFACE: u16 = 23;
    pub(in crate::kernel) const ELEMENTS: u16 = 24;
    pub(in crate::kernel) const IPADDR_IPV4: u16 = 1;
    pub(in crate::kernel) const IPADDR_IPV6: u16 = 2;
}

/// Numbers of errors that only ipset has (enum ipset_errno).
pub(super) mod errno {
    pub(in crate::kernel) const PROTOCOL: i32 = 4097;
    pub(in crate::kernel) const FIND_TYPE: i32 = 4098;
    pub(in crate::kernel) const MAX_SETS: i32 = 4099;
    pub(in crate::kernel) const BUSY: i32 = 4100;
    pub(in crate::kernel) const INVALID_CIDR: i32 = 4104;
    pub(in crate::kernel) const NOT_IPV4: i32 = 4109;
    pub(in crate::kernel) const NOT_IPV6: i32 = 4110;
    pub(in crate::kernel) const HASH_FULL: i32 = 4352;
}

/// What an error of ipset means.
pub(in crate::kernel) fn words(number: i32) -> String {
    match number {
        errno::PROTOCOL => "it is not of the set's kind".to_owned(),
        errno::FIND_TYPE => "the kernel lacks the type of the set".to_owned(),
        errno::MAX_SETS => "the kernel holds as many sets as it can".to_owned(),
        errno::BUSY => "the set is in use".to_owned(),
        errno::INVALID_CIDR => "the kernel takes no prefix of this length".to_owned(),
        errno::HASH_FULL => "the set is full".to_owned(),
        4096.. => format!("error {number} of ipset"),
        _ => std::io::Error::from_raw_os_error(number).to_string(),
    }
}

/// A type of sets.
pub(super) struct Type {
    pub(super) name: &'static str,
    /// The newest revision whose create and add we know.
    pub(super) known: u8,
    /// What has to be in the kernel's configuration.
    pub(super) option: &'static str,
}

pub(super) fn type_of(kind: SetKind) -> Type {
    match kind {
        SetKind::Addresses => Type { name: "hash:ip", known: 6, option: "CONFIG_IP_SET_HASH_IP" },
        SetKind::Networks => Type { name: "hash:net", known: 7, option: "CONFIG_IP_SET_HASH_NET" },
        SetKind::AddressPorts => Type { name: "hash:ip,port", known: 7, option: "CONFIG_IP_SET_HASH_IPPORT" },
        SetKind::Owners => Type { name: "hash:net,iface", known: 8, option: "CONFIG_IP_SET_HASH_NETIFACE" },
    }
}

pub(super) const KINDS: [SetKind; 4] =
    [SetKind::Addresses, SetKind::Networks, SetKind::AddressPorts, SetKind::Owners];
