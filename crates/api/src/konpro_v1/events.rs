//! List events: the catalogue, in the documents' order, and then what the platform registered.

use axum::extract::State;
use axum::response::Response;
use domain::contract::Contract;
use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Permitted;
use super::envelope::{CommonRefusals, Envelope, Failure};
use crate::ApiState;

/// The documented event types.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::Events)]
pub(super) struct Events {
    /// Their names.
    #[schema(example = json!(["avatar_video.success", "avatar_video.fail"]))]
    data: Vec<String>,
}

/// List webhook events
///
/// The documented event types. Endpoints may subscribe to any other well-formed name too.
#[utoipa::path(
    get,
    path = "/v1/webhook/webhook.list",
    operation_id = "konpro_v1_list_events",
    tag = super::TAG,
    responses((status = 200, description = "The catalogue", body = Events), CommonRefusals),
    security(("x_api_key" = []))
)]
pub(super) async fn list(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    _: Permitted,
) -> Response {
    let names = engine.event_type_names(Contract::KonproV1).await;
    envelope.answer(names.map(|data| Events { data }).map_err(Failure::from))
}
