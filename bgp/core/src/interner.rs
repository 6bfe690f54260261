//! One copy of what is told of many prefixes.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Keeps one copy of each value, shared by all prefixes that carry it.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: HashSet<Arc<T>>,
    /// Unused values are looked for when the table has grown to this.
    sweep_at: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner { values: HashSet::new(), sweep_at: 0 }
    }
}

impl<T: Eq + Hash> Interner<T> {
    const SWEEP_AT_LEAST: usize = 1024;

    /// The shared copy of `value`.
    pub(crate) fn intern(&mut self, value: T) -> Arc<T> {
        match self.values.get(&value) {
            Some(known) => Arc::clone(known),
            None => self.keep(Arc::new(value)),
        }
    }

    /// As [`Interner::intern`], of a value that stands where it may stay.
    pub(crate) fn share(&mut self, value: Arc<T>) -> Arc<T> {
        match self.values.get(&value) {
            Some(known) => Arc::clone(known),
            None => self.keep(value),
        }
    }

    fn keep(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at.max(Self::SWEEP_AT_LEAST) {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = self.values.len() * 2;
        }
        self.values.insert(Arc::clone(&value));
        value
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.values.len()
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
