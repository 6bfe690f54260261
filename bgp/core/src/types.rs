//! The small values of BGP, each a type of its own, so that an AS number is never taken for a metric.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

/// An autonomous system number, four octets (RFC 6793).
///
/// 0 is reserved (RFC 7607): [`Asn::new`] refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asn(u32);

impl Asn {
    /// What stands for a four-octet number where only two octets fit (RFC 6793 section 4.2.3).
    pub const TRANS: Asn = Asn(23456);

    /// `None` for 0.
    pub const fn new(value: u32) -> Option<Asn> {
        if value == 0 { None } else { Some(Asn(value)) }
    }

    /// The number.
    pub const fn value(self) -> u32 {
        self.0
    }

    /// The number in two octets, [`Asn::TRANS`] where it does not fit.
    pub fn two_octets(self) -> u16 {
        u16::try_from(self.0).unwrap_or(Asn::TRANS.0 as u16)
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The BGP identifier: any four octets but zero (RFC 6286 section 2.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(u32);

impl RouterId {
    /// `None` for 0.0.0.0.
    pub const fn new(value: u32) -> Option<RouterId> {
        if value == 0 { None } else { Some(RouterId(value)) }
    }

    /// The identifier in host byte order; larger is "higher" in every comparison of the RFCs.
    pub const fn value(self) -> u32 {
        self.0
    }
}

/// An identifier of a speaker or of a cluster as a route carries it (RFC 4456): unlike a [`RouterId`] it may be 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CarriedId(pub u32);

impl From<RouterId> for CarriedId {
    fn from(id: RouterId) -> CarriedId {
        CarriedId(id.0)
    }
}

impl fmt::Display for CarriedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

impl fmt::Debug for CarriedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CarriedId({self})")
    }
}

impl TryFrom<Ipv4Addr> for RouterId {
    type Error = InvalidValue;
    fn try_from(address: Ipv4Addr) -> Result<RouterId, InvalidValue> {
        RouterId::new(u32::from(address)).ok_or(InvalidValue::RouterIdZero)
    }
}

impl FromStr for RouterId {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<RouterId, InvalidValue> {
        let address: Ipv4Addr = text.parse().map_err(|_| InvalidValue::RouterId(text.to_owned()))?;
        RouterId::try_from(address)
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.0).fmt(f)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouterId({self})")
    }
}

/// Which of several paths to a prefix is meant (RFC 7911 section 3): chosen by the teller, and of no meaning beyond that. 0
/// where paths have no identifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PathId(pub u32);

impl PathId {
    /// What a route of our own is told as, where several paths are told.
    pub const OWN: PathId = PathId(1);
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The hold time: 0 (never expires) or 3 to 65535 seconds (RFC 4271 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HoldTime(u16);

impl Default for HoldTime {
    fn default() -> HoldTime {
        HoldTime::DEFAULT
    }
}

impl HoldTime {
    /// 90 s, the value RFC 4271 section 10 suggests.
    pub const DEFAULT: HoldTime = HoldTime(90);

    /// `None` for 1 and 2 seconds.
    pub const fn from_secs(seconds: u16) -> Option<HoldTime> {
        if seconds == 1 || seconds == 2 { None } else { Some(HoldTime(seconds)) }
    }

    /// Seconds as on the wire.
    pub const fn as_secs(self) -> u16 {
        self.0
    }

    /// `None` when the timer does not run.
    pub fn duration(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(u64::from(self.0)))
    }

    /// How long a peer may take nothing of what we send: 8 minutes or twice the hold time, whichever is longer
    /// (RFC 9687 section 4).
    pub fn send_hold(self) -> Duration {
        Duration::from_secs(480).max(2 * self.duration().unwrap_or_default())
    }

    /// The keepalive interval: a third of the hold time (RFC 4271 section 10), or less if asked for.
    pub fn keepalive(self, wished: Option<Duration>) -> Option<Duration> {
        let third = self.duration()? / 3;
        Some(wished.map_or(third, |wished| wished.min(third)))
    }
}

/// LOCAL_PREF: higher is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPref(pub u32);

impl LocalPref {
    /// What a route without the attribute counts as; the default of every implementation.
    pub const DEFAULT: LocalPref = LocalPref(100);
}

/// MULTI_EXIT_DISC: lower is better, absent counts as 0 (RFC 4271 section 9.1.2.2 c).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Med(pub u32);

/// Where a neighbour is, and where packets go next: an address, and the link it is meant on where it is link-local, for
/// every link may have the same one (RFC 4007 section 4). Printed as `fe80::1%eth1` (section 11).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopedAddress {
    ip: IpAddr,
    interface: Option<Arc<str>>,
}

impl ScopedAddress {
    /// `ip` on `interface`; the interface counts for a link-local address and for no other.
    pub fn on(ip: IpAddr, interface: Option<&str>) -> ScopedAddress {
        let interface = interface.filter(|_| is_link_local(ip));
        ScopedAddress { ip, interface: interface.map(Arc::from) }
    }

    /// `ip` on the same link as this one.
    pub(crate) fn beside(&self, ip: IpAddr) -> ScopedAddress {
        ScopedAddress { ip, interface: self.interface.clone().filter(|_| is_link_local(ip)) }
    }

    /// The address alone.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// The link that a link-local address is meant on.
    pub fn interface(&self) -> Option<&str> {
        self.interface.as_deref()
    }
}

/// Whether an address means something on one link alone. Those of IPv4 (RFC 3927) are not meant: no neighbour has one.
pub(crate) fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

impl From<IpAddr> for ScopedAddress {
    fn from(ip: IpAddr) -> ScopedAddress {
        ScopedAddress { ip, interface: None }
    }
}

impl FromStr for ScopedAddress {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<ScopedAddress, InvalidValue> {
        let (ip, interface) = match text.split_once('%') {
            Some((ip, interface)) => (ip, Some(interface)),
            None => (text, None),
        };
        let no_address = || InvalidValue::Address(text.to_owned());
        let ip: IpAddr = ip.parse().map_err(|_| no_address())?;
        match interface {
            Some(interface) if interface.is_empty() || !is_link_local(ip) => Err(no_address()),
            interface => Ok(ScopedAddress::on(ip, interface)),
        }
    }
}

impl fmt::Display for ScopedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

impl fmt::Debug for ScopedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One configured neighbour; given out by the router, never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// One TCP connection, or one attempt at it; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// A standard community (RFC 1997).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Community(pub u32);

impl Community {
    /// Not to any other peer (RFC 1997).
    pub const NO_ADVERTISE: Community = Community(0xFFFF_FF02);
    /// Not outside the AS (RFC 1997).
    pub const NO_EXPORT: Community = Community(0xFFFF_FF01);
    /// The way goes away soon: to be used last (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Community = Community(0xFFFF_0000);
    /// Kept long after its teller went away: to be used last of all (RFC 9494).
    pub const LLGR_STALE: Community = Community(0xFFFF_0006);
    /// Not to be kept so (RFC 9494).
    pub const NO_LLGR: Community = Community(0xFFFF_0007);
    /// As [`Community::NO_EXPORT`], where no confederation is in use (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Community = Community(0xFFFF_FF03);
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

/// A large community (RFC 8092).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LargeCommunity(pub [u32; 3]);

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.0[0], self.0[1], self.0[2])
    }
}

/// Whether a neighbour is in our AS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PeerKind {
    /// Same AS (iBGP).
    Internal,
    /// Another AS (eBGP).
    External,
}

/// A value that the types of this module cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidValue {
    /// Zero as an identifier.
    #[error("router id 0.0.0.0 is not allowed (RFC 6286 section 2.1)")]
    RouterIdZero,
    /// Not four octets.
    #[error("router id \"{0}\" is not of the form a.b.c.d")]
    RouterId(String),
    /// No key for TCP MD5; it is not repeated.
    #[error("password of {0} octets: 1 to 80 are allowed")]
    PasswordLength(usize),
    /// Not an address, or one with a link that it cannot have.
    #[error("address \"{0}\" is not of the form 192.0.2.1, 2001:db8::1 or fe80::1%eth1")]
    Address(String),
    /// Not a prefix.
    #[error("prefix \"{0}\" is not of the form address/length")]
    Prefix(String),
    /// Too long for its family.
    #[error("prefix length {length} is over {most}")]
    PrefixLength {
        /// What was given.
        length: u8,
        /// 32 or 128.
        most: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_time_of_one_or_two_seconds_cannot_be_made() {
        assert!(HoldTime::from_secs(0).is_some());
        assert!(HoldTime::from_secs(1).is_none());
        assert!(HoldTime::from_secs(2).is_none());
        assert!(HoldTime::from_secs(3).is_some());
    }

    #[test]
    fn keepalive_is_never_longer_than_a_third_of_the_hold_time() {
        let hold = HoldTime(9);
        assert_eq!(hold.keepalive(None), Some(Duration::from_secs(3)));
        assert_eq!(hold.keepalive(Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        assert_eq!(hold.keepalive(Some(Duration::from_secs(60))), Some(Duration::from_secs(3)));
        assert_eq!(HoldTime(0).keepalive(None), None);
    }

    #[test]
    fn a_peer_may_take_nothing_for_eight_minutes_or_two_hold_times() {
        let seconds = |hold| HoldTime(hold).send_hold().as_secs();
        assert_eq!([0, 9, 240, 241, 65535].map(seconds), [480, 480, 480, 482, 131_070]);
    }

    #[test]
    fn link_local_address_has_its_link_and_no_other_address_has_one() {
        let scoped = |text: &str| text.parse::<ScopedAddress>();
        for text in ["192.0.2.1", "2001:db8::1", "fe80::1", "fe80::1%eth1"] {
            assert_eq!(scoped(text).expect(text).to_string(), text);
        }
        for text in ["192.0.2.1%eth1", "2001:db8::1%eth1", "fe80::1%", "eth1"] {
            assert_eq!(scoped(text), Err(InvalidValue::Address(text.to_owned())));
        }
        let on = |ip: &str, link| ScopedAddress::on(ip.parse().expect("address"), Some(link));
        assert_ne!(on("fe80::1", "eth1"), on("fe80::1", "eth2"));
        assert_eq!(on("192.0.2.1", "eth1"), on("192.0.2.1", "eth2"));
    }

    #[test]
    fn as_number_above_two_octets_becomes_as_trans() {
        assert_eq!(Asn(4_200_000_000).two_octets(), 23456);
        assert_eq!(Asn(65001).two_octets(), 65001);
        assert_eq!(Asn::new(0), None);
    }
}
