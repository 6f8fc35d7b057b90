//! What the engine measures, by name.
//!
//! Names follow the Prometheus conventions (`_total`, `_seconds`); labels are few and bounded.

use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use domain::time::Timestamp;
use metrics::{Counter, Histogram, counter, histogram};

/// Handles to what is measured on the way of every event, looked up once.
pub(crate) struct Metrics {
    events: Counter,
    deliveries: Counter,
    success: Counter,
    status: Counter,
    failures: [Counter; Failure::ALL.len()],
    attempt: Histogram,
    first_attempt: Histogram,
    leases_lost: Counter,
    refusals_audited: Counter,
    refusals_unaudited: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let attempts =
            |outcome: &'static str| counter!("postrider_attempts_total", "outcome" => outcome);
        let refusals =
            |audited: &'static str| counter!("postrider_key_refusals_total", "audited" => audited);
        Self {
            events: counter!("postrider_events_accepted_total"),
            deliveries: counter!("postrider_deliveries_created_total"),
            success: attempts("success"),
            status: attempts("status"),
            failures: Failure::ALL.map(|failure| attempts(failure.name())),
            attempt: histogram!("postrider_attempt_seconds"),
            first_attempt: histogram!("postrider_event_to_first_attempt_seconds"),
            leases_lost: counter!("postrider_leases_lost_total"),
            refusals_audited: refusals("yes"),
            refusals_unaudited: refusals("no"),
        }
    }

    pub(crate) fn accepted(&self, deliveries: u32) {
        self.events.increment(1);
        self.deliveries.increment(u64::from(deliveries));
    }

    pub(crate) fn attempt(
        &self,
        outcome: Outcome,
        duration: Duration,
        number: u32,
        created_at: Timestamp,
        at: Timestamp,
    ) {
        let outcomes = match outcome {
            Outcome::Answered { .. } if outcome.is_success() => &self.success,
            Outcome::Answered { .. } => &self.status,
            Outcome::Failed(failure) => {
                let at = Failure::ALL.iter().position(|known| *known == failure);
                &self.failures[at.expect("every failure is among all failures")]
            }
        };
        outcomes.increment(1);
        self.attempt.record(duration);
        if number == 1 {
            self.first_attempt.record(at.since(created_at));
        }
    }

    pub(crate) fn lease_lost(&self) {
        self.leases_lost.increment(1);
    }

    /// A well-formed key was refused, and is noted in the audit log or only counted here.
    pub(crate) fn key_refused(&self, is_audited: bool) {
        if is_audited { &self.refusals_audited } else { &self.refusals_unaudited }.increment(1);
    }
}
