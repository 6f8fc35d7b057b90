//! `bench drive`: one load for any sender of webhooks, through its own API, so that whoever
//! compares two does so on his own machine and with one generator.
//!
//! Its parts: [`description`] (what an API looks like, as TOML), [`template`] (texts with gaps),
//! [`client`] (HTTP), [`setup`] (accounts, endpoints, keys), [`publishing`] (the load), [`arrivals`]
//! (the receiver), [`outcome`] (what it came to).
//!
//! Promise: every sender gets the same requests but for what its description says, an event counts
//! as accepted by its answer and as delivered by its arrival, and latencies count from when an event
//! was to be published.

mod arrivals;
mod client;
mod description;
mod outcome;
mod publishing;
mod setup;
mod template;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::arrivals::Receiver;
use self::client::{Base, Client};
use self::description::Description;
use self::outcome::{Outcome, Tally, Used};
use self::publishing::{Ending, Publisher, Publishing};
use self::template::Values;
use crate::clock::{now_nanos, pause};
use crate::load::mib;
use crate::process::{Usage, say};

/// How long after the last arrival repeats are still waited for.
const REPEATS_AWAITED: Duration = Duration::from_secs(1);

/// What to drive, and how.
#[derive(Debug, Args)]
pub(crate) struct Choice {
    /// The description of the sender's API, TOML; see crates/bench/targets.
    #[arg(long)]
    target: PathBuf,
    /// The value of a variable of the description; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = assignment)]
    given: Vec<(String, String)>,
    /// Where the API is, instead of what the description says.
    #[arg(long)]
    base_url: Option<String>,
    /// Events to publish and measure.
    #[arg(long, default_value_t = 10_000, value_parser = positive)]
    events: usize,
    /// Events to publish and receive before that, unmeasured.
    #[arg(long, default_value_t = 500, value_parser = positive)]
    warm_up: usize,
    /// Connections that publish.
    #[arg(long, default_value_t = 64, value_parser = positive)]
    connections: usize,
    /// Events per second, each at its own instant; as fast as answers come unless given.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rate: Option<u64>,
    /// Bytes of `data` in every event.
    #[arg(long, default_value_t = crate::publisher::DATA_BYTES)]
    data_bytes: usize,
    /// Seconds without any arrival after which what has not come is lost.
    #[arg(long, default_value_t = 30)]
    patience: u64,
    /// Where the receiver listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    receiver_listen: SocketAddr,
    /// The receiver as the sender must call it, if not as it listens: http://host:port.
    #[arg(long)]
    receiver_base_url: Option<String>,
    /// A process of the sender, whose CPU and memory are measured; repeatable.
    #[arg(long = "pid")]
    processes: Vec<u32>,
    /// Write what was measured there too.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// Sets the sender up, publishes, waits, says what it came to.
pub(crate) fn run(choice: &Choice) -> Result<()> {
    let description = Description::read(&choice.target, &choice.given)?;
    let base = Base::parse(choice.base_url.as_ref().unwrap_or(&description.base_url))?;
    let run = format!("run{:x}", now_nanos());
    let path = format!("/{run}");
    let number = description.number.clone();
    let receiver = Receiver::start(choice.receiver_listen, path.clone(), number)?;
    let receiver_base = choice.receiver_base_url.clone();
    let receiver_base = receiver_base.unwrap_or_else(|| format!("http://{}", receiver.address));

    let mut values = description.variables.clone();
    values.insert(
        "receiver_url".to_owned(),
        format!("{}{path}", receiver_base.trim_end_matches('/')),
    );
    values.insert("run".to_owned(), run);
    set_up(&description, &base, &mut values)?;
    let publisher =
        Arc::new(Publisher::new(base, &description.publish, &values, choice.data_bytes));

    // A sender may have tried the endpoint when it was created.
    receiver.forget();
    let warm_up = publisher.at_full_speed(0..choice.warm_up, choice.connections)?;
    await_arrivals(&receiver, &warm_up, choice.patience);
    check_warm_up(&warm_up, &receiver)?;

    receiver.forget();
    let (before, own_before) = (usage(&choice.processes)?, Usage::of(std::process::id())?);
    let numbers = choice.warm_up..choice.warm_up + choice.events;
    let publishing = match choice.rate {
        Some(rate) => publisher.at_rate(numbers, choice.connections, rate)?,
        None => publisher.at_full_speed(numbers, choice.connections)?,
    };
    await_arrivals(&receiver, &publishing, choice.patience);
    let (after, own_after) = (usage(&choice.processes)?, Usage::of(std::process::id())?);
    pause(REPEATS_AWAITED);

    let per_event = |later: Usage, earlier: Usage| {
        later.cpu_micros.saturating_sub(earlier.cpu_micros) as f64 / choice.events as f64
    };
    let outcome = Outcome {
        target: description.name,
        data_bytes: choice.data_bytes,
        connections: choice.connections,
        rate: choice.rate,
        patience_seconds: choice.patience,
        tally: Tally::of(publishing, std::mem::take(&mut receiver.arrivals())),
        used: before.zip(after).map(|(before, after)| Used {
            cpu_micros_per_event: per_event(after, before),
            memory_peak_mib: mib(after.memory_peak_bytes),
        }),
        generator_cpu_micros_per_event: per_event(own_after, own_before),
    };
    say(outcome.table()?);
    if let Some(file) = &choice.json {
        let text = serde_json::to_string_pretty(&outcome)?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

fn set_up(description: &Description, base: &Base, values: &mut Values) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut client = Client::new(base.clone());
    runtime.block_on(setup::run(&description.setup, &mut client, values))
}

/// Waits until everything accepted has arrived, or nothing has for so many seconds.
fn await_arrivals(receiver: &Receiver, publishing: &Publishing, patience_seconds: u64) {
    let events = &publishing.events;
    let accepted: Vec<_> = events
        .iter()
        .filter(|event| event.ending == Ending::Accepted)
        .map(|event| event.number)
        .collect();
    let (began_nanos, patience_nanos) = (now_nanos(), patience_seconds * 1_000_000_000);
    loop {
        {
            let arrivals = receiver.arrivals();
            let came = &arrivals.first_at_nanos;
            let silent_since = arrivals.last_at_nanos.max(began_nanos);
            if came.len() >= accepted.len() && accepted.iter().all(|n| came.contains_key(n))
                || now_nanos().saturating_sub(silent_since) > patience_nanos
            {
                return;
            }
        }
        pause(Duration::from_millis(20));
    }
}

/// A load that does not work at all is not measured.
fn check_warm_up(warm_up: &Publishing, receiver: &Receiver) -> Result<()> {
    let accepted = warm_up.events.iter().any(|event| event.ending == Ending::Accepted);
    let reason = match (&warm_up.first_refusal, &warm_up.first_unanswered) {
        (Some(refusal), _) => format!("{}: {}", refusal.status, refusal.body),
        (None, reason) => reason.clone().unwrap_or_default(),
    };
    ensure!(accepted, "no event of the warm-up was accepted; the first answer: {reason}");
    let arrivals = receiver.arrivals();
    if arrivals.first_at_nanos.is_empty() {
        let body = arrivals.first_unrecognised.as_ref();
        let body = body.context("events were accepted, and not one request came")?;
        anyhow::bail!("the receiver finds no number where `number` says; the first body: {body}");
    }
    Ok(())
}

/// What these processes have used together; nothing if there are none.
fn usage(processes: &[u32]) -> Result<Option<Usage>> {
    let mut sum = None;
    for process in processes {
        let used = Usage::of(*process)?;
        let before = sum.unwrap_or_else(Usage::default);
        sum = Some(Usage {
            cpu_micros: before.cpu_micros + used.cpu_micros,
            written_bytes: before.written_bytes + used.written_bytes,
            memory_peak_bytes: before.memory_peak_bytes + used.memory_peak_bytes,
            memory_bytes: before.memory_bytes + used.memory_bytes,
        });
    }
    Ok(sum)
}
