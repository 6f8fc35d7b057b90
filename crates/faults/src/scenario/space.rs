//! The disk is full, has space again, and cannot be written any more.
//!
//! Publishers fill it while the receiver is slow: intake must end, with an answer that
//! says when to come back, while there is still space to write down what becomes of what was
//! accepted; then the receiver is quick, and all of it must be delivered on the full disk. When others
//! have taken the rest too, and when it becomes read-only, nothing is acknowledged and nothing lost;
//! with space it must be back by itself, with a writable disk after a restart.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use testkit::auditor::Bounds;
use tokio::time::{Instant, sleep};

use crate::client::{self, Answer};
use crate::disk::scene::{Scene, is_alive, is_turned_away, until_ready_is};
use crate::plan::Plan;
use crate::producer::{Load, Publication};
use crate::receiver::Reply;
use crate::records::Outcome;
use crate::report::Report;
use crate::service::{Begun, LOOK_EVERY, Service};

const NAME: &str = "space";

/// Size of the disk, in bytes.
const CAPACITY_BYTES: u64 = 64 * 1024 * 1024;

/// Size of the data that fills it, in bytes.
const FILLING_BYTES: (u64, u64) = (60_000, 100_000);

/// Publishers that fill it.
const CONNECTIONS: usize = 4;

/// How long it may take to fill.
const FULL_WITHIN: Duration = Duration::from_mins(2);

/// How long the receiver takes meanwhile: not so long that attempts fail.
const SLOW: Duration = Duration::from_secs(3);

/// How long all that was accepted may take to be delivered on a full disk.
const DELIVERED_WITHIN: Duration = Duration::from_mins(1);

/// How soon events must be accepted again once there is space.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How many events in a row are asked for while there is no space.
const ASKED: u64 = 20;

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new(NAME, plan);
    for cycle in 0..plan.cycles(1, 20) {
        Story::new(plan, cycle).await?.tell(&mut report).await?;
        report.cycles += 1;
    }
    Ok(report)
}

struct Story {
    scene: Scene,
    asked: u64,
}

impl Story {
    async fn new(plan: &Plan, cycle: u64) -> Result<Self> {
        let mut scene = Scene::new(plan, NAME, cycle, CAPACITY_BYTES).await?;
        scene.furnish().await?;
        Ok(Self { scene, asked: 0 })
    }

    async fn tell(&mut self, report: &mut Report) -> Result<()> {
        let service = self.scene.start().await?;
        self.fill(report, &service).await?;
        self.deliver_when_full(report, &service).await?;
        self.fill_to_the_last(report, &service).await?;
        let service = self.become_read_only(report, service).await?;
        let bounds = Bounds { duplicates_max: 4_096, attempts_max: 64, strangers: false };
        self.scene.stage.judge(report, "at the end", &service, bounds, DELIVERED_WITHIN).await?;
        report.must(!self.scene.launch.log().contains("panicked"), || "a panic".to_owned());
        service.stop().await
    }

    /// Asks for one small event, and notes how that ended.
    async fn ask(&mut self, service: &Service) -> Result<(Outcome, Option<Answer>)> {
        self.asked += 1;
        let key = format!("{:x}-asked-{}", self.scene.chance.next(), self.asked);
        let publication = Publication::new(&self.scene.stage.targets[0], &key, 200);
        let mut connection = client::Connection::open(service.address).await?;
        let told = publication.ask(&mut connection, &self.scene.stage.published).await;
        Ok((told.outcome, told.answer))
    }

    /// Asks for some; every answer must be to come back later.
    async fn all_are_turned_away(
        &mut self,
        report: &mut Report,
        when: &str,
        service: &Service,
    ) -> Result<()> {
        for _ in 0..ASKED {
            let (_, answer) = self.ask(service).await?;
            let answer = answer.context("an answer")?;
            report.must(is_turned_away(&answer), || {
                format!("{when}: publishing is answered {}: {}", answer.status, answer.text)
            });
        }
        Ok(())
    }

    /// Fills the disk with events faster than the receiver takes them, until no more are accepted.
    async fn fill(&mut self, report: &mut Report, service: &Service) -> Result<()> {
        let slow = Reply::Answer { status: 200, after: SLOW };
        self.scene.stage.receiver.behave(move |_| slow);
        let load = Load {
            data_bytes: FILLING_BYTES,
            ..Load::closed(CONNECTIONS, self.scene.chance.next())
        };
        let producer = self.scene.stage.publish(load);
        let begun_at = Instant::now();
        while producer.refused() == 0 {
            ensure!(begun_at.elapsed() < FULL_WITHIN, "the disk is not full after {FULL_WITHIN:?}");
            sleep(LOOK_EVERY).await;
        }
        producer.stop().await;
        report.injected += 1;
        let free = self.scene.disk.free_bytes() / 1024;
        let pending = service.pending().await?;
        report.note(format!("full with {pending} pending and {free} KiB left"));
        report.must(pending > 0, || "nothing is pending on the full disk".to_owned());
        self.all_are_turned_away(report, "full", service).await
    }

    /// The receiver is quick: everything is delivered, though no event is accepted.
    async fn deliver_when_full(&mut self, report: &mut Report, service: &Service) -> Result<()> {
        self.scene.stage.receiver.behave(|_| Reply::status(200));
        let begun_at = Instant::now();
        if let Err(error) = service.drained(DELIVERED_WITHIN).await {
            let free = self.scene.disk.free_bytes() / 1024;
            let log = self.scene.launch.log();
            let line = log.lines().last().unwrap_or_default();
            report.broken(format!("on the full disk, {free} KiB left: {error:#}; {line}"));
        }
        report.note(format!("all delivered on the full disk in {:?}", begun_at.elapsed()));
        self.all_are_turned_away(report, "full, all delivered", service).await
    }

    /// Others take what is left; then there is much space.
    async fn fill_to_the_last(&mut self, report: &mut Report, service: &Service) -> Result<()> {
        self.scene.disk.set_capacity(CAPACITY_BYTES * 2);
        self.is_back(report, "with space", service).await?;
        let producer = self.scene.publish();
        sleep(Duration::from_millis(300)).await;
        let used = self.scene.disk.capacity() - self.scene.disk.free_bytes();
        self.scene.disk.set_capacity(used);
        report.injected += 1;
        sleep(Duration::from_millis(500)).await;
        self.all_are_turned_away(report, "full to the last", service).await?;
        report.must(is_alive(service).await, || "the process is gone".to_owned());
        self.scene.disk.set_capacity(CAPACITY_BYTES * 4);
        let back = self.is_back(report, "with space again", service).await;
        producer.stop().await;
        back
    }

    /// Waits until an event is accepted.
    async fn is_back(&mut self, report: &mut Report, when: &str, service: &Service) -> Result<()> {
        let begun_at = Instant::now();
        while self.ask(service).await?.0 != Outcome::Acknowledged {
            if begun_at.elapsed() > BACK_WITHIN {
                report.broken(format!("{when}: no event accepted after {BACK_WITHIN:?}"));
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
        report.note(format!("{when}: back after {} ms", begun_at.elapsed().as_millis()));
        report.must(until_ready_is(service, true, BACK_WITHIN).await.is_some(), || {
            format!("{when}: not ready")
        });
        Ok(())
    }

    /// The disk becomes read-only, and writable again; answers the service after that.
    async fn become_read_only(&mut self, report: &mut Report, service: Service) -> Result<Service> {
        let producer = self.scene.publish();
        sleep(Duration::from_millis(200)).await;
        self.scene.disk.set_read_only(true);
        report.injected += 1;
        sleep(Duration::from_millis(200)).await;
        self.all_are_turned_away(report, "read-only", &service).await?;
        report.must(until_ready_is(&service, false, BACK_WITHIN).await.is_some(), || {
            "read-only: still ready".to_owned()
        });
        self.scene.stage.service_is(None);
        service.kill().await?;
        match self.scene.launch.begin().await? {
            Begun::Ready(_) => report.broken("it starts on a read-only disk"),
            Begun::Ended(status) => {
                let log = self.scene.launch.log();
                let line = log.lines().last().unwrap_or_default();
                report.must(status.code() == Some(1) && line.contains("cannot"), || {
                    format!("on a read-only disk it ends with {status} and says {line:?}")
                });
                report.note(format!("on a read-only disk: {line}"));
            }
        }
        self.scene.disk.set_read_only(false);
        let service = self.scene.start().await?;
        self.is_back(report, "writable again", &service).await?;
        producer.stop().await;
        Ok(service)
    }
}
