//! How long a connection has been quiet, without a timer of its own.
//!
//! Promise: a connection without a request in progress is overdue [`HEAD_TICKS_MAX`] after the
//! first byte of a head that does not end (or of the connection), and [`IDLE_TICKS_MAX`] after its
//! last answer. Costs a few relaxed stores per request; nothing reads the clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Seconds a head may take to arrive: what the slowest honest link needs, many times over.
pub(super) const HEAD_TICKS_MAX: u32 = 10;

/// Seconds an idle connection is kept, and an answer may take to be fetched: longer than the
/// client libraries in use keep theirs (commonly 5 to 30), so that they close first.
pub(super) const IDLE_TICKS_MAX: u32 = 60;

/// Seconds, counted by the accept loop.
#[derive(Debug, Default)]
pub(super) struct Ticks(AtomicU32);

impl Ticks {
    pub(super) fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    ticks: Arc<Ticks>,
    /// Requests in progress.
    busy: AtomicU32,
    /// When the connection became what it is.
    since: AtomicU32,
    /// A head has begun and not ended.
    in_head: AtomicBool,
    /// HTTP/2, where bytes are no sign of a head.
    is_http2: AtomicBool,
}

impl Pulse {
    /// Of a fresh connection, whose first head is awaited.
    pub(super) fn new(ticks: Arc<Ticks>) -> Self {
        Self {
            busy: AtomicU32::new(0),
            since: AtomicU32::new(ticks.now()),
            in_head: AtomicBool::new(true),
            is_http2: AtomicBool::new(false),
            ticks,
        }
    }

    /// A request's head is complete; the request is in progress until the answer is dropped.
    pub(super) fn begin(self: &Arc<Self>, is_http2: bool) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.in_head.store(false, Ordering::Relaxed);
        self.is_http2.store(is_http2, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Bytes have arrived.
    fn received(&self) {
        let is_between = self.busy.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed)
            && !self.is_http2.load(Ordering::Relaxed);
        if is_between {
            self.since.store(self.ticks.now(), Ordering::Relaxed);
            self.in_head.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it has been quiet for too long.
    pub(super) fn is_overdue(&self) -> bool {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return false;
        }
        let limit =
            if self.in_head.load(Ordering::Relaxed) { HEAD_TICKS_MAX } else { IDLE_TICKS_MAX };
        self.ticks.now().wrapping_sub(self.since.load(Ordering::Relaxed)) >= limit
    }
}

/// A request in progress.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pulse>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.since.store(self.0.ticks.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection whose incoming bytes are noticed.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
        Self { stream, pulse }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.pulse.received();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_overdue_after_a_slow_head_or_a_long_silence_and_never_during_a_request() {
        let ticks = Arc::new(Ticks::default());
        let pass = |count| (0..count).for_each(|_| ticks.advance());
        let pulse = Arc::new(Pulse::new(Arc::clone(&ticks)));

        pass(HEAD_TICKS_MAX - 1);
        pulse.received();
        assert!(!pulse.is_overdue(), "the first head has its whole time");
        let request = pulse.begin(false);
        pass(IDLE_TICKS_MAX * 2);
        pulse.received();
        assert!(!pulse.is_overdue(), "a request is in progress");
        drop(request);

        pass(IDLE_TICKS_MAX - 1);
        assert!(!pulse.is_overdue(), "idle for less than its time");
        pulse.received();
        pass(HEAD_TICKS_MAX - 1);
        pulse.received();
        assert!(!pulse.is_overdue(), "the next head has its whole time");
        pass(1);
        assert!(pulse.is_overdue(), "a head that goes on for too long");

        drop(pulse.begin(false));
        pass(IDLE_TICKS_MAX);
        assert!(pulse.is_overdue(), "idle for too long");
    }

    #[test]
    fn frames_of_http2_begin_no_head() {
        let ticks = Arc::new(Ticks::default());
        let pulse = Arc::new(Pulse::new(Arc::clone(&ticks)));
        drop(pulse.begin(true));
        (0..HEAD_TICKS_MAX).for_each(|_| ticks.advance());
        pulse.received();
        assert!(!pulse.is_overdue());
        (0..IDLE_TICKS_MAX).for_each(|_| ticks.advance());
        assert!(pulse.is_overdue());
    }
}
