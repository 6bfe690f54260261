//! Finding the command that a line means: the words are followed through all rows at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use thiserror::Error;

use super::words::{self, Unfinished};
use super::{Line, ROWS, Row, usages};

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum CommandError {
    /// No keyword fits there.
    #[error("`{typed}` is unknown{}; {}", after(.before), possible(.candidates))]
    Unknown { typed: String, before: String, candidates: Vec<&'static str> },
    /// Several do.
    #[error("`{typed}` is ambiguous{}: {}", after(.before), .candidates.join(", "))]
    Ambiguous { typed: String, before: String, candidates: Vec<&'static str> },
    /// It ends too early.
    #[error("something is missing{}; {}", after(.before), possible(.candidates))]
    Incomplete { before: String, candidates: Vec<&'static str> },
    /// `for` wants an address.
    #[error("`{typed}` is not an IP address")]
    NotAnAddress { typed: String },
    /// Neither a keyword nor a prefix.
    #[error("`{typed}` is no prefix like 10.244.1.0/24{}; {}", after(.before), possible(.candidates))]
    NotAPrefix { typed: String, before: String, candidates: Vec<&'static str> },
}

fn after(before: &str) -> String {
    if before.is_empty() { String::new() } else { format!(" after `{before}`") }
}

fn possible(candidates: &[&str]) -> String {
    if candidates.is_empty() {
        "nothing can follow there".to_owned()
    } else {
        format!("possible there: {}", candidates.join(", "))
    }
}

/// The command that these words are.
pub(super) fn command(words: &[String]) -> Result<Line, CommandError> {
    let cursors = walk(words)?;
    match cursors.iter().find(|cursor| cursor.due.is_empty()) {
        Some(cursor) => Ok((cursor.row.build)(&cursor.given)),
        None => Err(CommandError::Incomplete {
            before: words.join(" "),
            candidates: candidates(&cursors).into_iter().collect(),
        }),
    }
}

/// What can follow in an unfinished line.
#[derive(Debug)]
pub(crate) struct Following {
    /// The beginning of the last word, without its quotes; empty behind a space.
    pub(crate) typed: String,
    /// Where that stands in the line, its quotes among it.
    pub(crate) typed_at: usize,
    /// The keywords that begin so.
    pub(crate) keywords: Vec<&'static str>,
    /// What can be named there.
    pub(crate) name: Option<&'static str>,
    cursors: Vec<Cursor>,
}

impl Following {
    /// Of a line that ends at the cursor.
    pub(crate) fn of(line: &str) -> Result<Following, CommandError> {
        let Unfinished { words, typed, typed_at } = words::unfinished(line);
        Ok(Following { typed_at, ..Following::after(&words, typed)? })
    }

    /// Of whole words and the beginning of one more.
    pub(super) fn after(words: &[String], typed: String) -> Result<Following, CommandError> {
        let cursors = walk(words)?;
        let candidates = candidates(&cursors);
        let (names, keywords): (Vec<&str>, Vec<&str>) = candidates.iter().partition(|word| is_name(word));
        let keywords: Vec<&str> = keywords.into_iter().filter(|word| word.starts_with(&typed)).collect();
        let name = names.first().copied();
        if keywords.is_empty() && name.is_none() && !typed.is_empty() {
            let before = words.join(" ");
            return Err(CommandError::Unknown {
                typed,
                before,
                candidates: candidates.into_iter().collect(),
            });
        }
        Ok(Following { typed, typed_at: 0, keywords, name, cursors })
    }

    /// The rows that begin so.
    pub(crate) fn help(&self) -> String {
        let goes_on = |cursor: &&Cursor| {
            let next = cursor.candidates();
            let fits =
                |word: &&str| self.keywords.contains(word) || (self.name == Some(word) && self.fits_name());
            self.typed.is_empty() || next.iter().any(fits)
        };
        usages(self.cursors.iter().filter(goes_on).map(|cursor| cursor.row), 0)
    }

    /// Whether what was typed can only be a name.
    fn fits_name(&self) -> bool {
        self.keywords.is_empty()
    }
}

/// What comes back are the rows that begin with these words.
fn walk(words: &[String]) -> Result<Vec<Cursor>, CommandError> {
    let mut cursors: Vec<Cursor> = ROWS.iter().map(Cursor::at_start).collect();
    for (index, typed) in words.iter().enumerate() {
        let meant = choose(typed, &words[..index], &candidates(&cursors))?;
        cursors = cursors.into_iter().filter_map(|cursor| cursor.step(meant, typed)).collect();
    }
    Ok(cursors)
}

fn candidates(cursors: &[Cursor]) -> BTreeSet<&'static str> {
    cursors.iter().flat_map(Cursor::candidates).collect()
}

/// Which of the candidates a typed word means.
fn choose(
    typed: &str,
    before: &[String],
    candidates: &BTreeSet<&'static str>,
) -> Result<&'static str, CommandError> {
    let (names, keywords): (Vec<&str>, Vec<&str>) = candidates.iter().partition(|word| is_name(word));
    let fitting: Vec<&str> = keywords.into_iter().filter(|word| word.starts_with(typed)).collect();
    if let Some(exact) = fitting.iter().find(|word| **word == typed) {
        return Ok(exact);
    }
    let (typed_word, before) = (typed.to_owned(), before.join(" "));
    let candidates = || candidates.iter().copied().collect();
    match (fitting.as_slice(), names.first()) {
        ([only], _) => Ok(only),
        ([], Some(&"ADDRESS")) if typed.parse::<IpAddr>().is_err() => {
            Err(CommandError::NotAnAddress { typed: typed_word })
        }
        ([], Some(&"PREFIX")) if !is_prefix(typed) => {
            Err(CommandError::NotAPrefix { typed: typed_word, before, candidates: candidates() })
        }
        ([], Some(name)) => Ok(name),
        ([], None) => Err(CommandError::Unknown { typed: typed_word, before, candidates: candidates() }),
        (several, _) => {
            Err(CommandError::Ambiguous { typed: typed_word, before, candidates: several.to_vec() })
        }
    }
}

/// Whether a word of a usage line stands for a name that the operator chooses.
fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
}

/// Whether the daemon will take it for an address, with a length or without.
fn is_prefix(typed: &str) -> bool {
    let (address, length) = typed.split_once('/').unwrap_or((typed, "0"));
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

/// How far a line has come in one row.
#[derive(Debug, Clone)]
struct Cursor {
    row: &'static Row,
    /// Must follow, in this order.
    due: Vec<&'static str>,
    /// May follow once nothing is due: of each one way to write it, once.
    optional: Vec<Vec<Words>>,
    given: Given,
}

/// Words that follow one another.
type Words = Vec<&'static str>;

impl Cursor {
    fn at_start(row: &'static Row) -> Cursor {
        let (required, brackets) = row.usage.split_once('[').unwrap_or((row.usage, ""));
        let words = |text: &'static str| text.split_whitespace().collect::<Words>();
        let groups = brackets.split(['[', ']']).filter(|group| !group.trim().is_empty());
        let optional = groups.map(|group| group.split(" | ").map(words).collect());
        Cursor { row, due: words(required), optional: optional.collect(), given: Given::default() }
    }

    fn candidates(&self) -> Vec<&'static str> {
        match self.due.first() {
            Some(next) => vec![next],
            None => self.optional.iter().flatten().map(|way| way[0]).collect(),
        }
    }

    /// The cursor behind the word `meant`; `None` if that does not follow here.
    fn step(mut self, meant: &'static str, typed: &str) -> Option<Cursor> {
        if self.due.is_empty() {
            let has_way = |group: &Vec<Words>| group.iter().any(|way| way[0] == meant);
            let chosen = self.optional.iter().position(has_way)?;
            self.due = self.optional.remove(chosen).into_iter().find(|way| way[0] == meant)?;
        }
        if self.due.first() != Some(&meant) {
            return None;
        }
        self.due.remove(0);
        self.given.0.insert(meant, typed.to_owned());
        Some(self)
    }
}

/// What was typed for each word of the usage line.
#[derive(Debug, Clone, Default)]
pub(super) struct Given(BTreeMap<&'static str, String>);

impl Given {
    pub(super) fn name(&self, word: &str) -> Option<String> {
        self.0.get(word).cloned()
    }

    /// One that the row cannot do without.
    pub(super) fn needed(&self, word: &str) -> String {
        self.name(word).unwrap_or_default()
    }

    pub(super) fn has(&self, word: &str) -> bool {
        self.0.contains_key(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ambiguous_word_lists_what_it_could_be() {
        let candidates = BTreeSet::from(["restart", "route", "PEER"]);
        let error = choose("r", &["show".to_owned()], &candidates).expect_err("two fit");
        assert_eq!(error.to_string(), "`r` is ambiguous after `show`: restart, route");
        assert_eq!(choose("route", &[], &BTreeSet::from(["route", "router"])), Ok("route"));
    }

    /// What [`choose`] and [`Cursor`] rely on.
    #[test]
    fn rows_never_leave_two_names_to_choose_from() {
        fn check(cursors: &[Cursor]) {
            let next = candidates(cursors);
            let names = next.iter().filter(|word| is_name(word)).count();
            let usages: Vec<_> = cursors.iter().map(|cursor| cursor.row.usage).collect();
            assert!(names <= 1, "{names} names at one place of {usages:?}");
            assert!(cursors.iter().filter(|cursor| cursor.due.is_empty()).count() <= 1, "twice: {usages:?}");
            for word in next {
                let after = cursors.iter().filter_map(|cursor| cursor.clone().step(word, "x"));
                check(&after.collect::<Vec<_>>());
            }
        }
        check(&ROWS.iter().map(Cursor::at_start).collect::<Vec<_>>());
    }

    #[test]
    fn unfinished_word_has_what_can_follow() {
        let following = |line: &'static str| {
            let following = Following::of(line).expect(line);
            assert_eq!(line[following.typed_at..], following.typed);
            (&line[following.typed_at..], following.keywords, following.name)
        };
        assert_eq!(following("sh"), ("sh", vec!["show"], None));
        assert_eq!(following("show pro"), ("pro", vec!["protocols"], None));
        assert_eq!(following("show protocols "), ("", vec!["all"], Some("PEER")));
        assert_eq!(following("show protocols to"), ("to", vec![], Some("PEER")));
        assert_eq!(following("show route export "), ("", vec![], Some("PEER")));
        assert_eq!(following("disable "), ("", vec![], Some("PEER|all")));
        assert_eq!(following("show interfaces e"), ("e", vec![], Some("INTERFACE")));
        assert_eq!(following("show route all for "), ("", vec![], Some("ADDRESS")));
        assert_eq!(following("show route 10.0.0.0/8 "), ("", vec!["all"], None));
        assert_eq!(following("show status "), ("", vec![], None));
        assert!(Following::of("show foo").is_err());
        assert!(Following::of("foo ").is_err());
    }

    /// A prompt is given whatever is pasted.
    #[test]
    fn no_line_is_too_odd() {
        let odd = [
            "",
            " ",
            "?",
            "\u{a0}",
            "é?",
            "show \u{3000}route",
            "\0",
            "sh\u{202e}ow",
            "show route \t?",
            "show ?x",
        ];
        let words = ["show", "route", "for", "é", "?", "all", "10.0.0.0/8", "\u{1f980}"];
        let pasted = odd.iter().map(|line| (*line).to_owned());
        let typed =
            words.iter().flat_map(|one| words.iter().map(move |two| format!("show {one} {two}\u{a0}{one}?")));
        for line in pasted.chain(typed) {
            let _ = super::super::parse(&line);
            for (end, _) in line.char_indices() {
                let following = Following::of(&line[..end]);
                assert!(following.is_err() || line.is_char_boundary(following.expect("checked").typed_at));
            }
        }
    }
}
