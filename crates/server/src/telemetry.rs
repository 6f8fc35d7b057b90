//! What operators see: logs on standard error, metrics at `/metrics`.
//!
//! Promise: neither holds a secret or a payload; labels are few and bounded; reading the metrics
//! costs the hot path nothing. Names are given where things are measured; what they mean is said
//! here.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use engine::scope::Scope;
use engine::{Counts, Engine};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};
use crate::ending::Ending;
use crate::listen::ConnectionGauge;
use crate::wire::ReportStore;

use one_line::OneLine;

mod one_line;

/// Upper bounds of the buckets of every duration, in seconds: from a commit on an idle disk to the
/// longest attempt.
const SECONDS_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// How often durations are sorted into their buckets, so that those waiting stay a bounded piece
/// of memory when nobody reads the metrics.
const SORTED_EVERY: Duration = Duration::from_secs(5);

/// Version 0.0.4 of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Begins to log to standard error.
///
/// Errors when the filter is none, or something else logs already.
pub fn start_logging(config: &LogConfig) -> Result<(), Ending> {
    let filter = EnvFilter::try_new(&config.filter)
        .map_err(|error| Ending::misconfigured(format!("the log filter is wrong: {error}")))?;
    let is_terminal = io::stderr().is_terminal();
    let is_human = match config.format {
        LogFormat::Human => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    let is_coloured = is_human && is_terminal;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || OneLine::new(io::stderr(), is_coloured));
    let started = if is_human {
        lines.with_ansi(is_coloured).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|error| Ending::failed(format!("cannot start logging: {error}")))
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to measure. Must come before an engine starts.
    ///
    /// Errors when something else measures already.
    pub fn start() -> Result<Self, Ending> {
        let failed = |error: String| Ending::failed(format!("cannot measure: {error}"));
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .map_err(|error| failed(error.to_string()))?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
        describe();
        Ok(Self(handle))
    }

    /// Keeps the memory of what is measured bounded, until the task is aborted.
    pub fn keep_sorted(&self) -> JoinHandle<()> {
        let handle = self.0.clone();
        tokio::spawn(async move {
            let mut every = tokio::time::interval(SORTED_EVERY);
            loop {
                every.tick().await;
                handle.run_upkeep();
            }
        })
    }

    /// `GET /metrics`.
    pub fn route(
        &self,
        engine: Engine,
        report_store: ReportStore,
        connections: ConnectionGauge,
    ) -> Router {
        let page = Page { handle: self.0.clone(), engine, report_store, connections };
        Router::new()
            .route("/metrics", get(async |page: State<Page>| page.render().await))
            .with_state(page)
    }
}

/// What the page of metrics is made of.
#[derive(Clone)]
struct Page {
    handle: PrometheusHandle,
    engine: Engine,
    report_store: ReportStore,
    connections: ConnectionGauge,
}

impl Page {
    async fn render(&self) -> Response {
        let load = self.engine.load();
        gauge!("postrider_attempts_in_flight").set(load.in_flight as f64);
        gauge!("postrider_deliveries_in_memory").set(load.in_memory as f64);
        gauge!("postrider_lanes").set(load.lanes as f64);
        gauge!("postrider_connections").set(self.connections.read() as f64);
        (self.report_store)();
        match self.engine.counts(Scope::OPERATOR).await {
            Ok(counts) => report_counts(counts),
            Err(error) => {
                return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
            }
        }
        ([(CONTENT_TYPE, PROMETHEUS_TEXT)], self.handle.render()).into_response()
    }
}

fn report_counts(counts: Counts) {
    let ended = counts.delivered + counts.exhausted + counts.cancelled;
    let balance = i128::from(counts.created) - i128::from(ended + counts.pending);
    gauge!("postrider_balance").set(balance as f64);
    counter!("postrider_events_total").absolute(counts.events);
    for (state, count) in [
        ("pending", counts.pending),
        ("delivered", counts.delivered),
        ("exhausted", counts.exhausted),
        ("cancelled", counts.cancelled),
    ] {
        gauge!("postrider_deliveries", "state" => state).set(count as f64);
    }
}

fn describe() {
    describe_counter!("postrider_events_accepted_total", "Events accepted by this process");
    describe_counter!("postrider_deliveries_created_total", "Deliveries made by this process");
    describe_counter!("postrider_attempts_total", "Attempts made by this process, by outcome");
    describe_counter!("postrider_leases_lost_total", "Attempts recorded too late to count");
    describe_counter!(
        "postrider_key_refusals_total",
        "Keys refused, in the audit log or beyond it"
    );
    describe_histogram!("postrider_attempt_seconds", "How long attempts took");
    describe_histogram!(
        "postrider_event_to_first_attempt_seconds",
        "From an event's acceptance to its first attempt"
    );
    describe_gauge!("postrider_attempts_in_flight", "Attempts on their way now");
    describe_gauge!("postrider_deliveries_in_memory", "Deliveries in memory now");
    describe_gauge!("postrider_lanes", "Endpoints with something to do now");
    describe_gauge!("postrider_connections", "Connections of callers, open now");
    describe_counter!("postrider_events_total", "Events accepted since the store was made");
    describe_gauge!("postrider_deliveries", "Deliveries since the store was made, by state");
    describe_gauge!(
        "postrider_balance",
        "Deliveries made, less those in any state: anything but 0 is a fault"
    );
    describe_counter!("postrider_store_commits_total", "Transactions, each with one sync");
    describe_counter!("postrider_store_writes_total", "Writes that those transactions carried");
    describe_counter!("postrider_store_checkpoints_total", "Checkpoints of the write-ahead log");
    describe_gauge!("postrider_store_commit_seconds_sum", "How long all commits took together");
    describe_gauge!("postrider_store_last_commit_seconds", "How long the last commit took");
    describe_gauge!("postrider_store_wal_bytes", "Size of the write-ahead log");
}
