//! Events: what was published, and what became of it at every endpoint.

use axum::extract::State;
use bytes::Bytes;
use domain::event::EventType;
use domain::id::EventId;
use engine::inspect::{EventStory, Fate};
use engine::{EventFilter, EventWithData};
use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::refusals::{OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(read))
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
    /// As it was published; null once it is no longer kept.
    #[schema(required, value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    data: Option<Data>,
    /// When it was accepted.
    #[schema(format = "date-time")]
    accepted_at: String,
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
    /// events), or `disabled`.
    #[schema(required, example = json!(null))]
    reason: Option<&'static str>,
    /// Where the delivery stands; null if there is none.
    #[schema(required, example = "delivered")]
    state: Option<&'static str>,
}

impl From<Fate> for EventFate {
    fn from(fate: Fate) -> Self {
        let endpoint = fate.endpoint.to_string();
        match fate.delivery {
            Ok(delivery) => Self {
                endpoint,
                delivery: Some(delivery.id.to_string()),
                reason: None,
                state: Some(delivery.state.name().as_str()),
            },
            Err(reason) => {
                Self { endpoint, delivery: None, reason: Some(reason.name()), state: None }
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
            undelivered: parameters
                .optional("undelivered", "must be `true` or `false`", |text| text.parse().ok())
                .unwrap_or_default(),
        };
        (account, filter)
    }
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
