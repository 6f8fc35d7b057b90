//! The listening side: our own accept loop, HTTP/1.1 and HTTP/2 without TLS on one port.
//!
//! Promise: a connection that sends slowly, or nothing, is closed in time and never holds a place
//! for ever; no failure to accept ends the loop; every request that was begun is answered, also
//! while stopping. Neighbours: [`crate::wire`] makes the routes, [`crate::life`] says when to stop.
//! The clock of a connection is `pulse`: no timer per connection or request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tower::Service as _;

use pulse::{Pulse, Watched};

mod pulse;

/// Most connections at once; the next ones wait in the system's queue. Four per deliverable
/// request of a busy node, at some 20 KiB each.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Largest head of a request. Keys, ids and proxies' additions fit many times over.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most HTTP/2 requests at once on one connection (RFC 9113 advises no fewer than 100).
pub const HTTP2_STREAMS_MAX: u32 = 256;

/// How long to wait after the system refused us a socket: until others are closed.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// The unit in which quiet connections are measured.
const TICK: Duration = Duration::from_secs(1);

/// How far stopping has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Connections are accepted.
    Open,
    /// No more connections; those open are asked to close with each answer.
    Leaving,
    /// Connections are closed once they are idle.
    Closing,
}

/// The listening side, at work.
#[derive(Debug)]
pub struct Intake {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    stage: watch::Sender<Stage>,
    /// The same as `stage > Open`, for a look per request.
    leaving: AtomicBool,
    is_listening: watch::Sender<bool>,
    connections: AtomicUsize,
}

impl Intake {
    /// Serves routes on the listener; they are made with the gauge of its connections.
    ///
    /// Errors when the listener has no address, which means it is no listener.
    pub fn start(
        listener: TcpListener,
        routes: impl FnOnce(ConnectionGauge) -> Router,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stage: watch::Sender::new(Stage::Open),
            leaving: AtomicBool::new(false),
            is_listening: watch::Sender::new(true),
            connections: AtomicUsize::new(0),
        });
        let address = listener.local_addr()?;
        let routes = routes(ConnectionGauge(Arc::clone(&shared)));
        let accepting = tokio::spawn(accept(listener, routes, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections, once this has ended. Requests on open ones are still answered,
    /// HTTP/1.1 ones with `Connection: close`.
    pub async fn leave(&self) {
        self.shared.leaving.store(true, Ordering::SeqCst);
        self.shared.stage.send_replace(Stage::Leaving);
        let mut is_listening = self.shared.is_listening.subscribe();
        let left = is_listening.wait_for(|is_listening| !is_listening).await;
        left.expect("the sender lives as long as this");
    }

    /// Closes every connection once its request is answered; those that need longer than `grace`
    /// are cut off.
    pub async fn close(mut self, grace: Duration) {
        self.leave().await;
        self.shared.stage.send_replace(Stage::Closing);
        if tokio::time::timeout(grace, &mut self.accepting).await.is_err() {
            self.accepting.abort();
        }
    }
}

/// How many connections are open.
#[derive(Clone, Debug)]
pub struct ConnectionGauge(Arc<Shared>);

impl ConnectionGauge {
    /// Now.
    pub fn read(&self) -> usize {
        self.0.connections.load(Ordering::Relaxed)
    }
}

/// What a connection is served with.
type Protocols = auto::Builder<TokioExecutor>;

fn protocols() -> Protocols {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    // At most 100 fields: hyper's own limit, kept because another one costs an allocation per
    // request. Time limits are the pulse's.
    protocols.http1().max_buf_size(HEAD_BYTES_MAX).header_read_timeout(None);
    protocols
        .http2()
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("64 KiB fit 32 bits"))
        .max_concurrent_streams(HTTP2_STREAMS_MAX);
    protocols
}

async fn accept(listener: TcpListener, routes: Router, shared: Arc<Shared>) {
    let protocols = Arc::new(protocols());
    let mut tasks = JoinSet::new();
    let mut watched: Vec<(Arc<Pulse>, AbortHandle)> = Vec::new();
    let now = Arc::new(pulse::Ticks::default());
    let mut ticking = tokio::time::interval(TICK);
    ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = shared.stage.subscribe();
    let mut listener = Some(listener);
    loop {
        let is_open = listener.is_some();
        tokio::select! {
            accepted = next(listener.as_ref()), if is_open && tasks.len() < CONNECTIONS_MAX => {
                match accepted {
                    Ok(stream) => {
                        let pulse = Arc::new(Pulse::new(Arc::clone(&now)));
                        let connection = serve(
                            Arc::clone(&protocols),
                            stream,
                            routes.clone(),
                            Arc::clone(&pulse),
                            Arc::clone(&shared),
                        );
                        watched.push((pulse, tasks.spawn(connection)));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection; trying on");
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
            Some(_) = tasks.join_next() => {}
            _ = ticking.tick(), if !tasks.is_empty() => {
                now.advance();
                watched.retain(|(pulse, task)| {
                    if pulse.is_overdue() {
                        task.abort();
                    }
                    !task.is_finished()
                });
            }
            // Asked for the stage, not for a change: it may be over before this task begins.
            () = no_longer_open(&mut stage), if is_open => {
                listener = None;
                shared.is_listening.send_replace(false);
            }
            // Nothing is open and nothing more will be.
            else => break,
        }
        shared.connections.store(tasks.len(), Ordering::Relaxed);
    }
}

/// Ends once the stage is beyond [`Stage::Open`].
async fn no_longer_open(stage: &mut watch::Receiver<Stage>) {
    // The sender lives as long as the stage is asked for.
    let _ = stage.wait_for(|stage| *stage != Stage::Open).await;
}

async fn next(listener: Option<&TcpListener>) -> io::Result<TcpStream> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let (stream, _) = listener.accept().await?;
    // An answer is one write; waiting to fill a packet would only delay it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn serve(
    protocols: Arc<Protocols>,
    stream: TcpStream,
    routes: Router,
    pulse: Arc<Pulse>,
    shared: Arc<Shared>,
) {
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&pulse)));
    let mut stage = shared.stage.subscribe();
    let service = service_fn(move |request: Request<Incoming>| {
        answer(request, routes.clone(), Arc::clone(&pulse), Arc::clone(&shared))
    });
    let mut connection = pin!(protocols.serve_connection(stream, service));
    tokio::select! {
        biased;
        // How a connection ends is the caller's business.
        _ = &mut connection => return,
        _ = stage.wait_for(|stage| *stage == Stage::Closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    mut routes: Router,
    pulse: Arc<Pulse>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    let version = request.version();
    let _busy = pulse.begin(version == Version::HTTP_2);
    let mut response = routes.call(request.map(Body::new)).await?;
    if shared.leaving.load(Ordering::Relaxed) && version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
