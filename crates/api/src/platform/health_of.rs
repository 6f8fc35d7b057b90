//! How an endpoint is: over seconds (its breaker) and over days (what failed since it last
//! succeeded).

use domain::endpoint::{Endpoint, EndpointStatus};
use domain::health::Streak;
use domain::time::Timestamp;
use engine::Engine;
use serde::Serialize;
use utoipa::ToSchema;

/// How an endpoint is.
#[derive(Serialize, ToSchema)]
#[schema(as = EndpointHealth)]
pub(super) struct HealthResource {
    /// `closed` while attempts are made, `open` while none is, `half_open` while one at a time is
    /// made to see whether it works again.
    #[schema(example = "closed")]
    breaker: &'static str,
    /// When the next attempt is made at the earliest, while the breaker is open; if that is past,
    /// the next delivery is attempted.
    #[schema(required, format = "date-time", example = json!(null))]
    retry_at: Option<String>,
    /// Until when no attempt is made because it asked for that (`Retry-After`).
    #[schema(required, format = "date-time", example = json!(null))]
    paused_until: Option<String>,
    /// Since when nothing succeeded; null if nothing failed since the last success.
    #[schema(required, format = "date-time", example = json!(null))]
    failing_since: Option<String>,
    /// How many attempts failed since then; those answered 429 do not count.
    #[schema(example = 0)]
    failures: u32,
    /// When the last of them was.
    #[schema(required, format = "date-time", example = json!(null))]
    last_failure_at: Option<String>,
    /// How often it was warned of since then: after 24 and after 72 hours.
    #[schema(example = 0)]
    warnings: u8,
    /// When it is disabled if nothing succeeds until then, at the earliest: 120 hours after
    /// `failing_since`, and not before 20 failures over 12 hours.
    #[schema(required, format = "date-time", example = json!(null))]
    disabled_at_earliest: Option<String>,
    /// Attempts on their way to it.
    #[schema(example = 0)]
    in_flight: usize,
    /// Deliveries that wait for their turn in memory; others wait in storage.
    #[schema(example = 0)]
    waiting_in_memory: usize,
}

impl HealthResource {
    pub(super) fn of(engine: &Engine, endpoint: &Endpoint) -> Self {
        let lane = engine.lane(endpoint.id);
        let streak = engine.streak(endpoint);
        let may_be_disabled = streak.filter(|_| endpoint.status == EndpointStatus::Enabled);
        Self {
            breaker: lane.breaker.name(),
            retry_at: lane.retry_at.map(Timestamp::to_rfc3339_millis),
            paused_until: lane.paused_until.map(Timestamp::to_rfc3339_millis),
            failing_since: streak.map(|streak| streak.since.to_rfc3339_millis()),
            failures: streak.map_or(0, |streak| streak.failures),
            last_failure_at: streak.map(|streak| streak.last_at.to_rfc3339_millis()),
            warnings: streak.map_or(0, |streak| streak.warnings),
            disabled_at_earliest: may_be_disabled
                .as_ref()
                .map(Streak::disabled_at_earliest)
                .map(Timestamp::to_rfc3339_millis),
            in_flight: lane.in_flight,
            waiting_in_memory: lane.in_memory,
        }
    }
}
