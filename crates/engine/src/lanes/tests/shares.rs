//! Who gets which part of the slots: classes, hosts, lanes of one account.

use domain::target_url::TargetUrl;

use super::*;

fn retry(endpoint: &Endpoint, number: u128) -> Claimed {
    Claimed { attempts: 1, ..claimed(endpoint, number, 10) }
}

/// Brings deliveries from storage into memory, as a claim does.
fn bring(lanes: &mut Lanes, endpoint: &Endpoint, claimed: Vec<Claimed>) {
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    let rooms = lanes.begin_claim(NOW);
    assert_eq!(rooms.len(), 1);
    lanes.set_limits(endpoint, NOW);
    lanes.end_claim(LaneClaim { endpoint: endpoint.id, claimed, next_due_at: None }, NOW);
}

fn count(started: &[(Claimed, Ticket)], class: Class) -> usize {
    started.iter().filter(|(claimed, _)| Class::of(claimed) == class).count()
}

#[test]
fn replays_and_retries_are_one_class_and_first_attempts_the_other() {
    let endpoint = an_endpoint(&account(1), 11);
    let first = claimed(&endpoint, 1, 10);
    assert_eq!(Class::of(&first), Class::First);
    assert_eq!(Class::of(&retry(&endpoint, 1)), Class::Rest);
    assert_eq!(Class::of(&Claimed { is_replay: true, ..first }), Class::Rest);
}

/// First attempts of a hundred accounts, two each.
fn offer_first_attempts(lanes: &mut Lanes) {
    for number in 0..100 {
        let endpoint = an_endpoint(&account(200 + number), 200 + number);
        for job in 0..2 {
            assert!(offer(lanes, &endpoint, u128::from(1_000 + number * 10 + job)));
        }
    }
}

#[test]
fn retries_get_a_fifth_of_the_slots_while_first_attempts_wait_and_all_when_none_do() {
    let mut lanes = lanes(100, 100);
    let dead: Vec<Endpoint> =
        (0..100).map(|number| an_endpoint(&account(number), 1_000 + number)).collect();
    for endpoint in &dead {
        bring(&mut lanes, endpoint, (0..2).map(|number| retry(endpoint, number)).collect());
    }
    offer_first_attempts(&mut lanes);
    let mut started = start_all(&mut lanes, NOW);
    assert_eq!(count(&started, Class::Rest), 20);
    assert_eq!(count(&started, Class::First), 80);
    // A slot that comes free goes to the class that had it.
    for class in Class::ALL {
        let at = started.iter().position(|(one, _)| Class::of(one) == class).unwrap();
        let (_, ticket) = started.swap_remove(at);
        lanes.finish(&ticket, Some(&ended(200)), NOW);
        let next = lanes.next(NOW).unwrap();
        assert_eq!(Class::of(&next.0), class);
        started.push(next);
    }

    let mut alone = super::lanes(100, 100);
    for endpoint in &dead {
        bring(&mut alone, endpoint, (0..2).map(|number| retry(endpoint, number)).collect());
    }
    let started = start_all(&mut alone, NOW);
    assert!(count(&started, Class::Rest) >= 90, "{}", started.len());
    // First attempts that come now get what comes free, until retries have a fifth again.
    offer_first_attempts(&mut alone);
    let mut retries = started.len();
    for (_, ticket) in started {
        alone.finish(&ticket, Some(&ended(200)), NOW);
        retries -= 1;
        for (next, _) in start_all(&mut alone, NOW) {
            retries += usize::from(Class::of(&next) == Class::Rest);
            assert!(Class::of(&next) == Class::First || retries <= 20, "{retries}");
        }
    }
}

#[test]
fn an_accounts_own_retries_leave_room_for_its_first_attempts() {
    let mut lanes = lanes(100, 100);
    let account = account(1);
    for number in 0..10 {
        let dead = an_endpoint(&account, 11 + number);
        bring(&mut lanes, &dead, (0..20).map(|number| retry(&dead, number)).collect());
    }
    assert!(start_all(&mut lanes, NOW).len() >= 45);
    let live = an_endpoint(&account, 100);
    assert!(offer(&mut lanes, &live, 1_000));
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, live.id);
}

#[test]
fn when_eight_endpoints_of_an_account_hang_the_next_finds_a_slot() {
    let mut lanes = lanes(512, 32);
    let account = account(1);
    for number in 0..8 {
        let hanging = an_endpoint(&account, 100 + number);
        for job in 0..40 {
            offer(&mut lanes, &hanging, u128::from(number * 1_000 + job));
        }
    }
    assert!(start_all(&mut lanes, NOW).len() > 200);
    let healthy = an_endpoint(&account, 10_000);
    assert!(offer(&mut lanes, &healthy, 1_000_000));
    assert_eq!(lanes.next(NOW).expect("a slot").0.endpoint, healthy.id);
}

fn at_host(account: &Account, number: u64, host: &str) -> Endpoint {
    let url = TargetUrl::from_stored(&format!("https://{host}/{number}")).unwrap();
    Endpoint { url, ..an_endpoint(account, number) }
}

fn lanes_with_host_limit(per_host: usize) -> Lanes {
    Lanes::new(LaneLimits { in_all: 512, per_endpoint: 32, per_host })
}

#[test]
fn one_host_and_port_gets_no_more_than_its_limit_over_all_accounts() {
    let mut lanes = lanes_with_host_limit(8);
    for number in 0..30 {
        let endpoint = at_host(&account(number), number, "shared.example.com");
        for job in 0..5 {
            offer(&mut lanes, &endpoint, u128::from(number * 10 + job));
        }
    }
    let elsewhere = at_host(&account(40), 40, "shared.example.com:8443");
    offer(&mut lanes, &elsewhere, 1_000);
    let mut started = start_all(&mut lanes, NOW);
    assert_eq!(started.len(), 9);
    assert!(started.iter().any(|(claimed, _)| claimed.endpoint == elsewhere.id), "another port");
    started.retain(|(claimed, _)| claimed.endpoint != elsewhere.id);
    // Whoever waits is served in turn: each of the thirty before anyone's third.
    let mut served: HashMap<EndpointId, usize> = HashMap::new();
    while !started.is_empty() {
        let (claimed, ticket) = started.remove(0);
        *served.entry(claimed.endpoint).or_default() += 1;
        let (most, least) = (served.values().max().unwrap(), served.values().min().unwrap());
        assert!(served.len() == 30 || *most <= 2, "{served:?}");
        assert!(served.len() < 30 || most - least <= 2, "{served:?}");
        lanes.finish(&ticket, Some(&ended(200)), NOW);
        started.extend(start_all(&mut lanes, NOW));
        assert!(started.len() <= 8);
    }
    assert!(served.len() == 30 && served.values().all(|count| *count == 5), "{served:?}");
}

#[test]
fn endpoints_that_hang_leave_room_at_their_host_for_the_next() {
    let mut lanes = lanes_with_host_limit(64);
    for number in 0..4 {
        let hanging = at_host(&account(number), number, "shared.example.com");
        for job in 0..40 {
            offer(&mut lanes, &hanging, u128::from(number * 100 + job));
        }
        start_all(&mut lanes, NOW);
    }
    let healthy = at_host(&account(9), 9, "shared.example.com");
    offer(&mut lanes, &healthy, 1_000);
    assert_eq!(lanes.next(NOW).expect("a slot").0.endpoint, healthy.id);
}

#[test]
fn who_waits_for_a_host_is_not_forgotten_when_the_one_before_it_goes_away() {
    let mut lanes = lanes_with_host_limit(1);
    let endpoints: Vec<Endpoint> =
        (0..20).map(|number| at_host(&account(number), number, "shared.example.com")).collect();
    for (number, endpoint) in endpoints.iter().enumerate() {
        offer(&mut lanes, endpoint, number as u128);
    }
    let (_, ticket) = lanes.next(NOW).unwrap();
    assert!(lanes.next(NOW).is_none());
    for endpoint in &endpoints[1..19] {
        lanes.empty_lane(endpoint.id, NOW);
    }
    lanes.finish(&ticket, Some(&ended(200)), NOW);
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, endpoints[19].id);
}

#[test]
fn who_waits_for_a_host_is_not_forgotten_when_those_admitted_before_it_have_nothing_to_start() {
    let mut lanes = lanes_with_host_limit(1);
    let endpoints: Vec<Endpoint> =
        (0..20).map(|number| at_host(&account(number), number, "shared.example.com")).collect();
    for (number, endpoint) in endpoints.iter().enumerate() {
        offer(&mut lanes, endpoint, number as u128);
    }
    let (_, ticket) = lanes.next(NOW).unwrap();
    assert!(lanes.next(NOW).is_none());
    lanes.finish(&ticket, Some(&ended(200)), NOW);
    for endpoint in &endpoints[1..19] {
        lanes.empty_lane(endpoint.id, NOW);
    }
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, endpoints[19].id);
}

/// Endpoints of ten accounts at one host, with twenty retries each in memory.
fn with_retries_at_one_host(lanes: &mut Lanes) {
    for number in 0..10 {
        let endpoint = at_host(&account(number), number, "shared.example.com");
        bring(lanes, &endpoint, (0..20).map(|number| retry(&endpoint, number)).collect());
    }
}

/// Ends one after the other and starts what may start then; answers the most retries there were on
/// their way whenever one more of them started.
fn retries_when_one_starts(lanes: &mut Lanes, started: Vec<(Claimed, Ticket)>) -> usize {
    let (mut retries, mut most) = (count(&started, Class::Rest), 0);
    let mut line: VecDeque<_> = started.into();
    for _ in 0..100 {
        let (done, ticket) = line.pop_front().unwrap();
        lanes.finish(&ticket, Some(&ended(200)), NOW);
        retries -= usize::from(Class::of(&done) == Class::Rest);
        for next in start_all(lanes, NOW) {
            if Class::of(&next.0) == Class::Rest {
                retries += 1;
                most = most.max(retries);
            }
            line.push_back(next);
        }
    }
    most
}

#[test]
fn retries_get_a_fifth_of_an_endpoints_slots_while_its_first_attempts_wait() {
    let mut lanes = lanes(512, 32);
    let endpoint = an_endpoint(&account(1), 11);
    bring(&mut lanes, &endpoint, (0..100).map(|number| retry(&endpoint, number)).collect());
    let alone = start_all(&mut lanes, NOW);
    assert_eq!(count(&alone, Class::Rest), 32, "all, when no first attempt waits");
    for number in 0..200 {
        assert!(offer(&mut lanes, &endpoint, 1_000 + number));
    }
    assert_eq!(retries_when_one_starts(&mut lanes, alone), 6);
}

#[test]
fn retries_get_a_fifth_of_a_hosts_slots_while_a_first_attempt_waits_for_it() {
    let mut lanes = lanes_with_host_limit(64);
    with_retries_at_one_host(&mut lanes);
    let alone = start_all(&mut lanes, NOW);
    assert!(count(&alone, Class::Rest) > 55, "{}", alone.len());
    for number in 20..30 {
        let endpoint = at_host(&account(number), number, "shared.example.com");
        for job in 0..30 {
            offer(&mut lanes, &endpoint, u128::from(number * 100 + job));
        }
    }
    assert_eq!(retries_when_one_starts(&mut lanes, alone), 12);
}

#[test]
fn when_no_first_attempt_wants_a_hosts_slots_any_more_retries_get_them_all() {
    let mut lanes = lanes_with_host_limit(64);
    let fresh = at_host(&account(20), 20, "shared.example.com");
    for number in 0..4 {
        offer(&mut lanes, &fresh, number);
    }
    with_retries_at_one_host(&mut lanes);
    let started = start_all(&mut lanes, NOW);
    assert_eq!(count(&started, Class::First), 4);
    assert!(count(&started, Class::Rest) > 40, "{}", started.len());
}

#[test]
fn first_attempts_and_the_rest_take_turns_at_a_single_slot() {
    let limits = [
        LaneLimits { in_all: 1, per_endpoint: 32, per_host: 64 },
        LaneLimits { in_all: 512, per_endpoint: 1, per_host: 64 },
        LaneLimits { in_all: 512, per_endpoint: 32, per_host: 1 },
    ];
    for limits in limits {
        let mut lanes = Lanes::new(limits);
        let endpoint = an_endpoint(&account(1), 11);
        bring(&mut lanes, &endpoint, (0..10).map(|number| retry(&endpoint, number)).collect());
        for number in 100..110 {
            offer(&mut lanes, &endpoint, number);
        }
        let mut classes = Vec::new();
        while let Some((claimed, ticket)) = lanes.next(NOW) {
            assert!(lanes.next(NOW).is_none(), "{limits:?}");
            classes.push(Class::of(&claimed));
            lanes.finish(&ticket, Some(&ended(200)), NOW);
        }
        assert_eq!(classes, [Class::Rest, Class::First].repeat(10), "{limits:?}");
    }
}

#[test]
fn a_fresh_delivery_overtakes_retries_in_storage_and_no_first_attempts() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    let end = |lanes: &mut Lanes, next_due_at| {
        let claim = LaneClaim { endpoint: endpoint.id, claimed: vec![], next_due_at };
        lanes.end_claim(claim, NOW);
    };
    let earlier = NOW.minus(Duration::from_secs(1));
    lanes.note_stored(endpoint.id, endpoint.account, earlier);
    assert!(offer(&mut lanes, &endpoint, 1));
    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    assert!(offer(&mut lanes, &endpoint, 2), "while retries are claimed");
    lanes.note_first_stored(endpoint.id, endpoint.account, NOW, NOW);
    assert!(!offer(&mut lanes, &endpoint, 3));
    end(&mut lanes, None);
    assert!(!offer(&mut lanes, &endpoint, 3), "it was stored after the claim began");
    for (next_due_at, may_overtake) in [
        (Some(earlier), false),
        (Some(NOW), false),
        (Some(NOW.plus(Duration::from_millis(1))), true),
    ] {
        lanes.begin_claim(NOW);
        end(&mut lanes, next_due_at);
        assert_eq!(offer(&mut lanes, &endpoint, 4), may_overtake, "{next_due_at:?}");
    }
    let scheduled = NOW.plus(Duration::from_hours(1));
    lanes.note_first_stored(endpoint.id, endpoint.account, scheduled, NOW);
    assert!(offer(&mut lanes, &endpoint, 5));
}

#[test]
fn retries_are_claimed_however_many_first_attempts_wait_in_memory() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    for number in 0..1_000 {
        assert!(offer(&mut lanes, &endpoint, number));
    }
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.begin_claim(NOW).len(), 1);
}

#[test]
fn who_is_admitted_to_a_host_and_has_no_room_at_its_account_does_not_hold_up_the_next() {
    let mut lanes = Lanes::new(LaneLimits { in_all: 8, per_endpoint: 8, per_host: 1 });
    let (full, shared) = (account(1), "shared.example.com");
    let (holder, next) = (at_host(&account(9), 9, shared), at_host(&account(2), 2, shared));
    offer(&mut lanes, &holder, 1);
    let (_, held) = lanes.next(NOW).unwrap();
    for number in 50..54 {
        offer(&mut lanes, &at_host(&full, number, shared), 1);
    }
    offer(&mut lanes, &next, 1);
    assert!(lanes.next(NOW).is_none(), "the host is full");
    for number in 30..40 {
        offer(&mut lanes, &at_host(&full, number, &format!("{number}.example.com")), 1);
    }
    assert_eq!(start_all(&mut lanes, NOW).len(), 4, "as many as are free then");
    lanes.finish(&held, Some(&ended(200)), NOW);
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, next.id);
}

#[test]
fn nothing_comes_into_memory_once_nothing_starts_any_more() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    let place = lanes.reserve(&endpoint, 10, NOW).unwrap();
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    lanes.halt();
    assert!(lanes.has_unstarted());
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    lanes.offer(claimed(&endpoint, 1, 10), place, NOW);
    let two = vec![claimed(&endpoint, 2, 10), retry(&endpoint, 3)];
    lanes.end_claim(LaneClaim { endpoint: endpoint.id, claimed: two, next_due_at: None }, NOW);
    assert_eq!(lanes.take_returned().len(), 3);
    assert!(!lanes.has_unstarted());
    assert_nothing_held(&lanes);
}
