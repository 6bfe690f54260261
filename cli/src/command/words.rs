//! A line's words, as a shell would split them: `'…'` and `"…"` and `\\` keep what they hold in one word, `~/` is the
//! home of who types. The difference: quotes that nobody closed end with the line, so that a path can be taken as Tab
//! leaves it.

use std::env;
use std::iter::Peekable;
use std::str::CharIndices;

/// A line up to the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Those before the last.
    pub(super) words: Vec<String>,
    /// The beginning of the last one; empty behind a space.
    pub(super) typed: String,
    /// Where that stands in the line, its quotes among it.
    pub(super) typed_at: usize,
}

/// All of them.
pub(super) fn all(line: &str) -> Vec<String> {
    split(line).into_iter().map(|word| word.text).collect()
}

/// Those of a line that ends at the cursor.
pub(super) fn unfinished(line: &str) -> Unfinished {
    let mut words = split(line);
    let last = words.pop_if(|last| last.end == line.len());
    let (typed, typed_at) = last.map_or((String::new(), line.len()), |last| (last.text, last.start));
    Unfinished { words: words.into_iter().map(|word| word.text).collect(), typed, typed_at }
}

/// A word, and where it stands in the line.
#[derive(Debug)]
struct Word {
    text: String,
    start: usize,
    end: usize,
}

fn split(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut characters = line.char_indices().peekable();
    loop {
        while characters.next_if(|(_, character)| character.is_whitespace()).is_some() {}
        let Some(&(start, _)) = characters.peek() else { return words };
        let text = word(&mut characters);
        let end = characters.peek().map_or(line.len(), |&(at, _)| at);
        let text = match (line[start..end].starts_with("~/"), home()) {
            (true, Some(home)) => format!("{home}{}", &text[1..]),
            _ => text,
        };
        words.push(Word { text, start, end });
    }
}

fn word(characters: &mut Peekable<CharIndices<'_>>) -> String {
    let mut text = String::new();
    let mut quote = None;
    while let Some((_, character)) =
        characters.next_if(|(_, character)| quote.is_some() || !character.is_whitespace())
    {
        match (quote, character) {
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '\\') => text.push(characters.next().map_or('\\', |(_, escaped)| escaped)),
            // POSIX.1-2024, Shell Command Language, section 2.2.3: there it escapes only what has a meaning.
            (Some('"'), '\\') => {
                let escaped = characters.next_if(|(_, next)| matches!(next, '"' | '\\' | '$' | '`'));
                text.push(escaped.map_or('\\', |(_, escaped)| escaped));
            }
            _ => text.push(character),
        }
    }
    text
}

/// Without a slash at its end.
fn home() -> Option<String> {
    let home = env::var("HOME").ok().filter(|home| home.starts_with('/'))?;
    Some(home.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_keep_a_word_together() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  ", &[]),
            (" show  route ", &["show", "route"]),
            ("a 'b c' d", &["a", "b c", "d"]),
            ("a \"b c\"d", &["a", "b cd"]),
            (r"a b\ c", &["a", "b c"]),
            (r#"'a\b' "c\d\"e" \\"#, &["a\\b", "c\\d\"e", "\\"]),
            ("'' x", &["", "x"]),
            ("a \"b c", &["a", "b c"]),
            ("a\\", &["a\\"]),
            ("a\u{a0}b", &["a", "b"]),
        ];
        for (line, words) in cases {
            assert_eq!(all(line), *words, "{line}");
        }
    }

    #[test]
    fn unfinished_word_is_known_with_its_place() {
        let of = |line| {
            let Unfinished { words, typed, typed_at } = unfinished(line);
            (words, typed, typed_at)
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(""), (words(&[]), String::new(), 0));
        assert_eq!(of("show "), (words(&["show"]), String::new(), 5));
        assert_eq!(of("show 'a b"), (words(&["show"]), "a b".to_owned(), 5));
        assert_eq!(of(r"show a\ b"), (words(&["show"]), "a b".to_owned(), 5));
        assert_eq!(of(r"show a\ "), (words(&["show"]), "a ".to_owned(), 5));
    }

    #[test]
    fn home_is_meant_by_a_tilde_only_at_the_beginning_and_only_without_quotes() {
        let home = home().unwrap_or_else(|| "~".to_owned());
        assert_eq!(all("~/x a~/x '~/x' ~x ~"), [format!("{home}/x").as_str(), "a~/x", "~/x", "~x", "~"]);
    }
}
