//! When to try again.
//!
//! Promise: [`next_attempt_at`] is a pure function of schedule, attempt number, outcome, instant and
//! chance. It is never earlier than the receiver asked for, never beyond the age limit, and `None`
//! exactly when the schedule or the age is used up.

use std::time::Duration;

use crate::attempt::Outcome;
use crate::delivery::EndReason;
use crate::endpoint::RetrySchedule;
use crate::time::Timestamp;

/// Longest wait a receiver may ask for with `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// Widest jitter, whole width: steps up to this spread over half to one and a half times
/// themselves, as wide as full jitter but never near zero; longer steps move by 15 minutes at most.
pub const JITTER_WIDTH_MAX: Duration = Duration::from_mins(30);

/// By when a delivery must have ended, counted from the event's acceptance: the schedule with its
/// widest jitter, and a day for waits that receivers ask for.
pub const DELIVERY_AGE_MAX: Duration = Duration::from_hours(96);

/// A number drawn uniformly from [0, 1), which decides the jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance(f64);

impl Chance {
    /// The chance that these random bits stand for.
    pub fn from_bits(bits: u64) -> Self {
        Self((bits >> 11) as f64 / (1_u64 << 53) as f64)
    }

    /// The number.
    pub(crate) const fn fraction(self) -> f64 {
        self.0
    }
}

/// When the attempt after attempt `number` is due, or why there is none.
pub fn next_attempt_at(
    schedule: &RetrySchedule,
    number: u32,
    created_at: Timestamp,
    outcome: Outcome,
    now: Timestamp,
    chance: Chance,
) -> Result<Timestamp, EndReason> {
    let Some(step) = schedule.waits().get(number as usize).copied() else {
        return Err(EndReason::AttemptsUsedUp);
    };
    let width = step.min(JITTER_WIDTH_MAX);
    let wait = step.saturating_sub(width / 2) + width.mul_f64(chance.0);
    let wait = match outcome {
        Outcome::Answered { status: 429 | 502 | 503 | 504, retry_after: Some(asked) } => {
            wait.max(asked.min(RETRY_AFTER_MAX))
        }
        Outcome::Answered { .. } | Outcome::Failed(_) => wait,
    };
    let due_at = now.plus(wait);
    if due_at > created_at.plus(DELIVERY_AGE_MAX) { Err(EndReason::TooOld) } else { Ok(due_at) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attempt::Failure;

    const FAILED: Outcome = Outcome::Failed(Failure::Timeout);

    proptest! {
        #[test]
        fn a_retry_waits_its_step_give_or_take_half_of_at_most_30_minutes(
            number in 1..12_u32, bits: u64,
        ) {
            let schedule = RetrySchedule::default();
            let now = Timestamp::from_seconds(1_000_000);
            let due_at =
                next_attempt_at(&schedule, number, now, FAILED, now, Chance::from_bits(bits)).unwrap();
            let step = schedule.waits()[number as usize];
            let half = step.min(Duration::from_mins(30)) / 2;
            prop_assert!(due_at >= now.plus(step.saturating_sub(half)));
            prop_assert!(due_at <= now.plus(step + half));
        }

        #[test]
        fn retry_after_is_never_undercut_and_never_exceeds_a_day(
            number in 1..12_u32, bits: u64, asked in 0..1_000_000_u64,
        ) {
            let schedule = RetrySchedule::default();
            let now = Timestamp::from_seconds(1_000_000);
            let outcome = Outcome::Answered {
                status: 503,
                retry_after: Some(Duration::from_secs(asked)),
            };
            let chance = Chance::from_bits(bits);
            let plain = next_attempt_at(&schedule, number, now, FAILED, now, chance).unwrap();
            let due_at = next_attempt_at(&schedule, number, now, outcome, now, chance).unwrap();
            prop_assert!(due_at >= plain);
            prop_assert!(due_at >= now.plus(Duration::from_secs(asked).min(RETRY_AFTER_MAX)));
            prop_assert!(due_at <= now.plus(RETRY_AFTER_MAX).max(plain));
        }

        #[test]
        fn no_attempt_is_due_beyond_the_age_limit(
            number in 1..20_u32, bits: u64, age_hours in 0..200_u64,
        ) {
            let created_at = Timestamp::from_seconds(1_000_000);
            let now = created_at.plus(Duration::from_hours(age_hours));
            let schedule = RetrySchedule::default();
            let next =
                next_attempt_at(&schedule, number, created_at, FAILED, now, Chance::from_bits(bits));
            match next {
                Ok(due_at) => prop_assert!(due_at <= created_at.plus(DELIVERY_AGE_MAX)),
                Err(EndReason::AttemptsUsedUp) => prop_assert!(number >= 12),
                Err(reason) => prop_assert_eq!(reason, EndReason::TooOld),
            }
        }
    }

    #[test]
    fn only_429_502_503_and_504_may_ask_for_a_wait() {
        let now = Timestamp::from_seconds(0);
        let schedule = RetrySchedule::default();
        for status in [300, 400, 404, 408, 410, 500, 501, 505] {
            let outcome = Outcome::Answered { status, retry_after: Some(Duration::from_hours(10)) };
            let due_at =
                next_attempt_at(&schedule, 1, now, outcome, now, Chance::from_bits(0)).unwrap();
            assert!(due_at < now.plus(Duration::from_secs(10)), "{status}");
        }
    }

    /// Chances as a generator gives them (Steele, Lea, Flood: "Fast splittable pseudorandom number
    /// generators", 2014).
    fn chances() -> impl Iterator<Item = Chance> {
        (1..).map(|count: u64| {
            let mut bits = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            Chance::from_bits(bits ^ (bits >> 31))
        })
    }

    #[test]
    fn ten_thousand_deliveries_that_fail_in_one_second_are_retried_evenly_over_the_jitter() {
        let schedule = RetrySchedule::default();
        let start = Timestamp::from_seconds(1_000_000);
        let mut chances = chances();
        let steps = (0..).zip(schedule.waits());
        for (number, step) in steps.filter(|(_, step)| **step >= Duration::from_mins(2)) {
            let width = (*step).min(JITTER_WIDTH_MAX);
            // Over half an hour ten thousand are six a second, of which there are three times as many
            // in some second by chance alone.
            let deliveries = if width > Duration::from_mins(10) { 40_000_u32 } else { 10_000 };
            let earliest = start.plus(step.saturating_sub(width / 2));
            let mut waits_ms: Vec<u128> = (0..deliveries)
                .map(|failed| {
                    let now = start.plus(Duration::from_secs(1) * failed / deliveries);
                    let chance = chances.next().expect("it never ends");
                    let due_at =
                        next_attempt_at(&schedule, number, start, FAILED, now, chance).unwrap();
                    due_at.since(earliest).as_millis()
                })
                .collect();
            waits_ms.sort_unstable();
            // The busiest second.
            let until = |end: u128| waits_ms.partition_point(|wait| *wait < end);
            let busiest = waits_ms.iter().map(|from| until(from + 1_000) - until(*from)).max();
            let mean = f64::from(deliveries) / width.as_secs_f64();
            assert!(busiest.unwrap() as f64 <= 3.0 * mean, "{busiest:?} of {mean} for {step:?}");
            // Kolmogorov and Smirnov's distance from the uniform law: p > 0.01.
            let law = |wait: u128| (wait as f64 / 1_000.0 / width.as_secs_f64()).min(1.0);
            let distance = waits_ms
                .iter()
                .enumerate()
                .map(|(at, wait)| {
                    let [below, upto] = [at, at + 1].map(|at| at as f64 / f64::from(deliveries));
                    (law(*wait) - below).abs().max((law(*wait) - upto).abs())
                })
                .fold(0.0, f64::max);
            assert!(distance < 1.63 / f64::from(deliveries).sqrt(), "{distance} for {step:?}");
        }
    }
}
