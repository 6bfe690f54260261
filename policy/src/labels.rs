//! The labels of an object. Pods of one ReplicaSet have the same, so whole lists are kept once, too.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::atoms::{Shelf, Text, text};

type Label = (Arc<str>, Arc<str>);

static LISTS: Shelf<[Label]> = Shelf::new();

/// The labels of an object, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Arc<[Label]>);

impl Labels {
    /// As objects hold them.
    pub fn new(labels: Option<&BTreeMap<String, String>>) -> Labels {
        labels.into_iter().flatten().collect()
    }

    /// The same with one label set.
    pub fn with(self, key: &str, value: &str) -> Labels {
        let all = self.iter().map(|(key, value)| (&**key, &**value));
        all.chain([(key, value)]).collect()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(own, _)| (**own).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// In order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// No label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(labels: BTreeMap<Arc<str>, Arc<str>>) -> Labels {
        match labels.is_empty() {
            true => Labels::default(),
            false => Labels(LISTS.keep(labels.into_iter().collect::<Vec<Label>>())),
        }
    }
}

/// Of a key that is there twice the last value counts.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Labels {
        Labels::of(
            labels.into_iter().map(|(key, value)| (text(key.as_ref()), text(value.as_ref()))).collect(),
        )
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(key, value)| (&**key, &**value)))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Labels;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = BTreeMap::new();
                while let Some((Text(key), Text(value))) = map.next_entry()? {
                    labels.insert(key, value);
                }
                Ok(Labels::of(labels))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_their_keys_and_equal_ones_are_one() {
        let one: Labels = [("b", "2"), ("a", "1"), ("b", "3")].into_iter().collect();
        let other = Labels::default().with("a", "1").with("b", "3");
        assert!(Arc::ptr_eq(&one.0, &other.0));
        assert_eq!([one.get("a"), one.get("b"), one.get("c")], [Some("1"), Some("3"), None]);
        assert!(!one.is_empty() && Labels::new(None).is_empty());
    }

    #[test]
    fn labels_are_written_as_a_map() {
        let labels = Labels::default().with("a", "1");
        assert_eq!(serde_json::to_string(&labels).expect("JSON"), r#"{"a":"1"}"#);
        assert_eq!(serde_json::from_str::<Labels>(r#"{"a":"1"}"#).expect("labels"), labels);
        assert!(serde_json::from_str::<Labels>(r#"{"a":1}"#).is_err());
    }
}
