//! Bodies of answers: octets that are there, or a stream of them.

use futures::{Stream, TryStreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tower::BoxError;

use crate::status::Status;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The connection went away in the middle.
#[derive(Debug, thiserror::Error)]
#[error("unexpected EOF during chunk size line")]
pub(crate) struct Cut;

fn response(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An object.
pub(crate) fn json(code: u16, bytes: Bytes) -> Response<Body> {
    response(code, "application/json", full(bytes))
}

/// Octets of another type than objects have.
pub(crate) fn of_type(content_type: &'static str, bytes: Bytes) -> Response<Body> {
    response(200, content_type, full(bytes))
}

/// With one header `Warning` for each text (RFC 7234 section 5.5, code 299), which kubectl shows.
pub(crate) fn with_warnings(mut response: Response<Body>, texts: &[String]) -> Response<Body> {
    for text in texts {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}

/// Plain text, as the outer layers of the real server answer.
pub(crate) fn text(code: u16, text: &'static str) -> Response<Body> {
    response(code, "text/plain; charset=utf-8", full(Bytes::from_static(text.as_bytes())))
}

/// A refusal.
pub(crate) fn status(status: &Status) -> Response<Body> {
    let mut response = json(status.code, Bytes::from(format!("{}\n", status.to_value())));
    if let Some(time) = status.retry_after {
        let seconds = time.as_millis().div_ceil(1000);
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
    }
    response
}

/// Pieces as they come. An error cuts the connection.
pub(crate) fn stream(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Response<Body> {
    response(200, "application/json", BodyExt::boxed_unsync(StreamBody::new(pieces.map_ok(Frame::data))))
}
