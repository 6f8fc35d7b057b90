//! Request limits: of the customer contracts per key or per account, here, and of the platform API
//! per key, in `bucket`.
//!
//! Promise: never more than the limit in any window, and what is answered about the limit is what
//! is enforced. Kept in memory: a restart forgets what was used, which errs in the caller's favour.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;

use crate::settings::BucketRate;

mod bucket;

pub use bucket::BucketStatus;

/// Most keys and accounts watched at once. When as many are busy, others go uncounted, which errs
/// in the caller's favour.
const WATCHED_MAX: usize = 100_000;

const DAY: Duration = Duration::from_hours(24);

/// How a limit stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStatus {
    /// Requests allowed in a window.
    pub limit: u32,
    /// Requests left in it.
    pub remaining: u32,
    /// When one more is allowed (if none remains) or all are allowed again.
    pub reset_at: Timestamp,
    /// Whether this request is within the limit.
    pub is_allowed: bool,
}

/// Watches how often keys are used.
#[derive(Default)]
pub(crate) struct RateLimits {
    used: Mutex<HashMap<u128, Used>>,
    buckets: bucket::Buckets,
}

#[derive(Default)]
struct Used {
    /// When the requests of the last window were made; never longer than the limit.
    recent: VecDeque<Timestamp>,
    window: Duration,
    counts_days: bool,
    day: i64,
    today: u32,
}

impl RateLimits {
    /// Takes a token from the bucket of the key `id`.
    pub(crate) fn take(&self, id: u128, rate: BucketRate, now: Timestamp) -> BucketStatus {
        self.buckets.take(id, rate, now)
    }

    /// Counts a request of the key or account `id` now, allowing `limit` in any `window` and, if given, `per_day` in
    /// a UTC day.
    pub(crate) fn count(
        &self,
        id: u128,
        limit: u32,
        window: Duration,
        per_day: Option<u32>,
        now: Timestamp,
    ) -> RateStatus {
        let mut keys = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let day_length = i64::try_from(DAY.as_millis()).unwrap_or(i64::MAX);
        let day = now.as_millis().div_euclid(day_length);
        if keys.len() >= WATCHED_MAX && !keys.contains_key(&id) {
            keys.retain(|_, used| {
                let is_recent = used.recent.back().is_some_and(|at| now.since(*at) < used.window);
                is_recent || (used.counts_days && used.day == day)
            });
            if keys.len() >= WATCHED_MAX {
                let reset_at = now.plus(window);
                return RateStatus { limit, remaining: 0, reset_at, is_allowed: true };
            }
        }
        let used = keys.entry(id).or_default();
        used.counts_days = per_day.is_some();
        used.window = window;
        while used.recent.front().is_some_and(|first| now.since(*first) >= window) {
            used.recent.pop_front();
        }
        if used.day != day {
            used.day = day;
            used.today = 0;
        }
        if let Some(per_day) = per_day
            && used.today >= per_day
        {
            let reset_at = Timestamp::from_millis((day + 1).saturating_mul(day_length));
            return RateStatus { limit: per_day, remaining: 0, reset_at, is_allowed: false };
        }
        let is_allowed = used.recent.len() < limit as usize;
        if is_allowed {
            used.recent.push_back(now);
            used.today += 1;
        }
        let remaining = limit.saturating_sub(u32::try_from(used.recent.len()).unwrap_or(u32::MAX));
        let anchor = if remaining == 0 { used.recent.front() } else { used.recent.back() };
        let reset_at = anchor.copied().unwrap_or(now).plus(window);
        RateStatus { limit, remaining, reset_at, is_allowed }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_window_ever_sees_more_than_the_limit(gaps in proptest::collection::vec(0..9_000_i64, 1..200)) {
            let limits = RateLimits::default();
            let mut now = Timestamp::from_seconds(0);
            let mut allowed: Vec<Timestamp> = Vec::new();
            for gap in gaps {
                now = Timestamp::from_millis(now.as_millis() + gap);
                let window = Duration::from_mins(1);
                let status = limits.count(1, 20, window, None, now);
                if status.is_allowed {
                    allowed.push(now);
                }
                let in_window = allowed.iter().filter(|at| now.since(**at) < window).count();
                prop_assert!(in_window <= 20);
                prop_assert_eq!(status.remaining as usize, 20 - in_window);
                prop_assert!(status.is_allowed || status.reset_at > now);
            }
        }
    }

    #[test]
    fn a_day_ends_at_midnight_utc() {
        let limits = RateLimits::default();
        let key = 1;
        let minute = Duration::from_mins(1);
        let at = |seconds| limits.count(key, 10, minute, Some(2), Timestamp::from_seconds(seconds));
        assert!(at(0).is_allowed);
        assert!(at(1).is_allowed);
        let refused = at(2);
        assert!(!refused.is_allowed);
        assert_eq!(refused.reset_at, Timestamp::from_seconds(86_400));
        assert!(at(86_400).is_allowed);
    }
}
