//! Files damaged while nobody has them open: flipped bits, cut, emptied and missing files.
//!
//! A store is left behind with deliveries that wait: half of its events in the database file, half in
//! its log, as after a kill. Each trial copies it, damages the copy, starts on it, reads every event and
//! waits for every delivery. Whatever was damaged: nothing that was not published arrives anywhere, and
//! whatever does not arrive is accounted for: by a start that is refused, by a line in the log, or by
//! the delivery's own reason.
//!
//! One damage is known to go unseen: a log and its index that are put back to an earlier state
//! together. It is tried too, and what it costs is counted apart.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::id::{EndpointId, EventId};
use http::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::client;
use crate::disk::Chance;
use crate::disk::scene::is_ready;
use crate::plan::Plan;
use crate::receiver::Reply;
use crate::records::{Outcome, Published, Received};
use crate::report::Report;
use crate::service::{Begun, LOOK_EVERY, Launch, Service};
use crate::stage::Stage;

const NAME: &str = "damage";

/// Stores beside one another, each with a receiver of its own.
const LANES: u64 = 4;

/// Accounts, of two endpoints each.
const ACCOUNTS: usize = 3;

/// Events of each account in the database file, and as many again in its log. With their retries they
/// open no breaker: that takes ten failures in a row.
const EVENTS: u64 = 4;

/// Events of each account whose first attempts nobody has answered yet.
const EVENTS_ON_THEIR_WAY: u64 = 2;

/// Every try after the first comes soon.
const SCHEDULE: &str = "0,2,2,2,2,2,2,2,2,2,2,2";

/// How long deliveries may take that nothing is said about.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// How long a service that says that it is damaged is waited for.
const DAMAGED_MAX: Duration = Duration::from_millis(500);

const PAGE: u64 = 4_096;

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let trials = plan.cycles(40, 1_000);
    let mut lanes = JoinSet::new();
    for number in 0..LANES.min(trials) {
        let plan = plan.clone();
        let of_lane = trials / LANES + u64::from(number < trials % LANES);
        lanes.spawn(async move { lane(&plan, number, of_lane).await });
    }
    let mut report = Report::new(NAME, plan);
    let mut met = Met::default();
    while let Some(ended) = lanes.join_next().await {
        let (of_lane, met_of_lane) = ended??;
        report.merge(of_lane);
        met += met_of_lane;
    }
    let injected = report.injected;
    report.sometimes("damages that were reported", met.reported, injected, 20);
    report.sometimes("damages after which something arrived", met.delivering, injected, 10);
    report.note(format!("refused starts: {}", met.refused));
    report.note(format!("deliveries accounted for, not made: {}", met.accounted));
    report.note(format!(
        "logs put back to an earlier state, index and all: {}, which cost {} deliveries unseen",
        met.put_back, met.unseen
    ));
    Ok(report)
}

/// What trials met.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    refused: u64,
    /// Starts that were refused, or with a line in the log.
    reported: u64,
    delivering: u64,
    accounted: u64,
    put_back: u64,
    unseen: u64,
}

impl std::ops::AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.refused += other.refused;
        self.reported += other.reported;
        self.delivering += other.delivering;
        self.accounted += other.accounted;
        self.put_back += other.put_back;
        self.unseen += other.unseen;
    }
}

async fn lane(plan: &Plan, number: u64, trials: u64) -> Result<(Report, Met)> {
    let mut chance = plan.chance(number);
    let mut report = Report::new(NAME, plan);
    let mut met = Met::default();
    let left = Left::prepare(plan, chance.next()).await?;
    for trial in 0..trials {
        let folder = plan.new_folder(NAME)?;
        left.copy_to(folder.path())?;
        let damage = Damage::any(folder.path(), &mut chance)?;
        let when = format!("lane {number}, trial {trial}: {damage:?}");
        damage.apply(folder.path()).with_context(|| when.clone())?;
        report.injected += 1;
        report.cycles += 1;
        left.try_out(plan, folder.path(), &damage, (&when, &mut report, &mut met))
            .await
            .with_context(|| when.clone())?;
    }
    Ok((report, met))
}

/// What a killed service left: files, and what it owes.
struct Left {
    stage: Stage,
    /// Events, paths and digests of data that are owed.
    owed: BTreeSet<Owed>,
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Owed {
    event: String,
    path: String,
    data_sha256: String,
}

impl Left {
    /// Makes a store whose receivers fail everything, half in the file, half in the log, and then
    /// answer no more: what comes last is on its way when the service is killed.
    async fn prepare(plan: &Plan, seed: u64) -> Result<Self> {
        let mut stage = Stage::new(plan, NAME).await?;
        stage.receiver.behave(|_| Reply::status(500));
        let launch = launch(plan, stage.folder());
        let service = launch.start().await?;
        for _ in 0..ACCOUNTS {
            stage.furnish(&service, 2, &json!({})).await?;
        }
        publish(&stage, &service, seed).await?;
        service.stop().await?;
        let service = launch.start().await?;
        publish(&stage, &service, seed ^ 1).await?;
        stage.receiver.behave(|_| Reply::Hang);
        let before = stage.receiver.received();
        let more = stage.publish_some(&service, EVENTS_ON_THEIR_WAY, seed ^ 2).await?;
        stage.receiver.until_received(before + more, DRAIN_MAX).await?;
        // What was written last is not proven by anything that follows: here, a customer.
        let account = json!({"username": "the last", "contract": "standard"});
        client::create(service.address, "/api/v1/accounts", &account).await?;
        service.kill().await?;
        std::fs::remove_file(launch.log_file())?;
        let owed = owed(&stage)?;
        stage.receiver.behave(|_| Reply::status(200));
        Ok(Self { stage, owed })
    }

    fn copy_to(&self, folder: &Path) -> Result<()> {
        for suffix in ["", "-wal", "-shm", ".keys", ".lock"] {
            let name = format!("postrider.db{suffix}");
            std::fs::copy(self.stage.folder().join(&name), folder.join(&name))
                .with_context(|| format!("copying {name}"))?;
        }
        Ok(())
    }

    async fn try_out(
        &self,
        plan: &Plan,
        folder: &Path,
        damage: &Damage,
        (when, report, met): (&str, &mut Report, &mut Met),
    ) -> Result<()> {
        let before = self.stage.receiver.log().read::<Received>()?.len();
        let launch = launch(plan, folder);
        let mut missing = BTreeSet::new();
        let mut arrived = BTreeSet::new();
        let mut goes_on = false;
        let is_refused = match launch.begin().await? {
            Begun::Ended(status) => {
                report.must(!status.success(), || format!("{when}: it ended well without a start"));
                report.must(launch.log().contains("postrider.db"), || {
                    format!("{when}: a refusal names no file: {}", launch.log())
                });
                true
            }
            Begun::Ready(mut service) => {
                self.read_all(&service).await?;
                arrived = self.drain(&service, before, &launch).await?;
                missing = self.owed.difference(&arrived).cloned().collect();
                goes_on = is_ready(&service).await;
                missing = self.without_reason(&service, missing).await?;
                let has_ended = service.has_ended()?;
                report.must(has_ended.is_none(), || format!("{when}: it ended by {has_ended:?}"));
                service.kill().await?;
                false
            }
        };
        for stranger in arrived.difference(&self.owed) {
            report.broken(format!("{when}: arrived and was not owed: {stranger:?}"));
        }
        let log = launch.log();
        report.must(!log.contains("panicked"), || format!("{when}: it panicked: {log}"));
        let is_reported = is_refused || says_damage(&log);
        met.refused += u64::from(is_refused);
        met.reported += u64::from(is_reported);
        met.delivering += u64::from(!arrived.is_empty());
        report.tally.acknowledged += self.owed.len() as u64;
        report.tally.delivered += arrived.intersection(&self.owed).count() as u64;
        if matches!(damage, Damage::PutBack { .. }) {
            met.put_back += 1;
            met.unseen += missing.len() as u64;
        } else {
            let owed = missing.len();
            // A service that goes on accounts only for what it names.
            missing.retain(|it| goes_on && !self.names(&log, it));
            met.accounted += (owed - missing.len()) as u64;
            report.tally.lost += missing.len() as u64;
            for lost in missing {
                report.broken(format!("{when}: nobody says anything about {lost:?}: {log}"));
            }
        }
        Ok(())
    }

    /// Whether an error in the log names the delivery's event or endpoint, by id or by row.
    fn names(&self, log: &str, owed: &Owed) -> bool {
        let endpoint = self.stage.endpoints.iter().find(|it| it.path == owed.path);
        let endpoint = endpoint.and_then(|it| EndpointId::parse(&it.id).ok());
        let event = EventId::parse(&owed.event).ok();
        let names = [
            event.map(|id| id.to_string()),
            event.map(|id| hex(&id.to_bytes())),
            endpoint.map(|id| id.to_string()),
            endpoint.map(|id| hex(&id.to_bytes())),
        ];
        let is_named = |line: &str| names.iter().flatten().any(|name| line.contains(name.as_str()));
        log.lines().filter(|line| says_damage(line)).any(is_named)
    }

    /// Reads every event through the API: whatever it answers, it answers.
    async fn read_all(&self, service: &Service) -> Result<()> {
        let events: BTreeSet<_> = self.owed.iter().map(|owed| &owed.event).collect();
        for event in events {
            let path = format!("/api/v1/events/{event}");
            client::call(service.address, Method::GET, &path, "").await?;
        }
        Ok(())
    }

    /// What arrived, once all is there, or all that will be.
    async fn drain(
        &self,
        service: &Service,
        before: usize,
        launch: &Launch,
    ) -> Result<BTreeSet<Owed>> {
        let begun_at = Instant::now();
        let mut damaged_at = None;
        loop {
            // Nobody waits for what nothing says is pending; or a broken service does not tell. Asked
            // before the receivers' log is read, in which what was pending until then is found.
            let is_idle = service.pending().await.is_ok_and(|pending| pending == 0);
            let received = self.stage.receiver.log().read::<Received>()?.split_off(before);
            let arrived: BTreeSet<_> = received.into_iter().map(Owed::from).collect();
            if says_damage(&launch.log()) {
                damaged_at = damaged_at.or(Some(Instant::now()));
            }
            // One that goes on is waited for to the end: it may excuse only what it names.
            let is_settled =
                damaged_at.is_some_and(|at| at.elapsed() > DAMAGED_MAX) && !is_ready(service).await;
            if self.owed.is_subset(&arrived)
                || is_settled
                || is_idle && begun_at.elapsed() > DAMAGED_MAX
                || begun_at.elapsed() > DRAIN_MAX
            {
                return Ok(arrived);
            }
            sleep(LOOK_EVERY * 5).await;
        }
    }

    /// Those of which the service itself does not say how they ended.
    async fn without_reason(
        &self,
        service: &Service,
        missing: BTreeSet<Owed>,
    ) -> Result<BTreeSet<Owed>> {
        let mut silent = BTreeSet::new();
        for owed in missing {
            let endpoint = self.stage.endpoints.iter().find(|it| it.path == owed.path);
            let endpoint = &endpoint.context("it is owed to an endpoint")?.id;
            let path = format!("/api/v1/deliveries?event={}&endpoint={endpoint}", owed.event);
            let answer = client::call(service.address, Method::GET, &path, "").await?;
            if !answer.text.contains(r#""reason":""#) {
                silent.insert(owed);
            }
        }
        Ok(silent)
    }
}

impl From<Received> for Owed {
    /// A forged one is owed to nobody.
    fn from(received: Received) -> Self {
        let Received { path, webhook_id, data_sha256, forged, .. } = received;
        let event =
            webhook_id.filter(|_| forged.is_none()).unwrap_or_else(|| format!("{forged:?}"));
        Self { event, path, data_sha256: data_sha256.unwrap_or_default() }
    }
}

fn launch(plan: &Plan, folder: &Path) -> Launch {
    let arguments = ["--retry-schedule", SCHEDULE, "--log-format", "json"];
    Launch::new(&plan.program, folder).with(&arguments)
}

/// Publishes, and waits until every delivery has failed once.
async fn publish(stage: &Stage, service: &Service, seed: u64) -> Result<()> {
    let before = stage.receiver.received();
    let owed = stage.publish_some(service, EVENTS, seed).await?;
    stage.receiver.until_received(before + owed, DRAIN_MAX).await?;
    // Until the attempts are recorded, too.
    sleep(LOOK_EVERY * 10).await;
    Ok(())
}

fn owed(stage: &Stage) -> Result<BTreeSet<Owed>> {
    let lines = stage.published.read::<Published>()?;
    let mut asked = std::collections::HashMap::new();
    let mut owed = BTreeSet::new();
    for line in lines {
        match line {
            Published::Asking { key, data_sha256, paths, .. } => {
                asked.insert(key, (data_sha256, paths));
            }
            Published::Told { key, outcome: Outcome::Acknowledged, event: Some(event), .. } => {
                let (data_sha256, paths) = asked.get(&key).context("it was asked for")?;
                owed.extend(paths.iter().map(|path| Owed {
                    event: event.clone(),
                    path: path.clone(),
                    data_sha256: data_sha256.clone(),
                }));
            }
            Published::Told { .. } => {}
        }
    }
    Ok(owed)
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).expect("half a byte is one digit")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(hex_digit).collect()
}

/// Whether the log has a line that an operator must act upon.
fn says_damage(log: &str) -> bool {
    log.contains(r#""level":"ERROR""#)
}

/// What is done to the files.
#[derive(Clone, Debug)]
enum Damage {
    /// One bit is another.
    Flip { file: &'static str, byte: u64, bit: u32 },
    /// The rest is cut off.
    Cut { file: &'static str, length: u64 },
    /// A piece is zeros.
    Zero { file: &'static str, from: u64, to: u64 },
    /// It is gone.
    Gone { file: &'static str },
    /// The log ends with an earlier transaction, and nothing says that there were more.
    PutBack { length: u64 },
}

const DATABASE: &str = "postrider.db";
const LOG: &str = "postrider.db-wal";
const INDEX: &str = "postrider.db-shm";

impl Damage {
    /// Any, but most often a bit where events, deliveries and endpoints are.
    fn any(folder: &Path, chance: &mut Chance) -> Result<Self> {
        let file = if chance.one_in(2) { DATABASE } else { LOG };
        let bytes = std::fs::read(folder.join(file))?;
        let length = bytes.len() as u64;
        let bit = chance.below(8) as u32;
        Ok(match chance.below(20) {
            0..8 => Self::Flip { file, byte: aimed(&bytes, chance), bit },
            8..13 => Self::Flip { file, byte: chance.below(length), bit },
            13 => Self::Flip { file, byte: chance.below(100), bit },
            14 => Self::Flip { file: INDEX, byte: chance.below(136), bit },
            15 => Self::Cut { file, length: chance.below(length) },
            16 => {
                let from = chance.below(length);
                Self::Zero { file, from, to: length.min(from + chance.between(1..3 * PAGE)) }
            }
            17 => Self::Zero { file, from: chance.below(length), to: length },
            18 => Self::Gone { file },
            _ => {
                let commits = commits(&std::fs::read(folder.join(LOG))?);
                Self::PutBack { length: commits[chance.below(commits.len() as u64 - 1) as usize] }
            }
        })
    }

    fn apply(&self, folder: &Path) -> Result<()> {
        let alter = |file: &str, alter: &dyn Fn(&mut Vec<u8>)| -> Result<()> {
            let path: PathBuf = folder.join(file);
            let mut bytes = std::fs::read(&path)?;
            alter(&mut bytes);
            Ok(std::fs::write(path, bytes)?)
        };
        match *self {
            Self::Flip { file, byte, bit } => {
                alter(file, &|bytes| bytes[byte as usize] ^= 1 << bit)
            }
            Self::Cut { file, length } => alter(file, &|bytes| bytes.truncate(length as usize)),
            Self::Zero { file, from, to } => {
                alter(file, &|bytes| bytes[from as usize..to as usize].fill(0))
            }
            Self::Gone { file } => Ok(std::fs::remove_file(folder.join(file))?),
            Self::PutBack { length } => {
                std::fs::remove_file(folder.join(INDEX))?;
                alter(LOG, &|bytes| bytes.truncate(length as usize))
            }
        }
    }
}

/// A byte of a page that has events or endpoints in it, or of one of its neighbours, which have the
/// deliveries.
fn aimed(bytes: &[u8], chance: &mut Chance) -> u64 {
    let has = |page: &[u8], text: &[u8]| page.windows(text.len()).any(|window| window == text);
    let mark = if chance.one_in(4) { "http://127.0.0.1" } else { crate::stage::EVENT_TYPE };
    let pages = bytes.chunks(PAGE as usize).enumerate();
    let pages: Vec<_> = pages
        .filter(|(_, page)| has(page, mark.as_bytes()))
        .map(|(number, _)| number as u64)
        .collect();
    let page = match pages.len() as u64 {
        0 => chance.below(bytes.len() as u64 / PAGE),
        some => pages[chance.below(some) as usize] + chance.below(2) * chance.below(3),
    };
    (page * PAGE + chance.below(PAGE)).min(bytes.len() as u64 - 1)
}

/// Where the log could end: behind its frames that end a transaction (SQLite's WAL format).
fn commits(log: &[u8]) -> Vec<u64> {
    const FRAME: usize = 24 + PAGE as usize;
    let frames = (32..log.len().saturating_sub(FRAME - 1)).step_by(FRAME);
    let commits = frames.filter(|at| log[at + 4..at + 8] != [0; 4]);
    commits.map(|at| (at + FRAME) as u64).collect()
}
