//! Open connections that speak HTTP.
//!
//! An HTTP/1.1 connection has no task of its own: whoever uses it drives it, in one task with the
//! request, which saves two switches between tasks per delivery. Dropping it closes it, so a
//! request that is given up leaves nothing behind. An HTTP/2 connection is shared and has tasks,
//! which end with it, whether the receiver lets them or not. It takes no more requests at once than
//! the receiver permits, so that none waits for another's answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use domain::attempt::Failure;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::failed::{Failed, fell_with_connection};
use crate::limits::{
    BODY_BYTES_MAX, CLOSE_TIME_MAX, CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, LIFE_TIME_MAX,
    STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION_MAX,
};
use crate::request::Message;
use crate::stopwatch::{Phase, Stopwatch};
use crate::wire::{Trace, Wire};

type Body = Full<Bytes>;
type Driver = http1::Connection<TokioIo<Wire>, Body>;
type SharedDriver = http2::Connection<TokioIo<Wire>, Body, Tasks>;

/// How long an answer that arrived before its connection ended may take from the task that read it
/// to the one that waits for it, on a machine with much else to do.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(1);

/// No answer on a connection.
pub(crate) struct Broken {
    pub(crate) failed: Failed,
    /// Nothing of an answer was there, and it was the connection that fell: on a reused connection
    /// this most likely means that it had been closed before the request reached the receiver.
    pub(crate) unheard: bool,
}

impl From<Failed> for Broken {
    fn from(failed: Failed) -> Self {
        Self { failed, unheard: false }
    }
}

/// The connection of one request.
pub(crate) enum Line {
    Http1(Box<Http1>),
    Http2(Stream),
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn answer(
        &mut self,
        message: &Message<'_>,
        stopwatch: &mut Stopwatch,
    ) -> Result<Response<Incoming>, Broken> {
        let request = message.build(matches!(self, Self::Http2(_)))?;
        stopwatch.enter(Phase::FirstByte);
        let answered = match self {
            Self::Http1(connection) => connection.answer(request).await,
            Self::Http2(stream) => stream.answer(request).await,
        };
        stopwatch.stop();
        answered
    }
}

/// An HTTP/1.1 connection: one request at a time.
pub(crate) struct Http1 {
    sender: http1::SendRequest<Body>,
    /// Gone once the connection has ended.
    driver: Option<Driver>,
    trace: Arc<Trace>,
    opened_at: Instant,
}

impl Http1 {
    pub(crate) async fn open(wire: Wire) -> Result<Self, Failed> {
        let trace = wire.trace();
        let mut builder = http1::Builder::new();
        // The limit of 100 fields is hyper's own; setting it would cost an allocation per answer.
        builder
            .title_case_headers(true)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BODY_BYTES_MAX);
        let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
        Ok(Self { sender, driver: Some(driver), trace, opened_at: Instant::now() })
    }

    async fn answer(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Broken> {
        self.trace.begin();
        let response = self.sender.try_send_request(request);
        self.drive(response).await.map_err(|error| Broken {
            failed: self.trace.explain(error.into_error().into()),
            unheard: !self.trace.answered(),
        })
    }

    /// Runs a future that needs this connection to move.
    pub(crate) async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            // The first poll tells the connection what is wanted, the second takes what it brought.
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(output);
            }
            self.advance(context);
            future.as_mut().poll(context)
        })
        .await
    }

    /// Whether the connection can carry another request: neither closed nor old, and nothing came
    /// in while it lay idle.
    pub(crate) fn is_usable(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some()
            && !self.trace.write_broken()
            && self.opened_at.elapsed() < LIFE_TIME_MAX
            && self.sender.is_ready()
    }

    fn advance(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(ended) = Pin::new(driver).poll(context)
        {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
            self.driver = None;
        }
    }
}

/// An HTTP/2 connection: many requests at a time.
pub(crate) struct Http2 {
    sender: http2::SendRequest<Body>,
    /// Gone once the connection has ended. Driven by a task; here to be asked.
    driver: Arc<Mutex<Option<SharedDriver>>>,
    trace: Arc<Trace>,
    streams: AtomicUsize,
    /// Set when a request on it came to no end: it may be dead without having said so.
    retired: AtomicBool,
    /// Used since the last sweep.
    used: AtomicBool,
    opened_at: Instant,
    /// Closed once nobody drives the connection any more.
    driven: watch::Receiver<()>,
    /// Dropped with the connection, which ends its tasks.
    _wanted: watch::Sender<()>,
}

impl Http2 {
    pub(crate) async fn open(wire: Wire) -> Result<Arc<Self>, Failed> {
        let trace = wire.trace();
        trace.allow(1);
        let (wanted, unwanted) = watch::channel(());
        let tasks = Tasks(unwanted);
        let mut builder = http2::Builder::new(tasks.clone());
        builder
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32);
        let (sender, driver) = builder.handshake(TokioIo::new(wire)).await?;
        let driver = Arc::new(Mutex::new(Some(driver)));
        let shared = Arc::clone(&driver);
        let (driving, driven) = watch::channel(());
        tasks.execute(async move {
            poll_fn(|context| drive(&shared, context)).await;
            drop(driving);
        });
        Ok(Arc::new(Self {
            sender,
            driver,
            trace,
            streams: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            used: AtomicBool::new(true),
            opened_at: Instant::now(),
            driven,
            _wanted: wanted,
        }))
    }

    /// Begins a stream, unless the connection is old, dead or full.
    pub(crate) fn lease(self: &Arc<Self>) -> Option<Stream> {
        if !self.has_room() {
            return None;
        }
        Some(self.begin())
    }

    /// Begins a stream, whatever the connection's state.
    pub(crate) fn begin(self: &Arc<Self>) -> Stream {
        let streams = self.streams.fetch_add(1, Ordering::Relaxed) + 1;
        self.trace.allow(streams);
        self.used.store(true, Ordering::Relaxed);
        Stream { connection: Arc::clone(self), ended: false }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.retired.load(Ordering::Relaxed)
            && self.opened_at.elapsed() < LIFE_TIME_MAX
            && self.sender.is_ready()
    }

    /// Whether it can take another stream. The receiver has said how many it permits when it has
    /// answered once; before, nothing is known.
    pub(crate) fn has_room(&self) -> bool {
        self.is_usable() && self.streams.load(Ordering::Relaxed) < self.streams_max()
    }

    fn streams_max(&self) -> usize {
        let permitted =
            lock(&self.driver).as_ref().map_or(0, SharedDriver::current_max_send_streams);
        permitted.min(STREAMS_PER_CONNECTION_MAX)
    }

    /// Whether it lay idle since this was asked last.
    pub(crate) fn was_idle(&self) -> bool {
        !self.used.swap(false, Ordering::Relaxed) && self.streams.load(Ordering::Relaxed) == 0
    }
}

fn lock(driver: &Mutex<Option<SharedDriver>>) -> MutexGuard<'_, Option<SharedDriver>> {
    driver.lock().unwrap_or_else(PoisonError::into_inner)
}

fn drive(driver: &Mutex<Option<SharedDriver>>, context: &mut Context<'_>) -> Poll<()> {
    let mut driver = lock(driver);
    if let Some(running) = driver.as_mut() {
        let ended = ready!(Pin::new(running).poll(context));
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
        *driver = None;
    }
    Poll::Ready(())
}

/// Runs the tasks of one HTTP/2 connection, until some time after the connection was dropped.
#[derive(Clone)]
struct Tasks(watch::Receiver<()>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut wanted = self.0.clone();
        tokio::spawn(async move {
            let overdue = async {
                while wanted.changed().await.is_ok() {}
                sleep(CLOSE_TIME_MAX).await;
            };
            tokio::select! {
                () = task => {}
                () = overdue => {}
            }
        });
    }
}

/// One request's place on an HTTP/2 connection. Dropped before [`Stream::end`], it retires the
/// connection.
pub(crate) struct Stream {
    connection: Arc<Http2>,
    ended: bool,
}

impl Stream {
    async fn answer(&mut self, request: Request<Body>) -> Result<Response<Incoming>, Broken> {
        let mut sender = self.connection.sender.clone();
        let mut driven = self.connection.driven.clone();
        let mut response = pin!(sender.send_request(request));
        let answered = tokio::select! {
            biased;
            answered = &mut response => answered,
            _ = driven.changed() => {
                // A request that is handed over while the connection ends may never be answered,
                // not even by an error (seen with hyper 1.12). An answer that came may be on its way
                // between two tasks.
                let Ok(answered) = timeout(HANDED_OVER_WITHIN, response).await else {
                    let failed = Failed::new(Failure::Reset, "the connection ended");
                    return Err(Broken { failed, unheard: true });
                };
                answered
            }
        };
        answered.map_err(|error| {
            let unheard = fell_with_connection(&error);
            self.ended = !unheard;
            Broken { failed: self.connection.trace.explain(error.into()), unheard }
        })
    }

    pub(crate) fn connection(&self) -> &Arc<Http2> {
        &self.connection
    }

    /// The exchange came to an end; the connection is sound.
    pub(crate) fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.connection.streams.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.connection.retired.store(true, Ordering::Relaxed);
        }
    }
}
