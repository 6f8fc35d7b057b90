//! What a connection waits for and since when, without a timer of its own.
//!
//! Promise: a connection that waits for its caller is overdue [`HEAD_TICKS_MAX`] after the first
//! byte of a head that does not end (or of the connection), and [`IDLE_TICKS_MAX`] after its last
//! answer. An HTTP/2 connection is asked to end after [`HTTP2_TICKS_MAX`] whatever it does, and
//! overdue [`IDLE_TICKS_MAX`] later. Costs a few relaxed stores per request; nothing reads the
//! clock. Neighbours: `crowd` acts on it, `watched` tells it about bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::sync::Notify;

/// Seconds a head may take to arrive: what the slowest honest link needs, many times over.
pub(super) const HEAD_TICKS_MAX: u32 = 10;

/// Seconds an idle connection is kept, and an answer may take to be fetched: longer than the
/// client libraries in use keep theirs (commonly 5 to 30), so that they close first.
pub(super) const IDLE_TICKS_MAX: u32 = 60;

/// Seconds an HTTP/2 connection may live. Its answers wait in us for as long as the caller's
/// windows are shut, which no limit on silence ends while another stream goes on; to connect anew
/// every ten minutes costs an honest caller nothing, since no request is lost by it.
pub(super) const HTTP2_TICKS_MAX: u32 = 600;

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

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for a head that has begun, or for the first one.
    Head,
    /// It waits for the body of every request in progress.
    Body,
    /// It waits for the next request, or for its answers to be fetched.
    Idle,
    /// It waits for us.
    Ours,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// Take no more requests and close after those in progress.
    AskToEnd,
    CutOff,
}

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    ticks: Arc<Ticks>,
    /// When the connection was made.
    began: u32,
    /// Requests in progress.
    busy: AtomicU32,
    /// Bodies that were asked for and are not there yet.
    arriving: AtomicU32,
    /// When the connection became what it is.
    since: AtomicU32,
    /// A head has begun and not ended.
    in_head: AtomicBool,
    /// HTTP/2, where bytes are no sign of a head.
    is_http2: AtomicBool,
    end: Notify,
}

impl Pulse {
    /// Of a fresh connection, whose first head is awaited.
    pub(super) fn new(ticks: Arc<Ticks>) -> Self {
        let began = ticks.now();
        Self {
            began,
            busy: AtomicU32::new(0),
            arriving: AtomicU32::new(0),
            since: AtomicU32::new(began),
            in_head: AtomicBool::new(true),
            is_http2: AtomicBool::new(false),
            end: Notify::new(),
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

    /// The body of a request in progress is awaited until the answer is dropped.
    pub(super) fn await_body(self: &Arc<Self>) -> Awaited {
        self.since.store(self.ticks.now(), Ordering::Relaxed);
        self.arriving.fetch_add(1, Ordering::Relaxed);
        Awaited(Arc::clone(self))
    }

    /// Bytes have arrived.
    pub(super) fn received(&self) {
        let is_between = self.busy.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed)
            && !self.is_http2.load(Ordering::Relaxed);
        if is_between {
            self.since.store(self.ticks.now(), Ordering::Relaxed);
            self.in_head.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let busy = self.busy.load(Ordering::Relaxed);
        if busy == 0 {
            if self.in_head.load(Ordering::Relaxed) { Phase::Head } else { Phase::Idle }
        } else if self.arriving.load(Ordering::Relaxed) >= busy {
            Phase::Body
        } else {
            Phase::Ours
        }
    }

    /// How many ticks it has been in its phase, if it waits for its caller.
    pub(super) fn waited(&self) -> u32 {
        self.ticks.now().wrapping_sub(self.since.load(Ordering::Relaxed))
    }

    pub(super) fn verdict(&self) -> Verdict {
        let ticks_max = match self.phase() {
            Phase::Head => HEAD_TICKS_MAX,
            Phase::Idle => IDLE_TICKS_MAX,
            // Bodies have a limit of their own, which is told to the caller (`api`).
            Phase::Body | Phase::Ours => u32::MAX,
        };
        let age = self.ticks.now().wrapping_sub(self.began);
        let is_old = self.is_http2.load(Ordering::Relaxed) && age >= HTTP2_TICKS_MAX;
        if self.waited() >= ticks_max || is_old && age >= HTTP2_TICKS_MAX + IDLE_TICKS_MAX {
            Verdict::CutOff
        } else if is_old {
            Verdict::AskToEnd
        } else {
            Verdict::Keep
        }
    }

    /// Asks the connection to end.
    pub(super) fn ask_to_end(&self) {
        self.end.notify_one();
    }

    /// Ends once the connection is asked to.
    pub(super) async fn asked_to_end(&self) {
        self.end.notified().await;
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

/// A body that is not there yet.
#[derive(Debug)]
pub(super) struct Awaited(Arc<Pulse>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.arriving.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse() -> (Arc<Pulse>, impl Fn(u32)) {
        let ticks = Arc::new(Ticks::default());
        let pulse = Arc::new(Pulse::new(Arc::clone(&ticks)));
        (pulse, move |count| (0..count).for_each(|_| ticks.advance()))
    }

    #[test]
    fn a_connection_is_overdue_after_a_slow_head_or_a_long_silence_and_never_during_a_request() {
        let (pulse, pass) = pulse();
        pass(HEAD_TICKS_MAX - 1);
        pulse.received();
        assert_eq!(pulse.verdict(), Verdict::Keep, "the first head has its whole time");
        let request = pulse.begin(false);
        pass(IDLE_TICKS_MAX * 2);
        pulse.received();
        assert_eq!(pulse.verdict(), Verdict::Keep, "a request is in progress");
        drop(request);

        pass(IDLE_TICKS_MAX - 1);
        assert_eq!(pulse.verdict(), Verdict::Keep, "idle for less than its time");
        pulse.received();
        pass(HEAD_TICKS_MAX - 1);
        pulse.received();
        assert_eq!(pulse.verdict(), Verdict::Keep, "the next head has its whole time");
        pass(1);
        assert_eq!(pulse.verdict(), Verdict::CutOff, "a head that goes on for too long");

        drop(pulse.begin(false));
        pass(IDLE_TICKS_MAX);
        assert_eq!(pulse.verdict(), Verdict::CutOff, "idle for too long");
        drop(pulse.begin(false));
        pass(HTTP2_TICKS_MAX * 2);
        let _request = pulse.begin(false);
        assert_eq!(pulse.verdict(), Verdict::Keep, "HTTP/1.1 may live for ever");
    }

    #[test]
    fn frames_of_http2_begin_no_head() {
        let (pulse, pass) = pulse();
        drop(pulse.begin(true));
        pass(HEAD_TICKS_MAX);
        pulse.received();
        assert_eq!(pulse.verdict(), Verdict::Keep);
        pass(IDLE_TICKS_MAX);
        assert_eq!(pulse.verdict(), Verdict::CutOff);
    }

    #[test]
    fn an_old_http2_connection_is_asked_to_end_and_cut_off_later_whatever_it_does() {
        let (pulse, pass) = pulse();
        let _request = pulse.begin(true);
        pass(HTTP2_TICKS_MAX - 1);
        assert_eq!(pulse.verdict(), Verdict::Keep);
        pass(1);
        assert_eq!(pulse.verdict(), Verdict::AskToEnd);
        pass(IDLE_TICKS_MAX - 1);
        assert_eq!(pulse.verdict(), Verdict::AskToEnd);
        pass(1);
        assert_eq!(pulse.verdict(), Verdict::CutOff);
    }

    #[test]
    fn a_connection_waits_for_bodies_only_while_every_request_does() {
        let (pulse, pass) = pulse();
        assert_eq!(pulse.phase(), Phase::Head);
        let first = pulse.begin(true);
        assert_eq!(pulse.phase(), Phase::Ours);
        pass(3);
        let body = pulse.await_body();
        assert_eq!((pulse.phase(), pulse.waited()), (Phase::Body, 0));
        let second = pulse.begin(true);
        assert_eq!(pulse.phase(), Phase::Ours);
        drop((second, body));
        assert_eq!(pulse.phase(), Phase::Ours);
        drop(first);
        assert_eq!(pulse.phase(), Phase::Idle);
    }
}
