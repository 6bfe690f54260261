//! Names that are hashes of what they stand for: 26 letters, 130 bits of SHA-256.
//!
//! Stable over releases and restarts, as the kernel keeps them; and made so that nobody who writes policies can make
//! two contents of one name: a set that means something else would let in what another's policy keeps out. To make a
//! content that has the name of a given one takes some 2^130 tries, and to find any two of one name 2^65. No more letters
//! fit a set's name.

use sha2::{Digest, Sha256};

/// Letters of a hash: with the longest beginning, `cam4p`, a set's name is as long as it may be.
pub(crate) const LETTERS: usize = 26;
/// RFC 4648 section 6, in lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Takes content in, part by part. Each part has its length before it, so that no two contents look alike.
#[derive(Debug, Default)]
pub(super) struct Content(Sha256);

impl Content {
    pub(super) fn text(&mut self, text: &str) -> &mut Content {
        self.number(text.len() as u32);
        self.0.update(text);
        self
    }

    pub(super) fn number(&mut self, number: u32) -> &mut Content {
        self.0.update(number.to_be_bytes());
        self
    }

    /// Base 32 of the hash's first bits.
    pub(super) fn letters(&self) -> String {
        let hash = self.0.clone().finalize();
        let letter = |bit: usize| {
            let bytes = u16::from_be_bytes([hash[bit / 8], hash[bit / 8 + 1]]);
            char::from(ALPHABET[usize::from(bytes >> (11 - bit % 8)) % ALPHABET.len()])
        };
        (0..LETTERS).map(|at| letter(5 * at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of what `printf abc | sha256sum` prints, as `base32` writes it.
    #[test]
    fn letters_are_the_hash_in_base_32() {
        assert_eq!(Content::default().letters(), "4oymiquy7qobjgx36tejs35zeq");
        let mut content = Content::default();
        content.0.update("abc");
        assert_eq!(content.letters(), "xj4bnp4pahh6uqkbidpf3lrceo");
    }

    #[test]
    fn names_are_distinct_and_fit() {
        let of = |parts: &[&str]| {
            let mut content = Content::default();
            parts.iter().for_each(|part| _ = content.text(part));
            content.letters()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_eq!("cam4p".len() + LETTERS, crate::program::MOST_SET_NAME_BYTES);
    }
}
