//! Verbs: publish, dispatch, deliver, record, replay, administer, inspect.
//!
//! [`Engine`] is the one handle that every surface holds; none sees a store. Promise: what is
//! answered as published is durable and will be delivered, at least once, or ends with a reason
//! anyone can read. Ports: [`sender`], [`clock`] and [`entropy`] belong to the engine and are
//! implemented elsewhere; storage is the port of the `store` crate.
//!
//! The way of an event: [`publish`] → `dispatch` (order in `lanes`) → `deliver` → `record`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::time::Timestamp;
use store::SharedStore;
use store::queue::SessionId;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::administer::PROBES_MAX;
use crate::audit::restraint::{Refusals, Reveals};
use crate::authenticate::{KEY_LOOKUPS_MAX, KeyUses};
use crate::cancel::Withdrawn;
use crate::clock::SharedClock;
use crate::dispatch::Dispatch;
use crate::entropy::{Dice, SharedEntropy};
use crate::follow::Births;
use crate::health::Health;
use crate::intake::Intake;
use crate::lanes::LaneLimits;
use crate::metrics::Metrics;
use crate::rate::RateLimits;
use crate::record::Recorder;
use crate::registry::Registry;
use crate::sealing::SharedSealingKeys;
use crate::sender::SharedSender;
use crate::settings::Settings;
use crate::trace::SharedSpans;

pub mod administer;
pub mod audit;
mod authenticate;
mod cancel;
pub mod clock;
mod deliver;
mod dispatch;
pub mod entropy;
mod erase;
pub mod error;
pub mod event_types;
pub mod filter;
mod follow;
mod health;
mod hourly;
pub mod inspect;
mod intake;
pub mod keys;
mod lanes;
mod lifecycle;
mod metrics;
pub mod notices;
pub mod operations;
mod payload;
pub mod publish;
pub mod rate;
mod record;
mod registry;
pub mod replay;
pub mod scope;
pub mod sealing;
pub mod sender;
pub mod settings;
pub mod stats;
pub mod trace;

pub use audit::AuditChain;
pub use domain::breaker::BreakerState;
pub use error::{EngineError, ErrorCode, Violation};
pub use lanes::view::LaneView;
pub use registry::RosterAtHand;
pub use store::audit::AuditFilter;
pub use store::catalogue::KeyRecord;
pub use store::history::{Counts, DeliveryFilter, EventFilter, EventWithData, Followed};

/// What an engine is made of.
pub struct Parts {
    /// Where everything is kept.
    pub store: SharedStore,
    /// Who sends requests.
    pub sender: SharedSender,
    /// Who tells the time.
    pub clock: SharedClock,
    /// Where chance comes from.
    pub entropy: SharedEntropy,
    /// Who keeps the keys that seal secrets in storage; `None` if the store seals nothing.
    pub sealing: Option<SharedSealingKeys>,
    /// Who takes spans of recorded traces; `None` if nobody does.
    pub spans: Option<SharedSpans>,
    /// What the operator has set.
    pub settings: Settings,
}

/// A running engine; clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    store: SharedStore,
    sender: SharedSender,
    clock: SharedClock,
    dice: Dice,
    sealing: Option<SharedSealingKeys>,
    spans: Option<SharedSpans>,
    settings: Settings,
    registry: Registry,
    intake: Intake,
    births: Arc<Births>,
    withdrawn: Withdrawn,
    /// Wakes the task of the replays: one began, or may go on.
    replayable: Notify,
    probes: Semaphore,
    key_lookups: Semaphore,
    health: Health,
    /// Wakes the announcer: an entry was written that may have to be announced.
    announceable: Notify,
    /// Held while a ring of sealing keys is taken into use.
    reloading: tokio::sync::Mutex<()>,
    dispatch: Arc<Dispatch>,
    recorder: Recorder,
    rates: RateLimits,
    key_uses: KeyUses,
    reveals: Reveals,
    refusals: Refusals,
    metrics: Metrics,
    pepper: [u8; 32],
    bootstrap_hash: Option<[u8; 32]>,
    session: AtomicU64,
    stopping: AtomicBool,
    /// A task that must run as long as the engine does has ended.
    failed: AtomicBool,
    cleanable: Notify,
    tasks: Mutex<JoinSet<()>>,
}

/// How much is going on, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Attempts on their way.
    pub in_flight: usize,
    /// Deliveries in memory, those on their way included.
    pub in_memory: usize,
    /// Endpoints with something to do.
    pub lanes: usize,
    /// Endpoints whose breaker is open.
    pub breakers_open: usize,
    /// Endpoints whose breaker is half open.
    pub breakers_half_open: usize,
    /// Endpoints that asked for a pause (`Retry-After`, 429) that is not over.
    pub lanes_paused: usize,
    /// When the oldest due delivery of an enabled endpoint whose breaker is closed was due, as it was
    /// known at the last look, at most 10 seconds ago; `None` if none was due.
    pub oldest_due_at: Option<Timestamp>,
}

impl Engine {
    fn assemble(parts: Parts, recorder: Recorder, pepper: [u8; 32], session: SessionId) -> Self {
        let limits = LaneLimits {
            in_all: parts.settings.in_flight_max,
            per_endpoint: parts.settings.in_flight_per_endpoint_max,
            per_host: parts.settings.in_flight_per_host_max,
        };
        let bootstrap_hash =
            parts.settings.bootstrap_operator_key.as_deref().map(|key| keys::hash(&pepper, key));
        let shared = Shared {
            registry: Registry::new(Arc::clone(&parts.store)),
            store: parts.store,
            sender: parts.sender,
            intake: Intake::new(),
            births: Arc::default(),
            withdrawn: Withdrawn::default(),
            replayable: Notify::new(),
            probes: Semaphore::new(PROBES_MAX),
            key_lookups: Semaphore::new(KEY_LOOKUPS_MAX),
            health: Health::default(),
            announceable: Notify::new(),
            reloading: tokio::sync::Mutex::default(),
            dispatch: Dispatch::new(limits, Arc::clone(&parts.clock)),
            clock: parts.clock,
            dice: Dice::new(parts.entropy),
            sealing: parts.sealing,
            spans: parts.spans,
            settings: parts.settings,
            recorder,
            rates: RateLimits::default(),
            key_uses: KeyUses::default(),
            reveals: Reveals::default(),
            refusals: Refusals::default(),
            metrics: Metrics::new(),
            pepper,
            bootstrap_hash,
            session: AtomicU64::new(session.0),
            stopping: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            cleanable: Notify::new(),
            tasks: Mutex::new(JoinSet::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// How much is going on.
    pub fn load(&self) -> Load {
        let now = self.clock().now();
        let view = self.dispatch().lanes().view_all(now);
        Load {
            in_flight: view.in_flight,
            in_memory: view.jobs,
            lanes: view.lanes,
            breakers_open: view.breakers_open,
            breakers_half_open: view.breakers_half_open,
            lanes_paused: view.lanes_paused,
            oldest_due_at: view.oldest_due_at,
        }
    }

    /// The clock the engine goes by.
    pub fn clock(&self) -> &SharedClock {
        &self.shared.clock
    }

    fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::SeqCst)
    }

    fn store(&self) -> &SharedStore {
        &self.shared.store
    }

    fn sender(&self) -> &SharedSender {
        &self.shared.sender
    }

    fn dice(&self) -> &Dice {
        &self.shared.dice
    }

    fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    fn sealing_if_any(&self) -> Option<&SharedSealingKeys> {
        self.shared.sealing.as_ref()
    }

    fn spans_if_any(&self) -> Option<&SharedSpans> {
        self.shared.spans.as_ref()
    }

    fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    fn health(&self) -> &Health {
        &self.shared.health
    }

    fn probes(&self) -> &Semaphore {
        &self.shared.probes
    }

    fn key_lookups(&self) -> &Semaphore {
        &self.shared.key_lookups
    }

    fn intake(&self) -> &Intake {
        &self.shared.intake
    }

    fn births(&self) -> &Arc<Births> {
        &self.shared.births
    }

    fn withdrawn(&self) -> &Withdrawn {
        &self.shared.withdrawn
    }

    fn replayable(&self) -> &Notify {
        &self.shared.replayable
    }

    fn dispatch(&self) -> &Arc<Dispatch> {
        &self.shared.dispatch
    }

    fn recorder(&self) -> &Recorder {
        &self.shared.recorder
    }

    fn rates(&self) -> &RateLimits {
        &self.shared.rates
    }

    fn key_uses(&self) -> &KeyUses {
        &self.shared.key_uses
    }

    fn reveals(&self) -> &Reveals {
        &self.shared.reveals
    }

    fn refusals(&self) -> &Refusals {
        &self.shared.refusals
    }

    fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn pepper(&self) -> &[u8; 32] {
        &self.shared.pepper
    }

    fn bootstrap_hash(&self) -> Option<&[u8; 32]> {
        self.shared.bootstrap_hash.as_ref()
    }

    /// The tasks that run as long as the engine does.
    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
