//! From durable to on its way: who sends what, when, and how many at once.
//!
//! Promise: a delivery that is pending in storage is either in memory here, or its lane knows when
//! to ask for it, or the periodic look at storage will find it. Losing a wake-up costs latency,
//! never a delivery. Neighbours: [`crate::lanes`] decides the order; [`crate::deliver`] makes the
//! attempt; [`crate::record`] writes down what came of it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::attempt::Attempt;
use domain::endpoint::{Endpoint, EndpointStatus};
use domain::id::{AccountId, EndpointId};
use domain::retry::Chance;
use domain::time::Timestamp;
use store::StoreError;
use store::queue::{Claimed, GivenBack, LaneRoom, Lease};
use tokio::sync::{Notify, RwLock, Semaphore};

use crate::Engine;
use crate::clock::SharedClock;
use crate::entropy::Dice;
use crate::lanes::{BreakerChange, Ended, LaneLimits, Lanes, Reserved, Returned, Ticket};
use crate::registry::endpoint_of;

/// How often storage is looked through for work that no lane knows of: what other nodes left
/// behind, and what a lost wake-up would hide.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// How many lanes are read at once while looking.
const LOOK_LANES_MAX: usize = 1_000;

/// Lanes looked at in one step, while which nothing can start or end.
const LANES_AT_ONCE_MAX: usize = 256;

/// How long the claimer rests when there is no room for what is due.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// How long a claim that storage refused waits before it is tried again.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The lanes, shared, and the wake-up of whoever claims for them.
pub(crate) struct Dispatch {
    lanes: Mutex<Lanes>,
    clock: SharedClock,
    /// Wakes the claimer: something may be claimable earlier than it thinks.
    claimable: Notify,
    /// Wakes the pacer: something may begin earlier than it thinks.
    paced: Notify,
    /// Wakes who waits for the last attempt to end, or the last place to be used.
    idle: Notify,
    /// Held, with others, by whoever claims or gives back.
    moving: RwLock<()>,
    /// When lanes were looked after last: later than now, if the clock was set back.
    looked_at_ms: AtomicI64,
    /// Whether a breaker changed and nobody was told yet.
    has_changes: AtomicBool,
    /// Leases of ours that nobody works on, to be given back. They come from panics and from
    /// errors of storage that may hide a success; their number is bounded by what is in memory.
    orphans: Mutex<Vec<Orphan>>,
    /// Held by the one delivery that is attempted alone.
    alone: Arc<Semaphore>,
}

/// A lease of ours that nobody works on.
#[derive(Clone, Copy)]
struct Orphan {
    lease: Lease,
    endpoint: EndpointId,
    account: AccountId,
    why: GivenBack,
}

/// The place in memory of a delivery that is being made durable, born leased to us.
///
/// Dropped before it is said what became of the delivery (a panic, an error that may hide a
/// success), the delivery is an orphan: its lease, should there be one, is given back later.
pub(crate) struct Place {
    dispatch: Arc<Dispatch>,
    reserved: Option<Reserved>,
    orphan: Option<Orphan>,
}

impl Place {
    /// The delivery was not made durable; its place is free again.
    pub(crate) fn refused(mut self) {
        self.orphan = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved.take() {
            let now = self.dispatch.clock.now();
            // In this order: whoever waits for the place finds the orphan.
            if let Some(orphan) = self.orphan.take() {
                self.dispatch.orphan(orphan);
            }
            self.dispatch.lanes().unreserve(reserved, now);
            self.dispatch.idle.notify_waiters();
        }
    }
}

/// A delivery on its way; its slot and memory are freed when dropped, whatever happened. Unless
/// somebody took over its lease, it is an orphan then.
pub(crate) struct Started {
    dispatch: Arc<Dispatch>,
    pub(crate) claimed: Claimed,
    ticket: Ticket,
    ended: Option<Ended>,
    is_taken_over: bool,
}

impl Started {
    /// The attempt was made, and this came of it.
    pub(crate) fn ended(&mut self, attempt: &Attempt, dice: &Dice) {
        let outcome = attempt.outcome;
        let chance = if outcome.is_success() { Chance::from_bits(0) } else { dice.chance() };
        self.ended = Some(Ended { outcome, took: attempt.duration, chance });
    }

    /// The lease was handed to the recorder, or ended with the endpoint.
    pub(crate) fn taken_over(&mut self) {
        self.is_taken_over = true;
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if !self.is_taken_over {
            let Claimed { lease, endpoint, account, .. } = self.claimed;
            let why = GivenBack::Unanswered;
            self.dispatch.orphan(Orphan { lease, endpoint, account, why });
        }
        let now = self.dispatch.clock.now();
        let mut lanes = self.dispatch.lanes();
        lanes.finish(&self.ticket, self.ended.as_ref(), now);
        let is_idle = lanes.in_flight() == 0;
        let wants_claimer =
            lanes.next_claim_at().is_some_and(|due_at| due_at <= now) || lanes.has_returned();
        self.dispatch.let_go(lanes);
        if is_idle {
            self.dispatch.idle.notify_waiters();
        }
        if wants_claimer {
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
            paced: Notify::new(),
            idle: Notify::new(),
            moving: RwLock::default(),
            looked_at_ms: AtomicI64::new(i64::MIN),
            has_changes: AtomicBool::new(false),
            orphans: Mutex::default(),
            alone: Arc::new(Semaphore::new(1)),
        })
    }

    pub(crate) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks the lanes after something began or ended; wakes whom that concerns.
    fn let_go(&self, mut lanes: MutexGuard<'_, Lanes>) {
        if lanes.has_changes() {
            self.has_changes.store(true, Ordering::Relaxed);
        }
        let has_earlier_alarm = lanes.take_has_earlier_alarm();
        drop(lanes);
        if has_earlier_alarm {
            self.paced.notify_one();
        }
    }

    /// Reserves a place for a new delivery of `bytes` that will be born leased with `lease`;
    /// without a place it must be stored unleased and noted with [`Self::note_stored`].
    pub(crate) fn reserve(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        bytes: usize,
        lease: Lease,
    ) -> Option<Place> {
        let now = self.clock.now();
        let reserved = self.lanes().reserve(endpoint, bytes, now)?;
        let why = GivenBack::Unused;
        let orphan = Orphan { lease, endpoint: endpoint.id, account: endpoint.account, why };
        Some(Place { dispatch: Arc::clone(self), reserved: Some(reserved), orphan: Some(orphan) })
    }

    /// Puts durable deliveries into their places.
    pub(crate) fn offer(&self, born: impl IntoIterator<Item = (Claimed, Place)>) {
        let now = self.clock.now();
        let mut lanes = self.lanes();
        for (claimed, mut place) in born {
            place.orphan = None;
            if let Some(reserved) = place.reserved.take() {
                lanes.offer(claimed, reserved, now);
            }
        }
        let has_returned = lanes.has_returned();
        self.let_go(lanes);
        if has_returned {
            self.claimable.notify_one();
            self.idle.notify_waiters();
        }
    }

    fn orphan(&self, orphan: Orphan) {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner).push(orphan);
    }

    fn take_orphans(&self) -> Vec<Orphan> {
        std::mem::take(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that storage holds a first attempt at the endpoint, due at `due_at`.
    pub(crate) fn note_first_stored(
        &self,
        endpoint: EndpointId,
        account: AccountId,
        due_at: Timestamp,
    ) {
        let now = self.clock.now();
        self.lanes().note_first_stored(endpoint, account, due_at, now);
        self.claimable.notify_one();
    }

    /// Notes that storage holds something for the endpoint, due at `due_at`.
    pub(crate) fn note_stored(&self, endpoint: EndpointId, account: AccountId, due_at: Timestamp) {
        self.lanes().note_stored(endpoint, account, due_at);
        self.claimable.notify_one();
    }

    /// Takes the next delivery that may start.
    pub(crate) fn start_next(self: &Arc<Self>) -> Option<Started> {
        let now = self.clock.now();
        let mut lanes = self.lanes();
        let next = lanes.next(now);
        self.let_go(lanes);
        let (claimed, ticket) = next?;
        let dispatch = Arc::clone(self);
        Some(Started { dispatch, claimed, ticket, ended: None, is_taken_over: false })
    }

    /// What is to be done about lanes now and then.
    fn look_after_lanes(&self) {
        let now = self.clock.now();
        let looked_at = self.looked_at_ms.swap(now.as_millis(), Ordering::Relaxed);
        if now.as_millis() < looked_at {
            self.look_again(now);
        }
        let endpoints = self.lanes().endpoints();
        let pages = endpoints.chunks(LANES_AT_ONCE_MAX);
        let oldest = pages.filter_map(|page| self.lanes().oldest_of(page)).min();
        let mut lanes = self.lanes();
        lanes.note_oldest(oldest, now);
        lanes.look_after_hosts(now);
        self.let_go(lanes);
    }

    /// The clock was set back: whoever waits for an instant looks again.
    fn look_again(&self, now: Timestamp) {
        tracing::warn!("the clock was set back");
        let endpoints = self.lanes().not_simply_well();
        for page in endpoints.chunks(LANES_AT_ONCE_MAX) {
            let mut lanes = self.lanes();
            lanes.look_again(page, now);
            self.let_go(lanes);
        }
        self.claimable.notify_one();
    }

    /// Takes what breakers did and nobody was told yet.
    fn take_changes(&self) -> Vec<BreakerChange> {
        if self.has_changes.swap(false, Ordering::Relaxed) {
            self.lanes().take_changes()
        } else {
            Vec::new()
        }
    }

    /// Whoever holds its one permit is the one delivery that is attempted alone.
    pub(crate) fn alone(&self) -> &Arc<Semaphore> {
        &self.alone
    }

    /// Waits until nothing is on its way.
    pub(crate) async fn wait_idle(&self) {
        self.wait_until(|lanes| lanes.in_flight() == 0).await;
    }

    /// Waits until nobody moves a lease between storage and memory, and until nobody will: of use
    /// once the lanes are halted and empty. While the answer is held, nobody begins.
    pub(crate) async fn wait_settled(&self) -> impl Drop + '_ {
        let moving = self.moving.write().await;
        self.wait_until(|lanes| !lanes.has_unstarted()).await;
        moving
    }

    async fn wait_until(&self, is_so: impl Fn(&Lanes) -> bool) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if is_so(&self.lanes()) {
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
        while let Some(started) = self.dispatch().start_next() {
            let engine = self.clone();
            tokio::spawn(async move { engine.run_attempts(started).await });
        }
        self.tell_breaker_changes();
    }

    /// Makes an attempt, and goes on with the next that may start.
    async fn run_attempts(self, started: Started) {
        let mut next = Some(started);
        while let Some(mut started) = next {
            self.deliver(&mut started).await;
            drop(started);
            next = self.dispatch().start_next();
            self.tell_breaker_changes();
        }
    }

    /// Starts what may begin later than it was ready, exactly then, for ever.
    pub(crate) async fn run_pacer(self) {
        loop {
            let now = self.clock().now();
            let next_alarm_at = self.dispatch().lanes().next_alarm_at();
            match next_alarm_at {
                Some(at) if at <= now => {
                    self.dispatch().lanes().wake(now);
                    self.start_ready();
                    tokio::task::consume_budget().await;
                }
                Some(at) => {
                    let paced = self.dispatch().paced.notified();
                    let _ = tokio::time::timeout(at.since(now), paced).await;
                }
                None => self.dispatch().paced.notified().await,
            }
        }
    }

    fn tell_breaker_changes(&self) {
        for BreakerChange { endpoint, from, to } in self.dispatch().take_changes() {
            self.breaker_changed(endpoint, from, to);
        }
    }

    /// Claims for the lanes that want it, when they want it, for ever.
    pub(crate) async fn run_claimer(self) {
        loop {
            let moving = self.dispatch().moving.read().await;
            self.give_back_returned().await;
            let now = self.clock().now();
            let next_claim_at = self.dispatch().lanes().next_claim_at();
            match next_claim_at {
                Some(due_at) if due_at <= now => {
                    let is_any_claimed = self.claim(now).await;
                    drop(moving);
                    if !is_any_claimed {
                        // Memory is full of these accounts' deliveries, so nothing idles.
                        tokio::time::sleep(FULL_PAUSE).await;
                    }
                }
                Some(due_at) => {
                    drop(moving);
                    let claimable = self.dispatch().claimable.notified();
                    let _ = tokio::time::timeout(due_at.since(now), claimable).await;
                }
                None => {
                    drop(moving);
                    self.dispatch().claimable.notified().await;
                }
            }
            // An attempt that panicked did not go on with the next.
            self.start_ready();
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
                            self.dispatch().lanes().set_limits(endpoint, now);
                            rooms.push(room);
                            accounts.push(account);
                        }
                        _ => self.dispatch().lanes().park(room.endpoint, now),
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
        if let Err(error) = self.claim_rooms(&rooms, now).await {
            tracing::warn!(%error, lanes = rooms.len(), "could not claim deliveries");
            // One lane's trouble must not be its neighbours': each on its own.
            for (room, account) in rooms.into_iter().zip(accounts) {
                if let Err(error) = self.claim_rooms(&[room], now).await {
                    tracing::warn!(%error, endpoint = %room.endpoint, "could not claim; will try again");
                    self.claim_again_later(room.endpoint, account, now);
                }
            }
        }
        true
    }

    async fn claim_rooms(&self, rooms: &[LaneRoom], now: Timestamp) -> Result<(), StoreError> {
        let claims = self.store().claim_due(self.session(), now, rooms.to_vec()).await?;
        // Only a lost session gets nothing at all of what is due; a new one is on its way.
        let is_lost = claims.iter().all(|claim| claim.claimed.is_empty());
        let mut lanes = self.dispatch().lanes();
        for mut claim in claims {
            if is_lost && claim.next_due_at.is_some_and(|due_at| due_at <= now) {
                claim.next_due_at = Some(now.plus(CLAIM_AGAIN_AFTER));
            }
            lanes.end_claim(claim, now);
        }
        self.dispatch().let_go(lanes);
        Ok(())
    }

    fn claim_again_later(&self, endpoint: EndpointId, account: AccountId, now: Timestamp) {
        let mut lanes = self.dispatch().lanes();
        lanes.park(endpoint, now);
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

    async fn look(&self) -> Result<(), StoreError> {
        self.dispatch().look_after_lanes();
        self.start_ready();
        let moving = self.dispatch().moving.read().await;
        self.give_back_orphans().await?;
        drop(moving);
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

    /// Gives back what waited in memory for endpoints whose breakers opened. What storage does not
    /// take just now is an orphan.
    async fn give_back_returned(&self) {
        let returned = self.dispatch().lanes().take_returned();
        if returned.is_empty() {
            return;
        }
        let why = GivenBack::Unused;
        let orphan =
            |Returned { lease, endpoint, account }| Orphan { lease, endpoint, account, why };
        let orphans = returned.into_iter().map(orphan).collect();
        if let Err(error) = self.give_back_some(orphans, why).await {
            tracing::warn!(%error, "could not give deliveries back; will try again");
        }
    }

    pub(crate) async fn give_back_orphans(&self) -> Result<(), StoreError> {
        self.give_back_returned().await;
        let orphans = self.dispatch().take_orphans();
        if orphans.is_empty() {
            return Ok(());
        }
        tracing::warn!(deliveries = orphans.len(), "giving back leases that nobody works on");
        let (unused, unanswered): (Vec<_>, Vec<_>) =
            orphans.into_iter().partition(|orphan| orphan.why == GivenBack::Unused);
        let unused_given = self.give_back_some(unused, GivenBack::Unused).await;
        self.give_back_some(unanswered, GivenBack::Unanswered).await?;
        unused_given
    }

    async fn give_back_some(&self, orphans: Vec<Orphan>, why: GivenBack) -> Result<(), StoreError> {
        if orphans.is_empty() {
            return Ok(());
        }
        let leases = orphans.iter().map(|orphan| orphan.lease).collect();
        if let Err(error) = self.store().give_back(leases, why).await {
            let mut waiting =
                self.dispatch().orphans.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(orphans);
            return Err(error);
        }
        for orphan in orphans {
            self.dispatch().note_stored(orphan.endpoint, orphan.account, self.clock().now());
        }
        Ok(())
    }

    /// Takes up a change of an endpoint: pending deliveries of one that was enabled are claimed.
    pub(crate) fn lane_changed(&self, endpoint: &Endpoint) {
        let now = self.clock().now();
        let mut lanes = self.dispatch().lanes();
        lanes.set_limits(endpoint, now);
        lanes.probe_now(endpoint.id, now);
        self.dispatch().let_go(lanes);
        if endpoint.status == EndpointStatus::Enabled {
            self.dispatch().note_stored(endpoint.id, endpoint.account, self.clock().now());
            self.start_ready();
        }
    }
}
