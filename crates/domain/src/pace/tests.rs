use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::from_seconds(1_000_000);

fn after_ms(milliseconds: u64) -> Timestamp {
    START.plus(Duration::from_millis(milliseconds))
}

#[expect(clippy::unnecessary_wraps, reason = "as an endpoint says it")]
fn own(rate: u64) -> Option<RatePerSecond> {
    Some(RatePerSecond::new(rate).unwrap())
}

/// Begins whatever may begin until `until_ms`, as somebody does who always has more; each attempt
/// takes `took_ms`. Answers when they began.
fn begin_all(pace: &mut Pace, own: Option<RatePerSecond>, took_ms: u64, until_ms: u64) -> Vec<u64> {
    let mut began: Vec<u64> = Vec::new();
    let mut now_ms = 0;
    while now_ms < until_ms {
        let now = after_ms(now_ms);
        let in_flight = began.len() - began.partition_point(|at| at + took_ms <= now_ms);
        let at = pace.may_begin_at(own, in_flight, now);
        if at <= now {
            pace.begin(own, now);
            began.push(now_ms);
        } else {
            let ended = began.partition_point(|at| at + took_ms <= now_ms);
            let ends = began.get(ended).map(|at| at + took_ms);
            let wake = at.since(START).as_millis() as u64;
            now_ms = ends.map_or(wake, |end| end.min(wake));
        }
    }
    began
}

/// The most that began in any second.
fn busiest_second(began: &[u64]) -> usize {
    let until = |end: u64| began.partition_point(|at| *at < end);
    began.iter().map(|from| until(from + 1_000) - until(*from)).max().unwrap_or(0)
}

#[test]
fn only_429_and_a_503_that_says_how_long_ask_to_slow_down() {
    let wait = Some(Duration::from_secs(7));
    let asks = |status, retry_after| asks_to_slow_down(Outcome::Answered { status, retry_after });
    assert_eq!(asks(429, None), Some(None));
    assert_eq!(asks(429, wait), Some(wait));
    assert_eq!(asks(503, wait), Some(wait));
    assert_eq!(asks(503, None), None);
    for status in [200, 400, 500, 502, 504] {
        assert_eq!(asks(status, wait), None, "{status}");
    }
}

#[test]
fn an_endpoint_without_a_limit_is_never_held_up() {
    let mut pace = Pace::new(START);
    for in_flight in 0..10_000 {
        assert_eq!(pace.may_begin_at(None, in_flight, START), START);
        pace.begin(None, START);
    }
    assert_eq!(pace.rate(None, START), None);
    assert!(pace.forgettable_at(None) <= START);
}

proptest! {
    #[test]
    fn no_second_has_more_than_the_rate_and_a_tenth_and_the_rate_is_reached(
        rate in 1..2_000_u64, took_ms in 1..300_u64,
    ) {
        let mut pace = Pace::new(START);
        let began = begin_all(&mut pace, own(rate), took_ms, 3_000);
        let most = (rate + rate / 10).max(rate.div_ceil(10) * 10 / 10) as usize;
        prop_assert!(busiest_second(&began) <= most, "{} of {most}", busiest_second(&began));
        prop_assert!(began.len() as u64 + 1 >= rate * 3, "{} of {}", began.len(), rate * 3);
    }

    #[test]
    fn who_asks_again_when_told_may_begin(rate in 1..10_001_u64, bursts in 1..50_u64) {
        let mut pace = Pace::new(START);
        let mut now = START;
        for _ in 0..bursts {
            let at = pace.may_begin_at(own(rate), 0, now);
            prop_assert_eq!(pace.may_begin_at(own(rate), 0, at), at);
            if at > now {
                let early = at.minus(Duration::from_millis(1));
                prop_assert!(pace.may_begin_at(own(rate), 0, early) > early);
            }
            pace.begin(own(rate), at);
            now = at;
        }
    }
}

#[test]
fn the_slow_start_doubles_each_second_from_one_until_nothing_limits() {
    let mut pace = Pace::new(START);
    pace.start_slowly(START);
    let began = begin_all(&mut pace, None, 10, 9_000);
    let in_second = |second: u64| began.iter().filter(|at| *at / 1_000 == second).count();
    for second in 0..9 {
        let (rate, most) = (1_usize << second, (1_usize << second) + (1 << second) / 10);
        let count = in_second(second);
        assert!(count <= most && count * 10 >= rate * 9, "{count} in second {second}");
    }
    for (second, rate) in (0..14).map(|second| (second, Some(1 << second))).chain([(14, None)]) {
        assert_eq!(pace.rate(None, after_ms(second * 1_000)), rate);
    }
    assert_eq!(pace.forgettable_at(None), after_ms(14_000));
}

#[test]
fn the_slow_start_also_limits_how_many_are_on_their_way() {
    let mut pace = Pace::new(START);
    pace.start_slowly(START);
    for (second, most) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 32)] {
        let now = after_ms(second * 1_000);
        assert_eq!(pace.may_begin_at(None, most - 1, now), now);
        assert_eq!(pace.may_begin_at(None, most, now), after_ms(second * 1_000 + 1_000));
    }
}

#[test]
fn the_slow_start_never_exceeds_the_endpoints_own_rate() {
    let mut pace = Pace::new(START);
    pace.start_slowly(START);
    let began = begin_all(&mut pace, own(10), 10, 20_000);
    assert_eq!(busiest_second(&began), 10);
    assert_eq!(pace.rate(own(10), after_ms(20_000)), Some(10));
}

fn too_many(began_ms: u64, took_ms: u64, in_flight: usize, wait: Option<u64>) -> SlowDown {
    SlowDown {
        began_at: after_ms(began_ms),
        took: Duration::from_millis(took_ms),
        in_flight,
        retry_after: wait.map(Duration::from_secs),
    }
}

#[test]
fn who_says_too_many_is_left_alone_as_long_as_asked_but_at_most_a_minute() {
    for (asked, paused_ms) in [(None, 1_000), (Some(7), 7_000), (Some(3_600), 60_000)] {
        let mut pace = Pace::new(START);
        pace.slow_down(too_many(0, 100, 10, asked), None, START);
        assert_eq!(pace.paused_until(START), Some(after_ms(paused_ms)));
        assert_eq!(pace.may_begin_at(None, 0, START), after_ms(paused_ms));
        assert_eq!(pace.may_begin_at(None, 0, after_ms(paused_ms - 1)), after_ms(paused_ms));
        assert_eq!(pace.may_begin_at(None, 0, after_ms(paused_ms)), after_ms(paused_ms));
        assert_eq!(pace.paused_until(after_ms(paused_ms)), None);
    }
}

#[test]
fn a_shorter_pause_does_not_end_a_longer_one() {
    let mut pace = Pace::new(START);
    pace.slow_down(too_many(0, 100, 10, Some(30)), None, START);
    pace.slow_down(too_many(0, 200, 9, None), None, after_ms(100));
    assert_eq!(pace.paused_until(after_ms(100)), Some(after_ms(30_000)));
}

#[test]
fn a_rate_is_remembered_until_its_bucket_is_full_again() {
    let mut pace = Pace::new(START);
    for at in [0, 1_000, 1_500] {
        pace.begin(own(1), after_ms(at));
        assert_eq!(pace.forgettable_at(own(1)), after_ms(at + 1_000));
    }
}

#[test]
fn a_pause_of_before_the_clock_was_set_back_is_void() {
    let mut pace = Pace::new(START);
    pace.slow_down(too_many(0, 100, 10, Some(60)), None, START);
    let set_back = START.minus(Duration::from_hours(1));
    assert_eq!(pace.paused_until(set_back), None);
}

#[test]
fn the_rate_is_halved_from_what_was_achieved_and_regained_in_16_seconds() {
    let mut pace = Pace::new(START);
    // 32 on their way, each taking 100 ms: 320 a second.
    pace.slow_down(too_many(0, 100, 32, None), None, START);
    let resumed_ms = 1_000;
    for (seconds, rate) in [(0, Some(160)), (1, Some(170)), (16, Some(320)), (47, Some(630))] {
        assert_eq!(pace.rate(None, after_ms(resumed_ms + seconds * 1_000)), rate, "{seconds}");
    }
    assert_eq!(pace.rate(None, after_ms(resumed_ms + 48_000)), None, "twice what was too many");
    assert_eq!(pace.forgettable_at(None), after_ms(resumed_ms + 48_000));
}

#[test]
fn the_rate_is_never_cut_below_one_a_second_nor_above_what_was_allowed() {
    let mut pace = Pace::new(START);
    pace.slow_down(too_many(0, 5_000, 1, None), None, START);
    assert_eq!(pace.rate(None, after_ms(1_000)), Some(1));
    assert_eq!(pace.rate(None, after_ms(2_000)), Some(2));
    assert_eq!(pace.rate(None, after_ms(63_000)), Some(63), "forgotten at 64, not at twice one");
    let mut pace = Pace::new(START);
    pace.slow_down(too_many(0, 1, 32, None), own(20), START);
    assert_eq!(pace.rate(own(20), after_ms(1_000)), Some(10));
}

#[test]
fn answers_to_attempts_of_before_a_cut_cut_no_more() {
    let mut pace = Pace::new(START);
    pace.slow_down(too_many(0, 100, 32, None), None, after_ms(100));
    for late in 1..20 {
        pace.slow_down(too_many(50, 60, 32 - late, Some(5)), None, after_ms(110));
    }
    assert_eq!(pace.rate(None, after_ms(1_100)), Some(160));
    assert_eq!(pace.paused_until(after_ms(110)), Some(after_ms(5_110)), "they lengthen the pause");
    pace.slow_down(too_many(6_000, 100, 32, None), None, after_ms(6_100));
    assert_eq!(pace.rate(None, after_ms(7_100)), Some(80), "half of 160, which was allowed");
}

#[test]
fn a_receiver_that_takes_50_a_second_is_found_and_kept_busy_with_few_refusals() {
    let mut pace = Pace::new(START);
    pace.start_slowly(START);
    let (took_ms, capacity) = (20, 50);
    let (mut now_ms, mut taken, mut refused) = (0, 0_u32, 0_u32);
    let mut in_second = (0, 0);
    let mut on_their_way: Vec<(u64, bool)> = Vec::new();
    while taken < 10_000 {
        let now = after_ms(now_ms);
        while on_their_way.first().is_some_and(|(began_ms, _)| began_ms + took_ms <= now_ms) {
            let in_flight = on_their_way.len();
            let (began_ms, is_taken) = on_their_way.remove(0);
            if is_taken {
                taken += 1;
            } else {
                refused += 1;
                pace.slow_down(too_many(began_ms, took_ms, in_flight, None), None, now);
            }
        }
        while pace.may_begin_at(None, on_their_way.len(), now) <= now && on_their_way.len() < 32 {
            pace.begin(None, now);
            if in_second.0 != now_ms / 1_000 {
                in_second = (now_ms / 1_000, 0);
            }
            in_second.1 += 1;
            on_their_way.push((now_ms, in_second.1 <= capacity));
        }
        now_ms += 1;
    }
    assert!(refused * 20 <= taken + refused, "{refused} refused");
    assert!(now_ms < 10_000 / capacity * 1_000 * 8 / 5, "{now_ms} ms");
}

/// A slow-down that was asked for at `now` of an attempt that took a second.
fn told_to_slow_down(pace: &mut Pace, now: Timestamp) {
    let said = SlowDown {
        began_at: now.minus(Duration::from_secs(1)),
        took: Duration::from_secs(1),
        in_flight: 10,
        retry_after: Some(PAUSE_MAX),
    };
    pace.slow_down(said, None, now);
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_a_rate() {
    for back in [1, 999, 1_000, 3_600_000] {
        let mut pace = Pace::new(START);
        pace.begin(own(2), START);
        let now = START.minus(Duration::from_millis(back));
        assert_eq!(pace.may_begin_at(own(2), 0, now), now, "{back} ms");
        pace.begin(own(2), now);
        assert_eq!(pace.may_begin_at(own(2), 1, now), now.plus(Duration::from_millis(500)));
    }
}

#[test]
fn what_slowed_an_endpoint_down_before_the_clock_was_set_back_is_over() {
    let slowed: [fn(&mut Pace); 2] =
        [|pace| told_to_slow_down(pace, START), |pace| pace.start_slowly(START)];
    for slow_down in slowed {
        let mut pace = Pace::new(START);
        slow_down(&mut pace);
        assert!(pace.rate(None, START).is_some());
        let now = START.minus(PAUSE_MAX + Duration::from_millis(1));
        assert_eq!(pace.rate(None, now), None);
        assert_eq!(pace.may_begin_at(None, 10, now), now);
        // And it can be slowed down anew.
        told_to_slow_down(&mut pace, now);
        assert_eq!(pace.paused_until(now), Some(now.plus(PAUSE_MAX)));
        assert_eq!(pace.rate(None, now), Some(5));
    }
}
