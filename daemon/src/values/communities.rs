//! Communities, and how often an AS is put before a path, as people write them: in filters and advertisements alike.

use std::str::FromStr;

use cambric_bgp::types::{Community, LargeCommunity};

use super::{Costs, Fields, quoted};

/// Communities of one list.
const MOST_COMMUNITIES: usize = 64;
/// Times that an AS is put before a path.
const MOST_PREPENDED: u8 = 16;
/// Why a text is no community.
const NO_COMMUNITY: &str = "not of the form AS:number, each up to 65535, nor a well-known name (RFC 1997)";
/// Why a text is no large community.
const NO_LARGE_COMMUNITY: &str = "not of the form AS:number:number, each up to 4294967295 (RFC 8092)";

impl Fields {
    pub(super) fn communities(
        &mut self,
        costs: Costs,
        field: &str,
        texts: Option<&[String]>,
    ) -> Option<Vec<Community>> {
        texts.map(|texts| self.each_once(costs, field, texts, community, NO_COMMUNITY))
    }

    pub(super) fn large_communities(
        &mut self,
        costs: Costs,
        field: &str,
        texts: Option<&[String]>,
    ) -> Option<Vec<LargeCommunity>> {
        texts.map(|texts| self.each_once(costs, field, texts, large_community, NO_LARGE_COMMUNITY))
    }

    /// Each once: a set without an order to everybody who receives it (RFC 1997, RFC 8092 section 3).
    fn each_once<T: PartialEq>(
        &mut self,
        costs: Costs,
        field: &str,
        texts: &[String],
        read: fn(&str) -> Option<T>,
        reason: &str,
    ) -> Vec<T> {
        if texts.is_empty() {
            self.refuse(costs, field, "empty", "leave it out");
        }
        self.limited(costs, field, texts.len(), MOST_COMMUNITIES);
        let mut found = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            match read(text) {
                Some(value) if found.contains(&value) => {}
                Some(value) => found.push(value),
                None => self.refuse(costs, format!("{field}[{at}]"), quoted(text), reason),
            }
        }
        found
    }

    pub(super) fn prepended(&mut self, costs: Costs, field: &str, times: Option<u8>) -> u8 {
        if let Some(times) = times.filter(|times| *times == 0 || *times > MOST_PREPENDED) {
            self.refuse(costs, field, times, format!("1 to {MOST_PREPENDED}"));
        }
        times.unwrap_or_default()
    }
}

/// `AS:number`, or a name of IANA's registry "BGP Well-known Communities".
fn community(text: &str) -> Option<Community> {
    Some(match text {
        "graceful-shutdown" => Community(0xFFFF_0000),
        "no-export" => Community::NO_EXPORT,
        "no-advertise" => Community::NO_ADVERTISE,
        "no-export-subconfed" => Community::NO_EXPORT_SUBCONFED,
        "no-peer" => Community(0xFFFF_FF04),
        _ => {
            let (asn, value) = text.split_once(':')?;
            let (asn, value) = (number::<u16>(asn)?, number::<u16>(value)?);
            Community(u32::from(asn) << 16 | u32::from(value))
        }
    })
}

/// `AS:number:number` (RFC 8092 section 5).
fn large_community(text: &str) -> Option<LargeCommunity> {
    let parts = text.split(':').map(number).collect::<Option<Vec<u32>>>()?;
    Some(LargeCommunity(parts.try_into().ok()?))
}

/// Digits and nothing else: `+1` is a number to Rust.
fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_numbers_or_names() {
        let table = [
            ("65101:7", Some(Community(65101 << 16 | 7))),
            ("65535:65535", Some(Community(u32::MAX))),
            ("no-export", Some(Community::NO_EXPORT)),
            ("graceful-shutdown", Some(Community(0xFFFF_0000))),
            ("65536:1", None),
            ("1", None),
            ("1:2:3", None),
            ("1:+2", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(community(text), expected, "{text}");
        }
        assert_eq!(large_community("4294967295:0:7"), Some(LargeCommunity([u32::MAX, 0, 7])));
        for text in ["1:2", "1:2:3:4", "4294967296:0:0", "1::2", ":::"] {
            assert_eq!(large_community(text), None, "{text}");
        }
    }
}
