//! Prefixes as they stand in UPDATE: one length octet, then as many octets as it needs
//! (RFC 4271 section 4.3).

use crate::prefix::{Family, Prefix};

/// The list cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MalformedNlri {
    TooLong,
    Cut,
}

impl MalformedNlri {
    /// In words, for the operator.
    pub(crate) fn what(self) -> &'static str {
        match self {
            MalformedNlri::TooLong => "a prefix is longer than an address",
            MalformedNlri::Cut => "a prefix is cut short",
        }
    }
}

/// Appends all prefixes of `bytes`. Host bits that are set are cleared (RFC 4271 section 4.3: "irrelevant").
///
/// # Errors
/// What is in `prefixes` then is of no use.
pub(crate) fn decode(family: Family, bytes: &[u8], prefixes: &mut Vec<Prefix>) -> Result<(), MalformedNlri> {
    prefixes.reserve_exact(bytes.len().div_ceil(typical_bytes(family)));
    let mut rest = bytes;
    while let Some((&length, behind)) = rest.split_first() {
        if length > family.bits() {
            return Err(MalformedNlri::TooLong);
        }
        let count = usize::from(length).div_ceil(8);
        let (significant, next) = behind.split_at_checked(count).ok_or(MalformedNlri::Cut)?;
        prefixes.push(match family {
            Family::Ipv4 => Prefix::ipv4(u32::from_be_bytes(padded(behind, significant)), length),
            Family::Ipv6 => Prefix::ipv6(u128::from_be_bytes(padded(behind, significant)), length),
        });
        rest = next;
    }
    Ok(())
}

/// What a prefix of a fabric takes: a /24, a /64.
fn typical_bytes(family: Family) -> usize {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 9,
    }
}

/// The first octets of `behind`, of which `significant` count: in one piece, but at the end of a list.
fn padded<const N: usize>(behind: &[u8], significant: &[u8]) -> [u8; N] {
    behind.first_chunk::<N>().copied().unwrap_or_else(|| {
        let mut octets = [0; N];
        octets.iter_mut().zip(significant).for_each(|(to, from)| *to = *from);
        octets
    })
}

/// What a prefix of either family takes at most.
pub(crate) const MOST_BYTES: usize = 17;

/// Octets that [`write`] takes for `prefix`.
pub(crate) fn encoded_bytes(prefix: &Prefix) -> usize {
    1 + usize::from(prefix.length()).div_ceil(8)
}

/// Appends `prefixes`, which take `octets` octets together.
pub(crate) fn write(out: &mut Vec<u8>, prefixes: &[Prefix], octets: usize) {
    // Each is written as if it were of full length, and the next one over what was too much: so all are copies of a
    // fixed length.
    let (start, mut at) = (out.len(), out.len());
    out.resize(start + octets + MOST_BYTES, 0);
    for prefix in prefixes {
        if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<MOST_BYTES>()) {
            prefix.put(place);
        }
        at += encoded_bytes(prefix);
    }
    out.truncate(start + octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(family: Family, bytes: &[u8]) -> Result<Vec<Prefix>, MalformedNlri> {
        let mut prefixes = Vec::new();
        super::decode(family, bytes, &mut prefixes).map(|()| prefixes)
    }

    #[test]
    fn prefixes_are_read_and_written_alike() {
        let table: &[(&[u8], Family, &str)] = &[
            (&[0], Family::Ipv4, "0.0.0.0/0"),
            (&[24, 10, 1, 2], Family::Ipv4, "10.1.2.0/24"),
            (&[31, 10, 1, 2, 4], Family::Ipv4, "10.1.2.4/31"),
            (&[32, 10, 1, 2, 3], Family::Ipv4, "10.1.2.3/32"),
            (&[8, 0xFD], Family::Ipv6, "fd00::/8"),
            (&[48, 0xFD, 0, 0x10, 0x02, 0x44, 0], Family::Ipv6, "fd00:1002:4400::/48"),
        ];
        for (bytes, family, text) in table {
            let prefix: Prefix = text.parse().expect("test prefix");
            assert_eq!(decode(*family, bytes), Ok(vec![prefix]));
            let mut out = Vec::new();
            write(&mut out, &[prefix], bytes.len());
            assert_eq!(&out, bytes);
            assert_eq!(encoded_bytes(&prefix), bytes.len());
        }
    }

    #[test]
    fn too_long_and_cut_prefixes_are_malformed() {
        assert_eq!(decode(Family::Ipv4, &[33, 1, 2, 3, 4, 5]), Err(MalformedNlri::TooLong));
        assert_eq!(decode(Family::Ipv4, &[24, 10, 1]), Err(MalformedNlri::Cut));
        assert_eq!(decode(Family::Ipv4, &[24]), Err(MalformedNlri::Cut));
        assert_eq!(decode(Family::Ipv6, &[129; 20]), Err(MalformedNlri::TooLong));
    }

    #[test]
    fn host_bits_are_irrelevant() {
        let read = decode(Family::Ipv4, &[20, 10, 1, 0xFF]).expect("readable");
        assert_eq!(read, vec!["10.1.240.0/20".parse().expect("test prefix")]);
    }
}
