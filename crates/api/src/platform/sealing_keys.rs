//! Sealing keys: which of them seal the secrets in storage, and taking a new one into use. Ids and
//! counts only: the keys themselves never come near an answer.

use axum::extract::State;
use engine::sealing::SealingState;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Operator;
use super::fields;
use super::json_body::JsonBody;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding};
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(read)).routes(routes!(reload))
}

/// The key ring in use.
#[derive(Serialize, ToSchema)]
pub(super) struct SealingKeys {
    /// The id of the key that seals from now on.
    #[schema(example = "6f1d2c3b4a596877")]
    active: String,
    /// Every key of the ring.
    keys: Vec<SealingKeyUse>,
    /// How many secrets this request sealed again under the active key.
    #[schema(example = 0)]
    resealed: u64,
}

/// What a key is used for.
#[derive(Serialize, ToSchema)]
struct SealingKeyUse {
    /// Its id.
    #[schema(example = "6f1d2c3b4a596877")]
    id: String,
    /// How many secrets are sealed under it; one with none may be taken out of the ring.
    #[schema(example = 3)]
    secrets: u64,
}

impl From<SealingState> for SealingKeys {
    fn from(state: SealingState) -> Self {
        let keys = state.keys.into_iter();
        Self {
            active: state.active.to_string(),
            keys: keys.map(|(id, secrets)| SealingKeyUse { id: id.to_string(), secrets }).collect(),
            resealed: state.resealed,
        }
    }
}

/// Read which keys seal the secrets in storage.
#[utoipa::path(
    get,
    path = "/api/v1/sealing-keys",
    operation_id = "readSealingKeys",
    tag = "Sealing keys",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "The key ring in use", body = SealingKeys),
        OfEvery,
        OfFinding
    )
)]
async fn read(State(state): State<ApiState>, Operator(scope): Operator) -> Answer {
    let sealing = state.engine.sealing_keys(scope).await?;
    Ok(answer::ok(&SealingKeys::from(sealing)))
}

/// Read the key file anew and seal every secret under its active key.
///
/// Answered once all are; a file that lacks a key which something is sealed under is refused, and
/// the ring in use stays. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/sealing-keys/reload",
    operation_id = "reloadSealingKeys",
    tag = "Sealing keys",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "The key ring now in use", body = SealingKeys),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn reload(
    State(state): State<ApiState>,
    Operator(scope): Operator,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let sealing = state.engine.reload_sealing_keys(scope).await?;
    Ok(answer::ok(&SealingKeys::from(sealing)))
}
