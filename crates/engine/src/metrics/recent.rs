//! Durations of the last minutes, from which percentiles are read.
//!
//! Promise: a fixed piece of memory and some nanoseconds a duration, whatever is measured; a
//! percentile is never too small and at most an eighth too large. Neighbour: [`super::Metrics`]
//! tells the same durations to whoever collects metrics, who cannot be asked for them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::time::Timestamp;

/// How far back is looked, in minutes: short enough to show what is the matter now, long enough
/// for a percentile that stands still.
const MINUTES: usize = 5;

/// How far back is looked.
pub const RECENT: Duration = Duration::from_mins(MINUTES as u64);

/// Buckets in each doubling of a duration.
const BUCKETS_PER_DOUBLING: usize = 8;

/// The longest duration told apart from longer ones: 2⁴⁰ µs are 12 days, longer than any delivery
/// takes by itself.
const DOUBLINGS: usize = 40;

const BUCKETS: usize = (DOUBLINGS - 2) * BUCKETS_PER_DOUBLING;

/// The middle and the worst of the durations of the last minutes; `None` if there were none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// Half of them were no longer.
    pub p50: Option<Duration>,
    /// All but one in a hundred were no longer.
    pub p99: Option<Duration>,
}

/// Durations of the last minutes.
pub(crate) struct Recent {
    minutes: Mutex<[Minute; MINUTES]>,
}

/// Durations of one minute.
struct Minute {
    /// Which one since the epoch.
    number: i64,
    counts: Box<[u32; BUCKETS]>,
}

impl Recent {
    pub(crate) fn new() -> Self {
        let minutes = [(); MINUTES].map(|()| Minute { number: 0, counts: Box::new([0; BUCKETS]) });
        Self { minutes: Mutex::new(minutes) }
    }

    /// Notes a duration that was measured `now`.
    pub(crate) fn record(&self, now: Timestamp, duration: Duration) {
        let number = minute_of(now);
        let mut minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = &mut minutes[number.rem_euclid(MINUTES as i64) as usize];
        if minute.number != number {
            minute.number = number;
            minute.counts.fill(0);
        }
        let count = &mut minute.counts[bucket_of(duration)];
        *count = count.saturating_add(1);
    }

    /// The percentiles of the last minutes, the current one included.
    pub(crate) fn read(&self, now: Timestamp) -> Percentiles {
        let last = minute_of(now);
        let first = last - (MINUTES as i64 - 1);
        let mut counts = [0_u64; BUCKETS];
        {
            let minutes = self.minutes.lock().unwrap_or_else(PoisonError::into_inner);
            for minute in minutes.iter().filter(|minute| (first..=last).contains(&minute.number)) {
                for (sum, count) in counts.iter_mut().zip(minute.counts.iter()) {
                    *sum += u64::from(*count);
                }
            }
        }
        Percentiles { p50: percentile(&counts, 50), p99: percentile(&counts, 99) }
    }
}

fn minute_of(at: Timestamp) -> i64 {
    at.as_seconds().div_euclid(60)
}

/// The shortest duration that `percent` of those counted do not exceed.
fn percentile(counts: &[u64; BUCKETS], percent: u64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    let rank = (total * percent).div_ceil(100);
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= rank && seen > 0
    })?;
    Some(longest_in(bucket))
}

/// Buckets are as wide as an eighth of the power of two at which their doubling begins.
fn bucket_of(duration: Duration) -> usize {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min((1 << DOUBLINGS) - 1);
    if micros < BUCKETS_PER_DOUBLING as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() as usize;
    let within = (micros >> (doubling - 3)) as usize - BUCKETS_PER_DOUBLING;
    (doubling - 2) * BUCKETS_PER_DOUBLING + within
}

fn longest_in(bucket: usize) -> Duration {
    let (doubling, within) = (bucket / BUCKETS_PER_DOUBLING, bucket % BUCKETS_PER_DOUBLING);
    Duration::from_micros(match doubling {
        0 => within as u64,
        _ => (((BUCKETS_PER_DOUBLING + within + 1) as u64) << (doubling - 1)) - 1,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_duration_is_shown_at_most_an_eighth_too_long_and_never_too_short(
            micros in (0_u32..40).prop_flat_map(|bits| 0_u64..(1 << bits)),
        ) {
            let duration = Duration::from_micros(micros);
            let shown = longest_in(bucket_of(duration));
            prop_assert!(shown >= duration, "{shown:?}");
            prop_assert!(shown <= duration + duration / 8, "{shown:?}");
        }
    }

    #[test]
    fn every_bucket_holds_the_longest_that_it_shows() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(longest_in(bucket)), bucket);
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_last_minutes() {
        let recent = Recent::new();
        let begun_at = Timestamp::from_seconds(1_000_000 * 60);
        assert_eq!(recent.read(begun_at), Percentiles::default());
        for _ in 0..98 {
            recent.record(begun_at, Duration::from_micros(3));
        }
        let later = begun_at.plus(Duration::from_mins(4));
        recent.record(later, Duration::from_micros(5));
        let seen = recent.read(later);
        assert_eq!(seen.p50, Some(Duration::from_micros(3)));
        assert_eq!(seen.p99, Some(Duration::from_micros(5)));
        let after = begun_at.plus(RECENT);
        assert_eq!(recent.read(after).p50, Some(Duration::from_micros(5)));
        recent.record(begun_at.plus(RECENT), Duration::from_micros(7));
        assert_eq!(recent.read(after.plus(RECENT)), Percentiles::default());
    }
}
