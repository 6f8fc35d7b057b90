//! The application under test, and answers in a form to compare.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::ApiSettings;
use api::jogg_v2::HttpStatus;
use axum::Router;
use axum::body::Body;
use domain::account::Account;
use domain::contract::Contract;
use domain::sealing::{KEY_BYTES, KeyRing, SealingKey, SealingKeyId};
use domain::time::Timestamp;
use engine::administer::NewAccount;
use engine::clock::SharedClock;
use engine::scope::Scope;
use engine::sealing::SealingKeys;
use engine::sender::SharedSender;
use engine::settings::Settings;
use engine::{Engine, Parts};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use store::fault::FaultStore;
use store::memory::MemoryStore;
use testkit::doubles::{ScriptedSender, SeededEntropy, TestClock};
use tower::ServiceExt;

/// When every test begins: 2024-01-15T10:30:00Z, and a fraction of a second.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_705_314_600_250);

/// A URL that every policy permits.
pub(crate) const URL: &str = "https://your-domain.com/webhook";

/// The application under test.
pub(crate) struct App {
    pub(crate) engine: Engine,
    /// Without faults unless a test asks for some.
    pub(crate) store: Arc<FaultStore>,
    pub(crate) sealing: Arc<Rings>,
    pub(crate) sender: ScriptedSender,
    pub(crate) clock: Arc<TestClock>,
    router: Router,
}

/// An account and its key.
pub(crate) struct Customer {
    pub(crate) account: Account,
    pub(crate) key: String,
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(HttpStatus::Mapped, Settings::default()).await
    }

    pub(crate) async fn start_with(http_status: HttpStatus, settings: Settings) -> Self {
        let sender = ScriptedSender::new();
        let clock = Arc::new(TestClock::starting_at(START));
        let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let sealing = Arc::new(Rings::of(sealing_key(1)));
        let parts = Parts {
            store: Arc::clone(&store) as _,
            sender: Arc::new(sender.clone()),
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SeededEntropy::new(1)),
            sealing: Some(Arc::clone(&sealing) as _),
            spans: None,
            settings,
        };
        let (engine, _) = Engine::start(parts).await.unwrap();
        let settings = ApiSettings {
            jogg_v2_http_status: http_status,
            entropy: Arc::new(SeededEntropy::new(2)),
        };
        let router = api::router(engine.clone(), settings);
        Self { engine, store, sealing, sender, clock, router }
    }

    /// The same application with its time or its receivers replaced.
    pub(crate) async fn start_on(clock: SharedClock, sender: SharedSender) -> (Engine, Router) {
        let parts = Parts {
            store: Arc::new(MemoryStore::new()),
            sender,
            clock,
            entropy: Arc::new(SeededEntropy::new(1)),
            sealing: None,
            spans: None,
            settings: Settings::default(),
        };
        let (engine, _) = Engine::start(parts).await.unwrap();
        (engine.clone(), api::router(engine, ApiSettings::default()))
    }

    /// A new account without a plan or credits to count.
    pub(crate) async fn customer(&self, username: &str, contract: Contract) -> Customer {
        Customer::create(&self.engine, new_account(username, contract)).await
    }

    /// Sends a request with this key and, unless it is empty, this JSON body.
    pub(crate) async fn call(&self, key: &str, method: Method, path: &str, body: &str) -> Answer {
        self.send(request(key, method, path, body)).await
    }

    pub(crate) async fn get(&self, key: &str, path: &str) -> Answer {
        self.call(key, Method::GET, path, "").await
    }

    pub(crate) async fn post(&self, key: &str, path: &str, body: &str) -> Answer {
        self.call(key, Method::POST, path, body).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        send(&self.router, request).await
    }

    /// Lets time pass on the clock.
    pub(crate) fn pass(&self, length: Duration) {
        self.clock.set_forward(length);
    }
}

/// The sealing keys of a store that seals nothing.
pub(crate) struct Rings {
    /// What the key file holds.
    pub(crate) file: Mutex<KeyRing>,
    in_use: Mutex<Arc<KeyRing>>,
}

impl Rings {
    fn of(key: SealingKey) -> Self {
        let ring = KeyRing::of(key);
        Self { file: Mutex::new(ring.clone()), in_use: Mutex::new(Arc::new(ring)) }
    }
}

impl SealingKeys for Rings {
    fn read(&self) -> Result<KeyRing, String> {
        Ok(self.file.lock().unwrap().clone())
    }

    fn in_use(&self) -> Arc<KeyRing> {
        Arc::clone(&self.in_use.lock().unwrap())
    }

    fn replace(&self, ring: KeyRing) {
        *self.in_use.lock().unwrap() = Arc::new(ring);
    }
}

/// A sealing key made of one byte.
pub(crate) fn sealing_key(byte: u8) -> SealingKey {
    SealingKey::new(SealingKeyId::from_bytes([byte; 8]), [byte; KEY_BYTES])
}

impl Customer {
    pub(crate) async fn create(engine: &Engine, new: NewAccount) -> Self {
        let (account, key) = engine.create_account(Scope::OPERATOR, new).await.unwrap();
        Self { account, key: key.reveal().to_owned() }
    }
}

/// An account without a plan or credits to count.
pub(crate) fn new_account(username: &str, contract: Contract) -> NewAccount {
    NewAccount {
        username: username.to_owned(),
        contract,
        plan: None,
        credits: None,
        api_access: true,
    }
}

/// A request with this key and, unless it is empty, this JSON body.
pub(crate) fn request(key: &str, method: Method, path: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header("x-api-key", key);
    let request = if body.is_empty() {
        request.body(Body::empty())
    } else {
        request.header("content-type", "application/json").body(Body::from(body.to_owned()))
    };
    request.unwrap()
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Answer {
    let answer = router.clone().oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let answer = Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    assert!(is_request_id(answer.header("x-request-id").unwrap()), "{answer:?}");
    answer
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// A member of the body, by JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.json().pointer(pointer).unwrap().as_str().unwrap().to_owned()
    }

    /// Status, headers and body, with what chance made replaced by what it is.
    pub(crate) fn shown(&self) -> String {
        let mut lines = vec![self.status.as_u16().to_string()];
        let mut headers: Vec<_> = self
            .headers
            .keys()
            .filter(|name| *name != "content-length")
            .map(|name| format!("{name}: {}", self.header(name.as_str()).unwrap()))
            .collect();
        headers.sort_unstable();
        lines.extend(headers);
        lines.push(String::new());
        lines.push(self.body.clone());
        self.masked(&lines.join("\n"))
    }

    /// The body, with what chance made replaced by what it is.
    pub(crate) fn shown_body(&self) -> String {
        self.masked(&self.body)
    }

    fn masked(&self, text: &str) -> String {
        let text = text.replace(self.header("x-request-id").unwrap(), "RID");
        let text = mask(&text, "wh_", |c| c.is_ascii_hexdigit());
        let text = mask(&text, "webhook_", |c| c.is_ascii_hexdigit());
        mask(&text, "whsec_", |c| c.is_ascii_alphanumeric() || c == '+' || c == '/')
    }
}

pub(crate) fn is_request_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Replaces the 32 characters after each `prefix` by dots, if all of them are as asked.
fn mask(text: &str, prefix: &str, is_masked: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(prefix);
    let mut masked = parts.next().unwrap().to_owned();
    for part in parts {
        masked.push_str(prefix);
        match part.get(..32) {
            Some(random) if random.chars().all(&is_masked) => {
                masked.push('…');
                masked.push_str(&part[32..]);
            }
            _ => masked.push_str(part),
        }
    }
    masked
}
