//! The resourceVersion of an object or of a list.
//!
//! Versions are decimal numbers of any length, and later ones are greater (KEP-5504). What is no such number comes from
//! a server that keeps to the older promise, that a version says nothing but whether two are the same.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// See above.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    Number(u64),
    /// Longer than that, or no number.
    Text(Arc<str>),
}

impl Version {
    /// No list is older: the versions of an etcd begin with it.
    pub(crate) const FIRST: Version = Version::Number(1);

    pub(crate) fn new(text: &str) -> Version {
        match text.parse() {
            Ok(number) if is_decimal(text) => Version::Number(number),
            _ => Version::Text(text.into()),
        }
    }

    /// Which of the two is later; `None`: nobody can tell.
    pub(crate) fn order(&self, other: &Version) -> Option<Ordering> {
        match (self, other) {
            (Version::Number(one), Version::Number(other)) => Some(one.cmp(other)),
            (Version::Text(one), Version::Text(other)) if one == other => Some(Ordering::Equal),
            (Version::Text(one), Version::Text(other)) if is_decimal(one) && is_decimal(other) => {
                Some(one.len().cmp(&other.len()).then_with(|| one.cmp(other)))
            }
            // A number that is kept as a text is longer than all that are not.
            (Version::Number(_), Version::Text(text)) if is_decimal(text) => Some(Ordering::Less),
            (Version::Text(text), Version::Number(_)) if is_decimal(text) => Some(Ordering::Greater),
            _ => None,
        }
    }

    pub(crate) fn is_older_than(&self, other: &Version) -> bool {
        self.order(other) == Some(Ordering::Less)
    }

    /// Whether it can be compared with versions of etcd.
    pub(crate) fn is_number(&self) -> bool {
        match self {
            Version::Number(_) => true,
            Version::Text(text) => is_decimal(text),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Version::Text(text) if text.is_empty())
    }

    pub(crate) fn is_newer_than(&self, other: &Version) -> bool {
        self.order(other) == Some(Ordering::Greater)
    }
}

fn is_decimal(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('0') && text.bytes().all(|octet| octet.is_ascii_digit())
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Version::Number(number) => write!(f, "{number}"),
            Version::Text(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers_of_any_length_and_others_for_equality_alone() {
        let huge = "99999999999999999999999";
        for (one, other, order) in [
            ("9", "10", Some(Ordering::Less)),
            ("10", "10", Some(Ordering::Equal)),
            ("10", huge, Some(Ordering::Less)),
            (huge, "18446744073709551615", Some(Ordering::Greater)),
            (huge, "99999999999999999999998", Some(Ordering::Greater)),
            (huge, huge, Some(Ordering::Equal)),
            ("010", "9", None),
            ("abc", "abc", Some(Ordering::Equal)),
            ("abc", "abd", None),
            ("abc", "1", None),
            ("+1", "1", None),
            ("", "1", None),
        ] {
            assert_eq!(Version::new(one).order(&Version::new(other)), order, "{one} and {other}");
        }
        assert_eq!(Version::new(huge).to_string(), huge);
    }
}
