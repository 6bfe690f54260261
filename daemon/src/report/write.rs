//! How a write to the API server ended, and when the next one may be tried.

use std::fmt;
use std::time::Duration;

use http::Request;
use kube::Client;
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

/// How long an answer may take. Nothing of the node waits for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause, doubled with each failure.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Somebody else was faster, or made one of that name (409): look again.
    Conflict,
    /// There is no such object (404).
    NotFound,
    /// It does not know us (401), in its words: a token has run out, and there will be another.
    Unauthorized(String),
    /// We may not (403), in the server's words.
    Forbidden(String),
    /// The namespace is going: nothing can be made in it (403 with the cause `NamespaceTerminating`).
    Terminating,
    /// The server wants less of us (429), or has no time (503).
    Throttled,
    /// It will not be better for being tried again (other 4xx), in the server's words.
    Invalid(String),
    /// No answer, or a fault of the server's.
    Away(String),
}

impl Refusal {
    /// What the operator should mend, if it is that kind of refusal; `what` is the verb and the resource.
    pub(crate) fn for_operator(&self, what: &str) -> Option<String> {
        match self {
            Refusal::Unauthorized(words) => {
                Some(format!("{what}: the API server does not know us: {words}; tried again"))
            }
            Refusal::Forbidden(words) => {
                Some(format!("{what}: the API server forbids it: {words}; tried again"))
            }
            Refusal::Invalid(words) => {
                Some(format!("{what}: the API server refuses what was written: {words}"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Conflict => f.write_str("somebody else was faster"),
            Refusal::NotFound => f.write_str("there is no such object"),
            Refusal::Terminating => f.write_str("the namespace is going"),
            Refusal::Throttled => f.write_str("the API server is too busy"),
            Refusal::Unauthorized(words)
            | Refusal::Forbidden(words)
            | Refusal::Invalid(words)
            | Refusal::Away(words) => f.write_str(words),
        }
    }
}

impl From<kube::Error> for Refusal {
    fn from(error: kube::Error) -> Refusal {
        let status = match error {
            kube::Error::Api(status) => status,
            error => return Refusal::Away(error.to_string()),
        };
        let mut causes = status.details.iter().flat_map(|details| &details.causes);
        match status.code {
            // admission/plugin/namespace/lifecycle of Kubernetes.
            403 if causes.any(|cause| cause.reason == "NamespaceTerminating") => Refusal::Terminating,
            401 => Refusal::Unauthorized(status.message),
            403 => Refusal::Forbidden(status.message),
            404 => Refusal::NotFound,
            409 => Refusal::Conflict,
            429 | 503 => Refusal::Throttled,
            400..500 => Refusal::Invalid(status.message),
            _ => Refusal::Away(status.message),
        }
    }
}

/// What a request carries.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// GET: nothing.
    Read,
    /// POST: a new object.
    Create(Value),
    /// PATCH: a JSON merge patch (RFC 7386).
    Merge(Value),
    /// PATCH: a patch that knows the keys of Kubernetes' lists.
    StrategicMerge(Value),
    /// DELETE: nothing.
    Delete,
}

/// Sends one request and gives the object of the answer, after ten seconds at most.
///
/// # Errors
/// [`Refusal`]
pub(crate) async fn request(client: &Client, path: &str, content: Content) -> Result<Value, Refusal> {
    let (method, content_type, body) = match content {
        Content::Read => ("GET", None, None),
        Content::Delete => ("DELETE", None, None),
        Content::Create(object) => ("POST", Some("application/json"), Some(object)),
        Content::Merge(patch) => ("PATCH", Some("application/merge-patch+json"), Some(patch)),
        Content::StrategicMerge(patch) => {
            ("PATCH", Some("application/strategic-merge-patch+json"), Some(patch))
        }
    };
    let mut request = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        request = request.header(http::header::CONTENT_TYPE, content_type);
    }
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    // What is no path has been a name of ours or of the server's.
    let request = request.body(body).map_err(|error| Refusal::Invalid(format!("{path}: {error}")))?;
    match timeout(PATIENCE, client.request(request)).await {
        Ok(answer) => answer.map_err(Refusal::from),
        Err(_) => Err(Refusal::Away(format!("no answer for {} s", PATIENCE.as_secs()))),
    }
}

/// Pauses between attempts: doubled each time, and each of another length on each node.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    dice: u64,
}

impl Backoff {
    /// With dice of this seed.
    pub(crate) fn new(seed: u64) -> Backoff {
        // xorshift does not leave 0.
        Backoff { failures: 0, dice: seed | 1 }
    }

    /// The pause before the next attempt: half of the whole to the whole of it.
    pub(crate) fn pause(&mut self) -> Duration {
        self.pause_between(SHORTEST_PAUSE, LONGEST_PAUSE)
    }

    /// The same with another first pause, and another longest one.
    pub(crate) fn pause_between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let whole = shortest.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        whole / 2 + whole.mul_f64((self.dice % 1000) as f64 / 2000.0)
    }

    /// Whether it did not go well the last time.
    pub(crate) fn has_failed(&self) -> bool {
        self.failures > 0
    }

    /// It went well.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Waits until then; for ever, if there is nothing to wait for. Cancel-safe.
pub(crate) async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// FNV-1a with 64 bits, and stirred once more, for FNV leaves the upper half to the first octets: for seeds, names and
/// an order, the same on every machine.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    // A part is ended by an octet that no text has.
    let octets = parts.into_iter().flat_map(|part| part.bytes().chain([0xFF]));
    let hash = octets.fold(0xCBF2_9CE4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01B3)
    });
    // The last steps of MurmurHash3.
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_differ_between_nodes() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            std::iter::repeat_with(move || backoff.pause()).take(12).collect::<Vec<_>>()
        };
        let (one, other) = (pauses(hash(["n1"])), pauses(hash(["n2"])));
        assert_ne!(one, other);
        for (at, pause) in one.iter().enumerate() {
            let whole = Duration::from_secs(1 << at.min(6)).min(LONGEST_PAUSE);
            assert!((whole / 2..=whole).contains(pause), "{at}: {pause:?}");
        }
    }

    #[test]
    fn a_namespace_that_goes_is_no_lack_of_rights() {
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden",
            "message": "unable to create new content in namespace x because it is being terminated",
            "details": { "causes": [{ "reason": "NamespaceTerminating", "message": "m", "field": "f" }] },
        });
        let status = serde_json::from_value(status).expect("a Status");
        let refusal = Refusal::from(kube::Error::Api(Box::new(status)));
        assert_eq!((refusal.for_operator("create events"), refusal), (None, Refusal::Terminating));
    }

    #[test]
    fn refusals_that_an_operator_can_mend_name_verb_and_resource() {
        let error = |code, message: &str| {
            let status = kube::core::Status { code, message: message.to_owned(), ..Default::default() };
            Refusal::from(kube::Error::Api(Box::new(status)))
        };
        let words = error(403, "nodes \"n1\" is forbidden").for_operator("patch nodes").expect("words");
        assert_eq!(words, "patch nodes: the API server forbids it: nodes \"n1\" is forbidden; tried again");
        let words = error(401, "Unauthorized").for_operator("patch nodes").expect("words");
        assert_eq!(words, "patch nodes: the API server does not know us: Unauthorized; tried again");
        assert!(error(422, "spec.taints: Invalid value").for_operator("patch nodes").is_some());
        for code in [404, 409, 429, 500, 503, 504] {
            assert_eq!(error(code, "").for_operator("patch nodes"), None, "{code}");
        }
    }
}
