//! How fast does what has piled up in storage drain, and in how much memory?

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use domain::time::Timestamp;

use super::{Policy, PolicyLoad};
use crate::clock::{now_nanos, wait_until};
use crate::load::{Arrivals, await_receipts, mib};
use crate::publisher::{PUBLISHERS, publish_at_full_speed, publish_batches, publish_request};
use crate::receiver::ReceiverProcess;
use crate::service::{OPERATOR_KEY, Service, endpoint_url};

/// Events that show the rate with an empty queue.
const EMPTY_EVENTS: usize = 50_000;

const WARM_UP_EVENTS: usize = 2_000;

/// The least rate at which the backlog is surely accepted, which says when it may come due.
const FILL_PER_SECOND_MIN: usize = 6_000;

/// It drains at this share of the rate with an empty queue, at least.
const GOAL_SHARE: f64 = 0.8;

/// The most memory meanwhile.
const GOAL_MIB: f64 = 256.0;

pub(super) fn run(backlog: usize, program: &Path, folder: &Path) -> Result<Policy> {
    let mut receiver = ReceiverProcess::start()?;
    let service = Service::start(program, folder)?;
    service.create_account("account", &[endpoint_url(receiver.address, 0)])?;
    let requests = vec![publish_request(service.address, OPERATOR_KEY, "account")];
    publish_at_full_speed(service.address, &requests, WARM_UP_EVENTS, PUBLISHERS)?;
    await_receipts(&mut receiver, WARM_UP_EVENTS)?;
    receiver.report(folder)?;

    let published = publish_at_full_speed(service.address, &requests, EMPTY_EVENTS, PUBLISHERS)?;
    await_receipts(&mut receiver, EMPTY_EVENTS)?;
    let empty = Arrivals::of(&published, 1, &receiver.report(folder)?);
    let empty_per_second = EMPTY_EVENTS as f64 / empty.seconds;

    let fill_seconds = 15 + (backlog / FILL_PER_SECOND_MIN) as u64;
    let due_nanos = (now_nanos() / 1_000_000_000 + fill_seconds) * 1_000_000_000;
    let due_at = Timestamp::from_seconds((due_nanos / 1_000_000_000) as i64);
    let filled = publish_batches(service.address, "account", backlog, Some(due_at))?;
    ensure!(now_nanos() < due_nanos, "the backlog was not accepted before it came due");
    let memory_full = service.usage_when_quiet()?.memory_bytes;
    service.forget_memory_peak()?;
    wait_until(due_nanos.saturating_sub(u64::try_from(Duration::from_millis(50).as_nanos())?));
    let before = service.usage()?;
    await_receipts(&mut receiver, backlog)?;
    let after = service.usage()?;
    let receipts = receiver.report(folder)?;
    let came = Arrivals::of(&filled.published, 1, &receipts);
    let last = receipts.iter().map(|receipt| receipt.at_nanos).max().unwrap_or(due_nanos);
    let early = receipts.iter().filter(|receipt| receipt.at_nanos < due_nanos).count();
    let drained_per_second = backlog as f64 * 1e9 / (last.saturating_sub(due_nanos)).max(1) as f64;
    let unsound = came.lost + came.repeated + came.phantoms + early + empty.lost + empty.repeated;
    let peak = mib(after.memory_peak_bytes);

    let mut policy = Policy::of(PolicyLoad::Backlog);
    policy.row("with an empty queue, events/s", format!("{empty_per_second:.0}"));
    policy.row("accepted in batches, events/s", format!("{:.0}", filled.events_per_second));
    policy.row(
        format!("{backlog} deliveries due at one instant, drained per second"),
        format!("{drained_per_second:.0}"),
    );
    policy.row(
        "CPU of the service per delivery drained, µs",
        format!("{:.1}", (after.cpu_micros - before.cpu_micros) as f64 / backlog as f64),
    );
    policy.row("memory before it drains, MiB", format!("{:.1}", mib(memory_full)));
    policy.row("peak of memory while it drains, MiB", format!("{peak:.1}"));
    policy.goal(
        "nothing lost, repeated, made up or sent before it was due",
        format!("{unsound}"),
        unsound == 0,
    );
    let share = drained_per_second / empty_per_second;
    policy.goal(
        format!("drains at ≥ {:.0} % of the rate with an empty queue", 100.0 * GOAL_SHARE),
        format!("{:.0} %", 100.0 * share),
        share >= GOAL_SHARE,
    );
    policy.goal(format!("memory ≤ {GOAL_MIB:.0} MiB"), format!("{peak:.1} MiB"), peak <= GOAL_MIB);
    Ok(policy)
}
