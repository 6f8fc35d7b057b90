//! Breakers and paces in lanes.

use domain::endpoint::RatePerSecond;

use super::*;

fn after(milliseconds: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(milliseconds))
}

/// Lanes in which `waiting` deliveries wait for the endpoint, after ten failed.
fn with_an_open_breaker(waiting: u128) -> (Lanes, Endpoint) {
    let mut lanes = lanes(100, 10);
    let endpoint = an_endpoint(&account(1), 11);
    for number in 0..10 + waiting {
        assert!(offer(&mut lanes, &endpoint, number));
    }
    for _ in 0..10 {
        let (_, ticket) = lanes.next(NOW).unwrap();
        lanes.finish(&ticket, Some(&ended(500)), NOW);
    }
    assert_eq!(lanes.view(endpoint.id, NOW).breaker, BreakerState::Open);
    (lanes, endpoint)
}

/// Claims what is claimable; storage answers with `numbers`, and that there is more.
fn claim(lanes: &mut Lanes, endpoint: &Endpoint, numbers: &[u128], now: Timestamp) -> usize {
    let rooms = lanes.begin_claim(now);
    assert_eq!(rooms.len(), 1);
    let claimed = numbers.iter().map(|number| claimed(endpoint, *number, 10)).collect();
    let next_due_at = Some(NOW);
    lanes.end_claim(LaneClaim { endpoint: endpoint.id, claimed, next_due_at }, now);
    rooms[0].0.room
}

#[test]
fn a_breaker_that_opens_gives_back_what_waits_and_lets_nobody_in() {
    let (mut lanes, endpoint) = with_an_open_breaker(50);
    assert_eq!(lanes.take_returned().len(), 50);
    assert_eq!(lanes.in_all, Held::default());
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    assert!(lanes.next(after(29_999)).is_none());
    let change =
        BreakerChange { endpoint: endpoint.id, from: BreakerState::Closed, to: BreakerState::Open };
    assert_eq!(lanes.take_changes(), [change]);
    assert_eq!(lanes.view(endpoint.id, NOW).retry_at, Some(after(30_000)));
}

#[test]
fn the_probe_is_claimed_alone_and_exactly_when_it_is_due() {
    let (mut lanes, endpoint) = with_an_open_breaker(0);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.next_claim_at(), Some(after(30_000)));
    assert!(lanes.begin_claim(after(29_999)).is_empty());
    let now = after(30_000);
    assert_eq!(claim(&mut lanes, &endpoint, &[1], now), 1);
    let (_, probe) = lanes.next(now).unwrap();
    assert_eq!(lanes.view(endpoint.id, now).breaker, BreakerState::HalfOpen);
    assert_eq!(lanes.next_claim_at(), None, "no second while it is on its way");
    assert!(lanes.reserve(&endpoint, 10, now).is_none());
    lanes.finish(&probe, Some(&ended(200)), now);
    assert_eq!(claim(&mut lanes, &endpoint, &[2], now), 1);
    let (_, probe) = lanes.next(now).unwrap();
    lanes.finish(&probe, None, now);
    assert_eq!(lanes.view(endpoint.id, now).breaker, BreakerState::HalfOpen, "it said nothing");
    for number in 3..5 {
        assert_eq!(claim(&mut lanes, &endpoint, &[number], now), 1);
        let (_, probe) = lanes.next(now).unwrap();
        lanes.finish(&probe, Some(&ended(200)), now);
    }
    let view = lanes.view(endpoint.id, now);
    assert_eq!((view.breaker, view.rate_per_second), (BreakerState::Closed, Some(1)));
    assert!(claim(&mut lanes, &endpoint, &[5], now) > 1, "it is closed");
}

#[test]
fn a_probe_that_must_wait_for_a_pause_waits_alone() {
    let (mut lanes, endpoint) = with_an_open_breaker(0);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    let now = after(30_000);
    claim(&mut lanes, &endpoint, &[1], now);
    let (_, probe) = lanes.next(now).unwrap();
    lanes.finish(&probe, Some(&ended(429)), now);
    claim(&mut lanes, &endpoint, &[2], now);
    assert!(lanes.next(now).is_none(), "paused for a second");
    assert_eq!((lanes.view(endpoint.id, now).in_memory, lanes.next_claim_at()), (1, None));
    lanes.wake(after(31_000));
    assert!(lanes.next(after(31_000)).is_some());
}

#[test]
fn a_place_or_claim_of_before_it_opened_does_not_let_a_delivery_in() {
    let mut lanes = lanes(100, 10);
    let endpoint = an_endpoint(&account(1), 11);
    for number in 0..10 {
        assert!(offer(&mut lanes, &endpoint, number));
    }
    let place = lanes.reserve(&endpoint, 10, NOW).unwrap();
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    for (_, ticket) in start_all(&mut lanes, NOW) {
        lanes.finish(&ticket, Some(&ended(500)), NOW);
    }
    lanes.offer(claimed(&endpoint, 100, 10), place, NOW);
    let two = vec![claimed(&endpoint, 101, 10), claimed(&endpoint, 102, 10)];
    let end = LaneClaim { endpoint: endpoint.id, claimed: two, next_due_at: None };
    lanes.end_claim(end, NOW);
    assert_eq!(lanes.take_returned().len(), 3);
    assert_nothing_held(&lanes);
}

#[test]
fn a_change_by_its_owner_lets_the_next_probe_go_at_once() {
    let (mut lanes, endpoint) = with_an_open_breaker(0);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.next_claim_at(), Some(after(30_000)));
    lanes.probe_now(endpoint.id, after(5));
    assert_eq!(lanes.next_claim_at(), Some(after(5)));
    assert_eq!(claim(&mut lanes, &endpoint, &[1, 2], after(5)), 1);
    assert_eq!(start_all(&mut lanes, after(5)).len(), 1);
}

#[test]
fn an_open_breaker_is_no_neighbours_business() {
    let (mut lanes, _) = with_an_open_breaker(10);
    let other = an_endpoint(&account(1), 12);
    assert!(offer(&mut lanes, &other, 100));
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, other.id);
}

#[test]
fn attempts_begin_at_the_endpoints_own_rate_and_the_lane_is_woken_for_each() {
    let mut lanes = lanes(100, 10);
    let rate = Some(RatePerSecond::new(4).unwrap());
    let endpoint = Endpoint { rate, ..an_endpoint(&account(1), 11) };
    for number in 0..5 {
        assert!(offer(&mut lanes, &endpoint, number));
    }
    let mut began = Vec::new();
    let mut now = NOW;
    loop {
        lanes.wake(now);
        for (_, ticket) in start_all(&mut lanes, now) {
            began.push(now.since(NOW).as_millis());
            lanes.finish(&ticket, Some(&ended(200)), now);
        }
        let Some(next) = lanes.next_alarm_at() else { break };
        assert!(next > now);
        now = next;
    }
    assert_eq!(began, [0, 250, 500, 750, 1_000]);
    assert!(lanes.standings.is_empty(), "forgotten once the bucket is full again");
    assert_eq!(now, after(2_000));
}

#[test]
fn whoever_wakes_lanes_is_told_when_one_must_be_woken_earlier() {
    let mut lanes = lanes(100, 10);
    let slow = Endpoint { rate: RatePerSecond::new(1).ok(), ..an_endpoint(&account(1), 11) };
    let fast = Endpoint { rate: RatePerSecond::new(10).ok(), ..an_endpoint(&account(1), 12) };
    for (endpoint, alarm_ms) in [(&slow, 1_000), (&fast, 100)] {
        offer(&mut lanes, endpoint, 1);
        offer(&mut lanes, endpoint, 2);
        assert_eq!(start_all(&mut lanes, NOW).len(), 1);
        assert_eq!(lanes.next_alarm_at(), Some(after(alarm_ms)));
        assert!(lanes.take_has_earlier_alarm());
        assert!(!lanes.take_has_earlier_alarm());
    }
}

#[test]
fn a_lane_whose_receiver_asks_for_it_pauses_as_a_whole() {
    let mut lanes = lanes(100, 10);
    let (endpoint, other) = (an_endpoint(&account(1), 11), an_endpoint(&account(1), 12));
    for number in 0..40 {
        offer(&mut lanes, &endpoint, number);
    }
    let (_, first) = lanes.next(NOW).unwrap();
    let outcome = Outcome::Answered { status: 429, retry_after: Some(Duration::from_secs(20)) };
    lanes.finish(&first, Some(&Ended { outcome, ..ended(429) }), NOW);
    assert_eq!(lanes.view(endpoint.id, NOW).paused_until, Some(after(20_000)));
    assert_eq!(lanes.view_all(NOW).lanes_paused, 1);
    offer(&mut lanes, &other, 100);
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, other.id);
    assert!(lanes.next(after(19_999)).is_none());
    assert_eq!(lanes.next_alarm_at(), Some(after(20_000)));
    lanes.wake(after(20_000));
    assert_eq!(lanes.next(after(20_000)).unwrap().0.endpoint, endpoint.id);
    assert!(lanes.next(after(20_000)).is_none(), "at half the rate that was achieved");
    assert_eq!(lanes.view_all(after(20_000)).lanes_paused, 0);
}

#[test]
fn endpoints_to_which_everything_succeeds_are_not_remembered() {
    let mut lanes = lanes(100, 10);
    for number in 0..1_000 {
        let endpoint = an_endpoint(&account(number), number);
        assert!(offer(&mut lanes, &endpoint, 1));
        let (_, ticket) = lanes.next(NOW).unwrap();
        lanes.finish(&ticket, Some(&ended(200)), NOW);
    }
    assert!(lanes.standings.is_empty());
    assert_nothing_held(&lanes);
}

#[test]
fn what_is_remembered_is_bounded_and_whoever_finds_no_room_is_sent_to_as_before() {
    let mut standings = Standings::default();
    for number in 0..standings::STANDINGS_MAX as u64 {
        assert!(standings.remember(an_endpoint(&account(1), number).id, NOW));
    }
    let (known, other) = (an_endpoint(&account(1), 5).id, an_endpoint(&account(1), 1 << 40).id);
    assert!(standings.remember(known, NOW));
    assert!(!standings.remember(other, NOW));
    assert!(standings.is_closed(other) && standings.may_begin(other, 1_000, NOW));
}

fn look(lanes: &mut Lanes) {
    let oldest = lanes.oldest_of(&lanes.endpoints());
    lanes.note_oldest(oldest, NOW);
}

#[test]
fn the_oldest_due_delivery_is_that_of_a_closed_breaker() {
    let (mut lanes, open) = with_an_open_breaker(0);
    lanes.note_stored(open.id, open.account, NOW.minus(Duration::from_hours(1)));
    look(&mut lanes);
    assert_eq!(lanes.view_all(NOW).oldest_due_at, None);
    let (later, due) = (an_endpoint(&account(2), 21), an_endpoint(&account(2), 22));
    lanes.note_stored(later.id, later.account, after(1));
    look(&mut lanes);
    assert_eq!(lanes.view_all(NOW).oldest_due_at, None);
    lanes.note_stored(due.id, due.account, NOW.minus(Duration::from_secs(3)));
    look(&mut lanes);
    let oldest = Some(NOW.minus(Duration::from_secs(3)));
    assert_eq!(lanes.view_all(NOW).oldest_due_at, oldest);
    assert_eq!(lanes.view_all(NOW).breakers_open, 1);
}

#[test]
fn a_rate_waits_no_longer_because_the_clock_was_set_back() {
    let mut lanes = lanes(100, 10);
    let endpoint = Endpoint { rate: RatePerSecond::new(1).ok(), ..an_endpoint(&account(1), 11) };
    for number in 0..3 {
        offer(&mut lanes, &endpoint, number);
    }
    assert_eq!(start_all(&mut lanes, NOW).len(), 1);
    let earlier = NOW.minus(Duration::from_secs(500));
    lanes.wake(earlier);
    assert!(lanes.next(earlier).is_none(), "it has no turn");
    lanes.look_again(&lanes.not_simply_well(), earlier);
    assert_eq!(start_all(&mut lanes, earlier).len(), 1);
    assert_eq!(lanes.next_alarm_at(), Some(earlier.plus(Duration::from_secs(1))));
    assert!(lanes.take_has_earlier_alarm());
}

#[test]
fn a_probe_waits_no_longer_because_the_clock_was_set_back() {
    let (mut lanes, endpoint) = with_an_open_breaker(0);
    let earlier = NOW.minus(Duration::from_mins(15));
    lanes.note_stored(endpoint.id, endpoint.account, earlier);
    assert_eq!(lanes.next_claim_at(), Some(after(30_000)));
    lanes.look_again(&lanes.not_simply_well(), earlier);
    assert_eq!(lanes.next_claim_at(), Some(earlier));
    assert_eq!(claim(&mut lanes, &endpoint, &[1], earlier), 1);
    assert!(lanes.next(earlier).is_some());
}

#[test]
fn many_alarms_that_are_due_at_once_are_handled_in_steps() {
    let mut lanes = lanes(2_000, 10);
    for number in 0..600 {
        let rate = RatePerSecond::new(1).ok();
        let endpoint = Endpoint { rate, ..an_endpoint(&account(number), number) };
        assert!(offer(&mut lanes, &endpoint, 1) && offer(&mut lanes, &endpoint, 2));
    }
    assert_eq!(start_all(&mut lanes, NOW).len(), 600);
    let mut woken = Vec::new();
    while lanes.next_alarm_at().is_some_and(|at| at <= after(1_000)) {
        lanes.wake(after(1_000));
        woken.push(start_all(&mut lanes, after(1_000)).len());
    }
    assert_eq!(woken, [256, 256, 88]);
}

#[test]
fn breakers_and_pauses_are_counted_until_they_end() {
    let (mut lanes, endpoint) = with_an_open_breaker(0);
    let counts = |lanes: &Lanes, now| {
        let view = lanes.view_all(now);
        (view.breakers_open, view.breakers_half_open, view.lanes_paused)
    };
    assert_eq!(counts(&lanes, NOW), (1, 0, 0));
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    let mut now = after(30_000);
    claim(&mut lanes, &endpoint, &[1], now);
    let (_, probe) = lanes.next(now).unwrap();
    assert_eq!(counts(&lanes, now), (0, 1, 0));
    lanes.finish(&probe, Some(&ended(429)), now);
    assert_eq!(counts(&lanes, now), (0, 1, 1));
    now = after(31_000);
    assert_eq!(counts(&lanes, now), (0, 1, 0));
    for number in 2..5 {
        claim(&mut lanes, &endpoint, &[number], now);
        lanes.wake(now);
        let (_, probe) = lanes.next(now).unwrap();
        lanes.finish(&probe, Some(&ended(200)), now);
        now = now.plus(Duration::from_secs(2));
    }
    assert_eq!(counts(&lanes, now), (0, 0, 0));
}
