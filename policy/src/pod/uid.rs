//! What tells a pod from another of the same name.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// Lengths of the parts of a UUID as text (RFC 9562 section 4), in hexadecimal digits.
const PARTS: [usize; 5] = [8, 4, 4, 4, 12];

/// The uid of an object: a text in which nobody reads anything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Form);

/// Those that the API server gives are UUIDs; of static pods the kubelet makes them, a hash.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Uuid([u8; 16]),
    Hash([u8; 16]),
    Other(Box<str>),
}

impl Uid {
    /// Of a text; `None`: it is empty, which says that there is none.
    pub fn new(text: &str) -> Option<Uid> {
        let uuid = || {
            let parts: Vec<&str> = text.split('-').collect();
            let is_uuid = parts.iter().map(|part| part.len()).eq(PARTS);
            is_uuid.then(|| octets(parts.concat().as_bytes())).flatten()
        };
        if text.is_empty() {
            return None;
        }
        let form = match octets(text.as_bytes()) {
            Some(hash) => Form::Hash(hash),
            None => uuid().map_or_else(|| Form::Other(text.into()), Form::Uuid),
        };
        Some(Uid(form))
    }
}

/// What 32 digits stand for. Capital letters would not come out as they went in.
fn octets(digits: &[u8]) -> Option<[u8; 16]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut octets = [0; 16];
    if digits.len() != 2 * octets.len() {
        return None;
    }
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(octets)
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (octets, dashes) = match &self.0 {
            Form::Uuid(octets) => (octets, [4, 6, 8, 10].as_slice()),
            Form::Hash(octets) => (octets, [].as_slice()),
            Form::Other(text) => return f.write_str(text),
        };
        for (at, octet) in octets.iter().enumerate() {
            let dash = if dashes.contains(&at) { "-" } else { "" };
            write!(f, "{dash}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Uid, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Uid::new(&text).ok_or_else(|| serde::de::Error::custom("an empty uid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_out_as_it_went_in() {
        for text in [
            "0fe1f2d6-9c5c-4cc8-9d5e-2f4cdd1e25ab",
            "0FE1F2D6-9c5c-4cc8-9d5e-2f4cdd1e25ab",
            "0fe1f2d69c5c4cc89d5e2f4cdd1e25ab",
            "0fe1f2d69c5c-4cc8-9d5e-2f4c-dd1e25ab",
            "0fe1f2d69c5c4cc89d5e2f4cdd1e25",
            "web",
            "é-–",
        ] {
            assert_eq!(Uid::new(text).expect("a uid").to_string(), text);
        }
        assert_eq!(Uid::new(""), None);
        assert_ne!(
            Uid::new("0fe1f2d6-9c5c-4cc8-9d5e-2f4cdd1e25ab"),
            Uid::new("0fe1f2d69c5c4cc89d5e2f4cdd1e25ab")
        );
        assert_eq!(size_of::<Option<Uid>>(), 24);
    }
}
