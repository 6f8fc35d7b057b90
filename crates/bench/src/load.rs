//! The loads: publishers → `postrider serve` → receiver, every event checked, everything measured.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use crate::clock::{now_nanos, pause};
use crate::fsync;
use crate::neighbours::{self, Neighbours};
use crate::percentiles::Percentiles;
use crate::policy::{self, Policy, PolicyLoad, Sizes};
use crate::process::Usage;
use crate::publisher::{
    PUBLISHERS, Published, publish_at_full_speed, publish_at_rate, publish_request,
};
use crate::receiver::{ReceiverProcess, index};
use crate::service::{OPERATOR_KEY, Service, account_name};

/// Events before the measured ones, in which connections, caches and files come about.
const WARM_UP_EVENTS: usize = 2_000;

/// No delivery coming for this long means that the missing ones are lost.
const SILENCE_MEANS_LOST: Duration = Duration::from_secs(20);

/// Endpoints of the idle load.
const IDLE_ENDPOINTS: usize = 10_000;

/// How long the endpoints are made before the service is called idle: what their making leaves to
/// do, such as looking through the audit log for what is to be announced, is done every 10 s.
const IDLE_AFTER: Duration = Duration::from_secs(12);

/// How long the idle service is watched.
const IDLE_WATCHED: Duration = Duration::from_secs(10);

/// The fixed rate, in events per second.
pub(crate) const FIXED_RATE: u64 = 1_000;

/// How long the fixed rate is kept up.
const FIXED_RATE_SECONDS: u64 = 20;

/// A load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Load {
    /// One account with one endpoint, 64 publishers at full speed.
    One,
    /// 100 accounts with one endpoint each, 64 publishers at full speed.
    Hundred,
    /// One account with ten endpoints, 64 publishers at full speed; a tenth of the events.
    FanOut,
    /// One account with one endpoint, 1,000 events per second for 20 seconds.
    FixedRate,
    /// 10,000 endpoints and no event.
    Idle,
    /// An account with ten endpoints: alone, beside another, and beside one whose ten misbehave.
    BadNeighbours,
    /// 3 of an account's 10 endpoints hang.
    Hanging,
    /// One account publishes 100,000 events at once, another goes on as ever.
    Burst,
    /// A million deliveries come due at one instant.
    Backlog,
    /// 100,000 endpoints, of which each event concerns one.
    ManyEndpoints,
    /// Starting on an empty store, and on one with a million deliveries pending.
    Start,
    /// What an event costs from 1 to 100,000 endpoints.
    Curve,
}

impl Load {
    /// Every load.
    pub(crate) const ALL: [Self; 12] = [
        Self::One,
        Self::Hundred,
        Self::FanOut,
        Self::FixedRate,
        Self::Idle,
        Self::BadNeighbours,
        Self::Hanging,
        Self::Burst,
        Self::Backlog,
        Self::ManyEndpoints,
        Self::Start,
        Self::Curve,
    ];

    /// The load of the delivery policy that it is, if it is one.
    const fn policy(self) -> Option<PolicyLoad> {
        match self {
            Self::Hanging => Some(PolicyLoad::Hanging),
            Self::Burst => Some(PolicyLoad::Burst),
            Self::Backlog => Some(PolicyLoad::Backlog),
            Self::ManyEndpoints => Some(PolicyLoad::ManyEndpoints),
            Self::Start => Some(PolicyLoad::Start),
            Self::Curve => Some(PolicyLoad::Curve),
            Self::One
            | Self::Hundred
            | Self::FanOut
            | Self::FixedRate
            | Self::Idle
            | Self::BadNeighbours => None,
        }
    }

    /// Accounts, endpoints of each.
    fn furniture(self) -> (usize, usize) {
        match self {
            Self::One
            | Self::FixedRate
            | Self::Hanging
            | Self::Burst
            | Self::Backlog
            | Self::ManyEndpoints
            | Self::Start
            | Self::Curve => (1, 1),
            Self::Hundred => (100, 1),
            Self::FanOut | Self::BadNeighbours => (1, 10),
            Self::Idle => (IDLE_ENDPOINTS / 20, 20),
        }
    }

    /// What it is called in the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::One => "1 account × 1 endpoint, full speed",
            Self::Hundred => "100 accounts × 1 endpoint, full speed",
            Self::FanOut => "1 account × 10 endpoints, full speed",
            Self::FixedRate => "1 account × 1 endpoint, 1,000 events/s",
            Self::Idle => "idle, 10,000 endpoints",
            Self::BadNeighbours => "bad neighbours",
            Self::Hanging => PolicyLoad::Hanging.title(),
            Self::Burst => PolicyLoad::Burst.title(),
            Self::Backlog => PolicyLoad::Backlog.title(),
            Self::ManyEndpoints => PolicyLoad::ManyEndpoints.title(),
            Self::Start => PolicyLoad::Start.title(),
            Self::Curve => PolicyLoad::Curve.title(),
        }
    }
}

/// What a load with events showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    /// The load.
    pub(crate) load: &'static str,
    /// Events published.
    pub(crate) events: usize,
    /// Deliveries owed by each.
    pub(crate) deliveries_per_event: usize,
    /// From the first publish to the last receipt, per second.
    pub(crate) events_per_second: f64,
    /// CPU of the service, per event.
    pub(crate) cpu_micros_per_event: f64,
    /// CPU of the receiver, per event; not the service's, but it shares the processors.
    pub(crate) receiver_cpu_micros_per_event: f64,
    /// The same of the generator.
    pub(crate) generator_cpu_micros_per_event: f64,
    /// From a publish to its answer.
    pub(crate) publish: Percentiles,
    /// From a publish to its receipt, the last one where it fans out.
    pub(crate) receipt: Percentiles,
    /// How late the generator was; latencies count from when it should have been.
    pub(crate) generator_late: Percentiles,
    /// The most memory the service had resident.
    pub(crate) memory_peak_mib: f64,
    /// Transactions per event, which is also the number of fsyncs; unknown if it does not count.
    pub(crate) commits_per_event: Option<f64>,
    /// Bytes the service caused to be written, per event.
    pub(crate) written_bytes_per_event: f64,
    /// This machine's `fdatasync` of 4 KiB, before and after the load.
    pub(crate) fsync: Percentiles,
    /// Acknowledged and never received.
    pub(crate) lost: usize,
    /// Received again.
    pub(crate) repeated: usize,
    /// Received and never acknowledged.
    pub(crate) phantoms: usize,
    /// Whether the service stopped in good order when asked.
    pub(crate) stopped_in_order: bool,
}

/// What the idle load showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Idle {
    /// Endpoints.
    pub(crate) endpoints: usize,
    /// Memory resident, in the process that created them.
    pub(crate) memory_mib: f64,
    /// Memory resident, in a process started anew on the same store.
    pub(crate) memory_after_restart_mib: f64,
    /// CPU used while nothing happened.
    pub(crate) cpu_millis: f64,
    /// How long that was.
    pub(crate) seconds: u64,
}

/// What a load showed.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Shown {
    /// Of a load with events.
    Measured(Measured),
    /// Of the idle load.
    Idle(Idle),
    /// Of the load beside bad neighbours.
    Neighbours(Box<Neighbours>),
    /// Of a load of the delivery policy.
    Policy(Policy),
}

/// Runs a load on an empty store of its own in `folder`.
pub(crate) fn run(
    load: Load,
    events: usize,
    rate: u64,
    sizes: Sizes,
    program: &Path,
    folder: &Path,
) -> Result<Shown> {
    let folder = tempfile::tempdir_in(folder).context("making a folder for the store")?;
    let shown = match load {
        _ if let Some(policy) = load.policy() => {
            policy::run(policy, sizes, program, folder.path()).map(Shown::Policy)
        }
        Load::Idle => run_idle(program, folder.path()).map(Shown::Idle),
        Load::BadNeighbours => {
            neighbours::run(rate, program, folder.path()).map(Box::new).map(Shown::Neighbours)
        }
        _ => run_events(load, events, program, folder.path()).map(Shown::Measured),
    };
    shown.with_context(|| {
        let log = std::fs::read_to_string(folder.path().join("postrider.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(10).collect();
        let last: Vec<_> = lines.into_iter().rev().collect();
        format!("load {:?}; the service's last words: {}", load.title(), last.join("\n"))
    })
}

fn run_events(load: Load, events: usize, program: &Path, folder: &Path) -> Result<Measured> {
    let (accounts, deliveries) = load.furniture();
    let events = match load {
        Load::FanOut => events / deliveries,
        Load::FixedRate => (FIXED_RATE * FIXED_RATE_SECONDS) as usize,
        _ => events,
    };
    let mut syncs = fsync::measure(folder)?;
    let mut receiver = ReceiverProcess::start()?;
    let service = Service::start(program, folder)?;
    service.furnish(accounts, deliveries, receiver.address)?;
    let requests: Vec<_> = (0..accounts)
        .map(|account| publish_request(service.address, OPERATOR_KEY, &account_name(account)))
        .collect();

    let warm_up = WARM_UP_EVENTS / deliveries;
    publish_at_full_speed(service.address, &requests, warm_up, PUBLISHERS)?;
    await_receipts(&mut receiver, warm_up * deliveries)?;
    let before = service.usage_when_quiet()?;
    receiver.report(folder)?;
    let (receiver_before, commits_before) = (receiver.usage()?, service.commits()?);

    let generator_before = Usage::of(std::process::id())?;
    let published = if load == Load::FixedRate {
        publish_at_rate(service.address, &requests, events, FIXED_RATE)?
    } else {
        publish_at_full_speed(service.address, &requests, events, PUBLISHERS)?
    };
    let generator_used = Usage::of(std::process::id())?.cpu_micros - generator_before.cpu_micros;
    await_receipts(&mut receiver, events * deliveries)?;
    let after = service.usage_when_quiet()?;
    let receiver_used = receiver.usage()?.cpu_micros - receiver_before.cpu_micros;
    let commits = service.commits()?.zip(commits_before).map(|(now, then)| now - then);
    let receipts = receiver.report(folder)?;
    let stopped_in_order = service.stop()?;
    syncs.extend(fsync::measure(folder)?);

    let per_event = |amount: u64| amount as f64 / events as f64;
    let arrivals = Arrivals::of(&published, deliveries, &receipts);
    Ok(Measured {
        load: load.title(),
        events,
        deliveries_per_event: deliveries,
        events_per_second: events as f64 / arrivals.seconds,
        cpu_micros_per_event: per_event(after.cpu_micros - before.cpu_micros),
        receiver_cpu_micros_per_event: per_event(receiver_used),
        generator_cpu_micros_per_event: per_event(generator_used),
        publish: Percentiles::of(published.iter().map(|p| p.answered_nanos - p.began_nanos)),
        receipt: Percentiles::of(arrivals.latencies),
        generator_late: Percentiles::of(published.iter().map(|p| p.late_nanos)),
        memory_peak_mib: mib(after.memory_peak_bytes),
        commits_per_event: commits.map(per_event),
        written_bytes_per_event: per_event(after.written_bytes - before.written_bytes),
        fsync: Percentiles::of(syncs),
        lost: arrivals.lost,
        repeated: arrivals.repeated,
        phantoms: arrivals.phantoms,
        stopped_in_order,
    })
}

fn run_idle(program: &Path, folder: &Path) -> Result<Idle> {
    let (accounts, endpoints_each) = Load::Idle.furniture();
    let receiver = ReceiverProcess::start()?;
    let service = Service::start(program, folder)?;
    service.furnish(accounts, endpoints_each, receiver.address)?;
    pause(IDLE_AFTER);
    let memory_mib = mib(service.usage_when_quiet()?.memory_bytes);
    let before = service.usage()?;
    pause(IDLE_WATCHED);
    let used = service.usage()?.cpu_micros - before.cpu_micros;
    if !service.stop()? {
        bail!("the service did not stop in good order");
    }
    let again = Service::start(program, folder)?;
    let memory_after_restart_mib = mib(again.usage_when_quiet()?.memory_bytes);
    Ok(Idle {
        endpoints: accounts * endpoints_each,
        memory_mib,
        memory_after_restart_mib,
        cpu_millis: used as f64 / 1000.0,
        seconds: IDLE_WATCHED.as_secs(),
    })
}

/// Waits until the receiver has this many deliveries, or has had no new one for long.
pub(crate) fn await_receipts(receiver: &mut ReceiverProcess, expected: usize) -> Result<()> {
    let silence_nanos = u64::try_from(SILENCE_MEANS_LOST.as_nanos()).unwrap_or(u64::MAX);
    let (mut seen, mut seen_at) = (0, now_nanos());
    loop {
        let count = receiver.count()?;
        if count >= expected {
            return Ok(());
        }
        if count > seen {
            (seen, seen_at) = (count, now_nanos());
        } else if now_nanos() - seen_at > silence_nanos {
            return Ok(());
        }
        pause(Duration::from_millis(20));
    }
}

/// What came of what was published.
pub(crate) struct Arrivals {
    /// From the first publish to the last receipt.
    pub(crate) seconds: f64,
    /// Nanoseconds of each event from its publish to its last receipt.
    pub(crate) latencies: Vec<u64>,
    /// Acknowledged and never received.
    pub(crate) lost: usize,
    /// Received again.
    pub(crate) repeated: usize,
    /// Received and never acknowledged.
    pub(crate) phantoms: usize,
}

impl Arrivals {
    /// Of these events with so many deliveries each.
    pub(crate) fn of(
        published: &[Published],
        deliveries: usize,
        receipts: &[crate::receiver::Receipt],
    ) -> Self {
        let (at, repeated) = index(receipts);
        let mut last_of_event = std::collections::HashMap::with_capacity(published.len());
        for ((event, _), at_nanos) in &at {
            let (count, last) = last_of_event.entry(*event).or_insert((0_usize, 0_u64));
            *count += 1;
            *last = (*last).max(*at_nanos);
        }
        let acknowledged: HashSet<_> = published.iter().map(|p| p.event).collect();
        let phantoms = last_of_event.keys().filter(|event| !acknowledged.contains(event)).count();
        let (mut lost, mut latencies) = (0, Vec::with_capacity(published.len()));
        for event in published {
            let (count, last) = last_of_event.get(&event.event).copied().unwrap_or((0, 0));
            if count == deliveries {
                latencies.push(last.saturating_sub(event.began_nanos));
            } else {
                lost += deliveries.abs_diff(count);
            }
        }
        let began = published.iter().map(|p| p.began_nanos).min().unwrap_or(0);
        let ended = at.values().copied().max().unwrap_or(began);
        let seconds = (ended.saturating_sub(began)).max(1) as f64 / 1e9;
        Self { seconds, latencies, lost, repeated, phantoms }
    }
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
