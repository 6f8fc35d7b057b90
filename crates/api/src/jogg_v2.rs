//! JoggAI API v2, webhook part: list, add, update and delete endpoints, list events.
//!
//! Source: the published JoggAI v2 documents ("List / Add / Update / Delete Webhook Endpoint",
//! "List Webhook Events", "Error Handling", "Rate Limits"). Promise: answers have exactly the
//! members, order and spelling of the documents' samples, `Success` and `success` included, and
//! every answer begins with `rid`. Deliveries are rendered in `domain`; here is management only.
//!
//! A request passes, in this order: key, API access, `POST` limit, credit, body. The first refusal
//! is the answer.

use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
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

/// Which HTTP status errors have. The documents say both "standard HTTP status codes" and show
/// clients that read nothing but `code`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpStatus {
    /// The status that fits the code, for example 404 for 10104.
    #[default]
    Mapped,
    /// 200 for everything; `code` tells.
    Always200,
}

/// The name of this surface's operations in the OpenAPI document.
pub(crate) const TAG: &str = "jogg_v2";

/// The five operations, and everything else under `/v2` in the same envelope.
pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(endpoints::list).map(|methods| methods.head(only_get).fallback(only_get)))
        .routes(routes!(endpoints::add).map(|methods| methods.fallback(only_post)))
        .routes(
            routes!(endpoints::update, endpoints::delete)
                .map(|methods| methods.fallback(only_put_and_delete)),
        )
        .routes(routes!(events::list).map(|methods| methods.head(only_get).fallback(only_get)))
        .route("/v2", any(unknown_path))
        .route("/v2/", any(unknown_path))
        .route("/v2/{*rest}", any(unknown_path))
}

async fn only_get(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("GET"))
}

async fn only_post(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("POST"))
}

async fn only_put_and_delete(envelope: Envelope) -> Response {
    envelope.refuse(Failure::wrong_method("PUT, DELETE"))
}

async fn unknown_path(envelope: Envelope) -> Response {
    envelope.refuse(Failure::record_not_found())
}

impl HttpStatus {
    fn of(self, mapped: StatusCode) -> StatusCode {
        match self {
            Self::Mapped => mapped,
            Self::Always200 => StatusCode::OK,
        }
    }
}
