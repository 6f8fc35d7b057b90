//! The verdict on one run: what storage says, what receivers saw and what publishers were told,
//! held against the promises.
//!
//! Promise: it reads storage as any reader would, and believes nobody: whatever the three disagree
//! about is a broken promise, unless something failed that explains it. Neighbours: the auditor of
//! `testkit` judges what can be judged from outside; what is here needs to look inside.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use domain::attempt::{Attempt, Outcome};
use domain::audit::{CHAIN_START, link};
use domain::delivery::{Delivery, DeliveryState, EndReason, StateName};
use domain::id::EventId;
use domain::matching::NoDelivery;
use domain::ordering::{DeliveryOrder, OrderingKey};
use domain::page::{Page, PageRequest};
use domain::retry::{DELIVERY_AGE_MAX, RETRY_AFTER_MAX};
use domain::time::Timestamp;
use store::StoreError;
use store::audit::Audit as _;
use store::history::{DeliveryFilter, EventDetail, EventFilter, EventWithData, History as _};
use store::memory::MemoryStore;
use testkit::auditor::{Auditor, Bounds, Receipt, Tally, Told, digest, judge_counts};

use super::ledger::{Ledger, Slot, Standing};
use super::receiver::Received;
use super::trace::Sometimes;
use super::world::World;

/// How long a node may work on what it no longer holds: a claim, a stall of storage, an attempt.
const WORKED_ON: Duration = Duration::from_mins(5);

/// The output of a future that is ready at once, as those of the memory store are.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

fn read<T>(answer: impl Future<Output = Result<T, StoreError>>) -> T {
    at_once(answer).expect("the memory store can always be read")
}

/// All rows, oldest first.
fn all<T>(list: impl Fn(PageRequest) -> Page<T>) -> Vec<T> {
    let mut rows = Vec::new();
    let mut page = PageRequest::LARGEST;
    loop {
        let found = list(page);
        rows.extend(found.items);
        match found.next_before {
            Some(before) => page.before = Some(before),
            None => break,
        }
    }
    rows.reverse();
    rows
}

/// Everything that is judged.
struct Case<'a> {
    world: &'a World,
    ledger: &'a Ledger,
    memory: &'a MemoryStore,
    deliveries: Vec<Delivery>,
    events: Vec<EventWithData>,
    received: &'a [Received],
    /// What was answered 2xx: `webhook-id` and path.
    heard: BTreeSet<(String, &'a str)>,
}

/// Judges the run; broken promises are noted in the world.
pub(super) fn judge(world: &World) -> Tally {
    let memory = world.memory();
    let ledger = world.ledger();
    let receivers = world.receivers();
    let case = Case {
        world,
        ledger: &ledger,
        memory: &memory,
        deliveries: all(|page| read(memory.list_deliveries(DeliveryFilter::default(), page))),
        events: all(|page| read(memory.list_events(EventFilter::default(), page))),
        received: &receivers.requests,
        heard: receivers
            .requests
            .iter()
            .filter(|it| it.request.succeeded())
            .filter_map(|it| {
                Some((it.request.header("webhook-id")?.to_owned(), it.request.path.as_str()))
            })
            .collect(),
    };
    case.check_balance();
    case.check_audit_log();
    case.check_publishes();
    for delivery in &case.deliveries {
        case.check_delivery(delivery);
    }
    case.check_duplicates();
    case.audit()
}

impl Case<'_> {
    fn broken(&self, what: std::fmt::Arguments<'_>) {
        self.world.violation(what);
    }

    /// Accepted = delivered + exhausted + cancelled + pending, counted and recounted.
    fn check_balance(&self) {
        let counts = read(self.memory.counts());
        if let Err(violation) = judge_counts(counts) {
            self.broken(format_args!("{violation:?}"));
        }
        let count = |name: StateName| {
            self.deliveries.iter().filter(|delivery| delivery.state.name() == name).count() as u64
        };
        let recounted = StateName::ALL.map(count);
        let kept = [counts.pending, counts.delivered, counts.exhausted, counts.cancelled];
        if recounted != kept {
            self.broken(format_args!("counted {kept:?}, there are {recounted:?}"));
        }
        if counts.pending > 0 {
            self.broken(format_args!("{} deliveries never ended", counts.pending));
        }
    }

    fn check_audit_log(&self) {
        let mut previous = CHAIN_START;
        for entry in read(self.memory.read_audit(0, usize::MAX)) {
            if entry.hash != link(&previous, entry.number, &entry.note) {
                self.broken(format_args!("audit entry {} is not linked", entry.number));
            }
            previous = entry.hash;
        }
    }

    /// What was acknowledged is there, once, with the deliveries that were told.
    fn check_publishes(&self) {
        let mut made: BTreeMap<&[u8], u32> = BTreeMap::new();
        for event in &self.events {
            if let Some(data) = &event.data {
                *made.entry(data).or_default() += 1;
            }
        }
        for (place, wanted) in self.ledger.wanted.iter().enumerate() {
            if made.get(&*wanted.data).is_some_and(|times| *times > 1) {
                self.broken(format_args!("publish {place} became several events"));
            }
            let Standing::Acknowledged { event, deliveries } = wanted.standing else { continue };
            let Some(detail) = read(self.memory.read_event(event)) else {
                self.broken(format_args!("publish {place} was acknowledged, {event} is not there"));
                continue;
            };
            self.check_owed(event, deliveries, &detail);
            for slot in &wanted.owed {
                let slot = &self.ledger.slots[*slot];
                if !detail.deliveries.iter().any(|it| Some(it.endpoint) == slot.id) {
                    self.broken(format_args!("{event} is not owed to {}", slot.path()));
                }
            }
            for slot in wanted.not_owed.iter().map(|slot| &self.ledger.slots[*slot]) {
                let is_owed = detail.deliveries.iter().any(|it| Some(it.endpoint) == slot.id);
                if is_owed && !self.was_replayed(event, slot) {
                    self.broken(format_args!("{event} is owed to {}, disabled", slot.path()));
                }
            }
        }
    }

    fn check_owed(&self, event: EventId, told: u32, detail: &EventDetail) {
        if detail.not_made.iter().any(|(_, why)| *why == NoDelivery::Disabled) {
            self.world.count(Sometimes::DeliveryMissedByDisabled);
        }
        let any_replayed = self.ledger.slots.iter().any(|slot| self.was_replayed(event, slot));
        if !any_replayed && detail.deliveries.len() != told as usize {
            let there = detail.deliveries.len();
            self.broken(format_args!("{event} owes {told} deliveries, there are {there}"));
        }
    }

    fn was_replayed(&self, event: EventId, slot: &Slot) -> bool {
        slot.many_replayed || self.ledger.replay_asked.contains(&(event, slot.number))
    }

    /// It ended in one state, for a reason that its attempts and what was asked bear out.
    fn check_delivery(&self, delivery: &Delivery) {
        let attempts = read(self.memory.list_attempts(delivery.id));
        if let Some(wrong) = self.wrong_with(delivery, &attempts) {
            let Delivery { id, event, state, .. } = delivery;
            self.broken(format_args!("{id} of {event} is {state:?}: {wrong}"));
        }
        self.world.count(match delivery.state.name() {
            StateName::Delivered | StateName::Pending => Sometimes::DeliveryDelivered,
            StateName::Exhausted => Sometimes::DeliveryExhausted,
            StateName::Cancelled => Sometimes::DeliveryCancelled,
        });
        if attempts.len() > 1 {
            self.world.count(Sometimes::DeliveryRetried);
        }
    }

    fn wrong_with(&self, delivery: &Delivery, attempts: &[Attempt]) -> Option<&'static str> {
        if attempts.len() != delivery.attempts as usize {
            return Some("its attempts are not as many as it says");
        }
        let mut numbers = (1..).zip(attempts);
        if numbers.any(|(number, attempt)| attempt.number != number) {
            return Some("its attempts are not numbered one by one");
        }
        let Some(slot) = self.ledger.slot_of(delivery.endpoint) else {
            return Some("it is for an endpoint that nobody made");
        };
        if attempts.len() > slot.attempts_max {
            return Some("it has more attempts than its schedule");
        }
        let successes = attempts.iter().filter(|it| it.outcome.is_success()).count();
        let ends_well = attempts.last().is_some_and(|it| it.outcome.is_success());
        let is_heard = || self.heard.contains(&(delivery.event.to_string(), slot.path().as_str()));
        match delivery.state {
            DeliveryState::Pending => None,
            _ if delivery.ended_at.is_none() => Some("it does not say when it ended"),
            DeliveryState::Delivered if successes != 1 || !ends_well => {
                Some("its attempts do not say so")
            }
            DeliveryState::Delivered if !is_heard() => Some("no receiver said so"),
            DeliveryState::Delivered => None,
            _ if successes > 0 => Some("an attempt succeeded"),
            DeliveryState::Exhausted(EndReason::AttemptsUsedUp) => {
                (attempts.len() != slot.attempts_max).then_some("it had attempts left")
            }
            DeliveryState::Exhausted(EndReason::SetAside) => {
                self.ledger.upset.is_empty().then_some("nobody crashed")
            }
            DeliveryState::Exhausted(EndReason::TooOld) => {
                // What counts is when the next attempt would have been.
                let limit = delivery.created_at.plus(DELIVERY_AGE_MAX);
                let is_early = |at: Timestamp| at.plus(RETRY_AFTER_MAX) <= limit;
                delivery.ended_at.is_some_and(is_early).then_some("it was not too old")
            }
            DeliveryState::Cancelled(EndReason::Requested) => {
                (!self.ledger.cancel_asked.contains(&delivery.event))
                    .then_some("nobody asked for it")
            }
            DeliveryState::Cancelled(EndReason::EndpointDeleted) => {
                (!slot.deletion_asked).then_some("nobody deleted its endpoint")
            }
            DeliveryState::Exhausted(_) | DeliveryState::Cancelled(_) => {
                Some("nothing here ends for that reason")
            }
        }
    }

    /// A second success needs a reason: the first was not heard, or not recorded because something
    /// failed.
    fn check_duplicates(&self) {
        let mut first: BTreeMap<(&str, &str), &Received> = BTreeMap::new();
        for received in self.received.iter().filter(|it| it.request.succeeded()) {
            let event = received.request.header("webhook-id").unwrap_or_default();
            let path = received.request.path.as_str();
            let Some(before) = first.insert((event, path), received) else { continue };
            let slot = self.ledger.slot_at(path).map(|slot| &self.ledger.slots[slot]);
            let (Some(slot), Ok(event)) = (slot, EventId::parse(event)) else { continue };
            if self.was_replayed(event, slot) || slot.is_adopted {
                continue;
            }
            match self.excuse(before, received) {
                Ok(()) => self.world.count(Sometimes::DuplicateExcused),
                Err(why) => self.broken(format_args!("{event} came to {path} again: {why}")),
            }
        }
    }

    fn excuse(&self, before: &Received, again: &Received) -> Result<(), &'static str> {
        // Held back on its way, or repeated because a kept connection fell.
        if !self.world.shape.is_calm && again.send <= before.send {
            return Ok(());
        }
        let again_at = again.at;
        let Some(send) = before.send.map(|place| &self.ledger.sends[place]) else {
            return Err("nobody sent the first");
        };
        let was_heard = send.outcome.is_some_and(Outcome::is_success);
        if was_heard && send.is_recorded {
            return Err("the first success was recorded");
        }
        let is_upset = self.ledger.upset.iter().any(|(node, at)| {
            *node == send.node && before.at <= *at + WORKED_ON && *at <= again_at
        });
        let timed_out = send.outcome.is_some_and(|outcome| outcome.name() == "timeout");
        match (was_heard, is_upset, timed_out) {
            (_, true, _) | (false, _, true) => Ok(()),
            (false, ..) if !self.world.shape.is_calm => Ok(()),
            (false, ..) => Err("the first success was not heard, and nothing failed"),
            (true, ..) => Err("the first success was not recorded, and nothing failed"),
        }
    }

    /// What can be judged from outside.
    fn audit(&self) -> Tally {
        let mut auditor = Auditor::new();
        for slot in self.ledger.slots.iter().filter(|slot| slot.id.is_some()) {
            auditor.endpoint(&slot.path(), slot.contract, &slot.secret);
        }
        for wanted in &self.ledger.wanted {
            let of_account = |slot: &&Slot| slot.account == wanted.account;
            let paths: Vec<String> =
                self.ledger.slots.iter().filter(of_account).map(Slot::path).collect();
            let told = match wanted.standing {
                Standing::Acknowledged { event, .. } => Told::Acknowledged(event),
                Standing::Refused => Told::Refused,
                Standing::Asked | Standing::Unknown => Told::Unknown,
            };
            let owed = match told {
                Told::Acknowledged(event) => self.paths_of(event),
                _ => paths,
            };
            auditor.told(digest(&wanted.data), told, owed.iter().map(String::as_str));
        }
        for delivery in &self.deliveries {
            if let Some(slot) = self.ledger.slot_of(delivery.endpoint) {
                auditor.stands(delivery.event, &slot.path(), delivery.state.name());
            }
        }
        self.tell_lines(&mut auditor);
        let receipts: Vec<Receipt> =
            self.received.iter().map(|it| auditor.receipt(&it.request)).collect();
        let bounds = Bounds { duplicates_max: u64::MAX, attempts_max: u32::MAX, strangers: false };
        let verdict = auditor.audit(&receipts, bounds);
        for violation in verdict.violations {
            self.broken(format_args!("{violation:?}"));
        }
        verdict.tally
    }

    /// The endpoints that the event has deliveries to.
    fn paths_of(&self, event: EventId) -> Vec<String> {
        let of_it = self.deliveries.iter().filter(|delivery| delivery.event == event);
        of_it.filter_map(|it| self.ledger.slot_of(it.endpoint).map(Slot::path)).collect()
    }

    /// What must arrive in order: first deliveries, in the order of acceptance.
    fn tell_lines(&self, auditor: &mut Auditor) {
        let keys: BTreeMap<EventId, Option<OrderingKey>> = self
            .events
            .iter()
            .map(|event| (event.event.id, event.event.ordering_key.clone()))
            .collect();
        for slot in &self.ledger.slots {
            let mut lines: BTreeMap<Option<OrderingKey>, Vec<EventId>> = BTreeMap::new();
            for event in &self.ledger.accepted {
                let is_there = self
                    .deliveries
                    .iter()
                    .any(|it| it.event == *event && Some(it.endpoint) == slot.id);
                if !is_there || self.was_replayed(*event, slot) {
                    continue;
                }
                let key = keys.get(event).cloned().flatten();
                match slot.order {
                    DeliveryOrder::Any => {}
                    DeliveryOrder::Fifo => lines.entry(None).or_default().push(*event),
                    DeliveryOrder::FifoByKey if key.is_none() => {}
                    DeliveryOrder::FifoByKey => lines.entry(key).or_default().push(*event),
                }
            }
            for events in lines.into_values() {
                auditor.in_order(&slot.path(), events);
            }
        }
    }
}
