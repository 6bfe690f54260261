//! One copy of what is told of many prefixes.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

/// Keeps one copy of each value, shared by all prefixes that carry it.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: HashTable<Kept<T>>,
    /// Unused values are looked for when the table has grown to this.
    sweep_at: usize,
    /// Secret, so that no peer can choose values that fall together.
    keys: RandomState,
}

/// A value with its hash, which is worked out once.
#[derive(Debug)]
struct Kept<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { values: HashTable::new(), sweep_at: 0, keys: RandomState::new() }
    }
}

impl<T: Eq + Hash> Interner<T> {
    const SWEEP_AT_LEAST: usize = 1024;

    /// The shared copy of `value`.
    pub(crate) fn intern(&mut self, value: T) -> Arc<T> {
        let hash = hash(&self.keys, &value);
        self.known(hash, &value).unwrap_or_else(|| self.keep(hash, Arc::new(value)))
    }

    /// As [`Interner::intern`], of a value that stands where it may stay.
    pub(crate) fn share(&mut self, value: Arc<T>) -> Arc<T> {
        let hash = hash(&self.keys, &*value);
        self.known(hash, &value).unwrap_or_else(|| self.keep(hash, value))
    }

    fn known(&self, hash: u64, value: &T) -> Option<Arc<T>> {
        let known = self.values.find(hash, |kept| kept.hash == hash && *kept.value == *value)?;
        Some(Arc::clone(&known.value))
    }

    fn keep(&mut self, hash: u64, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at.max(Self::SWEEP_AT_LEAST) {
            self.values.retain(|kept| Arc::strong_count(&kept.value) > 1);
            self.sweep_at = self.values.len() * 2;
        }
        self.values.insert_unique(hash, Kept { hash, value: Arc::clone(&value) }, |kept| kept.hash);
        value
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }
}

fn hash<T: Hash>(keys: &RandomState, value: &T) -> u64 {
    let mut gathered = Gathered { hasher: keys.build_hasher(), octets: [0; Gathered::ROOM], filled: 0 };
    value.hash(&mut gathered);
    gathered.finish()
}

/// Takes many small writes for few long ones, which cost SipHash a fraction.
struct Gathered {
    hasher: DefaultHasher,
    octets: [u8; Gathered::ROOM],
    filled: usize,
}

impl Gathered {
    const ROOM: usize = 256;
}

impl Hasher for Gathered {
    #[inline]
    fn write(&mut self, octets: &[u8]) {
        if let Some(place) = self.octets.get_mut(self.filled..self.filled + octets.len()) {
            place.copy_from_slice(octets);
            self.filled += octets.len();
            return;
        }
        self.hasher.write(&self.octets[..self.filled]);
        self.hasher.write(octets);
        self.filled = 0;
    }

    fn finish(&self) -> u64 {
        let mut hasher = self.hasher.clone();
        hasher.write(&self.octets[..self.filled]);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_object() {
        let mut interner = Interner::default();
        let (one, two) = (interner.intern("one".to_owned()), interner.intern("one".to_owned()));
        assert!(Arc::ptr_eq(&one, &two));
        assert_eq!(interner.values.len(), 1);
    }

    /// The standard library's hash of the same value, which feeds SipHash piece by piece.
    #[test]
    fn what_is_gathered_is_hashed_as_if_it_had_not_been() {
        let keys = RandomState::new();
        for octets in [0, 1, 100, 239, 240, 241, 255, 256, 257, 600] {
            let value = (vec![7_u8; 3], vec![octets as u8; octets], vec![octets as u32; 100]);
            assert_eq!(hash(&keys, &value), keys.hash_one(&value), "{octets}");
        }
    }

    #[test]
    fn values_that_nobody_uses_go_when_the_table_grows() {
        let mut interner = Interner::default();
        for value in 0..3000 {
            interner.intern(value);
        }
        let held = interner.values.len();
        assert!(held <= Interner::<i32>::SWEEP_AT_LEAST + 1, "{held}");
    }
}
