//! A store that fails on purpose: before a call takes effect, after it did, or not at all until
//! told. By script or by seed.
//!
//! Promise: without faults it is exactly the store it wraps; every fault strikes one call and no
//! other. A call that fails after it took effect goes beyond what the port allows of
//! [`StoreError::Unavailable`]: it is what is left of a store when its answer is lost on the way.
//! Neighbours: the tests of `engine`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Semaphore, watch};

use crate::{SharedStore, StoreError};

mod port;

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
    RotateSecret,
    SealingKeys,
    Reseal,
    BeginSession,
    ExtendSession,
    ReleaseExpired,
    Accept,
    AddDelivery,
    ClaimDue,
    GiveBack,
    BeginTrial,
    SetAside,
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
    Note,
    ListAudit,
    ReadAudit,
    FindOperationsAccount,
    CreateOperationsAccount,
    PutEventType,
    ListEventTypes,
    DeleteEventType,
    ReadStreaks,
    WriteStreaks,
    CancelEvent,
    CancelDelivery,
    EraseEvent,
    FollowEvents,
    ReadAnnounced,
    NoteAnnounced,
    CreateReplay,
    ReadReplay,
    ListReplays,
    RunningReplays,
    StepReplay,
    CancelReplay,
    CountReplay,
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
    /// Has no permits, and opens by being closed: those who wait go on in the order in which they
    /// came, every time, which a watch does not promise.
    bar: Arc<Semaphore>,
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
    bar: Arc<Semaphore>,
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
        drop(self);
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.bar.close();
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
        let bar = Arc::new(Semaphore::new(0));
        let (waiting, counted) = watch::channel(0);
        self.plan().stalled.insert(method, Gate { bar: Arc::clone(&bar), waiting });
        Stall { bar, waiting: counted }
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
        if let Some(gate) = gate {
            gate.waiting.send_modify(|waiting| *waiting += 1);
            // An error says that it is open.
            let _ = gate.bar.acquire().await;
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
