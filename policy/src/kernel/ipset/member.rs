//! Members of sets: as attributes of ipset, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::protocol::{data, errno, words};
use crate::kernel::Damaged;
use crate::kernel::message::{Attributes, NETWORK_ORDER, Value, Writer};
use crate::program::{Family, Member, Protocol, SetKind};

/// Why the kernel, or we before it, refused a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The set holds as many as it may.
    #[error("the set is full")]
    Full,
    /// hash:net takes no prefix of length 0.
    #[error("a prefix of this length cannot be a member: 1 to 32 or 128 is asked for")]
    PrefixLength,
    /// It is not of the set's family.
    #[error("it is not of the set's address family")]
    Family,
    /// The name of an interface has 1 to 15 bytes.
    #[error("the name of an interface has 1 to 15 bytes")]
    InterfaceName,
    /// The kernel's number.
    #[error("{}", words(*.0))]
    Errno(i32),
}

impl Reason {
    /// What a number means that the kernel refused a member with.
    pub(super) fn of(number: i32) -> Reason {
        match number {
            errno::HASH_FULL => Reason::Full,
            errno::INVALID_CIDR => Reason::PrefixLength,
            errno::NOT_IPV4 | errno::NOT_IPV6 => Reason::Family,
            number => Reason::Errno(number),
        }
    }
}

/// Whether a set of this family can hold it.
pub(super) fn check(family: Family, member: &Member) -> Result<(), Reason> {
    let (address, wrong) = match member {
        Member::Address(address) | Member::AddressPort(address, ..) => (address, None),
        Member::Network(address, length) => {
            let most = if address.is_ipv4() { 32 } else { 128 };
            (address, (!(1..=most).contains(length)).then_some(Reason::PrefixLength))
        }
        Member::Owner(address, veth) => {
            let sound = (1..=15).contains(&veth.len()) && !veth.as_bytes().contains(&0);
            (address, (!sound).then_some(Reason::InterfaceName))
        }
    };
    if Family::of(*address) != family { Err(Reason::Family) } else { wrong.map_or(Ok(()), Err) }
}

/// Writes one as the kernel wants it.
pub(super) fn write_member(data: &mut Writer, member: &Member) {
    match member {
        Member::Address(address) => write_address(data, *address),
        Member::Network(address, length) => {
            write_address(data, *address);
            data.u8(data::CIDR, *length);
        }
        Member::AddressPort(address, protocol, port) => {
            write_address(data, *address);
            data.u8(data::PROTO, protocol.number());
            data.ordered(data::PORT, &port.to_be_bytes());
        }
        Member::Owner(address, veth) => {
            write_address(data, *address);
            data.u8(data::CIDR, if address.is_ipv4() { 32 } else { 128 });
            data.text(data::IFACE, veth);
        }
    }
}

fn write_address(data: &mut Writer, address: IpAddr) {
    data.nested(data::IP, |ip| match address {
        IpAddr::V4(address) => ip.ordered(data::IPADDR_IPV4, &address.octets()),
        IpAddr::V6(address) => ip.ordered(data::IPADDR_IPV6, &address.octets()),
    });
}

/// A member. `None`: it is one that we never write: with a flag (`nomatch`, `wildcard`, `physdev`), of another protocol or
/// of another length.
pub(super) fn read_member(
    family: Family,
    kind: SetKind,
    data: Attributes<'_>,
) -> Result<Option<Member>, Damaged> {
    if data.find(data::FLAGS)?.map(Value::u32).transpose()?.unwrap_or_default() != 0 {
        return Ok(None);
    }
    let address = read_address(data.need(data::IP)?.nested())?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let length = data.find(data::CIDR)?.map(Value::u8).transpose()?.unwrap_or(whole);
    let member = match kind {
        SetKind::Addresses => Some(Member::Address(address)),
        SetKind::Networks => Some(Member::Network(address, length)),
        SetKind::AddressPorts => {
            let port = data.need(data::PORT)?.u16()?;
            let number = data.need(data::PROTO)?.u8()?;
            [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
                .into_iter()
                .find(|protocol| protocol.number() == number)
                .map(|protocol| Member::AddressPort(address, protocol, port))
        }
        // The name of an interface may be any bytes.
        SetKind::Owners if length == whole => {
            data.need(data::IFACE)?.text().ok().map(|veth| Member::Owner(address, veth.into()))
        }
        SetKind::Owners => None,
    };
    Ok(member.filter(|member| check(family, member).is_ok()))
}

fn read_address(ip: Attributes<'_>) -> Result<IpAddr, Damaged> {
    const LENGTH: Damaged = Damaged("an address of another length");
    for attribute in ip {
        let (kind, Value(bytes)) = attribute?;
        match kind {
            data::IPADDR_IPV4 => {
                return Ok(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).map_err(|_| LENGTH)?).into());
            }
            data::IPADDR_IPV6 => {
                return Ok(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).map_err(|_| LENGTH)?).into());
            }
            _ => {}
        }
    }
    Err(Damaged("a member without an address"))
}

/// What tells one member of a set from another besides its address, and the form in which the kernel takes it.
const IDENTITY: [(u16, u16); 5] = [
    (data::CIDR, 0),
    (data::PORT, NETWORK_ORDER),
    (data::PROTO, 0),
    (data::IFACE, 0),
    (data::FLAGS, NETWORK_ORDER),
];

/// A member that is none of ours, as the kernel told it: so it can be removed whatever it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ForeignMember {
    address: IpAddr,
    /// Of [`IDENTITY`], in its order, those that were told.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl ForeignMember {
    pub(super) fn read(data: Attributes<'_>) -> Result<ForeignMember, Damaged> {
        let address = read_address(data.need(data::IP)?.nested())?;
        let mut attributes = Vec::new();
        for (kind, form) in IDENTITY {
            attributes.extend(data.find(kind)?.map(|Value(bytes)| (kind | form, bytes.to_vec())));
        }
        Ok(ForeignMember { address, attributes })
    }

    pub(super) fn write(&self, data: &mut Writer) {
        write_address(data, self.address);
        for (kind, bytes) in &self.attributes {
            data.bytes(*kind, bytes);
        }
    }
}
