//! Every route of the product over an engine in memory, asked without a network.
//!
//! Promise: every answer that passes here is JSON, and never our fault (5xx).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use api::ApiSettings;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use domain::attempt::{Outcome, Phases};
use domain::credentials::ClientIdentity;
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use engine::clock::Clock;
use engine::entropy::Entropy;
use engine::sender::{Exchange, Request as Delivery, Sender};
use engine::settings::Settings;
use engine::{Engine, Parts};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::value::RawValue;
use store::memory::MemoryStore;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// The account that inputs may name.
pub const ACCOUNT: &str = "fuzz";

const OPERATOR_KEY: &str = "operator-key-of-the-fuzz-targets-0123456789";

/// Requests after which everything begins anew, so that memory stays small.
const REQUESTS_MAX: usize = 4_000;

/// What passes between two requests: more than any limit of requests a second knows.
const PACE: Duration = Duration::from_mins(2);

/// The product in memory, with one account and its endpoint.
pub struct Surface {
    runtime: Runtime,
    router: Router,
    clock: Arc<FuzzClock>,
    requests: usize,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body, which is JSON.
    pub body: Bytes,
}

impl Answer {
    /// A text of the body, by the names and numbers that lead to it. Looks at nothing beside the
    /// way, which may hold what not every reader takes: half a character, a number too large.
    pub fn text(&self, way: &[&str]) -> Option<String> {
        let mut json: &RawValue = serde_json::from_slice(&self.body).ok()?;
        for step in way {
            json = match step.parse::<usize>() {
                Ok(at) => serde_json::from_str::<Vec<&RawValue>>(json.get()).ok()?.get(at)?,
                Err(_) => serde_json::from_str::<BTreeMap<String, &RawValue>>(json.get())
                    .ok()?
                    .get(*step)?,
            };
        }
        serde_json::from_str(json.get()).ok()
    }
}

thread_local! {
    static SURFACE: RefCell<Option<Surface>> = const { RefCell::new(None) };
}

/// Gives `ask` the product, started anew by `prepare` when it has answered enough.
pub fn with_surface(prepare: impl Fn(&mut Surface), ask: impl FnOnce(&mut Surface)) {
    SURFACE.with_borrow_mut(|kept| {
        kept.take_if(|surface| surface.requests > REQUESTS_MAX);
        ask(kept.get_or_insert_with(|| {
            let mut surface = Surface::start();
            prepare(&mut surface);
            surface
        }));
    });
}

impl Surface {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        let clock = Arc::new(FuzzClock(AtomicI64::new(1_705_314_600_250)));
        let router = runtime.block_on(async {
            let settings = Settings {
                bootstrap_operator_key: Some(OPERATOR_KEY.to_owned()),
                ..Settings::default()
            };
            let parts = Parts {
                store: Arc::new(MemoryStore::new()),
                sender: Arc::new(Agreeing),
                clock: Arc::clone(&clock) as _,
                entropy: Arc::new(Seeded(AtomicU64::new(1))),
                sealing: None,
                spans: None,
                settings,
            };
            let (engine, _) = Engine::start(parts).await.expect("a store in memory is ready");
            let settings =
                ApiSettings { entropy: Arc::new(Seeded(AtomicU64::new(2))), ..Default::default() };
            api::router(engine, settings)
        });
        let mut surface = Self { runtime, router, clock, requests: 0 };
        let account = format!(r#"{{"username":"{ACCOUNT}","contract":"standard"}}"#);
        let account = surface.post("/api/v1/accounts", account, None);
        let id = account.text(&["id"]).expect("an account has an id");
        let endpoint = r#"{"url":"https://hooks.customer.com/","entity_id":"video_1"}"#;
        let endpoint = surface.post(&format!("/api/v1/accounts/{id}/endpoints"), endpoint, None);
        assert_eq!(endpoint.status, StatusCode::CREATED, "{endpoint:?}");
        surface
    }

    /// Lets time pass without a request.
    pub fn pass(&self, length: Duration) {
        self.clock.pass(length);
    }

    /// Asks for what is at `path`.
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), Bytes::new())
    }

    /// Sends a body that is said to be JSON, with this `Idempotency-Key` if there is one.
    pub fn post(
        &mut self,
        path: &str,
        body: impl Into<Bytes>,
        idempotency_key: Option<HeaderValue>,
    ) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path);
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        self.send(request.header("content-type", "application/json"), body.into())
    }

    fn send(&mut self, request: http::request::Builder, body: Bytes) -> Answer {
        self.requests += 1;
        self.clock.pass(PACE);
        let request = request
            .header("authorization", format!("Bearer {OPERATOR_KEY}"))
            .body(Body::from(body))
            .expect("the caller gives a right path");
        let router = self.router.clone();
        let answer = self.runtime.block_on(async {
            let answer = router.oneshot(request).await.expect("a router never fails");
            let (head, body) = answer.into_parts();
            let body = body.collect().await.expect("our bodies do not break").to_bytes();
            Answer { status: head.status, body }
        });
        assert!(!answer.status.is_server_error(), "{answer:?}");
        assert!(serde_json::from_slice::<&RawValue>(&answer.body).is_ok(), "{answer:?}");
        answer
    }
}

#[derive(Debug)]
struct FuzzClock(AtomicI64);

impl FuzzClock {
    fn pass(&self, length: Duration) {
        self.0.fetch_add(length.as_millis() as i64, Ordering::Relaxed);
    }
}

impl Clock for FuzzClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
struct Seeded(AtomicU64);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        for chunk in bytes.chunks_mut(8) {
            let bits = self.0.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
            let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(bits ^ (bits >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// A sender to which everything succeeds.
struct Agreeing;

#[async_trait]
impl Sender for Agreeing {
    async fn send(&self, _: Delivery) -> Exchange {
        Exchange {
            outcome: Outcome::Answered { status: 200, retry_after: None },
            duration: Duration::ZERO,
            phases: Phases::default(),
            response_excerpt: Bytes::new(),
            control: None,
            detail: None,
        }
    }

    async fn probe(
        &self,
        _: &TargetUrl,
        _: Option<&ClientIdentity>,
        _: Duration,
    ) -> Outcome {
        Outcome::Answered { status: 204, retry_after: None }
    }
}
