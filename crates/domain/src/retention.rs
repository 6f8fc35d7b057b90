//! How long what has ended is kept.

use std::time::Duration;

/// How long what has ended is kept, counted from when its event was accepted, or from when it was
/// due if it was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The payload and the exchanges of an event that everybody got who wanted it. They go earlier
    /// than the records, since they are most of the space and of the worry.
    pub delivered_payloads_kept_for: Duration,
    /// Everything else: records of events, deliveries, attempts and replays; also the payloads of what
    /// was not delivered, or missed by an endpoint that was disabled or whose filter failed: it can be
    /// replayed until then. A delivery that is still pending then (its endpoint is disabled) is
    /// cancelled, with [`crate::delivery::EndReason::Expired`].
    pub records_kept_for: Duration,
}

/// Shortest retention of either kind: longer than any delivery takes by itself, so that nothing
/// expires that an attempt could still deliver.
pub const RETENTION_MIN: Duration = Duration::from_hours(5 * 24);

impl Default for Retention {
    fn default() -> Self {
        Self {
            delivered_payloads_kept_for: Duration::from_hours(7 * 24),
            records_kept_for: Duration::from_hours(30 * 24),
        }
    }
}
