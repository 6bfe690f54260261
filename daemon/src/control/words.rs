//! Names from outside: made harmless, and the ones that an operator may have meant.

/// Peers and their words come from outside: nothing of it may steer a terminal.
pub(super) fn escaped(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Most names of one kind that are told to somebody who named none of them.
const FEW: usize = 8;

/// A longer word is no slip of the pen, and comparing takes as long as both are.
const MOST_COMPARED: usize = 64;

/// The names that are written much as `wanted`; if there are none, all if they are few.
pub(super) fn near(wanted: &str, mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    let is_near = |name: &&String| {
        name.starts_with(wanted)
            || wanted.starts_with(name.as_str())
            || (wanted.len() <= MOST_COMPARED && edits(wanted, name) <= 2)
    };
    let near: Vec<String> = names.iter().filter(is_near).take(FEW).cloned().collect();
    match near.len() {
        0 if names.len() <= FEW => names,
        _ => near,
    }
}

/// How many characters must be put in, taken out or changed to get from one to the other (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in other.iter().enumerate() {
            let changed = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_that_look_alike_are_near() {
        assert_eq!(edits("tor1a", "tor1a"), 0);
        assert_eq!(edits("tor1a", "tor1"), 1);
        assert_eq!(edits("ab", "ba"), 2);
        assert_eq!(edits("", "tor"), 3);
        let known = names(&["tor1a", "tor1b", "node-mesh-7"]);
        assert_eq!(near("tor1", known.clone()), ["tor1a", "tor1b"]);
        assert_eq!(near("node-mash-7", known), ["node-mesh-7"]);
    }

    #[test]
    fn few_names_are_all_told_and_many_are_not() {
        assert_eq!(near("zzzzzzz", names(&["tor1a", "tor1b"])), ["tor1a", "tor1b"]);
        let many: Vec<String> = (0..100).map(|index| format!("node-{index}")).collect();
        assert_eq!(near("zzzzzzz", many.clone()), [""; 0]);
        assert_eq!(near("node", many).len(), FEW);
    }

    #[test]
    fn control_characters_lose_their_power() {
        assert_eq!(escaped("a\x1b[2J\nß"), "a\\u{1b}[2J\\nß");
    }
}
