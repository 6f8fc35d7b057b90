//! Asked to stop with 200 attempts on their way and publishers at work: everything on its way ends,
//! nothing is delivered twice, nobody who comes late is left without an answer.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::plan::Plan;
use crate::producer::{Load, Publication};
use crate::receiver::Reply;
use crate::report::Report;
use crate::service::{LOOK_EVERY, Service};
use crate::stage::Stage;

/// Attempts on their way when the signal comes.
const IN_FLIGHT: u64 = 200;

/// Accounts with one endpoint each; none may hold more of the slots than are free.
const ACCOUNTS: usize = 4;

/// What the log says once the signal has been acted on.
const STOPPING: &str = "stopping: no more events";

/// How long receivers take once the signal has come.
const ANSWERED_AFTER: Duration = Duration::from_secs(1);

/// How long a stop may take.
const STOP_MAX: Duration = Duration::from_secs(20);

/// How long it may take until that much is on its way, and until the rest is delivered afterwards.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("stop", plan);
    let (mut longest, mut refused) = (Duration::ZERO, 0);
    for cycle in 0..plan.cycles(2, 50) {
        let seed = plan.chance(cycle).next();
        let stopped = stop(plan, seed, &mut report).await?;
        longest = longest.max(stopped.took);
        refused += u64::from(stopped.refused);
    }
    let stops = report.injected;
    report.sometimes("late publishers that were answered 503", refused, stops, 50);
    report.note(format!("the longest stop took {:.1} s", longest.as_secs_f64()));
    Ok(report)
}

/// A stop.
struct Stopped {
    took: Duration,
    /// Whether a late publisher was answered 503.
    refused: bool,
}

async fn stop(plan: &Plan, seed: u64, report: &mut Report) -> Result<Stopped> {
    let mut stage = Stage::new(plan, "stop").await?;
    stage.receiver.behave(|_| Reply::Held { status: 200, after: ANSWERED_AFTER });
    let launch = stage.launch(plan).with(&[
        "--in-flight-per-endpoint-max",
        "128",
        "--in-flight-per-host-max",
        "512",
    ]);
    let mut service = launch.start().await?;
    for _ in 0..ACCOUNTS {
        stage.furnish(&service, 1, &json!({})).await?;
    }
    stage.service_is(Some(&service));
    let producer = stage.publish(Load { repeated_percent: 0, ..Load::closed(8, seed) });
    let begun_at = Instant::now();
    while stage.receiver.in_flight() < IN_FLIGHT && begun_at.elapsed() < WAIT_MAX {
        sleep(LOOK_EVERY).await;
    }
    let met = stage.receiver.in_flight();
    report.must(met >= IN_FLIGHT, || format!("only {met} attempts were on their way"));

    let mut late = Connection::open(service.address).await?;
    // In use, so that it is known to the service.
    late.send(Method::GET, "/healthz", &[], "").await?.json(200)?;
    let asked_at = Instant::now();
    service.terminate()?;
    report.injected += 1;
    report.cycles += 1;
    stage.receiver.open_gate();
    let refused = come_late(&stage, late, &service, report).await;
    let status = ended(&mut service, report).await;
    let took = asked_at.elapsed();
    report.must(status.is_some_and(|status| status.success()), || format!("ended by {status:?}"));
    stage.service_is(None);
    producer.stop().await;

    let service = launch.start().await?;
    let when = format!("stop {}", report.cycles);
    stage.judge(report, &when, &service, Bounds::STRICT, WAIT_MAX).await?;
    service.stop().await?;
    Ok(Stopped { took, refused })
}

async fn ended(service: &mut Service, report: &mut Report) -> Option<ExitStatus> {
    match service.ended(STOP_MAX).await {
        Ok(status) => Some(status),
        Err(error) => {
            report.broken(format!("{error:#}"));
            None
        }
    }
}

/// Asks on a new connection, and on one that was open before the signal, once it has come. Answers
/// whether the latter was told to come again.
async fn come_late(
    stage: &Stage,
    mut open: Connection,
    service: &Service,
    report: &mut Report,
) -> bool {
    let begun_at = Instant::now();
    while !service.launch.log().contains(STOPPING) && begun_at.elapsed() < STOP_MAX {
        sleep(LOOK_EVERY).await;
    }
    let accepted = Connection::open(service.address).await.is_ok();
    report.must(!accepted, || "a stopping service accepts connections".to_owned());
    let publication = Publication::new(&stage.targets[0], "late", 64);
    let told = publication.ask(&mut open, &stage.published).await;
    // Closed, if we were so late that everything on its way had ended.
    let Some(answer) = told.answer else { return false };
    let closes = answer.headers.get("connection").is_some_and(|value| value == "close");
    let refused = answer.status == 503 && closes;
    report.must(refused, || format!("a late publisher was told {answer:?}"));
    refused
}
