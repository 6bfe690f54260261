//! Texts and lists that many objects have in common, each kept once.
//!
//! A cluster of 100 000 pods has some hundred thousand labels of which most say the same: one copy of each makes the
//! difference between a hundred megabytes and ten. What is kept here has no meaning of its own and no effect but that on
//! memory, so one shelf serves the whole process: readers of objects need not be handed one. What nobody else holds
//! any more goes when a shelf has grown to an eighth more than what was in use.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A shelf is not looked through before it holds so many.
const FEW: usize = 4096;

static TEXTS: Shelf<str> = Shelf::new();

/// The one copy of a text.
pub fn text(text: &str) -> Arc<str> {
    TEXTS.keep(text)
}

/// Values that are equal and one.
pub(crate) struct Shelf<T: ?Sized>(LazyLock<Mutex<Kept<T>>>);

struct Kept<T: ?Sized> {
    all: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized + Eq + Hash> Shelf<T> {
    pub(crate) const fn new() -> Shelf<T> {
        Shelf(LazyLock::new(|| Mutex::new(Kept { all: HashSet::new(), sweep_at: FEW })))
    }

    /// The one copy of a value.
    pub(crate) fn keep(&self, value: impl AsRef<T> + Into<Arc<T>>) -> Arc<T> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.all.get(value.as_ref()) {
            return found.clone();
        }
        if kept.all.len() >= kept.sweep_at {
            // Nobody can take what only the shelf holds while it is locked.
            kept.all.retain(|value| Arc::strong_count(value) > 1);
            kept.sweep_at = FEW.max(kept.all.len() + kept.all.len() / 8);
            let room = kept.sweep_at;
            kept.all.shrink_to(room);
        }
        let value: Arc<T> = value.into();
        kept.all.insert(value.clone());
        value
    }
}

/// A text as it is read, without a copy of its own.
pub(crate) struct Text(pub(crate) Arc<str>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }
            fn visit_str<E: Error>(self, read: &str) -> Result<Text, E> {
                Ok(Text(text(read)))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_is_one() {
        assert!(Arc::ptr_eq(&text("one"), &text(&String::from("one"))));
        assert_ne!(text("one"), text("two"));
    }

    #[test]
    fn what_nobody_holds_goes_in_the_end() {
        let shelf: Shelf<str> = Shelf::new();
        let held: Vec<Arc<str>> = (0..10).map(|n| shelf.keep(&*format!("held {n}"))).collect();
        for n in 0..10 * FEW {
            shelf.keep(&*format!("dropped {n}"));
        }
        assert!(shelf.0.lock().expect("no panic").all.len() <= FEW);
        for (n, held) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(held, &shelf.keep(&*format!("held {n}"))));
        }
    }
}
