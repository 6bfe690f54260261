//! Prefixes as they stand in UPDATE: one length octet, then as many octets as it needs
//! (RFC 4271 section 4.3).

use crate::prefix::{Family, Prefix};

use super::reader::Reader;

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

/// All prefixes of `bytes`. Host bits that are set are cleared (RFC 4271 section 4.3: "irrelevant").
pub(crate) fn decode(family: Family, bytes: &[u8]) -> Result<Vec<Prefix>, MalformedNlri> {
    let mut reader = Reader::new(bytes);
    let mut prefixes = Vec::with_capacity(bytes.len() / 4);
    while let Some(length) = reader.u8() {
        if length > family.bits() {
            return Err(MalformedNlri::TooLong);
        }
        let significant = reader.take(usize::from(length).div_ceil(8)).ok_or(MalformedNlri::Cut)?;
        prefixes.push(Prefix::from_wire(family, length, significant));
    }
    Ok(prefixes)
}

/// Octets that [`write`] takes for `prefix`.
pub(crate) fn encoded_bytes(prefix: &Prefix) -> usize {
    1 + prefix.significant_octets().len()
}

pub(crate) fn write(out: &mut Vec<u8>, prefix: &Prefix) {
    out.push(prefix.length());
    out.extend_from_slice(prefix.significant_octets());
}

#[cfg(test)]
mod tests {
    use super::*;

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
            write(&mut out, &prefix);
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
