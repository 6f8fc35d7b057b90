//! The receiver of a comparison, a thread of its own: answers 200 to everything and notes the
//! number of each event that comes, and when. [`crate::receiver`] knows our own header; this one
//! knows nothing but where in the body the number is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::TcpListener;

use super::client::excerpt;
use crate::clock::now_nanos;

/// What came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    /// When each event came first, by its number.
    pub(crate) first_at_nanos: HashMap<usize, u64>,
    /// The numbers of those that came again, once for each time.
    pub(crate) again: Vec<usize>,
    /// When the last of them came.
    pub(crate) last_at_nanos: u64,
    /// Requests without a number where it should be.
    pub(crate) unrecognised: usize,
    /// The beginning of the first of their bodies.
    pub(crate) first_unrecognised: Option<String>,
}

impl Arrivals {
    fn note(&mut self, number: Option<usize>, body: &[u8], at_nanos: u64) {
        self.last_at_nanos = at_nanos;
        let Some(number) = number else {
            self.unrecognised += 1;
            self.first_unrecognised.get_or_insert_with(|| excerpt(body));
            return;
        };
        if *self.first_at_nanos.entry(number).or_insert(at_nanos) != at_nanos {
            self.again.push(number);
        }
    }
}

/// A receiver that listens until the program ends.
pub(crate) struct Receiver {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    arrivals: Arc<Mutex<Arrivals>>,
}

impl Receiver {
    /// Starts one. It notes what is sent to `path`, and finds the number of an event at `pointer`;
    /// requests for other paths, as of an earlier run, are answered and forgotten.
    pub(crate) fn start(listen: SocketAddr, path: String, pointer: String) -> Result<Self> {
        let arrivals = Arc::<Mutex<Arrivals>>::default();
        let socket = std::net::TcpListener::bind(listen)
            .with_context(|| format!("listening on {listen} for what is delivered"))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let expected = Arc::new(Expected { path, pointer, arrivals: Arc::clone(&arrivals) });
        std::thread::spawn(move || -> Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(accept(socket, expected))
        });
        Ok(Self { address, arrivals })
    }

    /// What came since the last [`Self::forget`].
    pub(crate) fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what came.
    pub(crate) fn forget(&self) {
        *self.arrivals() = Arrivals::default();
    }
}

struct Expected {
    path: String,
    pointer: String,
    arrivals: Arc<Mutex<Arrivals>>,
}

async fn accept(socket: std::net::TcpListener, expected: Arc<Expected>) -> Result<()> {
    let listener = TcpListener::from_std(socket)?;
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (server, expected) = (server.clone(), Arc::clone(&expected));
        tokio::spawn(async move {
            let service = service_fn(move |request| receive(request, Arc::clone(&expected)));
            // A connection that ends is the sender's business.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    expected: Arc<Expected>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let is_delivery = matches!(*request.method(), Method::POST | Method::PUT)
        && request.uri().path() == expected.path;
    let body = request.into_body().collect().await?.to_bytes();
    if is_delivery {
        let at_nanos = now_nanos();
        let number = number_in(&body, &expected.pointer);
        let arrivals = &mut expected.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.note(number, &body, at_nanos);
    }
    Ok(Response::new(Full::default()))
}

/// The number at a place in a JSON body, also if it is written as text.
fn number_in(body: &[u8], pointer: &str) -> Option<usize> {
    let json: Value = serde_json::from_slice(body).ok()?;
    match json.pointer(pointer)? {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_where_the_pointer_says() {
        let body = br#"{"data":{"number":7,"text":"8"}}"#;
        assert_eq!(number_in(body, "/data/number"), Some(7));
        assert_eq!(number_in(body, "/data/text"), Some(8));
        assert_eq!(number_in(body, "/number"), None);
        assert_eq!(number_in(b"number=7", "/number"), None);
    }

    #[test]
    fn the_first_arrival_counts_and_the_others_are_repeats() {
        let mut arrivals = Arrivals::default();
        for (number, at_nanos) in [(1, 10), (2, 20), (1, 30)] {
            arrivals.note(Some(number), b"", at_nanos);
        }
        arrivals.note(None, b"what is this", 40);
        assert_eq!(arrivals.first_at_nanos, HashMap::from([(1, 10), (2, 20)]));
        assert_eq!((arrivals.again, arrivals.unrecognised), (vec![1], 1));
        assert_eq!(arrivals.first_unrecognised.as_deref(), Some("what is this"));
    }
}
