//! Too few descriptors and too little memory.
//!
//! Descriptors: callers hold more connections than the service may have files. It goes on, says so, and
//! is itself again when they leave, without a restart. Memory: large events, receivers that answer
//! without end, and a limit to what it may write to: the process dies by it, again and again, and
//! nothing that it acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::client;
use crate::plan::Plan;
use crate::producer::Load;
use crate::receiver::{Asked, Reply};
use crate::report::Report;
use crate::service::{Begun, Service};
use crate::stage::{Allowance, Stage};

const NAME: &str = "limits";

const SCHEDULE: &str = "0,1,1,1,1,1,1,1,1,1,1,1";

/// Descriptors that the service may have.
const FILES: &str = "--nofile=64:64";

/// What the log says of it.
const NONE_LEFT: &str = "could not accept a connection";

/// Connections that callers hold meanwhile.
const CONNECTIONS: usize = 100;

/// How soon after the callers left events must be accepted again.
const RECOVERED_MAX: Duration = Duration::from_secs(5);

/// The largest event, but for the rest of its request.
const EVENT_BYTES: u64 = 250 * 1024;

/// Memory that can be written beyond what an idle service has, in MiB; each at least once.
const SPARE_MIB: [u64; 4] = [4, 8, 16, 32];

/// How long a service is loaded that may die of it.
const LOADED_FOR: Duration = Duration::from_secs(2);

/// What a service with the default limits may hold in memory after such a load, in MiB.
const RESIDENT_MIB_MAX: u64 = 256;

const DRAIN_MAX: Duration = Duration::from_mins(1);

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new(NAME, plan);
    files(plan, &mut report).await.context("descriptors")?;
    memory(plan, &mut report).await.context("memory")?;
    Ok(report)
}

async fn files(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut chance = plan.chance(0);
    let mut stage = Stage::new(plan, NAME).await?;
    let launch = stage.launch(plan).wrapped_by(&["prlimit", FILES]);
    let service = launch.with(&["--retry-schedule", SCHEDULE]).start().await?;
    stage.furnish(&service, 2, &json!({})).await?;
    stage.service_is(Some(&service));
    let producer = stage.publish(Load::at_rate(50.0, 4, chance.next()));
    let (mut full, rounds) = (0, plan.by_form(1, 20));
    for _ in 0..rounds {
        sleep(Duration::from_millis(300)).await;
        let said = service.launch.log().matches(NONE_LEFT).count();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            // They wait in the system's queue if they are not accepted.
            held.push(TcpStream::connect(service.address).await?);
        }
        sleep(Duration::from_secs(1)).await;
        full += u64::from(service.launch.log().matches(NONE_LEFT).count() > said);
        report.injected += 1;
        report.cycles += 1;
        drop(held);
        let (left_at, before) = (Instant::now(), producer.acknowledged());
        while producer.acknowledged() < before + 10 && left_at.elapsed() <= RECOVERED_MAX {
            sleep(Duration::from_millis(5)).await;
        }
        report.must(producer.acknowledged() >= before + 10, || {
            format!("descriptors: no events are accepted {RECOVERED_MAX:?} after all had left")
        });
    }
    producer.stop().await;
    report.sometimes(
        "rounds in which no descriptor was left, and the log said so",
        full,
        rounds,
        50,
    );
    // Attempts without a descriptor fail, and are made again.
    stage.judge(report, "descriptors", &service, Bounds::STRICT, DRAIN_MAX).await?;
    report.must(report.tally.exhausted == 0, || "descriptors: deliveries were given up".to_owned());
    service.stop().await
}

async fn memory(plan: &Plan, report: &mut Report) -> Result<()> {
    let mut chance = plan.chance(1);
    let mut stage = Stage::new(plan, NAME).await?;
    let slow = |_: Asked<'_>| Reply::Answer { status: 200, after: Duration::from_millis(300) };
    stage.receiver.behave(slow);
    // Large events bring it down, again and again.
    stage.allowance = Allowance::SetAside;
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let service = launch.start().await?;
    let data_mib = status_kib(&service, "VmData:")? / 1024;
    let is_over = Arc::new(AtomicBool::new(false));
    let endless = endless(Arc::clone(&is_over)).await?;
    stage.furnish(&service, 3, &json!({})).await?;
    let without_end = answer_without_end(&stage, &service, &endless).await?;
    // What it takes when it may.
    stage.service_is(Some(&service));
    let load = || Load { data_bytes: (EVENT_BYTES / 2, EVENT_BYTES), ..Load::closed(12, 0) };
    let producer = stage.publish(Load { seed: chance.next(), ..load() });
    sleep(LOADED_FOR).await;
    producer.stop().await;
    sleep(Duration::from_millis(500)).await;
    let resident_mib = service.resident_bytes()? >> 20;
    report.note(format!(
        "{resident_mib} MiB resident after large events, with all the memory it wants"
    ));
    report.must(resident_mib <= RESIDENT_MIB_MAX, || format!("{resident_mib} MiB resident"));
    stage.service_is(None);
    service.kill().await?;
    let (mut died, starts) = (0, plan.cycles(4, 50));
    for spare_mib in SPARE_MIB.into_iter().cycle().take(starts as usize) {
        let bytes = (data_mib + spare_mib) << 20;
        let limited = launch.clone().wrapped_by(&["prlimit", &format!("--data={bytes}:{bytes}")]);
        report.injected += 1;
        report.cycles += 1;
        let Begun::Ready(mut service) = limited.begin().await? else {
            died += 1;
            continue;
        };
        stage.service_is(Some(&service));
        let producer = stage.publish(Load { seed: chance.next(), ..load() });
        let died_of_it = service.ended(LOADED_FOR).await.is_ok();
        died += u64::from(died_of_it);
        stage.service_is(None);
        producer.stop().await;
        if !died_of_it {
            service.kill().await?;
        }
    }
    report.sometimes("processes that died for want of memory", died, starts, 20);
    is_over.store(true, Ordering::Relaxed);
    stage.receiver.behave(|_| Reply::status(200));
    let service = launch.start().await?;
    let path = format!("/api/v1/endpoints/{without_end}");
    client::call(service.address, Method::DELETE, &path, "").await?;
    // At each death: what was on its way to three endpoints.
    let bounds = Bounds { duplicates_max: (starts + 1) * 3 * 32, ..Bounds::STRICT };
    stage.judge(report, "memory", &service, bounds, DRAIN_MAX).await?;
    service.stop().await
}

/// Has one more endpoint of the account answered by somebody who never comes to an end; answers its
/// id. It is not among those that the oracle knows, and is deleted before it judges.
async fn answer_without_end(stage: &Stage, service: &Service, url: &str) -> Result<String> {
    let target = stage.targets.last().context("an account was made")?;
    let path = format!("/api/v1/accounts/{}/endpoints", target.account);
    let body = json!({"url": url, "events": [target.event_type]});
    let made = client::create(service.address, &path, &body).await?;
    Ok(made["id"].as_str().context("an endpoint has an id")?.to_owned())
}

/// A receiver whose answers have no end, until it is over.
async fn endless(is_over: Arc<AtomicBool>) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/endless", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                let filling = vec![b'x'; 64 * 1024];
                let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
                while sent.is_ok() && !is_over.load(Ordering::Relaxed) {
                    sent = stream.write_all(&filling).await;
                }
            });
        }
    });
    Ok(url)
}

/// A line of the process's status, in KiB (proc(5)).
fn status_kib(service: &Service, name: &str) -> Result<u64> {
    let file = format!("/proc/{}/status", service.id()?.as_raw_nonzero());
    let status = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.with_context(|| format!("no {name} in {file}"))
}
