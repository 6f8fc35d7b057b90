//! How soon is a service ready, on an empty store and on one with very much pending? And what does
//! an event cost beside all that?

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::time::Timestamp;

use super::{Policy, PolicyLoad, median};
use crate::clock::now_nanos;
use crate::load::{await_receipts, mib};
use crate::publisher::{PUBLISHERS, publish_at_full_speed, publish_batches, publish_request};
use crate::receiver::ReceiverProcess;
use crate::service::{OPERATOR_KEY, Service, endpoint_url};

/// How often each start is measured.
const STARTS: usize = 5;

/// Events that show what one costs.
const EVENTS: usize = 20_000;

/// When what is pending falls due: long after the measurement.
const DUE_AFTER: Duration = Duration::from_hours(7 * 24);

/// From the start of the program to its being ready, on an empty store.
const GOAL_EMPTY_MS: f64 = 50.0;

/// The same with a million deliveries pending.
const GOAL_PENDING_MS: f64 = 2_000.0;

/// Events accepted in batches, per second.
const GOAL_BATCHED_PER_SECOND: f64 = 40_000.0;

/// An event costs at most this many times as much beside what is pending.
const GOAL_TIMES: f64 = 1.1;

/// Starts it, and answers how long that took until it was ready, in milliseconds.
fn start(program: &Path, folder: &Path) -> Result<(Service, f64)> {
    let began_nanos = now_nanos();
    let service = Service::start(program, folder)?;
    Ok((service, (now_nanos() - began_nanos) as f64 / 1e6))
}

/// The time to ready in milliseconds, in the middle of several starts on the same store.
fn restarts(program: &Path, folder: &Path) -> Result<f64> {
    let mut took = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        took.push(start(program, folder)?.1);
    }
    Ok(median(took))
}

/// The time from the start of the program to the receipt of an event published as soon as it is
/// ready, in milliseconds.
fn first_receipt(program: &Path, folder: &Path, receiver: &mut ReceiverProcess) -> Result<f64> {
    receiver.report(folder)?;
    let began_nanos = now_nanos();
    let service = Service::start(program, folder)?;
    let requests = vec![publish_request(service.address, OPERATOR_KEY, "account")];
    publish_at_full_speed(service.address, &requests, 1, 1)?;
    await_receipts(receiver, 1)?;
    let came = receiver.report(folder)?;
    let first_nanos = came.first().context("the event did not come")?.at_nanos;
    Ok((first_nanos - began_nanos) as f64 / 1e6)
}

/// Ten thousand, a hundred thousand and so on, and `most` at the end.
fn numbers(most: usize) -> impl Iterator<Item = usize> {
    let tenfold = std::iter::successors(Some(10_000_usize), |number| number.checked_mul(10));
    tenfold.take_while(move |number| *number < most).chain(std::iter::once(most))
}

/// CPU microseconds of the service per event.
fn cost(service: &Service, receiver: &mut ReceiverProcess, folder: &Path) -> Result<f64> {
    let requests = vec![publish_request(service.address, OPERATOR_KEY, "account")];
    receiver.report(folder)?;
    let before = service.usage_when_quiet()?;
    publish_at_full_speed(service.address, &requests, EVENTS, PUBLISHERS)?;
    await_receipts(receiver, EVENTS)?;
    let after = service.usage_when_quiet()?;
    Ok((after.cpu_micros - before.cpu_micros) as f64 / EVENTS as f64)
}

pub(super) fn run(pending: usize, program: &Path, folder: &Path) -> Result<Policy> {
    let mut empty = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let folder = tempfile::tempdir_in(folder)?;
        empty.push(start(program, folder.path())?.1);
    }
    let empty_ms = median(empty);

    let mut receiver = ReceiverProcess::start()?;
    let service = Service::start(program, folder)?;
    service.create_account("account", &[endpoint_url(receiver.address, 0)])?;
    // Once to warm up.
    cost(&service, &mut receiver, folder)?;
    let cost_empty = cost(&service, &mut receiver, folder)?;
    let now_seconds = i64::try_from(now_nanos() / 1_000_000_000)?;
    let due_at = Timestamp::from_seconds(now_seconds).plus(DUE_AFTER);
    let mut policy = Policy::of(PolicyLoad::Start);
    policy.row("CPU µs per event with nothing pending", format!("{cost_empty:.1}"));
    let (mut there, mut batched_per_second, mut cost_pending) = (0, 0.0, cost_empty);
    for number in numbers(pending) {
        let filled = publish_batches(service.address, "account", number - there, Some(due_at))?;
        (there, batched_per_second) = (number, filled.events_per_second);
        cost_pending = cost(&service, &mut receiver, folder)?;
        let memory = mib(service.usage()?.memory_bytes);
        policy.row(
            format!("CPU µs per event beside {number} pending / memory, MiB"),
            format!("{cost_pending:.1} / {memory:.1}"),
        );
    }
    // Killed, as it would be by a crash.
    drop(service);
    let first_receipt_ms = first_receipt(program, folder, &mut receiver)?;
    let pending_ms = restarts(program, folder)?;
    let memory = mib(Service::start(program, folder)?.usage_when_quiet()?.memory_bytes);

    policy.row(format!("memory after a start with {pending} pending, MiB"), format!("{memory:.1}"));
    policy.row(
        "from a start after a kill to the receipt of an event published at once, ms",
        format!("{first_receipt_ms:.1}"),
    );
    policy.goal(
        format!("ready on an empty store in ≤ {GOAL_EMPTY_MS:.0} ms (median of {STARTS})"),
        format!("{empty_ms:.1} ms"),
        empty_ms <= GOAL_EMPTY_MS,
    );
    policy.goal(
        format!("ready after a kill with {pending} pending in ≤ {GOAL_PENDING_MS:.0} ms"),
        format!("{pending_ms:.1} ms"),
        pending_ms <= GOAL_PENDING_MS,
    );
    policy.goal(
        format!("accepted in batches: ≥ {GOAL_BATCHED_PER_SECOND:.0} events/s"),
        format!("{batched_per_second:.0}"),
        batched_per_second >= GOAL_BATCHED_PER_SECOND,
    );
    let times = cost_pending / cost_empty;
    policy.goal(
        format!("an event beside {pending} pending costs ≤ {GOAL_TIMES} × as much"),
        format!("{times:.2} ×"),
        times <= GOAL_TIMES,
    );
    Ok(policy)
}
