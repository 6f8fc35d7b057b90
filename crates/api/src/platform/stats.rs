//! How things stand, for dashboards that do not collect metrics.

use std::time::Duration;

use axum::extract::State;
use engine::stats::{Percentiles, RECENT, Stats};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Operator;
use super::refusals::{OfEvery, OfFinding};
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(read))
}

/// How things stand.
#[derive(Serialize, ToSchema)]
pub(super) struct StatsShown {
    /// Events accepted since the store was made.
    #[schema(example = 120_000)]
    events: u64,
    /// Deliveries since the store was made, by state.
    deliveries: DeliveryCounts,
    /// Attempts on their way now.
    #[schema(example = 12)]
    in_flight: usize,
    /// For how long the oldest due delivery of an enabled endpoint with a closed breaker has been
    /// due, as it was known at most 10 seconds ago; `null` when none is.
    #[schema(example = 0.25)]
    oldest_due_seconds: Option<f64>,
    /// Endpoints whose breaker is not closed.
    breakers: BreakerCounts,
    /// Latencies of this process in the last `window_seconds`.
    latency_ms: LatencyMillis,
    /// How far back `latency_ms` looks.
    #[schema(example = 300)]
    window_seconds: u64,
}

/// Deliveries by state: `created` is the sum of the others.
#[derive(Serialize, ToSchema)]
struct DeliveryCounts {
    /// All that were ever made.
    #[schema(example = 240_000)]
    created: u64,
    /// Owed.
    #[schema(example = 40)]
    pending: u64,
    /// A receiver answered 2xx.
    #[schema(example = 239_900)]
    delivered: u64,
    /// Attempts or age are used up.
    #[schema(example = 50)]
    exhausted: u64,
    /// Nobody wants them any more.
    #[schema(example = 10)]
    cancelled: u64,
}

/// Breakers by state.
#[derive(Serialize, ToSchema)]
struct BreakerCounts {
    /// Nothing is attempted.
    #[schema(example = 3)]
    open: usize,
    /// One attempt at a time is made.
    #[schema(example = 1)]
    half_open: usize,
}

/// Latencies.
#[derive(Serialize, ToSchema)]
struct LatencyMillis {
    /// From taking an event in to its being on stable storage.
    publish: PercentileMillis,
    /// From when a delivery was owed to its first attempt.
    first_attempt: PercentileMillis,
    /// From when a delivery was owed to the end of the attempt that succeeded.
    delivered: PercentileMillis,
}

/// The middle and the worst, in milliseconds, at most an eighth too large; `null` when there was
/// nothing to measure.
#[derive(Serialize, ToSchema)]
struct PercentileMillis {
    /// Half took no longer.
    #[schema(example = 1.407)]
    p50: Option<f64>,
    /// All but one in a hundred took no longer.
    #[schema(example = 8.191)]
    p99: Option<f64>,
}

impl From<Percentiles> for PercentileMillis {
    fn from(percentiles: Percentiles) -> Self {
        let millis = |duration: Duration| duration.as_micros() as f64 / 1_000.0;
        Self { p50: percentiles.p50.map(millis), p99: percentiles.p99.map(millis) }
    }
}

impl From<Stats> for StatsShown {
    fn from(Stats { counts, load, oldest_due, latencies }: Stats) -> Self {
        Self {
            events: counts.events,
            deliveries: DeliveryCounts {
                created: counts.created,
                pending: counts.pending,
                delivered: counts.delivered,
                exhausted: counts.exhausted,
                cancelled: counts.cancelled,
            },
            in_flight: load.in_flight,
            oldest_due_seconds: oldest_due.map(|length| length.as_secs_f64()),
            breakers: BreakerCounts {
                open: load.breakers_open,
                half_open: load.breakers_half_open,
            },
            latency_ms: LatencyMillis {
                publish: latencies.publish.into(),
                first_attempt: latencies.first_attempt.into(),
                delivered: latencies.delivered.into(),
            },
            window_seconds: RECENT.as_secs(),
        }
    }
}

/// Read how things stand: counts, load, and latencies of the last minutes.
#[utoipa::path(
    get,
    path = "/api/v1/stats",
    operation_id = "readStats",
    tag = "Service",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "How things stand", body = StatsShown),
        OfEvery,
        OfFinding
    )
)]
async fn read(State(state): State<ApiState>, Operator(scope): Operator) -> Answer {
    let stats = state.engine.stats(scope).await?;
    Ok(answer::ok(&StatsShown::from(stats)))
}
