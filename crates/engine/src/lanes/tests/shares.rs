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
        lanes.empty_lane(endpoint.id);
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
        lanes.empty_lane(endpoint.id);
    }
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, endpoints[19].id);
}
