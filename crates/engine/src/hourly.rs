//! What is to happen once an hour for each of many things.
//!
//! Promise: bounded memory, and a step that does not grow with it. Of more than [`KEPT_MAX`] things
//! in one hour the oldest are forgotten, so that they may happen again sooner: who uses this would
//! rather tell twice than not at all. Neighbour: [`crate::health`].

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use domain::time::Timestamp;

/// How long something that happened keeps the same from happening again.
const HOUR: Duration = Duration::from_hours(1);

/// Most things remembered: as many endpoints as may be known to fail, in some 10 MiB.
const KEPT_MAX: usize = 100_000;

/// Which things happened within the hour.
pub(crate) struct Hourly<K> {
    last_at: HashMap<K, Timestamp>,
    /// What happened when, also of what was forgotten since.
    oldest_first: VecDeque<(K, Timestamp)>,
}

impl<K> Default for Hourly<K> {
    fn default() -> Self {
        Self { last_at: HashMap::new(), oldest_first: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Copy> Hourly<K> {
    /// Whether it may happen at `now`; if so, it is remembered.
    pub(crate) fn begin(&mut self, key: K, now: Timestamp) -> bool {
        if self.last_at.get(&key).is_some_and(|last_at| lasts(*last_at, now)) {
            return false;
        }
        while let Some((oldest, at)) = self.oldest_first.front().copied()
            && (self.oldest_first.len() >= KEPT_MAX || !lasts(at, now))
        {
            self.oldest_first.pop_front();
            if self.last_at.get(&oldest) == Some(&at) {
                self.last_at.remove(&oldest);
            }
        }
        self.last_at.insert(key, now);
        self.oldest_first.push_back((key, now));
        true
    }

    /// Forgets what was begun and did not happen.
    pub(crate) fn forget(&mut self, key: &K) {
        self.last_at.remove(key);
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
        let steps = [(0, true), (0, false), (59, false), (60, true), (119, false), (120, true)];
        for (now, expected) in steps {
            assert_eq!(hourly.begin("a", minutes(now)), expected, "{now}");
        }
        assert!(hourly.begin("b", minutes(120)));
        assert!(hourly.begin("a", minutes(-1)), "the clock was set back");
        assert!(!hourly.begin("a", minutes(0)));
    }

    #[test]
    fn what_is_forgotten_may_happen_again_at_once() {
        let mut hourly = Hourly::default();
        assert!(hourly.begin("a", minutes(0)) && hourly.begin("b", minutes(0)));
        hourly.forget(&"a");
        assert!(hourly.begin("a", minutes(0)));
        assert!(!hourly.begin("a", minutes(1)));
        assert!(!hourly.begin("b", minutes(1)));
    }

    #[test]
    fn nothing_has_to_wait_for_others_and_the_oldest_is_forgotten_for_it() {
        let mut hourly = Hourly::default();
        for key in 0..=KEPT_MAX {
            assert!(hourly.begin(key, minutes(0)), "{key}");
        }
        assert_eq!(hourly.last_at.len(), KEPT_MAX);
        assert_eq!(hourly.oldest_first.len(), KEPT_MAX);
        assert!(!hourly.begin(1, minutes(59)));
        assert!(hourly.begin(0, minutes(59)));
        for key in 0..KEPT_MAX {
            hourly.forget(&key);
            assert!(hourly.begin(key, minutes(59)));
        }
        assert_eq!(hourly.oldest_first.len(), KEPT_MAX);
        assert!(hourly.begin(0, minutes(119)));
        assert_eq!((hourly.last_at.len(), hourly.oldest_first.len()), (1, 1));
    }
}
