use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use domain::account::Account;
use domain::contract::Contract;
use domain::event::EventType;
use domain::id::{DeliveryId, EventId};
use domain::testing::{an_account, an_endpoint};
use proptest::prelude::*;
use store::queue::{LaneClaim, Lease, Payload, SessionId};

use super::*;

mod shares;
mod standing;

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

fn lanes(in_all: usize, per_endpoint: usize) -> Lanes {
    Lanes::new(LaneLimits { in_all, per_endpoint, per_host: 10 * in_all })
}

/// Starts whatever may start now.
fn start_all(lanes: &mut Lanes, now: Timestamp) -> Vec<(Claimed, Ticket)> {
    std::iter::from_fn(|| lanes.next(now)).collect()
}

/// How an attempt ended that took 100 ms.
fn ended(status: u16) -> Ended {
    Ended {
        outcome: Outcome::Answered { status, retry_after: None },
        took: Duration::from_millis(100),
        chance: Chance::from_bits(1 << 63),
    }
}

fn offer(lanes: &mut Lanes, endpoint: &Endpoint, number: u128) -> bool {
    let Some(reserved) = lanes.reserve(endpoint, 10, NOW) else { return false };
    lanes.offer(claimed(endpoint, number, 10), reserved, NOW);
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
    let started: Vec<_> =
        (0..4).map(|_| lanes.next(NOW).unwrap().0.lease.delivery.as_u128()).collect();
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
    let mut started = start_all(&mut lanes, NOW);
    assert_eq!(started.iter().filter(|(one, _)| one.endpoint == hanging.id).count(), 2);
    assert_eq!(started.iter().filter(|(one, _)| one.endpoint == healthy.id).count(), 2);
    let (done, ticket) = started.pop().unwrap();
    lanes.finish(&ticket, Some(&ended(200)), NOW);
    assert_eq!(lanes.next(NOW).unwrap().0.endpoint, done.endpoint);
}

#[test]
fn new_deliveries_do_not_overtake_what_waits_in_storage() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    lanes.note_first_stored(endpoint.id, endpoint.account, NOW, NOW);
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    let rooms = lanes.begin_claim(NOW);
    assert_eq!(rooms.len(), 1);
    assert!(lanes.reserve(&endpoint, 10, NOW).is_none());
    lanes.end_claim(
        LaneClaim {
            endpoint: endpoint.id,
            claimed: vec![claimed(&endpoint, 1, 10)],
            next_due_at: None,
        },
        NOW,
    );
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
    lanes.end_claim(LaneClaim { endpoint: endpoint.id, claimed: vec![], next_due_at: None }, NOW);
    assert_eq!(lanes.next_claim_at(), Some(NOW));

    assert_eq!(lanes.begin_claim(NOW).len(), 1);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    lanes.park(endpoint.id, NOW);
    assert_eq!(lanes.next_claim_at(), Some(NOW));
}

#[test]
fn an_idle_lane_takes_no_memory() {
    let mut lanes = lanes(10, 10);
    let endpoint = an_endpoint(&account(1), 11);
    offer(&mut lanes, &endpoint, 1);
    let (_, ticket) = lanes.next(NOW).unwrap();
    lanes.finish(&ticket, Some(&ended(200)), NOW);
    assert_nothing_held(&lanes);
    let reserved = lanes.reserve(&endpoint, 10, NOW).unwrap();
    lanes.unreserve(reserved, NOW);
    assert_nothing_held(&lanes);
    lanes.note_stored(endpoint.id, endpoint.account, NOW);
    lanes.begin_claim(NOW);
    lanes.park(endpoint.id, NOW);
    assert_nothing_held(&lanes);
}

fn assert_nothing_held(lanes: &Lanes) {
    assert_eq!((lanes.by_endpoint.len(), lanes.in_all), (0, Held::default()));
    assert!(lanes.by_account.is_empty() && lanes.stored.is_empty());
    assert!(lanes.hosts.is_empty());
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
    let held = start_all(&mut lanes, NOW).len();
    assert!((29..=32).contains(&held), "{held}");
    for other in others {
        let endpoint = an_endpoint(&other, 100 + other.id.as_u128() as u64);
        assert!(offer(&mut lanes, &endpoint, 5_000));
        assert_eq!(lanes.next(NOW).unwrap().0.account, other.id);
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
    assert!(held <= JOBS_MAX / 2 && held > JOBS_MAX * 49 / 100, "{held}");
    assert!(offer(&mut lanes, &an_endpoint(&quiet, 100), 1));
    let large = an_endpoint(&quiet, 101);
    assert!(lanes.reserve(&large, BYTES_MAX, NOW).is_none());
}

#[test]
fn accounts_without_room_do_not_stand_before_those_with_room() {
    let mut lanes = lanes(512, 32);
    let (busy, quiet) = (account(1), account(2));
    let (mut endpoint, mut number) = (10, 0);
    while offer(&mut lanes, &an_endpoint(&busy, endpoint), number) {
        while offer(&mut lanes, &an_endpoint(&busy, endpoint), number) {
            number += 1;
        }
        endpoint += 1;
    }
    assert!(endpoint > 30, "many a lane had room");
    assert_eq!(lanes.in_all.jobs, JOBS_MAX / 2);
    for endpoint in 10_000..12_000 {
        let endpoint = an_endpoint(&busy, endpoint);
        lanes.note_stored(endpoint.id, busy.id, Timestamp::from_seconds(1));
    }
    assert!(lanes.begin_claim(NOW).is_empty());
    let waiting = an_endpoint(&quiet, 50_000);
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
    assert_eq!(rooms.len(), claims::CLAIM_MAX);
    assert_eq!(rooms.iter().filter(|(_, account)| *account == few.id).count(), 3);
    assert!(rooms.iter().map(|(room, _)| room.room).sum::<usize>() <= claims::CLAIM_MAX);
}

/// One step of a random life of the lanes.
#[derive(Clone, Copy, Debug)]
enum Step {
    Publish(usize),
    Start,
    Finish(usize, u16),
    Claim,
    EndClaim(usize, usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let status = prop_oneof![3 => Just(200_u16), 6 => Just(500), 1 => Just(429)];
    prop_oneof![
        3 => (0..6_usize).prop_map(Step::Publish),
        3 => Just(Step::Start),
        3 => ((0..20_usize), status).prop_map(|(at, status)| Step::Finish(at, status)),
        1 => Just(Step::Claim),
        1 => ((0..6_usize), (0..3_usize)).prop_map(|(at, left)| Step::EndClaim(at, left)),
        1 => (1..40_000_u64).prop_map(Step::Wait),
    ]
}

/// Lanes, storage beside them, and what is on its way.
struct Model {
    limits: LaneLimits,
    lanes: Lanes,
    /// What is tried again from now on.
    failed: HashSet<u128>,
    now: Timestamp,
    endpoints: Vec<Endpoint>,
    stored: Vec<Vec<u128>>,
    claiming: Vec<(usize, usize)>,
    on_its_way: Vec<(Claimed, Ticket)>,
    published: u128,
    finished: u128,
}

impl Model {
    /// Six endpoints of three accounts, all at one host; one has a rate of its own.
    fn new(limits: LaneLimits) -> Self {
        let accounts = [account(1), account(2), account(3)];
        let mut endpoints: Vec<Endpoint> =
            (0..6_u64).map(|at| an_endpoint(&accounts[(at % 3) as usize], 10 + at)).collect();
        endpoints[5].rate = Some(domain::endpoint::RatePerSecond::new(2).unwrap());
        Self {
            limits,
            failed: HashSet::new(),
            lanes: Lanes::new(limits),
            now: NOW,
            endpoints,
            stored: vec![Vec::new(); 6],
            claiming: Vec::new(),
            on_its_way: Vec::new(),
            published: 0,
            finished: 0,
        }
    }

    fn place_of(&self, endpoint: EndpointId) -> usize {
        self.endpoints.iter().position(|one| one.id == endpoint).unwrap()
    }

    fn store(&mut self, at: usize, number: u128) {
        self.stored[at].push(number);
        let Endpoint { id, account, .. } = self.endpoints[at];
        if self.failed.contains(&number) {
            self.lanes.note_stored(id, account, self.now);
        } else {
            self.lanes.note_first_stored(id, account, self.now, self.now);
        }
    }

    fn start(&mut self) -> Result<(), TestCaseError> {
        let views: Vec<_> =
            self.endpoints.iter().map(|one| self.lanes.view(one.id, self.now)).collect();
        let Some((claimed, ticket)) = self.lanes.next(self.now) else { return Ok(()) };
        let view = views[self.place_of(claimed.endpoint)];
        prop_assert!(view.retry_at.is_none_or(|retry_at| retry_at <= self.now), "{view:?}");
        prop_assert!(view.paused_until.is_none_or(|until| until <= self.now), "{view:?}");
        prop_assert!(self.on_its_way.iter().all(|(one, _)| one.lease != claimed.lease));
        self.on_its_way.push((claimed, ticket));
        Ok(())
    }

    fn finish(&mut self, at: usize, status: u16) {
        let (done, ticket) = self.on_its_way.swap_remove(at);
        self.lanes.finish(&ticket, Some(&ended(status)), self.now);
        if status == 200 {
            self.finished += 1;
        } else {
            self.failed.insert(done.lease.delivery.as_u128());
            self.store(self.place_of(done.endpoint), done.lease.delivery.as_u128());
        }
    }

    fn claim(&mut self) -> Result<(), TestCaseError> {
        for (room, _) in self.lanes.begin_claim(self.now) {
            let of = self.place_of(room.endpoint);
            prop_assert!(self.claiming.iter().all(|(claiming, _)| *claiming != of));
            let view = self.lanes.view(room.endpoint, self.now);
            prop_assert!(view.breaker == BreakerState::Closed || room.room == 1);
            self.lanes.set_limits(&self.endpoints[of], self.now);
            self.claiming.push((of, room.room));
        }
        Ok(())
    }

    fn end_claim(&mut self, at: usize, most: usize) {
        let (of, room) = self.claiming.swap_remove(at);
        let room = if most == 0 { room } else { room.min(most) };
        let taken = room.min(self.stored[of].len());
        let endpoint = &self.endpoints[of];
        let numbers = self.stored[of].drain(..taken);
        let attempts = |number| u32::from(self.failed.contains(&number));
        let claimed = numbers
            .map(|number| Claimed { attempts: attempts(number), ..claimed(endpoint, number, 10) })
            .collect();
        let next_due_at = (!self.stored[of].is_empty()).then_some(self.now);
        let claim = LaneClaim { endpoint: endpoint.id, claimed, next_due_at };
        self.lanes.end_claim(claim, self.now);
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Publish(at) => {
                self.published += 1;
                let (endpoint, number) = (self.endpoints[at].clone(), self.published);
                match self.lanes.reserve(&endpoint, 10, self.now) {
                    Some(place) => {
                        self.lanes.offer(claimed(&endpoint, number, 10), place, self.now);
                    }
                    None => self.store(at, number),
                }
            }
            Step::Start => self.start()?,
            Step::Finish(at, status) if at < self.on_its_way.len() => self.finish(at, status),
            Step::Claim => self.claim()?,
            Step::EndClaim(at, most) if at < self.claiming.len() => self.end_claim(at, most),
            Step::Wait(milliseconds) => {
                self.now = self.now.plus(Duration::from_millis(milliseconds));
                self.lanes.wake(self.now);
            }
            Step::Finish(..) | Step::EndClaim(..) => {}
        }
        for returned in self.lanes.take_returned() {
            self.store(self.place_of(returned.endpoint), returned.lease.delivery.as_u128());
        }
        self.check_limits()
    }

    fn check_limits(&self) -> Result<(), TestCaseError> {
        let LaneLimits { in_all, per_endpoint, per_host } = self.limits;
        prop_assert!(self.on_its_way.len() <= in_all.min(per_host));
        prop_assert_eq!(self.lanes.in_flight(), self.on_its_way.len());
        for endpoint in &self.endpoints {
            let to_it = self.on_its_way.iter().filter(|(one, _)| one.endpoint == endpoint.id);
            prop_assert!(to_it.count() <= per_endpoint);
            let view = self.lanes.view(endpoint.id, self.now);
            prop_assert!(view.breaker == BreakerState::Closed || view.in_memory <= 1, "{view:?}");
        }
        Ok(())
    }
}

proptest! {
    /// A model of storage beside the lanes: whatever happens, once everything has settled nothing
    /// is left behind or remembered, no limit was ever passed, nothing was started twice, and
    /// nothing that a breaker or a pause forbids.
    #[test]
    fn nothing_is_lost_started_twice_or_over_a_limit(
        steps in proptest::collection::vec(step(), 1..300),
        (in_all, per_endpoint, per_host) in (1..7_usize, 1..4_usize, 1..6_usize),
    ) {
        let mut model = Model::new(LaneLimits { in_all, per_endpoint, per_host });
        for step in steps {
            model.take(step)?;
        }
        for _ in 0..1_500 {
            if model.finished == model.published && model.lanes.by_endpoint.is_empty() {
                break;
            }
            for step in [
                Step::Claim,
                Step::EndClaim(0, 0),
                Step::Start,
                Step::Finish(0, 200),
                Step::Wait(700),
            ] {
                model.take(step)?;
            }
        }
        prop_assert_eq!(model.finished, model.published);
        assert_nothing_held(&model.lanes);
        model.lanes.wake(model.now.plus(Duration::from_hours(1)));
        prop_assert!(model.lanes.standings.is_empty());
        prop_assert_eq!(model.lanes.next_alarm_at(), None);
    }
}
