//! The machine's clock set forward and back while retries wait.
//!
//! Each step is tried on a service of its own: hundreds of deliveries have failed once and wait for
//! their retry when the clock is set (by libfaketime; the monotonic clock goes on as it is). The retries
//! fail once more, so that their age is judged, and then succeed. None may be given up, come early or
//! late by the monotonic clock, or come in a crowd; cleaning must not take what waits; events published
//! afterwards have ids of their own.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client;
use crate::plan::Plan;
use crate::receiver::Reply;
use crate::records::{Outcome, Published, Received};
use crate::report::Report;
use crate::service::Launch;
use crate::stage::Stage;

const NAME: &str = "clock";

const HOUR: i64 = 3_600;

/// How the clock is set, in seconds.
const STEPS: [i64; 5] = [HOUR, 24 * HOUR, 400 * 24 * HOUR, -HOUR, -24 * HOUR];

/// Retries come 2 to 6 s after the attempt before: 4 s and the jitter.
const SCHEDULE: &str = "0,4,4,4,4,4,4,4,4,4,4,4";
const RETRY_FROM_MS: u64 = 2_000;
const RETRY_TO_MS: u64 = 6_000;

/// How much earlier or later than it is due a retry may come, by the monotonic clock.
const EARLY_MAX_MS: u64 = 500;
const LATE_MAX_MS: u64 = 5_000;

/// Attempts on their way to the receiver's host at most, unless set otherwise.
const IN_FLIGHT_MAX: u64 = 64;

/// Endpoints of each account, and events for each before the step. With one more after it, which is
/// answered alike, no breaker opens: that takes ten failures in a row.
const ENDPOINTS: usize = 20;
const EVENTS: u64 = 3;

const DRAIN_MAX: Duration = Duration::from_mins(1);

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut steps = JoinSet::new();
    // Beside one another, since most of it is waiting.
    for (number, step) in (0..plan.cycles(5, 5)).zip(STEPS.into_iter().cycle()) {
        let plan = plan.clone();
        steps.spawn(async move { set_by(&plan, number, step).await });
    }
    let mut report = Report::new(NAME, plan);
    while let Some(ended) = steps.join_next().await {
        report.merge(ended??);
    }
    let tally = report.tally;
    report.must(tally.exhausted + tally.cancelled == 0, || "deliveries were given up".to_owned());
    Ok(report)
}

async fn set_by(plan: &Plan, number: u64, step: i64) -> Result<Report> {
    let mut report = Report::new(NAME, plan);
    let mut chance = plan.chance(number);
    let accounts = plan.by_form(2, 17);
    let mut stage = Stage::new(plan, NAME).await?;
    stage.receiver.behave(|asked| Reply::status(if asked.attempt <= 2 { 500 } else { 200 }));
    let clock = stage.folder().join("clock");
    set(&clock, 0)?;
    let service = launch(&stage, plan, &clock)?.start().await?;
    for _ in 0..accounts {
        stage.furnish(&service, ENDPOINTS, &json!({})).await?;
    }
    stage.furnish(&service, 1, &json!({})).await?;
    let cleaned = stage.endpoints.last().context("it was furnished")?.id.clone();
    stage.targets.pop();
    let waiting = stage.publish_some(&service, EVENTS, chance.next()).await?;
    stage.receiver.until_received(waiting, DRAIN_MAX).await?;
    set(&clock, step)?;
    report.injected += 1;
    report.cycles += 1;
    // Deleting wakes the cleaner, which sees what it takes for old now.
    let path = format!("/api/v1/endpoints/{cleaned}");
    let deleted = client::call(service.address, Method::DELETE, &path, "").await?;
    report.must(deleted.status < 300, || format!("deleting was answered {}", deleted.status));
    let (mut most, set_at) = (0, Instant::now());
    while set_at.elapsed() < Duration::from_secs(3) {
        most = most.max(stage.receiver.in_flight());
        sleep(Duration::from_millis(1)).await;
    }
    report.must(most <= IN_FLIGHT_MAX, || format!("{step} s: {most} attempts at once"));
    stage.publish_some(&service, 1, chance.next()).await?;
    let when = format!("set by {step} s");
    stage.judge(&mut report, &when, &service, Bounds::STRICT, DRAIN_MAX).await?;
    judge_ids(&stage, &when, &mut report)?;
    judge_times(&stage, &when, &mut report)?;
    let log = service.launch.log();
    report.must(log.contains("clock was set"), || format!("{when}: the operator was not told"));
    service.stop().await?;
    Ok(report)
}

/// No id stands for two events.
fn judge_ids(stage: &Stage, when: &str, report: &mut Report) -> Result<()> {
    let lines = stage.published.read::<Published>()?;
    let mut seen = BTreeSet::new();
    for line in lines {
        if let Published::Told { outcome: Outcome::Acknowledged, event: Some(event), .. } = line {
            report.must(seen.insert(event.clone()), || format!("{when}: {event} came twice"));
        }
    }
    Ok(())
}

/// Every retry came when it was due.
fn judge_times(stage: &Stage, when: &str, report: &mut Report) -> Result<()> {
    let mut last: HashMap<(String, Option<String>), u64> = HashMap::new();
    let (mut earliest, mut latest) = (u64::MAX, 0);
    for line in stage.receiver.log().read::<Received>()? {
        if let Some(before) = last.insert((line.path, line.webhook_id), line.at_ms) {
            let gap = line.at_ms.saturating_sub(before);
            (earliest, latest) = (earliest.min(gap), latest.max(gap));
        }
    }
    report.note(format!("{when}: retries came {earliest} to {latest} ms after the attempt before"));
    report.must(latest > 0, || format!("{when}: there was no retry"));
    report.must(earliest.saturating_add(EARLY_MAX_MS) >= RETRY_FROM_MS, || {
        format!("{when}: {earliest} ms is early")
    });
    report.must(latest <= RETRY_TO_MS + LATE_MAX_MS, || format!("{when}: {latest} ms is late"));
    Ok(())
}

fn launch(stage: &Stage, plan: &Plan, clock: &Path) -> Result<Launch> {
    let library = library().context("libfaketime is not where Debian puts it")?;
    Ok(stage
        .launch(plan)
        .with(&["--retry-schedule", SCHEDULE])
        .with_variable("LD_PRELOAD", &library.display().to_string())
        .with_variable("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
        .with_variable("FAKETIME_NO_CACHE", "1")
        .with_variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .with_variable("DONT_FAKE_MONOTONIC", "1"))
}

/// Sets the clock apart from the machine's by so many seconds.
fn set(clock: &Path, seconds: i64) -> Result<()> {
    let next = clock.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}\n"))?;
    // Never half a file.
    Ok(std::fs::rename(next, clock)?)
}

fn library() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let mut files = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    files.find(|file| file.exists())
}
