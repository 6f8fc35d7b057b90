//! What may happen once an hour for each of many things.
//!
//! Promise: bounded memory. Beyond [`KEPT_MAX`] things in one hour, further ones have to wait: who
//! uses this writes down or tells of something, and more than so many an hour helps nobody.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use domain::time::Timestamp;

/// How long something that happened keeps the same from happening again.
const HOUR: Duration = Duration::from_hours(1);

/// Most things remembered: some megabytes.
const KEPT_MAX: usize = 10_000;

/// Which things happened within the hour.
pub(crate) struct Hourly<K>(HashMap<K, Timestamp>);

impl<K> Default for Hourly<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Hash + Eq> Hourly<K> {
    /// Whether it may happen at `now`.
    pub(crate) fn allows(&self, key: &K, now: Timestamp) -> bool {
        match self.0.get(key) {
            Some(last_at) => !lasts(*last_at, now),
            None => self.0.len() < KEPT_MAX || self.0.values().any(|last_at| !lasts(*last_at, now)),
        }
    }

    /// Remembers that it happens at `now`.
    pub(crate) fn remember(&mut self, key: K, now: Timestamp) {
        if self.0.len() >= KEPT_MAX {
            self.0.retain(|_, last_at| lasts(*last_at, now));
        }
        if self.0.len() < KEPT_MAX || self.0.contains_key(&key) {
            self.0.insert(key, now);
        }
    }
}

/// Whether what happened at `at` still counts. One in the future is of a clock that was set back
/// since.
fn lasts(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.since(at) < HOUR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(minutes: i64) -> Timestamp {
        Timestamp::from_seconds(minutes * 60)
    }

    #[test]
    fn the_same_happens_once_an_hour_and_others_meanwhile() {
        let mut hourly = Hourly::default();
        assert!(hourly.allows(&"a", minutes(0)));
        hourly.remember("a", minutes(0));
        for (now, expected) in [(0, false), (59, false), (60, true), (-1, true)] {
            assert_eq!(hourly.allows(&"a", minutes(now)), expected, "{now}");
        }
        assert!(hourly.allows(&"b", minutes(0)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_after_an_hour() {
        let mut hourly = Hourly::default();
        for key in 0..KEPT_MAX {
            assert!(hourly.allows(&key, minutes(0)));
            hourly.remember(key, minutes(0));
        }
        assert!(!hourly.allows(&KEPT_MAX, minutes(59)));
        hourly.remember(KEPT_MAX, minutes(59));
        assert_eq!(hourly.0.len(), KEPT_MAX);
        assert!(hourly.allows(&KEPT_MAX, minutes(60)));
        hourly.remember(KEPT_MAX, minutes(60));
        assert_eq!(hourly.0.len(), 1);
    }
}
