//! List events: the catalogue, in the documents' order, and then what the platform registered.

use axum::extract::State;
use axum::response::Response;
use domain::contract::Contract;
use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Permitted;
use super::envelope::{Answer, CommonRefusals, Envelope};
use crate::ApiState;

/// Every event type an endpoint may subscribe to.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::Events)]
pub(super) struct Events {
    /// Their names.
    #[schema(example = json!(["generated_video_success", "generated_video_failed"]))]
    events: Vec<String>,
}

/// List webhook events
///
/// Every event type an endpoint may subscribe to.
#[utoipa::path(
    get,
    path = "/v2/events",
    operation_id = "jogg_v2_list_events",
    tag = super::TAG,
    responses((status = 200, description = "The catalogue", body = Answer<Events>), CommonRefusals),
    security(("x_api_key" = []))
)]
pub(super) async fn list(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    _: Permitted,
) -> Response {
    match engine.event_type_names(Contract::JoggV2).await {
        // The documents' sample of this answer alone has a lower-case `success`.
        Ok(events) => envelope.succeed("success", Events { events }),
        Err(error) => envelope.refuse(error.into()),
    }
}
