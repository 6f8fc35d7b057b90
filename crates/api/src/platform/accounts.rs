//! Accounts: the customers of the platform.

use axum::extract::State;
use domain::account::{Account, AccountChange};
use domain::contract::Contract;
use domain::id::AccountId;
use engine::administer::NewAccount;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::{Authenticated, Operator};
use super::fields::{self, Fields};
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(create, list)).routes(routes!(read, change, delete))
}

/// Which management API, catalogue, limits and delivery bytes an account has.
#[derive(Clone, Copy, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Contract)]
pub(super) enum ContractName {
    JoggV2,
    KonproV1,
    #[default]
    Standard,
}

impl From<Contract> for ContractName {
    fn from(contract: Contract) -> Self {
        match contract {
            Contract::JoggV2 => Self::JoggV2,
            Contract::KonproV1 => Self::KonproV1,
            Contract::Standard => Self::Standard,
        }
    }
}

impl From<ContractName> for Contract {
    fn from(name: ContractName) -> Self {
        match name {
            ContractName::JoggV2 => Self::JoggV2,
            ContractName::KonproV1 => Self::KonproV1,
            ContractName::Standard => Self::Standard,
        }
    }
}

/// A customer of the platform.
#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
pub(super) struct AccountResource {
    /// Its id.
    #[schema(example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// Its name, unique in the installation.
    #[schema(example = "johndoe")]
    username: String,
    /// Its contract; never changes.
    contract: ContractName,
    /// Its rate plan.
    #[schema(required, example = json!(null))]
    plan: Option<String>,
    /// What is left of its credits; null when they are not tracked.
    #[schema(required, example = json!(null))]
    credits: Option<i64>,
    /// Whether it may use the API.
    api_access: bool,
    /// When it was created.
    #[schema(format = "date-time")]
    created_at: String,
}

impl From<Account> for AccountResource {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.to_string(),
            username: account.username.as_str().to_owned(),
            contract: account.contract.into(),
            plan: account.plan,
            credits: account.credits,
            api_access: account.api_access,
            created_at: account.created_at.to_rfc3339_millis(),
        }
    }
}

/// A new account and its first key.
#[derive(Serialize, ToSchema)]
pub(super) struct AccountWithKey {
    #[serde(flatten)]
    account: AccountResource,
    /// Its first key, shown this once.
    #[schema(example = "pr_ak_…")]
    api_key: String,
}

/// What is said of a new account.
#[derive(ToSchema)]
pub(super) struct AccountCreation {
    /// 1 to 100 characters, unique in the installation.
    #[schema(example = "johndoe", max_length = 100)]
    username: String,
    contract: ContractName,
    /// One of the plans in the configuration; none is not limited.
    plan: Option<String>,
    /// Credits to begin with; null when they are not tracked.
    credits: Option<i64>,
    /// Whether it may use the API.
    #[schema(default = true)]
    api_access: Option<bool>,
}

impl AccountCreation {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            username: fields.required("username", "a string"),
            contract: fields.required("contract", "one of `jogg_v2`, `konpro_v1` or `standard`"),
            plan: fields.optional("plan", "a string or null"),
            credits: fields.optional("credits", "a whole number or null"),
            api_access: fields.present("api_access", "true or false"),
        }
    }
}

/// What changes about an account; what is left out stays as it is.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct AccountEdit {
    /// One of the plans in the configuration; null removes the plan.
    plan: Option<String>,
    /// What is left of its credits; null stops tracking them.
    credits: Option<i64>,
    /// Whether it may use the API.
    #[schema(nullable = false)]
    api_access: Option<bool>,
}

impl AccountEdit {
    fn read(fields: &mut Fields<'_>) -> AccountChange {
        AccountChange {
            plan: fields.nullable("plan", "a string or null"),
            credits: fields.nullable("credits", "a whole number or null"),
            api_access: fields.present("api_access", "true or false"),
        }
    }
}

/// Create an account.
///
/// Its first key is in the answer and nowhere else afterwards.
#[utoipa::path(
    post,
    path = "/api/v1/accounts",
    operation_id = "createAccount",
    tag = "Accounts",
    security(("operatorKey" = [])),
    request_body = AccountCreation,
    responses(
        (status = 201, description = "The account and its first key", body = AccountWithKey),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn create(
    State(state): State<ApiState>,
    Operator(scope): Operator,
    body: JsonBody,
) -> Answer {
    let creation = fields::read_body(&body.0, AccountCreation::read)?;
    let new = NewAccount {
        username: creation.username,
        contract: creation.contract.into(),
        plan: creation.plan,
        credits: creation.credits,
        api_access: creation.api_access.unwrap_or(true),
    };
    let (account, key) = state.engine.create_account(scope, new).await?;
    let location = format!("/api/v1/accounts/{}", account.id);
    let shown = AccountWithKey { account: account.into(), api_key: key.reveal().to_owned() };
    Ok(answer::located(answer::created(&shown), &location))
}

/// List accounts, newest first.
///
/// With an account's key: the account itself.
#[utoipa::path(
    get,
    path = "/api/v1/accounts",
    operation_id = "listAccounts",
    tag = "Accounts",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(PageParameters),
    responses(
        (status = 200, description = "One page", body = List<AccountResource>),
        OfEvery,
        OfParameters
    )
)]
async fn list(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let page = Parameters::read(&uri, PageParameters::read)?;
    let accounts = state.engine.list_accounts(caller.0, page).await?;
    Ok(answer::ok(&List::from(accounts.map(AccountResource::from))))
}

/// Read an account.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}",
    operation_id = "readAccount",
    tag = "Accounts",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The account's id")),
    responses(
        (status = 200, description = "The account", body = AccountResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<AccountId>,
) -> Answer {
    let account = state.engine.account(caller.0, id).await?;
    Ok(answer::ok(&AccountResource::from(account)))
}

/// Change an account's plan, credits or API access.
#[utoipa::path(
    patch,
    path = "/api/v1/accounts/{id}",
    operation_id = "changeAccount",
    tag = "Accounts",
    security(("operatorKey" = [])),
    params(("id" = String, Path, description = "The account's id")),
    request_body = AccountEdit,
    responses(
        (status = 200, description = "The account as it is now", body = AccountResource),
        OfEvery,
        OfFinding,
        OfBody
    )
)]
async fn change(
    State(state): State<ApiState>,
    Operator(scope): Operator,
    PathId(id): PathId<AccountId>,
    body: JsonBody,
) -> Answer {
    let change = fields::read_body(&body.0, AccountEdit::read)?;
    let account = state.engine.change_account(scope, id, change).await?;
    Ok(answer::ok(&AccountResource::from(account)))
}

/// Delete an account with everything it owns.
///
/// Its keys open nothing any more, and its deliveries end at once.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{id}",
    operation_id = "deleteAccount",
    tag = "Accounts",
    security(("operatorKey" = [])),
    params(("id" = String, Path, description = "The account's id")),
    responses((status = 204, description = "It is gone"), OfEvery, OfFinding)
)]
async fn delete(
    State(state): State<ApiState>,
    Operator(scope): Operator,
    PathId(id): PathId<AccountId>,
) -> Answer {
    state.engine.delete_account(scope, id).await?;
    Ok(answer::no_content())
}
