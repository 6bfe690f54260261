//! `mrt dump`: a file in pieces.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// A piece of a file; the last one says what is in the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Dump {
    /// Its octets, two hexadecimal digits each.
    pub octets: String,
    /// Prefixes in the whole.
    #[serde(default)]
    pub prefixes: usize,
    /// Paths to them.
    #[serde(default)]
    pub paths: usize,
}

impl Dump {
    /// A piece with these octets.
    pub fn of(octets: &[u8]) -> Dump {
        let mut digits = String::with_capacity(2 * octets.len());
        for octet in octets {
            let _ = write!(digits, "{octet:02x}"); // a String takes everything
        }
        Dump { octets: digits, ..Dump::default() }
    }

    /// What is in it; `None` if that is not hexadecimal.
    pub fn octets(&self) -> Option<Vec<u8>> {
        let digit = |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = self.octets.as_bytes().as_chunks::<2>();
        let octets = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
        if rest.is_empty() { octets.collect() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_are_read_as_they_were_written() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(Dump::of(&all).octets(), Some(all));
        for wrong in ["0", "0g", "\u{e9}a"] {
            assert_eq!(Dump { octets: wrong.to_owned(), ..Dump::default() }.octets(), None, "{wrong}");
        }
    }
}
