//! An engine's host: the product as it is, on ports that the simulation holds.
//!
//! Promise: starting is what the service does: open the store, start the engine, try again as its
//! supervisor would. Neighbours: [`super::publisher`] and [`super::operator`] work on it,
//! [`super::weather`] crashes it.

use std::sync::Arc;
use std::time::Duration;

use domain::address::AddressPolicy;
use domain::target_url::UrlPolicy;
use engine::settings::Settings;
use engine::{Engine, Parts};
use http_sender::HttpSender;
use http_sender::tls::Roots;
use store::SharedStore;
use store::fault::FaultStore;
use testkit::doubles::SeededEntropy;
use tokio::time::sleep;

use super::chance::Chance;
use super::disk::{Disk, Leases};
use super::network::{SimDial, SimResolve};
use super::trace::Sometimes;
use super::watched::Watched;
use super::world::{Phase, SimClock, World};
use super::{operator, publisher};

/// How long a supervisor waits before it starts what could not start.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often somebody looks at the breakers.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Runs an engine and whoever uses it until the host dies.
pub(super) async fn run(world: Arc<World>, node: usize, leases: Arc<Leases>) -> turmoil::Result {
    // Everything runs in a task of the runtime, which is taken down as a whole.
    let running = tokio::spawn(async move {
        let engine = loop {
            match start(&world, node, &leases).await {
                Ok(engine) => break engine,
                Err(error) => {
                    world.say(format_args!("n{node} could not start: {error}"));
                    sleep(AGAIN_AFTER).await;
                }
            }
        };
        world.nodes()[node].is_up = true;
        let incarnation = world.nodes()[node].incarnation;
        world.say(format_args!("n{node} is up, for time {incarnation}"));
        if world.phase() == Phase::Setup && node == 0 {
            operator::set_up(&world, &engine).await;
        }
        while world.phase() == Phase::Setup {
            sleep(Duration::from_millis(100)).await;
        }
        tokio::spawn(publisher::run(Arc::clone(&world), engine.clone(), node));
        tokio::spawn(operator::run(Arc::clone(&world), engine.clone(), node));
        watch(&world, &engine).await;
    });
    running.await?;
    Ok(())
}

async fn start(world: &Arc<World>, node: usize, leases: &Arc<Leases>) -> anyhow::Result<Engine> {
    let incarnation = {
        let node = &mut world.nodes()[node];
        node.incarnation += 1;
        node.is_broken = false;
        node.incarnation
    };
    // A store that one process can open loses every session with its process.
    let memory = if world.shape.nodes == 1 { world.reopen() } else { world.memory() };
    let disk = Disk::new(Arc::clone(world), node, incarnation, memory, Arc::clone(leases));
    let faults = Arc::new(FaultStore::new(Arc::new(disk)));
    world.nodes()[node].faults = Some(Arc::clone(&faults));
    let store: SharedStore = faults;
    let policy = UrlPolicy {
        allow_http: true,
        addresses: AddressPolicy {
            allowed: vec!["192.168.0.0/16".parse()?],
            ..AddressPolicy::default()
        },
        ..UrlPolicy::default()
    };
    let sender = HttpSender::new(
        policy.clone(),
        Arc::new(SimResolve(Arc::clone(world))),
        Arc::new(SimDial(Arc::clone(world))),
        Roots::none(),
    );
    let number = incarnation * 16 + node as u64;
    let parts = Parts {
        store,
        sender: Arc::new(Watched { world: Arc::clone(world), node, sender }),
        clock: Arc::new(SimClock(Arc::clone(world))),
        entropy: Arc::new(SeededEntropy::new(Chance::branch(world.seed, "entropy", number).bits())),
        sealing: None,
        spans: None,
        settings: Settings {
            urls: policy,
            retry_schedule: world.shape.retry_schedule.clone(),
            in_flight_per_host_max: world.shape.in_flight_per_host_max,
            ..Settings::default()
        },
    };
    let (engine, _) = Engine::start(parts).await?;
    Ok(engine)
}

/// Looks at the breakers for ever.
async fn watch(world: &World, engine: &Engine) {
    loop {
        if engine.load().breakers_open > 0 {
            world.count(Sometimes::BreakerOpened);
        }
        sleep(LOOK_EVERY).await;
    }
}
