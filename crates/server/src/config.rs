//! What the operator has set, layer by layer, as one typed value.
//!
//! Promise: every option has a flag, an environment variable and a key in the TOML file (but for
//! secrets, which have no flag); flags beat environment beats file beats default; whatever is wrong
//! is refused before anything starts. The options themselves stand in [`settings`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use api::jogg_v2::HttpStatus;
use domain::contract::Contract;
use domain::endpoint::RetrySchedule;
use domain::retention::{RETENTION_MIN, Retention};
use engine::settings::{BucketRate, PlanLimits};
use http_sender::proxy::{EgressProxy, ProxyUrlError};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::ending::Ending;
use crate::key_file::KeyFile;
use crate::telemetry::spans::{Collector, CollectorError};

mod file;
mod flags;
mod layers;
pub mod settings;

pub use flags::Flags;
pub use layers::Environment;
use layers::{Given, Layers};

/// Most attempts in flight an operator may ask for: beyond it sockets run out first.
const IN_FLIGHT_MAX: usize = 65_536;

/// Longest that anything may be kept, in days; a bound on slips of the pen.
const KEPT_DAYS_MAX: u64 = 3_650;

/// The length of a day, whatever the calendar does.
const DAY: Duration = Duration::from_hours(24);

/// Most worker threads an operator may ask for; a bound on slips of the pen.
const WORKER_THREADS_MAX: usize = 1_024;

/// An operator key is at least this long, so that it cannot be guessed.
const OPERATOR_KEY_LENGTH_MIN: usize = 32;

/// An operator key is at most this long: it travels in a header.
const OPERATOR_KEY_LENGTH_MAX: usize = 255;

/// Everything the operator may set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Where everything is kept.
    pub store: StoreLocation,
    /// The file with the keys that seal secrets in storage; `None` is one beside the store.
    pub keys: Option<PathBuf>,
    /// Threads that do the work; `None` is one per core.
    pub worker_threads: Option<usize>,
    /// Logging.
    pub log: LogConfig,
    /// The outgoing side, beyond what the engine decides.
    pub sender: SenderConfig,
    /// The engine.
    pub engine: engine::settings::Settings,
    /// Which HTTP status `jogg_v2` errors have.
    pub jogg_v2_http_status: HttpStatus,
    /// Who gets the spans of recorded traces.
    pub collector: Option<Collector>,
}

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// One SQLite file.
    Sqlite(PathBuf),
}

/// Logging.
#[derive(Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// What to log, in the language of [`EnvFilter`].
    pub filter: String,
    /// How.
    pub format: LogFormat,
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.filter, self.format)
    }
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}

/// The outgoing side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderConfig {
    /// PEM files of authorities to trust beside the system's.
    pub tls_ca: Vec<PathBuf>,
    /// Name servers to ask instead of the system's.
    pub name_servers: Vec<SocketAddr>,
    /// The proxy through which every request leaves.
    pub egress_proxy: Option<EgressProxy>,
}

impl Config {
    /// Reads every layer. `file` is the one that `--config` names.
    pub fn read(
        flags: Flags,
        environment: Environment,
        file: Option<&Path>,
    ) -> Result<Self, Ending> {
        Self::from_layers(&Layers::new(flags.into_values(), environment, file)?)
    }

    /// Everything that is in force, as a TOML file with comments. Secrets are hidden.
    pub fn print(
        flags: Flags,
        environment: Environment,
        file: Option<&Path>,
    ) -> Result<String, Ending> {
        let layers = Layers::new(flags.into_values(), environment, file)?;
        Self::from_layers(&layers)?;
        Ok(file::print(settings::ALL.iter().map(|setting| layers.given(setting))))
    }

    /// What holds when nothing is set.
    pub fn defaults() -> Self {
        Self::read(Flags::default(), Environment::default(), None)
            .expect("the defaults are right values")
    }

    /// The file with the keys that seal secrets in storage.
    pub fn key_file(&self) -> KeyFile {
        let StoreLocation::Sqlite(store) = &self.store;
        let beside = || {
            let mut path = store.clone().into_os_string();
            path.push(".keys");
            PathBuf::from(path)
        };
        KeyFile::at(&self.keys.clone().unwrap_or_else(beside))
    }

    fn from_layers(layers: &Layers) -> Result<Self, Ending> {
        let given = |key: &str| {
            let setting = settings::find(key).expect("the table holds every key that is read here");
            layers.given(setting)
        };
        Ok(Self {
            listen: required(&given("listen"), address)?,
            store: required(&given("store"), store_location)?,
            keys: given("keys").one(|text| Ok(PathBuf::from(text)))?,
            worker_threads: given("worker_threads").one(|text| number(text, WORKER_THREADS_MAX))?,
            log: LogConfig {
                filter: required(&given("log"), log_filter)?,
                format: required(&given("log_format"), log_format)?,
            },
            sender: SenderConfig {
                tls_ca: given("tls_ca").each(|text| Ok(PathBuf::from(text)))?,
                name_servers: given("name_servers").each(address)?,
                egress_proxy: given("egress_proxy").one(egress_proxy)?,
            },
            engine: engine_settings(given)?,
            jogg_v2_http_status: required(&given("jogg_v2.http_status"), http_status)?,
            collector: given("otlp_endpoint").one(collector)?,
        })
    }
}

fn engine_settings(given: impl Fn(&str) -> Given) -> Result<engine::settings::Settings, Ending> {
    let without_standard_headers = [
        (Contract::JoggV2, "jogg_v2.standard_webhooks_headers"),
        (Contract::KonproV1, "konpro_v1.standard_webhooks_headers"),
    ];
    let mut settings = engine::settings::Settings {
        probe_endpoints: required(&given("probe_endpoints"), switch)?,
        without_standard_headers: Vec::new(),
        plans: given("plans").each(plan)?.into_iter().collect::<BTreeMap<_, _>>(),
        retry_schedule: given("retry_schedule").whole(retry_schedule)?,
        in_flight_max: required(&given("in_flight_max"), |text| number(text, IN_FLIGHT_MAX))?,
        in_flight_per_endpoint_max: required(&given("in_flight_per_endpoint_max"), |text| {
            number(text, IN_FLIGHT_MAX)
        })?,
        in_flight_per_host_max: required(&given("in_flight_per_host_max"), |text| {
            number(text, IN_FLIGHT_MAX)
        })?,
        retention: retention(&given("payloads_kept_days"), &given("records_kept_days"))?,
        account_key_rate: required(&given("account_key_rate"), bucket_rate)?,
        operator_key_rate: required(&given("operator_key_rate"), bucket_rate)?,
        bootstrap_operator_key: given("operator_key").one(operator_key)?,
        ..engine::settings::Settings::default()
    };
    for (contract, key) in without_standard_headers {
        if !required(&given(key), switch)? {
            settings.without_standard_headers.push(contract);
        }
    }
    settings.urls.allow_http = required(&given("allow_http"), switch)?;
    settings.urls.extra_ports = given("allow_ports").each(port)?;
    settings.urls.addresses.allowed = given("allow_targets").each(network)?;
    settings.urls.addresses.allowed_metadata = given("allow_metadata_targets").each(network)?;
    settings.urls.addresses.nat64 = required(&given("nat64"), switch)?;
    Ok(settings)
}

/// How long what has ended is kept; payloads no longer than the records, with which they go.
fn retention(payloads: &Given, records: &Given) -> Result<Retention, Ending> {
    let records_kept_for = required(records, kept_days)?;
    let delivered_payloads_kept_for = required(payloads, kept_days)?.min(records_kept_for);
    Ok(Retention { delivered_payloads_kept_for, records_kept_for })
}

/// A number of days, from [`RETENTION_MIN`] on.
fn kept_days(text: &str) -> Result<Duration, String> {
    let days = RETENTION_MIN.as_secs() / DAY.as_secs()..=KEPT_DAYS_MAX;
    let given = text.parse().ok().filter(|given| days.contains(given));
    let seconds = given.map(|given: u64| given * DAY.as_secs());
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!("is not a whole number of days from {} to {}", days.start(), days.end())
    })
}

fn collector(text: &str) -> Result<Collector, String> {
    text.parse().map_err(|error: CollectorError| error.to_string())
}

/// The one value of an option that has a default.
fn required<T>(given: &Given, read: impl Fn(&str) -> Result<T, String>) -> Result<T, Ending> {
    Ok(given.one(read)?.expect("an option with a default always has a value"))
}

fn parsed<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("is not {what}"))
}

fn address(text: &str) -> Result<SocketAddr, String> {
    parsed(text, "an IP address and a port")
}

fn network(text: &str) -> Result<IpNet, String> {
    parsed::<IpNet>(text, "a network in CIDR form").or_else(|why| {
        // One address is a network too.
        text.parse::<std::net::IpAddr>().map(IpNet::from).map_err(|_| why)
    })
}

fn port(text: &str) -> Result<u16, String> {
    parsed(text, "a port number")
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" => Ok(true),
        "0" => Ok(false),
        text => parsed(text, "true or false"),
    }
}

/// A number from 1 to `max`.
fn number(text: &str, max: usize) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| format!("is not a whole number from 1 to {max}"))
}

fn store_location(text: &str) -> Result<StoreLocation, String> {
    match text.split_once(':') {
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(StoreLocation::Sqlite(PathBuf::from(path)))
        }
        Some(("postgres" | "postgresql", _)) => {
            Err("asks for PostgreSQL, and this build has no PostgreSQL store yet; use SQLite"
                .into())
        }
        _ => Err("is not a store: write sqlite:PATH".to_owned()),
    }
}

fn egress_proxy(text: &str) -> Result<EgressProxy, String> {
    text.parse().map_err(|error: ProxyUrlError| error.to_string())
}

fn http_status(text: &str) -> Result<HttpStatus, String> {
    match text {
        "mapped" => Ok(HttpStatus::Mapped),
        "always_200" => Ok(HttpStatus::Always200),
        _ => Err("is neither mapped nor always_200".to_owned()),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "auto" => Ok(LogFormat::Auto),
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err("is not one of human, json and auto".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<String, String> {
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("is not a log filter ({error})")),
    }
}

fn operator_key(text: &str) -> Result<String, String> {
    let lengths = OPERATOR_KEY_LENGTH_MIN..=OPERATOR_KEY_LENGTH_MAX;
    let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if lengths.contains(&text.len()) && is_printable && text.trim() == text {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must have {OPERATOR_KEY_LENGTH_MIN} to {OPERATOR_KEY_LENGTH_MAX} printable ASCII \
             characters, no space at either end"
        ))
    }
}

/// `PER_SECOND/BURST`, or `none`.
fn bucket_rate(text: &str) -> Result<Option<BucketRate>, String> {
    if text == "none" {
        return Ok(None);
    }
    let read = || {
        let (per_second, burst) = text.split_once('/')?;
        let positive = |text: &str| text.parse().ok().filter(|number| *number > 0);
        Some(BucketRate { per_second: positive(per_second)?, burst: positive(burst)? })
    };
    read().map(Some).ok_or_else(|| "is neither a rate, PER_SECOND/BURST, nor none".to_owned())
}

/// `NAME=PER_MINUTE/PER_DAY`.
fn plan(text: &str) -> Result<(String, PlanLimits), String> {
    let read = || {
        let (name, limits) = text.split_once('=')?;
        let (per_minute, per_day) = limits.split_once('/')?;
        let limits =
            PlanLimits { per_minute: per_minute.parse().ok()?, per_day: per_day.parse().ok()? };
        (!name.is_empty()).then(|| (name.to_owned(), limits))
    };
    read().ok_or_else(|| "is not a plan, NAME=PER_MINUTE/PER_DAY".to_owned())
}

fn retry_schedule(texts: &[String]) -> Result<RetrySchedule, String> {
    let seconds = texts.iter().map(|text| text.parse().map(Duration::from_secs));
    let waits = seconds
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "is not a list of whole seconds".to_owned())?;
    RetrySchedule::new(waits).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
