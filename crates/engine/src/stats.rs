//! How things stand, for dashboards: counts, load, and latencies of the last minutes.

use std::time::Duration;

use store::history::Counts;

use crate::error::EngineError;
pub use crate::metrics::recent::{Percentiles, RECENT};
use crate::scope::Scope;
use crate::{Engine, Load};

/// How things stand.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Counts since the store was made, from one reading.
    pub counts: Counts,
    /// How much is going on.
    pub load: Load,
    /// For how long the oldest due delivery has been due ([`Load::oldest_due_at`]), if one is.
    pub oldest_due: Option<Duration>,
    /// Latencies of the last [`RECENT`].
    pub latencies: Latencies,
}

/// Latencies of the last [`RECENT`], in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// From taking an event in to its being durable.
    pub publish: Percentiles,
    /// From when a delivery was owed to the beginning of its first attempt.
    pub first_attempt: Percentiles,
    /// From when a delivery was owed to the end of the attempt that succeeded.
    pub delivered: Percentiles,
}

impl Engine {
    /// How things stand. Operator only.
    pub async fn stats(&self, scope: Scope) -> Result<Stats, EngineError> {
        let counts = self.counts(scope).await?;
        let now = self.clock().now();
        let (load, latencies) = (self.load(), self.metrics().latencies(now));
        let oldest_due = load.oldest_due_at.map(|due_at| now.since(due_at));
        Ok(Stats { counts, load, oldest_due, latencies })
    }
}
