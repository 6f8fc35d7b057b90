//! How a key's request limit stands, told on every answer to it.
//!
//! Promise: what `RateLimit` and `RateLimit-Policy` say (draft-ietf-httpapi-ratelimit-headers-11)
//! is what is enforced, refusals included. Counted where the key is found good
//! ([`super::caller`]), written where every answer passes ([`crate::to_the_end`]); a key without a
//! limit gets neither field.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use axum::response::Response;
use engine::rate::BucketStatus;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::problem::{Kind, Problem};

/// What the limit is (draft-ietf-httpapi-ratelimit-headers-11, section 3).
pub(super) const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What is left of it (the same, section 4).
pub(super) const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Where a request's standing waits for its answer: one copy travels with the request, the other
/// stays with whoever will send the answer.
#[derive(Clone, Default)]
pub(crate) struct Standing(Arc<OnceLock<BucketStatus>>);

impl Standing {
    /// Notes how the key's limit stands now that the request is counted; refuses the request if it
    /// is one too many.
    pub(super) fn note(&self, status: BucketStatus) -> Result<(), Problem> {
        // A request is counted once: later extractors of the same request find it noted.
        let _ = self.0.set(status);
        match status.retry_after {
            None => Ok(()),
            Some(wait) => {
                let detail = format!(
                    "the key may make {} requests at once, and as many again in {} seconds; ask \
                     again after `Retry-After`",
                    status.limit, status.window_seconds
                );
                Err(Problem::new(Kind::RateLimited, detail).after(wait))
            }
        }
    }

    /// Puts what was noted on the answer.
    pub(crate) fn show(&self, answer: &mut Response) {
        if let Some(status) = self.0.get() {
            show(status, answer.headers_mut());
        }
    }
}

fn show(status: &BucketStatus, headers: &mut HeaderMap) {
    let mut field = |name, parameters: [(char, u32); 2]| {
        let mut text = String::with_capacity(40);
        text.push_str("\"default\"");
        for (key, number) in parameters {
            write!(text, ";{key}={number}").expect("a string takes all that is written to it");
        }
        headers.insert(name, HeaderValue::try_from(text).expect("digits and quotes are a value"));
    };
    field(RATE_LIMIT_POLICY, [('q', status.limit), ('w', status.window_seconds)]);
    field(RATE_LIMIT, [('r', status.remaining), ('t', status.reset_seconds)]);
}
