//! Deterministic simulation: engine, sender and store on a simulated network, clock, DNS and disk.
//!
//! The product runs as it is: its engine, its HTTP client, its guard of addresses. Around it,
//! everything that a machine would give is drawn from one seed: when messages arrive, what receivers
//! answer, when a host dies, what storage does. Promise: one seed always gives one run, line by line,
//! so whatever is found can be looked at as often as needed. Everything is judged in the end, when
//! nothing fails any more and everything had the time to end.
//!
//! What is the network, the crash and the hosts comes from the crate `turmoil`; the store is the one in
//! memory, which gives back after a crash what a disk would.

use std::cell::Cell;
use std::sync::{Arc, Once};
use std::time::{Duration, UNIX_EPOCH};

use store::history::History as _;
use store::replays::Replays as _;
use testkit::auditor::Tally;
use turmoil::Sim;

use self::disk::Leases;
use self::judge::at_once;
use self::ledger::Standing;
use self::network::{node_host, receiver_host};
use self::weather::{Weather, usual_latency};
use self::world::{Phase, Shape, World};

pub(crate) use self::trace::{Counters, Sometimes};

mod chance;
mod disk;
mod judge;
mod ledger;
mod network;
mod node;
mod operator;
mod publisher;
mod receiver;
mod trace;
mod watched;
mod weather;
mod world;

#[cfg(test)]
mod tests;

/// How long accounts and endpoints may take to be made.
const SET_UP_WITHIN: Duration = Duration::from_mins(2);

/// How long everything may take to end once nothing fails any more: the longest step of the
/// schedules, the longest wait of a breaker, and what was asked for by `Retry-After`, twice.
const SETTLED_WITHIN: Duration = Duration::from_hours(1);

/// How often it is looked whether everything ended.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A protection that is switched off, to show that its lack would be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Whoever records is believed, whatever its lease.
    Fence,
    /// Idempotency keys are forgotten.
    Idempotency,
    /// Ordering keys are forgotten.
    Order,
    /// Some events are acknowledged and not kept.
    Acknowledgement,
}

impl Sabotage {
    /// Every one.
    pub(crate) const ALL: [Self; 4] =
        [Self::Fence, Self::Idempotency, Self::Order, Self::Acknowledgement];
}

/// What one run brought.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) seed: u64,
    /// The beginning of the SHA-256 of the trace.
    pub(crate) digest: String,
    /// How many lines it has.
    pub(crate) lines: u64,
    /// The lines, if they were to be kept.
    pub(crate) trace: Vec<String>,
    pub(crate) counters: Counters,
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
    /// How much time passed in it.
    pub(crate) simulated: Duration,
}

thread_local! {
    /// Panics in this thread, which runs one simulation at a time.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics: those in tasks are swallowed by the runtime.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
    PANICS.set(0);
}

/// Whether the seed runs two engines on one store.
pub(crate) fn has_two_engines(seed: u64) -> bool {
    Shape::of(seed).nodes > 1
}

/// Runs one seed, with one protection switched off if `sabotage` says so.
pub(crate) fn run(seed: u64, sabotage: Option<Sabotage>, keeps_trace: bool) -> Ran {
    count_panics();
    let world = Arc::new(World::new(seed, sabotage, keeps_trace));
    world.say(format_args!("seed {seed}: {:?}", world.shape));
    let mut sim = build(&world);
    let tally = match play(&world, &mut sim) {
        Ok(()) => judge::judge(&world),
        Err(error) => {
            world.violation(format_args!("the simulation ended: {error}"));
            Tally::default()
        }
    };
    let simulated = sim.elapsed();
    drop(sim);
    if PANICS.get() > 0 {
        world.violation(format_args!("{} panics", PANICS.get()));
    }
    let (digest, lines, trace, counters, violations) = world.end();
    Ran { seed, digest, lines, trace, counters, tally, violations, simulated }
}

fn build(world: &Arc<World>) -> Sim<'static> {
    let latency = usual_latency(world.seed);
    let mut sim = turmoil::Builder::new()
        .tick_duration(world.shape.tick)
        .simulation_duration(Duration::from_hours(24))
        .epoch(UNIX_EPOCH)
        .rng_seed(world.seed)
        .min_message_latency(latency)
        .max_message_latency(latency)
        .tcp_capacity(1_024)
        .build();
    for receiver in 0..world.shape.receivers {
        let shared = Arc::clone(world);
        sim.host(receiver_host(receiver), move || receiver::run(Arc::clone(&shared), receiver));
    }
    let leases = Arc::new(Leases::default());
    for node in 0..world.shape.nodes {
        let (shared, leases) = (Arc::clone(world), Arc::clone(&leases));
        sim.host(node_host(node), move || {
            node::run(Arc::clone(&shared), node, Arc::clone(&leases))
        });
    }
    for receiver in 0..world.shape.receivers {
        world.name_address(sim.lookup(receiver_host(receiver)), &receiver_host(receiver));
    }
    for node in 0..world.shape.nodes {
        world.name_address(sim.lookup(node_host(node)), &node_host(node));
    }
    sim
}

fn step(world: &World, sim: &mut Sim<'_>) -> Result<(), String> {
    sim.step().map_err(|error| error.to_string())?;
    world.stepped(sim.elapsed());
    Ok(())
}

fn play(world: &Arc<World>, sim: &mut Sim<'_>) -> Result<(), String> {
    while world.phase() == Phase::Setup {
        step(world, sim)?;
        if sim.elapsed() > SET_UP_WITHIN {
            return Err("setting up does not end".to_owned());
        }
    }
    let mut weather = Weather::new(Arc::clone(world));
    let active_until = sim.elapsed() + world.shape.active;
    while sim.elapsed() < active_until {
        weather.step(sim);
        step(world, sim)?;
    }
    weather.clear_up(sim);
    world.enter(Phase::Drain);
    let drained_until = sim.elapsed() + SETTLED_WITHIN;
    let mut look_at = sim.elapsed();
    while sim.elapsed() < drained_until {
        step(world, sim)?;
        if look_at <= sim.elapsed() {
            look_at = sim.elapsed() + LOOK_EVERY;
            if is_settled(world) {
                return Ok(());
            }
        }
    }
    world.violation(format_args!("not everything ended in time"));
    Ok(())
}

/// Whether nothing is left to do.
fn is_settled(world: &World) -> bool {
    let ledger = world.ledger();
    let is_open = |standing: &Standing| matches!(standing, Standing::Asked | Standing::Unknown);
    let left = ledger.wanted.iter().any(|wanted| {
        is_open(&wanted.standing) && (wanted.key.is_some() || wanted.standing == Standing::Asked)
    });
    let to_delete = ledger.slots.iter().any(|slot| slot.deletion_asked && !slot.is_deleted);
    if left || to_delete || !ledger.is_open {
        return false;
    }
    drop(ledger);
    let memory = world.memory();
    let pending = at_once(memory.counts()).is_ok_and(|counts| counts.pending > 0);
    let replaying = at_once(memory.running_replays(None, 1)).is_ok_and(|some| !some.is_empty());
    !pending && !replaying
}
