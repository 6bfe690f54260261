//! Lists: whole or in pages, of now or of an older version.
//!
//! Kubernetes API concepts, "Resource versions" (the table for list) and "Retrieving large results sets in chunks".
//! A long list leaves in pieces of octets that exist already; it is never put together in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::body::{self, Body, Cut};
use crate::form::{Form, Shape};
use crate::options::{Match, Options, Token};
use crate::server::{Call, Server};
use crate::status::Status;
use crate::store::{Object, Page, State};

/// About how many octets go at once.
pub(crate) const PIECE: usize = 64 * 1024;

/// How long the real server waits for its storage to reach a version (`blockTimeout` of its watch cache).
const WAIT: Duration = Duration::from_secs(3);

/// Answers a list.
pub(crate) async fn list(server: &Arc<Server>, call: &Call) -> Result<Response<Body>, Status> {
    let faults = server.faults.now();
    let options = Options::read(call, faults.streaming_lists())?;
    let stale = faults.stale();
    if let Some(asked) = options.version {
        match &stale {
            None => wait_for(server, asked).await?,
            Some(mark) if asked > mark.version() => {
                // It does not catch up in time.
                tokio::time::sleep(WAIT).await;
                return Err(Status::too_large_version(asked, mark.version()));
            }
            Some(_) => {}
        }
    }
    let form = Form::new(Arc::clone(&call.kind), &call.target.version, &call.accept);
    let (page, metadata) = match &stale {
        Some(mark) => page(&mark.0, call, &options)?,
        None => page(&server.store.read(), call, &options)?,
    };
    Ok(answer(server, form, page.objects, &metadata))
}

/// Waits until the server has reached a version.
///
/// # Errors
/// 504 `Timeout` with the cause `ResourceVersionTooLarge`: it has not.
pub(crate) async fn wait_for(server: &Server, asked: u64) -> Result<(), Status> {
    let mut changes = server.store.changes();
    let reached = async {
        while server.store.read().version() < asked {
            if changes.changed().await.is_err() {
                break;
            }
        }
    };
    timeout(WAIT, reached).await.map_err(|_| Status::too_large_version(asked, server.store.read().version()))
}

/// The objects to show, and the metadata of the list.
fn page(state: &State, call: &Call, options: &Options) -> Result<(Page, Value), Status> {
    let resource = call.kind.stored_at();
    let forgotten = state.forgotten(resource);
    let after = options.token.as_ref().map(|token| token.after.clone());
    let asked = options.version.filter(|&version| version > 0);
    // With a limit a version means exactly this one, unless it is said otherwise; and "any version" comes from the
    // cache, which knows no limits.
    let is_exact = match options.version_match {
        Some(version_match) => version_match == Match::Exact,
        None => options.limit.is_some(),
    };
    let version = match (&options.token, asked) {
        (Some(Token { version: Some(version), after }), _) => {
            if *version < forgotten {
                let token = Token { version: None, after: after.clone() };
                return Err(Status { continue_token: Some(token.text()), ..Status::expired(TOKEN_EXPIRED) });
            }
            *version
        }
        (None, Some(asked)) if is_exact => {
            if asked < forgotten {
                return Err(Status::expired("The resourceVersion for the provided list is too old."));
            }
            asked
        }
        _ => state.version(),
    };
    let limit = if options.version == Some(0) { None } else { options.limit };
    let page = match state.collection(resource) {
        None => Page::default(),
        Some(collection) => {
            let namespace = call.target.namespace.as_deref();
            let is_wanted = |object: &Object| options.selector.matches(object);
            collection.page(version, namespace, after.as_ref(), limit.unwrap_or(usize::MAX), is_wanted)
        }
    };
    let metadata = metadata(call, options, version, &page);
    Ok((page, metadata))
}

const TOKEN_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
     start a new list without the continue parameter, or use the continue token in this response to retrieve the \
     remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
     created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

fn metadata(call: &Call, options: &Options, version: u64, page: &Page) -> Value {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if call.kind.is_custom {
        metadata["continue"] = json!("");
    }
    if page.remaining > 0
        && let Some(last) = page.objects.last()
    {
        let token = Token { version: Some(version), after: last.key.clone() };
        metadata["continue"] = json!(token.text());
        // How many match a selector is not counted.
        if options.selector.is_empty() {
            metadata["remainingItemCount"] = json!(page.remaining);
        }
    }
    metadata
}

fn answer(server: &Arc<Server>, form: Form, objects: Vec<Arc<Object>>, metadata: &Value) -> Response<Body> {
    if form.shape == Shape::Table {
        let values: Vec<Value> = objects.iter().map(|object| object.value()).collect();
        return body::json(200, Bytes::from(form.table(metadata, &values).to_string()));
    }
    let (before, after) = form.list_frame(metadata);
    let mut pieces = Pieces { form, objects: objects.into_iter(), is_first: true, end: Some(after) };
    let mut piece = before.into_bytes();
    pieces.fill(&mut piece);
    if pieces.end.is_none() {
        return body::json(200, Bytes::from(piece));
    }
    let link = server.link();
    let first = stream::iter([Ok(Bytes::from(piece))]);
    let rest = stream::iter(std::iter::from_fn(move || {
        let mut piece = Vec::new();
        pieces.fill(&mut piece);
        let is_cut = link.has_changed().unwrap_or(true);
        (!piece.is_empty()).then(|| if is_cut { Err(Cut.into()) } else { Ok(Bytes::from(piece)) })
    }));
    body::stream(futures::StreamExt::chain(first, rest))
}

/// A list on its way out.
struct Pieces {
    form: Form,
    objects: std::vec::IntoIter<Arc<Object>>,
    is_first: bool,
    /// What comes after the last item; `None`: it is out.
    end: Option<String>,
}

impl Pieces {
    fn fill(&mut self, piece: &mut Vec<u8>) {
        while piece.len() < PIECE {
            match self.objects.next() {
                Some(object) => {
                    if !std::mem::take(&mut self.is_first) {
                        piece.push(b',');
                    }
                    piece.extend_from_slice(&self.form.item(&object));
                }
                None => {
                    piece.extend_from_slice(self.end.take().unwrap_or_default().as_bytes());
                    return;
                }
            }
        }
    }
}
