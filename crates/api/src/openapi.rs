//! The OpenAPI document (version 3.1) of all three route families.
//!
//! Promise: it is made from the same registration as the routes, so it cannot leave one out or
//! describe one that is not there.

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::ApiState;
use crate::key::X_API_KEY;
use crate::problem::ProblemDocument;

/// What stands in the document beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Postrider",
        description = "Sends webhooks: accepts events, delivers them signed, and never loses one.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Keys),
    tags(
        (name = "Accounts", description = "Customers of the platform"),
        (name = "Keys", description = "What opens the API for an account"),
        (name = "Endpoints", description = "URLs that want events"),
        (name = "Event types", description = "The catalogue of each contract"),
        (name = "Events", description = "Publishing, and what became of it"),
        (name = "Deliveries", description = "Events owed to endpoints, and each attempt"),
        (name = "Replays", description = "Many events delivered again to one endpoint"),
        (name = "Audit", description = "Who changed, revealed or tried what"),
        (name = "Sealing keys", description = "What seals the secrets in storage"),
        (name = "jogg_v2", description = "The webhook API of accounts of the contract `jogg_v2`"),
        (name = "konpro_v1", description = "The webhook API of accounts of the contract `konpro_v1`"),
        (name = "Service", description = "The service as a whole")
    )
)]
struct Preface;

/// The kinds of keys.
struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = |description: &str| {
            let scheme = HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description))
                .build();
            SecurityScheme::Http(scheme)
        };
        let contract_key = ApiKeyValue::with_description(
            X_API_KEY,
            "A key of an account (`pr_ak_…`), on the routes of its contract.",
        );
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("operatorKey", bearer("A key of the operator (`pr_op_…`): may do everything.")),
            ("accountKey", bearer("A key of an account (`pr_ak_…`): sees its own account only.")),
            ("x_api_key", SecurityScheme::ApiKey(ApiKey::Header(contract_key))),
        ] {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// The document without its routes.
pub(crate) fn preface() -> utoipa::openapi::OpenApi {
    Preface::openapi()
}

pub(crate) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(openapi_document))
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "readOpenApi",
    tag = "Service",
    security(()),
    responses((
        status = 200,
        description = "OpenAPI 3.1",
        body = serde_json::Map<String, serde_json::Value>,
        content_type = "application/json"
    ))
)]
async fn openapi_document() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
        let json = crate::openapi_document().to_json().expect("the document is text and numbers");
        Bytes::from(json)
    });
    let mut answer = DOCUMENT.clone().into_response();
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
