//! Deliveries: where each one stands, and delivering again.

use axum::extract::State;
use domain::delivery::{Delivery, EndReason, StateName};
use domain::id::{DeliveryId, EndpointId, EventId};
use domain::time::Timestamp;
use engine::DeliveryFilter;
use http::Uri;
use serde::Serialize;
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
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(replay))
        .routes(routes!(cancel))
}

/// One event owed to one endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(super) struct DeliveryResource {
    /// Its id.
    #[schema(example = "dlv_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// The event's id.
    #[schema(example = "evt_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    event: String,
    /// The event's type.
    #[schema(example = "generated_avatar_video_success")]
    r#type: String,
    /// The endpoint's id.
    #[schema(example = "wh_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    endpoint: String,
    /// Where it stands: `pending`, `delivered`, `exhausted` or `cancelled`.
    #[schema(example = "pending")]
    state: &'static str,
    /// How many attempts were made.
    #[schema(example = 2)]
    attempts: u32,
    /// When the next attempt is due; null when there is none.
    #[schema(required, format = "date-time")]
    due_at: Option<String>,
    /// Why it ended without success: `attempts_used_up`, `too_old`, `set_aside` (its attempts ended
    /// without an outcome), `endpoint_deleted`, `receiver_refused` (its answer asked for it),
    /// `requested` (somebody cancelled it), `expired` or `erased` (its payload is gone).
    #[schema(required, example = json!(null))]
    reason: Option<&'static str>,
    /// When it was created.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it ended; null while it has not.
    #[schema(required, format = "date-time")]
    ended_at: Option<String>,
    /// The id of the account.
    #[schema(example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    account: String,
    /// The id of the delivery it waits behind, to stay in order; null when there is none.
    #[schema(required, example = json!(null))]
    waits_for: Option<String>,
}

impl From<Delivery> for DeliveryResource {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.to_string(),
            event: delivery.event.to_string(),
            r#type: delivery.event_type.as_str().to_owned(),
            endpoint: delivery.endpoint.to_string(),
            state: delivery.state.name().as_str(),
            attempts: delivery.attempts,
            due_at: delivery.due_at.map(Timestamp::to_rfc3339_millis),
            reason: delivery.state.reason().map(EndReason::name),
            created_at: delivery.created_at.to_rfc3339_millis(),
            ended_at: delivery.ended_at.map(Timestamp::to_rfc3339_millis),
            account: delivery.account.to_string(),
            waits_for: delivery.waits_for.map(|id| id.to_string()),
        }
    }
}

/// Which deliveries to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `read` reads")]
struct DeliveryParameters {
    /// Only to the endpoint with this id.
    endpoint: Option<String>,
    /// Only of the event with this id.
    event: Option<String>,
    /// Only in this state: `pending`, `delivered`, `exhausted` or `cancelled`.
    state: Option<String>,
    /// Only created at this instant or later: RFC 3339 or Unix seconds.
    since: Option<String>,
    /// Only created before this instant: RFC 3339 or Unix seconds.
    until: Option<String>,
}

impl DeliveryParameters {
    fn read(parameters: &mut Parameters) -> DeliveryFilter {
        DeliveryFilter {
            account: None,
            endpoint: parameters.optional(
                "endpoint",
                "must be an endpoint's id, `wh_…` or `webhook_…`",
                |text| EndpointId::parse(text).ok(),
            ),
            event: parameters.optional("event", "must be an event's id, `evt_…`", |text| {
                EventId::parse(text).ok()
            }),
            state: parameters.optional(
                "state",
                "must be `pending`, `delivered`, `exhausted` or `cancelled`",
                StateName::parse,
            ),
            since: parameters.instant("since"),
            until: parameters.instant("until"),
        }
    }
}

/// List deliveries, newest first.
///
/// A page may be short, even empty, and still name a next one: a filter that few deliveries pass
/// is answered piece by piece.
#[utoipa::path(
    get,
    path = "/api/v1/deliveries",
    operation_id = "listDeliveries",
    tag = "Deliveries",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(DeliveryParameters, PageParameters),
    responses(
        (status = 200, description = "One page", body = List<DeliveryResource>),
        OfEvery,
        OfParameters
    )
)]
async fn list(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let (filter, page) = Parameters::read(&uri, |parameters| {
        (DeliveryParameters::read(parameters), PageParameters::read(parameters))
    })?;
    let deliveries = state.engine.list_deliveries(caller.0, filter, page).await?;
    Ok(answer::ok(&List::from(deliveries.map(DeliveryResource::from))))
}

/// Read a delivery.
#[utoipa::path(
    get,
    path = "/api/v1/deliveries/{id}",
    operation_id = "readDelivery",
    tag = "Deliveries",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The delivery's id")),
    responses(
        (status = 200, description = "The delivery", body = DeliveryResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<DeliveryId>,
) -> Answer {
    let delivery = state.engine.delivery(caller.0, id).await?;
    Ok(answer::ok(&DeliveryResource::from(delivery)))
}

/// Deliver the event again, to the same endpoint, now.
///
/// A new delivery beside this one, whose history stays. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/deliveries/{id}/replay",
    operation_id = "replayDelivery",
    tag = "Deliveries",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The delivery's id")),
    responses(
        (status = 202, description = "The new delivery", body = DeliveryResource),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn replay(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<DeliveryId>,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let delivery = state.engine.replay_delivery(caller.0, id).await?;
    Ok(answer::accepted(&DeliveryResource::from(delivery)))
}

/// Cancel a delivery that is pending.
///
/// It is not attempted any more, but for an attempt that is on its way. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/deliveries/{id}/cancel",
    operation_id = "cancelDelivery",
    tag = "Deliveries",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The delivery's id")),
    responses(
        (status = 200, description = "The delivery as it is now", body = DeliveryResource),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<DeliveryId>,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let delivery = state.engine.cancel_delivery(caller.0, id).await?;
    Ok(answer::ok(&DeliveryResource::from(delivery)))
}
