//! Token buckets: requests to the platform API, per key.
//!
//! Promise: in any length of time no more than the burst and the rate times that length; none is
//! refused while there are tokens; who waits as long as a refusal says is not refused again. All
//! arithmetic is in whole numbers, so that nothing drifts. Kept in memory, one entry a key.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;

use super::WATCHED_MAX;
use crate::settings::BucketRate;

/// What one request takes. A token has a thousand parts, since a rate of `n` a second is `n` parts
/// a millisecond, which is what the clock counts.
const PARTS_PER_REQUEST: u64 = 1_000;

/// How often at most everything is looked through for buckets that are full again, when there is
/// no room: so that many busy keys do not make each request slow.
const SWEPT_EVERY: Duration = Duration::from_secs(1);

/// How a key's bucket stands after a request, for the fields of
/// draft-ietf-httpapi-ratelimit-headers-11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketStatus {
    /// The quota `q`: requests at once after a rest.
    pub limit: u32,
    /// The quota's window `w`: how long an empty bucket takes to fill, in seconds, rounded up.
    pub window_seconds: u32,
    /// The quota left, `r`.
    pub remaining: u32,
    /// Until the whole quota is there again, `t`, in seconds, rounded up.
    pub reset_seconds: u32,
    /// Whether this request is within the quota.
    pub is_allowed: bool,
    /// How long to wait until one request is within the quota; `None` if this one is.
    pub retry_after: Option<Duration>,
}

/// A bucket for each key.
#[derive(Default)]
pub(super) struct Buckets(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    buckets: HashMap<u128, Bucket>,
    swept_at: Timestamp,
}

impl Buckets {
    /// Takes a token from the bucket of the key `id` now. When as many keys are busy as are
    /// watched, others go uncounted, which errs in the caller's favour.
    pub(super) fn take(&self, id: u128, rate: BucketRate, now: Timestamp) -> BucketStatus {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = watched.buckets.len() < WATCHED_MAX || watched.buckets.contains_key(&id);
        if !has_room && !watched.make_room(now) {
            return Bucket::full(rate, now).take(rate, now);
        }
        watched.buckets.entry(id).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }
}

impl Watched {
    /// Forgets buckets that are full again, which says no more than having none. Answers whether
    /// there is room then.
    fn make_room(&mut self, now: Timestamp) -> bool {
        if now < self.swept_at.plus(SWEPT_EVERY) && self.swept_at <= now {
            return false;
        }
        self.swept_at = now;
        self.buckets.retain(|_, bucket| now < bucket.full_at);
        self.buckets.len() < WATCHED_MAX
    }
}

/// The tokens of one key.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    parts: u64,
    /// When it had so many.
    at: Timestamp,
    /// When it will be full, if nothing is taken.
    full_at: Timestamp,
}

impl Bucket {
    fn full(rate: BucketRate, now: Timestamp) -> Self {
        Self { parts: capacity(rate), at: now, full_at: now }
    }

    fn take(&mut self, rate: BucketRate, now: Timestamp) -> BucketStatus {
        let capacity = capacity(rate);
        let per_millisecond = u64::from(rate.per_second.max(1));
        let fill_time = |parts: u64| Duration::from_millis(parts.div_ceil(per_millisecond));
        let rested = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let refill = rested.saturating_mul(per_millisecond);
        self.parts = self.parts.saturating_add(refill).min(capacity);
        // A clock that was set back stops nobody from earning tokens until it has caught up.
        self.at = now;
        let is_allowed = self.parts >= PARTS_PER_REQUEST;
        let retry_after = (!is_allowed).then(|| fill_time(PARTS_PER_REQUEST - self.parts));
        if is_allowed {
            self.parts -= PARTS_PER_REQUEST;
        }
        let reset = fill_time(capacity - self.parts);
        self.full_at = now.plus(reset);
        BucketStatus {
            limit: rate.burst.max(1),
            window_seconds: whole_seconds(fill_time(capacity)),
            remaining: u32::try_from(self.parts / PARTS_PER_REQUEST).unwrap_or(u32::MAX),
            reset_seconds: whole_seconds(reset),
            is_allowed,
            retry_after,
        }
    }
}

fn capacity(rate: BucketRate) -> u64 {
    u64::from(rate.burst.max(1)) * PARTS_PER_REQUEST
}

fn whole_seconds(length: Duration) -> u32 {
    u32::try_from(length.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn any_rate() -> impl Strategy<Value = BucketRate> {
        (1..3_000_u32, 1..300_u32).prop_map(|(per_second, burst)| BucketRate { per_second, burst })
    }

    proptest! {
        #[test]
        fn no_length_of_time_sees_more_than_the_burst_and_the_rate(
            rate in any_rate(),
            gaps in proptest::collection::vec(prop_oneof![Just(0_i64), 0..5_i64, 0..2_000_i64], 1..150),
        ) {
            let buckets = Buckets::default();
            let mut now = 0;
            let mut allowed: Vec<i64> = Vec::new();
            for gap in gaps {
                now += gap;
                if buckets.take(1, rate, at(now)).is_allowed {
                    allowed.push(now);
                }
            }
            for (first, began) in allowed.iter().enumerate() {
                for (last, ended) in allowed.iter().enumerate().skip(first) {
                    let earned = (ended - began) * i64::from(rate.per_second);
                    let most = i64::from(rate.burst) * 1_000 + earned;
                    prop_assert!(((last - first + 1) as i64) * 1_000 <= most);
                }
            }
        }

        #[test]
        fn nobody_is_refused_while_there_are_tokens_and_the_answer_says_how_many(
            rate in any_rate(),
            gaps in proptest::collection::vec(0..50_i64, 1..200),
        ) {
            let buckets = Buckets::default();
            let mut now = 0;
            let mut before: Option<BucketStatus> = None;
            for gap in gaps {
                now += gap;
                let status = buckets.take(1, rate, at(now));
                prop_assert!(before.is_none_or(|before| before.remaining == 0) || status.is_allowed);
                prop_assert!(status.remaining <= status.limit);
                prop_assert!(status.reset_seconds <= status.window_seconds);
                prop_assert_eq!(status.retry_after.is_none(), status.is_allowed);
                before = Some(status);
            }
        }

        #[test]
        fn who_waits_as_long_as_a_refusal_says_is_not_refused(
            rate in any_rate(),
            tries in 1..500_u32,
            early in 0..5_i64,
        ) {
            let buckets = Buckets::default();
            let mut now = 0;
            for _ in 0..tries {
                let status = buckets.take(1, rate, at(now));
                let Some(wait) = status.retry_after else { continue };
                let wait = wait.as_millis() as i64;
                prop_assert!(wait > 0);
                if early > 0 && early < wait {
                    prop_assert!(!buckets.take(1, rate, at(now + wait - early)).is_allowed);
                }
                now += wait;
                prop_assert!(buckets.take(1, rate, at(now)).is_allowed);
            }
        }
    }

    #[test]
    fn the_answer_speaks_in_whole_seconds() {
        let rate = BucketRate { per_second: 100, burst: 200 };
        let buckets = Buckets::default();
        let status = buckets.take(1, rate, at(0));
        assert_eq!((status.limit, status.window_seconds), (200, 2));
        assert_eq!((status.remaining, status.reset_seconds), (199, 1));
        for _ in 0..199 {
            assert!(buckets.take(1, rate, at(0)).is_allowed);
        }
        let refused = buckets.take(1, rate, at(4));
        assert_eq!((refused.remaining, refused.reset_seconds), (0, 2));
        assert_eq!(refused.retry_after, Some(Duration::from_millis(6)));
        assert!(buckets.take(2, rate, at(4)).is_allowed, "another key has its own bucket");
        assert!(buckets.take(1, rate, at(10)).is_allowed);
    }

    #[test]
    fn a_clock_that_is_set_back_gives_and_takes_nothing() {
        let rate = BucketRate { per_second: 1, burst: 2 };
        let buckets = Buckets::default();
        assert!(buckets.take(1, rate, at(100_000)).is_allowed);
        assert!(buckets.take(1, rate, at(100_000)).is_allowed);
        assert!(!buckets.take(1, rate, at(50_000)).is_allowed);
        assert!(buckets.take(1, rate, at(51_000)).is_allowed);
    }

    #[test]
    fn a_rate_of_nothing_counts_as_one() {
        let nothing = BucketRate { per_second: 0, burst: 0 };
        let buckets = Buckets::default();
        assert!(buckets.take(1, nothing, at(0)).is_allowed);
        assert_eq!(buckets.take(1, nothing, at(0)).retry_after, Some(Duration::from_secs(1)));
    }

    #[test]
    fn memory_is_bounded_and_full_buckets_make_room() {
        let rate = BucketRate { per_second: 1, burst: 1 };
        let buckets = Buckets::default();
        let all = WATCHED_MAX as u128;
        for id in 0..all {
            assert!(buckets.take(id, rate, at(0)).is_allowed);
        }
        let watched = || buckets.0.lock().unwrap().buckets.len();
        for _ in 0..2 {
            assert!(buckets.take(all, rate, at(500)).is_allowed, "uncounted");
        }
        assert!(!buckets.take(0, rate, at(500)).is_allowed, "still counted");
        assert_eq!(watched(), WATCHED_MAX);
        assert!(buckets.take(all, rate, at(2_000)).is_allowed);
        assert_eq!(watched(), 1);
    }
}
