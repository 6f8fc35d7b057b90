//! Killed at random moments under load and started again: everything it ever acknowledged arrives.
//!
//! Several lanes go on beside one another, each a service with a store of its own. Publishers go on
//! through all kills of a round; some receivers fail at first, so that there are retries to remember;
//! now and then a kill comes right after the start, while the last one is being recovered from. At
//! the end of a round everything is drained and judged.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testkit::auditor::{Bounds, digest};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::disk::Chance;
use crate::plan::Plan;
use crate::producer::Load;
use crate::receiver::{Asked, Reply};
use crate::report::Report;
use crate::stage::{Allowance, Stage};

/// Services beside one another: they fill each other's waiting.
const LANES: u64 = 5;

/// Kills between two judgements.
const ROUND: u64 = 25;

/// Events a second, endpoints for each event, and connections, of a lane: little enough for five
/// unoptimised services on two cores, and with what receivers take, several are always on their way.
const PER_SECOND: f64 = 50.0;
const ENDPOINTS: usize = 2;
const CONNECTIONS: usize = 8;

/// How many per cent of the kills must have met attempts or publishers on their way.
const MET_WORK_PERCENT: u64 = 80;

/// Duplicates that one kill may cause: attempts on their way to one host at once, which is
/// `--in-flight-per-host-max`, and as many that have been answered and not yet been recorded.
const DUPLICATES_OF_A_KILL_MAX: u64 = 2 * 64;

/// Retries come soon. Few are needed: receivers fail once.
const SCHEDULE: &str = "0,1,1,1,1,1,1,1,1,1,1,1";

/// How long what is pending may take after the last kill: what was on its way at two kills is tried
/// alone, one a second (`engine::deliver`), and a round leaves dozens of those.
const DRAIN_MAX: Duration = Duration::from_mins(5);

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let cycles = plan.cycles(25, 1_000);
    let lanes = LANES.min(cycles);
    let mut running = JoinSet::new();
    for number in 0..lanes {
        let of_lane = cycles / lanes + u64::from(number < cycles % lanes);
        let plan = plan.clone();
        running.spawn(async move { lane(&plan, number, of_lane).await });
    }
    let mut report = Report::new("kill", plan);
    let mut met = Met::default();
    while let Some(found) = running.join_next().await {
        let (of_lane, met_by_lane) = found??;
        report.merge(of_lane);
        met.attempts += met_by_lane.attempts;
        met.work += met_by_lane.work;
    }
    let kills = report.injected;
    report.sometimes("kills that met work in flight", met.work, kills, MET_WORK_PERCENT);
    report.sometimes("kills that met attempts on their way", met.attempts, kills, 30);
    report.note(format!("at most {DUPLICATES_OF_A_KILL_MAX} duplicates are explained by a kill"));
    Ok(report)
}

/// What kills met.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    /// Kills that met attempts on their way.
    attempts: u64,
    /// Kills that met those, or publishers who waited for their answer.
    work: u64,
}

async fn lane(plan: &Plan, number: u64, cycles: u64) -> Result<(Report, Met)> {
    let mut chance = plan.chance(number);
    let mut report = Report::new("kill", plan);
    let mut met = Met::default();
    while report.injected < cycles {
        let kills = ROUND.min(cycles - report.injected);
        round(plan, number, kills, &mut chance, (&mut report, &mut met)).await?;
    }
    Ok((report, met))
}

async fn round(
    plan: &Plan,
    lane: u64,
    kills: u64,
    chance: &mut Chance,
    (report, met): (&mut Report, &mut Met),
) -> Result<()> {
    let mut stage = Stage::new(plan, "kill").await?;
    stage.receiver.behave(behave);
    stage.allowance = Allowance::SetAside;
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let mut service = launch.start().await?;
    stage.furnish(&service, ENDPOINTS, &json!({})).await?;
    stage.service_is(Some(&service));
    let producer = stage.publish(Load::at_rate(PER_SECOND, CONNECTIONS, chance.next()));
    for _ in 0..kills {
        sleep(moment(plan, chance)).await;
        let (attempts, asking) = (stage.receiver.in_flight() > 0, producer.in_flight() > 0);
        met.work += u64::from(attempts || asking);
        met.attempts += u64::from(attempts);
        stage.service_is(None);
        service.kill().await?;
        report.injected += 1;
        report.cycles += 1;
        service = launch.start().await?;
        stage.service_is(Some(&service));
    }
    producer.stop().await;
    let bounds = Bounds { duplicates_max: kills * DUPLICATES_OF_A_KILL_MAX, ..Bounds::STRICT };
    let when = format!("lane {lane} until kill {}", report.injected);
    stage.judge(report, &when, &service, bounds, DRAIN_MAX).await?;
    service.stop().await
}

/// How long after the start to kill: one time in eight while it recovers.
fn moment(plan: &Plan, chance: &mut Chance) -> Duration {
    let range = if chance.one_in(8) { 0..50 } else { plan.by_form(100..1_000, 200..3_000) };
    Duration::from_millis(chance.between(range))
}

/// Takes a while; at first one event in five fails, and one in twenty is not answered.
fn behave(asked: Asked<'_>) -> Reply {
    let byte = u64::from(digest(asked.webhook_id.as_bytes())[0]);
    match byte % 20 {
        0..4 if asked.attempt == 1 => Reply::status(500),
        4 if asked.attempt == 1 => Reply::Close,
        _ => Reply::Answer { status: 200, after: Duration::from_millis(10 + byte / 3) },
    }
}
