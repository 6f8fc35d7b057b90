//! The stage of most scenarios: a folder, a receiver, an account with endpoints at it, publishers.
//!
//! Promise: whatever is done to the service in between, [`Stage::judge`] at the end holds it to
//! everything it ever acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::contract::Contract;
use domain::delivery::EndReason;
use domain::limits::SET_ASIDE_AFTER_LOST_CLAIMS;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::sync::watch;

use crate::client::{self, Connection};
use crate::oracle::{Endpoint, Evidence, GivenUp};
use crate::plan::Plan;
use crate::producer::{Load, Producer, Publication, Target, Whereabouts};
use crate::receiver::Receiver;
use crate::records::{Log, Outcome};
use crate::report::Report;
use crate::service::{Launch, Service};

/// The event type of every event.
pub(crate) const EVENT_TYPE: &str = "order.shipped";

/// Lives of a service that an attempt was lost with before its delivery may be set aside.
const LOST_LIVES_MIN: u64 = SET_ASIDE_AFTER_LOST_CLAIMS as u64;

/// What a service may give up of what it acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// Nothing.
    #[default]
    Nothing,
    /// A delivery that was lost with three lives of the service, and that the log names: for scenarios
    /// that end more lives than that.
    SetAside,
}

/// A folder, a receiver, accounts.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    /// The customers' server.
    pub(crate) receiver: Receiver,
    /// What publishers are told.
    pub(crate) published: Arc<Log>,
    /// Every endpoint.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Every account, with its endpoints.
    pub(crate) targets: Vec<Target>,
    /// What may be given up.
    pub(crate) allowance: Allowance,
    furnished: usize,
    lives: AtomicU64,
    whereabouts: watch::Sender<Option<std::net::SocketAddr>>,
}

impl Stage {
    /// A new folder for the scenario, with a receiver that answers 200 to everything.
    pub(crate) async fn new(plan: &Plan, scenario: &str) -> Result<Self> {
        let folder = plan.new_folder(scenario)?;
        Ok(Self {
            receiver: Receiver::start(&folder.path().join("received.jsonl")).await?,
            published: Arc::new(Log::begin(&folder.path().join("published.jsonl"))?),
            folder,
            endpoints: Vec::new(),
            targets: Vec::new(),
            allowance: Allowance::default(),
            furnished: 0,
            lives: AtomicU64::new(0),
            whereabouts: watch::Sender::new(None),
        })
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How to start the service in the folder.
    pub(crate) fn launch(&self, plan: &Plan) -> Launch {
        Launch::new(&plan.program, self.folder())
    }

    /// Makes an account of the native contract with so many endpoints, with these settings too.
    pub(crate) async fn furnish(
        &mut self,
        service: &Service,
        endpoints: usize,
        settings: &serde_json::Value,
    ) -> Result<()> {
        // One of that name may be there from a time when it was killed before it could answer.
        let number = self.furnished;
        self.furnished += 1;
        let contract = Contract::Standard;
        let account =
            json!({"username": format!("customer {number}"), "contract": contract.name()});
        let account = client::create(service.address, "/api/v1/accounts", &account).await?;
        let account = account["id"].as_str().context("an account has an id")?.to_owned();
        let mut paths = Vec::new();
        for _ in 0..endpoints {
            let path = format!("/endpoint/{}", self.endpoints.len());
            let mut body = json!({"url": self.receiver.url(&path), "events": [EVENT_TYPE]});
            for (name, value) in settings.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            let made = format!("/api/v1/accounts/{account}/endpoints");
            let made = client::create(service.address, &made, &body).await?;
            let text = |name: &str| made[name].as_str().map(str::to_owned).context("is a text");
            let endpoint =
                Endpoint { id: text("id")?, secret: text("secret")?, path: path.clone(), contract };
            self.receiver.endpoint(&path, contract, &endpoint.secret);
            self.endpoints.push(endpoint);
            paths.push(path);
        }
        let event_type = EVENT_TYPE.to_owned();
        self.targets.push(Target { account, event_type, paths, ordering_key: None });
        Ok(())
    }

    /// Tells publishers where the service is, or that it is nowhere.
    pub(crate) fn service_is(&self, service: Option<&Service>) {
        self.lives.fetch_add(u64::from(service.is_some()), Ordering::Relaxed);
        self.whereabouts.send_replace(service.map(|service| service.address));
    }

    /// Where publishers look for the service.
    pub(crate) fn whereabouts(&self) -> Whereabouts {
        self.whereabouts.subscribe()
    }

    /// Publishes so many events for each account, which must be accepted; answers how many deliveries
    /// they owe.
    pub(crate) async fn publish_some(
        &self,
        service: &Service,
        events: u64,
        seed: u64,
    ) -> Result<u64> {
        let mut connection = Connection::open(service.address).await?;
        let mut owed = 0;
        for target in &self.targets {
            for number in 0..events {
                let key = format!("{seed:016x}-{number}-{}", target.account);
                // From what stays in a row to what takes pages of its own.
                let publication = Publication::new(target, &key, 100 << (number % 8));
                let told = publication.ask(&mut connection, &self.published).await;
                anyhow::ensure!(told.outcome == Outcome::Acknowledged, "not accepted: {told:?}");
                owed += target.paths.len() as u64;
            }
        }
        Ok(owed)
    }

    /// Begins to publish for every account.
    pub(crate) fn publish(&self, load: Load) -> Producer {
        let log = Arc::clone(&self.published);
        Producer::start(load, self.targets.clone(), log, self.whereabouts())
    }

    /// Waits until nothing is pending and lets the oracle judge everything so far. `when` says in the
    /// report which cycle it was.
    pub(crate) async fn judge(
        &self,
        report: &mut Report,
        when: &str,
        service: &Service,
        bounds: Bounds,
        drain_max: Duration,
    ) -> Result<()> {
        if let Err(error) = service.drained(drain_max).await {
            report.broken(format!("{when}: {error:#}"));
        }
        let mut evidence = Evidence::read(&self.published, self.receiver.log(), &self.endpoints)?;
        evidence.ask(service.address).await?;
        evidence.hear_again(self.receiver.log())?;
        let verdict = evidence.judge(bounds);
        report.add(when, &verdict);
        report.must(verdict.tally.acknowledged > 0, || format!("{when}: nothing was acknowledged"));
        let log = service.launch.log();
        for given_up in evidence.given_up.iter().filter(|it| !self.allows(it, &log)) {
            let GivenUp { event, path, reason } = given_up;
            report.broken(format!("{when}: {event} to {path} was given up: {reason}"));
        }
        let balance = service.metric("postrider_balance").await?;
        report.must(balance == 0.0, || format!("{when}: the deliveries do not balance: {balance}"));
        let events = service.metric("postrider_events_total").await? as u64;
        let (least, most) = (evidence.acknowledged, evidence.acknowledged + evidence.unknown);
        report.must((least..=most).contains(&events), || {
            format!("{when}: {events} events are stored, but {least} to {most} were accepted")
        });
        Ok(())
    }

    /// Whether it may be given up, as the log tells of it.
    fn allows(&self, given_up: &GivenUp, log: &str) -> bool {
        let event = given_up.event.to_string();
        let is_named = || log.lines().any(|it| it.contains("set aside:") && it.contains(&event));
        // The last life is not lost.
        let lost_lives = self.lives.load(Ordering::Relaxed).saturating_sub(1);
        self.allowance == Allowance::SetAside
            && given_up.reason == EndReason::SetAside.name()
            && lost_lives >= LOST_LIVES_MIN
            && is_named()
    }
}
