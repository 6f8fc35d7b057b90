//! A customer's server: records every request and answers as the test's script says.
//!
//! HTTP/1.1 on a free port of 127.0.0.1, in the test's own runtime. It goes, with every connection,
//! when it is dropped. It needs running time: under paused time the limits of both sides would pass
//! while bytes are on their way.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::PATIENCE;
use crate::gate::Gate;
use crate::journal::Journal;

/// A request as it arrived, body complete.
#[derive(Clone)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// Path and query as on the request line.
    pub path: String,
    /// Names in lower case and values, in the order of arrival; values of a repeated name stand
    /// together.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// When its body was complete.
    pub at: Instant,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
    /// The status the script answers, `None` if it never answers in full.
    pub answered: Option<u16>,
}

impl ReceivedRequest {
    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the script answers it with 2xx.
    pub fn succeeded(&self) -> bool {
        matches!(self.answered, Some(200..=299))
    }
}

impl fmt::Debug for ReceivedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceivedRequest")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("headers", &self.headers)
            .field("body", &String::from_utf8_lossy(&self.body))
            .field("connection", &self.connection)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

/// What to do with a request.
#[derive(Clone, Debug)]
pub struct Answer {
    gate: Option<Gate>,
    deed: Deed,
}

#[derive(Clone, Debug)]
enum Deed {
    Respond { status: u16, headers: Vec<(String, String)>, body: Bytes, cut: bool },
    Hang,
    Close,
}

impl Answer {
    /// Answers with this status and an empty body.
    pub fn status(status: u16) -> Self {
        Self {
            gate: None,
            deed: Deed::Respond { status, headers: Vec::new(), body: Bytes::new(), cut: false },
        }
    }

    /// Never answers, and keeps the connection open.
    pub fn hang() -> Self {
        Self { gate: None, deed: Deed::Hang }
    }

    /// Reads the request, then closes the connection without a byte of answer.
    pub fn close() -> Self {
        Self { gate: None, deed: Deed::Close }
    }

    /// With this header too.
    ///
    /// # Panics
    ///
    /// When the answer is none with a head.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        match &mut self.deed {
            Deed::Respond { headers, .. } => headers.push((name.to_owned(), value.to_owned())),
            Deed::Hang | Deed::Close => panic!("this answer has no head"),
        }
        self
    }

    /// With this body.
    ///
    /// # Panics
    ///
    /// When the answer is none with a head.
    #[must_use]
    pub fn with_body(mut self, bytes: impl Into<Bytes>) -> Self {
        match &mut self.deed {
            Deed::Respond { body, .. } => *body = bytes.into(),
            Deed::Hang | Deed::Close => panic!("this answer has no body"),
        }
        self
    }

    /// Announces one byte more of body than there is and closes the connection after the last one.
    ///
    /// # Panics
    ///
    /// When the answer is none with a head.
    #[must_use]
    pub fn cut_in_its_body(mut self) -> Self {
        match &mut self.deed {
            Deed::Respond { cut, .. } => *cut = true,
            Deed::Hang | Deed::Close => panic!("this answer has no body"),
        }
        self
    }

    /// Not before the gate is open.
    #[must_use]
    pub fn after(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.clone());
        self
    }

    fn status_if_whole(&self) -> Option<u16> {
        match self.deed {
            Deed::Respond { status, cut: false, .. } => Some(status),
            Deed::Respond { .. } | Deed::Hang | Deed::Close => None,
        }
    }
}

/// A scripted HTTP/1.1 server.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    requests: Journal<ReceivedRequest>,
    scripts: Mutex<Scripts>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    in_flight_peak: AtomicUsize,
}

#[derive(Debug)]
struct Scripts {
    queues: HashMap<String, VecDeque<Answer>>,
    per_path: HashMap<String, Answer>,
    otherwise: Answer,
}

impl Receiver {
    /// Starts one that answers 200 to everything.
    ///
    /// # Panics
    ///
    /// When 127.0.0.1 has no free port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            requests: Journal::default(),
            scripts: Mutex::new(Scripts {
                queues: HashMap::new(),
                per_path: HashMap::new(),
                otherwise: Answer::status(200),
            }),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            in_flight_peak: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of a path, which starts with `/`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Appends answers for the next requests to this path, one each.
    pub fn script(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.scripts(|scripts| {
            scripts.queues.entry(path.to_owned()).or_default().extend(answers);
        });
    }

    /// Answers every request to this path so, once its script is used up.
    pub fn always(&self, path: &str, answer: Answer) {
        self.scripts(|scripts| {
            scripts.per_path.insert(path.to_owned(), answer);
        });
    }

    /// Answers so whatever nothing else is said about.
    pub fn otherwise(&self, answer: Answer) {
        self.scripts(|scripts| scripts.otherwise = answer);
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.requests.entries()
    }

    /// Every request to this path so far.
    pub fn requests_to(&self, path: &str) -> Vec<ReceivedRequest> {
        self.requests().into_iter().filter(|request| request.path == path).collect()
    }

    /// Every request so far, once there are `count`.
    ///
    /// # Panics
    ///
    /// When they do not come within [`PATIENCE`].
    pub async fn wait_for(&self, count: usize) -> Vec<ReceivedRequest> {
        self.wait_until(&format!("{count} requests"), |requests| requests.len() >= count).await
    }

    /// Every request so far, once `enough` holds of them.
    ///
    /// # Panics
    ///
    /// When it does not within [`PATIENCE`]; the message says `awaited` and what was seen.
    pub async fn wait_until(
        &self,
        awaited: &str,
        enough: impl FnMut(&[ReceivedRequest]) -> bool,
    ) -> Vec<ReceivedRequest> {
        self.shared.requests.wait_until(awaited, PATIENCE, enough).await
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were being answered at once.
    pub fn in_flight_peak(&self) -> usize {
        self.shared.in_flight_peak.load(Ordering::SeqCst)
    }

    fn scripts(&self, change: impl FnOnce(&mut Scripts)) {
        change(&mut self.shared.scripts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn next_answer(&self, path: &str) -> Answer {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = scripts.queues.get_mut(path).and_then(VecDeque::pop_front) {
            return answer;
        }
        scripts.per_path.get(path).unwrap_or(&scripts.otherwise).clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        while connections.try_join_next().is_some() {}
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { answer(&shared, number, request).await }
            });
            // A connection that ends badly is the other side's doing or the script's.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// The connection is to be closed without an answer, as the script says.
#[derive(Debug)]
struct ClosedByScript;

impl fmt::Display for ClosedByScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed as the script says")
    }
}

impl std::error::Error for ClosedByScript {}

async fn answer(
    shared: &Shared,
    connection: usize,
    request: Request<Incoming>,
) -> Result<Response<ScriptedBody>, ClosedByScript> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else {
        return Err(ClosedByScript);
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let answer = shared.next_answer(&path);
    let _in_flight = InFlight::begin(shared);
    shared.requests.push(ReceivedRequest {
        method: head.method.to_string(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect(),
        path,
        body: body.to_bytes(),
        at: Instant::now(),
        connection,
        answered: answer.status_if_whole(),
    });
    if let Some(gate) = &answer.gate {
        gate.passed().await;
    }
    match answer.deed {
        Deed::Hang => std::future::pending().await,
        Deed::Close => Err(ClosedByScript),
        Deed::Respond { status, headers, body, cut } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            if cut {
                response = response.header("content-length", body.len() + 1);
            }
            let body = ScriptedBody { bytes: Some(body), cut, flushed: false };
            Ok(response.body(body).expect("the test's script is a legal response"))
        }
    }
}

/// Counts a request while it is being answered, however that ends.
struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared) -> Self {
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        shared.in_flight_peak.fetch_max(now, Ordering::SeqCst);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Its bytes in one piece, then the end or, if cut, an error that makes hyper close the connection.
struct ScriptedBody {
    bytes: Option<Bytes>,
    cut: bool,
    flushed: bool,
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = ClosedByScript;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClosedByScript>>> {
        match self.bytes.take() {
            Some(bytes) if !bytes.is_empty() => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            _ if !self.cut => Poll::Ready(None),
            _ if self.flushed => Poll::Ready(Some(Err(ClosedByScript))),
            _ => {
                // hyper writes out what it has when a body has nothing yet.
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.cut && self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let length = self.bytes.as_ref().map_or(0, Bytes::len) as u64;
        if self.cut {
            hyper::body::SizeHint::default()
        } else {
            hyper::body::SizeHint::with_exact(length)
        }
    }
}

impl From<Infallible> for ClosedByScript {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
