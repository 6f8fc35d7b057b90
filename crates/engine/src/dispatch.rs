//! From durable to on its way: who sends what, when, and how many at once.
//!
//! Promise: a delivery that is pending in storage is either in memory here, or its lane knows when
//! to ask for it, or the periodic look at storage will find it. Losing a wake-up costs latency,
//! never a delivery. Neighbours: [`crate::lanes`] decides the order; [`crate::deliver`] makes the
//! attempt; [`crate::record`] writes down what came of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::endpoint::{Endpoint, EndpointStatus};
use domain::id::{AccountId, EndpointId};
use domain::time::Timestamp;
use store::queue::{Claimed, LaneRoom};
use tokio::sync::Notify;

use crate::Engine;
use crate::clock::SharedClock;
use crate::lanes::{LaneLimits, Lanes, Reserved};
use crate::registry::endpoint_of;

/// How often storage is looked through for work that no lane knows of: what other nodes left
/// behind, and what a lost wake-up would hide.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How many lanes are read at once while looking.
const LOOK_LANES_MAX: usize = 1_000;

/// How long a claim waits that storage refused or that found no room, before it is tried again.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The lanes, shared, and the wake-up of whoever claims for them.
pub(crate) struct Dispatch {
    lanes: Mutex<Lanes>,
    clock: SharedClock,
    /// Wakes the claimer: something may be claimable earlier than it thinks.
    claimable: Notify,
    /// Wakes who waits for the last attempt to end.
    idle: Notify,
}

/// A place in memory for one delivery; given back when dropped unused.
pub(crate) struct Place {
    dispatch: Arc<Dispatch>,
    reserved: Option<Reserved>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            self.dispatch.lanes().unreserve(reserved);
        }
    }
}

/// A delivery on its way; its slot and memory are freed when dropped, whatever happened.
pub(crate) struct Started {
    dispatch: Arc<Dispatch>,
    pub(crate) claimed: Claimed,
}

impl Drop for Started {
    fn drop(&mut self) {
        let bytes = self.claimed.payload.body.len();
        let mut lanes = self.dispatch.lanes();
        lanes.finish(self.claimed.endpoint, self.claimed.account, bytes);
        let (is_idle, wants_claim) = (lanes.in_flight() == 0, lanes.next_claim_at().is_some());
        drop(lanes);
        if is_idle {
            self.dispatch.idle.notify_waiters();
        }
        if wants_claim {
            self.dispatch.claimable.notify_one();
        }
    }
}

impl Dispatch {
    pub(crate) fn new(limits: LaneLimits, clock: SharedClock) -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::new(Lanes::new(limits)),
            clock,
            claimable: Notify::new(),
            idle: Notify::new(),
        })
    }

    pub(crate) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves a place for a new delivery of `bytes`; without one it must be stored unleased and
    /// noted with [`Self::note_stored`].
    pub(crate) fn reserve(self: &Arc<Self>, endpoint: &Endpoint, bytes: usize) -> Option<Place> {
        let now = self.clock.now();
        let reserved = self.lanes().reserve(endpoint, bytes, now)?;
        Some(Place { dispatch: Arc::clone(self), reserved: Some(reserved) })
    }

    /// Puts durable deliveries into their places.
    pub(crate) fn offer(&self, born: Vec<(Claimed, Place)>) {
        if born.is_empty() {
            return;
        }
        let mut lanes = self.lanes();
        for (claimed, mut place) in born {
            if let Some(reserved) = place.reserved.take() {
                lanes.offer(claimed, reserved);
            }
        }
    }

    /// Notes that storage holds something for the endpoint, due at `due_at`.
    pub(crate) fn note_stored(&self, endpoint: EndpointId, account: AccountId, due_at: Timestamp) {
        self.lanes().note_stored(endpoint, account, due_at);
        self.claimable.notify_one();
    }

    /// Takes the next delivery that may start.
    pub(crate) fn start_next(self: &Arc<Self>) -> Option<Started> {
        let claimed = self.lanes().next()?;
        Some(Started { dispatch: Arc::clone(self), claimed })
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn wait_idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.lanes().in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Engine {
    /// Starts what may start. Whoever makes something ready calls this; what ends goes on with the
    /// next by itself.
    pub(crate) fn start_ready(&self) {
        while !self.is_stopping()
            && let Some(started) = self.dispatch().start_next()
        {
            let engine = self.clone();
            tokio::spawn(async move { engine.run_attempts(started).await });
        }
    }

    /// Makes an attempt, and goes on with the next that may start.
    async fn run_attempts(self, started: Started) {
        let mut next = Some(started);
        while let Some(started) = next {
            self.deliver(&started.claimed).await;
            drop(started);
            next = if self.is_stopping() { None } else { self.dispatch().start_next() };
        }
    }

    /// Claims for the lanes that want it, when they want it, for ever.
    pub(crate) async fn run_claimer(self) {
        loop {
            let now = self.clock().now();
            let claimable = self.dispatch().claimable.notified();
            let next_claim_at = self.dispatch().lanes().next_claim_at();
            match next_claim_at {
                Some(due_at) if due_at <= now => {
                    if self.is_stopping() || !self.claim(now).await {
                        // Woken when something ends and memory comes free; else to see whether
                        // another account's deliveries have fallen due.
                        let _ = tokio::time::timeout(CLAIM_AGAIN_AFTER, claimable).await;
                    }
                }
                Some(due_at) => {
                    tokio::select! {
                        biased;
                        () = claimable => {}
                        () = tokio::time::sleep(due_at.since(now)) => {}
                    }
                }
                None => claimable.await,
            }
        }
    }

    /// One claim for the lanes that want it now; `false` if there is no room for any of them.
    async fn claim(&self, now: Timestamp) -> bool {
        let mut rooms: Vec<LaneRoom> = Vec::new();
        let mut accounts: Vec<AccountId> = Vec::new();
        let wanting = self.dispatch().lanes().begin_claim(now);
        if wanting.is_empty() {
            return false;
        }
        for (room, account) in wanting {
            match self.registry().roster(account).await {
                Ok(roster) => {
                    let endpoint =
                        roster.as_deref().and_then(|roster| endpoint_of(roster, room.endpoint));
                    match endpoint {
                        Some(endpoint) if endpoint.status == EndpointStatus::Enabled => {
                            self.dispatch().lanes().set_in_flight_max(endpoint);
                            rooms.push(room);
                            accounts.push(account);
                        }
                        _ => self.dispatch().lanes().park(room.endpoint),
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "could not read an account to claim for it");
                    self.claim_again_later(room.endpoint, account, now);
                }
            }
        }
        if rooms.is_empty() {
            return true;
        }
        let lanes: Vec<EndpointId> = rooms.iter().map(|room| room.endpoint).collect();
        match self.store().claim_due(self.session(), now, rooms).await {
            Ok(claims) => {
                let mut lanes = self.dispatch().lanes();
                for claim in claims {
                    lanes.end_claim(claim);
                }
                drop(lanes);
                self.start_ready();
            }
            Err(error) => {
                tracing::warn!(%error, "could not claim deliveries; will try again");
                for (endpoint, account) in lanes.into_iter().zip(accounts) {
                    self.claim_again_later(endpoint, account, now);
                }
            }
        }
        true
    }

    fn claim_again_later(&self, endpoint: EndpointId, account: AccountId, now: Timestamp) {
        let mut lanes = self.dispatch().lanes();
        lanes.park(endpoint);
        lanes.note_stored(endpoint, account, now.plus(CLAIM_AGAIN_AFTER));
    }

    /// Looks through storage for work that no lane knows of, for ever; at once at the start.
    pub(crate) async fn run_looker(self) {
        loop {
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "could not look for waiting deliveries");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self) -> Result<(), store::StoreError> {
        let mut after = None;
        loop {
            let waiting = self.store().waiting_lanes(after, LOOK_LANES_MAX).await?;
            let Some(last) = waiting.last() else { return Ok(()) };
            after = Some(last.endpoint);
            let is_last_page = waiting.len() < LOOK_LANES_MAX;
            self.dispatch().lanes().note_waiting(&waiting);
            self.dispatch().claimable.notify_one();
            if is_last_page {
                return Ok(());
            }
        }
    }

    /// Takes up a change of an endpoint: pending deliveries of one that was enabled are claimed.
    pub(crate) fn lane_changed(&self, endpoint: &Endpoint) {
        self.dispatch().lanes().set_in_flight_max(endpoint);
        if endpoint.status == EndpointStatus::Enabled {
            self.dispatch().note_stored(endpoint.id, endpoint.account, self.clock().now());
            self.start_ready();
        }
    }
}
