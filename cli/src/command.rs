//! What can be typed.
//!
//! [`ROWS`] is the whole grammar: a row is a usage line as a person would write it, what it is for, and
//! what becomes of it. Matching with abbreviations, help, completion, and the lists in error messages all
//! read these rows, so a new command is a new row.
//!
//! In a usage line small letters are keywords, CAPITALS stand for something the operator names, and what stands in
//! brackets may be left out, with ` | ` between the ways to write it. Brackets come last and may be given in any order,
//! since nobody remembers it. A keyword may be shortened as long as no other keyword fits there; where both a keyword
//! and a name would fit, the keyword is meant (a peer called `a` is asked for by its address, or as `show protocols all
//! a`). `PEER|all` is a name: what ends sessions is never guessed from a letter.

mod walk;
mod words;

use std::net::IpAddr;
use std::path::{self, PathBuf};

use cambric_api::{Drainable, Request};

use crate::table::{Column, Table};
use walk::Given;
pub(crate) use walk::{CommandError, Following};

/// A line that was understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// To be asked of the daemon.
    Command(Command),
    /// The daemon's tables are to be in this file.
    Dump(PathBuf),
    /// To be shown: help, in the words of the table.
    Help(String),
    /// The operator has had enough.
    Quit,
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
    /// One line a thing, and the reason in words.
    Reasons,
    /// One block a thing: `all`.
    Full,
}

/// A command of the grammar.
#[derive(Debug)]
struct Row {
    usage: &'static str,
    help: &'static str,
    build: fn(&Given) -> Line,
}

const ROWS: &[Row] = &[
    Row { usage: "show status", help: "is it ready? what is wrong?", build: |_| brief(Request::ShowStatus) },
    Row {
        usage: "show protocols [all] [PEER]",
        help: "peers; all: what was agreed on",
        build: |given| show_protocols(given, given.detail()),
    },
    Row {
        usage: "show route [PREFIX | for ADDRESS] [all]",
        help: "routes and why; all: attributes too",
        build: show_route,
    },
    Row {
        usage: "show route export PEER [all]",
        help: "what the peer was told",
        build: |given| given.ask(Request::ShowRouteExport { peer: given.needed("PEER") }),
    },
    Row {
        usage: "show route import PEER [all]",
        help: "what it told, and what became of it",
        build: |given| given.ask(Request::ShowRouteImport { peer: given.needed("PEER") }),
    },
    Row {
        usage: "show route noexport PEER [all]",
        help: "what it is not told, and why",
        build: |given| {
            let request = Request::ShowRouteNoexport { peer: given.needed("PEER") };
            let detail = if given.has("all") { Detail::Full } else { Detail::Reasons };
            Line::Command(Command { request, detail })
        },
    },
    Row {
        usage: "show route refused [PEER] [all]",
        help: "what is refused, and why",
        build: |given| {
            let request = Request::ShowRouteRefused { peer: given.name("PEER") };
            let detail = if given.has("all") { Detail::Full } else { Detail::Reasons };
            Line::Command(Command { request, detail })
        },
    },
    Row {
        usage: "show route count",
        help: "how many there are, by family",
        build: |_| brief(Request::ShowRouteCount),
    },
    Row {
        usage: "show monitoring",
        help: "stations that are told our tables",
        build: |_| brief(Request::ShowMonitoring),
    },
    Row {
        usage: "mrt dump FILE",
        help: "all routes as a file of MRT; - : here",
        build: |given| Line::Dump(given.needed("FILE").into()),
    },
    Row {
        usage: "show interfaces [INTERFACE]",
        help: "links: addresses, who is behind them",
        build: |given| brief(Request::ShowInterfaces { interface: given.name("INTERFACE") }),
    },
    Row {
        usage: "show neighbors [INTERFACE]",
        help: "who is on the links, does he answer",
        build: |given| brief(Request::ShowNeighbors { interface: given.name("INTERFACE") }),
    },
    Row {
        usage: "show policy [POD]",
        help: "who judges pods, what was denied",
        build: |given| brief(Request::ShowPolicy { pod: given.name("POD") }),
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
    Row {
        usage: "configure check [FOLDER]",
        help: "what would these manifests change?",
        build: |given| brief(Request::ConfigureCheck { path: given.name("FOLDER").map(absolute) }),
    },
    Row {
        usage: "enable PEER|all",
        help: "let a disabled peer come back",
        build: |given| brief(Request::Enable { peer: given.needed("PEER|all") }),
    },
    Row {
        usage: "disable PEER|all",
        help: "end the session, until it is enabled",
        build: |given| brief(Request::Disable { peer: given.needed("PEER|all") }),
    },
    Row {
        usage: "restart PEER|all",
        help: "end the session, connect again",
        build: |given| brief(Request::Restart { peer: given.needed("PEER|all") }),
    },
    Row {
        usage: "drain [services | pods]",
        help: "have others go elsewhere, then leave",
        build: |given| brief(Request::Drain { what: drainable(given) }),
    },
    Row {
        usage: "undrain [services | pods]",
        help: "come back after drain",
        build: |given| brief(Request::Undrain { what: drainable(given) }),
    },
    Row {
        usage: "log [FILTER]",
        help: "what is logged; FILTER: log that now",
        build: |given| brief(Request::Log { filter: given.name("FILTER") }),
    },
    Row { usage: "help", help: "this list; ? shows what can follow", build: |_| Line::Help(help()) },
    Row { usage: "quit", help: "leave the prompt, as does Ctrl-D", build: |_| Line::Quit },
    Row { usage: "exit", help: "the same as quit", build: |_| Line::Quit },
];

fn brief(request: Request) -> Line {
    Line::Command(Command { request, detail: Detail::Brief })
}

fn show_protocols(given: &Given, detail: Detail) -> Line {
    Line::Command(Command { request: Request::ShowProtocols { peer: given.name("PEER") }, detail })
}

/// A prefix without a length is an address: who types one wants the way to it.
fn show_route(given: &Given) -> Line {
    let prefix = given.name("PREFIX");
    let is_address = prefix.as_ref().is_some_and(|prefix| prefix.parse::<IpAddr>().is_ok());
    given.ask(if is_address {
        Request::ShowRoute { address: prefix, prefix: None }
    } else {
        Request::ShowRoute { address: given.name("ADDRESS"), prefix }
    })
}

fn drainable(given: &Given) -> Drainable {
    match (given.has("services"), given.has("pods")) {
        (true, _) => Drainable::Services,
        (_, true) => Drainable::Pods,
        _ => Drainable::All,
    }
}

/// The daemon stands in another folder.
fn absolute(path: String) -> String {
    path::absolute(&path).ok().and_then(|path| path.into_os_string().into_string().ok()).unwrap_or(path)
}

impl Given {
    fn detail(&self) -> Detail {
        if self.has("all") { Detail::Full } else { Detail::Brief }
    }

    fn ask(&self, request: Request) -> Line {
        Line::Command(Command { request, detail: self.detail() })
    }
}

const EXAMPLES: &str = "\
Examples:
  cambric                                a prompt: Tab completes, ? helps
  cambric show status                    is all well? what should I mend?
  cambric show protocols                 is every peer up?
  cambric sh pr                          the same, shortened
  cambric show protocols all tor1a       why is tor1a down? what was agreed on?
  cambric show route for 10.244.1.7      which way do packets to this pod go?
  cambric show route for 10.244.1.7 all  and why not by the other one?
  cambric show route export tor1a        what does tor1a know from us?
  cambric show route import tor1a        what did it tell, what became of it?
  cambric show route refused all         what do we not believe, and why?
  cambric show neighbors                 do the gateways answer?
  cambric show policy default/web-0      who judges it? what was denied?
  cambric configure check /tmp/new       what would these manifests change?
  cambric disable tor1a                  no traffic over it while it is serviced
  cambric drain                          others go elsewhere; before a reboot
  cambric log cambric_bgp=debug,info     log more; `log default` goes back
  cambric show route ?                   what can follow?
  cambric -o json show status | jq -r '.status.peer_problems[]'
  cambric < commands                     line by line; # begins a comment

Marks of routes: * best, + used beside the best, ! refused, not told, > told,
none: lost.
Exit codes: 0 done, 1 the daemon answered with an error, 2 no such command,
3 no answer; of several commands the highest.";

/// The part of `--help` about commands.
pub(crate) fn help() -> String {
    format!("Commands:\n{}\n{EXAMPLES}\n", usages(ROWS.iter(), 2))
}

fn usages(rows: impl Iterator<Item = &'static Row>, indent: usize) -> String {
    let mut table = Table::new([Column::Left(""), Column::Left("")]).indent(indent);
    for row in rows {
        table.row([row.usage.to_owned(), row.help.to_owned()]);
    }
    table.to_string()
}

/// Understands a line. One that ends in `?` asks for the commands that begin so.
///
/// # Errors
/// [`CommandError`], which lists what would have been understood.
pub(crate) fn parse(line: &str) -> Result<Line, CommandError> {
    match line.trim_end().strip_suffix('?') {
        Some(beginning) => Ok(Line::Help(Following::of(beginning)?.help())),
        None => walk::command(&words::all(line)),
    }
}

/// Understands words that a shell has split already; a single one is a whole line.
///
/// # Errors
/// As [`parse`].
pub(crate) fn parse_words(words: &[String]) -> Result<Line, CommandError> {
    match words {
        [line] => parse(line),
        [before @ .., last] => match last.strip_suffix('?') {
            Some(beginning) => Ok(Line::Help(Following::after(before, beginning.to_owned())?.help())),
            None => walk::command(words),
        },
        [] => walk::command(words),
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

    fn help_for(line: &str) -> Vec<String> {
        match parse(line) {
            Ok(Line::Help(text)) => text.lines().map(str::to_owned).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    fn asks(line: &str, request: Request, detail: Detail) {
        assert_eq!(command(line), Command { request, detail }, "{line}");
    }

    fn protocols(peer: Option<&str>, detail: Detail) -> Command {
        Command { request: Request::ShowProtocols { peer: peer.map(str::to_owned) }, detail }
    }

    fn route(address: Option<&str>, prefix: Option<&str>, detail: Detail) -> Command {
        let (address, prefix) = (address.map(str::to_owned), prefix.map(str::to_owned));
        Command { request: Request::ShowRoute { address, prefix }, detail }
    }

    #[test]
    fn whole_words_are_understood() {
        use Detail::{Brief, Full, Reasons};
        let tor1a = || "tor1a".to_owned();
        asks("show status", Request::ShowStatus, Brief);
        assert_eq!(command("show protocols"), protocols(None, Brief));
        assert_eq!(command("show protocols tor1a"), protocols(Some("tor1a"), Brief));
        assert_eq!(command("show protocols all"), protocols(None, Full));
        assert_eq!(command("show protocols all 2001:db8::1"), protocols(Some("2001:db8::1"), Full));
        assert_eq!(command("show route"), route(None, None, Brief));
        assert_eq!(command("show route for 10.244.1.7"), route(Some("10.244.1.7"), None, Brief));
        assert_eq!(command("show bgp summary"), protocols(None, Brief));
        assert_eq!(command("show bgp neighbors tor1a"), protocols(Some("tor1a"), Full));
        asks("show route export tor1a", Request::ShowRouteExport { peer: tor1a() }, Brief);
        asks("show route import tor1a all", Request::ShowRouteImport { peer: tor1a() }, Full);
        asks("show route noexport tor1a", Request::ShowRouteNoexport { peer: tor1a() }, Reasons);
        asks("show route refused", Request::ShowRouteRefused { peer: None }, Reasons);
        asks("show route refused tor1a all", Request::ShowRouteRefused { peer: Some(tor1a()) }, Full);
        asks("show route count", Request::ShowRouteCount, Brief);
        asks("show interfaces", Request::ShowInterfaces { interface: None }, Brief);
        asks("show neighbors eth1", Request::ShowNeighbors { interface: Some("eth1".to_owned()) }, Brief);
        asks("show policy", Request::ShowPolicy { pod: None }, Brief);
        asks("sh po default/web-0", Request::ShowPolicy { pod: Some("default/web-0".to_owned()) }, Brief);
        asks("configure check", Request::ConfigureCheck { path: None }, Brief);
        asks("enable tor1a", Request::Enable { peer: tor1a() }, Brief);
        asks("disable all", Request::Disable { peer: "all".to_owned() }, Brief);
        asks("restart 2001:db8::1", Request::Restart { peer: "2001:db8::1".to_owned() }, Brief);
        asks("drain", Request::Drain { what: Drainable::All }, Brief);
        asks("dr s", Request::Drain { what: Drainable::Services }, Brief);
        asks("undrain pods", Request::Undrain { what: Drainable::Pods }, Brief);
        asks("log", Request::Log { filter: None }, Brief);
        let filter = || "cambric_bgp=debug,info".to_owned();
        asks("log cambric_bgp=debug,info", Request::Log { filter: Some(filter()) }, Brief);
        assert_eq!(parse("quit"), Ok(Line::Quit));
        assert_eq!(parse("ex"), Ok(Line::Quit));
        assert!(matches!(parse("help"), Ok(Line::Help(text)) if text.contains("Examples:")));
    }

    #[test]
    fn unique_beginnings_are_understood() {
        assert_eq!(command("sh pr a tor1a"), command("show protocols all tor1a"));
        assert_eq!(command("s s"), command("show status"));
        assert_eq!(command("sh ro f fd00::7 a"), command("show route for fd00::7 all"));
        assert_eq!(command("sh ro e tor1a"), command("show route export tor1a"));
        assert_eq!(command("sh b n"), command("show bgp neighbors"));
        assert_eq!(command("c c"), command("configure check"));
        assert_eq!(command("dis tor1a"), command("disable tor1a"));
    }

    #[test]
    fn options_are_taken_in_any_order() {
        assert_eq!(command("show route all for 10.244.1.7"), command("show route for 10.244.1.7 all"));
        assert_eq!(command("show protocols tor1a all"), command("show protocols all tor1a"));
        assert_eq!(command("show route all 10.244.1.0/24"), command("show route 10.244.1.0/24 all"));
    }

    #[test]
    fn prefix_is_one_route_and_an_address_the_way_to_it() {
        let brief = |address, prefix| route(address, prefix, Detail::Brief);
        assert_eq!(command("show route 10.244.22.0/24"), brief(None, Some("10.244.22.0/24")));
        assert_eq!(command("show route ::/0"), brief(None, Some("::/0")));
        assert_eq!(command("show route 10.244.22.7"), brief(Some("10.244.22.7"), None));
    }

    #[test]
    fn keyword_is_meant_before_a_peer_of_that_name() {
        assert_eq!(command("show protocols a"), protocols(None, Detail::Full));
        assert_eq!(command("show protocols all a"), protocols(Some("a"), Detail::Full));
        assert_eq!(command("show protocols alpha"), protocols(Some("alpha"), Detail::Brief));
    }

    #[test]
    fn all_peers_are_never_meant_by_a_shortened_word() {
        asks("disable a", Request::Disable { peer: "a".to_owned() }, Detail::Brief);
        asks("restart al", Request::Restart { peer: "al".to_owned() }, Detail::Brief);
    }

    #[test]
    fn path_of_the_operator_is_told_whole() {
        let here = std::env::current_dir().expect("a folder").join("new").display().to_string();
        asks("configure check new", Request::ConfigureCheck { path: Some(here) }, Detail::Brief);
        let path = Some("/tmp/new".to_owned());
        asks("configure check /tmp/new", Request::ConfigureCheck { path }, Detail::Brief);
    }

    #[test]
    fn unknown_word_lists_what_is_possible() {
        let verbs = "configure, disable, drain, enable, exit, help, log, mrt, quit, restart, show, undrain";
        assert_eq!(error("dance"), format!("`dance` is unknown; possible there: {verbs}"));
        assert_eq!(
            error("show foo"),
            "`foo` is unknown after `show`; possible there: \
             bgp, interfaces, monitoring, neighbors, policy, protocols, route, status"
        );
        assert_eq!(error("sh st now"), "`now` is unknown after `sh st`; nothing can follow there");
        assert_eq!(error("e tor1a"), "`e` is ambiguous: enable, exit");
    }

    #[test]
    fn unfinished_line_lists_what_is_missing() {
        assert_eq!(error("sh bg"), "something is missing after `sh bg`; possible there: neighbors, summary");
        assert_eq!(
            error("show route for"),
            "something is missing after `show route for`; possible there: ADDRESS"
        );
        assert_eq!(error("disable"), "something is missing after `disable`; possible there: PEER|all");
    }

    #[test]
    fn address_is_checked_before_the_daemon_is_asked() {
        assert_eq!(error("show route for 10.244.1"), "`10.244.1` is not an IP address");
        assert_eq!(error("show route for all"), "`all` is not an IP address");
        assert_eq!(
            error("show route 10.0.0.0/8 for 10.0.0.1"),
            "`for` is unknown after `show route 10.0.0.0/8`; possible there: all"
        );
        assert_eq!(
            error("show route for 10.0.0.1 10.0.0.0/8"),
            "`10.0.0.0/8` is unknown after `show route for 10.0.0.1`; possible there: all"
        );
        let possible = "PREFIX, all, count, export, for, import, noexport, refused";
        for typed in ["10.244.1.0/33", "::/129", "10.244.1/24", "10.0.0.0/", "foo"] {
            let expected = format!(
                "`{typed}` is no prefix like 10.244.1.0/24 after `show route`; possible there: {possible}"
            );
            assert_eq!(error(&format!("show route {typed}")), expected);
        }
    }

    #[test]
    fn words_of_a_shell_are_taken_as_they_are() {
        let words = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parse_words(&words)
        };
        let check = |path: &str| {
            let request = Request::ConfigureCheck { path: Some(path.to_owned()) };
            Ok(Line::Command(Command { request, detail: Detail::Brief }))
        };
        assert_eq!(words(&["configure", "check", "/tmp/two words"]), check("/tmp/two words"));
        assert_eq!(words(&["configure", "check", "/tmp/\"a\\"]), check("/tmp/\"a\\"));
        assert_eq!(words(&["configure check '/tmp/two words'"]), check("/tmp/two words"));
        assert_eq!(parse("configure check /tmp/two\\ words"), check("/tmp/two words"));
        assert_eq!(words(&["show", "route", "cou?"]), parse("show route cou?"));
        assert_eq!(words(&["show", "status", "?"]), parse("show status ?"));
        assert!(words(&["show status", "all"]).is_err());
    }

    #[test]
    fn question_mark_shows_the_rows_that_begin_so() {
        let of_bgp = [
            "show bgp summary           the same as show protocols",
            "show bgp neighbors [PEER]  the same as show protocols all",
        ];
        assert_eq!(help_for("sh b ?"), of_bgp);
        assert_eq!(help_for("sh b?"), of_bgp);
        assert_eq!(help_for("?").len(), ROWS.len());
        assert_eq!(help_for("show ro?").len(), 6);
        assert_eq!(help_for("show route ?").len(), 6);
        assert_eq!(help_for("show route re?"), ["show route refused [PEER] [all]  what is refused, and why"]);
        assert_eq!(help_for("disable to?").len(), 1);
        assert_eq!(help_for("show status ?").len(), 1);
        assert_eq!(error("show foo?"), error("show foo"));
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        for line in help().lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
