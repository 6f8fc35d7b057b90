//! Spans: what a publish and an attempt are in the trace of whoever published.
//!
//! A publisher that sends a `traceparent` finds the publish under its own span, and every attempt
//! under the publish; the receiver of an attempt is told that attempt's span. Whether a trace is
//! recorded is the publisher's decision, told by a flag; without a publisher's trace there are no
//! spans. Promise: a span holds ids, names and numbers; no payload, no URL, no secret. Port:
//! [`Spans`] is implemented in `server`, which exports them.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::Outcome;
use domain::event::EventType;
use domain::id::{DeliveryId, EndpointId, EventId};
use domain::time::Timestamp;
use domain::trace::TraceContext;
use tokio::time::Instant;

use crate::Engine;

/// Takes spans that have ended.
///
/// Asked of every implementation: it answers at once, whatever becomes of the span, and takes no
/// more memory than is bounded.
pub trait Spans: Send + Sync {
    /// A span of a recorded trace has ended.
    fn ended(&self, span: Span);
}

/// Who takes spans, shared.
pub type SharedSpans = Arc<dyn Spans>;

/// A piece of work that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The trace, and the span that it is part of.
    pub parent: TraceContext,
    /// Its id; never 0.
    pub id: u64,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// What was done.
    pub work: Work,
}

/// What was done in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An event was taken in and made durable.
    Publish {
        /// The event.
        event: EventId,
        /// Its type.
        event_type: EventType,
        /// How many deliveries it owes.
        deliveries: u32,
    },
    /// A delivery was attempted.
    Attempt {
        /// The event.
        event: EventId,
        /// Its type.
        event_type: EventType,
        /// The delivery.
        delivery: DeliveryId,
        /// Where to.
        endpoint: EndpointId,
        /// 1 for the first.
        number: u32,
        /// What came of it.
        outcome: Outcome,
    },
}

/// A span that has begun. Dropped, it was never there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    parent: TraceContext,
    id: u64,
    started_at: Timestamp,
    instant: Instant,
}

impl Begun {
    /// What those who are called from within the span are told.
    pub(crate) fn context(&self) -> TraceContext {
        self.parent.under(self.id)
    }
}

impl Engine {
    /// Begins the span of a publish, if its trace is recorded and somebody takes spans.
    pub(crate) fn begin_publish_span(&self, parent: Option<TraceContext>) -> Option<Begun> {
        let is_reported =
            |parent: &TraceContext| parent.is_recorded() && self.spans_if_any().is_some();
        self.begin_span(parent.filter(is_reported))
    }

    /// Begins a span under `parent`, if there is one; it is reported only if its trace is recorded
    /// and somebody takes spans.
    pub(crate) fn begin_span(&self, parent: Option<TraceContext>) -> Option<Begun> {
        let parent = parent?;
        let started_at = self.clock().now();
        Some(Begun { parent, id: self.dice().span_id(), started_at, instant: Instant::now() })
    }

    /// Ends a span.
    pub(crate) fn end_span(&self, begun: Begun, work: impl FnOnce() -> Work) {
        let Begun { parent, id, started_at, instant } = begun;
        if let Some(spans) = self.spans_if_any()
            && parent.is_recorded()
        {
            let duration = instant.elapsed();
            spans.ended(Span { parent, id, started_at, duration, work: work() });
        }
    }
}
