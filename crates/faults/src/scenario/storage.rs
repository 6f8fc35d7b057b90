//! The disk fails: syncs and writes go wrong, once or from then on.
//!
//! A sync that failed must be the last that anything was acknowledged by: what Linux could not write
//! it drops, and says at the next sync that all is well. So the process is started again without the
//! machine, builds on what the system still shows of the lost writes, and then the power is cut.
//! Writes that fail, find no space or are done by half must be survived, or end all acknowledging.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use crate::disk::scene::{Scene, is_alive, until_ready_is};
use crate::disk::{Fault, Wrong};
use crate::plan::Plan;
use crate::records::{Log, Outcome, Published};
use crate::report::Report;
use crate::service::{LOOK_EVERY, Service};

const NAME: &str = "storage";

/// Size of the disk, in bytes: it is in memory, and is not to be full here.
const CAPACITY_BYTES: u64 = 1024 * 1024 * 1024;

/// Cycles that one store goes through before it is judged: what was lost on its way again and again
/// is tried alone, so that more of it would take long.
const CYCLES_PER_STORE: u64 = 10;

/// The parts with failing writes are numbered from here on.
const WRITES_FROM: u64 = 1_000;

/// How long there is load before something fails, in milliseconds.
const LOAD_MS: std::ops::Range<u64> = 30..250;

/// How many syncs or writes go well after that, at most.
const SYNCS_MAX: u64 = 20;
const WRITES_MAX: u64 = 200;

/// How long it may take until so many were done.
const HIT_WITHIN: Duration = Duration::from_secs(5);

/// How soon it must say that it is not ready once a sync has failed.
const UNREADY_WITHIN: Duration = Duration::from_secs(1);

/// How long it is watched not to acknowledge anything.
const WATCHED_FOR: Duration = Duration::from_millis(200);

/// How soon it must be back once the disk works again, where it needs no restart.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How soon it must end when asked to, with storage that takes nothing.
const ENDED_WITHIN: Duration = Duration::from_secs(40);

/// A line written in the millisecond of the fault may be of before.
const CLOCK_MS: u64 = 2;

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new(NAME, plan);
    for (part, cycles) in parts(plan.cycles(5, 50)) {
        fail_syncs(plan, &mut report, part, cycles).await?;
    }
    for (part, cycles) in parts(plan.cycles(6, 600)) {
        fail_writes(plan, &mut report, WRITES_FROM + part, cycles).await?;
    }
    Ok(report)
}

/// So many cycles in parts, each with a store of its own.
fn parts(cycles: u64) -> impl Iterator<Item = (u64, u64)> {
    let parts = cycles.div_ceil(CYCLES_PER_STORE);
    (0..parts).map(move |part| (part, CYCLES_PER_STORE.min(cycles - part * CYCLES_PER_STORE)))
}

async fn fail_syncs(plan: &Plan, report: &mut Report, part: u64, cycles: u64) -> Result<()> {
    let mut scene = Scene::new(plan, NAME, part, CAPACITY_BYTES).await?;
    scene.furnish().await?;
    let producer = scene.publish();
    let mut slowest = Duration::ZERO;
    for cycle in 0..cycles {
        let times = if scene.chance.one_in(2) { 1 } else { u64::MAX };
        let service = scene.start().await?;
        scene.go_on(LOAD_MS).await;
        let after = scene.chance.below(SYNCS_MAX);
        if !hit(&scene, Fault { wrong: Wrong::SyncFails, after, times }).await {
            report.broken(format!("cycle {cycle}: no sync failed"));
        }
        let failed_at_ms = scene.stage.published.now_ms() + CLOCK_MS;
        match until_ready_is(&service, false, UNREADY_WITHIN).await {
            Some(took) => slowest = slowest.max(took),
            None => report.broken(format!(
                "cycle {cycle}: still ready {UNREADY_WITHIN:?} after a sync failed ({times} times)"
            )),
        }
        sleep(WATCHED_FOR).await;
        let since = acknowledged_since(&scene.stage.published, failed_at_ms)?;
        report.must(since == 0, || {
            format!("cycle {cycle}: {since} acknowledged after a sync had failed")
        });
        end(report, cycle, service).await?;
        scene.disk.set_fault(None);

        // The machine was not started anew: the system still shows what is not on the disk.
        let service = scene.start().await?;
        scene.go_on(LOAD_MS).await;
        let survival = scene.any_survival();
        scene.lose_power(service, survival).await?;
        report.cycles += 1;
        report.injected += 1;
    }
    report.note(format!("not ready at most {} ms after a failed sync", slowest.as_millis()));
    scene.judge(report, 2 * cycles, producer).await
}

/// Ends a service that trusts its storage no more, by a kill or in good order.
async fn end(report: &mut Report, cycle: u64, mut service: Service) -> Result<()> {
    if !cycle.is_multiple_of(4) {
        return service.kill().await;
    }
    // It may have ended by itself.
    let _ = service.terminate();
    let status = service.ended(ENDED_WITHIN).await?;
    report
        .must(!status.success(), || format!("cycle {cycle}: it ended as if nothing had happened"));
    Ok(())
}

/// How many requests were acknowledged that were begun after this.
fn acknowledged_since(published: &Log, since_ms: u64) -> Result<usize> {
    let mut begun = BTreeMap::new();
    let mut acknowledged = 0;
    for line in published.read::<Published>()? {
        match line {
            Published::Asking { key, at_ms, .. } => drop(begun.insert(key, at_ms)),
            Published::Told { key, outcome: Outcome::Acknowledged, .. } => {
                acknowledged += usize::from(begun.get(&key).is_some_and(|at_ms| *at_ms > since_ms));
            }
            Published::Told { .. } => {}
        }
    }
    Ok(acknowledged)
}

/// Lets this go wrong and waits until it has.
async fn hit(scene: &Scene, fault: Fault) -> bool {
    let before = scene.disk.counts().wrong;
    scene.disk.set_fault(Some(fault));
    let begun_at = Instant::now();
    while scene.disk.counts().wrong == before {
        if begun_at.elapsed() > HIT_WITHIN {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

async fn fail_writes(plan: &Plan, report: &mut Report, part: u64, cycles: u64) -> Result<()> {
    let kinds = [Wrong::WriteFails, Wrong::WriteFindsNoSpace, Wrong::WriteIsShort];
    let mut scene = Scene::new(plan, NAME, part, CAPACITY_BYTES).await?;
    scene.furnish().await?;
    let producer = scene.publish();
    let mut went_on = 0;
    let mut running: Option<Service> = None;
    for cycle in 0..cycles {
        let wrong = kinds[cycle as usize % kinds.len()];
        let times = if scene.chance.one_in(2) { 1 } else { u64::MAX };
        let service = match running.take() {
            Some(service) => service,
            None => scene.start().await?,
        };
        scene.go_on(LOAD_MS).await;
        let after = scene.chance.below(WRITES_MAX);
        let what = format!("cycle {cycle}, {wrong:?} after {after}, {times} times");
        if !hit(&scene, Fault { wrong, after, times }).await {
            report.broken(format!("{what}: it never came"));
        }
        sleep(WATCHED_FOR).await;
        report.must(is_alive(&service).await, || format!("{what}: the process is gone"));
        scene.disk.set_fault(None);
        report.cycles += 1;
        report.injected += 1;
        // What was refused for want of space changed nothing; what was done by half is done again.
        let must_go_on = match wrong {
            Wrong::WriteFindsNoSpace => true,
            Wrong::WriteIsShort => times == 1,
            Wrong::WriteFails | Wrong::SyncFails => false,
        };
        let limit = if must_go_on { BACK_WITHIN } else { Duration::ZERO };
        if until_ready_is(&service, true, limit).await.is_some() {
            went_on += 1;
            running = Some(service);
            continue;
        }
        report.must(!must_go_on, || format!("{what}: not ready {BACK_WITHIN:?} later"));
        if scene.chance.one_in(2) {
            service.kill().await?;
        } else {
            let survival = scene.any_survival();
            scene.lose_power(service, survival).await?;
        }
    }
    report.note(format!("after {went_on} of {cycles} failed writes it went on without a restart"));
    if let Some(service) = running {
        service.kill().await?;
    }
    scene.judge(report, cycles, producer).await
}
