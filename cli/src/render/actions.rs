//! What was done, or would be: `enable`, `disable`, `restart`, `configure check`, `log`.

use std::fmt::Write;

use cambric_api::{Action, Check, Draining, LogFilter, Outcome};

use super::span;
use crate::table::{Fields, printable};

/// One line a peer, as birdc words it.
pub(super) fn render(actions: &[Action]) -> String {
    if actions.is_empty() {
        return "no peers\n".to_owned();
    }
    let mut text = String::new();
    for Action { peer, address, outcome } in actions {
        let outcome = match outcome {
            Outcome::AlreadyDisabled => "already disabled",
            Outcome::Disabled => "disabled",
            Outcome::AlreadyEnabled => "already enabled",
            Outcome::Enabled => "enabled",
            Outcome::Restarted => "restarted",
            Outcome::Other => "done",
        };
        // One that was disabled before anybody knew it has no name.
        let who = if peer.is_empty() { address.clone() } else { format!("{peer} ({address})") };
        let _ = writeln!(text, "{}: {outcome}", printable(&who));
    }
    text
}

/// One line a part.
pub(super) fn render_draining(parts: &[Draining]) -> String {
    if parts.is_empty() {
        return "nothing is drained\n".to_owned();
    }
    parts.iter().map(|part| format!("{}\n", draining(part))).collect()
}

/// A part, since when, by whom, and what comes next.
pub(super) fn draining(Draining { part, by, since_s, left_s }: &Draining) -> String {
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(" and ")) };
    let next = match left_s {
        0 => "announced no more".to_owned(),
        left => format!("to be used last by others, announced no more in {}", span(*left)),
    };
    format!("{}: drained for {}{}: {next}", printable(part), span(*since_s), printable(&by))
}

pub(super) fn render_check(check: &Check) -> String {
    let mut fields = Fields::new();
    fields.field("Manifests", &check.path);
    fields.list("Problems", &check.problems, "none");
    let none = if check.problems.is_empty() { "none" } else { "see problems" };
    fields.list("Changes", &check.changes, none);
    fields.to_string()
}

pub(super) fn render_log(LogFilter { filter, default }: &LogFilter) -> String {
    let mut fields = Fields::new();
    fields.field("Log", filter);
    if filter != default {
        fields.field("Default", format_args!("{default} (after a restart, or by `log default`)"));
    }
    fields.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_outcome() {
        let action =
            |peer: &str, outcome| Action { peer: peer.to_owned(), address: "10.0.1.1".to_owned(), outcome };
        let actions = [action("tor1a", Outcome::Disabled), action("b\x1b[2J", Outcome::AlreadyDisabled)];
        let expected = "tor1a (10.0.1.1): disabled\nb\\u{1b}[2J (10.0.1.1): already disabled\n";
        assert_eq!(render(&actions), expected);
        assert_eq!(render(&[action("", Outcome::Disabled)]), "10.0.1.1: disabled\n");
        assert_eq!(render(&[]), "no peers\n");
    }

    #[test]
    fn parts_that_are_drained_say_how_far_they_are() {
        let part = |part: &str, left_s| Draining {
            part: part.to_owned(),
            by: vec!["operator".to_owned(), "label".to_owned()],
            since_s: 60 - left_s,
            left_s,
        };
        let expected = "\
services: drained for 12s by operator and label: to be used last by others, announced no more in 48s
pods: drained for 1m00s by operator and label: announced no more
";
        assert_eq!(render_draining(&[part("services", 48), part("pods", 0)]), expected);
        assert_eq!(render_draining(&[]), "nothing is drained\n");
    }

    #[test]
    fn filter_is_shown_with_the_one_that_comes_back() {
        let log = |filter: &str| LogFilter { filter: filter.to_owned(), default: "info".to_owned() };
        assert_eq!(render_log(&log("info")), "Log:  info\n");
        let expected = "\
Log:      cambric_bgp=debug,info
Default:  info (after a restart, or by `log default`)
";
        assert_eq!(render_log(&log("cambric_bgp=debug,info")), expected);
    }

    #[test]
    fn check_says_what_would_change_or_what_to_mend() {
        let path = "/etc/cambric/manifests".to_owned();
        let changes = vec!["peer tor9 (10.0.1.9) is new".to_owned(), "peer tor1a: AS 1 -> 2".to_owned()];
        let right = Check { path: path.clone(), changes, ..Check::default() };
        let expected = "\
Manifests:  /etc/cambric/manifests
Problems:   none
Changes:    peer tor9 (10.0.1.9) is new
            peer tor1a: AS 1 -> 2
";
        assert_eq!(render_check(&right), expected);
        let wrong = Check { path, problems: vec!["a.yaml: no".to_owned()], ..Check::default() };
        let expected = "\
Manifests:  /etc/cambric/manifests
Problems:   a.yaml: no
Changes:    see problems
";
        assert_eq!(render_check(&wrong), expected);
    }
}
