use std::sync::Arc;

use bytes::Bytes;
use domain::account::Account;
use domain::contract::Contract;
use domain::event::EventType;
use domain::id::{DeliveryId, EventId};
use domain::testing::{an_account, an_endpoint};
use proptest::prelude::*;
use store::queue::{Lease, Payload, SessionId};

use super::*;

const NOW: Timestamp = Timestamp::from_seconds(1_000);

fn claimed(endpoint: &Endpoint, number: u128, bytes: usize) -> Claimed {
    Claimed {
        lease: Lease { session: SessionId(1), delivery: DeliveryId::from_u128(number), fence: 1 },
        account: endpoint.account,
        endpoint: endpoint.id,
        attempts: 0,
        lost_claims: 0,
        owed_since: NOW,
        is_ordered: false,
        is_replay: false,
        payload: Arc::new(Payload {
            event: EventId::from_u128(number),
            event_type: EventType::parse("a").unwrap(),
            trace: None,
            body: Bytes::from(vec![0; bytes]),
        }),
    }
}

fn lanes(in_flight_max: usize, in_flight_per_endpoint_max: usize) -> Lanes {
    Lanes::new(LaneLimits { in_flight_max, in_flight_per_endpoint_max })
}

fn offer(lanes: &mut Lanes, endpoint: &Endpoint, number: u128) -> bool {
    let Some(reserved) = lanes.reserve(endpoint, 10, NOW) else { return false };
    lanes.offer(claimed(endpoint, number, 10), reserved);
    true
}

fn account(number: u64) -> Account {
    an_account(Contract::Standard, number)
}

#[test]
fn accounts_take_turns_and_so_do_their_endpoints() {
    let mut lanes = lanes(100, 100);
    let (busy, quiet) = (account(1), account(2));
    let (first, second) = (an_endpoint(&busy, 11), an_endpoint(&busy, 12));
    let other = an_endpoint(&quiet, 21);
    for number in 0..50 {
        assert!(offer(&mut lanes, &first, number));
    }
    assert!(offer(&mut lanes, &second, 100));
    assert!(offer(&mut lanes, &other, 200));
    let started: Vec<_> = (0..4).map(|_| lanes.next().unwrap().lease.delivery.as_u128()).collect();
    assert_eq!(started, [0, 200, 100, 1]);
}

#[test]
fn an_endpoint_at_its_limit_does_not_hold_up_its_neighbours() {
    let mut lanes = lanes(100, 2);
    let account = account(1);
    let (hanging, healthy) = (an_endpoint(&account, 11), an_endpoint(&account, 12));
    for number in 0..10 {
        offer(&mut lanes, &hanging, number);
    }
    for number in 100..103 {
        offer(&mut lanes, &healthy, number);
    }
    let mut started: Vec<_> = std::iter::from_fn(|| lanes.next()).collect();
    assert_eq!(started.iter().filter(|one| one.endpoint == hanging.id).count(), 2);
    assert_eq!(started.iter().filter(|one| one.endpoint == healthy.id).count(), 2);
    let done = started.pop().unwrap();
    lanes.finish(done.endpoint, done.account, done.payload.body.len());
    assert_eq!(lanes.next().unwrap().endpoint, done.endpoint);
}

#[test]
fn new_deliveries_do_not_overtake_what_waits_in_storage() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    let rooms = lanes.begin_claim(NOW);
    assert_eq!(rooms.len(), 1);
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    lanes.end_claim(LaneClaim {
        endpoint: endpoint.id,
        claimed: vec![claimed(&endpoint, 1, 10)],
        next_due_at: None,
    });
    assert!(lanes.reserve(&endpoint, 10, NOW).is_some());
}

#[test]
fn what_is_stored_while_a_claim_is_under_way_is_claimed_next() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    assert_eq!(lanes.next_claim_at(), None);
    lanes.end_claim(LaneClaim { endpoint: endpoint.id, claimed: vec![], next_due_at: None });
    assert_eq!(lanes.next_claim_at(), Some(NOW));

    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    lanes.park(endpoint.id);
    assert_eq!(lanes.next_claim_at(), Some(NOW));
}

#[test]
fn an_idle_lane_takes_no_memory() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    offer(&mut lanes, &endpoint, 1);
    let done = lanes.next().unwrap();
    lanes.finish(done.endpoint, done.account, 10);
    assert_nothing_held(&lanes);
    let reserved = lanes.reserve(&endpoint, 10, NOW).unwrap();
    lanes.unreserve(reserved);
    assert_nothing_held(&lanes);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    lanes.begin_claim(NOW);
    lanes.park(endpoint.id);
    assert_nothing_held(&lanes);
}

fn assert_nothing_held(lanes: &Lanes) {
    assert_eq!((lanes.len(), lanes.in_all), (0, Held::default()));
    assert!(lanes.by_account.is_empty());
}

#[test]
fn one_account_holds_at_most_half_of_the_slots_and_there_is_always_one_for_the_next() {
    let mut lanes = lanes(64, 64);
    let (hanging, others) = (account(1), [account(2), account(3), account(4)]);
    for number in 0..10 {
        let endpoint = an_endpoint(&hanging, 10 + number);
        for job in 0..20 {
            offer(&mut lanes, &endpoint, u128::from(number * 100 + job));
        }
    }
    assert_eq!(std::iter::from_fn(|| lanes.next()).count(), 32);
    for other in others {
        let endpoint = an_endpoint(&other, 100 + other.id.as_u128() as u64);
        assert!(offer(&mut lanes, &endpoint, 5_000));
        assert_eq!(lanes.next().unwrap().account, other.id);
    }
}

#[test]
fn one_account_holds_at_most_half_of_the_memory() {
    let mut lanes = lanes(512, 32);
    let (busy, quiet) = (account(1), account(2));
    let mut held = 0;
    for number in 0..40 {
        let endpoint = an_endpoint(&busy, 10 + number);
        for job in 0..1_000 {
            held += usize::from(offer(&mut lanes, &endpoint, u128::from(number * 1_000 + job)));
        }
    }
    assert_eq!(held, JOBS_MAX / 2);
    assert!(offer(&mut lanes, &an_endpoint(&quiet, 100), 1));
    let large = an_endpoint(&quiet, 101);
    assert!(lanes.reserve(&large, BYTES_MAX, NOW).is_none());
}

#[test]
fn accounts_without_room_do_not_stand_before_those_with_room() {
    let mut lanes = lanes(512, 32);
    let (busy, quiet) = (account(1), account(2));
    let mut number = 0;
    while offer(&mut lanes, &an_endpoint(&busy, 10 + number / 1_000), u128::from(number)) {
        number += 1;
    }
    for endpoint in 1_000..3_000 {
        let endpoint = an_endpoint(&busy, endpoint);
        lanes.note_stored(endpoint.id, busy.id, Timestamp::from_seconds(1));
    }
    assert!(lanes.begin_claim(NOW).is_empty());
    let waiting = an_endpoint(&quiet, 5_000);
    lanes.note_stored(waiting.id, quiet.id, NOW);
    let rooms = lanes.begin_claim(NOW);
    assert_eq!(rooms.len(), 1);
    assert_eq!(rooms[0].1, quiet.id);
}

#[test]
fn one_claim_serves_many_lanes_and_accounts_take_turns() {
    let mut lanes = lanes(512, 32);
    let (many, few) = (account(1), account(2));
    for number in 0..1_000 {
        lanes.note_stored(an_endpoint(&many, 10 + number).id, many.id, Timestamp::from_seconds(1));
    }
    for number in 0..3 {
        lanes.note_stored(an_endpoint(&few, 5_000 + number).id, few.id, NOW);
    }
    let rooms = lanes.begin_claim(NOW);
    assert_eq!(rooms.len(), CLAIM_MAX);
    assert_eq!(rooms.iter().filter(|(_, account)| *account == few.id).count(), 3);
    assert!(rooms.iter().map(|(room, _)| room.room).sum::<usize>() <= CLAIM_MAX);
}

/// One step of a random life of the lanes.
#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    Start,
    Finish(usize),
    Retry(usize),
    Claim,
    EndClaim(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6_usize).prop_map(Step::Publish),
        Just(Step::Start),
        (0..20_usize).prop_map(Step::Finish),
        (0..20_usize).prop_map(Step::Retry),
        Just(Step::Claim),
        ((0..6_usize), (0..3_usize)).prop_map(|(at, left)| Step::EndClaim(at, left)),
    ]
}

proptest! {
    /// A model of storage beside the lanes: whatever happens, once everything has settled nothing
    /// is left behind, no limit was ever passed, and nothing was started twice.
    #[test]
    fn nothing_is_lost_started_twice_or_over_a_limit(
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let mut lanes = lanes(5, 2);
        let accounts = [account(1), account(2), account(3)];
        let endpoints: Vec<Endpoint> =
            (0..6_u64).map(|at| an_endpoint(&accounts[(at % 3) as usize], 10 + at)).collect();
        let mut stored: Vec<Vec<u128>> = vec![Vec::new(); 6];
        let mut claiming: Vec<(usize, usize)> = Vec::new();
        let mut on_its_way: Vec<Claimed> = Vec::new();
        let mut finished = 0_usize;
        let mut published = 0_u128;
        let settle = [Step::Claim, Step::EndClaim(0, 0), Step::Start, Step::Finish(0)];
        let ending = std::iter::repeat_n(settle, 1_000).flatten();
        for step in steps.into_iter().chain(ending) {
            match step {
                Step::Publish(at) => {
                    published += 1;
                    if !offer(&mut lanes, &endpoints[at], published) {
                        stored[at].push(published);
                        lanes.note_stored(endpoints[at].id, endpoints[at].account, NOW);
                    }
                }
                Step::Start => {
                    if let Some(started) = lanes.next() {
                        let twice = on_its_way.iter().any(|one| one.lease == started.lease);
                        prop_assert!(!twice);
                        on_its_way.push(started);
                    }
                }
                Step::Finish(at) | Step::Retry(at) if on_its_way.len() > at => {
                    let done = on_its_way.swap_remove(at);
                    lanes.finish(done.endpoint, done.account, done.payload.body.len());
                    if matches!(step, Step::Retry(_)) {
                        let of = endpoints.iter().position(|one| one.id == done.endpoint).unwrap();
                        stored[of].push(done.lease.delivery.as_u128());
                        lanes.note_stored(done.endpoint, done.account, NOW);
                    } else {
                        finished += 1;
                    }
                }
                Step::Claim => {
                    for (room, _) in lanes.begin_claim(NOW) {
                        let of = endpoints.iter().position(|one| one.id == room.endpoint).unwrap();
                        prop_assert!(claiming.iter().all(|(claiming, _)| *claiming != of));
                        claiming.push((of, room.room));
                    }
                }
                Step::EndClaim(at, most) if claiming.len() > at => {
                    let (of, room) = claiming.swap_remove(at);
                    let room = if most == 0 { room } else { room.min(most) };
                    let taken = room.min(stored[of].len());
                    let numbers: Vec<u128> = stored[of].drain(..taken).collect();
                    lanes.end_claim(LaneClaim {
                        endpoint: endpoints[of].id,
                        claimed: numbers
                            .into_iter()
                            .map(|number| claimed(&endpoints[of], number, 10))
                            .collect(),
                        next_due_at: (!stored[of].is_empty()).then_some(NOW),
                    });
                }
                Step::Finish(_) | Step::Retry(_) | Step::EndClaim(..) => {}
            }
            prop_assert!(on_its_way.len() <= 5);
            prop_assert_eq!(lanes.in_flight(), on_its_way.len());
            for endpoint in &endpoints {
                let to_it = on_its_way.iter().filter(|one| one.endpoint == endpoint.id).count();
                prop_assert!(to_it <= 2);
            }
        }
        prop_assert_eq!(finished as u128, published);
        assert_nothing_held(&lanes);
    }
}
