//! What all hosts of one run share: its shape, its clock, its store, its trace, its ledger.
//!
//! Promise: everything here is decided by the seed. One thread runs all hosts, so the locks are
//! never waited for; they are here because the ports of the product demand it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::endpoint::RetrySchedule;
use domain::testing::TEST_START;
use domain::time::Timestamp;
use engine::clock::Clock;
use store::fault::FaultStore;
use store::memory::MemoryStore;

use super::Sabotage;
use super::chance::Chance;
use super::ledger::Ledger;
use super::receiver::Receivers;
use super::trace::{Counters, Sometimes, Trace};

/// Most engines of one run.
pub(super) const NODES_MAX: usize = 2;

/// What the seed decides before anything runs.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    /// Engines on the one store: one on a store of its own, as the embedded store is, or two.
    pub(super) nodes: usize,
    pub(super) receivers: usize,
    /// Nothing but receivers fails: no duplicate is excused by a crash, the network or storage.
    pub(super) is_calm: bool,
    /// How finely the network moves.
    pub(super) tick: Duration,
    /// How long things fail.
    pub(super) active: Duration,
    /// When failed deliveries are tried again.
    pub(super) retry_schedule: RetrySchedule,
    pub(super) in_flight_per_host_max: usize,
    pub(super) accounts: usize,
    pub(super) endpoints: usize,
    /// How long publishers rest between two publishes, at most.
    pub(super) rest_max_ms: u64,
}

impl Shape {
    pub(super) fn of(seed: u64) -> Self {
        const SCHEDULES: [&[u64]; 5] = [
            &[0, 5, 30, 120],
            &[0, 1, 2, 4, 8, 16, 32],
            &[0, 10, 20],
            &[0, 5, 30, 120, 300],
            &[0, 3, 3, 3, 60],
        ];
        let mut chance = Chance::branch(seed, "shape", 0);
        let waits = chance.pick(&SCHEDULES).iter().copied().map(Duration::from_secs).collect();
        Self {
            nodes: if chance.one_in(3) { 2 } else { 1 },
            receivers: chance.between(1, 2) as usize,
            is_calm: chance.one_in(5),
            tick: Duration::from_millis(*chance.pick(&[150, 200, 300])),
            active: Duration::from_secs(chance.between(240, 720)),
            retry_schedule: RetrySchedule::new(waits).expect("begins with 0 and is short"),
            in_flight_per_host_max: *chance.pick(&[2, 8, 64]),
            accounts: chance.between(1, 2) as usize,
            endpoints: chance.between(2, 5) as usize,
            rest_max_ms: *chance.pick(&[5_000, 12_000, 30_000]),
        }
    }
}

/// What everybody does just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The first engine makes accounts and endpoints; nothing fails.
    Setup,
    /// Everybody works, everything fails.
    Active,
    /// Nothing fails any more and nobody begins anything new.
    Drain,
}

/// What is known of an engine's host.
#[derive(Default)]
pub(super) struct Node {
    /// How often it was started.
    pub(super) incarnation: u64,
    /// Whether its engine runs.
    pub(super) is_up: bool,
    /// Whether its storage said that it can no longer be trusted: it is started anew.
    pub(super) is_broken: bool,
    /// Attempts on their way.
    pub(super) in_flight: usize,
    /// Its way to the store, which fails as told.
    pub(super) faults: Option<Arc<FaultStore>>,
}

/// Everything shared.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) sabotage: Option<Sabotage>,
    elapsed_ms: AtomicU64,
    offset_ms: AtomicI64,
    phase: Mutex<Phase>,
    trace: Mutex<Trace>,
    counters: Mutex<Counters>,
    violations: Mutex<Vec<String>>,
    memory: Mutex<Arc<MemoryStore>>,
    ledger: Mutex<Ledger>,
    receivers: Mutex<Receivers>,
    nodes: Mutex<Vec<Node>>,
    /// The name that each address has, for the trace.
    addresses: Mutex<BTreeMap<IpAddr, String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(seed: u64, sabotage: Option<Sabotage>, keeps_lines: bool) -> Self {
        let shape = Shape::of(seed);
        Self {
            seed,
            sabotage,
            elapsed_ms: AtomicU64::new(0),
            offset_ms: AtomicI64::new(0),
            phase: Mutex::new(Phase::Setup),
            trace: Mutex::new(Trace::new(keeps_lines)),
            counters: Mutex::default(),
            violations: Mutex::default(),
            memory: Mutex::default(),
            ledger: Mutex::new(Ledger::new(&shape)),
            receivers: Mutex::new(Receivers::new(&shape)),
            nodes: Mutex::new((0..shape.nodes).map(|_| Node::default()).collect()),
            addresses: Mutex::default(),
            shape,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *locked(&self.phase)
    }

    pub(super) fn enter(&self, phase: Phase) {
        *locked(&self.phase) = phase;
        self.say(format_args!("---- {phase:?}"));
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        locked(&self.ledger)
    }

    pub(super) fn receivers(&self) -> MutexGuard<'_, Receivers> {
        locked(&self.receivers)
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, Vec<Node>> {
        locked(&self.nodes)
    }

    pub(super) fn memory(&self) -> Arc<MemoryStore> {
        Arc::clone(&locked(&self.memory))
    }

    /// The store as the next process finds it.
    pub(super) fn reopen(&self) -> Arc<MemoryStore> {
        let mut memory = locked(&self.memory);
        *memory = Arc::new(memory.reopen());
        Arc::clone(&memory)
    }

    pub(super) fn name_address(&self, address: IpAddr, name: &str) {
        locked(&self.addresses).insert(address, name.to_owned());
    }

    /// Which host has the address.
    pub(super) fn host_at(&self, address: IpAddr) -> Option<String> {
        locked(&self.addresses).get(&address).cloned()
    }

    /// How long the simulation has run. Between two steps, and while it is taken down, that is
    /// where the last step ended.
    pub(super) fn elapsed(&self) -> Duration {
        turmoil::sim_elapsed()
            .unwrap_or_else(|| Duration::from_millis(self.elapsed_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn stepped(&self, elapsed: Duration) {
        self.elapsed_ms.store(elapsed.as_millis() as u64, Ordering::Relaxed);
    }

    /// Sets the clocks of all hosts, as an administrator or an hour without power does.
    pub(super) fn shift_clock(&self, by_ms: i64) {
        self.offset_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// Writes a line of the trace.
    pub(super) fn say(&self, what: fmt::Arguments<'_>) {
        let at = self.elapsed();
        locked(&self.trace).line(at, what);
    }

    /// Notes that this happened.
    pub(super) fn count(&self, what: Sometimes) {
        *locked(&self.counters).entry(what).or_default() += 1;
    }

    /// Notes a broken promise.
    pub(super) fn violation(&self, what: fmt::Arguments<'_>) {
        self.say(format_args!("VIOLATION {what}"));
        let at = self.elapsed().as_secs_f64();
        let mut violations = locked(&self.violations);
        // The first ones tell what is wrong.
        if violations.len() < 20 {
            violations.push(format!("at {at:.3}: {what}"));
        }
    }

    /// What the run brought: the digest of its trace, how many lines, the lines if they were kept,
    /// the counters, the broken promises.
    pub(super) fn end(&self) -> (String, u64, Vec<String>, Counters, Vec<String>) {
        let (digest, lines, kept) = locked(&self.trace).end();
        (digest, lines, kept, locked(&self.counters).clone(), locked(&self.violations).clone())
    }
}

/// The clock of every host: goes with the simulated time, and is set now and then.
pub(super) struct SimClock(pub(super) Arc<World>);

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let offset = self.0.offset_ms.load(Ordering::Relaxed);
        let shown = TEST_START.plus(self.0.elapsed()).as_millis();
        Timestamp::from_millis(shown + offset)
    }
}
