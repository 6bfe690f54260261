//! The parameters of lists and watches, and which of them go together
//! (Kubernetes API concepts, "Resource versions"; `ValidateListOptions` of k8s.io/apimachinery).

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::faults::StreamingLists;
use crate::kind::Key;
use crate::path::Query;
use crate::selector::Selector;
use crate::server::{Call, Verb};
use crate::status::{Cause, Status};

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// What a list or a watch is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// `None`: the most recent; 0: any.
    pub(crate) version: Option<u64>,
    pub(crate) version_match: Option<Match>,
    /// At most so many items a page; `None`: all.
    pub(crate) limit: Option<usize>,
    pub(crate) token: Option<Token>,
    pub(crate) selector: Selector,
    pub(crate) sends_initial_events: Option<bool>,
    pub(crate) allows_bookmarks: bool,
    /// Of a watch.
    pub(crate) timeout_seconds: Option<u64>,
}

impl Options {
    /// Reads and checks them as a server of this sort does.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for what does not go together.
    pub(crate) fn read(call: &Call, streaming: StreamingLists) -> Result<Options, Status> {
        let query = &call.query;
        let sends_initial_events = match streaming {
            StreamingLists::Unknown => None,
            _ => query.flag("sendInitialEvents"),
        };
        let causes = match call.verb {
            Verb::Watch => wrong_for_watch(query, streaming),
            _ => wrong_for_list(query),
        };
        if !causes.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "ListOptions", "", &causes));
        }
        let number = |name: &str| -> Result<Option<u64>, Status> {
            let Some(text) = query.value(name) else { return Ok(None) };
            let wrong = |_| Status::bad_request(format!("{name}: Invalid value: {text:?}: invalid syntax"));
            text.parse().map(Some).map_err(wrong)
        };
        let version = number("resourceVersion")?;
        let token = query.value("continue").map(Token::read).transpose()?;
        if token.is_some() && version.is_some_and(|version| version > 0) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let limit = number("limit")?.filter(|&limit| limit > 0);
        Ok(Options {
            version,
            version_match: match query.value("resourceVersionMatch") {
                Some("Exact") => Some(Match::Exact),
                Some("NotOlderThan") => Some(Match::NotOlderThan),
                _ => None,
            },
            limit: limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            token,
            selector: Selector::read(
                &call.kind,
                &call.target.version,
                query.get("labelSelector").unwrap_or_default(),
                query.get("fieldSelector").unwrap_or_default(),
            )?,
            sends_initial_events,
            allows_bookmarks: query.flag("allowWatchBookmarks").unwrap_or(false),
            timeout_seconds: number("timeoutSeconds")?.filter(|&seconds| seconds > 0),
        })
    }
}

fn forbidden(field: &str, message: &str) -> Cause {
    Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {message}"), field: field.to_owned() }
}

const MATCH: &str = "resourceVersionMatch";

fn unsupported_match(value: &str) -> Cause {
    Cause {
        reason: "FieldValueNotSupported",
        message: format!("Unsupported value: {value:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""),
        field: MATCH.to_owned(),
    }
}

fn wrong_for_list(query: &Query) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(value) = query.value(MATCH) {
        if query.value("resourceVersion").is_none() {
            causes.push(forbidden(
                MATCH,
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            ));
        }
        if query.value("continue").is_some() {
            causes.push(forbidden(MATCH, "resourceVersionMatch is forbidden when continue is provided"));
        }
        if !matches!(value, "Exact" | "NotOlderThan") {
            causes.push(unsupported_match(value));
        }
        if value == "Exact" && query.get("resourceVersion") == Some("0") {
            let message = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(forbidden(MATCH, message));
        }
    }
    if query.flag("sendInitialEvents").is_some() {
        causes.push(forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
    }
    causes
}

fn wrong_for_watch(query: &Query, streaming: StreamingLists) -> Vec<Cause> {
    let value = query.value(MATCH);
    if streaming == StreamingLists::Unknown {
        return value
            .map(|_| forbidden(MATCH, "resourceVersionMatch is forbidden for watch"))
            .into_iter()
            .collect();
    }
    let is_asked = query.flag("sendInitialEvents").is_some();
    let mut causes = Vec::new();
    if is_asked && value != Some("NotOlderThan") {
        causes.push(forbidden(
            MATCH,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if is_asked && streaming == StreamingLists::Refused {
        let message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
        causes.push(forbidden("sendInitialEvents", message));
    }
    if let Some(value) = value {
        if !is_asked {
            let message = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(forbidden(MATCH, message));
        }
        if value != "NotOlderThan" {
            causes.push(unsupported_match(value));
        }
    }
    causes
}

/// Where the next page of a list begins. Opaque to clients; the real server's is of this form, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    /// The version that all pages show; `None`: whatever is now, which is what a client may ask for that was told that
    /// the version is forgotten.
    pub(crate) version: Option<u64>,
    /// The last object of the page before.
    pub(crate) after: Key,
}

impl Token {
    pub(crate) fn text(&self) -> String {
        let version = self.version.map_or(-1, |version| i64::try_from(version).unwrap_or(i64::MAX));
        let start = match &*self.after.namespace {
            "" => format!("{}\0", self.after.name),
            namespace => format!("{namespace}/{}\0", self.after.name),
        };
        let json = json!({"v": "meta.k8s.io/v1", "rv": version, "start": start}).to_string();
        // The API writes octets in JSON as base64; a URL wants its other alphabet (RFC 4648 section 5).
        let base64 = serde_json::to_value(ByteString(json.into_bytes())).unwrap_or_default();
        base64.as_str().unwrap_or_default().trim_end_matches('=').replace('+', "-").replace('/', "_")
    }

    fn read(text: &str) -> Result<Token, Status> {
        let read = || -> Option<Token> {
            let mut base64 = text.replace('-', "+").replace('_', "/");
            while !base64.len().is_multiple_of(4) {
                base64.push('=');
            }
            let ByteString(octets) = serde_json::from_value(Value::String(base64)).ok()?;
            let json: Value = serde_json::from_slice(&octets).ok()?;
            let start = json.get("start")?.as_str()?.trim_end_matches('\0');
            let (namespace, name) = start.split_once('/').unwrap_or(("", start));
            let version = json.get("rv")?.as_i64()?;
            Some(Token { version: u64::try_from(version).ok(), after: Key::new(namespace, name) })
        };
        read().ok_or_else(|| Status::bad_request("continue key is not valid: it is not one of this server"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_a_url_and_others_are_refused() {
        for (version, namespace) in [(Some(7), "default"), (None, "")] {
            let token = Token { version, after: Key::new(namespace, "web-0") };
            let text = token.text();
            assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'), "{text}");
            assert_eq!(Token::read(&text), Ok(token));
        }
        for text in ["x", "e30", "%%%", "AAAA"] {
            assert_eq!(Token::read(text).err().map(|status| status.code), Some(400), "{text}");
        }
    }
}
