//! Access tokens for endpoints that demand one (OAuth 2.0, RFC 6749 section 4.4).
//!
//! Promise: a token goes only to whose credentials it was got with; however many requests need one
//! at a time, it is asked for once; and the client's secret goes to the token URL and nowhere else.
//! A token is kept until shortly before its end, or until a receiver answers 401.
//!
//! The client names itself with `Authorization: Basic` (RFC 6749, section 2.3.1), which every
//! server must support; the other form, in the body, is not tried.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::attempt::Failure;
use domain::credentials::{ClientCredentials, CredentialsDigest, TokenRequest};
use domain::rendering::{Header, STANDARD_USER_AGENT};
use http::HeaderValue;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::failed::Failed;
use crate::limits::TOKENS_KEPT_MAX;
use crate::token_answer::Granted;

/// The tokens at hand.
pub(crate) struct Tokens(Cache<CredentialsDigest, Arc<Slot>>);

/// The place of one token.
#[derive(Default)]
struct Slot {
    known: Mutex<Known>,
    /// Held while the token is asked for.
    asking: tokio::sync::Mutex<()>,
}

/// What came of asking.
#[derive(Default)]
struct Known {
    latest: Option<Result<Token, String>>,
    /// How often it was asked for, to an end.
    times_asked: u64,
}

#[derive(Clone)]
struct Token {
    bearer: HeaderValue,
    usable_until: Instant,
}

impl Known {
    /// A token that may still be used, or else what came of asking since `times_asked`: whoever
    /// waited meanwhile shares it, be it good or bad.
    fn answer(&self, times_asked: u64) -> Option<Result<HeaderValue, String>> {
        let is_shared = self.times_asked > times_asked;
        match self.latest.as_ref()? {
            Ok(token) if is_shared || Instant::now() < token.usable_until => {
                Some(Ok(token.bearer.clone()))
            }
            Err(detail) if is_shared => Some(Err(detail.clone())),
            Ok(_) | Err(_) => None,
        }
    }
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self(Cache::new(TOKENS_KEPT_MAX))
    }

    /// The value of `authorization`; `ask` asks for a token, unless there is one.
    pub(crate) async fn bearer(
        &self,
        credentials: &ClientCredentials,
        ask: impl Future<Output = Result<Granted, Failed>>,
    ) -> Result<HeaderValue, Failed> {
        let failed = |detail| Failed::new(Failure::Credentials, detail);
        let slot = self.slot(credentials);
        let times_asked = {
            let known = slot.known();
            if let Some(Ok(bearer)) = known.answer(known.times_asked) {
                return Ok(bearer);
            }
            known.times_asked
        };
        let _asking = slot.asking.lock().await;
        if let Some(answer) = slot.known().answer(times_asked) {
            return answer.map_err(failed);
        }
        let asked_at = Instant::now();
        let latest = match ask.await {
            Ok(Granted { bearer, usable_for }) => {
                Ok(Token { bearer, usable_until: asked_at + usable_for })
            }
            Err(Failed { failure, detail }) => {
                Err(format!("no token ({}): {detail}", failure.name()))
            }
        };
        let mut known = slot.known();
        known.times_asked += 1;
        known.latest = Some(latest.clone());
        latest.map(|token| token.bearer).map_err(failed)
    }

    /// Forgets a token that a receiver did not accept, unless there is another already.
    pub(crate) fn forget(&self, credentials: &ClientCredentials, bearer: &HeaderValue) {
        if let Some(slot) = self.0.get(credentials.digest()) {
            let mut known = slot.known();
            if matches!(&known.latest, Some(Ok(token)) if token.bearer == bearer) {
                known.latest = None;
            }
        }
    }

    fn slot(&self, credentials: &ClientCredentials) -> Arc<Slot> {
        let made: Result<_, std::convert::Infallible> =
            self.0.get_or_insert_with(credentials.digest(), || Ok(Arc::default()));
        match made {
            Ok(slot) => slot,
            Err(never) => match never {},
        }
    }
}

/// The headers of a request for a token, but for `authorization`.
pub(crate) fn token_headers() -> [Header; 4] {
    [
        ("content-type".into(), "application/x-www-form-urlencoded".into()),
        ("accept".into(), "application/json".into()),
        ("user-agent".into(), STANDARD_USER_AGENT.into()),
        ("accept-encoding".into(), "identity".into()),
    ]
}

/// The value of `authorization` in a request for a token: id and secret, encoded as in a form, then
/// joined and encoded once more (RFC 6749, section 2.3.1).
pub(crate) fn basic(request: &TokenRequest) -> HeaderValue {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encoded(&request.client_id), encoded(&request.client_secret));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .expect("Base64 has visible ASCII characters only");
    value.set_sensitive(true);
    value
}

/// The body of a request for a token.
pub(crate) fn token_form(request: &TokenRequest) -> Bytes {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    let optional = [("scope", &request.scope), ("audience", &request.audience)];
    for (name, value) in optional {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    form.finish().into()
}

/// The time limit of an attempt passed before there was a token.
pub(crate) fn too_late(limit: Duration) -> Failed {
    let detail = format!("no token within the {} ms of the attempt", limit.as_millis());
    Failed::new(Failure::Credentials, detail)
}

#[cfg(test)]
mod tests {
    use domain::target_url::TargetUrl;

    use super::*;

    #[test]
    fn a_request_for_a_token_is_encoded_twice_as_the_standard_says() {
        let request = TokenRequest {
            token_url: TargetUrl::from_stored("https://auth.customer.com/token").unwrap(),
            client_id: "shop:1".to_owned(),
            client_secret: "a b+ü%".to_owned(),
            scope: Some("read write".to_owned()),
            audience: Some("https://api.customer.com/?a=b&c".to_owned()),
        };
        let value = basic(&request);
        assert!(value.is_sensitive());
        let encoded = value.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(STANDARD.decode(encoded).unwrap(), b"shop%3A1:a+b%2B%C3%BC%25");
        assert_eq!(
            token_form(&request),
            "grant_type=client_credentials&scope=read+write\
             &audience=https%3A%2F%2Fapi.customer.com%2F%3Fa%3Db%26c"
        );
        let plain = TokenRequest { scope: None, audience: None, ..request };
        assert_eq!(token_form(&plain), "grant_type=client_credentials");
    }
}
