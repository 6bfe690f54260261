//! Router solicitations and advertisements as octets (RFC 4861 section 4.1, 4.2).
//!
//! What is sent says nothing but "here is a router that nobody shall send by default": lifetime 0, no prefix. What is heard
//! says where it is; all else in it is for hosts. Checksums are the kernel's, both ways (RFC 3542 section 3.1).

use std::net::Ipv6Addr;

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
/// Type, code, checksum, and what is fixed behind them.
const SOLICITATION_BYTES: usize = 8;
const ADVERTISEMENT_BYTES: usize = 16;
const SOURCE_LINK_LAYER: u8 = 1;
/// Lengths of options are told in these.
const OPTION_UNIT: usize = 8;
/// What no router has passed on (RFC 4861 section 6.1).
const HOP_LIMIT: u8 = 255;

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// Somebody wants to know what routers there are.
    Solicitation,
    /// One says that it is.
    Advertisement,
}

/// Why a packet does not count (RFC 4861 section 6.1.1, 6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Invalid {
    #[error("hop limit is not 255: it comes from afar")]
    HopLimit,
    #[error("source is no link-local address")]
    Source,
    #[error("type or code of something else")]
    Type,
    #[error("too short")]
    Length,
    #[error("an option has no length, or is cut off")]
    Option,
    #[error("a source link-layer address, from who has no address yet")]
    LinkLayer,
}

/// Reads an ICMPv6 message.
pub(super) fn read(source: Ipv6Addr, hop_limit: Option<u8>, octets: &[u8]) -> Result<Message, Invalid> {
    if hop_limit != Some(HOP_LIMIT) {
        return Err(Invalid::HopLimit);
    }
    let (message, fixed) = match octets {
        [SOLICITATION, 0, ..] => (Message::Solicitation, SOLICITATION_BYTES),
        [ADVERTISEMENT, 0, ..] => (Message::Advertisement, ADVERTISEMENT_BYTES),
        _ => return Err(Invalid::Type),
    };
    if message == Message::Advertisement && !source.is_unicast_link_local() {
        return Err(Invalid::Source);
    }
    let mut rest = octets.get(fixed..).ok_or(Invalid::Length)?;
    while let [kind, units, ..] = *rest {
        let length = usize::from(units) * OPTION_UNIT;
        if length == 0 {
            return Err(Invalid::Option);
        }
        if kind == SOURCE_LINK_LAYER && source.is_unspecified() {
            return Err(Invalid::LinkLayer);
        }
        rest = rest.get(length..).ok_or(Invalid::Option)?;
    }
    if rest.is_empty() { Ok(message) } else { Err(Invalid::Option) }
}

/// A solicitation of who has this Ethernet address.
pub(super) fn solicitation(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut octets = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    write_mac(&mut octets, mac);
    octets
}

/// An advertisement: hop limit, flags, lifetime and both timers are 0, which says nothing of them (RFC 4861 section 4.2).
pub(super) fn advertisement(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut octets = vec![0; ADVERTISEMENT_BYTES];
    octets[0] = ADVERTISEMENT;
    write_mac(&mut octets, mac);
    octets
}

/// So the other end need not ask for it.
fn write_mac(octets: &mut Vec<u8>, mac: Option<[u8; 6]>) {
    if let Some(mac) = mac {
        octets.extend_from_slice(&[SOURCE_LINK_LAYER, 1]);
        octets.extend_from_slice(&mac);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn from(text: &str) -> Ipv6Addr {
        text.parse().expect("address")
    }

    #[test]
    fn what_is_written_reads_back_and_has_lifetime_0() {
        let ours = advertisement(Some(MAC));
        assert_eq!(ours, [134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(read(from("fe80::1"), Some(255), &ours), Ok(Message::Advertisement));
        assert_eq!(read(from("fe80::1"), Some(255), &advertisement(None)), Ok(Message::Advertisement));
        assert_eq!(solicitation(Some(MAC)), [133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(read(from("fe80::1"), Some(255), &solicitation(Some(MAC))), Ok(Message::Solicitation));
        assert_eq!(read(from("::"), Some(255), &solicitation(None)), Ok(Message::Solicitation));
    }

    /// As FRR sends it: lifetime, MTU, and a prefix of somebody's.
    #[test]
    fn an_advertisement_of_another_router_counts_whatever_else_it_says() {
        let mut octets = vec![134, 0, 0x12, 0x34, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        octets.extend_from_slice(&[5, 1, 0, 0, 0, 0, 5, 0xDC]);
        octets.extend_from_slice(&[[3, 4, 64, 0xC0].as_slice(), &[0; 28]].concat());
        assert_eq!(read(from("fe80::1"), Some(255), &octets), Ok(Message::Advertisement));
    }

    #[test]
    fn what_rfc_4861_refuses_is_refused() {
        let good = advertisement(Some(MAC));
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut octets = good.clone();
            change(&mut octets);
            octets
        };
        let table = [
            ("fe80::1", Some(254), good.clone(), Invalid::HopLimit),
            ("fe80::1", None, good.clone(), Invalid::HopLimit),
            ("2001:db8::1", Some(255), good.clone(), Invalid::Source),
            ("fe80::1", Some(255), with(&|octets| octets[1] = 1), Invalid::Type),
            ("fe80::1", Some(255), with(&|octets| octets[0] = 135), Invalid::Type),
            ("fe80::1", Some(255), with(&|octets| octets.truncate(15)), Invalid::Length),
            ("fe80::1", Some(255), with(&|octets| octets[17] = 0), Invalid::Option),
            ("fe80::1", Some(255), with(&|octets| octets[17] = 2), Invalid::Option),
            ("fe80::1", Some(255), with(&|octets| octets.truncate(17)), Invalid::Option),
            ("::", Some(255), solicitation(Some(MAC)), Invalid::LinkLayer),
        ];
        for (source, hop_limit, octets, expected) in table {
            assert_eq!(read(from(source), hop_limit, &octets), Err(expected), "{source} {octets:?}");
        }
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused_and_nothing_panics() {
        let whole = advertisement(Some(MAC));
        for length in 0..whole.len() {
            let is_whole = length == ADVERTISEMENT_BYTES;
            assert_eq!(read(from("fe80::1"), Some(255), &whole[..length]).is_ok(), is_whole, "{length}");
        }
        for fill in 0..=255 {
            let mut octets = vec![fill; 40];
            octets[..2].copy_from_slice(&[ADVERTISEMENT, 0]);
            assert_eq!(read(from("fe80::1"), Some(255), &octets).is_ok(), [1, 3].contains(&fill), "{fill}");
        }
    }
}
