//! Does an account feel that another publishes 100,000 events at once?

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Policy, PolicyLoad};
use crate::clock::pause;
use crate::load::{Arrivals, await_receipts};
use crate::percentiles::Percentiles;
use crate::publisher::{publish_at_rate, publish_batches, publish_request};
use crate::receiver::ReceiverProcess;
use crate::service::{OPERATOR_KEY, Service, endpoint_url};

/// Events of the burst.
const BURST_EVENTS: usize = 100_000;

/// Events a second of the other account.
const OTHER_EVENTS_PER_SECOND: u64 = 20;

/// How long it is watched, beginning a second after the burst.
const OTHER_SECONDS: u64 = 15;

/// The p99 of the other account from publish to receipt.
const GOAL_P99_MS: f64 = 2_000.0;

pub(super) fn run(program: &Path, folder: &Path) -> Result<Policy> {
    let (mut many, mut few) = (ReceiverProcess::start()?, ReceiverProcess::start()?);
    let service = Service::start(program, folder)?;
    service.create_account("many", &[endpoint_url(many.address, 0)])?;
    service.create_account("few", &[endpoint_url(few.address, 0)])?;
    let requests = vec![publish_request(service.address, OPERATOR_KEY, "few")];
    let address = service.address;
    let events = (OTHER_EVENTS_PER_SECOND * OTHER_SECONDS) as usize;
    let (published, burst) = std::thread::scope(|scope| {
        let burst = scope.spawn(|| publish_batches(address, "many", BURST_EVENTS, None));
        pause(Duration::from_secs(1));
        let published = publish_at_rate(address, &requests, events, OTHER_EVENTS_PER_SECOND)?;
        let burst = burst.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))?;
        Ok::<_, anyhow::Error>((published, burst.context("publishing the burst")?))
    })?;
    await_receipts(&mut few, events)?;
    let came = Arrivals::of(&published, 1, &few.report(folder)?);
    await_receipts(&mut many, BURST_EVENTS)?;
    let came_many = Arrivals::of(&burst.published, 1, &many.report(folder)?);
    let unsound = [&came, &came_many].map(|it| it.lost + it.repeated + it.phantoms);
    let latency = Percentiles::of(came.latencies);
    let mut policy = Policy::of(PolicyLoad::Burst);
    policy.row("burst accepted, events/s", format!("{:.0}", burst.events_per_second));
    policy.row(
        "burst delivered, events/s",
        format!("{:.0}", came_many.seconds.recip() * BURST_EVENTS as f64),
    );
    policy.row("the other account: publish to receipt, ms", latency.to_string());
    policy.goal(
        "nothing lost, repeated or made up",
        format!("{}", unsound.iter().sum::<usize>()),
        unsound == [0, 0],
    );
    policy.goal(
        format!("p99 of the other account ≤ {GOAL_P99_MS:.0} ms"),
        format!("{:.0} ms", latency.p99_ms),
        latency.p99_ms <= GOAL_P99_MS,
    );
    Ok(policy)
}
