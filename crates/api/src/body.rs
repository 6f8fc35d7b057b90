//! Request bodies: bounded in size, time and depth, and JSON or refused with the reason.
//!
//! Promise: no more than the bound is ever held, and no reader downstream sees JSON deeper than
//! [`JSON_DEPTH_MAX`]. A refusal says what the caller should send instead and repeats nothing of
//! what was sent. Each surface writes a [`BodyRefusal`] in its own envelope.

use std::fmt;
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use domain::json_depth::is_deeper_than;
use domain::limits::JSON_DEPTH_MAX;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value};

/// How long a body may take to arrive: far more than a slow mobile link needs for the largest, and
/// short enough that trickling bodies cannot pile up.
pub(crate) const BODY_ARRIVES_WITHIN: Duration = Duration::from_secs(15);

/// How much of a body that announces too much is let by before it is refused: what an honest
/// mistake is over the bound.
const DISCARDED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long that may take.
const DISCARDED_WITHIN: Duration = Duration::from_secs(1);

/// Why a body is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyRefusal {
    /// A `Content-Type` other than JSON; none at all is taken for JSON.
    WrongContentType,
    /// Compressed: what it holds could not be bounded before it is unpacked.
    Encoded,
    /// Over the bound, in bytes.
    TooLarge(usize),
    /// Not all there within [`BODY_ARRIVES_WITHIN`].
    TooSlow,
    /// The connection broke.
    Broken,
    /// Nothing there.
    Empty,
    /// Not JSON; where it stops being JSON.
    NotJson {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    TooDeep,
    /// JSON, but not an object.
    NotObject,
}

impl BodyRefusal {
    /// The HTTP status that says it best.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for BodyRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongContentType => {
                f.write_str("the request must be sent with `Content-Type: application/json`")
            }
            Self::Encoded => {
                f.write_str("the request body must be sent as it is, without a `Content-Encoding`")
            }
            Self::TooLarge(bytes_max) => {
                write!(f, "the request body must have at most {bytes_max} bytes")
            }
            Self::TooSlow => write!(
                f,
                "the request body did not arrive within {} seconds",
                BODY_ARRIVES_WITHIN.as_secs()
            ),
            Self::Broken => f.write_str("the request body broke off"),
            Self::Empty => f.write_str("the request body is empty; send a JSON object"),
            Self::NotJson { line, column } => {
                write!(f, "the request body is not valid JSON (line {line}, column {column})")
            }
            Self::TooDeep => {
                write!(f, "the request body is nested deeper than {JSON_DEPTH_MAX} levels")
            }
            Self::NotObject => f.write_str("the request body must be a JSON object"),
        }
    }
}

/// Reads the request's JSON object of at most `bytes_max` bytes.
pub(crate) async fn read_object(
    request: Request,
    bytes_max: usize,
) -> Result<Map<String, Value>, BodyRefusal> {
    let body = read_json(request, bytes_max).await?;
    match serde_json::from_slice(&body).map_err(|error| not_json(&error))? {
        Value::Object(members) => Ok(members),
        _ => Err(BodyRefusal::NotObject),
    }
}

/// Reads the request's body of at most `bytes_max` bytes: neither empty nor nested deeper than
/// [`JSON_DEPTH_MAX`], and said to be JSON. Whether it is JSON is left to its reader.
pub(crate) async fn read_json(request: Request, bytes_max: usize) -> Result<Bytes, BodyRefusal> {
    let body = read_json_of_any_depth(request, bytes_max).await?;
    if body.is_empty() {
        return Err(BodyRefusal::Empty);
    }
    if is_deeper_than(&body, JSON_DEPTH_MAX) {
        return Err(BodyRefusal::TooDeep);
    }
    Ok(body)
}

/// Reads the request's body of at most `bytes_max` bytes, said to be JSON, or empty. For readers
/// that do not recurse.
pub(crate) async fn read_json_of_any_depth(
    request: Request,
    bytes_max: usize,
) -> Result<Bytes, BodyRefusal> {
    if is_encoded(request.headers()) {
        return Err(BodyRefusal::Encoded);
    }
    let says_json = says_json(request.headers());
    let body = read(request.into_body(), bytes_max).await?;
    if says_json || body.is_empty() { Ok(body) } else { Err(BodyRefusal::WrongContentType) }
}

/// The refusal of a body in which `error` was found.
pub(crate) fn not_json(error: &serde_json::Error) -> BodyRefusal {
    BodyRefusal::NotJson { line: error.line(), column: error.column() }
}

/// Lets some of a refused body go by: a client that sends everything before it listens would see a
/// broken connection instead of the answer.
async fn discard(mut body: Body) {
    let discarding = async {
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                break;
            }
        }
    };
    // Who is slower than that loses the answer.
    let _ = tokio::time::timeout(DISCARDED_WITHIN, discarding).await;
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, BodyRefusal> {
    // A body that announces too much is refused before any of it is kept.
    if body.size_hint().lower() > bytes_max as u64 {
        Box::pin(discard(body)).await;
        return Err(BodyRefusal::TooLarge(bytes_max));
    }
    let collected = collect(Limited::new(body, bytes_max));
    match tokio::time::timeout(BODY_ARRIVES_WITHIN, collected).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyRefusal::TooLarge(bytes_max)),
        Ok(Err(_)) => Err(BodyRefusal::Broken),
        Err(_) => Err(BodyRefusal::TooSlow),
    }
}

/// Reads a body to its end. One that comes in one piece, as almost all do, is that piece.
async fn collect(mut body: Limited<Body>) -> Result<Bytes, BoxError> {
    let mut pieces = BytesMut::new();
    while let Some(frame) = body.frame().await {
        // Trailers say nothing that is asked for here.
        let Ok(piece) = frame?.into_data() else { continue };
        if pieces.is_empty() && body.is_end_stream() {
            return Ok(piece);
        }
        pieces.extend_from_slice(&piece);
    }
    Ok(pieces.freeze())
}

/// Whether the content type is `application/json` or a `+json` type (RFC 6839), parameters aside.
/// None is taken for JSON: there is nothing else it could be here.
fn says_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return true;
    };
    let Ok(value) = value.to_str() else {
        return false;
    };
    let media_type = value.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = media_type.split_once('/').unwrap_or_default();
    let suffix = subtype.rsplit('+').next().filter(|suffix| suffix.len() < subtype.len());
    kind.eq_ignore_ascii_case("application")
        && suffix.unwrap_or(subtype).eq_ignore_ascii_case("json")
}

/// Whether the body is said to be anything but what it is (RFC 9110, 8.4).
fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_json_content_types_are_taken_and_none_is_taken_for_json() {
        let check = |value: Option<&'static str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            }
            assert_eq!(says_json(&headers), expected, "{value:?}");
        };
        check(None, true);
        check(Some("application/json"), true);
        check(Some("Application/JSON; charset=utf-8"), true);
        check(Some("application/merge-patch+json"), true);
        check(Some("application/x-www-form-urlencoded"), false);
        check(Some("text/json"), false);
        check(Some("application/jsonl"), false);
        check(Some(""), false);
    }

    #[tokio::test]
    async fn a_body_is_taken_up_to_its_bound_and_no_further() {
        let at_bound = read(Body::from(vec![b'1'; 10]), 10).await;
        assert_eq!(at_bound.as_deref(), Ok(&[b'1'; 10][..]));
        let over = read(Body::from(vec![b'1'; 11]), 10).await;
        assert_eq!(over, Err(BodyRefusal::TooLarge(10)));
    }
}
