//! Prefixes as they stand in UPDATE: one length octet, then as many octets as it needs (RFC 4271 section 4.3); before
//! that the identifier of the path, where that was agreed on (RFC 7911 section 3).

use crate::prefix::{Family, Prefix};
use crate::session::PathIds;
use crate::types::PathId;

/// A route as an UPDATE names it: network layer reachability information.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Nlri {
    /// Where to.
    pub prefix: Prefix,
    /// Which path of the teller's; 0 on a session without identifiers.
    pub path_id: PathId,
}

impl From<Prefix> for Nlri {
    fn from(prefix: Prefix) -> Nlri {
        Nlri { prefix, path_id: PathId::default() }
    }
}

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

/// Appends all routes of `bytes`. Host bits that are set are cleared (RFC 4271 section 4.3: "irrelevant").
///
/// # Errors
/// What is in `routes` then is of no use.
pub(crate) fn decode(
    family: Family,
    path_ids: PathIds,
    bytes: &[u8],
    routes: &mut Vec<Nlri>,
) -> Result<(), MalformedNlri> {
    routes.reserve_exact(bytes.len().div_ceil(typical_bytes(family) + path_ids.octets()));
    let mut rest = bytes;
    while !rest.is_empty() {
        let path_id = match path_ids {
            PathIds::Absent => PathId::default(),
            PathIds::Present => {
                let (octets, behind) = rest.split_first_chunk().ok_or(MalformedNlri::Cut)?;
                rest = behind;
                PathId(u32::from_be_bytes(*octets))
            }
        };
        let (&length, behind) = rest.split_first().ok_or(MalformedNlri::Cut)?;
        if length > family.bits() {
            return Err(MalformedNlri::TooLong);
        }
        let count = usize::from(length).div_ceil(8);
        let (significant, next) = behind.split_at_checked(count).ok_or(MalformedNlri::Cut)?;
        let prefix = match family {
            Family::Ipv4 => Prefix::ipv4(u32::from_be_bytes(padded(behind, significant)), length),
            Family::Ipv6 => Prefix::ipv6(u128::from_be_bytes(padded(behind, significant)), length),
        };
        routes.push(Nlri { prefix, path_id });
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
const MOST_PREFIX_BYTES: usize = 17;

/// What a route takes at most.
pub(crate) const MOST_BYTES: usize = MOST_PREFIX_BYTES + 4;

/// Octets that [`write`] takes for `route`.
pub(crate) fn encoded_bytes(route: &Nlri, path_ids: PathIds) -> usize {
    path_ids.octets() + 1 + usize::from(route.prefix.length()).div_ceil(8)
}

/// Appends `routes`, which take `octets` octets together.
pub(crate) fn write(out: &mut Vec<u8>, path_ids: PathIds, routes: &[Nlri], octets: usize) {
    // Each is written as if it were of full length, and the next one over what was too much: so all are copies of a
    // fixed length.
    let (start, mut at) = (out.len(), out.len());
    out.resize(start + octets + MOST_PREFIX_BYTES, 0);
    for route in routes {
        if path_ids == PathIds::Present
            && let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut())
        {
            *place = route.path_id.0.to_be_bytes();
        }
        let prefix_at = at + path_ids.octets();
        if let Some(place) = out.get_mut(prefix_at..).and_then(|rest| rest.first_chunk_mut()) {
            route.prefix.put(place);
        }
        at += encoded_bytes(route, path_ids);
    }
    out.truncate(start + octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(family: Family, bytes: &[u8]) -> Result<Vec<Prefix>, MalformedNlri> {
        let mut routes = Vec::new();
        super::decode(family, PathIds::Absent, bytes, &mut routes)?;
        Ok(routes.into_iter().map(|route| route.prefix).collect())
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
            let route = Nlri::from(prefix);
            assert_eq!(decode(*family, bytes), Ok(vec![prefix]));
            let mut out = Vec::new();
            write(&mut out, PathIds::Absent, &[route], bytes.len());
            assert_eq!(&out, bytes);
            assert_eq!(encoded_bytes(&route, PathIds::Absent), bytes.len());
        }
    }

    /// The layout of RFC 7911 section 3.
    #[test]
    fn identifiers_stand_before_the_length() {
        let octets = [0, 0, 0, 1, 24, 10, 1, 2, 0xFF, 0, 0, 2, 24, 10, 1, 2, 0, 0, 0, 3, 0];
        let route =
            |path_id, text: &str| Nlri { path_id: PathId(path_id), prefix: text.parse().expect("prefix") };
        let routes = [route(1, "10.1.2.0/24"), route(0xFF00_0002, "10.1.2.0/24"), route(3, "0.0.0.0/0")];
        let mut read = Vec::new();
        assert_eq!(super::decode(Family::Ipv4, PathIds::Present, &octets, &mut read), Ok(()));
        assert_eq!(read, routes);
        let mut out = vec![7];
        write(&mut out, PathIds::Present, &routes, octets.len());
        assert_eq!((out[0], &out[1..]), (7, &octets[..]));
        assert_eq!(
            routes.iter().map(|route| encoded_bytes(route, PathIds::Present)).sum::<usize>(),
            octets.len()
        );
        for cut in [1, 4, 7, 10, 12, 20] {
            let read = super::decode(Family::Ipv4, PathIds::Present, &octets[..cut], &mut Vec::new());
            assert_eq!(read, Err(MalformedNlri::Cut), "{cut}");
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
