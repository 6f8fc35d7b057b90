//! The load beside bad neighbours: does an account feel that another's receivers misbehave?
//!
//! Promise: one process of the service and one steady rate for the good account: alone; then beside
//! another good one that is published to at the same rate, which shows what twice the load costs;
//! then beside one whose endpoints all misbehave (`misbehaving`), which shows the rest. Every event
//! of the good account is checked; all is bounded in count and time.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::fsync;
use crate::load::{Arrivals, await_receipts, mib};
use crate::misbehaving::{self, MisbehavingProcess};
use crate::percentiles::Percentiles;
use crate::publisher::{
    PUBLISHERS, Published, publish_at_full_speed, publish_at_rate, publish_request,
};
use crate::receiver::{Receipt, ReceiverProcess};
use crate::service::{OPERATOR_KEY, Service, endpoint_url};

/// How long each part lasts.
const SECONDS: u64 = 10;

/// Endpoints of a good account.
const GOOD_ENDPOINTS: usize = 10;

/// Events to the good account before the measured ones.
const WARM_UP_EVENTS: usize = 200;

const GOOD: &str = "good";
const OTHER: &str = "other";
const BAD: &str = "bad";

/// What the good account had of one part.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Part {
    /// From a publish to its answer.
    pub(crate) publish: Percentiles,
    /// From a publish to its last receipt.
    pub(crate) receipt: Percentiles,
    /// How late the generator was; latencies count from when it should have been.
    pub(crate) generator_late: Percentiles,
    /// The most memory the service had resident.
    pub(crate) memory_peak_mib: f64,
    /// CPU of the service.
    pub(crate) cpu_millis: f64,
    /// Its transactions, if it counts them.
    pub(crate) commits: Option<u64>,
}

/// What the load showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Neighbours {
    /// Endpoints of the good account.
    pub(crate) good_endpoints: usize,
    /// Endpoints of the other account, all bad.
    pub(crate) bad_endpoints: usize,
    /// To each account; each event goes to every endpoint of its account.
    pub(crate) events_per_second: u64,
    /// Of each part.
    pub(crate) seconds: u64,
    /// The good account alone.
    pub(crate) alone: Part,
    /// The good account beside the other good one.
    pub(crate) beside_good: Part,
    /// The good account beside the bad one.
    pub(crate) beside_bad: Part,
    /// p99 from publish to receipt beside the bad account, by that alone.
    pub(crate) p99_times_alone: f64,
    /// p99 from publish to receipt beside the bad account, by that beside the other good one.
    pub(crate) p99_times_beside_good: f64,
    /// How much higher than alone the peak of resident memory was beside the bad account.
    pub(crate) memory_growth_mib: f64,
    /// Connections that the bad receivers accepted.
    pub(crate) bad_connections: usize,
    /// This machine's `fdatasync` of 4 KiB, before and after.
    pub(crate) fsync: Percentiles,
    /// Acknowledged and never received, of the good account.
    pub(crate) lost: usize,
    /// Received again, of the good account.
    pub(crate) repeated: usize,
    /// Received and never acknowledged, of the good account.
    pub(crate) phantoms: usize,
    /// Whether the service stopped in good order when asked, the bad attempts on their way.
    pub(crate) stopped_in_order: bool,
}

/// Runs the load on an empty store in `folder`.
pub(crate) fn run(rate: u64, program: &Path, folder: &Path) -> Result<Neighbours> {
    let mut syncs = fsync::measure(folder)?;
    let (receiver, other) = (ReceiverProcess::start()?, ReceiverProcess::start()?);
    let mut misbehaving = MisbehavingProcess::start()?;
    let service = Service::start(program, folder)?;
    let ten = |address| (0..GOOD_ENDPOINTS).map(|number| endpoint_url(address, number)).collect();
    let (good, other_good): (Vec<_>, Vec<_>) = (ten(receiver.address), ten(other.address));
    let bad: Vec<_> =
        misbehaving.addresses.iter().map(|address| endpoint_url(*address, 0)).collect();
    service.create_account(GOOD, &good)?;
    service.create_account(OTHER, &other_good)?;
    service.create_account(BAD, &bad)?;
    let mut stage = Stage { service, receiver, folder, rate };

    stage.warm_up()?;
    let (alone, came_alone) = stage.play(None)?;
    let (beside_good, came_beside_good) = stage.play(Some(OTHER))?;
    let (beside_bad, came_beside_bad) = stage.play(Some(BAD))?;
    let bad_connections = misbehaving.connections()?;
    let stopped_in_order = stage.service.stop()?;
    syncs.extend(fsync::measure(folder)?);

    let came = [came_alone, came_beside_good, came_beside_bad];
    let in_all = |count: fn(&Arrivals) -> usize| came.iter().map(count).sum();
    Ok(Neighbours {
        good_endpoints: GOOD_ENDPOINTS,
        bad_endpoints: misbehaving::RECEIVERS,
        events_per_second: rate,
        seconds: SECONDS,
        p99_times_alone: beside_bad.receipt.p99_ms / alone.receipt.p99_ms,
        p99_times_beside_good: beside_bad.receipt.p99_ms / beside_good.receipt.p99_ms,
        memory_growth_mib: (beside_bad.memory_peak_mib - alone.memory_peak_mib).max(0.0),
        alone,
        beside_good,
        beside_bad,
        bad_connections,
        fsync: Percentiles::of(syncs),
        lost: in_all(|came| came.lost),
        repeated: in_all(|came| came.repeated),
        phantoms: in_all(|came| came.phantoms),
        stopped_in_order,
    })
}

struct Stage<'f> {
    service: Service,
    receiver: ReceiverProcess,
    folder: &'f Path,
    rate: u64,
}

impl Stage<'_> {
    fn warm_up(&mut self) -> Result<()> {
        let requests = self.requests(GOOD);
        publish_at_full_speed(self.service.address, &requests, WARM_UP_EVENTS, PUBLISHERS)?;
        self.receipts(WARM_UP_EVENTS)?;
        self.service.usage_when_quiet()?;
        Ok(())
    }

    /// One part, beside that account or none.
    fn play(&mut self, beside: Option<&str>) -> Result<(Part, Arrivals)> {
        self.service.forget_memory_peak()?;
        let (before, commits_before) = (self.service.usage()?, self.service.commits()?);
        let address = self.service.address;
        let events = (self.rate * SECONDS) as usize;
        let publish =
            |requests: Vec<Vec<u8>>| publish_at_rate(address, &requests, events, self.rate);
        let (good, beside) = (self.requests(GOOD), beside.map(|account| self.requests(account)));
        let published: Vec<Published> = std::thread::scope(|scope| {
            let beside = beside.map(|requests| scope.spawn(|| publish(requests)));
            let published = publish(good)?;
            if let Some(beside) = beside {
                let beside = beside.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
                beside.context("publishing to the account beside")?;
            }
            Ok::<_, anyhow::Error>(published)
        })?;
        let receipts = self.receipts(events)?;
        let (after, commits) = (self.service.usage()?, self.service.commits()?);
        let arrivals = Arrivals::of(&published, GOOD_ENDPOINTS, &receipts);
        let part = Part {
            publish: Percentiles::of(published.iter().map(|p| p.answered_nanos - p.began_nanos)),
            receipt: Percentiles::of(arrivals.latencies.iter().copied()),
            generator_late: Percentiles::of(published.iter().map(|p| p.late_nanos)),
            memory_peak_mib: mib(after.memory_peak_bytes),
            cpu_millis: (after.cpu_micros - before.cpu_micros) as f64 / 1000.0,
            commits: commits.zip(commits_before).map(|(now, then)| now - then),
        };
        Ok((part, arrivals))
    }

    fn requests(&self, account: &str) -> Vec<Vec<u8>> {
        vec![publish_request(self.service.address, OPERATOR_KEY, account)]
    }

    /// What came of so many events of the good account.
    fn receipts(&mut self, events: usize) -> Result<Vec<Receipt>> {
        await_receipts(&mut self.receiver, events * GOOD_ENDPOINTS)?;
        self.receiver.report(self.folder)
    }
}

impl Neighbours {
    /// Writes it as a table in Markdown.
    pub(crate) fn write(&self, text: &mut String) -> Result<()> {
        writeln!(
            text,
            "\n| {} good endpoints, {} events/s; p50 / p99 / max in ms | publish answered | publish \
             to receipt | generator late | CPU ms | commits | peak MiB |\n\
             | --- | --- | --- | --- | --- | --- | --- |",
            self.good_endpoints, self.events_per_second
        )?;
        let good = format!("beside {} other good ones", self.good_endpoints);
        let bad = format!("beside {} bad ones", self.bad_endpoints);
        let parts = [("alone", &self.alone), (&good, &self.beside_good), (&bad, &self.beside_bad)];
        for (name, part) in parts {
            let commits = part.commits.map_or("–".to_owned(), |commits| commits.to_string());
            writeln!(
                text,
                "| {name} | {} | {} | {} | {:.0} | {commits} | {:.1} |",
                part.publish,
                part.receipt,
                part.generator_late,
                part.cpu_millis,
                part.memory_peak_mib
            )?;
        }
        writeln!(
            text,
            "\np99 to receipt beside bad ones: {:.2} × alone, {:.2} × beside good ones. The bad \
             receivers accepted {} connections; fsync in the same run: {} ms.",
            self.p99_times_alone, self.p99_times_beside_good, self.bad_connections, self.fsync
        )?;
        Ok(())
    }
}
