//! Publishing: one event, or many at once.
//!
//! Promise: the body is parsed once and `data` never copied: what is delivered is a slice of the
//! bytes that arrived. The answer is given when the event and its deliveries are on stable storage.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;

use axum::extract::{FromRequestParts, Request, State};
use axum::handler::Handler as _;
use axum::response::Response;
use bytes::Bytes;
use domain::event::IdempotencyKey;
use domain::limits::{BATCH_BODY_BYTES_MAX, BATCH_EVENTS_MAX, PUBLISH_BODY_BYTES_MAX};
use domain::trace::TraceContext;
use engine::error::EngineError;
use engine::publish::{Publish, Published};
use http::request::Parts;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::fields::{self, Fields};
use super::instant::{self, Instant, WrittenInstant};
use super::json_body::JsonBody;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding};
use crate::ApiState;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;

/// The header that makes a repeated publish harmless.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header that says which trace an event is of (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The path to which single events are posted.
pub(crate) const PATH: &str = "/api/v1/events";

/// Answers a `POST` to [`PATH`], as its route does.
pub(crate) async fn answer(state: ApiState, request: Request) -> Response {
    publish.call(request, state).await
}

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(publish)).routes(routes!(publish_batch))
}

/// An event to publish.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct EventPublication {
    /// The account's id or username.
    #[schema(example = "johndoe")]
    account: String,
    /// The event's type, of the catalogue of the account's contract.
    #[schema(example = "generated_avatar_video_success")]
    r#type: String,
    /// At most 256 KiB; delivered byte for byte as it is sent.
    #[schema(example = json!({"video_id": "video_123456", "status": "completed"}))]
    data: serde_json::Map<String, serde_json::Value>,
    /// When it happened, in Unix seconds; now if left out.
    #[schema(example = 1_732_806_631)]
    timestamp: Option<i64>,
    /// What it is about, for endpoints that want one entity's events.
    #[schema(example = json!(["video_123456"]))]
    entity_ids: Option<Vec<String>>,
    /// When its deliveries are due first, at most 14 days ahead; at once if left out or past.
    #[schema(value_type = Option<WrittenInstant>, example = "2026-01-15T10:30:00Z")]
    deliver_at: Option<Instant>,
    /// Events with the same key stay in the order in which they were accepted, at endpoints that
    /// keep one order for each key; the first of `entity_ids` if left out.
    #[schema(min_length = 1, max_length = 255, example = "project_42")]
    ordering_key: Option<String>,
    /// The trace it is of, as W3C Trace Context writes it; the `traceparent` header of the request
    /// if left out. One that is malformed is ignored.
    #[schema(example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    traceparent: Option<String>,
}

impl EventPublication {
    /// Reads the fields; `body` is what they are part of, and `trace` the request's.
    fn read(fields: &mut Fields<'_>, body: &Bytes, trace: Option<TraceContext>) -> Publish {
        let publish = Publish {
            account: fields.required("account", "the account's id or username, a string"),
            event_type: fields.required("type", "a string"),
            data: fields
                .raw("data")
                .map(|data| body.slice_ref(data.get().as_bytes()))
                .unwrap_or_default(),
            timestamp: fields.optional("timestamp", "a whole number of Unix seconds"),
            entity_ids: fields.optional("entity_ids", "a list of strings").unwrap_or_default(),
            deliver_at: fields
                .optional("deliver_at", instant::EXPECTED)
                .map(|Instant(deliver_at)| deliver_at),
            ordering_key: fields.optional("ordering_key", "a string"),
            trace: fields
                .optional("traceparent", "a string")
                .and_then(|text: Cow<'_, str>| TraceContext::parse(&text))
                .or(trace),
        };
        if publish.timestamp.is_some_and(|at| !(0..=instant::SECONDS_MAX).contains(&at)) {
            fields.refuse(
                "timestamp",
                format!("must be Unix seconds from 0 to {}", instant::SECONDS_MAX),
            );
        }
        publish
    }
}

/// An event that is on stable storage.
#[derive(Serialize, ToSchema)]
pub(super) struct Receipt {
    /// Its id, and the `webhook-id` of its deliveries.
    #[schema(example = "evt_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// How many deliveries it owes.
    #[schema(example = 1)]
    deliveries: u32,
}

impl From<Published> for Receipt {
    fn from(published: Published) -> Self {
        Self { id: published.id.to_string(), deliveries: published.deliveries }
    }
}

/// Publish an event.
///
/// Answered once the event and its deliveries are on stable storage. With `Idempotency-Key`, the
/// same key and body get the first answer again for 72 hours; the same key with another body is a
/// conflict.
#[utoipa::path(
    post,
    path = "/api/v1/events",
    operation_id = "publishEvent",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(
        (
            "Idempotency-Key" = Option<String>,
            Header,
            description = "1 to 255 printable characters, remembered 72 hours for each account",
            min_length = 1,
            max_length = 255
        ),
        (
            "traceparent" = Option<String>,
            Header,
            description = "The trace the event is of (W3C Trace Context)"
        )
    ),
    request_body = EventPublication,
    responses(
        (status = 202, description = "The event is stored and on its way", body = Receipt),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn publish(
    State(state): State<ApiState>,
    caller: Authenticated,
    Idempotency(key): Idempotency,
    Trace(trace): Trace,
    JsonBody(body): JsonBody<PUBLISH_BODY_BYTES_MAX>,
) -> Answer {
    let publish = fields::read_body(&body, |fields| EventPublication::read(fields, &body, trace))?;
    let idempotency = key.map(|key| (key, Sha256::digest(&body).into()));
    let published = state.engine.publish(caller.0, publish, idempotency).await?;
    Ok(answer::accepted(&Receipt::from(published)))
}

/// The key in `Idempotency-Key`, if there is one.
struct Idempotency(Option<IdempotencyKey>);

impl FromRequestParts<ApiState> for Idempotency {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(Self(None));
        };
        value
            .to_str()
            .ok()
            .filter(|_| values.next().is_none())
            .and_then(|text| IdempotencyKey::parse(text).ok())
            .map(|key| Self(Some(key)))
            .ok_or_else(|| {
                let reason = "must be given once, with 1 to 255 printable ASCII characters";
                EngineError::invalid("Idempotency-Key", reason).into()
            })
    }
}

/// The trace that `traceparent` says the request is of. What is malformed, or said twice, is
/// ignored, as the standard asks.
struct Trace(Option<TraceContext>);

impl FromRequestParts<ApiState> for Trace {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, Infallible> {
        let mut values = parts.headers.get_all(TRACEPARENT).iter();
        let value = values.next().filter(|_| values.next().is_none());
        let text = value.and_then(|value| value.to_str().ok());
        Ok(Self(text.and_then(TraceContext::parse)))
    }
}

/// Events to publish.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `publish_batch` reads")]
pub(super) struct EventBatch {
    /// At most 1,000.
    #[schema(max_items = 1000)]
    events: Vec<EventPublication>,
}

/// What came of each event, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchResults {
    results: Vec<BatchResult>,
}

/// What came of one event.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum BatchResult {
    Accepted(Receipt),
    Refused {
        /// Why it was refused.
        error: ProblemDocument,
    },
}

/// Publish many events.
///
/// One refused does not fail the others: `results` answers each in its place. Answered once all
/// that were accepted are on stable storage.
#[utoipa::path(
    post,
    path = "/api/v1/events/batch",
    operation_id = "publishEvents",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params((
        "traceparent" = Option<String>,
        Header,
        description = "The trace of the events that name none (W3C Trace Context)"
    )),
    request_body = EventBatch,
    responses(
        (status = 202, description = "What came of each event", body = BatchResults),
        OfEvery,
        OfBody
    )
)]
async fn publish_batch(
    State(state): State<ApiState>,
    caller: Authenticated,
    Idempotency(key): Idempotency,
    Trace(trace): Trace,
    request_id: RequestId,
    JsonBody(body): JsonBody<BATCH_BODY_BYTES_MAX>,
) -> Result<Response, Problem> {
    if key.is_some() {
        // Taken and not heeded, it would let a repetition publish twice.
        let reason = "is for single events; repeat only the events of a batch that were refused";
        return Err(EngineError::invalid("Idempotency-Key", reason).into());
    }
    let RawEvents(events) = fields::read_body(&body, |fields| {
        let events: RawEvents<'_> = fields.required("events", "a list of events");
        if events.0.len() > BATCH_EVENTS_MAX {
            fields.refuse("events", format!("must have at most {BATCH_EVENTS_MAX} events"));
        }
        events
    })?;
    let batch = events.into_iter().map(|event| {
        fields::read_object(event, |fields| EventPublication::read(fields, &body, trace))
    });
    let results = state.engine.publish_batch(caller.0, batch.collect()).await;
    let results = results.into_iter().map(|result| match result {
        Ok(published) => BatchResult::Accepted(published.into()),
        Err(error) => {
            BatchResult::Refused { error: Problem::from(error).into_document(request_id) }
        }
    });
    Ok(answer::accepted(&BatchResults { results: results.collect() }))
}

/// The events of a batch as they were written; at most one more than a batch may have.
#[derive(Default)]
struct RawEvents<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawEvents<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawEventsVisitor;

        impl<'de> Visitor<'de> for RawEventsVisitor {
            type Value = RawEvents<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawEvents<'de>, A::Error> {
                let mut events = Vec::new();
                while let Some(event) = seq.next_element()? {
                    if events.len() <= BATCH_EVENTS_MAX {
                        events.push(event);
                    }
                }
                Ok(RawEvents(events))
            }
        }

        deserializer.deserialize_seq(RawEventsVisitor)
    }
}
