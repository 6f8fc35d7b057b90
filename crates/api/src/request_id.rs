//! One id per request: in the answer for the caller, on every log line for the operator.
//!
//! Promise: an answer's id finds the log lines made while it was served; what went wrong inside is
//! said there and not in the answer. Ids are made here, never taken from the caller.

use std::convert::Infallible;
use std::fmt;

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use tracing::Instrument;

use crate::ApiState;

/// Carries the id on every answer, whatever its body.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A request's id; prints as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestId(u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = Infallible;

    /// The id that [`assign`] gave.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_default())
    }
}

/// Gives the request its id, and serves it inside a log span that carries it.
pub(crate) async fn assign(
    State(state): State<ApiState>,
    mut request: Request,
    next: Next,
) -> Response {
    let mut bytes = [0; 16];
    state.settings.entropy.fill(&mut bytes);
    let id = RequestId(u128::from_be_bytes(bytes));
    request.extensions_mut().insert(id);
    let span = tracing::info_span!(
        "request",
        rid = %id,
        method = %request.method(),
        path = request.uri().path(),
    );
    let mut answer = next.run(request).instrument(span).await;
    let value = HeaderValue::from_str(&id.to_string()).expect("hex digits are a header value");
    answer.headers_mut().insert(X_REQUEST_ID, value);
    answer
}
