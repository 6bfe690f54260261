//! A map whose clones share what they have in common, for views of a hundred thousand pods of which a hundred change
//! a second: a clone costs a reference count a part, a change copies one part, and what two of them differ in is
//! looked for only in parts that are not the same.

use std::borrow::Borrow;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// So many that a part of the largest cluster has a few hundred entries.
const PARTS: usize = 256;

/// Entries in the order of their keys. Nothing is smaller, and to move some hundred of them costs what their copy costs.
type Part<K, V> = Vec<(K, V)>;

/// Keys are in no order.
#[derive(Debug)]
pub struct Shared<K, V> {
    parts: Vec<Arc<Part<K, V>>>,
    len: usize,
}

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        // One empty part is all of them.
        let empty = Arc::new(Part::new());
        Shared { parts: vec![empty; PARTS], len: 0 }
    }
}

impl<K, V> Clone for Shared<K, V> {
    fn clone(&self) -> Self {
        Shared { parts: self.parts.clone(), len: self.len }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Shared<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |(one, other): (&Arc<_>, &Arc<_>)| Arc::ptr_eq(one, other) || one == other;
        self.len == other.len && self.parts.iter().zip(&other.parts).all(is_same)
    }
}

impl<K: Eq, V: Eq> Eq for Shared<K, V> {}

impl<K: Ord + Hash + Clone, V: Clone> Shared<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What stands under `key`.
    pub fn get<Q: Ord + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        value_of(&self.parts[part_of(key)], key)
    }

    /// Puts `value` under `key`; gives what stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let part = Arc::make_mut(&mut self.parts[part_of(&key)]);
        match place_of(part, &key) {
            Ok(at) => Some(std::mem::replace(&mut part[at].1, value)),
            Err(at) => {
                if part.len() == part.capacity() {
                    // By itself it would double.
                    part.reserve_exact(part.len() / 8 + 1);
                }
                part.insert(at, (key, value));
                self.len += 1;
                None
            }
        }
    }

    /// Takes away what stands under `key`; a key that is not there copies nothing.
    pub fn remove<Q: Ord + Hash + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let part = &mut self.parts[part_of(key)];
        let at = place_of(part, key).ok()?;
        self.len -= 1;
        Some(Arc::make_mut(part).remove(at).1)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter()).map(|(key, value)| (key, value))
    }

    /// The same, with the parts of `before` in place of those that say the same, and in others its values: whoever
    /// has a value of `before`, and is told of what differs alone, has the same copy.
    pub fn after(mut self, before: &Self) -> Self
    where
        V: PartialEq,
    {
        let parts = self.parts.iter_mut().zip(&before.parts);
        for (part, before) in parts.filter(|(now, before)| !Arc::ptr_eq(now, before)) {
            if part == before {
                *part = Arc::clone(before);
                continue;
            }
            for (key, value) in Arc::make_mut(part) {
                if let Some(same) = value_of(before, key).filter(|before| *before == value) {
                    value.clone_from(same);
                }
            }
        }
        self
    }

    /// What of `now` is new or another, and `None` for what is only in `self`; in the order of the keys.
    pub fn differences(&self, now: &Self) -> Vec<(K, Option<V>)>
    where
        V: PartialEq,
    {
        let changed = self.parts.iter().zip(&now.parts).filter(|(before, now)| !Arc::ptr_eq(before, now));
        let mut found = Vec::new();
        for (before, now) in changed {
            let come = now.iter().filter(|(key, value)| value_of(before, key) != Some(value));
            found.extend(come.map(|(key, value)| (key.clone(), Some(value.clone()))));
            let gone = before.iter().filter(|(key, _)| place_of(now, key).is_err());
            found.extend(gone.map(|(key, _)| (key.clone(), None)));
        }
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        found
    }
}

impl<K: Ord + Hash + Clone, V: Clone> FromIterator<(K, V)> for Shared<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Shared::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

fn part_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    // The remainder fits.
    (hasher.finish() % PARTS as u64) as usize
}

/// Where `key` stands, or would stand.
fn place_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(part: &Part<K, V>, key: &Q) -> Result<usize, usize> {
    part.binary_search_by(|(own, _)| own.borrow().cmp(key))
}

fn value_of<'a, K: Borrow<Q>, V, Q: Ord + ?Sized>(part: &'a Part<K, V>, key: &Q) -> Option<&'a V> {
    place_of(part, key).ok().and_then(|at| part.get(at)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain map: contents, length, and differences to an earlier clone.
        #[test]
        fn it_is_a_map_and_differences_lead_from_a_clone_to_it(
            before in prop::collection::vec((0_u16..600, any::<Option<u8>>()), 0..400),
            after in prop::collection::vec((0_u16..600, any::<Option<u8>>()), 0..50),
        ) {
            let (mut map, mut model) = (Shared::default(), BTreeMap::new());
            let tell = |map: &mut Shared<u16, u8>, model: &mut BTreeMap<u16, u8>, changes: &[(u16, Option<u8>)]| {
                for (key, value) in changes {
                    match value {
                        Some(value) => assert_eq!(map.insert(*key, *value), model.insert(*key, *value)),
                        None => assert_eq!(map.remove(key), model.remove(key)),
                    }
                }
            };
            tell(&mut map, &mut model, &before);
            let (clone, at_clone) = (map.clone(), model.clone());
            tell(&mut map, &mut model, &after);
            prop_assert_eq!(map.len(), model.len());
            let found: BTreeMap<u16, u8> = map.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&found, &model);
            let kept: BTreeMap<u16, u8> = clone.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&kept, &at_clone, "a clone is not touched");
            let mut led = at_clone;
            for (key, value) in clone.differences(&map) {
                match value {
                    Some(value) => _ = led.insert(key, value),
                    None => _ = led.remove(&key),
                }
            }
            prop_assert_eq!(led, model);
            let same: Shared<u16, u8> = map.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(same, map);
        }
    }

    /// Counts how often two are compared.
    #[derive(Debug, Clone)]
    struct Weighed<'a>(u8, &'a Cell<usize>);

    impl PartialEq for Weighed<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    #[test]
    fn what_is_read_anew_and_is_equal_is_the_copy_of_before() {
        let read = |changed: u32| -> Shared<u32, Arc<u32>> {
            (0..10_000).map(|key| (key, Arc::new(if key == changed { 1 } else { 0 }))).collect()
        };
        let before = read(7);
        let now = read(8).after(&before);
        assert_eq!(before.differences(&now), [(7, Some(Arc::new(0))), (8, Some(Arc::new(1)))]);
        let own = |key: &u32| *key != 7 && *key != 8;
        for (key, value) in before.iter().filter(|(key, _)| own(key)) {
            assert!(now.get(key).is_some_and(|now| Arc::ptr_eq(now, value)), "two copies of {key}");
        }
    }

    #[test]
    fn what_one_change_of_many_costs_is_one_part() {
        let weighed = Cell::new(0);
        let many = 100_000;
        let before: Shared<u32, Weighed> = (0..many).map(|key| (key, Weighed(0, &weighed))).collect();
        let mut now = before.clone();
        now.insert(7, Weighed(1, &weighed));
        assert_eq!(before.differences(&now), [(7, Some(Weighed(1, &weighed)))]);
        let most = 2 * many as usize / PARTS;
        assert!(weighed.get() < most, "{} of {many} were looked at", weighed.get());

        let again: Shared<u32, Weighed> = (0..many).map(|key| (key, Weighed(0, &weighed))).collect();
        let again = again.after(&before);
        weighed.set(0);
        assert_eq!((again.differences(&before), weighed.get()), (Vec::new(), 0), "nothing is looked at");
        let apart = again.after(&now).differences(&now);
        assert_eq!((apart.len(), weighed.get() < many as usize + most), (1, true));
    }
}
