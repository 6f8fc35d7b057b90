//! The health of an endpoint over days: since when nothing succeeded, and what follows from it.
//!
//! Promise: an endpoint is disabled only after days in which nothing succeeded although it was
//! tried often and not all at once, and its owner was warned twice before. Pure: [`judge`] decides,
//! the engine acts. Neighbours: [`crate::breaker`] is the same over seconds.

use crate::time::Timestamp;

/// Failures of an endpoint since its last success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streak {
    /// When the first of them was.
    pub since: Timestamp,
    /// When the last of them was.
    pub last_at: Timestamp,
    /// How many there were.
    pub failures: u32,
    /// How often its owner was warned: 0, 1 or 2.
    pub warnings: u8,
}
