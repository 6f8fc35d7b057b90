//! Backups of a service that is publishing and delivering: each holds every event acknowledged before
//! it was begun, and what it holds is delivered when it is served elsewhere.
//!
//! Every event is owed to two endpoints. One takes everything, so that there is much to record; the
//! other fails, so that every backup has a backlog. A copy is served in a folder of its own, where a
//! receiver of its own takes all of it.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rusqlite::Connection;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::oracle::{Endpoint, Evidence};
use crate::plan::Plan;
use crate::producer::Load;
use crate::receiver::{Receiver, Reply};
use crate::records::{Log, Published, Received};
use crate::report::Report;
use crate::service::{LOOK_EVERY, Launch, Service};
use crate::stage::Stage;

/// Events a second.
const PER_SECOND: f64 = 200.0;
const CONNECTIONS: usize = 8;

/// Large enough that copying takes a while.
const DATA_BYTES: (u64, u64) = (64, 16 * 1024);

/// Retries come soon; the breaker sees to it that none of them is the last one.
const SCHEDULE: &str = "0,1,1,1,1,1,1,1,1,1,1,1";

/// How long the backlog of a copy may take, on a slow machine.
const DRAIN_MAX: Duration = Duration::from_mins(1);

/// What may be on its way to one host when a copy is made, answered and not yet recorded.
const ON_ITS_WAY_MAX: u64 = 2 * 64;

/// The path of the endpoint that fails while the copies are made.
const FAILING: &str = "/endpoint/1";

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let cycles = plan.cycles(2, 20);
    let mut report = Report::new("backup", plan);
    let mut chance = plan.chance(0);
    let mut stage = Stage::new(plan, "backup").await?;
    stage.receiver.behave(|asked| Reply::status(if asked.path == FAILING { 500 } else { 200 }));
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let service = launch.start().await?;
    stage.furnish(&service, 2, &json!({})).await?;
    stage.service_is(Some(&service));
    let load =
        Load { data_bytes: DATA_BYTES, ..Load::at_rate(PER_SECOND, CONNECTIONS, chance.next()) };
    let producer = stage.publish(load);
    let mut busy = 0;
    let mut log_bytes_max = 0;
    for cycle in 1..=cycles {
        sleep(Duration::from_millis(chance.between(500..1_500))).await;
        let acknowledged = producer.acknowledged();
        let copy = back_up(&stage, &launch, cycle).await?;
        busy += u64::from(producer.acknowledged() > acknowledged);
        log_bytes_max = log_bytes_max.max(copy.log_bytes_max);
        report.note(format!(
            "backup {cycle}: {} events, {} bytes in {:.2} s",
            copy.events,
            copy.bytes,
            copy.took.as_secs_f64()
        ));
        report.injected += 1;
        report.cycles += 1;
        check(&mut report, &stage, &launch, copy).await?;
    }
    producer.stop().await;
    report.sometimes("backups during which events were acknowledged", busy, cycles, 80);
    report.note(format!("the service's log had at most {log_bytes_max} bytes"));
    service.stop().await?;
    Ok(report)
}

/// A backup, in a folder of its own, with the logs as they were.
struct Copy {
    folder: PathBuf,
    published: Log,
    successes_before: u64,
    events: u64,
    bytes: u64,
    took: Duration,
    log_bytes_max: u64,
}

async fn back_up(stage: &Stage, launch: &Launch, cycle: u64) -> Result<Copy> {
    let folder = stage.folder().join(format!("copy-{cycle}"));
    std::fs::create_dir(&folder)?;
    let file = folder.join("postrider.db");
    // What was acknowledged until now must be in it.
    let published = Log::begin(&folder.join("published.jsonl"))?;
    for line in stage.published.read::<Published>()? {
        published.write(&line);
    }
    let successes_before = stage.receiver.succeeded();
    let begun_at = Instant::now();
    let mut copying = Box::pin(
        Command::new(launch.program())
            .args(["backup", "--store"])
            .arg(format!("sqlite:{}", launch.store().display()))
            .arg(&file)
            .env_clear()
            .kill_on_drop(true)
            .output(),
    );
    let mut log_bytes_max = 0;
    let output: Output = loop {
        tokio::select! {
            output = &mut copying => break output?,
            () = sleep(LOOK_EVERY) => {
                let log = beside(launch.store(), "-wal").metadata();
                log_bytes_max = log_bytes_max.max(log.map_or(0, |log| log.len()));
            }
        }
    };
    let took = begun_at.elapsed();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "no backup: {}", String::from_utf8_lossy(&output.stderr));
    let events = number_before(&said, " events accepted").context("it says how many events")?;
    std::fs::copy(beside(launch.store(), ".keys"), beside(&file, ".keys"))?;
    let bytes = file.metadata()?.len();
    Ok(Copy { folder, published, successes_before, events, bytes, took, log_bytes_max })
}

/// Serves the copy and judges: everything acknowledged before is delivered, there or before.
async fn check(report: &mut Report, stage: &Stage, launch: &Launch, copy: Copy) -> Result<()> {
    // What the endpoint that takes everything got from the original need not come from the copy.
    let received = copy.folder.join("received.jsonl");
    let until_now = Log::begin(&received)?;
    for line in stage.receiver.log().read::<Received>()? {
        if line.path != FAILING {
            until_now.write(&line);
        }
    }
    let receiver = Receiver::start(&received).await?;
    for Endpoint { path, contract, secret, .. } in &stage.endpoints {
        receiver.endpoint(path, *contract, secret);
    }
    let store = copy.folder.join("postrider.db");
    let (from, to) = (stage.receiver.address.to_string(), receiver.address.to_string());
    let copied = Connection::open(&store)?;
    copied.execute("UPDATE endpoints SET url = replace(url, ?1, ?2)", [from, to])?;
    // Such a row is not read, but for the digests that the step to this version of the schema makes.
    copied.execute_batch("ALTER TABLE endpoints DROP COLUMN digest; PRAGMA user_version = 3")?;
    drop(copied);
    let again = Launch::new(launch.program(), &copy.folder).with(&["--retry-schedule", SCHEDULE]);
    let service = again.start().await?;
    let when = copy.folder.file_name().map_or_else(String::new, |it| it.display().to_string());
    if let Err(error) = service.drained(DRAIN_MAX).await {
        report.broken(format!("{when}: {error:#}"));
    }
    let mut evidence = Evidence::read(&copy.published, receiver.log(), &stage.endpoints)?;
    evidence.ask(service.address).await?;
    // What the original delivered after the copy was made is delivered again.
    let since = stage.receiver.succeeded().saturating_sub(copy.successes_before);
    let duplicates_max = since + ON_ITS_WAY_MAX;
    let verdict = evidence.judge(Bounds { duplicates_max, strangers: true, ..Bounds::STRICT });
    report.must(verdict.tally.acknowledged > 0, || format!("{when}: nothing was acknowledged"));
    report.must(verdict.tally.delivered == verdict.tally.acknowledged, || {
        format!("{when}: not everything that was acknowledged is delivered: {:?}", verdict.tally)
    });
    report.add(&when, &verdict);
    judge_counts(report, &when, &service, &evidence, &copy).await?;
    service.stop().await
}

async fn judge_counts(
    report: &mut Report,
    when: &str,
    service: &Service,
    evidence: &Evidence,
    copy: &Copy,
) -> Result<()> {
    let balance = service.metric("postrider_balance").await?;
    report.must(balance == 0.0, || format!("{when}: the deliveries do not balance: {balance}"));
    let events = service.metric("postrider_events_total").await? as u64;
    report.must(events == copy.events, || {
        format!("{when}: it has {events} events and was said to have {}", copy.events)
    });
    let acknowledged = evidence.acknowledged;
    report.must(events >= acknowledged, || {
        format!("{when}: {acknowledged} events were acknowledged before, and it has {events}")
    });
    Ok(())
}

fn beside(store: &Path, ending: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// The number that stands before these words.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let before = text.split_once(words)?.0;
    before.rsplit(' ').next()?.parse().ok()
}
