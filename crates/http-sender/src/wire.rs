//! One connection's bytes, plain or TLS, as the HTTP machinery sees them.
//!
//! Promise: a receiver that answers early and stops reading is still heard. A failing write is not
//! reported: what follows is swallowed, and reading goes on until it brings the answer or an error
//! of its own. The connection's [`Trace`] remembers it, so that it is not used again.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::dial::Stream;

/// What happened on a connection, readable while HTTP machinery owns it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    answered: AtomicBool,
    write_broken: AtomicBool,
}

impl Trace {
    /// Begins a request: nothing of its answer is there.
    pub(crate) fn begin(&self) {
        self.answered.store(false, Ordering::Relaxed);
    }

    /// Whether a byte came since [`Trace::begin`].
    pub(crate) fn answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether a write failed.
    pub(crate) fn write_broken(&self) -> bool {
        self.write_broken.load(Ordering::Relaxed)
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
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.trace.answered.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
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
