//! Signing secrets: read, and replaced by new ones.

use std::time::Duration;

use axum::extract::State;
use domain::id::EndpointId;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::endpoints::EndpointWithSecret;
use super::fields::{self, Fields};
use super::json_body::JsonBody;
use super::path_id::PathId;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding};
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(read)).routes(routes!(rotate))
}

/// What signs an endpoint's deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointSecret {
    /// The whole secret, `whsec_` included.
    #[schema(example = "whsec_…")]
    secret: String,
}

/// Read what signs the endpoint's deliveries.
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/{id}/secret",
    operation_id = "readEndpointSecret",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The secret", body = EndpointSecret),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
) -> Answer {
    let endpoint = state.engine.secret(caller.0, id).await?;
    let shown = EndpointSecret { secret: endpoint.secret.reveal().to_owned() };
    Ok(answer::ok(&shown))
}

/// How to replace a secret.
#[derive(ToSchema)]
pub(super) struct SecretRotation {
    /// How long the present secret signs beside the new one; 24 hours if left out. 0 makes every
    /// earlier secret void at once, as a leak asks for.
    #[schema(example = 86_400, minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<u64>,
}

impl SecretRotation {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { overlap_seconds: fields.optional("overlap_seconds", "a whole number of seconds") }
    }
}

/// Give the endpoint a new secret.
///
/// Until `previous_signs_until`, deliveries are signed with both secrets, so that a receiver that
/// holds either refuses none. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/endpoints/{id}/rotate-secret",
    operation_id = "rotateEndpointSecret",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = Option<SecretRotation>,
    responses(
        (status = 200, description = "The endpoint and its new secret", body = EndpointWithSecret),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn rotate(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
    body: JsonBody,
) -> Answer {
    let rotation = fields::read_optional_body(&body.0, SecretRotation::read)?;
    let overlap = rotation.overlap_seconds.map(Duration::from_secs);
    let endpoint = state.engine.rotate_secret(caller.0, id, overlap).await?;
    Ok(answer::ok(&EndpointWithSecret::of(&state.engine, endpoint)))
}
