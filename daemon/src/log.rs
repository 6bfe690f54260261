//! What is logged, and how a line looks. The filter can be changed while the daemon runs.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use cambric_api::LogFilter;
use thiserror::Error;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::args::LogFormat;

/// Levels as a filter names them, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Our parts as a filter names them.
const PARTS: [&str; 8] = [
    "cambric_api",
    "cambric_bgp",
    "cambric_cni",
    "cambric_kube",
    "cambric_policy",
    "cambric_routes",
    "cambric_speaker",
    "cambricd",
];

/// Changes what is logged; clones change the same.
#[derive(Debug, Clone)]
pub struct Log {
    /// Of the command line.
    default: Arc<str>,
    /// `None`: nothing is logged by us, as in tests.
    reload: Option<reload::Handle<EnvFilter, Registry>>,
    filter: Arc<Mutex<String>>,
}

/// Begins to log to standard error, where containers and systemd look for it.
///
/// # Errors
/// `filter` means nothing, or somebody logs already.
pub fn start(filter: &str, format: LogFormat) -> anyhow::Result<Log> {
    let parsed = parse(filter).with_context(|| format!("--log {filter}"))?;
    let (layer, reload) = reload::Layer::new(parsed);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
    let registry = tracing_subscriber::registry().with(layer);
    match format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .context("beginning to log")?;
    Ok(Log { reload: Some(reload), ..Log::nowhere(filter) })
}

impl Log {
    /// Logs nothing.
    pub(crate) fn nowhere(filter: &str) -> Log {
        Log { default: filter.into(), reload: None, filter: Arc::new(Mutex::new(filter.to_owned())) }
    }

    /// What is in force.
    pub fn filter(&self) -> LogFilter {
        let filter = self.filter.lock().unwrap_or_else(PoisonError::into_inner).clone();
        LogFilter { filter, default: self.default.to_string() }
    }

    /// From now on, until the daemon ends.
    ///
    /// # Errors
    /// It means nothing; the one before stays.
    pub fn set(&self, filter: &str) -> Result<LogFilter, BadFilter> {
        let filter = if filter == LogFilter::DEFAULT { &*self.default } else { filter };
        let parsed = parse(filter)?;
        if let Some(reload) = &self.reload {
            reload.reload(parsed).map_err(|error| BadFilter::NotTaken(error.to_string()))?;
        }
        filter.clone_into(&mut self.filter.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(self.filter())
    }
}

/// Why a filter is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BadFilter {
    /// It holds nothing.
    #[error("a filter is a level ({levels}), or parts with levels as in cambric_bgp=debug,info", levels = LEVELS.join(", "))]
    Empty,
    /// A word alone is a level, or one of our parts with all that it has to say.
    #[error("`{0}` is neither a level ({levels}) nor a part of the daemon ({parts})", levels = LEVELS.join(", "), parts = PARTS.join(", "))]
    UnknownWord(String),
    /// Everything that begins as our parts do is one of them.
    #[error("`{0}` is no part of the daemon; there is {parts}", parts = PARTS.join(", "))]
    UnknownPart(String),
    /// Behind `=`.
    #[error("`{0}`: there is no level `{1}`; there is {levels}", levels = LEVELS.join(", "))]
    UnknownLevel(String, String),
    /// Nobody reads it.
    #[error("`{0}`: {1}")]
    Unreadable(String, String),
    /// There is no log any more.
    #[error("the log does not take it: {0}")]
    NotTaken(String),
}

/// The library takes every word for the name of somebody who logs, and says of one that cannot be read only that there
/// is one: a slip of the pen would make the log silent, or flood it.
fn parse(filter: &str) -> Result<EnvFilter, BadFilter> {
    let directives: Vec<&str> = filter.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    if directives.is_empty() {
        return Err(BadFilter::Empty);
    }
    for directive in &directives {
        look_at(directive)?;
    }
    let builder = EnvFilter::builder().with_regex(false);
    builder
        .parse(directives.join(","))
        .map_err(|error| BadFilter::Unreadable(filter.to_owned(), error.to_string()))
}

fn look_at(directive: &str) -> Result<(), BadFilter> {
    let unreadable = |error: tracing_subscriber::filter::ParseError| {
        BadFilter::Unreadable(directive.to_owned(), error.to_string())
    };
    // With a span it is for those who know; the library says what it makes of it.
    if directive.contains('[') {
        return directive.parse::<tracing_subscriber::filter::Directive>().map(drop).map_err(unreadable);
    }
    let (who, level) = match directive.split_once('=') {
        None => (directive, None),
        Some((who, level)) => (who, Some(level)),
    };
    let root = who.split("::").next().unwrap_or_default();
    if level.is_none() {
        return if is_level(who) || PARTS.contains(&root) {
            Ok(())
        } else {
            Err(BadFilter::UnknownWord(who.to_owned()))
        };
    }
    if let Some(level) = level.filter(|level| !is_level(level)) {
        return Err(BadFilter::UnknownLevel(directive.to_owned(), level.to_owned()));
    }
    if root.starts_with("cambric") && !PARTS.contains(&root) {
        return Err(BadFilter::UnknownPart(root.to_owned()));
    }
    directive.parse::<tracing_subscriber::filter::Directive>().map(drop).map_err(unreadable)
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_taken_as_they_are_meant() {
        for filter in [
            "info",
            "WARN",
            "off",
            "cambric_bgp=debug,info",
            " cambric_bgp::rib=trace , warn,",
            "kube_client=debug,info",
            "cambric_policy",
            "cambricd[peer{name=a}]=debug,info",
        ] {
            assert!(parse(filter).is_ok(), "{filter}: {:?}", parse(filter).err());
        }
    }

    #[test]
    fn what_is_wrong_with_a_filter_is_said() {
        let why = |filter: &str| parse(filter).expect_err(filter).to_string();
        assert!(why("").contains("cambric_bgp=debug,info"));
        assert!(why(" , ").starts_with("a filter is a level"));
        assert!(why("debgu").starts_with("`debgu` is neither a level (off, error,"));
        assert!(why("info,cambric_bpg").starts_with("`cambric_bpg` is neither"));
        assert!(
            why("cambric_bpg=debug")
                .starts_with("`cambric_bpg` is no part of the daemon; there is cambric_api")
        );
        assert!(
            why("cambric_bgp=loud,info")
                .starts_with("`cambric_bgp=loud`: there is no level `loud`; there is off")
        );
        assert!(why("cambric_bgp=").contains("there is no level ``"));
        assert!(why("cambricd[peer=debug").starts_with("`cambricd[peer=debug`: "));
    }

    #[test]
    fn a_filter_is_in_force_until_another_one_is_and_default_is_that_of_the_command_line() {
        let log = Log::nowhere("info");
        let filter = |filter: &str| LogFilter { filter: filter.to_owned(), default: "info".to_owned() };
        assert_eq!(log.filter(), filter("info"));
        assert_eq!(log.set("cambric_bgp=debug"), Ok(filter("cambric_bgp=debug")));
        assert!(log.set("nonsense").is_err());
        assert_eq!(log.clone().filter(), filter("cambric_bgp=debug"), "the bad one has changed nothing");
        assert_eq!(log.set("default"), Ok(filter("info")));
    }
}
