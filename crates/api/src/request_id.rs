//! One id per request: in the answer for the caller, in the log for the operator.
//!
//! Promise: an answer's id finds the log line that says what went wrong inside, which the answer
//! does not say. Ids are made here, never taken from the caller.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use axum::response::Response;
use domain::id::hex_digits;
use engine::entropy::Entropy;
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

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

    /// The id that [`crate::to_the_end`] gave.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().copied().unwrap_or_default())
    }
}

impl RequestId {
    /// A new id.
    pub(crate) fn new(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes);
        Self(u128::from_be_bytes(bytes))
    }

    /// Puts the id on the answer.
    pub(crate) fn mark(self, answer: &mut Response) {
        let value = HeaderValue::from_bytes(&hex_digits(self.0)).expect("hex digits are a value");
        answer.headers_mut().insert(X_REQUEST_ID, value);
    }
}
