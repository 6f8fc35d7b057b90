//! Spans of recorded traces, sent to a collector: OTLP over plain HTTP, as protobuf.
//!
//! Promise: whoever ends a span never waits; what waits to be sent is a bounded piece of memory,
//! and what does not fit, or what the collector does not take, is dropped and counted. A span holds
//! ids, names and numbers (`engine::trace`). Encoding and repetition are the business of
//! `opentelemetry-otlp`; connections, batches and bounds are ours, since deliveries are.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::Outcome;
use engine::trace::{Span, Spans, Work};
use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use metrics::{Counter, counter};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::ending::Ending;

/// Spans that wait to be sent; some 500 KiB, and what OpenTelemetry's own batches have.
const WAITING_MAX: usize = 2_048;

/// Spans in one request.
const BATCH_MAX: usize = 512;

/// How long the first span of a request waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// How long the collector may take for one request, repetitions included. What ends meanwhile
/// waits, as far as there is room.
const EXPORTED_WITHIN: Duration = Duration::from_secs(5);

/// How long spans that wait may take to be sent when the process ends.
const FLUSHED_WITHIN: Duration = Duration::from_secs(1);

/// The largest answer that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The port where there is none in the URL (OTLP, "OTLP/HTTP Default Port").
const DEFAULT_PORT: u16 = 4318;

/// Where in a collector spans belong (OTLP, "OTLP/HTTP Request").
const TRACES_PATH: &str = "/v1/traces";

/// Who gets the spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    traces: Uri,
}

/// A text that is no collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectorError;

impl fmt::Display for CollectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "is not http://, a host, a port and perhaps a path, and nothing else; for TLS and \
             passwords, put a collector beside this process",
        )
    }
}

impl FromStr for Collector {
    type Err = CollectorError;

    fn from_str(text: &str) -> Result<Self, CollectorError> {
        let uri: Uri = text.parse().map_err(|_| CollectorError)?;
        let authority = uri.authority().map(Authority::as_str).ok_or(CollectorError)?;
        let is_bare = uri.query().is_none() && !text.contains('#') && !authority.contains('@');
        if uri.scheme() != Some(&Scheme::HTTP) || !is_bare {
            return Err(CollectorError);
        }
        let path = uri.path().trim_end_matches('/');
        let traces = format!("http://{authority}{path}{TRACES_PATH}");
        Ok(Self { traces: traces.parse().map_err(|_| CollectorError)? })
    }
}

/// What became of spans, counted.
pub(super) struct Fates {
    exported: Counter,
    dropped: Counter,
}

impl Fates {
    /// The counters; there from then on.
    pub(super) fn new() -> Self {
        let fate = |fate: &'static str| counter!("postrider_spans_total", "fate" => fate);
        Self { exported: fate("exported"), dropped: fate("dropped") }
    }
}

/// Sends spans to a collector.
pub struct Exporter {
    waiting: mpsc::Sender<Span>,
    stopping: Arc<Notify>,
    fates: Arc<Fates>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Begins to send to a collector, which may be away for now.
    ///
    /// Errors when the environment's `OTEL_EXPORTER_OTLP_…` variables are wrong.
    pub fn start(collector: &Collector) -> Result<Self, Ending> {
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client)
            .with_endpoint(collector.traces.to_string())
            .with_timeout(EXPORTED_WITHIN)
            .build()
            .map_err(|error| {
                let line = format!("otlp_endpoint: cannot send spans there: {error}");
                Ending::misconfigured(line)
            })?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("postrider").with_attribute(version);
        exporter.set_resource(&resource.build());
        let (waiting, queue) = mpsc::channel(WAITING_MAX);
        let stopping = Arc::new(Notify::new());
        let fates = Arc::new(Fates::new());
        let sending = Sending {
            queue,
            stopping: Arc::clone(&stopping),
            fates: Arc::clone(&fates),
            exporter,
            is_away: false,
        };
        let task = Mutex::new(Some(tokio::spawn(sending.run())));
        Ok(Self { waiting, stopping, fates, task })
    }

    /// Sends what waits, as far as it can be done in a moment.
    pub async fn finish(&self) {
        self.stopping.notify_one();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let abort = task.abort_handle();
            if tokio::time::timeout(FLUSHED_WITHIN, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

impl Spans for Exporter {
    fn ended(&self, span: Span) {
        if self.waiting.try_send(span).is_err() {
            self.fates.dropped.increment(1);
        }
    }
}

/// The task that sends.
struct Sending {
    queue: mpsc::Receiver<Span>,
    stopping: Arc<Notify>,
    fates: Arc<Fates>,
    exporter: SpanExporter,
    /// The collector did not take the last spans.
    is_away: bool,
}

impl Sending {
    async fn run(mut self) {
        loop {
            let batch = self.gather().await;
            if batch.is_empty() {
                return;
            }
            self.export(batch).await;
        }
    }

    /// Spans for one request; none at the end.
    async fn gather(&mut self) -> Vec<Span> {
        let mut batch = Vec::new();
        let mut full_at = None;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            let lingered = tokio::time::sleep_until(full_at.unwrap_or_else(Instant::now));
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, room) => {
                    if taken == 0 {
                        break;
                    }
                    full_at.get_or_insert_with(|| Instant::now() + LINGER);
                }
                () = lingered, if full_at.is_some() => break,
                () = self.stopping.notified() => self.queue.close(),
            }
        }
        batch
    }

    async fn export(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let spans = batch.into_iter().map(span_data).collect();
        match self.exporter.export(spans).await {
            Ok(()) => {
                self.fates.exported.increment(count);
                if self.is_away {
                    tracing::info!("the collector takes spans again");
                }
                self.is_away = false;
            }
            Err(error) => {
                self.fates.dropped.increment(count);
                if !self.is_away {
                    tracing::warn!(%error, "the collector takes no spans; deliveries go on without");
                }
                self.is_away = true;
            }
        }
    }
}

/// A span as OpenTelemetry has it.
fn span_data(span: Span) -> SpanData {
    let Span { parent, id, started_at, duration, work } = span;
    let millis = u64::try_from(started_at.as_millis()).unwrap_or(0);
    let start_time: SystemTime = UNIX_EPOCH + Duration::from_millis(millis);
    let (name, span_kind) = match &work {
        Work::Publish { .. } => ("publish", SpanKind::Server),
        Work::Attempt { .. } => ("attempt", SpanKind::Client),
    };
    let status = match &work {
        Work::Attempt { outcome, .. } if !outcome.is_success() => Status::error(outcome.name()),
        Work::Publish { .. } | Work::Attempt { .. } => Status::Unset,
    };
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(parent.trace_id),
            SpanId::from(id),
            TraceFlags::new(parent.flags),
            false,
            TraceState::NONE,
        ),
        parent_span_id: SpanId::from(parent.parent_id),
        parent_span_is_remote: matches!(work, Work::Publish { .. }),
        span_kind,
        name: name.into(),
        start_time,
        end_time: start_time + duration,
        attributes: attributes(&work),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("postrider").build(),
    }
}

fn attributes(work: &Work) -> Vec<KeyValue> {
    match work {
        Work::Publish { event, event_type, deliveries } => vec![
            KeyValue::new("postrider.event.id", event.to_string()),
            KeyValue::new("postrider.event.type", event_type.to_string()),
            KeyValue::new("postrider.event.deliveries", i64::from(*deliveries)),
        ],
        Work::Attempt { event, event_type, delivery, endpoint, number, outcome } => {
            let mut all = vec![
                KeyValue::new("postrider.event.id", event.to_string()),
                KeyValue::new("postrider.event.type", event_type.to_string()),
                KeyValue::new("postrider.delivery.id", delivery.to_string()),
                KeyValue::new("postrider.endpoint.id", endpoint.to_string()),
                KeyValue::new("postrider.attempt.number", i64::from(*number)),
                KeyValue::new("postrider.attempt.outcome", outcome.name()),
            ];
            if let Outcome::Answered { status, .. } = outcome {
                all.push(KeyValue::new("http.response.status_code", i64::from(*status)));
            }
            all
        }
    }
}

/// Sends requests to the collector, each on a connection of its own: there is one a second at most
/// while little happens.
#[derive(Debug)]
struct Client;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        tokio::time::timeout(EXPORTED_WITHIN, exchange(request)).await?
    }
}

async fn exchange(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let authority = head.uri.authority().cloned().ok_or("no host in the URL")?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(DEFAULT_PORT))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the sender is dropped.
    tokio::spawn(connection);
    head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    head.uri = head.uri.path().parse()?;
    let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use domain::event::EventType;
    use domain::id::EventId;
    use domain::time::Timestamp;
    use domain::trace::TraceContext;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// A span of a recorded trace.
    fn a_span() -> Span {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let event_type = EventType::parse("video.ready").unwrap();
        Span {
            parent: TraceContext::parse(parent).unwrap(),
            id: 7,
            started_at: Timestamp::from_seconds(1_700_000_000),
            duration: Duration::from_millis(3),
            work: Work::Publish { event: EventId::from_u128(5), event_type, deliveries: 1 },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn spans_that_find_no_room_are_dropped_and_counted_and_nobody_waits() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = recorder.handle();
        let collector: Collector = "http://192.0.2.1:4318".parse().unwrap();
        let exporter =
            metrics::with_local_recorder(&recorder, || Exporter::start(&collector)).unwrap();
        // The task that sends has had no turn yet.
        for _ in 0..WAITING_MAX + 3 {
            exporter.ended(a_span());
        }
        let text = page.render();
        assert!(text.contains("postrider_spans_total{fate=\"dropped\"} 3\n"), "{text}");
        assert!(text.contains("postrider_spans_total{fate=\"exported\"} 0\n"), "{text}");
    }

    #[test]
    fn spans_go_where_otlp_says_under_the_path_that_is_given() {
        for (text, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector/", "http://collector/v1/traces"),
            ("http://[::1]:4318/otlp/", "http://[::1]:4318/otlp/v1/traces"),
        ] {
            assert_eq!(text.parse::<Collector>().unwrap().traces, traces, "{text}");
        }
        for text in ["", "collector:4318", "https://collector:4318", "http://a:b@collector:4318"] {
            assert_eq!(text.parse::<Collector>(), Err(CollectorError), "{text}");
        }
    }
}
