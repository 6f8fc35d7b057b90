//! A service whose store lies on a disk of ours, with an account, publishers and a receiver.
//!
//! Neighbours: `scenario::{power, storage, space}`; [`Stage`] is what every scenario has.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use rusqlite::{Connection, OpenFlags};
use rustix::process::Signal;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::time::Instant;

use crate::client::{self, Answer};
use crate::disk::{Chance, Disk, Survival};
use crate::plan::Plan;
use crate::producer::{Load, Producer};
use crate::receiver::Reply;
use crate::report::Report;
use crate::service::{LOOK_EVERY, Launch, Service};
use crate::stage::{Allowance, Stage};

/// Publishers.
const CONNECTIONS: usize = 8;

/// Endpoints, each of which gets every event.
const ENDPOINTS: usize = 3;

/// Retries come soon, and enough of them for any number of faults in between.
const SCHEDULE: &str = "0,1,1,1,1,1,1,1,1,1,1,1";

/// What may be repeated after one fault: all that was in flight and all that waited to be recorded.
const DUPLICATES_PER_FAULT: u64 = 512 + 1_024;

/// How long what is pending may take after the last fault: breakers that opened wait 36 s at most,
/// and what was lost on its way more than once is tried alone.
const DRAIN_MAX: Duration = Duration::from_mins(3);

/// A service on a disk of ours. The disk goes before the folder it is mounted in.
pub(crate) struct Scene {
    pub(crate) disk: Disk,
    pub(crate) stage: Stage,
    pub(crate) launch: Launch,
    pub(crate) chance: Chance,
}

impl Scene {
    /// For a part of the scenario, on an empty disk of so many bytes.
    pub(crate) async fn new(plan: &Plan, name: &str, part: u64, bytes: u64) -> Result<Self> {
        let mut chance = plan.chance(part);
        let mut stage = Stage::new(plan, name).await?;
        stage.allowance = Allowance::SetAside;
        let disk = Disk::mount(&stage.folder().join("disk"), chance.next(), bytes)?;
        let store = disk.folder().join("postrider.db");
        let launch = stage.launch(plan).on_store(&store).with(&["--retry-schedule", SCHEDULE]);
        Ok(Self { disk, stage, launch, chance })
    }

    /// Makes an account and endpoints, which fail at first now and then.
    pub(crate) async fn furnish(&mut self) -> Result<()> {
        let service = self.launch.start().await?;
        self.stage.furnish(&service, ENDPOINTS, &json!({})).await?;
        self.stage.receiver.behave(|asked| {
            let fails = asked.attempt == 1 && asked.webhook_id.ends_with(['0', '1']);
            Reply::status(if fails { 500 } else { 200 })
        });
        service.stop().await
    }

    /// Begins to publish small events, as fast as they are answered.
    pub(crate) fn publish(&mut self) -> Producer {
        self.stage.publish(Load::closed(CONNECTIONS, self.chance.next()))
    }

    /// Starts the service and tells the publishers.
    pub(crate) async fn start(&self) -> Result<Service> {
        let service = self.launch.start().await?;
        self.stage.service_is(Some(&service));
        Ok(service)
    }

    /// Lets go on what goes on for a time between these, in milliseconds.
    pub(crate) async fn go_on(&mut self, milliseconds: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.chance.between(milliseconds))).await;
    }

    /// Cuts the power and kills the service; what `survival` leaves is there for the next. Answers
    /// how many changes were lost.
    pub(crate) async fn lose_power(
        &mut self,
        service: Service,
        survival: Survival,
    ) -> Result<usize> {
        self.disk.cut();
        self.stage.service_is(None);
        // It may have ended already. Nobody of it may see what the disk answers without power.
        let _ = service.signal(Signal::KILL);
        self.disk.give_up();
        service.kill().await?;
        self.disk.power_up(survival)
    }

    /// Any survival.
    pub(crate) fn any_survival(&mut self) -> Survival {
        Survival::ALL[self.chance.below(Survival::ALL.len() as u64) as usize]
    }

    /// Starts the service, lets `producer` end, and holds everything so far to the promises and the
    /// database to being whole.
    pub(crate) async fn judge(
        &self,
        report: &mut Report,
        faults: u64,
        producer: Producer,
    ) -> Result<()> {
        let service = match self.start().await {
            Ok(service) => service,
            Err(error) => {
                report.broken(format!("the last start: {error:#}"));
                return Ok(());
            }
        };
        producer.stop().await;
        let attempts_max = SCHEDULE.split(',').count() as u32 + faults as u32;
        let duplicates_max = faults * DUPLICATES_PER_FAULT;
        let bounds = Bounds { duplicates_max, attempts_max, strangers: false };
        self.stage.judge(report, "at the end", &service, bounds, DRAIN_MAX).await?;
        service.stop().await?;
        self.judge_database(report).await?;
        report.must(!self.launch.log().contains("panicked"), || "something panicked".to_owned());
        Ok(())
    }

    /// Asks SQLite whether the stopped database is whole.
    async fn judge_database(&self, report: &mut Report) -> Result<()> {
        let path: PathBuf = self.launch.store().to_owned();
        let said = tokio::task::spawn_blocking(move || {
            let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            database.pragma_query_value(None, "integrity_check", |row| row.get::<_, String>(0))
        });
        let said = said.await?.context("PRAGMA integrity_check")?;
        report.must(said == "ok", || format!("the database is damaged: {said}"));
        Ok(())
    }
}

/// Whether the service says it is ready.
pub(crate) async fn is_ready(service: &Service) -> bool {
    let answer = client::call(service.address, Method::GET, "/readyz", "").await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether the process answers at all.
pub(crate) async fn is_alive(service: &Service) -> bool {
    let answer = client::call(service.address, Method::GET, "/healthz", "").await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Waits until readiness is so, and answers how long that took; `None` if it is not within `limit`.
pub(crate) async fn until_ready_is(
    service: &Service,
    wanted: bool,
    limit: Duration,
) -> Option<Duration> {
    let begun_at = Instant::now();
    while is_ready(service).await != wanted {
        if begun_at.elapsed() > limit {
            return None;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Some(begun_at.elapsed())
}

/// Whether the answer says that the caller should come back later.
pub(crate) fn is_turned_away(answer: &Answer) -> bool {
    matches!(answer.status, 503 | 507) && answer.headers.contains_key("retry-after")
}
