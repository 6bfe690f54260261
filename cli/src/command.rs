//! What can be typed.
//!
//! [`ROWS`] is the whole grammar: a row is a usage line as a person would write it, what it is for, and
//! what becomes of it. Matching with abbreviations, help, and the lists in error messages all read
//! these rows, so a new command is a new row.
//!
//! In a usage line small letters are keywords, CAPITALS stand for something the operator names, and
//! what stands in brackets may be left out. Brackets come last and may be given in any order, since
//! nobody remembers it. A keyword may be shortened as long as no other keyword fits there; where both a
//! keyword and a name would fit, the keyword is meant (a peer called `a` is asked for by its address, or
//! as `show protocols all a`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cambric_api::Request;
use thiserror::Error;

use crate::table::{Column, Table};

/// A line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// To be asked of the daemon.
    Command(Command),
    /// It ended in `?`: the commands that begin so.
    Help(String),
}

/// What to ask, and how much of the answer to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) detail: Detail,
}

/// How much of an answer is shown as text. JSON always shows everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// One line a thing.
    Brief,
    /// One block a thing: `all`.
    Full,
}

/// A command of the grammar.
#[derive(Debug)]
struct Row {
    usage: &'static str,
    help: &'static str,
    build: fn(&Given) -> Command,
}

const ROWS: &[Row] = &[
    Row {
        usage: "show status",
        help: "the daemon: is it ready, what waits, what is wrong",
        build: |_| Command { request: Request::ShowStatus, detail: Detail::Brief },
    },
    Row {
        usage: "show protocols [all] [PEER]",
        help: "peers: state, routes, last error; all: what was agreed on",
        build: |given| show_protocols(given, given.detail()),
    },
    Row {
        usage: "show route [for ADDRESS] [all]",
        help: "routes and why; all: attributes, reasons in words",
        build: |given| Command {
            request: Request::ShowRoute { address: given.name("ADDRESS") },
            detail: given.detail(),
        },
    },
    Row {
        usage: "show bgp summary",
        help: "the same as show protocols",
        build: |given| show_protocols(given, Detail::Brief),
    },
    Row {
        usage: "show bgp neighbors [PEER]",
        help: "the same as show protocols all",
        build: |given| show_protocols(given, Detail::Full),
    },
];

fn show_protocols(given: &Given, detail: Detail) -> Command {
    Command { request: Request::ShowProtocols { peer: given.name("PEER") }, detail }
}

const EXAMPLES: &str = "\
Examples:
  cambric show protocols                 is every peer up?
  cambric sh pr                          the same, shortened
  cambric show protocols all tor1a       why is tor1a down? what did we agree on?
  cambric show route for 10.244.1.7      which way do packets to this pod go?
  cambric show route for 10.244.1.7 all  and why not by the other one?
  cambric show route ?                   what can follow?
  cambric -o json show protocols | jq -r '.protocols[] | select(.state != \"Established\") | .name'

Marks of routes: * best, + used beside the best, ! refused, none: lost.
Exit codes: 0 done, 1 the daemon answered with an error, 2 no such command, 3 no answer.";

/// The part of `--help` about commands.
pub(crate) fn help() -> String {
    format!("Commands:\n{}\n{EXAMPLES}", usages(ROWS.iter(), 2))
}

fn usages(rows: impl Iterator<Item = &'static Row>, indent: usize) -> String {
    let mut table = Table::new([Column::Left(""), Column::Left("")]).indent(indent);
    for row in rows {
        table.row([row.usage.to_owned(), row.help.to_owned()]);
    }
    table.to_string()
}

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

/// Understands a line.
///
/// # Errors
/// [`CommandError`], which lists what would have been understood.
pub(crate) fn parse(line: &str) -> Result<Line, CommandError> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if words.last() == Some(&"?") {
        words.pop();
        let rows = walk(&words)?.into_iter().map(|cursor| cursor.row);
        return Ok(Line::Help(usages(rows, 0)));
    }
    let cursors = walk(&words)?;
    match cursors.iter().find(|cursor| cursor.due.is_empty()) {
        Some(cursor) => Ok(Line::Command((cursor.row.build)(&cursor.given))),
        None => Err(CommandError::Incomplete {
            before: words.join(" "),
            candidates: candidates(&cursors).into_iter().collect(),
        }),
    }
}

/// Follows the words through all rows at once; what comes back are the rows that begin so.
fn walk(words: &[&str]) -> Result<Vec<Cursor>, CommandError> {
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
    before: &[&str],
    candidates: &BTreeSet<&'static str>,
) -> Result<&'static str, CommandError> {
    let (names, keywords): (Vec<&str>, Vec<&str>) = candidates.iter().partition(|word| is_name(word));
    let fitting: Vec<&str> = keywords.into_iter().filter(|word| word.starts_with(typed)).collect();
    if let Some(exact) = fitting.iter().find(|word| **word == typed) {
        return Ok(exact);
    }
    let (typed_word, before) = (typed.to_owned(), before.join(" "));
    match (fitting.as_slice(), names.first()) {
        ([only], _) => Ok(only),
        ([], Some(&"ADDRESS")) if typed.parse::<IpAddr>().is_err() => {
            Err(CommandError::NotAnAddress { typed: typed_word })
        }
        ([], Some(name)) => Ok(name),
        ([], None) => {
            let candidates = candidates.iter().copied().collect();
            Err(CommandError::Unknown { typed: typed_word, before, candidates })
        }
        (several, _) => {
            let candidates = several.to_vec();
            Err(CommandError::Ambiguous { typed: typed_word, before, candidates })
        }
    }
}

/// Whether a word of a usage line stands for a name that the operator chooses.
fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
}

/// How far a line has come in one row.
#[derive(Debug, Clone)]
struct Cursor {
    row: &'static Row,
    /// Must follow, in this order.
    due: Vec<&'static str>,
    /// May follow once nothing is due, each once.
    optional: Vec<Vec<&'static str>>,
    given: Given,
}

impl Cursor {
    fn at_start(row: &'static Row) -> Cursor {
        let (required, brackets) = row.usage.split_once('[').unwrap_or((row.usage, ""));
        let words = |text: &'static str| text.split_whitespace().collect::<Vec<_>>();
        let optional = brackets.split(['[', ']']).map(words).filter(|group| !group.is_empty());
        Cursor { row, due: words(required), optional: optional.collect(), given: Given::default() }
    }

    fn candidates(&self) -> Vec<&'static str> {
        match self.due.first() {
            Some(next) => vec![next],
            None => self.optional.iter().map(|group| group[0]).collect(),
        }
    }

    /// The cursor behind the word `meant`; `None` if that does not follow here.
    fn step(mut self, meant: &'static str, typed: &str) -> Option<Cursor> {
        if self.due.is_empty() {
            let chosen = self.optional.iter().position(|group| group[0] == meant)?;
            self.due = self.optional.remove(chosen);
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
struct Given(BTreeMap<&'static str, String>);

impl Given {
    fn name(&self, word: &str) -> Option<String> {
        self.0.get(word).cloned()
    }

    fn detail(&self) -> Detail {
        if self.0.contains_key("all") { Detail::Full } else { Detail::Brief }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        match parse(line) {
            Ok(Line::Command(command)) => command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn error(line: &str) -> String {
        parse(line).expect_err(line).to_string()
    }

    fn protocols(peer: Option<&str>, detail: Detail) -> Command {
        Command { request: Request::ShowProtocols { peer: peer.map(str::to_owned) }, detail }
    }

    fn route(address: Option<&str>, detail: Detail) -> Command {
        Command { request: Request::ShowRoute { address: address.map(str::to_owned) }, detail }
    }

    #[test]
    fn whole_words_are_understood() {
        use Detail::{Brief, Full};
        assert_eq!(command("show status"), Command { request: Request::ShowStatus, detail: Brief });
        assert_eq!(command("show protocols"), protocols(None, Brief));
        assert_eq!(command("show protocols tor1a"), protocols(Some("tor1a"), Brief));
        assert_eq!(command("show protocols all"), protocols(None, Full));
        assert_eq!(command("show protocols all 2001:db8::1"), protocols(Some("2001:db8::1"), Full));
        assert_eq!(command("show route"), route(None, Brief));
        assert_eq!(command("show route for 10.244.1.7"), route(Some("10.244.1.7"), Brief));
        assert_eq!(command("show bgp summary"), protocols(None, Brief));
        assert_eq!(command("show bgp neighbors tor1a"), protocols(Some("tor1a"), Full));
    }

    #[test]
    fn unique_beginnings_are_understood() {
        assert_eq!(command("sh pr a tor1a"), command("show protocols all tor1a"));
        assert_eq!(command("s s"), command("show status"));
        assert_eq!(command("sh ro f fd00::7 a"), command("show route for fd00::7 all"));
        assert_eq!(command("sh b n"), command("show bgp neighbors"));
    }

    #[test]
    fn options_are_taken_in_any_order() {
        assert_eq!(command("show route all for 10.244.1.7"), command("show route for 10.244.1.7 all"));
        assert_eq!(command("show protocols tor1a all"), command("show protocols all tor1a"));
    }

    #[test]
    fn keyword_is_meant_before_a_peer_of_that_name() {
        assert_eq!(command("show protocols a"), protocols(None, Detail::Full));
        assert_eq!(command("show protocols all a"), protocols(Some("a"), Detail::Full));
        assert_eq!(command("show protocols alpha"), protocols(Some("alpha"), Detail::Brief));
    }

    #[test]
    fn ambiguous_word_lists_what_it_could_be() {
        let candidates = BTreeSet::from(["restart", "route", "PEER"]);
        let error = choose("r", &["show"], &candidates).expect_err("two fit");
        assert_eq!(error.to_string(), "`r` is ambiguous after `show`: restart, route");
        assert_eq!(choose("route", &[], &BTreeSet::from(["route", "router"])), Ok("route"));
    }

    #[test]
    fn unknown_word_lists_what_is_possible() {
        assert_eq!(error("dance"), "`dance` is unknown; possible there: show");
        assert_eq!(
            error("show foo"),
            "`foo` is unknown after `show`; possible there: bgp, protocols, route, status"
        );
        assert_eq!(error("sh st now"), "`now` is unknown after `sh st`; nothing can follow there");
    }

    #[test]
    fn unfinished_line_lists_what_is_missing() {
        assert_eq!(error(""), "something is missing; possible there: show");
        assert_eq!(error("sh bg"), "something is missing after `sh bg`; possible there: neighbors, summary");
        assert_eq!(
            error("show route for"),
            "something is missing after `show route for`; possible there: ADDRESS"
        );
    }

    #[test]
    fn address_is_checked_before_the_daemon_is_asked() {
        assert_eq!(error("show route for 10.244.1"), "`10.244.1` is not an IP address");
        assert_eq!(error("show route for all"), "`all` is not an IP address");
    }

    #[test]
    fn question_mark_shows_the_rows_that_begin_so() {
        let Ok(Line::Help(text)) = parse("sh b ?") else { panic!("help") };
        assert_eq!(
            text,
            "show bgp summary           the same as show protocols\n\
             show bgp neighbors [PEER]  the same as show protocols all\n"
        );
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
    fn help_fits_a_terminal_of_100_columns() {
        for line in help().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
