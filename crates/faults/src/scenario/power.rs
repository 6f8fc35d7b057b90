//! The power is cut: what was synced survives, of the rest what chance leaves.
//!
//! The store lies on a disk of our own (`disk`). In each cycle publishers publish; at a random write
//! or sync the disk stops, the process is killed, and a new one starts on what is left: nothing of
//! what was not synced, some of it, in order or not, whole or torn. So it is done while a store is
//! made, too. The negative control shows that a loss would be seen: a disk that carries out syncs
//! of the log late, as `synchronous=NORMAL` asks for them, must lose something.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::disk::scene::Scene;
use crate::disk::{Survival, Syncs};
use crate::plan::Plan;
use crate::report::Report;
use crate::service::Begun;

const NAME: &str = "power";

/// Size of the disk, in bytes: it is in memory, and is not to be full here.
const CAPACITY_BYTES: u64 = 1024 * 1024 * 1024;

/// How long a sync takes: as on a good disk, so that power goes while one is under way.
const SYNC_TAKES: Duration = Duration::from_millis(1);

/// How long there is load before the cut, in milliseconds.
const LOAD_MS: std::ops::Range<u64> = 50..400;

/// Which change or sync is the first that is not done any more, after that: below this.
const CHANGES_MAX: u64 = 300;

/// How many changes and syncs it takes to make a new store, about, and a few more.
const CHANGES_OF_START: u64 = 600;

/// How long to wait for so many changes.
const CHANGES_WITHIN: Duration = Duration::from_secs(2);

/// Cuts that one store goes through before it is judged: what was lost on its way again and again is
/// tried alone, so that more of it would take long.
const CUTS_PER_STORE: u64 = 20;

/// How many per cent of the cuts must lose something that was written.
const LOSING_PERCENT: u64 = 50;

/// Cuts within which the negative control must lose something.
const CONTROL_CUTS_MAX: u64 = 50;

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new(NAME, plan);
    cut_under_load(plan, &mut report).await?;
    cut_while_starting(plan, &mut report).await?;
    lose_by_late_syncs(plan, &mut report).await?;
    Ok(report)
}

async fn new_scene(plan: &Plan, part: u64) -> Result<Scene> {
    let scene = Scene::new(plan, NAME, part, CAPACITY_BYTES).await?;
    scene.disk.set_sync_takes(SYNC_TAKES);
    Ok(scene)
}

/// One cycle: start, load, cut. Answers how many changes were lost.
async fn cycle(scene: &mut Scene, survival: Survival) -> Result<usize> {
    let service = scene.start().await.context("after a power cut")?;
    scene.go_on(LOAD_MS).await;
    scene.disk.cut_after(scene.chance.below(CHANGES_MAX), CHANGES_WITHIN).await;
    scene.lose_power(service, survival).await
}

async fn cut_under_load(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut losing = 0;
    let mut left = plan.cycles(12, 300);
    while left > 0 {
        let cycles = left.min(CUTS_PER_STORE);
        losing += cut_often(plan, report, cycles).await?;
        left -= cycles;
    }
    report.sometimes("cuts under load that lost changes", losing, report.injected, LOSING_PERCENT);
    Ok(())
}

/// So many cycles on a store of their own; answers how many of the cuts lost changes.
async fn cut_often(plan: &Plan, report: &mut Report, cycles: u64) -> Result<u64> {
    let mut scene = new_scene(plan, 10_000 + report.cycles).await?;
    scene.furnish().await?;
    let producer = scene.publish();
    let mut losing = 0;
    for number in 0..cycles {
        let survival = Survival::ALL[number as usize % Survival::ALL.len()];
        match cycle(&mut scene, survival).await {
            Ok(lost) => losing += u64::from(lost > 0),
            Err(error) => {
                report.broken(format!("cut {number} ({survival:?}): {error:#}"));
                return Ok(losing);
            }
        }
        report.cycles += 1;
        report.injected += 1;
    }
    scene.judge(report, cycles, producer).await?;
    Ok(losing)
}

/// Cuts the power while a store is made; the next start must go well, whatever is left.
async fn cut_while_starting(plan: &Plan, report: &mut Report) -> Result<()> {
    let starts = plan.by_form(5, 100);
    let mut ready_before = 0;
    for start in 0..starts {
        let mut scene = new_scene(plan, 1_000 + start).await?;
        let survival = Survival::ALL[start as usize % Survival::ALL.len()];
        let changes = scene.chance.below(CHANGES_OF_START);
        let begun = tokio::select! {
            begun = scene.launch.begin() => Some(begun?),
            // The process is killed with the start that is given up.
            () = scene.disk.cut_after(changes, Duration::from_secs(10)) => None,
        };
        match begun {
            Some(Begun::Ready(service)) => {
                ready_before += 1;
                scene.lose_power(service, survival).await?;
            }
            Some(Begun::Ended(status)) => {
                report.broken(format!("first start {start} ended by {status}"));
                continue;
            }
            None => drop(scene.disk.power_up(survival)?),
        }
        report.injected += 1;
        match scene.launch.start().await {
            Ok(service) => service.stop().await?,
            Err(error) => report.broken(format!(
                "start after a cut at change {changes} of the first ({survival:?}): {error:#}"
            )),
        }
    }
    report
        .note(format!("{starts} cuts in a first start, {ready_before} of them once it was ready"));
    Ok(())
}

/// The negative control: syncs that come late lose acknowledged events, and the oracle sees it.
async fn lose_by_late_syncs(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut scene = new_scene(plan, 2).await?;
    scene.furnish().await?;
    scene.disk.set_syncs(Syncs::Late);
    for cut in 1..=CONTROL_CUTS_MAX {
        let producer = scene.publish();
        // In order, so that what is left of the log is whole and nothing but the oracle misses anything.
        cycle(&mut scene, Survival::InOrder).await?;
        let mut control = Report::new(NAME, plan);
        scene.judge(&mut control, cut, producer).await?;
        let lost = control.tally.lost;
        if lost > 0 {
            report.note(format!(
                "negative control, late syncs: {lost} deliveries lost after {cut} cuts"
            ));
            return Ok(());
        }
        if let Some(other) = control.violations.first() {
            report.broken(format!("negative control: {other}"));
            return Ok(());
        }
    }
    report.broken(format!(
        "late syncs lost nothing in {CONTROL_CUTS_MAX} cuts: no loss would be seen"
    ));
    Ok(())
}
