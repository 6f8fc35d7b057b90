use proptest::prelude::*;

use super::*;
use crate::attempt::Failure;

const START: Timestamp = Timestamp::from_seconds(1_000_000);

/// The chance in the middle: no jitter.
fn even() -> Chance {
    Chance::from_bits(1 << 63)
}

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// One attempt that begins and ends at `now`.
fn attempt(breaker: &mut Breaker, verdict: Option<Verdict>, now: Timestamp) {
    assert!(breaker.may_begin(now));
    let turn = breaker.begin(now);
    breaker.end(turn, verdict, now, even());
}

fn fail(breaker: &mut Breaker, times: u32, now: Timestamp) {
    for _ in 0..times {
        attempt(breaker, Some(Verdict::Failure), now);
    }
}

fn succeed(breaker: &mut Breaker, times: u32, now: Timestamp) {
    for _ in 0..times {
        attempt(breaker, Some(Verdict::Success), now);
    }
}

/// A breaker that opened for the first time at `START`.
fn an_open_breaker() -> Breaker {
    let mut breaker = Breaker::new(START);
    fail(&mut breaker, ROW_OPENS, START);
    breaker
}

#[test]
fn everything_but_2xx_and_429_is_a_failure() {
    let answered = |status| Verdict::of(Outcome::Answered { status, retry_after: None });
    for status in [200, 204, 299] {
        assert_eq!(answered(status), Some(Verdict::Success));
    }
    assert_eq!(answered(429), None);
    for status in [199, 300, 302, 400, 401, 404, 408, 410, 428, 430, 500, 503] {
        assert_eq!(answered(status), Some(Verdict::Failure), "{status}");
    }
    for failure in Failure::ALL {
        assert_eq!(Verdict::of(Outcome::Failed(failure)), Some(Verdict::Failure));
    }
}

#[test]
fn ten_failures_in_a_row_open_it_and_nine_do_not() {
    let mut breaker = Breaker::new(START);
    fail(&mut breaker, 9, START);
    assert_eq!(breaker.state(), BreakerState::Closed);
    succeed(&mut breaker, 1, START);
    fail(&mut breaker, 9, at(1));
    assert_eq!(breaker.state(), BreakerState::Closed);
    attempt(&mut breaker, None, at(1));
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&mut breaker, 1, at(2));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.opened_at(), Some(at(2)));
}

/// Attempts of which seven in ten fail, never ten in a row, one a second.
fn seven_in_ten(breaker: &mut Breaker, attempts: u64, from: u64) {
    for number in 0..attempts {
        let verdict = if number % 10 < 3 { Verdict::Success } else { Verdict::Failure };
        attempt(breaker, Some(verdict), at(from + number));
    }
}

#[test]
fn seven_failures_in_ten_open_it_at_the_twentieth_attempt() {
    let mut breaker = Breaker::new(START);
    seven_in_ten(&mut breaker, 19, 0);
    assert_eq!(breaker.state(), BreakerState::Closed);
    attempt(&mut breaker, Some(Verdict::Failure), at(19));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn a_share_just_below_does_not_open_it() {
    let mut breaker = Breaker::new(START);
    succeed(&mut breaker, 4, START);
    for round in 0..50 {
        succeed(&mut breaker, 4, at(round));
        fail(&mut breaker, 9, at(round));
        assert_eq!(breaker.state(), BreakerState::Closed, "{round}");
    }
}

#[test]
fn what_is_a_minute_old_is_not_counted() {
    let mut breaker = Breaker::new(START);
    // 10 of 14, then 9 of 10: together enough, if the first are not too old.
    seven_in_ten(&mut breaker, 10, 0);
    succeed(&mut breaker, 1, at(10));
    fail(&mut breaker, 3, at(10));
    let mut soon = breaker.clone();
    for (breaker, seconds, state) in
        [(&mut breaker, 70, BreakerState::Closed), (&mut soon, 11, BreakerState::Open)]
    {
        succeed(breaker, 1, at(seconds));
        for _ in 0..9 {
            if breaker.state() == BreakerState::Closed {
                fail(breaker, 1, at(seconds));
            }
        }
        assert_eq!(breaker.state(), state);
    }
}

#[test]
fn failures_ten_minutes_apart_make_no_row() {
    let mut breaker = Breaker::new(START);
    for number in 0..30 {
        fail(&mut breaker, 1, at(number * FORGOTTEN_AFTER.as_secs()));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let mut breaker = Breaker::new(START);
    for number in 0..10 {
        fail(&mut breaker, 1, at(number * (FORGOTTEN_AFTER.as_secs() - 1)));
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn it_is_open_for_30_seconds_then_twice_as_long_each_time_up_to_ten_minutes() {
    let expected = [30, 60, 120, 240, 480, 600, 600, 600];
    let mut breaker = an_open_breaker();
    let mut now = START;
    for seconds in expected {
        let probe_at = now.plus(Duration::from_secs(seconds));
        assert_eq!(breaker.probe_at(), Some(probe_at));
        assert!(!breaker.may_begin(probe_at.minus(Duration::from_millis(1))));
        assert!(breaker.may_begin(probe_at));
        now = probe_at;
        fail(&mut breaker, 1, now);
        assert_eq!(breaker.state(), BreakerState::Open);
    }
    assert_eq!(open_for(u32::MAX, even()), OPEN_MAX);
}

#[test]
fn half_open_one_probe_at_a_time_and_three_successes_in_a_row_close_it() {
    let mut breaker = an_open_breaker();
    for number in 1..=3 {
        assert!(breaker.may_begin(at(30)));
        let turn = breaker.begin(at(30));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(!breaker.may_begin(at(30)), "one at a time");
        breaker.end(turn, Some(Verdict::Success), at(30), even());
        let expected = if number < 3 { BreakerState::HalfOpen } else { BreakerState::Closed };
        assert_eq!(breaker.state(), expected);
    }
    let mut breaker = an_open_breaker();
    succeed(&mut breaker, 2, at(30));
    fail(&mut breaker, 1, at(31));
    assert_eq!(breaker.state(), BreakerState::Open);
    assert_eq!(breaker.probe_at(), Some(at(31 + 60)));
    succeed(&mut breaker, 2, at(91));
    assert_eq!(breaker.state(), BreakerState::HalfOpen, "the two before do not count");
}

#[test]
fn a_probe_that_says_nothing_makes_room_for_the_next() {
    let mut breaker = an_open_breaker();
    succeed(&mut breaker, 2, at(30));
    attempt(&mut breaker, None, at(30));
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    succeed(&mut breaker, 1, at(30));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn what_began_before_it_opened_or_closed_says_nothing_any_more() {
    let mut breaker = Breaker::new(START);
    let early: Vec<Turn> = (0..30).map(|_| breaker.begin(START)).collect();
    for turn in &early[..10] {
        breaker.end(*turn, Some(Verdict::Failure), at(1), even());
    }
    let open = breaker.clone();
    for turn in &early[10..15] {
        breaker.end(*turn, Some(Verdict::Success), at(2), even());
        breaker.end(*turn, Some(Verdict::Failure), at(2), even());
    }
    assert_eq!(breaker, open);
    let probe = breaker.begin(at(31));
    let probing = breaker.clone();
    breaker.end(early[15], Some(Verdict::Success), at(32), even());
    breaker.end(early[16], None, at(32), even());
    assert_eq!(breaker, probing);
    breaker.end(probe, Some(Verdict::Success), at(33), even());
    succeed(&mut breaker, 2, at(33));
    for turn in &early[17..] {
        breaker.end(*turn, Some(Verdict::Failure), at(34), even());
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn its_waits_begin_anew_once_it_was_closed_for_ten_minutes() {
    let reopened_after = |seconds| {
        let mut breaker = an_open_breaker();
        fail(&mut breaker, 1, at(30));
        succeed(&mut breaker, 3, at(90));
        fail(&mut breaker, 10, at(90 + seconds));
        breaker.probe_at().unwrap().since(at(90 + seconds)).as_secs()
    };
    assert_eq!(reopened_after(1), 120);
    assert_eq!(reopened_after(FORGOTTEN_AFTER.as_secs() - 1), 120);
    assert_eq!(reopened_after(FORGOTTEN_AFTER.as_secs()), 30);
}

#[test]
fn what_was_counted_before_it_opened_counts_no_more_once_it_is_closed() {
    let mut breaker = Breaker::new(START);
    seven_in_ten(&mut breaker, 19, 0);
    fail(&mut breaker, 1, at(19));
    breaker.probe_now(at(20));
    succeed(&mut breaker, 3, at(20));
    fail(&mut breaker, 9, at(21));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn its_owner_may_ask_for_the_next_probe_at_once() {
    let mut breaker = an_open_breaker();
    assert!(!breaker.may_begin(at(1)));
    breaker.probe_now(at(1));
    assert!(breaker.may_begin(at(1)));
    fail(&mut breaker, 1, at(1));
    assert_eq!(breaker.probe_at(), Some(at(61)));
}

#[test]
fn it_is_forgotten_when_its_past_no_longer_matters() {
    let mut breaker = Breaker::new(START);
    assert!(breaker.is_pristine(START));
    fail(&mut breaker, 1, START);
    assert!(!breaker.is_pristine(at(1)));
    succeed(&mut breaker, 1, at(1));
    assert!(!breaker.is_pristine(at(1)), "the failure counts for a minute");
    assert!(breaker.is_pristine(at(61)));
    let open = an_open_breaker();
    assert_eq!(open.forgettable_at(), at(30 + 600));
    assert!(!open.is_pristine(at(629)));
    assert!(open.is_pristine(at(630)));
}

#[test]
fn a_clock_that_is_set_back_does_not_confuse_the_counts() {
    let mut breaker = Breaker::new(START);
    seven_in_ten(&mut breaker, 15, 1_000);
    succeed(&mut breaker, 1, at(0));
    fail(&mut breaker, 9, at(0));
    assert_eq!(breaker.state(), BreakerState::Closed);
}

proptest! {
    #[test]
    fn the_time_it_is_open_varies_by_a_fifth_and_no_more(openings in 0..40_u32, bits: u64) {
        let middle = Duration::from_secs(30 * 2_u64.pow(openings.min(10))).min(OPEN_MAX);
        let wait = open_for(openings, Chance::from_bits(bits));
        prop_assert!(wait >= middle.mul_f64(0.8) && wait <= middle.mul_f64(1.2), "{wait:?}");
    }

    /// Whatever happens: nothing begins while it is open, no two probes at once, and it opens
    /// exactly when a plain list of the last verdicts says so.
    #[test]
    fn it_does_what_a_list_of_all_verdicts_says(
        steps in proptest::collection::vec((0..4_000_u64, 0..10_u8), 1..400),
        failing in 0..10_u8,
    ) {
        let mut breaker = Breaker::new(START);
        let mut now = START;
        // Those counted since it was last closed: when, and whether it failed.
        let mut verdicts: Vec<(Timestamp, bool)> = Vec::new();
        for (pause_ms, luck) in steps {
            now = now.plus(Duration::from_millis(pause_ms));
            if breaker.state() != BreakerState::Closed {
                let may_begin = breaker.may_begin(now);
                if let Some(probe_at) = breaker.probe_at() {
                    prop_assert_eq!(may_begin, probe_at <= now);
                }
                if may_begin {
                    let turn = breaker.begin(now);
                    prop_assert!(!breaker.may_begin(now));
                    let verdict = if luck < failing { Verdict::Failure } else { Verdict::Success };
                    breaker.end(turn, Some(verdict), now, even());
                    verdicts.clear();
                }
                continue;
            }
            let has_failed = luck < failing;
            let verdict = if has_failed { Verdict::Failure } else { Verdict::Success };
            attempt(&mut breaker, Some(verdict), now);
            verdicts.push((now, has_failed));
            let row = verdicts.iter().rev().take_while(|(_, failed)| *failed).count() as u32;
            let part = |at: Timestamp| at.as_millis() / 10_000;
            let counted: Vec<bool> = verdicts
                .iter()
                .filter(|(at, _)| part(now) - part(*at) < WINDOW_PARTS as i64)
                .map(|(_, failed)| *failed)
                .collect();
            let failures = counted.iter().filter(|failed| **failed).count();
            let opens = has_failed
                && (row >= ROW_OPENS || (counted.len() >= 20 && failures * 10 >= counted.len() * 7));
            prop_assert_eq!(breaker.state() == BreakerState::Open, opens);
        }
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_open_for_longer_than_any_is() {
    let mut breaker = an_open_breaker();
    let until = breaker.probe_at().unwrap();
    let longest = OPEN_MAX * 120 / 100;
    let millisecond = Duration::from_millis(1);
    for (now, may_begin) in [
        (until, true),
        (until.minus(millisecond), false),
        (until.minus(longest), false),
        (until.minus(longest).minus(millisecond), true),
        (Timestamp::from_seconds(0), true),
    ] {
        assert_eq!(breaker.may_begin(now), may_begin, "{now:?}");
    }
    let now = Timestamp::from_seconds(0);
    succeed(&mut breaker, SUCCESSES_CLOSE, now);
    assert_eq!(breaker.state(), BreakerState::Closed);
    fail(&mut breaker, ROW_OPENS, now);
    assert_eq!(breaker.state(), BreakerState::Open);
}
