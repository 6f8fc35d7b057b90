//! List events: the catalogue.

use axum::response::Response;
use domain::catalogue;
use domain::contract::Contract;
use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Permitted;
use super::envelope::{CommonRefusals, Envelope};

/// The documented event types.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::Events)]
pub(super) struct Events {
    /// Their names.
    #[schema(value_type = Vec<String>, example = json!(["avatar_video.success", "avatar_video.fail"]))]
    data: Vec<&'static str>,
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
pub(super) async fn list(envelope: Envelope, _: Permitted) -> Response {
    let names = catalogue::event_types(Contract::KonproV1).iter().map(|entry| entry.name);
    envelope.answer(Ok(Events { data: names.collect() }))
}
