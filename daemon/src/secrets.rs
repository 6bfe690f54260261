//! Keys of TCP MD5 signatures, as Secrets have them.
//!
//! Nothing here, and nothing made from it, shows a key: what is wrong with one is told by its name and its length. An
//! error of a decoder would quote what it could not read, so entries are read by hand.
//!
//! A Secret is what somebody else may use, too: an entry that can be no key is no fault until a BGPPeerConfig asks for it.

use std::collections::BTreeMap;
use std::fmt;

use cambric_bgp::config::Password;
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_yaml_ng::Value;

/// The entry that is meant where none is named.
pub const DEFAULT_ENTRY: &str = "password";
/// The namespace of the daemon, as `deploy` has it.
pub const NAMESPACE: &str = "cambric-system";
/// What an API server's Secrets have beside `data`, as `cambric_kube` keeps them: how long entries are that are too long
/// for a key.
const LENGTHS: &str = "lengths";

/// What counts of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Secret {
    entries: BTreeMap<String, Entry>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Key(Password),
    /// No key has so few or so many octets.
    OfOctets(usize),
}

/// Which entry of which Secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRef {
    /// Name of the Secret.
    pub secret: String,
    /// Name of the entry.
    pub entry: String,
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {:?} of Secret {:?}", self.entry, self.secret)
    }
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// Nobody knows such a Secret.
    #[error("there is no such Secret")]
    NoSecret,
    /// It has others.
    #[error("the Secret has no such entry")]
    NoEntry,
    /// No key has so few or so many.
    #[error("{0} octets: a key has 1 to {most}", most = Password::MOST_BYTES)]
    OfOctets(usize),
}

impl Secret {
    /// Reads `data` and `stringData` of a manifest, of which the latter counts where both have an entry, as at an API
    /// server.
    ///
    /// # Errors
    /// An entry that is no text, or not in base64: its field and what is wrong.
    pub(crate) fn decode(value: &Value) -> Result<Secret, String> {
        let mut entries = BTreeMap::new();
        for (name, value) in fields(value, LENGTHS)? {
            let octets = value.as_u64().and_then(|octets| usize::try_from(octets).ok());
            entries.insert(name, Entry::OfOctets(octets.unwrap_or(usize::MAX)));
        }
        for (name, value) in fields(value, "data")? {
            let text = text("data", &name, value)?;
            let octets = ByteString::deserialize(Value::from(text)).map_err(|_| not_base64(&name))?;
            entries.insert(name, Entry::of(octets.0));
        }
        for (name, value) in fields(value, "stringData")? {
            let text = text("stringData", &name, value)?;
            entries.insert(name, Entry::of(text.as_bytes().to_vec()));
        }
        Ok(Secret { entries })
    }

    /// The key in the entry of that name.
    ///
    /// # Errors
    /// [`NoKey`]
    pub fn key(&self, entry: &str) -> Result<&Password, NoKey> {
        match self.entries.get(entry) {
            Some(Entry::Key(key)) => Ok(key),
            Some(Entry::OfOctets(octets)) => Err(NoKey::OfOctets(*octets)),
            None => Err(NoKey::NoEntry),
        }
    }
}

impl Entry {
    fn of(octets: Vec<u8>) -> Entry {
        let length = octets.len();
        Password::new(octets).map_or_else(|_| Entry::OfOctets(length), Entry::Key)
    }
}

/// The entries of a part of a Secret; none, where it has no such part.
fn fields<'a>(value: &'a Value, part: &str) -> Result<Vec<(String, &'a Value)>, String> {
    let entry = |(name, value): (&'a Value, &'a Value)| match name.as_str() {
        Some(name) => Ok((name.to_owned(), value)),
        None => Err(format!("{part}: the name of an entry is no text: put it in quotes")),
    };
    match value.get(part) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Mapping(entries)) => entries.iter().map(entry).collect(),
        Some(_) => Err(format!("{part}: not a map of entries")),
    }
}

fn text<'a>(part: &str, name: &str, value: &'a Value) -> Result<&'a str, String> {
    value.as_str().ok_or_else(|| format!("{part}.{name}: no text: put it in quotes"))
}

fn not_base64(name: &str) -> String {
    format!("data.{name}: not in base64; stringData takes it as it is")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Result<Secret, String> {
        Secret::decode(&serde_yaml_ng::from_str(text).expect("own text"))
    }

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes().to_vec()).expect("a key")
    }

    #[test]
    fn string_data_goes_before_data() {
        let found = secret("data: {password: c2VjcmV0, other: c2VjcmV0}\nstringData: {password: newer}\n");
        let found = found.expect("a Secret");
        assert_eq!(found.key("password"), Ok(&password("newer")));
        assert_eq!(found.key("other"), Ok(&password("secret")));
        assert_eq!(found.key("absent"), Err(NoKey::NoEntry));
    }

    #[test]
    fn what_can_be_no_key_is_told_by_its_length_alone() {
        let long = "x".repeat(81);
        let found = secret(&format!("stringData: {{empty: '', long: {long}, most: {}}}\n", &long[1..]));
        let found = found.expect("a Secret");
        for (name, octets) in [("empty", 0), ("long", 81)] {
            let error = found.key(name).expect_err("no key");
            assert_eq!(error.to_string(), format!("{octets} octets: a key has 1 to 80"));
        }
        assert!(found.key("most").is_ok());
        let kept = secret("data: {a: eA==}\nlengths: {b: 1704}\n").expect("as an API server's are kept");
        assert_eq!((kept.key("a"), kept.key("b")), (Ok(&password("x")), Err(NoKey::OfOctets(1704))));
    }

    /// Problems are shown, logged, and written to the API server.
    #[test]
    fn no_fault_and_no_debug_output_shows_what_an_entry_says() {
        for text in [
            "stringData: {password: 424242}",
            "data: {password: 'hunter2!'}",
            "data: {password: [hunter2]}",
            "stringData: hunter2",
            "stringData: {424242: hunter2}",
        ] {
            let fault = secret(text).expect_err(text);
            assert!(!fault.contains("hunter2") && !fault.contains("424242"), "{fault}");
        }
        let found = secret("stringData: {password: hunter2}").expect("a Secret");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
        assert!(secret("data:\n").is_ok(), "as kubectl writes an empty one");
    }
}
