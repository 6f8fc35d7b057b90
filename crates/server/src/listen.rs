//! The listening side: our own accept loop, HTTP/1.1 and HTTP/2 without TLS on one port.
//!
//! Promise: a connection that sends slowly, or nothing, or fetches nothing, is closed in time and
//! never holds a place for ever; when there are too many, those that let us wait make room for
//! newcomers; no failure to accept ends the loop; every request that was begun is answered, also
//! while stopping. Neighbours: [`crate::wire`] makes the routes, [`crate::life`] says when to stop.
//! The clock of a connection is `pulse`: no timer per connection or request; `watched` tells it
//! what happens, and `crowd` acts on it.

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
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;
use tower::Service as _;

use crowd::Crowd;
use pulse::Pulse;
use watched::{Arriving, Watched};

mod crowd;
mod pulse;
mod watched;

/// Most connections at once, and one more for which room is made. Only when all of them wait for
/// us do the next ones wait in the system's queue. Eight per deliverable request of a busy node,
/// at some 20 KiB each.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Connections that may wait in the system's queue to be accepted: as many as may come back at once
/// when a crowd was closed. Whoever finds it full tries again only after a second (RFC 6298).
/// Linux grants 4,096 unless told otherwise.
const WAITING_MAX: u32 = 4_096;

/// Largest head of a request. Keys, ids and proxies' additions fit many times over.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most HTTP/2 requests at once on one connection: the fewest that RFC 9113 (6.5.2) advises.
pub const HTTP2_STREAMS_MAX: u32 = 100;

/// Largest head of an HTTP/2 request, unpacked (RFC 9113, 6.5.2): what h2 answers with 431 beyond,
/// and what bounds the `CONTINUATION` frames of one head. Smaller than [`HEAD_BYTES_MAX`], since
/// one connection carries many.
pub const HTTP2_HEAD_BYTES_MAX: u32 = 16 * 1024;

/// HTTP/2 request body bytes that may lie unread: for one request, and for one connection.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// Bytes of one HTTP/2 answer that are made ready before the caller takes them.
const HTTP2_SEND_BYTES_MAX: usize = 64 * 1024;

/// HTTP/2 requests that a caller may take back before we have looked at them. One more is the rapid
/// reset of CVE-2023-44487, and closes the connection.
const HTTP2_RESETS_MAX: usize = 20;

/// HTTP/2 requests that we may have to refuse for breaking the protocol (the other way to provoke
/// resets, CVE-2025-8671). One more closes the connection.
const HTTP2_FAULTS_MAX: usize = 100;

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

/// Takes the address, and lets callers wait there.
///
/// Errors when the system does not grant it.
pub fn take(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart need not wait for the connections of the last run to be forgotten.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING_MAX)
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
        Self::start_for(CONNECTIONS_MAX, listener, routes)
    }

    /// The same, for so many connections at most.
    fn start_for(
        connections_max: usize,
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
        let accepting = accept(listener, routes, Arc::clone(&shared), connections_max);
        let accepting = tokio::spawn(accepting);
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
        .max_header_list_size(HTTP2_HEAD_BYTES_MAX)
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(HTTP2_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
        .max_local_error_reset_streams(HTTP2_FAULTS_MAX);
    protocols
}

async fn accept(
    listener: TcpListener,
    routes: Router,
    shared: Arc<Shared>,
    connections_max: usize,
) {
    let protocols = Arc::new(protocols());
    let mut tasks = JoinSet::new();
    let mut crowd = Crowd::new(connections_max);
    let mut may_make_room = true;
    let now = Arc::new(pulse::Ticks::default());
    let mut ticking = tokio::time::interval(TICK);
    ticking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = shared.stage.subscribe();
    let mut listener = Some(listener);
    loop {
        let is_open = listener.is_some();
        let has_room = tasks.len() < connections_max + usize::from(may_make_room);
        tokio::select! {
            accepted = next(listener.as_ref()), if is_open && has_room => {
                match accepted {
                    Ok(stream) => {
                        if tasks.len() >= connections_max {
                            let closed = crowd.make_room();
                            may_make_room = closed > 0;
                            // Gone before anybody is counted again: they end at once.
                            for _ in 0..closed {
                                tasks.join_next().await;
                            }
                        }
                        let pulse = Arc::new(Pulse::new(Arc::clone(&now)));
                        let connection = serve(
                            Arc::clone(&protocols),
                            stream,
                            routes.clone(),
                            Arc::clone(&pulse),
                            Arc::clone(&shared),
                        );
                        crowd.add(pulse, tasks.spawn(connection));
                    }
                    Err(error) if is_ours(&error) => {
                        tracing::warn!(%error, "could not accept a connection; trying on");
                        crowd.make_room();
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                    Err(error) => tracing::debug!(%error, "a connection broke before its begin"),
                }
            }
            Some(_) = tasks.join_next() => {}
            _ = ticking.tick(), if !tasks.is_empty() => {
                now.advance();
                crowd.sweep();
                // The one too many came when there was no room to make. There may be now, and until
                // there is, nobody else is let in who could ask for it.
                if tasks.len() > connections_max {
                    crowd.make_room();
                }
                may_make_room = true;
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

/// Whether a connection was not accepted for want of files or memory, here or in the whole system.
/// All else is the fault of that connection, or of its network.
fn is_ours(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let wants = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        Errno::from_io_error(error).is_some_and(|errno| wants.contains(&errno))
    }
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::OutOfMemory;
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
    // An answer is one write; waiting to fill a packet would only delay it. Where that cannot be
    // said, the connection serves all the same, or shows soon that it is broken.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn serve(
    protocols: Arc<Protocols>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    routes: Router,
    pulse: Arc<Pulse>,
    shared: Arc<Shared>,
) {
    let stream = TokioIo::new(Watched::new(stream, Arc::clone(&pulse)));
    let mut stage = shared.stage.subscribe();
    let watched = Arc::clone(&pulse);
    let service = service_fn(move |request: Request<Incoming>| {
        answer(request, routes.clone(), Arc::clone(&watched), Arc::clone(&shared))
    });
    let mut connection = pin!(protocols.serve_connection(stream, service));
    tokio::select! {
        biased;
        // How a connection ends is the caller's business.
        _ = &mut connection => return,
        _ = stage.wait_for(|stage| *stage == Stage::Closing) => {}
        () = pulse.asked_to_end() => {}
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
    let request = request.map(|body| Body::new(Arriving::new(body, pulse)));
    let mut response = routes.call(request).await?;
    if shared.leaving.load(Ordering::Relaxed) && version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests;
