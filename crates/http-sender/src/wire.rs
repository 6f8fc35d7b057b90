//! One connection's bytes, plain or TLS, as the HTTP machinery sees them.
//!
//! Promise: a receiver that answers early and stops reading is still heard. A failing write is not
//! reported: what follows is swallowed, and reading goes on until it brings the answer or an error
//! of its own. The connection's [`Trace`] remembers it, so that it is not used again.
//!
//! And: a receiver sends only so much per request, whatever it sends. Bytes that lead nowhere
//! (interim answers, pings, settings, chunk extensions) cost time like any others; once there are
//! more of them than any sensible answer has, reading fails.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use domain::attempt::Failure;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dial::Stream;
use crate::failed::{Failed, with_sources};
use crate::limits::READ_BYTES_PER_REQUEST_MAX;

/// What happened on a connection, readable while HTTP machinery owns it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    answered: AtomicBool,
    write_broken: AtomicBool,
    /// How many bytes may still come.
    allowance: AtomicUsize,
    /// What ended the connection, where that was not the network. The HTTP machinery does not
    /// always hand it on.
    fault: OnceLock<(Failure, String)>,
}

impl Trace {
    /// Begins the only request on the connection: nothing of its answer is there.
    pub(crate) fn begin(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.allow(1);
    }

    /// Lets the answers to so many requests come.
    pub(crate) fn allow(&self, requests: usize) {
        self.allowance.fetch_max(requests * READ_BYTES_PER_REQUEST_MAX, Ordering::Relaxed);
    }

    /// Whether a byte came since [`Trace::begin`].
    pub(crate) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether a write failed.
    pub(crate) fn write_broken(&self) -> bool {
        self.write_broken.load(Ordering::Relaxed)
    }

    /// Why there is no answer: for the connection's own reason, if it has one, or else for this.
    pub(crate) fn explain(&self, failed: Failed) -> Failed {
        match self.fault.get() {
            Some((failure, detail)) => Failed::new(*failure, detail.clone()),
            None => failed,
        }
    }

    fn blame(&self, failure: Failure, detail: String) {
        // The first fault is the cause of whatever follows.
        let _ = self.fault.set((failure, detail));
    }

    /// Notes what came, as far as it may.
    fn came(&self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.answered.store(true, Ordering::Relaxed);
        // In one step: another request's allowance may come in between.
        let (order, rest) = (Ordering::Relaxed, |left: usize| left.saturating_sub(bytes));
        if self.allowance.update(order, order, rest) < bytes {
            let why = "the receiver sends without end";
            self.blame(Failure::Protocol, why.to_owned());
            return Err(io::Error::other(why));
        }
        Ok(())
    }
}

pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    trace: Arc<Trace>,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, trace: Arc::default() }
    }

    pub(crate) fn trace(&self) -> Arc<Trace> {
        Arc::clone(&self.trace)
    }

    /// How much was taken of what was offered; everything, once writing has failed.
    fn taken(&self, written: io::Result<usize>, offered: usize) -> usize {
        written.unwrap_or_else(|_| {
            self.trace.write_broken.store(true, Ordering::Relaxed);
            offered
        })
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, buffer)) {
            // TLS. A receiver that wants a client certificate says so only after the handshake
            // (TLS 1.3).
            if error.kind() == io::ErrorKind::InvalidData {
                self.trace.blame(Failure::Tls, with_sources(&error));
            }
            return Poll::Ready(Err(error));
        }
        Poll::Ready(self.trace.came(buffer.filled().len() - before))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.trace.write_broken() {
            return Poll::Ready(Ok(buffer.len()));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, buffer));
        Poll::Ready(Ok(self.taken(written, buffer.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = buffers.iter().map(|buffer| buffer.len()).sum();
        if self.trace.write_broken() {
            return Poll::Ready(Ok(offered));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, buffers));
        Poll::Ready(Ok(self.taken(written, offered)))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.trace.write_broken() {
            return Poll::Ready(Ok(()));
        }
        if ready!(Pin::new(&mut self.stream).poll_flush(context)).is_err() {
            self.trace.write_broken.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_while_more_is_allowed_takes_nothing_of_it_back() {
        const READS: usize = 1_000;
        for round in 0..200 {
            let trace = Trace::default();
            trace.allow(1);
            std::thread::scope(|scope| {
                let reading = scope.spawn(|| (0..READS).for_each(|_| trace.came(1).unwrap()));
                scope.spawn(|| {
                    while trace.allowance.load(Ordering::Relaxed) > READ_BYTES_PER_REQUEST_MAX - 10
                    {
                    }
                    trace.allow(2);
                });
                reading.join().unwrap();
            });
            let left = trace.allowance.load(Ordering::Relaxed);
            assert!(left >= 2 * READ_BYTES_PER_REQUEST_MAX - READS, "round {round}: {left}");
        }
    }
}
