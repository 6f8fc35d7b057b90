//! A store that fails on purpose: before a call takes effect, after it did, or not at all until
//! told. By script or by seed.
//!
//! Promise: without faults it is exactly the store it wraps; every fault strikes one call and no
//! other. A call that fails after it took effect goes beyond what the port allows of
//! [`StoreError::Unavailable`]: it is what is left of a store when its answer is lost on the way.
//! Neighbours: the tests of `engine`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use domain::account::{Account, AccountChange};
use domain::attempt::Attempt;
use domain::delivery::Delivery;
use domain::endpoint::{Endpoint, EndpointChange};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId};
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;
use tokio::sync::watch;

use crate::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, KeyRecord, Roster,
};
use crate::history::{Counts, DeliveryFilter, EventDetail, EventFilter, EventWithData, History};
use crate::queue::{
    Accepted, Added, AttemptRecord, Extended, LaneClaim, LaneRoom, Lease, NewDelivery, NewEvent,
    Queue, Recorded, SessionId, WaitingLane,
};
use crate::{SharedStore, StoreError};

/// A method of the port, named as there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented where it is a method")]
pub enum Method {
    ReadOrCreatePepper,
    CreateAccount,
    ReadAccount,
    FindAccount,
    ListAccounts,
    ChangeAccount,
    DeleteAccount,
    ReadRoster,
    CreateKey,
    FindKey,
    ListKeys,
    DeleteKey,
    NoteKeyUses,
    CreateEndpoint,
    FindEndpoint,
    ListEndpoints,
    ChangeEndpoint,
    DeleteEndpoint,
    BeginSession,
    ExtendSession,
    ReleaseExpired,
    Accept,
    AddDelivery,
    ClaimDue,
    GiveBack,
    Record,
    WaitingLanes,
    Clean,
    Close,
    ListEvents,
    ReadEvent,
    ListDeliveries,
    ReadDelivery,
    ListAttempts,
    Counts,
    Check,
}

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// [`StoreError::Unavailable`], and nothing happened.
    Before,
    /// [`StoreError::Unavailable`], although it happened.
    After,
    /// [`StoreError::Broken`], and nothing happened.
    Broken,
}

/// How often calls fail by chance, in calls of a thousand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Odds {
    /// [`Fault::Before`].
    pub before: u16,
    /// [`Fault::After`].
    pub after: u16,
}

/// A store, and what shall go wrong with it.
pub struct FaultStore {
    plan: Mutex<Plan>,
    store: SharedStore,
}

#[derive(Debug, Default)]
struct Plan {
    scripted: HashMap<Method, VecDeque<Option<Fault>>>,
    standing: HashMap<Method, Fault>,
    stalled: HashMap<Method, Gate>,
    chance: Option<Chance>,
    calls: HashMap<Method, u64>,
}

/// A gate that calls wait at.
#[derive(Clone, Debug)]
struct Gate {
    is_open: watch::Receiver<bool>,
    waiting: watch::Sender<usize>,
}

/// Faults drawn from a seed.
#[derive(Debug)]
struct Chance {
    state: u64,
    odds: Odds,
}

impl Chance {
    /// One step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    /// generators"), so that one seed always gives one sequence.
    fn draw(&mut self) -> Option<Fault> {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let roll = ((bits ^ (bits >> 31)) % 1_000) as u16;
        let Odds { before, after } = self.odds;
        match roll {
            _ if roll < before => Some(Fault::Before),
            _ if roll < before.saturating_add(after) => Some(Fault::After),
            _ => None,
        }
    }
}

/// Calls that wait. They go on when it is released or dropped.
#[derive(Debug)]
pub struct Stall {
    open: watch::Sender<bool>,
    waiting: watch::Receiver<usize>,
}

impl Stall {
    /// Answers once `calls` calls wait.
    pub async fn reached_by(&mut self, calls: usize) {
        let reached = self.waiting.wait_for(|waiting| *waiting >= calls).await;
        reached.expect("the store is there and lets nobody pass");
    }

    /// Lets them go on, and all that come later.
    pub fn release(self) {
        self.open.send_replace(true);
    }
}

impl FaultStore {
    /// Wraps the store; nothing goes wrong yet.
    pub fn new(store: SharedStore) -> Self {
        Self { plan: Mutex::default(), store }
    }

    /// The next calls of the method fail like this, one after the other; `None` lets one pass.
    /// What is scripted already comes first.
    pub fn script(&self, method: Method, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan().scripted.entry(method).or_default().extend(faults);
    }

    /// From now on every call of the method that has no script fails like this.
    pub fn fail(&self, method: Method, fault: Fault) {
        self.plan().standing.insert(method, fault);
    }

    /// From now on calls without a fault of their own fail by chance, except [`Method::Close`].
    pub fn fail_by_chance(&self, seed: u64, odds: Odds) {
        self.plan().chance = Some(Chance { state: seed, odds });
    }

    /// From now on calls of the method wait before they take effect, until the stall is released.
    pub fn stall(&self, method: Method) -> Stall {
        let (open, is_open) = watch::channel(false);
        let (waiting, counted) = watch::channel(0);
        self.plan().stalled.insert(method, Gate { is_open, waiting });
        Stall { open, waiting: counted }
    }

    /// Nothing goes wrong any more; calls that wait go on waiting for their [`Stall`].
    pub fn heal(&self) {
        let mut plan = self.plan();
        *plan = Plan { calls: std::mem::take(&mut plan.calls), ..Plan::default() };
    }

    /// How many calls of the method there were, failed ones included.
    pub fn calls(&self, method: Method) -> u64 {
        self.plan().calls.get(&method).copied().unwrap_or_default()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().expect("nobody panics under the lock")
    }

    /// Counts a call; answers where it waits and how it fails.
    fn begin(&self, method: Method) -> (Option<Gate>, Option<Fault>) {
        let mut plan = self.plan();
        *plan.calls.entry(method).or_default() += 1;
        let scripted = plan.scripted.get_mut(&method).and_then(VecDeque::pop_front);
        let standing = plan.standing.get(&method).copied();
        let fault = match (scripted, standing, &mut plan.chance) {
            (Some(fault), _, _) => fault,
            (None, Some(fault), _) => Some(fault),
            (None, None, Some(chance)) if method != Method::Close => chance.draw(),
            (None, None, _) => None,
        };
        (plan.stalled.get(&method).cloned(), fault)
    }

    /// Does the work of a call unless something shall go wrong.
    async fn call<T>(
        &self,
        method: Method,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (gate, fault) = self.begin(method);
        if let Some(mut gate) = gate {
            gate.waiting.send_modify(|waiting| *waiting += 1);
            // An error says that the stall was dropped, which lets go as well.
            let _ = gate.is_open.wait_for(|open| *open).await;
        }
        match fault {
            None => work.await,
            Some(Fault::Before) => Err(StoreError::Unavailable("fails before".to_owned())),
            Some(Fault::After) => {
                work.await?;
                Err(StoreError::Unavailable("fails after".to_owned()))
            }
            Some(Fault::Broken) => Err(StoreError::Broken("fails for good".to_owned())),
        }
    }
}

#[async_trait]
impl Catalogue for FaultStore {
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.call(Method::ReadOrCreatePepper, self.store.read_or_create_pepper(candidate)).await
    }

    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
    ) -> Result<AccountCreated, StoreError> {
        self.call(Method::CreateAccount, self.store.create_account(account, first_key)).await
    }

    async fn read_account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.call(Method::ReadAccount, self.store.read_account(id)).await
    }

    async fn find_account(&self, username: &str) -> Result<Option<AccountId>, StoreError> {
        self.call(Method::FindAccount, self.store.find_account(username)).await
    }

    async fn list_accounts(&self, page: PageRequest) -> Result<Page<Account>, StoreError> {
        self.call(Method::ListAccounts, self.store.list_accounts(page)).await
    }

    async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
    ) -> Result<Option<Account>, StoreError> {
        self.call(Method::ChangeAccount, self.store.change_account(id, change)).await
    }

    async fn delete_account(&self, id: AccountId) -> Result<bool, StoreError> {
        self.call(Method::DeleteAccount, self.store.delete_account(id)).await
    }

    async fn read_roster(&self, id: AccountId) -> Result<Option<Roster>, StoreError> {
        self.call(Method::ReadRoster, self.store.read_roster(id)).await
    }

    async fn create_key(&self, key: KeyRecord) -> Result<bool, StoreError> {
        self.call(Method::CreateKey, self.store.create_key(key)).await
    }

    async fn find_key(&self, public_part: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.call(Method::FindKey, self.store.find_key(public_part)).await
    }

    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, StoreError> {
        self.call(Method::ListKeys, self.store.list_keys(account, page)).await
    }

    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
    ) -> Result<Option<String>, StoreError> {
        self.call(Method::DeleteKey, self.store.delete_key(account, id)).await
    }

    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        self.call(Method::NoteKeyUses, self.store.note_key_uses(uses)).await
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
    ) -> Result<EndpointCreated, StoreError> {
        self.call(Method::CreateEndpoint, self.store.create_endpoint(endpoint, endpoints_max)).await
    }

    async fn find_endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        self.call(Method::FindEndpoint, self.store.find_endpoint(id)).await
    }

    async fn list_endpoints(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, StoreError> {
        self.call(Method::ListEndpoints, self.store.list_endpoints(account, page)).await
    }

    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        change: EndpointChange,
        now: Timestamp,
    ) -> Result<Option<Endpoint>, StoreError> {
        self.call(Method::ChangeEndpoint, self.store.change_endpoint(account, id, change, now))
            .await
    }

    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call(Method::DeleteEndpoint, self.store.delete_endpoint(account, id, history, now))
            .await
    }
}

#[async_trait]
impl Queue for FaultStore {
    async fn begin_session(&self, until: Timestamp) -> Result<SessionId, StoreError> {
        self.call(Method::BeginSession, self.store.begin_session(until)).await
    }

    async fn extend_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Extended, StoreError> {
        self.call(Method::ExtendSession, self.store.extend_session(session, until)).await
    }

    async fn release_expired(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.call(Method::ReleaseExpired, self.store.release_expired(now)).await
    }

    async fn accept(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>, StoreError> {
        self.call(Method::Accept, self.store.accept(session, events)).await
    }

    async fn add_delivery(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        now: Timestamp,
    ) -> Result<Added, StoreError> {
        self.call(
            Method::AddDelivery,
            self.store.add_delivery(session, account, event, delivery, now),
        )
        .await
    }

    async fn claim_due(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Result<Vec<LaneClaim>, StoreError> {
        self.call(Method::ClaimDue, self.store.claim_due(session, now, lanes)).await
    }

    async fn give_back(&self, leases: Vec<Lease>) -> Result<Vec<Recorded>, StoreError> {
        self.call(Method::GiveBack, self.store.give_back(leases)).await
    }

    async fn record(&self, attempts: Vec<AttemptRecord>) -> Result<Vec<Recorded>, StoreError> {
        self.call(Method::Record, self.store.record(attempts)).await
    }

    async fn waiting_lanes(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<WaitingLane>, StoreError> {
        self.call(Method::WaitingLanes, self.store.waiting_lanes(after, limit)).await
    }

    async fn clean(&self, now: Timestamp, rows_max: usize) -> Result<bool, StoreError> {
        self.call(Method::Clean, self.store.clean(now, rows_max)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.call(Method::Close, self.store.close()).await
    }
}

#[async_trait]
impl History for FaultStore {
    async fn list_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<EventWithData>, StoreError> {
        self.call(Method::ListEvents, self.store.list_events(filter, page)).await
    }

    async fn read_event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError> {
        self.call(Method::ReadEvent, self.store.read_event(id)).await
    }

    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        self.call(Method::ListDeliveries, self.store.list_deliveries(filter, page)).await
    }

    async fn read_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.call(Method::ReadDelivery, self.store.read_delivery(id)).await
    }

    async fn list_attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        self.call(Method::ListAttempts, self.store.list_attempts(delivery)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Method::Counts, self.store.counts()).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call(Method::Check, self.store.check()).await
    }
}
