//! The page of metrics.
//!
//! Promise: a scrape reads the store's counts once, so that the balance on the page is that of one
//! instant, and reads everything else from memory; its cost does not grow with what is stored.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use domain::time::Timestamp;
use engine::clock::{Clock as _, SystemClock};
use engine::scope::Scope;
use engine::{Counts, Engine};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

use super::exposition::Exposition;
use super::{names, process, spans};
use crate::ending::Ending;
use crate::listen::ConnectionGauge;

/// Upper bounds of the buckets of every duration, in seconds: from a commit on an idle disk to the
/// longest attempt.
const SECONDS_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The same for what may wait for retries: up to three days.
const RETRIED_BUCKETS: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 300.0, 1_800.0,
    7_200.0, 43_200.0, 259_200.0,
];

/// What the names of those begin with.
const RETRIED: &str = "postrider_event_to_";

/// How often durations are sorted into their buckets, so that those waiting stay a bounded piece
/// of memory when nobody reads the metrics.
const SORTED_EVERY: Duration = Duration::from_secs(5);

/// Version 0.0.4 of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes down what the store counts.
pub type ReportStore = Arc<dyn Fn(&mut Exposition) + Send + Sync>;

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    started_at: Timestamp,
}

impl Metrics {
    /// Begins to measure. Must come before an engine starts.
    ///
    /// Errors when something else measures already.
    pub fn start() -> Result<Self, Ending> {
        let failed = |error: String| Ending::failed(format!("cannot measure: {error}"));
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .and_then(|builder| {
                builder
                    .set_buckets_for_metric(Matcher::Prefix(RETRIED.to_owned()), &RETRIED_BUCKETS)
            })
            .map_err(|error| failed(error.to_string()))?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|error| failed(error.to_string()))?;
        names::describe();
        spans::Fates::new();
        gauge!("postrider_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(Self { handle, started_at: SystemClock.now() })
    }

    /// Keeps the memory of what is measured bounded, until the task is aborted.
    pub fn keep_sorted(&self) -> JoinHandle<()> {
        let handle = self.handle.clone();
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
        let page = Page { metrics: self.clone(), engine, report_store, connections };
        Router::new()
            .route("/metrics", get(async |page: State<Page>| page.render().await))
            .with_state(page)
    }
}

/// What the page of metrics is made of.
#[derive(Clone)]
struct Page {
    metrics: Metrics,
    engine: Engine,
    report_store: ReportStore,
    connections: ConnectionGauge,
}

impl Page {
    async fn render(&self) -> Response {
        let load = self.engine.load();
        let oldest_due = load.oldest_due_at.map(|due_at| self.engine.clock().now().since(due_at));
        gauge!("postrider_oldest_due_seconds").set(oldest_due.unwrap_or_default().as_secs_f64());
        gauge!("postrider_breakers", "state" => "open").set(load.breakers_open as f64);
        gauge!("postrider_breakers", "state" => "half_open").set(load.breakers_half_open as f64);
        gauge!("postrider_lanes_paused").set(load.lanes_paused as f64);
        gauge!("postrider_attempts_in_flight").set(load.in_flight as f64);
        gauge!("postrider_deliveries_in_memory").set(load.in_memory as f64);
        gauge!("postrider_lanes").set(load.lanes as f64);
        gauge!("postrider_endpoints_failing").set(self.engine.failing_endpoints() as f64);
        gauge!("postrider_connections").set(self.connections.read() as f64);
        match self.engine.counts(Scope::OPERATOR).await {
            Ok(counts) => report_counts(counts),
            Err(error) => {
                return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response();
            }
        }
        let mut kept_elsewhere = Exposition::default();
        (self.report_store)(&mut kept_elsewhere);
        process::write(&mut kept_elsewhere, self.metrics.started_at);
        let text = self.metrics.handle.render() + &kept_elsewhere.into_text();
        ([(CONTENT_TYPE, PROMETHEUS_TEXT)], text).into_response()
    }
}

fn report_counts(counts: Counts) {
    let ended = counts.delivered + counts.exhausted + counts.cancelled;
    let balance = i128::from(counts.created) - i128::from(ended + counts.pending);
    gauge!("postrider_balance").set(balance as f64);
    counter!("postrider_events_total").absolute(counts.events);
    counter!("postrider_store_deliveries_total").absolute(counts.created);
    for (state, count) in [
        ("pending", counts.pending),
        ("delivered", counts.delivered),
        ("exhausted", counts.exhausted),
        ("cancelled", counts.cancelled),
    ] {
        gauge!("postrider_deliveries", "state" => state).set(count as f64);
    }
}
