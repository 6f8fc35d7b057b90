//! Events: what was published, and what became of it at every endpoint.

use axum::extract::State;
use bytes::Bytes;
use domain::event::EventType;
use domain::id::EventId;
use domain::time::Timestamp;
use engine::inspect::{EventStory, Fate};
use engine::{EngineError, EventFilter, EventWithData, Followed};
use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::fields;
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters, read_cursor, read_limit, write_cursor};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(follow))
        .routes(routes!(read))
        .routes(routes!(cancel))
        .routes(routes!(erase))
}

/// Something that happened in the platform.
#[derive(Serialize, ToSchema)]
#[schema(as = Event)]
pub(super) struct EventResource {
    /// Its id, and the `webhook-id` of its deliveries.
    #[schema(example = "evt_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// The id of its account.
    #[schema(example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    account: String,
    /// Its type.
    #[schema(example = "generated_avatar_video_success")]
    r#type: String,
    /// When it happened, in Unix seconds.
    #[schema(example = 1_732_806_631)]
    timestamp: i64,
    /// What it is about.
    entity_ids: Vec<String>,
    /// As it was published; null once it was erased or is no longer kept.
    #[schema(required, value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    data: Option<Data>,
    /// When it was accepted.
    #[schema(format = "date-time")]
    accepted_at: String,
    /// When its deliveries are due first; null if that is at once.
    #[schema(required, format = "date-time", example = json!(null))]
    deliver_at: Option<String>,
    /// What it stays in order with, at endpoints that keep one order for each key.
    #[schema(required, example = json!(null))]
    ordering_key: Option<String>,
}

impl From<EventWithData> for EventResource {
    fn from(EventWithData { event, data }: EventWithData) -> Self {
        let entity_ids = event.entity_ids.iter();
        Self {
            id: event.id.to_string(),
            account: event.account.to_string(),
            r#type: event.event_type.as_str().to_owned(),
            timestamp: event.timestamp.as_seconds(),
            entity_ids: entity_ids.map(|id| id.as_str().to_owned()).collect(),
            data: data.map(Data),
            accepted_at: event.accepted_at.to_rfc3339_millis(),
            deliver_at: event.deliver_at.map(Timestamp::to_rfc3339_millis),
            ordering_key: event.ordering_key.map(|key| key.as_str().to_owned()),
        }
    }
}

/// A producer's `data`, written as it was read.
struct Data(Bytes);

impl Serialize for Data {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue = serde_json::from_slice(&self.0).map_err(serde::ser::Error::custom)?;
        json.serialize(serializer)
    }
}

/// An event and what became of it at every endpoint of its account.
#[derive(Serialize, ToSchema)]
pub(super) struct EventDetail {
    #[serde(flatten)]
    event: EventResource,
    /// One entry for each delivery, replays included, and for each endpoint without one.
    deliveries: Vec<EventFate>,
}

/// What became of an event at one endpoint.
#[derive(Serialize, ToSchema)]
pub(super) struct EventFate {
    /// The endpoint's id.
    #[schema(example = "wh_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    endpoint: String,
    /// The delivery's id; null if there is none.
    #[schema(required, example = "dlv_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    delivery: Option<String>,
    /// Why there is no delivery: `not_subscribed`, `entity` (the endpoint wants another entity's
    /// events), `disabled`, `filter` (its filter let it not pass), or `filter_failed`.
    #[schema(required, example = json!(null))]
    reason: Option<&'static str>,
    /// Where the delivery stands; null if there is none.
    #[schema(required, example = "delivered")]
    state: Option<&'static str>,
    /// What the endpoint's filter said, when that is the reason; null when the endpoint was changed
    /// since, or `data` is no longer kept.
    #[schema(required, example = json!(null))]
    detail: Option<String>,
}

impl From<Fate> for EventFate {
    fn from(fate: Fate) -> Self {
        let (endpoint, detail) = (fate.endpoint.to_string(), fate.detail);
        match fate.delivery {
            Ok(delivery) => Self {
                endpoint,
                delivery: Some(delivery.id.to_string()),
                reason: None,
                state: Some(delivery.state.name().as_str()),
                detail,
            },
            Err(reason) => {
                Self { endpoint, delivery: None, reason: Some(reason.name()), state: None, detail }
            }
        }
    }
}

impl From<EventStory> for EventDetail {
    fn from(story: EventStory) -> Self {
        Self {
            event: story.event.into(),
            deliveries: story.fates.into_iter().map(EventFate::from).collect(),
        }
    }
}

/// Which events to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `read` reads")]
struct EventParameters {
    /// Only of the account with this id or username.
    account: Option<String>,
    /// Only of this type.
    r#type: Option<String>,
    /// Only accepted at this instant or later: RFC 3339 or Unix seconds.
    since: Option<String>,
    /// Only accepted before this instant: RFC 3339 or Unix seconds.
    until: Option<String>,
    /// `true`: only events with a delivery that is not delivered.
    undelivered: Option<bool>,
}

impl EventParameters {
    /// The name of the account to filter by, and the rest of the filter.
    fn read(parameters: &mut Parameters) -> (Option<String>, EventFilter) {
        let account = read_account(parameters);
        let filter = EventFilter {
            account: None,
            event_type: parameters
                .optional("type", "must be an event type", |text| EventType::parse(text).ok()),
            since: parameters.instant("since"),
            until: parameters.instant("until"),
            undelivered: read_undelivered(parameters),
        };
        (account, filter)
    }
}

/// Whether only what was not delivered is asked for.
fn read_undelivered(parameters: &mut Parameters) -> bool {
    let reason = "must be `true` or `false`";
    parameters.optional("undelivered", reason, |text| text.parse().ok()).unwrap_or_default()
}

/// The id or username of the account to filter by.
pub(super) fn read_account(parameters: &mut Parameters) -> Option<String> {
    parameters.optional("account", "must be an account's id or username", |text| {
        (!text.is_empty()).then(|| text.to_owned())
    })
}

/// List events, newest first.
///
/// A page may be short, even empty, and still name a next one: a filter that few events pass is
/// answered piece by piece.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    operation_id = "listEvents",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(EventParameters, PageParameters),
    responses(
        (status = 200, description = "One page", body = List<EventResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let ((account, mut filter), page) = Parameters::read(&uri, |parameters| {
        (EventParameters::read(parameters), PageParameters::read(parameters))
    })?;
    if let Some(account) = account {
        filter.account = Some(state.engine.account_named(caller.0, &account).await?);
    }
    let events = state.engine.list_events(caller.0, filter, page).await?;
    Ok(answer::ok(&List::from(events.map(EventResource::from))))
}

/// Read an event, and what became of it at every endpoint of its account.
#[utoipa::path(
    get,
    path = "/api/v1/events/{id}",
    operation_id = "readEvent",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The event's id")),
    responses(
        (status = 200, description = "The event", body = EventDetail),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EventId>,
) -> Answer {
    let story = state.engine.event(caller.0, id).await?;
    Ok(answer::ok(&EventDetail::from(story)))
}

/// Which events to follow.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `follow` reads")]
struct FollowParameters {
    /// Of the account with this id or username; the key's own if left out, and required with an
    /// operator key.
    account: Option<String>,
    /// `next_cursor` of the answer before; from the oldest event that is kept if left out.
    after: Option<String>,
    /// `true`: only events that not every endpoint has got: with a delivery that is not delivered,
    /// or none because the endpoint was disabled or its filter failed.
    undelivered: Option<bool>,
    /// Most events to answer.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
}

/// Events in the order of their birth.
#[derive(Serialize, ToSchema)]
pub(super) struct FollowedEvents {
    /// The events, oldest first.
    data: Vec<EventResource>,
    /// Ask with it as `after` for what comes then; there always is one.
    next_cursor: String,
}

impl FollowedEvents {
    /// What came after `after`.
    fn new(followed: Followed, after: Option<EventId>) -> Self {
        let next_after = followed.through.or(after).map_or(0, EventId::as_u128);
        Self {
            data: followed.events.into_iter().map(EventResource::from).collect(),
            next_cursor: write_cursor(next_after),
        }
    }
}

/// Follow the events of an account, oldest first.
///
/// Ask again and again, each time with `next_cursor` as `after`: every event is answered once and
/// none is skipped. `data` is empty when there is nothing new just now, and may also be when a
/// filter lets few events pass; `next_cursor` is always there. An event is answered once whatever
/// was accepted before it is on stable storage.
#[utoipa::path(
    get,
    path = "/api/v1/events/follow",
    operation_id = "followEvents",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(FollowParameters),
    responses(
        (status = 200, description = "What came after the cursor", body = FollowedEvents),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn follow(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let (account, after, undelivered, limit) = Parameters::read(&uri, |parameters| {
        let account = read_account(parameters);
        let after = parameters.optional("after", "must be a `next_cursor`", read_cursor);
        let after = after.map(EventId::from_u128);
        (account, after, read_undelivered(parameters), read_limit(parameters))
    })?;
    let account = match (account, caller.0.account()) {
        (Some(name), _) => state.engine.account_named(caller.0, &name).await?,
        (None, Some(own)) => own,
        (None, None) => {
            return Err(EngineError::invalid("account", "is required with an operator key").into());
        }
    };
    let followed = state.engine.follow_events(caller.0, account, after, undelivered, limit).await?;
    Ok(answer::ok(&FollowedEvents::new(followed, after)))
}

/// What came of cancelling an event's deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelledEvent {
    /// The event's id.
    #[schema(example = "evt_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// How many deliveries were pending and are cancelled now.
    #[schema(example = 1)]
    cancelled: u64,
}

/// Cancel what is pending of an event.
///
/// Its deliveries are not attempted any more, but for attempts that are on their way. The body may
/// be left out.
#[utoipa::path(
    post,
    path = "/api/v1/events/{id}/cancel",
    operation_id = "cancelEvent",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The event's id")),
    responses(
        (status = 200, description = "How many were cancelled", body = CancelledEvent),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EventId>,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let cancelled = state.engine.cancel_event(caller.0, id).await?;
    Ok(answer::ok(&CancelledEvent { id: id.to_string(), cancelled }))
}

/// What came of erasing an event.
#[derive(Serialize, ToSchema)]
pub(super) struct ErasedEvent {
    /// The event's id.
    #[schema(example = "evt_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// That its payload is gone.
    #[schema(example = true)]
    erased: bool,
    /// How many deliveries were pending and are cancelled now.
    #[schema(example = 0)]
    cancelled: u64,
}

/// Erase what an event carried, for good.
///
/// Its `data`, entity ids and ordering key go, and so does what was sent and answered in every
/// attempt; what is pending of it is cancelled. That it was, and what became of it, stays. The body
/// may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/events/{id}/erase",
    operation_id = "eraseEvent",
    tag = "Events",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The event's id")),
    responses(
        (status = 200, description = "It is erased", body = ErasedEvent),
        OfEvery,
        OfFinding,
        OfBody
    )
)]
async fn erase(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EventId>,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let cancelled = state.engine.erase_event(caller.0, id).await?;
    Ok(answer::ok(&ErasedEvent { id: id.to_string(), erased: true, cancelled }))
}
