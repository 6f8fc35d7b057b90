//! What the engine measures, by name.
//!
//! Names follow the Prometheus conventions (`_total`, `_seconds`, `_bytes`); labels are few, and
//! their values are words of ours, never ids, hosts or anything a caller chose. Every series is
//! there from the start, so that a rate begins at 0 and a missing one is a fault. What each means
//! stands in `server::telemetry` and docs/metrics.md.

use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use domain::audit::AuditAction;
use domain::breaker::BreakerState;
use domain::endpoint::DisabledReason;
use domain::time::Timestamp;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use store::queue::Cleaned;

use crate::error::{EngineError, ErrorCode};
use crate::notices::ANNOUNCED;
use crate::stats::Latencies;
use recent::Recent;

pub(crate) mod recent;

/// Handles to what is measured on the way of every event, looked up once.
pub(crate) struct Metrics {
    events: Counter,
    refusals: [Counter; REFUSALS.len()],
    deliveries: Counter,
    publish: Histogram,
    publish_recent: Recent,
    success: Counter,
    status: Counter,
    failures: [Counter; Failure::ALL.len()],
    attempt: Histogram,
    first_attempt: Histogram,
    first_attempt_recent: Recent,
    delivered: Histogram,
    delivered_recent: Recent,
    leases_lost: Counter,
    refusals_audited: Counter,
    refusals_unaudited: Counter,
    payloads_removed: Counter,
    events_removed: Counter,
    deliveries_expired: Counter,
    freed_bytes: Counter,
    disabled: [Counter; DisabledReason::ALL.len()],
    breakers: [Counter; BreakerState::ALL.len()],
    notices: [Counter; ANNOUNCED.len()],
    replays_running: Gauge,
    replay_deliveries: Counter,
}

/// Why an event is refused, by name.
const REFUSALS: [(ErrorCode, &str); 10] = [
    (ErrorCode::NotFound, "not_found"),
    (ErrorCode::Invalid, "invalid"),
    (ErrorCode::TooLarge, "too_large"),
    (ErrorCode::Conflict, "conflict"),
    (ErrorCode::LimitReached, "limit_reached"),
    (ErrorCode::NoApiAccess, "no_api_access"),
    (ErrorCode::InsufficientCredit, "insufficient_credit"),
    (ErrorCode::RateLimited, "rate_limited"),
    (ErrorCode::Unavailable, "unavailable"),
    (ErrorCode::Internal, "internal"),
];

impl Metrics {
    pub(crate) fn new() -> Self {
        let attempts =
            |outcome: &'static str| counter!("postrider_attempts_total", "outcome" => outcome);
        let refusals =
            |audited: &'static str| counter!("postrider_key_refusals_total", "audited" => audited);
        Self {
            events: counter!("postrider_events_accepted_total"),
            refusals: REFUSALS
                .map(|(_, reason)| counter!("postrider_events_refused_total", "reason" => reason)),
            deliveries: counter!("postrider_deliveries_created_total"),
            publish: histogram!("postrider_publish_seconds"),
            publish_recent: Recent::new(),
            success: attempts("success"),
            status: attempts("status"),
            failures: Failure::ALL.map(|failure| attempts(failure.name())),
            attempt: histogram!("postrider_attempt_seconds"),
            first_attempt: histogram!("postrider_event_to_first_attempt_seconds"),
            first_attempt_recent: Recent::new(),
            delivered: histogram!("postrider_event_to_delivered_seconds"),
            delivered_recent: Recent::new(),
            leases_lost: counter!("postrider_leases_lost_total"),
            refusals_audited: refusals("yes"),
            refusals_unaudited: refusals("no"),
            payloads_removed: counter!("postrider_retention_payloads_removed_total"),
            events_removed: counter!("postrider_retention_events_removed_total"),
            deliveries_expired: counter!("postrider_retention_deliveries_expired_total"),
            freed_bytes: counter!("postrider_retention_freed_bytes_total"),
            breakers: BreakerState::ALL
                .map(|to| counter!("postrider_breaker_changes_total", "to" => to.name())),
            disabled: DisabledReason::ALL.map(
                |reason| counter!("postrider_endpoints_disabled_total", "reason" => reason.name()),
            ),
            notices: ANNOUNCED
                .map(|action| counter!("postrider_notices_total", "type" => action.name())),
            replays_running: gauge!("postrider_replays_running"),
            replay_deliveries: counter!("postrider_replay_deliveries_created_total"),
        }
    }

    /// An event was accepted that was taken in `took` ago.
    pub(crate) fn accepted(&self, deliveries: u32, took: Duration, now: Timestamp) {
        self.events.increment(1);
        self.deliveries.increment(u64::from(deliveries));
        self.publish.record(took);
        self.publish_recent.record(now, took);
    }

    /// An event was refused.
    pub(crate) fn refused(&self, error: &EngineError) {
        let at = REFUSALS.iter().position(|(code, _)| *code == error.code());
        self.refusals[at.expect("the table names every code")].increment(1);
    }

    pub(crate) fn attempt(
        &self,
        outcome: Outcome,
        duration: Duration,
        number: u32,
        owed_since: Timestamp,
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
            let waited = at.since(owed_since);
            self.first_attempt.record(waited);
            self.first_attempt_recent.record(at, waited);
        }
        if outcome.is_success() {
            let took = at.since(owed_since) + duration;
            self.delivered.record(took);
            self.delivered_recent.record(at, took);
        }
    }

    pub(crate) fn lease_lost(&self) {
        self.leases_lost.increment(1);
    }

    /// A well-formed key was refused, and is noted in the audit log or only counted here.
    pub(crate) fn key_refused(&self, is_audited: bool) {
        if is_audited { &self.refusals_audited } else { &self.refusals_unaudited }.increment(1);
    }

    /// A breaker changed.
    pub(crate) fn breaker_changed(&self, to: BreakerState) {
        let at = BreakerState::ALL.iter().position(|known| *known == to);
        self.breakers[at.expect("every state is among all states")].increment(1);
    }

    /// An endpoint was disabled without anybody's doing.
    pub(crate) fn endpoint_disabled(&self, reason: DisabledReason) {
        let at = DisabledReason::ALL.iter().position(|known| *known == reason);
        self.disabled[at.expect("every reason is among all reasons")].increment(1);
    }

    /// An entry of the audit log was announced.
    pub(crate) fn announced(&self, action: AuditAction) {
        if let Some(at) = ANNOUNCED.iter().position(|known| *known == action) {
            self.notices[at].increment(1);
        }
    }

    /// So many deliveries were made again.
    pub(crate) fn replayed(&self, deliveries: usize) {
        self.replay_deliveries.increment(deliveries as u64);
    }

    /// So many replays of many deliveries run now.
    pub(crate) fn replays_running(&self, count: usize) {
        self.replays_running.set(count as f64);
    }

    /// A step of cleaning was done.
    pub(crate) fn cleaned(&self, cleaned: &Cleaned) {
        self.payloads_removed.increment(cleaned.payloads);
        self.events_removed.increment(cleaned.events);
        self.deliveries_expired.increment(cleaned.expired);
        self.freed_bytes.increment(cleaned.freed_bytes);
    }

    /// Latencies of the last minutes.
    pub(crate) fn latencies(&self, now: Timestamp) -> Latencies {
        Latencies {
            publish: self.publish_recent.read(now),
            first_attempt: self.first_attempt_recent.read(now),
            delivered: self.delivered_recent.read(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason_of_its_own() {
        let metrics = Metrics::new();
        for (code, reason) in REFUSALS {
            metrics.refused(&EngineError::new(code, ""));
            let same = REFUSALS.iter().filter(|(other, name)| *other == code || *name == reason);
            assert_eq!(same.count(), 1, "{reason}");
        }
    }
}
