//! Address blocks of policies: `cidr` less `except`, added up to disjoint prefixes.
//!
//! An ipset of networks has one meaning for each address, so an exception of one block must be taken from that block
//! alone before blocks are put together; the kernel's `nomatch` would take it from all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::program::Family;

/// A prefix; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    family: Family,
    bits: u128,
    length: u8,
}

impl Cidr {
    /// Reads `address/length`. Host bits are cleared, as the API server takes them with a warning.
    ///
    /// # Errors
    /// Why it is none. An IPv4 address in IPv6 form is none: no packet on a wire has it.
    pub fn read(text: &str) -> Result<Cidr, &'static str> {
        let (address, length) = text.split_once('/').ok_or("expected an address, `/` and a length")?;
        let address: IpAddr = address.parse().map_err(|_| "not an address and a length")?;
        if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
            return Err("an IPv4 address in IPv6 form");
        }
        let family = Family::of(address);
        let is_number = length.bytes().all(|c| c.is_ascii_digit());
        match length.parse() {
            Ok(length) if is_number && length <= width(family) => {
                let mask = !host_bits(family, length);
                Ok(Cidr { family, bits: to_bits(address) & mask, length })
            }
            _ => Err("the length is not one of its family"),
        }
    }

    /// Its family.
    pub fn family(self) -> Family {
        self.family
    }

    /// Whether all of the other is in it, and more.
    pub fn is_wider_than(self, other: Cidr) -> bool {
        self.family == other.family
            && self.length < other.length
            && (self.first()..=self.last()).contains(&other.bits)
    }

    fn first(self) -> u128 {
        self.bits
    }

    fn last(self) -> u128 {
        self.bits | host_bits(self.family, self.length)
    }
}

/// Addresses of one family: ranges, both ends included, in order, that neither overlap nor touch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks {
    family: Family,
    ranges: Vec<(u128, u128)>,
}

impl Blocks {
    /// Those of this family among prefixes, each less its own exceptions.
    pub fn of<'a>(family: Family, blocks: impl IntoIterator<Item = &'a (Cidr, Vec<Cidr>)>) -> Blocks {
        let own = blocks.into_iter().filter(|(block, _)| block.family == family);
        let mut ranges: Vec<(u128, u128)> = own.flat_map(|(block, except)| less(*block, except)).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if end.checked_add(1).is_none_or(|next| first <= next) => {
                    *end = last.max(*end)
                }
                _ => merged.push((first, last)),
            }
        }
        Blocks { family, ranges: merged }
    }

    /// Whether there is no address in them.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether every address of the family is in them.
    pub fn is_everything(&self) -> bool {
        self.ranges == [(0, host_bits(self.family, 0))]
    }

    /// Whether the address is in them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = to_bits(address);
        let at = self.ranges.partition_point(|&(_, last)| last < bits);
        Family::of(address) == self.family && self.ranges.get(at).is_some_and(|&(first, _)| first <= bits)
    }

    /// The same as the fewest prefixes that do not overlap, in order: network and length.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| prefixes_of(self.family, first, last))
    }
}

/// What is left of a prefix without others, in order.
fn less(block: Cidr, except: &[Cidr]) -> Vec<(u128, u128)> {
    let holes = except.iter().filter(|hole| hole.family == block.family);
    let mut holes: Vec<(u128, u128)> = holes.map(|hole| (hole.first(), hole.last())).collect();
    holes.sort_unstable();
    let mut left = Vec::new();
    let mut next = Some(block.first());
    for (first, last) in holes {
        let Some(start) = next.filter(|&start| start <= block.last()) else { break };
        if last < start || first > block.last() {
            continue;
        }
        if first > start {
            left.push((start, first - 1));
        }
        next = last.checked_add(1);
    }
    left.extend(next.filter(|&start| start <= block.last()).map(|start| (start, block.last())));
    left
}

fn prefixes_of(family: Family, first: u128, last: u128) -> Vec<(IpAddr, u8)> {
    let mut prefixes = Vec::new();
    let mut next = Some(first);
    while let Some(start) = next.filter(|&start| start <= last) {
        let aligned = width(family) - start.trailing_zeros().min(u32::from(width(family))) as u8;
        let length = (aligned..=width(family)).find(|&length| start | host_bits(family, length) <= last);
        let length = length.unwrap_or(width(family));
        prefixes.push((to_address(family, start), length));
        next = (start | host_bits(family, length)).checked_add(1);
    }
    prefixes
}

fn width(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    }
}

/// The bits behind a prefix of this length.
fn host_bits(family: Family, length: u8) -> u128 {
    let count = u32::from(width(family).saturating_sub(length));
    u128::MAX.checked_shr(128 - count).unwrap_or(0)
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn to_address(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        Cidr::read(text).expect("a prefix")
    }

    fn block(block: &str, except: &[&str]) -> (Cidr, Vec<Cidr>) {
        (cidr(block), except.iter().map(|text| cidr(text)).collect())
    }

    fn less(whole: &str, except: &[&str]) -> Blocks {
        Blocks::of(cidr(whole).family(), &[block(whole, except)])
    }

    fn shown(blocks: &Blocks) -> Vec<String> {
        blocks.prefixes().map(|(address, length)| format!("{address}/{length}")).collect()
    }

    #[test]
    fn an_exception_is_taken_out_in_as_few_prefixes_as_there_can_be() {
        assert_eq!(shown(&less("10.0.0.0/8", &[])), ["10.0.0.0/8"]);
        assert_eq!(shown(&less("10.0.0.0/30", &["10.0.0.1/32"])), ["10.0.0.0/32", "10.0.0.2/31"]);
        assert_eq!(shown(&less("fd00::/16", &["fd00::/17"])), ["fd00:8000::/17"]);
        assert_eq!(shown(&less("0.0.0.0/0", &["0.0.0.0/1", "128.0.0.0/1"])), [""; 0]);
        assert_eq!(shown(&less("::/0", &["::/1"])), ["8000::/1"]);
    }

    #[test]
    fn an_exception_takes_from_its_own_block_alone() {
        let mut given = vec![block("10.0.0.0/8", &["10.1.0.0/16"]), block("10.1.2.0/24", &[])];
        let blocks = Blocks::of(Family::Ipv4, &given);
        assert!(blocks.contains(IpAddr::from([10, 1, 2, 3])));
        assert!(!blocks.contains(IpAddr::from([10, 1, 3, 3])));
        given.push(block("10.1.0.0/16", &[]));
        assert_eq!(shown(&Blocks::of(Family::Ipv4, &given)), ["10.0.0.0/8"]);
    }

    #[test]
    fn two_halves_are_everything() {
        assert!(!less("0.0.0.0/1", &[]).is_everything());
        let halves = [block("128.0.0.0/1", &[]), block("0.0.0.0/1", &[])];
        assert!(Blocks::of(Family::Ipv4, &halves).is_everything());
        assert!(Blocks::of(Family::Ipv6, &halves).is_empty());
        assert!(less("::/0", &[]).is_everything());
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(cidr("10.1.2.3/8"), cidr("10.0.0.0/8"));
        assert_eq!(cidr("1.2.3.4/0"), cidr("0.0.0.0/0"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "x/8",
            "::ffff:1.2.3.4/128",
        ] {
            assert!(Cidr::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_shorter_prefix_that_holds_it_is_wider() {
        assert!(cidr("10.0.0.0/8").is_wider_than(cidr("10.1.0.0/16")));
        assert!(!cidr("10.0.0.0/8").is_wider_than(cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/8").is_wider_than(cidr("11.0.0.0/16")));
        assert!(!cidr("::/0").is_wider_than(cidr("10.0.0.0/8")));
    }

    proptest! {
        #[test]
        fn an_address_is_in_the_blocks_if_some_block_has_it_and_does_not_except_it(
            given in prop::collection::vec((0u8..=255, 24u8..=32, prop::collection::vec((0u8..=255, 24u8..=32), 0..4)), 0..5)
        ) {
            let prefix = |(last, length): (u8, u8)| cidr(&format!("10.0.0.{last}/{length}"));
            let blocks: Vec<(Cidr, Vec<Cidr>)> = given
                .iter()
                .map(|(last, length, except)| {
                    (prefix((*last, *length)), except.iter().copied().map(prefix).collect())
                })
                .collect();
            let blocks = Blocks::of(Family::Ipv4, &blocks);
            for last in 0..=255u8 {
                let address = IpAddr::from([10, 0, 0, last]);
                let has = |given: (u8, u8)| u32::from(last) >> (32 - given.1) == u32::from(given.0) >> (32 - given.1);
                let wanted = given.iter().any(|(block, length, except)| {
                    has((*block, *length)) && !except.iter().any(|&hole| has(hole))
                });
                prop_assert_eq!(blocks.contains(address), wanted);
                let by_prefix = blocks.prefixes().filter(|&(network, length)| {
                    to_bits(network) == to_bits(address) & !host_bits(Family::Ipv4, length)
                });
                prop_assert_eq!(by_prefix.count(), usize::from(wanted), "disjoint");
            }
        }
    }
}
