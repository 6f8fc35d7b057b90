//! List events: the catalogue.

use axum::response::Response;
use domain::catalogue;
use domain::contract::Contract;
use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Permitted;
use super::envelope::{Answer, CommonRefusals, Envelope};

/// The names of the catalogue, in the documents' order.
pub(super) fn names() -> Vec<&'static str> {
    catalogue::event_types(Contract::JoggV2).iter().map(|entry| entry.name).collect()
}

/// Every event type an endpoint may subscribe to.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::Events)]
pub(super) struct Events {
    /// Their names.
    #[schema(value_type = Vec<String>, example = json!(["generated_video_success", "generated_video_failed"]))]
    events: Vec<&'static str>,
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
pub(super) async fn list(envelope: Envelope, _: Permitted) -> Response {
    // The documents' sample of this answer alone has a lower-case `success`.
    envelope.succeed("success", Events { events: names() })
}
