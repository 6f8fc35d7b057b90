//! The customers' server: notes every request in a log and answers as the scenario says.
//!
//! Promise: the log's line is written right before the answer, without a status if the connection went
//! before, and says whether the signature is right by
//! `testkit::verify`, which shares nothing with the product. Neighbour: [`crate::oracle`] reads it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use domain::contract::Contract;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use testkit::auditor::Receipt;
use testkit::gate::Gate;
use testkit::receiver::ReceivedRequest;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

use crate::records::{Log, Received, hex};
use crate::service::LOOK_EVERY;

/// What a behaviour may decide by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The path.
    pub(crate) path: &'a str,
    /// The `webhook-id`.
    pub(crate) webhook_id: &'a str,
    /// How many of this event came to this path so far, this one included.
    pub(crate) attempt: u32,
}

/// What to do with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Answer with this status, after a while.
    Answer {
        /// The status.
        status: u16,
        /// How long to wait before.
        after: Duration,
    },
    /// Wait until [`Receiver::open_gate`], and then answer with this status after a while.
    Held {
        /// The status.
        status: u16,
        /// How long to wait after that.
        after: Duration,
    },
    /// Never answer, and keep the connection open.
    Hang,
    /// Close the connection without an answer.
    Close,
}

impl Reply {
    /// Answers with this status at once.
    pub(crate) const fn status(status: u16) -> Self {
        Self::Answer { status, after: Duration::ZERO }
    }
}

type Behaviour = Box<dyn Fn(Asked<'_>) -> Reply + Send + Sync>;

/// A receiver of any number of endpoints, each with a path of its own.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    log: Log,
    gate: Gate,
    behaviour: Mutex<Behaviour>,
    endpoints: Mutex<HashMap<String, (Contract, String)>>,
    attempts: Mutex<HashMap<(String, String), u32>>,
    received: AtomicU64,
    succeeded: AtomicU64,
    in_flight: AtomicU64,
}

impl Receiver {
    /// Starts one that answers 200 to everything.
    pub(crate) async fn start(log: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a receiver")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            log: Log::begin(log)?,
            gate: Gate::new(),
            behaviour: Mutex::new(Box::new(|_| Reply::status(200))),
            endpoints: Mutex::default(),
            attempts: Mutex::default(),
            received: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// The URL of a path, which starts with `/`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The endpoint at this path has this secret.
    pub(crate) fn endpoint(&self, path: &str, contract: Contract, secret: &str) {
        let endpoint = (contract, secret.to_owned());
        held(&self.shared.endpoints).insert(path.to_owned(), endpoint);
    }

    /// Behaves so from now on.
    pub(crate) fn behave(&self, behaviour: impl Fn(Asked<'_>) -> Reply + Send + Sync + 'static) {
        *held(&self.shared.behaviour) = Box::new(behaviour);
    }

    /// Lets all go on that are held, and are to be held later.
    pub(crate) fn open_gate(&self) {
        self.shared.gate.open();
    }

    /// How many requests came so far.
    pub(crate) fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// How many of them are or will be answered 2xx.
    pub(crate) fn succeeded(&self) -> u64 {
        self.shared.succeeded.load(Ordering::Relaxed)
    }

    /// How many wait for their answer now.
    pub(crate) fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until so many requests came.
    pub(crate) async fn until_received(&self, requests: u64, limit: Duration) -> Result<()> {
        let begun_at = Instant::now();
        while self.received() < requests {
            let received = self.received();
            ensure!(begun_at.elapsed() <= limit, "{received} of {requests} came in {limit:?}");
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Its log.
    pub(crate) fn log(&self) -> &Log {
        &self.shared.log
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { shared.answer(request).await }
            });
            // A connection that ends badly is the other side's doing or the scenario's.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The connection is to be closed without an answer.
type Closed = std::io::Error;

fn closed() -> Closed {
    Closed::from(std::io::ErrorKind::ConnectionAborted)
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Closed> {
        let (head, body) = request.into_parts();
        // Cut short by a kill: it did not come.
        let Ok(body) = body.collect().await else { return Err(closed()) };
        let path = head.uri.path().to_owned();
        let headers = head.headers.iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let request = ReceivedRequest {
            method: head.method.to_string(),
            headers: headers.collect(),
            path,
            body: body.to_bytes(),
            at: tokio::time::Instant::now(),
            connection: 0,
            answered: None,
        };
        let _in_flight = InFlight::begin(&self.in_flight);
        let (reply, line) = self.note(&request);
        match reply {
            Reply::Hang => {
                drop(line);
                std::future::pending::<Result<_, Infallible>>().await.map_err(|_| closed())
            }
            Reply::Close => Err(closed()),
            Reply::Answer { status, after } => {
                sleep(after).await;
                Ok(line.answered(status))
            }
            Reply::Held { status, after } => {
                self.gate.passed().await;
                sleep(after).await;
                Ok(line.answered(status))
            }
        }
    }

    /// Decides about the request; its line is written when it is answered, or will not be.
    fn note(&self, request: &ReceivedRequest) -> (Reply, Line<'_>) {
        let webhook_id = request.header("webhook-id").unwrap_or_default().to_owned();
        let path = request.path.clone();
        let attempt = {
            let mut attempts = held(&self.attempts);
            let attempt = attempts.entry((path.clone(), webhook_id.clone())).or_default();
            *attempt += 1;
            *attempt
        };
        let asked = Asked { path: &path, webhook_id: &webhook_id, attempt };
        let reply = held(&self.behaviour)(asked);
        let endpoint = held(&self.endpoints).get(&path).cloned();
        let endpoint = endpoint.as_ref().map(|(contract, secret)| (*contract, secret.as_str()));
        let receipt = Receipt::of(request, endpoint);
        let received = Received {
            path: receipt.path,
            webhook_id: receipt.webhook_id,
            attempt,
            body_sha256: hex(&receipt.body),
            data_sha256: receipt.data.as_ref().map(hex),
            forged: receipt.forged,
            status: None,
            at_ms: self.log.now_ms(),
        };
        self.received.fetch_add(1, Ordering::Relaxed);
        (reply, Line { shared: self, received })
    }
}

/// A line that is written when it is dropped: without a status unless the request was answered, as when
/// its connection goes while it waits.
struct Line<'a> {
    shared: &'a Shared,
    received: Received,
}

impl Line<'_> {
    /// Writes it and makes the answer, which is to be sent at once.
    fn answered(mut self, status: u16) -> Response<Empty<Bytes>> {
        self.received.status = Some(status);
        let is_success = (200..300).contains(&status);
        self.shared.succeeded.fetch_add(u64::from(is_success), Ordering::Relaxed);
        let answer = Response::builder().status(status).body(Empty::new());
        answer.expect("scenarios answer with statuses that exist")
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.shared.log.write(&self.received);
    }
}

/// Counts a request while it is being answered, however that ends.
struct InFlight<'a>(&'a AtomicU64);

impl<'a> InFlight<'a> {
    fn begin(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
