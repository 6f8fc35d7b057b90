//! Stores of earlier versions, with a backlog, are opened by this one: everything they owe arrives,
//! and nothing that was done comes again, also when the start is killed anywhere in between.
//!
//! The stores were left by the programs of those versions when they were killed (`fixtures`). Kills
//! come at system calls spread evenly over everything that a start writes until it is ready; in the long
//! form at each of them. A file that is of a later version is refused and left as it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use domain::contract::Contract;
use engine::clock::{Clock as _, SystemClock};
use http::Method;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};
use serde::Deserialize;
use testkit::auditor::Bounds;

use crate::client;
use crate::oracle::Endpoint;
use crate::plan::Plan;
use crate::records::{Outcome, Published};
use crate::report::Report;
use crate::service::{Begun, Launch};
use crate::stage::Stage;

/// How long the backlog may take: on a machine that stands still for a while, attempts run out of
/// time, and a breaker may be open for 36 seconds.
const DRAIN_MAX: Duration = Duration::from_mins(1);

/// Retries come soon.
const SCHEDULE: &str = "0,1,1,1,1,1,1,1,1,1,1,1";

/// System calls that change what is on the disk.
const CALLS: &str =
    "write,pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat,renameat2";

/// An attempt that met a killed start may come again: so many may be on their way to one host.
const DUPLICATES_OF_A_KILL_MAX: u64 = 2 * 64;

/// A store of an earlier version.
struct Fixture {
    schema: i64,
    database: &'static [u8],
    log: &'static [u8],
    keys: Option<&'static [u8]>,
    manifest: &'static str,
}

const FIXTURES: [Fixture; 2] = [
    Fixture {
        schema: 1,
        database: include_bytes!("../../fixtures/schema-1/database"),
        log: include_bytes!("../../fixtures/schema-1/log"),
        keys: None,
        manifest: include_str!("../../fixtures/schema-1/manifest.json"),
    },
    Fixture {
        schema: 2,
        database: include_bytes!("../../fixtures/schema-2/database"),
        log: include_bytes!("../../fixtures/schema-2/log"),
        keys: Some(include_bytes!("../../fixtures/schema-2/keys")),
        manifest: include_str!("../../fixtures/schema-2/manifest.json"),
    },
];

/// What is in a store.
#[derive(Deserialize)]
struct Manifest {
    made_at_ms: i64,
    /// Where its endpoints were.
    address: String,
    endpoints: Vec<KnownEndpoint>,
    events: Vec<KnownEvent>,
}

#[derive(Deserialize)]
struct KnownEndpoint {
    id: String,
    path: String,
    contract: String,
    secret: String,
}

#[derive(Deserialize)]
struct KnownEvent {
    id: String,
    data_sha256: String,
    /// The paths where it was not delivered yet.
    owed: Vec<String>,
    repeat: Option<Repeat>,
}

/// A request that had an idempotency key.
#[derive(Deserialize)]
struct Repeat {
    key: String,
    body: String,
}

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let [first, second] = &FIXTURES;
    let (first, second) = tokio::try_join!(of_fixture(plan, first), of_fixture(plan, second))?;
    let mut report = Report::new("upgrade", plan);
    let mut unfinished = 0;
    for (of_fixture, of_them) in [first, second] {
        report.merge(of_fixture);
        unfinished += of_them;
    }
    let kills = report.injected;
    report.sometimes("kills that left an upgrade to be finished", unfinished, kills, 20);
    Ok(report)
}

/// Answers how many kills left something to do, too.
async fn of_fixture(plan: &Plan, fixture: &Fixture) -> Result<(Report, u64)> {
    let mut report = Report::new("upgrade", plan);
    let schema = fixture.schema;
    undisturbed(plan, fixture, &mut report).await.with_context(|| format!("schema {schema}"))?;
    let calls = count_calls(plan, fixture).await?;
    let cycles = plan.cycles(10, 2_000).div_ceil(FIXTURES.len() as u64).min(calls);
    report.note(format!("schema {schema}: killed at {cycles} of {calls} system calls that write"));
    let mut chance = plan.chance(schema as u64);
    let mut unfinished = 0;
    for cycle in 0..cycles {
        // One in each of so many equal parts.
        let part = calls * cycle / cycles..calls * (cycle + 1) / cycles;
        let call = 1 + chance.between(part);
        let killed = killed(plan, fixture, call, &mut report).await;
        unfinished += u64::from(killed.with_context(|| format!("schema {schema}, call {call}"))?);
    }
    Ok((report, unfinished))
}

/// Opens it, and then a copy of it that claims to be of a later version.
async fn undisturbed(plan: &Plan, fixture: &Fixture, report: &mut Report) -> Result<()> {
    let (stage, manifest) = prepare(plan, fixture).await?;
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let service = launch.start().await?;
    let when = format!("schema {}", fixture.schema);
    stage.judge(report, &when, &service, Bounds::STRICT, DRAIN_MAX).await?;
    let mut connection = client::Connection::open(service.address).await?;
    for event in &manifest.events {
        let Some(Repeat { key, body }) = &event.repeat else { continue };
        let headers = [("idempotency-key", key.as_str())];
        let answer = connection.send(Method::POST, "/api/v1/events", &headers, body.clone());
        let answer = answer.await?;
        let is_same = answer.status == 202 && answer.text.contains(&event.id);
        report.must(is_same, || format!("{when}: {key} was forgotten: {}", answer.text));
    }
    service.stop().await?;
    report.cycles += 1;

    let opened = open(launch.store())?;
    opened.pragma_update(None, "user_version", 9_999)?;
    drop(opened);
    let read = || std::fs::read(launch.store()).context("reading the store");
    let before = read()?;
    let Begun::Ended(status) = launch.begin().await? else {
        report.broken(format!("{when}: a store of a later version was opened"));
        return Ok(());
    };
    report.must(status.code() == Some(1), || format!("{when}: refused by {status}"));
    let refused = "was written by a later Postrider (schema 9999";
    report.must(launch.log().contains(refused), || format!("{when}: no word of a later version"));
    report.must(before == read()?, || format!("{when}: what was refused was changed"));
    Ok(())
}

/// How many calls the thread that upgrades makes until the service is ready.
async fn count_calls(plan: &Plan, fixture: &Fixture) -> Result<u64> {
    let (stage, _) = prepare(plan, fixture).await?;
    let trace = stage.folder().join("trace");
    let service = traced(stage.launch(plan), &trace, None).start().await?;
    let text = std::fs::read_to_string(&trace).context("strace writes what it saw")?;
    service.kill().await?;
    let mut counts = std::collections::HashMap::<&str, u64>::new();
    for line in text.lines().filter(|line| !line.contains(" resumed>")) {
        if let Some((thread, call)) = line.split_once(' ')
            && call.contains('(')
        {
            *counts.entry(thread).or_default() += 1;
        }
    }
    counts.into_values().max().context("a start that upgrades writes something")
}

/// Kills the start at that system call, starts again, and judges; answers whether the kill left
/// something of the upgrade to be done.
async fn killed(plan: &Plan, fixture: &Fixture, call: u64, report: &mut Report) -> Result<bool> {
    let (stage, _) = prepare(plan, fixture).await?;
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let trace = stage.folder().join("trace");
    report.cycles += 1;
    match traced(launch.clone(), &trace, Some(call)).begin().await? {
        Begun::Ended(_) => {
            let log = launch.log();
            report.must(!log.contains("postrider: "), || format!("it failed by itself: {log}"));
            report.injected += 1;
        }
        // Another thread had fewer calls than when they were counted.
        Begun::Ready(service) => service.kill().await?,
    }
    let is_unfinished = is_unfinished(launch.store(), fixture.schema)?;
    let service = launch.start().await?;
    let when = format!("schema {}, killed at call {call}", fixture.schema);
    let bounds = Bounds { duplicates_max: DUPLICATES_OF_A_KILL_MAX, ..Bounds::STRICT };
    stage.judge(report, &when, &service, bounds, DRAIN_MAX).await?;
    service.kill().await?;
    Ok(is_unfinished)
}

fn traced(launch: Launch, trace: &Path, killed_at: Option<u64>) -> Launch {
    let mut words: Vec<String> = ["strace", "-f", "-qq", "-o"].map(str::to_owned).to_vec();
    words.extend([trace.display().to_string(), "-e".to_owned(), format!("trace={CALLS}")]);
    if let Some(call) = killed_at {
        words.extend(["-e".to_owned(), format!("inject={CALLS}:signal=KILL:when={call}")]);
    }
    launch.wrapped_by(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Whether the file is still of its old version, or was not written anew yet.
fn is_unfinished(store: &Path, schema: i64) -> Result<bool> {
    let opened = open(store)?;
    let version: i64 = opened.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let due = "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'scrub_due')";
    let is_due: bool = opened.query_row(due, [], |row| row.get(0))?;
    Ok(version == schema || is_due)
}

/// Opens a store without touching its log when it is closed again.
fn open(store: &Path) -> Result<Connection> {
    let opened = Connection::open(store)?;
    opened.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(opened)
}

/// Puts the store into a new stage, as if it had been left there just now.
async fn prepare(plan: &Plan, fixture: &Fixture) -> Result<(Stage, Manifest)> {
    let mut stage = Stage::new(plan, "upgrade").await?;
    let manifest: Manifest = serde_json::from_str(fixture.manifest)?;
    let beside = |ending: &str| stage.folder().join(format!("postrider.db{ending}"));
    write_private(&beside(""), fixture.database)?;
    write_private(&beside("-wal"), fixture.log)?;
    if let Some(keys) = fixture.keys {
        write_private(&beside(".keys"), keys)?;
    }
    bring_up_to_date(&beside(""), &manifest, &stage.receiver.address.to_string())?;
    for endpoint in &manifest.endpoints {
        let contract = Contract::ALL.into_iter().find(|it| it.name() == endpoint.contract);
        let contract = contract.with_context(|| format!("no contract {}", endpoint.contract))?;
        let KnownEndpoint { id, path, secret, .. } = endpoint;
        stage.receiver.endpoint(path, contract, secret);
        let (id, path, secret) = (id.clone(), path.clone(), secret.clone());
        stage.endpoints.push(Endpoint { id, path, contract, secret });
    }
    for KnownEvent { id, data_sha256, owed, .. } in &manifest.events {
        let key = id.clone();
        stage.published.write(&Published::Asking {
            key: key.clone(),
            data_sha256: data_sha256.clone(),
            paths: owed.clone(),
            at_ms: 0,
        });
        let (outcome, event) = (Outcome::Acknowledged, Some(id.clone()));
        stage.published.write(&Published::Told {
            key,
            outcome,
            event,
            status: Some(202),
            at_ms: 0,
        });
    }
    Ok((stage, manifest))
}

fn write_private(file: &PathBuf, bytes: &[u8]) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let opened = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file);
    opened
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Moves the endpoints to where the receiver is, and all instants to now: what is old is forgotten.
fn bring_up_to_date(store: &Path, manifest: &Manifest, address: &str) -> Result<()> {
    let opened = open(store)?;
    let now = SystemClock.now().as_millis();
    let since = now - manifest.made_at_ms;
    let moved = opened.execute(
        "UPDATE endpoints SET url = replace(url, ?1, ?2)",
        params![manifest.address, address],
    )?;
    ensure!(moved == manifest.endpoints.len(), "{moved} endpoints are in the store");
    opened.execute("UPDATE events SET accepted_at = accepted_at + ?1", [since])?;
    // What waits for a second attempt has waited long enough.
    opened.execute(
        "UPDATE deliveries SET created_at = created_at + ?1, ended_at = ended_at + ?1, \
         due_at = min(due_at + ?1, ?2)",
        [since, now],
    )?;
    opened.execute("UPDATE attempts SET at = at + ?1", [since])?;
    opened.execute("UPDATE idempotency_keys SET kept_until = kept_until + ?1", [since])?;
    Ok(())
}
