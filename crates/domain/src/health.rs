//! The health of an endpoint over days: since when nothing succeeded, and what follows from it.
//!
//! Promise: an endpoint is disabled only after days in which nothing succeeded although it was
//! tried often and not all at once, and its owner is warned on the way. Pure: [`judge`] decides,
//! the engine acts. Neighbours: [`crate::breaker`] is the same over seconds.

use std::time::Duration;

use crate::attempt::{Outcome, ReceiverControl};
use crate::delivery::says_gone;
use crate::endpoint::DisabledReason;
use crate::time::Timestamp;

/// How long nothing succeeded when the owner is warned, once each: after a day, which outlasts
/// every deploy and most outages, and after three, when the first deliveries have been given up.
pub const WARNED_AFTER: [Duration; 2] = [Duration::from_hours(24), Duration::from_hours(72)];

/// How long nothing succeeded when the endpoint is disabled: longer than any weekend, and than the
/// life of a delivery (Svix: 5 days).
pub const DISABLED_AFTER: Duration = Duration::from_hours(120);

/// Failures it takes to disable: more than the attempts of one delivery, so that no single event
/// disables an endpoint.
pub const DISABLED_FAILURES_MIN: u32 = 20;

/// How far apart the first and the last failure must be to disable: many failures of one bad hour
/// say nothing about the days in which nothing was tried.
pub const DISABLED_SPAN_MIN: Duration = Duration::from_hours(12);

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

impl Streak {
    /// The streak after a failure at `at`; `before` is the one that it continues.
    pub fn after_failure(before: Option<Self>, at: Timestamp) -> Self {
        match before {
            None => Self { since: at, last_at: at, failures: 1, warnings: 0 },
            Some(before) => Self {
                last_at: before.last_at.max(at),
                failures: before.failures.saturating_add(1),
                ..before
            },
        }
    }

    /// When the endpoint is disabled if nothing succeeds until then, at the earliest.
    pub fn disabled_at_earliest(&self) -> Timestamp {
        self.since.plus(DISABLED_AFTER)
    }

    fn has_failures_to_disable(&self) -> bool {
        self.failures >= DISABLED_FAILURES_MIN
            && self.last_at.since(self.since) >= DISABLED_SPAN_MIN
    }
}

/// What an attempt says of the health of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It works: whatever failed before is forgotten.
    Success,
    /// It failed.
    Failure,
    /// Neither: it lives and asks for less (429).
    Neither,
}

/// What an attempt that ended so says of the health of its endpoint.
pub const fn sign_of(outcome: Outcome) -> Sign {
    match outcome {
        Outcome::Answered { status: 429, .. } => Sign::Neither,
        _ if outcome.is_success() => Sign::Success,
        Outcome::Answered { .. } | Outcome::Failed(_) => Sign::Failure,
    }
}

/// Why an endpoint is disabled at once that answered so and asked for this.
pub const fn disabled_at_once(
    outcome: Outcome,
    asked: Option<ReceiverControl>,
) -> Option<DisabledReason> {
    match asked {
        _ if says_gone(outcome) => Some(DisabledReason::Gone),
        Some(ReceiverControl::Disable) => Some(DisabledReason::ReceiverAsked),
        Some(ReceiverControl::Abort) | None => None,
    }
}

/// What follows from a streak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing, for now.
    Wait,
    /// Its owner is warned.
    Warn {
        /// How often it was warned then: [`Streak::warnings`] from now on.
        warnings: u8,
    },
    /// The endpoint is disabled.
    Disable,
}

/// What follows from the streak at `now`. Warnings that fall together (the process was down) are
/// one, and none is given to an endpoint that is disabled in the same moment.
pub fn judge(streak: &Streak, now: Timestamp) -> Judgement {
    let without_success = now.since(streak.since);
    if without_success >= DISABLED_AFTER && streak.has_failures_to_disable() {
        return Judgement::Disable;
    }
    let due = WARNED_AFTER.iter().filter(|after| without_success >= **after).count() as u8;
    if due > streak.warnings { Judgement::Warn { warnings: due } } else { Judgement::Wait }
}

/// When [`judge`] says something other than [`Judgement::Wait`] for the first time, if no further
/// attempt is made; `None` if only a further failure can bring it about. May be past.
pub fn next_judgement_at(streak: &Streak) -> Option<Timestamp> {
    let warning = WARNED_AFTER.get(usize::from(streak.warnings)).copied();
    let disabling = streak.has_failures_to_disable().then_some(DISABLED_AFTER);
    warning.into_iter().chain(disabling).min().map(|after| streak.since.plus(after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::attempt::Failure;

    const HOUR_MILLIS: i64 = 3_600_000;

    fn hours(hours: i64) -> Timestamp {
        Timestamp::from_millis(hours * HOUR_MILLIS)
    }

    fn streak(failures: u32, span_hours: i64, warnings: u8) -> Streak {
        Streak { since: hours(0), last_at: hours(span_hours), failures, warnings }
    }

    #[test]
    fn an_endpoint_is_warned_at_24_and_72_hours_and_disabled_at_120() {
        let just_before = |now: i64| Timestamp::from_millis(now * HOUR_MILLIS - 1);
        let often = |warnings| streak(20, 12, warnings);
        let check = |streak: Streak, now: Timestamp, expected: Judgement| {
            assert_eq!(judge(&streak, now), expected, "{streak:?} at {}", now.as_millis());
        };
        check(often(0), hours(0), Judgement::Wait);
        check(often(0), just_before(24), Judgement::Wait);
        check(often(0), hours(24), Judgement::Warn { warnings: 1 });
        check(often(1), hours(24), Judgement::Wait);
        check(often(1), just_before(72), Judgement::Wait);
        check(often(1), hours(72), Judgement::Warn { warnings: 2 });
        check(often(2), just_before(120), Judgement::Wait);
        check(often(2), hours(120), Judgement::Disable);
        check(often(0), hours(100), Judgement::Warn { warnings: 2 });
        check(often(0), hours(120), Judgement::Disable);
    }

    #[test]
    fn few_failures_or_failures_of_a_short_time_do_not_disable() {
        for streak in [streak(19, 119, 2), streak(1_000, 11, 2), streak(1, 0, 2)] {
            assert_eq!(judge(&streak, hours(1_000)), Judgement::Wait, "{streak:?}");
            assert_eq!(next_judgement_at(&streak), None);
        }
        let twentieth = Streak::after_failure(Some(streak(19, 119, 2)), hours(500));
        assert_eq!(judge(&twentieth, hours(500)), Judgement::Disable);
        let later = Streak::after_failure(Some(streak(1_000, 11, 2)), hours(121));
        assert_eq!(judge(&later, hours(121)), Judgement::Disable);
    }

    #[test]
    fn any_2xx_is_a_success_429_is_neither_and_the_rest_are_failures() {
        let answered = |status| sign_of(Outcome::Answered { status, retry_after: None });
        for status in [200, 204, 299] {
            assert_eq!(answered(status), Sign::Success);
        }
        assert_eq!(answered(429), Sign::Neither);
        for status in [300, 302, 400, 404, 410, 428, 430, 500, 503] {
            assert_eq!(answered(status), Sign::Failure);
        }
        for failure in Failure::ALL {
            assert_eq!(sign_of(Outcome::Failed(failure)), Sign::Failure);
        }
    }

    #[test]
    fn an_endpoint_that_is_gone_or_asks_for_it_is_disabled_at_once() {
        let check = |status, asked, expected| {
            let outcome = Outcome::Answered { status, retry_after: None };
            assert_eq!(disabled_at_once(outcome, asked), expected, "{status} {asked:?}");
        };
        check(410, None, Some(DisabledReason::Gone));
        check(410, Some(ReceiverControl::Disable), Some(DisabledReason::Gone));
        for status in [200, 404, 429, 500] {
            check(status, Some(ReceiverControl::Disable), Some(DisabledReason::ReceiverAsked));
            check(status, Some(ReceiverControl::Abort), None);
            check(status, None, None);
        }
    }

    #[test]
    fn a_streak_counts_failures_from_the_first_to_the_last() {
        let mut streak = None;
        for at in [3, 5, 4] {
            streak = Some(Streak::after_failure(streak, hours(at)));
        }
        let expected = Streak { since: hours(3), last_at: hours(5), failures: 3, warnings: 0 };
        assert_eq!(streak, Some(expected));
        let full = Streak { failures: u32::MAX, ..expected };
        assert_eq!(Streak::after_failure(Some(full), hours(6)).failures, u32::MAX);
    }

    fn any_streak() -> impl Strategy<Value = Streak> {
        (0..100 * HOUR_MILLIS, 0..200 * HOUR_MILLIS, 1..40_u32, 0..=2_u8).prop_map(
            |(since, span, failures, warnings)| Streak {
                since: Timestamp::from_millis(since),
                last_at: Timestamp::from_millis(since + span),
                failures,
                warnings,
            },
        )
    }

    proptest! {
        #[test]
        fn nothing_follows_before_the_next_judgement_and_something_does_at_it(
            streak in any_streak(),
            early in 1..300 * HOUR_MILLIS,
        ) {
            let Some(at) = next_judgement_at(&streak) else {
                prop_assert_eq!(judge(&streak, hours(100_000)), Judgement::Wait);
                return Ok(());
            };
            prop_assert_ne!(judge(&streak, at), Judgement::Wait);
            let before = Timestamp::from_millis(at.as_millis() - early);
            prop_assert_eq!(judge(&streak, before), Judgement::Wait);
        }

        #[test]
        fn every_streak_that_is_acted_on_comes_to_rest(streak in any_streak(), now in 0..400_i64) {
            let mut streak = streak;
            for _ in 0..=WARNED_AFTER.len() {
                match judge(&streak, hours(now)) {
                    Judgement::Warn { warnings } => {
                        prop_assert!(warnings > streak.warnings);
                        streak.warnings = warnings;
                    }
                    Judgement::Wait | Judgement::Disable => return Ok(()),
                }
            }
            prop_assert!(false, "warned more often than there are warnings");
        }

        #[test]
        fn nothing_is_disabled_within_120_hours_or_before_its_20th_failure(
            streak in any_streak(),
            after in 0..300 * HOUR_MILLIS,
        ) {
            let now = Timestamp::from_millis(streak.since.as_millis() + after);
            if judge(&streak, now) == Judgement::Disable {
                prop_assert!(after >= 120 * HOUR_MILLIS);
                prop_assert!(streak.failures >= 20);
                prop_assert!(streak.last_at.since(streak.since) >= Duration::from_hours(12));
            }
        }
    }
}
