//! Access tokens for endpoints that demand one (OAuth 2.0, RFC 6749 section 4.4).
//!
//! Promise: a token goes only to whose credentials it was got with; however many requests need one
//! at a time, it is asked for once; and the client's secret goes to the token URL and nowhere else.
//! A token is kept until shortly before its end, until a receiver answers 401, or until others that
//! were needed later take its place ([`TOKENS_KEPT_MAX`]).
//!
//! A token URL is spared: few are asked at once at one origin, and what came of asking holds for a
//! while, be it a failure. Asking outlives the attempt that began it, so that a slow token URL gives
//! a token to a later one.
//!
//! The client names itself with `Authorization: Basic` (RFC 6749, section 2.3.1), which every
//! server must support; the other form, in the body, is not tried.

use std::collections::HashMap;
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
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::failed::Failed;
use crate::limits::{ASK_TIME_MAX, ASKED_AGAIN_AFTER, ASKED_PER_ORIGIN_MAX, TOKENS_KEPT_MAX};
use crate::token_answer::Granted;

/// The tokens at hand.
pub(crate) struct Tokens {
    slots: Cache<CredentialsDigest, Arc<Slot>>,
    turns: Turns,
}

/// The place of one token.
#[derive(Default)]
struct Slot(Mutex<Known>);

/// What is known of one token.
#[derive(Default)]
struct Known {
    latest: Option<Told>,
    /// Set while it is asked for.
    asking: Option<watch::Receiver<Option<Answer>>>,
}

/// What whoever needs a token is told: the value of `authorization`, or why there is none.
type Answer = Result<HeaderValue, String>;

/// What came of asking, and how long it holds.
struct Told {
    answer: Answer,
    holds_until: Instant,
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self { slots: Cache::new(TOKENS_KEPT_MAX), turns: Turns::default() }
    }

    /// The value of `authorization`; `ask` asks for a token, unless there is one, or somebody asks
    /// already.
    pub(crate) async fn bearer<F>(
        &self,
        credentials: &ClientCredentials,
        ask: impl FnOnce() -> F,
    ) -> Result<HeaderValue, Failed>
    where
        F: Future<Output = Result<Granted, Failed>> + Send + 'static,
    {
        let failed = |detail| Failed::new(Failure::Credentials, detail);
        let slot = self.slot(credentials);
        let mut asking = {
            let mut known = slot.known();
            match &known.latest {
                Some(told) if Instant::now() < told.holds_until => {
                    return told.answer.clone().map_err(failed);
                }
                _ => {}
            }
            match &known.asking {
                // Asking that ended without a word was cut off with its runtime.
                Some(asking) if asking.has_changed().is_ok() => asking.clone(),
                _ => {
                    let turns = self.turns.at(credentials.request().token_url.origin());
                    let asking = begin_to_ask(Arc::clone(&slot), turns, ask());
                    known.asking = Some(asking.clone());
                    asking
                }
            }
        };
        match asking.wait_for(Option::is_some).await.map(|answer| answer.clone()) {
            Ok(Some(answer)) => answer.map_err(failed),
            Ok(None) | Err(_) => Err(failed("no token: asking was cut off".to_owned())),
        }
    }

    /// Forgets a token that a receiver did not accept, unless there is another already.
    pub(crate) fn forget(&self, credentials: &ClientCredentials, bearer: &HeaderValue) {
        if let Some(slot) = self.slots.get(credentials.digest()) {
            let mut known = slot.known();
            if known.latest.as_ref().is_some_and(|told| told.answer.as_ref() == Ok(bearer)) {
                known.latest = None;
            }
        }
    }

    fn slot(&self, credentials: &ClientCredentials) -> Arc<Slot> {
        let made: Result<_, std::convert::Infallible> =
            self.slots.get_or_insert_with(credentials.digest(), || Ok(Arc::default()));
        match made {
            Ok(slot) => slot,
            Err(never) => match never {},
        }
    }
}

/// Asks in a task of its own, which writes down what came of it and tells whoever waits.
fn begin_to_ask(
    slot: Arc<Slot>,
    turns: Arc<Semaphore>,
    ask: impl Future<Output = Result<Granted, Failed>> + Send + 'static,
) -> watch::Receiver<Option<Answer>> {
    let (tell, asking) = watch::channel(None);
    tokio::spawn(async move {
        let ask_in_turn = async {
            let _turn = turns.acquire().await.expect("nobody closes the semaphore");
            let asked_at = Instant::now();
            (asked_at, ask.await)
        };
        let (answer, granted_until) = match timeout(ASK_TIME_MAX, ask_in_turn).await {
            Ok((asked_at, Ok(Granted { bearer, usable_for }))) => {
                (Ok(bearer), Some(asked_at + usable_for))
            }
            Ok((_, Err(Failed { failure, detail }))) => {
                (Err(format!("no token ({}): {detail}", failure.name())), None)
            }
            Err(_) => {
                let limit = ASK_TIME_MAX.as_millis();
                (Err(format!("no token (timeout): none within {limit} ms")), None)
            }
        };
        let asked_again_at = Instant::now() + ASKED_AGAIN_AFTER;
        let holds_until = granted_until.map_or(asked_again_at, |until| until.max(asked_again_at));
        let mut known = slot.known();
        known.latest = Some(Told { answer: answer.clone(), holds_until });
        known.asking = None;
        drop(known);
        tell.send_replace(Some(answer));
    });
    asking
}

/// Whose turn it is to ask, by the origin that is asked.
#[derive(Default)]
struct Turns(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Turns {
    /// Most origins remembered of which none is asked.
    const IDLE_MAX: usize = 1_024;

    fn at(&self, origin: &str) -> Arc<Semaphore> {
        let mut by_origin = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = by_origin.get(origin) {
            return Arc::clone(turns);
        }
        if by_origin.len() >= Self::IDLE_MAX {
            by_origin.retain(|_, turns| Arc::strong_count(turns) > 1);
        }
        let turns = Arc::new(Semaphore::new(ASKED_PER_ORIGIN_MAX));
        by_origin.insert(origin.to_owned(), Arc::clone(&turns));
        turns
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
