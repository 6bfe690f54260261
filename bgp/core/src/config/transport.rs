//! How a neighbour is reached: what its TCP connections must look like.

use std::fmt;
use std::net::IpAddr;

use crate::types::{InvalidValue, PeerKind};

/// How we connect to a neighbour, and how it may connect to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transport {
    /// Source address of our connections; chosen by the kernel if absent.
    pub local_address: Option<IpAddr>,
    /// The interface the neighbour is on; what the routes say if absent.
    pub interface: Option<String>,
    /// How far away it is.
    pub distance: Distance,
    /// The key of both sides (TCP MD5, RFC 2385); connections are not signed if absent.
    pub password: Option<Password>,
}

impl Transport {
    /// What a socket to a neighbour of `kind` gets.
    pub(crate) fn socket(&self, kind: PeerKind) -> SocketOptions {
        let ttl = match (self.distance, kind) {
            (Distance::Adjacent, PeerKind::Internal) => Ttl::Usual,
            (Distance::Adjacent, PeerKind::External) => Ttl::Exactly(1),
            (Distance::Within(hops), _) => Ttl::Guarded { least: u8::MAX - (hops.max(1) - 1) },
            (Distance::Multihop(ttl), _) => Ttl::Exactly(ttl.max(1)),
        };
        SocketOptions {
            local: self.local_address,
            interface: self.interface.clone(),
            ttl,
            password: self.password.clone(),
        }
    }
}

/// How many routers may lie between us and a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Distance {
    /// None to an external one: packets go out with TTL 1 and reach no further. Any number to an internal one.
    #[default]
    Adjacent,
    /// So many hops and no more, 1 to 254: both sides send with TTL 255, and packets that arrive with less than
    /// 256 - hops are dropped (GTSM, RFC 5082).
    Within(u8),
    /// Packets go out with this TTL, 1 to 255. What such a neighbour tells is used only where its next hop is on a link of
    /// ours (else refused as `NextHopNotOnLink`): how to get to others, no other protocol tells us here.
    Multihop(u8),
}

/// A key for TCP MD5 (RFC 2385): 1 to 80 octets, which is what the kernel takes. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// Most octets of a key.
    pub const MOST_BYTES: usize = 80;

    /// # Errors
    /// It is empty or too long; the error does not repeat it.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Password, InvalidValue> {
        let octets: Vec<u8> = octets.into();
        match octets.len() {
            1..=Self::MOST_BYTES => Ok(Password(octets.into())),
            length => Err(InvalidValue::PasswordLength(length)),
        }
    }

    /// The key, for the kernel and nobody else.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

/// What the sockets of one neighbour must be like, for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketOptions {
    /// Source address; the kernel's choice if absent.
    pub local: Option<IpAddr>,
    /// Interface to be bound to.
    pub interface: Option<String>,
    /// TTL or hop limit.
    pub ttl: Ttl,
    /// Key of TCP MD5.
    pub password: Option<Password>,
}

/// TTL (IPv4) or hop limit (IPv6) of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ttl {
    /// The system's, 64 most often.
    Usual,
    /// Packets go out with this one, whatever comes in.
    Exactly(u8),
    /// Packets go out with 255; those that arrive with less than `least` are dropped (RFC 5082).
    Guarded {
        /// 255 for a neighbour on the link.
        least: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn password_is_of_1_to_80_octets_and_never_printed() {
        assert_eq!(Password::new(""), Err(InvalidValue::PasswordLength(0)));
        assert_eq!(Password::new([b'x'; 81]), Err(InvalidValue::PasswordLength(81)));
        let password = Password::new("correct horse").expect("13 octets");
        let transport = Transport { password: Some(password.clone()), ..Transport::default() };
        let printed = format!("{password} {password:?} {:?}", transport.socket(PeerKind::External));
        assert!(!printed.contains("horse"), "{printed}");
    }

    #[test]
    fn ttl_follows_the_distance() {
        let ttl = |distance, kind| Transport { distance, ..Transport::default() }.socket(kind).ttl;
        assert_eq!(ttl(Distance::Adjacent, PeerKind::External), Ttl::Exactly(1));
        assert_eq!(ttl(Distance::Adjacent, PeerKind::Internal), Ttl::Usual);
        assert_eq!(ttl(Distance::Within(1), PeerKind::External), Ttl::Guarded { least: 255 });
        assert_eq!(ttl(Distance::Within(254), PeerKind::Internal), Ttl::Guarded { least: 2 });
        assert_eq!(ttl(Distance::Multihop(3), PeerKind::External), Ttl::Exactly(3));
    }
}
