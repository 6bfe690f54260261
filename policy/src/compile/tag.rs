//! Tags of rules: whose they are, for people who read the kernel's rules and for counters.

use super::name::Content;
use crate::change::Key;
use crate::policy::Direction;

/// Most bytes of the part that names a policy: with the longest rest, a tag has at most 120.
const MOST_POLICY_BYTES: usize = 96;

/// The part of tags that names a policy: `default/allow-dns`. A name that is too long is cut, and keeps its hash.
pub fn of_policy(key: &Key) -> String {
    let mut tag = key.to_string();
    if tag.len() > MOST_POLICY_BYTES {
        let mut content = Content::default();
        let letters = content.text(&tag).letters();
        let fitting = MOST_POLICY_BYTES - letters.len() - 1;
        let end = tag.char_indices().map(|(at, _)| at).take_while(|&at| at <= fitting).last().unwrap_or(0);
        tag.truncate(end);
        tag.push('~');
        tag.push_str(&letters);
    }
    tag
}

/// The tag of a rule, counted from 0: `default/allow-dns egress[0]`.
pub fn of_rule(key: &Key, direction: Direction, at: usize) -> String {
    format!("{} {}[{at}]", of_policy(key), direction.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tag_fits_and_names_one_policy() {
        let of = |last: &str| {
            let key = Key::new(&"n".repeat(63), &("ü".repeat(126) + last));
            of_rule(&key, Direction::Ingress, 9_999_999)
        };
        assert!(of("a").len() <= 120, "{}", of("a").len());
        assert_ne!(of("a"), of("b"));
        assert_eq!(of_rule(&Key::new("a", "b"), Direction::Egress, 1), "a/b egress[1]");
    }
}
