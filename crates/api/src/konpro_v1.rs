//! KonPro API v1, webhook part: list, add, update and delete endpoints, list events.
//!
//! Source: the published KonPro v1 documents ("List / Add / Update / Delete Webhook Endpoint",
//! "Webhook Events", "Error Responses", "Authentication"). Promise: a success is the bare object of
//! the documents' samples, members in their order; a refusal is their error object with a request
//! id. Deliveries are rendered in `domain`, and a new URL is probed by the engine; here is
//! management only.
//!
//! A request passes, in this order: key, API access, the plan's limit, body. The first refusal is
//! the answer.

use axum::response::Response;
use axum::routing::any;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use crate::ApiState;
pub(crate) use envelope::Envelope;
use envelope::Failure;

mod customer;
mod endpoint;
mod endpoints;
mod envelope;
mod events;

/// The name of this surface's operations in the OpenAPI document.
pub(crate) const TAG: &str = "konpro_v1";

/// The five operations, and everything else under `/v1` in the same words.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(endpoints::list).map(|methods| methods.head(only_get).fallback(only_get)))
        .routes(routes!(endpoints::add).map(|methods| methods.fallback(only_post)))
        .routes(routes!(endpoints::update).map(|methods| methods.fallback(only_patch)))
        .routes(routes!(endpoints::delete).map(|methods| methods.fallback(only_delete)))
        .routes(routes!(events::list).map(|methods| methods.head(only_get).fallback(only_get)))
        .route("/v1", any(unknown_path))
        .route("/v1/", any(unknown_path))
        .route("/v1/{*rest}", any(unknown_path))
}

async fn only_get(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("GET"))
}

async fn only_post(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("POST"))
}

async fn only_patch(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("PATCH"))
}

async fn only_delete(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("DELETE"))
}

async fn unknown_path(envelope: Envelope) -> Response {
    envelope.refuse(Failure::not_found("no such path"))
}
