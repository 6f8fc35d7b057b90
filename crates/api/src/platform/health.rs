//! Whether the process lives, and whether it can do its work: for probes, without a key.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::refusals::OfProbe;
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(healthz)).routes(routes!(readyz))
}

/// It is as it should be.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process lives.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "readHealth",
    tag = "Service",
    security(()),
    responses((status = 200, description = "It does", body = Health))
)]
async fn healthz() -> Answer {
    Ok(answer::ok(&Health { status: "ok" }))
}

/// The process can accept and deliver.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readReadiness",
    tag = "Service",
    security(()),
    responses((status = 200, description = "It can", body = Health), OfProbe)
)]
async fn readyz(State(state): State<ApiState>) -> Answer {
    state.engine.check_ready().await?;
    Ok(answer::ok(&Health { status: "ok" }))
}
