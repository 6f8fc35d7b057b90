//! An engine's way to the store: calls take time, before they take effect and after.
//!
//! Promise: whoever dies on the way leaves the call either done or not done, as on a real disk. What
//! takes effect is noted in the ledger in the same instant, so that what engines claim can be held
//! against it: no record under an older lease than the last one handed out may be applied. With
//! [`Sabotage`] one protection is missing below that. Neighbours: [`store::fault::FaultStore`] is in
//! front of it, the memory store behind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EventId};
use domain::time::Timestamp;
use store::queue::{
    Accepted, Added, AttemptRecord, Claimed, Extended, LaneClaim, LaneRoom, Lease, NewDelivery,
    NewEvent, Recorded, SessionId,
};
use store::{SharedStore, StoreError};

use super::Sabotage;
use super::chance::Chance;
use super::trace::Sometimes;
use super::world::World;

mod forward;

/// One acknowledged event in so many is forgotten, with [`Sabotage::Acknowledgement`].
const FORGOTTEN_ONE_IN: u64 = 8;

/// The way of one engine to the store.
pub(super) struct Disk {
    world: Arc<World>,
    node: usize,
    store: SharedStore,
    chance: Mutex<Chance>,
    leases: Arc<Leases>,
}

/// The lease of each delivery that was handed out last, whoever got it.
#[derive(Default)]
pub(super) struct Leases(Mutex<BTreeMap<DeliveryId, Lease>>);

impl Leases {
    fn note(&self, lease: Lease) {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = leases.entry(lease.delivery).or_insert(lease);
        if lease.fence >= known.fence {
            *known = lease;
        }
    }

    fn last(&self, delivery: DeliveryId) -> Option<Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&delivery).copied()
    }
}

impl Disk {
    pub(super) fn new(
        world: Arc<World>,
        node: usize,
        incarnation: u64,
        store: SharedStore,
        leases: Arc<Leases>,
    ) -> Self {
        let number = incarnation * 16 + node as u64;
        let chance = Mutex::new(Chance::branch(world.seed, "disk", number));
        Self { world, node, store, chance, leases }
    }

    /// Mostly a few milliseconds, now and then a busy disk.
    fn delay(&self) -> Duration {
        let mut chance = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        if chance.one_in(40) { chance.millis(50, 900) } else { chance.millis(1, 6) }
    }

    fn one_in(&self, times: u64) -> bool {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner).one_in(times)
    }

    /// Does it, after a while and with a while until it is known.
    async fn slowly<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::time::sleep(self.delay()).await;
        let done = work.await;
        tokio::time::sleep(self.delay()).await;
        done
    }

    fn note_claimed(&self, claimed: &Claimed) {
        self.leases.note(claimed.lease);
        let known = (claimed.payload.event, claimed.endpoint);
        self.world.ledger().deliveries.insert(claimed.lease.delivery, known);
    }

    async fn accept_noted(
        &self,
        session: SessionId,
        mut events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>, StoreError> {
        for new in &mut events {
            match self.world.sabotage {
                Some(Sabotage::Idempotency) => new.idempotency = None,
                Some(Sabotage::Order) => {
                    new.deliveries.iter_mut().for_each(|delivery| delivery.ordering_key = None);
                }
                _ => {}
            }
        }
        let forgets = self.world.sabotage == Some(Sabotage::Acknowledgement);
        if forgets && self.one_in(FORGOTTEN_ONE_IN) {
            return Ok(events.iter().map(|_| Accepted::New).collect());
        }
        let born: Vec<(EventId, Vec<NewDelivery>)> =
            events.iter().map(|new| (new.event.id, new.deliveries.clone())).collect();
        let answers = self.store.accept(session, events).await?;
        let mut ledger = self.world.ledger();
        for ((event, deliveries), _) in
            born.into_iter().zip(&answers).filter(|(_, answer)| **answer == Accepted::New)
        {
            ledger.accepted.push(event);
            for NewDelivery { id, endpoint, leased, ordering_key } in deliveries {
                ledger.deliveries.insert(id, (event, endpoint));
                if leased {
                    self.leases.note(Lease { session, delivery: id, fence: 1 });
                }
                if ordering_key.is_some() {
                    self.world.count(Sometimes::DeliveryWaitedInLine);
                }
            }
        }
        Ok(answers)
    }

    async fn add_noted(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        note: AuditNote,
    ) -> Result<Added, StoreError> {
        let added = self.store.add_delivery(session, account, event, delivery, note).await?;
        if let Added::Created(claimed) = &added {
            self.note_claimed(claimed);
        }
        Ok(added)
    }

    async fn claim_noted(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Result<Vec<LaneClaim>, StoreError> {
        let claims = self.store.claim_due(session, now, lanes).await?;
        claims.iter().flat_map(|claim| &claim.claimed).for_each(|it| self.note_claimed(it));
        Ok(claims)
    }

    async fn record_noted(
        &self,
        attempts: Vec<AttemptRecord>,
    ) -> Result<Vec<Recorded>, StoreError> {
        let ignores_fences = self.world.sabotage == Some(Sabotage::Fence);
        let asked: Vec<Lease> = attempts.iter().map(|it| it.lease).collect();
        let mut given = attempts;
        for record in given.iter_mut().filter(|_| ignores_fences) {
            record.lease = self.leases.last(record.lease.delivery).unwrap_or(record.lease);
        }
        let answers = self.store.record(given).await?;
        for (lease, answer) in asked.into_iter().zip(&answers) {
            let last = self.leases.last(lease.delivery);
            let is_stale = last.is_some_and(|last| lease.fence < last.fence);
            match answer {
                Recorded::Applied if is_stale => self.world.violation(format_args!(
                    "a record under an old lease of {} was applied",
                    lease.delivery
                )),
                Recorded::Applied => self.note_recorded(lease.delivery),
                Recorded::LeaseLost if is_stale => {
                    self.world.count(Sometimes::StaleCompletionRefused);
                    self.world.say(format_args!("n{} stale {}", self.node, lease.delivery));
                }
                Recorded::LeaseLost => {
                    self.world.say(format_args!("n{} lease lost {}", self.node, lease.delivery));
                }
            }
        }
        Ok(answers)
    }

    async fn extend_noted(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Extended, StoreError> {
        let extended = self.store.extend_session(session, until).await?;
        if extended == Extended::SessionLost {
            self.world.count(Sometimes::SessionLost);
            self.world.say(format_args!("n{} session lost", self.node));
        }
        Ok(extended)
    }

    async fn trial_noted(&self, lease: Lease) -> Result<Recorded, StoreError> {
        self.world.count(Sometimes::TrialBegun);
        self.store.begin_trial(lease).await
    }

    /// Those whose leases go lose what they knew, as in a crash.
    async fn release_noted(&self, now: Timestamp) -> Result<usize, StoreError> {
        let freed = self.store.release_expired(now).await?;
        if freed > 0 {
            let at = self.world.elapsed();
            let others = (0..self.world.shape.nodes).map(|node| (node, at));
            self.world.ledger().upset.extend(others);
        }
        Ok(freed)
    }

    fn note_recorded(&self, delivery: DeliveryId) {
        let mut ledger = self.world.ledger();
        let Some((event, endpoint)) = ledger.deliveries.get(&delivery).copied() else { return };
        let Some(slot) = ledger.slot_of(endpoint).map(|slot| slot.number) else { return };
        if let Some(send) = ledger.last_send(self.node, event, slot) {
            ledger.sends[send].is_recorded = true;
        }
    }
}
