//! The floor: what the bare parts of the work cost, each in a process of its own.
//!
//! Intake, storage and sending, each with the libraries Postrider uses and nothing around them. Their
//! sum is what an event would cost if holding them together were free.

mod intake;
mod protection;
mod sending;
mod storage;

use std::path::Path;

use anyhow::{Context as _, Result};
use domain::contract::Contract;
use domain::event::EventType;
use domain::id::EventId;
use domain::rendering::render_body;
use domain::time::Timestamp;
use serde::Serialize;

use crate::process::{Spoken, say};
use crate::publisher::{EVENT_TYPE, PUBLISHERS, data, publish_at_full_speed, publish_request};
use crate::receiver::ReceiverProcess;

pub(crate) use intake::run as run_intake;
pub(crate) use protection::Protection;
pub(crate) use sending::run as run_sending;
pub(crate) use storage::run as run_storage;

/// Events before the measured ones, in which connections, caches and files come about.
const WARM_UP_EVENTS: usize = 2_000;

/// CPU microseconds of each bare part, per event with one delivery.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Floor {
    /// Taking the request and answering it.
    pub(crate) intake_micros: f64,
    /// Storing event, delivery, attempt.
    pub(crate) storage_micros: f64,
    /// Storing an event with ten deliveries and their attempts.
    pub(crate) storage_of_ten_micros: f64,
    /// Signing and sending one delivery.
    pub(crate) sending_micros: f64,
    /// Events per second of the bare storage.
    pub(crate) storage_events_per_second: f64,
    /// Bytes written per event by the bare storage.
    pub(crate) storage_written_bytes: f64,
}

impl Floor {
    /// Measures every part three times with this many events; each figure is the middle one.
    pub(crate) fn measure(events: usize, folder: &Path) -> Result<Self> {
        let rounds = [(); 3].map(|()| Self::measure_once(events, folder));
        let [one, two, three] = rounds;
        let rounds = [one?, two?, three?];
        let middle = |figure: fn(&Self) -> f64| {
            let mut figures = rounds.each_ref().map(figure);
            figures.sort_unstable_by(f64::total_cmp);
            figures[1]
        };
        Ok(Self {
            intake_micros: middle(|floor| floor.intake_micros),
            storage_micros: middle(|floor| floor.storage_micros),
            storage_of_ten_micros: middle(|floor| floor.storage_of_ten_micros),
            sending_micros: middle(|floor| floor.sending_micros),
            storage_events_per_second: middle(|floor| floor.storage_events_per_second),
            storage_written_bytes: middle(|floor| floor.storage_written_bytes),
        })
    }

    fn measure_once(events: usize, folder: &Path) -> Result<Self> {
        let one = measure_storage(events, 1, folder)?;
        let ten = measure_storage(events / 10, 10, folder)?;
        Ok(Self {
            intake_micros: measure_intake(events)?,
            storage_micros: one.cpu_micros,
            storage_of_ten_micros: ten.cpu_micros,
            sending_micros: measure_sending(events)?,
            storage_events_per_second: one.events_per_second,
            storage_written_bytes: one.written_bytes,
        })
    }

    /// CPU microseconds per event that owes this many deliveries, 1 or 10.
    pub(crate) fn micros_per_event(&self, deliveries: usize) -> f64 {
        let storage =
            if deliveries == 1 { self.storage_micros } else { self.storage_of_ten_micros };
        self.intake_micros + storage + deliveries as f64 * self.sending_micros
    }
}

fn measure_intake(events: usize) -> Result<f64> {
    let mut process = Spoken::this_program(&["floor-intake"])?;
    let address = process.hear()?.parse().context("reading the bare intake's address")?;
    let requests = vec![publish_request(address, "pr_op_bare_intake", "bench0")];
    publish_at_full_speed(address, &requests, WARM_UP_EVENTS, PUBLISHERS)?;
    let before = process.usage()?;
    publish_at_full_speed(address, &requests, events, PUBLISHERS)?;
    Ok((process.usage()?.cpu_micros - before.cpu_micros) as f64 / events as f64)
}

fn measure_sending(deliveries: usize) -> Result<f64> {
    let mut receiver = ReceiverProcess::start()?;
    let mut process = Spoken::this_program(&["floor-sending", &receiver.address.to_string()])?;
    process.ask(&format!("run {WARM_UP_EVENTS}"))?;
    let before = process.usage()?;
    process.ask(&format!("run {deliveries}"))?;
    let used = process.usage()?.cpu_micros - before.cpu_micros;
    let came = receiver.count()?;
    anyhow::ensure!(came == WARM_UP_EVENTS + deliveries, "the bare client lost deliveries: {came}");
    Ok(used as f64 / deliveries as f64)
}

struct StorageFloor {
    cpu_micros: f64,
    events_per_second: f64,
    written_bytes: f64,
}

fn measure_storage(events: usize, deliveries: usize, folder: &Path) -> Result<StorageFloor> {
    let folder = tempfile::tempdir_in(folder).context("making a folder for the bare storage")?;
    let file = folder.path().join("bare.db");
    let deliveries = deliveries.to_string();
    let file = file.to_str().context("the folder's name is text")?;
    let mut process = Spoken::this_program(&["floor-storage", file, &deliveries])?;
    process.ask(&format!("run {WARM_UP_EVENTS}"))?;
    let before = process.usage()?;
    let nanos: f64 =
        process.ask(&format!("run {events}"))?.parse().context("reading a duration")?;
    let after = process.usage()?;
    Ok(StorageFloor {
        cpu_micros: (after.cpu_micros - before.cpu_micros) as f64 / events as f64,
        events_per_second: events as f64 * 1e9 / nanos,
        written_bytes: (after.written_bytes - before.written_bytes) as f64 / events as f64,
    })
}

/// Runs `work` for every `run COUNT` on the input and answers how many nanoseconds it took.
fn obey(mut work: impl FnMut(usize) -> Result<()>) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let count = line.strip_prefix("run ").context("the command is run COUNT")?.parse()?;
        let began_nanos = crate::clock::now_nanos();
        work(count)?;
        say(crate::clock::now_nanos() - began_nanos);
    }
    Ok(())
}

/// The body of a delivery of the benchmark's event.
fn delivery_body() -> Result<Vec<u8>> {
    let event_type = EventType::parse(EVENT_TYPE)?;
    let timestamp = Timestamp::from_seconds(1_732_806_631);
    let id = EventId::from_u128(u128::MAX / 3);
    Ok(render_body(Contract::JoggV2, id, &event_type, timestamp, data().as_bytes()).bytes)
}
