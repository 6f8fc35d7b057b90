//! The operations account: where events go that tell the platform what happened to its endpoints
//! without anybody's doing.

use axum::extract::State;
use engine::operations::OperationsAccount;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accounts::AccountResource;
use super::answer::{self, Answer};
use super::caller::Operator;
use super::fields;
use super::json_body::JsonBody;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding};
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(put, read))
}

/// Make the operations account, unless it is there.
///
/// Its endpoints get `endpoint.disabled`, `endpoint.warned`, `endpoint.exhausting` and
/// `replay.ended` about every other account, from now on. It is an account of the `standard`
/// contract with the username `postrider.operations`: endpoints and keys are made for it like for
/// any other. The body may be left out.
#[utoipa::path(
    put,
    path = "/api/v1/operations-account",
    operation_id = "putOperationsAccount",
    tag = "Accounts",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "It was there", body = AccountResource),
        (status = 201, description = "It is there now", body = AccountResource),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn put(State(state): State<ApiState>, Operator(scope): Operator, body: JsonBody) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    Ok(match state.engine.put_operations_account(scope).await? {
        OperationsAccount::Found(account) => answer::ok(&AccountResource::from(account)),
        OperationsAccount::Created(account) => {
            let location = format!("/api/v1/accounts/{}", account.id);
            answer::located(answer::created(&AccountResource::from(account)), &location)
        }
    })
}

/// Read the operations account.
#[utoipa::path(
    get,
    path = "/api/v1/operations-account",
    operation_id = "readOperationsAccount",
    tag = "Accounts",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "The account", body = AccountResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(State(state): State<ApiState>, Operator(scope): Operator) -> Answer {
    let account = state.engine.operations_account(scope).await?;
    Ok(answer::ok(&AccountResource::from(account)))
}
