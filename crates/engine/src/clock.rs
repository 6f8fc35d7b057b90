//! The port through which the engine learns the time of day.
//!
//! Waiting is `tokio::time`, which tests pause; this is only for instants that are stored or
//! shown. [`SystemClock`] is the one place in the product that reads the wall clock; what serves goes by
//! one that makes its steps good slowly (`server::clock`).

use std::sync::Arc;

use domain::time::Timestamp;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now, UTC: what everything stored, shown and waited for goes by.
    fn now(&self) -> Timestamp;

    /// What others take for now: what they compare with their own clocks. Differs from [`Self::now`]
    /// only while a clock makes good a step that the machine's was set by.
    fn told(&self) -> Timestamp {
        self.now()
    }
}

/// A clock, shared.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> Timestamp {
        let since_epoch =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}
