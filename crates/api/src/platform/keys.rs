//! Keys of an account: issued, listed, revoked. A key is shown once, when it is issued.

use axum::extract::State;
use domain::id::{AccountId, KeyId};
use domain::time::Timestamp;
use engine::KeyRecord;
use engine::keys::ACCOUNT_KEY_PREFIX;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::fields;
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::path_id::{PathId, PathIds};
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(issue, list)).routes(routes!(revoke))
}

/// A key, without what it opens with.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub(super) struct KeyResource {
    /// Its id.
    #[schema(example = "key_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// How the key begins, to tell it from others.
    #[schema(example = "pr_ak_Zt4WcR7vLq1xM0aB")]
    prefix: String,
    /// When it was issued.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it was last used, give or take a minute; null if never.
    #[schema(required, format = "date-time")]
    last_used_at: Option<String>,
}

impl From<KeyRecord> for KeyResource {
    fn from(key: KeyRecord) -> Self {
        Self {
            id: key.id.to_string(),
            prefix: format!("{ACCOUNT_KEY_PREFIX}{}", key.public_part),
            created_at: key.created_at.to_rfc3339_millis(),
            last_used_at: key.last_used_at.map(Timestamp::to_rfc3339_millis),
        }
    }
}

/// A key that was just issued.
#[derive(Serialize, ToSchema)]
pub(super) struct IssuedKey {
    /// Its id.
    #[schema(example = "key_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// The key, shown this once.
    #[schema(example = "pr_ak_…")]
    api_key: String,
    /// How the key begins, to tell it from others.
    #[schema(example = "pr_ak_Zt4WcR7vLq1xM0aB")]
    prefix: String,
    /// When it was issued.
    #[schema(format = "date-time")]
    created_at: String,
    /// Null: it was never used.
    #[schema(required, format = "date-time")]
    last_used_at: Option<String>,
}

/// Issue a key for the account.
///
/// The key is in the answer and nowhere else afterwards. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/keys",
    operation_id = "issueKey",
    tag = "Keys",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The account's id")),
    responses(
        (status = 201, description = "The key", body = IssuedKey),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn issue(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(account): PathId<AccountId>,
    body: JsonBody,
) -> Answer {
    fields::read_optional_body(&body.0, |_| ())?;
    let (record, key) = state.engine.issue_key(caller.0, account).await?;
    let KeyResource { id, prefix, created_at, last_used_at } = record.into();
    let api_key = key.reveal().to_owned();
    let shown = IssuedKey { id, api_key, prefix, created_at, last_used_at };
    Ok(answer::created(&shown))
}

/// List the account's keys, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/keys",
    operation_id = "listKeys",
    tag = "Keys",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The account's id"), PageParameters),
    responses(
        (status = 200, description = "One page", body = List<KeyResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(account): PathId<AccountId>,
    uri: Uri,
) -> Answer {
    let page = Parameters::read(&uri, PageParameters::read)?;
    let keys = state.engine.list_keys(caller.0, account, page).await?;
    Ok(answer::ok(&List::from(keys.map(KeyResource::from))))
}

/// Revoke a key; it opens nothing any more.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{id}/keys/{key_id}",
    operation_id = "revokeKey",
    tag = "Keys",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(
        ("id" = String, Path, description = "The account's id"),
        ("key_id" = String, Path, description = "The key's id")
    ),
    responses((status = 204, description = "It is gone"), OfEvery, OfFinding)
)]
async fn revoke(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathIds(account, key): PathIds<AccountId, KeyId>,
) -> Answer {
    state.engine.revoke_key(caller.0, account, key).await?;
    Ok(answer::no_content())
}
