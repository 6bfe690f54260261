//! From a reply to what is printed.
//!
//! Text is for people and may change; JSON is the reply as `cambric-api` defines it, for programs.

mod actions;
mod links;
mod policy;
mod protocols;
mod route;
mod stations;
mod status;

use std::fmt::Write;

use cambric_api::{Body, Reply};
use serde::Serialize;

use crate::command::Detail;
use crate::table::{printable, steers_terminal};

/// How JSON is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Indented, for eyes.
    Pretty,
    /// One line, for programs and logs.
    Compact,
}

impl Layout {
    pub(crate) fn for_terminal(is_terminal: bool) -> Layout {
        if is_terminal { Layout::Pretty } else { Layout::Compact }
    }
}

/// The reply in words. An error has none here, nor has a listing that is empty for one: it is not what was asked for.
pub(crate) fn text(reply: &Reply, detail: Detail) -> String {
    if reply.is_error() && matches!(reply.body, Body::Routes(_)) {
        return String::new();
    }
    let mut text = body(&reply.body, detail);
    if let Some(note) = &reply.note {
        let _ = writeln!(text, "{}", printable(note));
    }
    text
}

fn body(body: &Body, detail: Detail) -> String {
    match (body, detail) {
        (Body::Drain(draining), _) => actions::render_draining(draining),
        (Body::Status(status), _) => status::render(status),
        (Body::Protocols(protocols), Detail::Full) => protocols::render_full(protocols),
        (Body::Protocols(protocols), _) => protocols::render_brief(protocols),
        (Body::Routes(routes), Detail::Reasons) => route::render_reasons(routes),
        (Body::Routes(routes), _) => route::render(routes, detail),
        (Body::RouteCounts(counts), _) => route::render_counts(counts),
        (Body::Interfaces(interfaces), _) => links::render_interfaces(interfaces),
        (Body::Neighbors(neighbors), _) => links::render_neighbors(neighbors),
        (Body::Policy(table), _) => policy::render(table),
        (Body::PolicyPods(pods), _) => policy::render_pods(pods),
        (Body::Placed(placed), _) => format!("{} is judged by its policies\n", printable(&placed.interface)),
        (Body::Log(log), _) => actions::render_log(log),
        (Body::Stations(stations), _) => stations::render(stations),
        (Body::Check(check), _) => actions::render_check(check),
        (Body::Actions(actions), _) => actions::render(actions),
        // Its octets are for a file.
        (Body::Error(_) | Body::Dump(_), _) => String::new(),
    }
}

/// A reply as one JSON document, its code included; or what else is told to programs.
pub(crate) fn json(reply: &impl Serialize, layout: Layout) -> String {
    let json = match layout {
        Layout::Pretty => serde_json::to_string_pretty(reply),
        Layout::Compact => serde_json::to_string(reply),
    };
    let json = json.expect("a reply has only text keys and numbers that JSON knows");
    // JSON itself escapes only what is below a space. Everything else that steers a terminal can only
    // stand inside a string, where its escape means the same.
    let mut shown = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        if character != '\n' && steers_terminal(character) {
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    shown.push('\n');
    shown
}

/// A span in two units: `12s`, `3m12s`, `4h05m`, `2d04h`.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Words in one line; a dash where there are none.
fn joined<T: ToString>(words: &[T]) -> String {
    if words.is_empty() {
        return "-".to_owned();
    }
    words.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use cambric_api::{LastError, Protocol};

    use super::*;

    #[test]
    fn span_shows_the_two_units_that_matter() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (192, "3m12s"),
            (3600, "1h00m"),
            (86399, "23h59m"),
            (187_200, "2d04h"),
            (34_560_000, "400d00h"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn json_is_the_reply_and_cannot_steer_the_terminal() {
        let what = "bye\n\u{9b}2J".to_owned();
        let last_error = Some(LastError { ago_s: 1, what });
        let reply = Reply::protocols(vec![Protocol { last_error, ..Protocol::default() }]);
        for layout in [Layout::Pretty, Layout::Compact] {
            let json = json(&reply, layout);
            assert!(json.contains(r#""bye\n\u009b2J""#), "{json}");
            assert_eq!(serde_json::from_str::<Reply>(&json).expect("own JSON"), reply);
        }
        assert!(json(&reply, Layout::Compact).starts_with(r#"{"code":1002,"protocols":[{"name":"#));
    }
}
