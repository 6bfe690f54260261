//! A table that gives equal values one small number.
//!
//! A hundred thousand routes share a handful of next-hop sets, so a route stores four bytes and the set is
//! kept, and resolved, once. Numbers are reused after the last user is gone.

use std::{collections::HashMap, hash::Hash};

/// Number of a value in an [`Interner`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Interned(u32);

#[derive(Debug)]
pub(crate) struct Interner<T> {
    slots: Vec<Option<Slot<T>>>,
    numbers: HashMap<T, Interned>,
    free: Vec<Interned>,
}

#[derive(Debug)]
struct Slot<T> {
    value: T,
    users: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), numbers: HashMap::new(), free: Vec::new() }
    }
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// The number of a value, with one user more.
    pub(crate) fn acquire(&mut self, value: &T) -> Interned {
        if let Some(&number) = self.numbers.get(value) {
            if let Some(slot) = self.slot_mut(number) {
                slot.users += 1;
            }
            return number;
        }
        let slot = Some(Slot { value: value.clone(), users: 1 });
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[number.0 as usize] = slot;
                number
            }
            None => {
                self.slots.push(slot);
                Interned(self.slots.len() as u32 - 1)
            }
        };
        self.numbers.insert(value.clone(), number);
        number
    }

    /// One user less; the last one frees the number.
    pub(crate) fn release(&mut self, number: Interned) {
        let Some(slot) = self.slot_mut(number) else { return };
        slot.users -= 1;
        if slot.users == 0
            && let Some(slot) = self.slots[number.0 as usize].take()
        {
            self.numbers.remove(&slot.value);
            self.free.push(number);
        }
    }

    /// The value behind a number that has users.
    pub(crate) fn get(&self, number: Interned) -> Option<&T> {
        self.slots.get(number.0 as usize)?.as_ref().map(|slot| &slot.value)
    }

    /// All values with their numbers and how many use them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Interned, &T, usize)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(at, slot)| slot.as_ref().map(|slot| (Interned(at as u32), &slot.value, slot.users)))
    }

    fn slot_mut(&mut self, number: Interned) -> Option<&mut Slot<T>> {
        self.slots.get_mut(number.0 as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_number_until_the_last_user_is_gone() {
        let mut table = Interner::default();
        let a = table.acquire(&"a");
        let b = table.acquire(&"b");
        assert_eq!(table.acquire(&"a"), a);
        assert_ne!(a, b);
        table.release(a);
        assert_eq!(table.get(a), Some(&"a"));
        table.release(a);
        assert_eq!(table.get(a), None);
        assert_eq!(table.acquire(&"c"), a);
        assert_eq!(
            table.iter().map(|(_, value, users)| (*value, users)).collect::<Vec<_>>(),
            [("c", 1), ("b", 1)]
        );
    }
}
