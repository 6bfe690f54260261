//! Requests to the server, and what their failures mean.

use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Status;
use tokio::time::timeout;

use crate::kinds::Kind;
use crate::kubeconfig::Configured;
use crate::wire::{self, Line};

/// Longest time to an answer, and between two parts of one that is not a watch.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A server that asks for a longer pause is asked earlier all the same.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A server that says 429 and not for how long (kubernetes, priority and fairness, sends 1 s).
const PAUSE: Duration = Duration::from_secs(1);
/// Of an answer that is a fault.
const MOST_OF_A_FAULT: usize = 64 << 10;
/// Of one object: the API server takes none above 3 MiB.
const MOST_OF_AN_OBJECT: usize = 4 << 20;
/// Of one page of a list: 500 objects of at most 1.5 MiB would be more, but nobody has those.
const MOST_OF_A_PAGE: usize = 256 << 20;
/// Of one line of a watch: the API server takes no object above 3 MiB.
const MOST_OF_A_LINE: usize = 16 << 20;
/// A buffer that has grown beyond that for one line is given back.
const MUCH: usize = 1 << 20;

/// What a refusal to stream lists says, whatever its code: of the request, and of the storage (kubernetes, `Cacher.Watch`:
/// "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled").
const NO_STREAM: [&str; 2] = ["sendInitialEvents", "a watch stream was requested by the client but"];

/// Why there is no answer, or not the one that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    /// No server answered.
    Unreachable(String),
    /// 401, 403: verb, resource and what the server says.
    Refused(String),
    /// 404: there is no such kind.
    Missing(String),
    /// 410: it does not know any more what changed since then.
    Gone(String),
    /// 429, or 503 with a pause.
    Throttled(String, Duration),
    /// 504: it has not come so far as the version it was asked for.
    Behind(String),
    /// 400, 422: what was asked makes no sense to it.
    Invalid(String),
    /// Any other answer.
    Faulty(String),
    /// The answer broke off or is no JSON.
    Torn(String),
    /// It said nothing for too long.
    Silent,
    /// What it shows is older than what is known.
    Older(String),
}

/// Asks for one object.
pub(crate) async fn get(
    configured: &Configured,
    path: &str,
    verb: &str,
    patience: Duration,
) -> Result<Vec<u8>, Failure> {
    let body = send(configured, path, verb, patience).await?;
    whole(body, patience, MOST_OF_AN_OBJECT).await
}

/// Asks for one page of a list.
pub(crate) async fn page(
    configured: &Configured,
    kind: Kind,
    next: Option<&str>,
    limit: usize,
) -> Result<wire::Page, Failure> {
    // resourceVersion unset: a consistent read. With a place to go on from it must be.
    let place = next.map(|next| format!("&continue={}", encoded(next))).unwrap_or_default();
    let path = format!("{}?limit={limit}{place}", kind.path(configured.client.default_namespace()));
    let verb = format!("list {}", kind.resource_and_group());
    let body = send(configured, &path, &verb, PATIENCE).await?;
    let text = whole(body, PATIENCE, MOST_OF_A_PAGE).await?;
    wire::page(kind, &text).map_err(|what| Failure::Torn(format!("{verb}: {what}")))
}

/// Starts a watch.
pub(crate) async fn watch(configured: &Configured, kind: Kind, query: &str) -> Result<Lines, Failure> {
    let own = configured.client.default_namespace();
    let path = format!("{}?watch=true&allowWatchBookmarks=true&{query}", kind.path(own));
    let verb = format!("watch {}", kind.resource_and_group());
    let body = send(configured, &path, &verb, PATIENCE).await?;
    Ok(Lines { kind, body: Box::pin(body), text: Vec::new(), searched: 0, failure: None })
}

async fn send(configured: &Configured, path: &str, verb: &str, patience: Duration) -> Result<Body, Failure> {
    let request =
        http::Request::get(path).header(http::header::ACCEPT, "application/json").body(Body::empty());
    let request = request.map_err(|error| Failure::Faulty(format!("{verb}: {error}")))?;
    let answer = match timeout(patience, configured.client.send(request)).await {
        Err(_) => return Err(Failure::Unreachable(format!("{verb}: no answer in {} s", patience.as_secs()))),
        Ok(Err(error)) => return Err(Failure::Unreachable(configured.explain(&error))),
        Ok(Ok(answer)) => answer,
    };
    if answer.status().is_success() {
        return Ok(answer.into_body());
    }
    let code = answer.status().as_u16();
    let pause = answer.headers().get(http::header::RETRY_AFTER);
    let pause = pause.and_then(|seconds| seconds.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    let text = whole(answer.into_body(), patience, MOST_OF_A_FAULT).await.unwrap_or_default();
    // A proxy on the way answers in its own words.
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        let words: String = String::from_utf8_lossy(&text).chars().take(200).collect();
        Status::failure(words.trim(), "").with_code(code)
    });
    Err(failure(verb, code, &status, pause))
}

/// What a status means, in an answer or in the middle of a watch.
fn failure(verb: &str, code: u16, status: &Status, pause: Option<Duration>) -> Failure {
    let asked =
        status.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
    let pause = pause
        .or(asked.map(|seconds| Duration::from_secs(seconds.into())))
        .map(|pause| pause.min(LONGEST_PAUSE));
    let reason = if status.reason.is_empty() { String::new() } else { format!(" {}", status.reason) };
    let words = format!("{verb}: {code}{reason}: {}", status.message);
    // `storage.NewTooLargeResourceVersionError`.
    let is_too_large =
        status.details.as_ref().is_some_and(|details| {
            details.causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
        }) || status.message.contains("Too large resource version");
    match code {
        _ if is_too_large => Failure::Behind(words),
        401 | 403 => Failure::Refused(words),
        404 => Failure::Missing(words),
        410 => Failure::Gone(words),
        429 => Failure::Throttled(words, pause.unwrap_or(PAUSE)),
        400 | 422 => Failure::Invalid(words),
        // Storage that cannot stream lists says so inside of the stream, with a code of its own.
        _ if status.reason == "Invalid" || NO_STREAM.iter().any(|words| status.message.contains(words)) => {
            Failure::Invalid(words)
        }
        503 if pause.is_some() => Failure::Throttled(words, pause.unwrap_or(PAUSE)),
        _ => Failure::Faulty(words),
    }
}

async fn whole(body: Body, patience: Duration, most: usize) -> Result<Vec<u8>, Failure> {
    let (mut body, mut text) = (Box::pin(body), Vec::new());
    loop {
        match timeout(patience, body.frame()).await {
            Err(_) => return Err(Failure::Silent),
            Ok(None) => return Ok(text),
            Ok(Some(Err(error))) => return Err(Failure::Torn(format!("the answer broke off: {error}"))),
            Ok(Some(Ok(frame))) => text.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
        }
        if text.len() > most {
            return Err(Failure::Faulty(format!("an answer of more than {most} octets")));
        }
    }
}

/// What a watch tells.
pub(crate) struct Lines {
    kind: Kind,
    body: Pin<Box<Body>>,
    /// What came of the next lines.
    text: Vec<u8>,
    /// So much of it holds no end of a line.
    searched: usize,
    /// What went wrong after the lines that were given.
    failure: Option<Failure>,
}

impl Lines {
    /// The next lines, some at once; `None`: it has ended as it should. Cancel-safe.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Option<Vec<Line>>, Failure> {
        loop {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            let lines = self.take_lines();
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
            if self.failure.is_some() {
                continue;
            }
            match timeout(patience, self.body.frame()).await {
                Err(_) => return Err(Failure::Silent),
                Ok(None) if self.text.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                Ok(None) => return Err(self.torn("it ended inside of an event")),
                Ok(Some(Err(error))) => return Err(self.torn(&format!("it broke off: {error}"))),
                Ok(Some(Ok(frame))) => self.text.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            }
            if self.text.len() > MOST_OF_A_LINE {
                return Err(self.torn("an event of more than 16 MiB"));
            }
        }
    }

    /// Those that are whole, up to the first that is none.
    fn take_lines(&mut self) -> Vec<Line> {
        let Some(end) = self.text[self.searched..].iter().rposition(|octet| *octet == b'\n') else {
            self.searched = self.text.len();
            return Vec::new();
        };
        let end = self.searched + end;
        let mut lines = Vec::new();
        for text in
            self.text[..end].split(|octet| *octet == b'\n').filter(|text| !text.trim_ascii().is_empty())
        {
            match wire::line(self.kind, text) {
                Ok(Line::Error(status)) => {
                    let verb = format!("watch {}", self.kind.resource_and_group());
                    self.failure = Some(failure(&verb, status.code, &status, None));
                    break;
                }
                Ok(line) => lines.push(line),
                Err(what) => {
                    self.failure = Some(self.torn(&what));
                    break;
                }
            }
        }
        self.text.drain(..=end);
        self.searched = 0;
        if self.text.capacity() > MUCH {
            self.text.shrink_to(MUCH);
        }
        lines
    }

    fn torn(&self, what: &str) -> Failure {
        Failure::Torn(format!("watch {}: {what}", self.kind.resource_and_group()))
    }
}

/// For a query. What the server gave as a place to go on from is in base64, mostly.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(octet.into()),
            _ => encoded.push_str(&format!("%{octet:02X}")),
        }
    }
    encoded
}
