//! The audit log: who changed, revealed or tried what, and whether the log is whole.

use axum::extract::State;
use domain::audit::{AuditAction, AuditEntry};
use domain::id::AccountId;
use engine::{AuditChain, AuditFilter, Engine};
use http::Uri;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::{Authenticated, Operator};
use super::parameters::Parameters;
use super::refusals::{OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(chain))
}

/// Something that was done, revealed or tried.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditEntryResource {
    /// Its number in the log: 1, 2, 3, … without a gap. An account sees the numbers of its own
    /// entries.
    #[schema(example = 1)]
    number: u64,
    /// When it happened.
    #[schema(format = "date-time")]
    at: String,
    /// Who did it: `operator` (the key of the configuration), the id of a key, `system`, or
    /// `stranger` (nobody with a good key).
    #[schema(example = "operator")]
    actor: String,
    /// What was done.
    #[schema(example = "endpoint.created")]
    action: &'static str,
    /// The id of the account it is about; null for the operator's own affairs.
    #[schema(required, example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    account: Option<String>,
    /// What it was done to, usually an id.
    #[schema(example = "wh_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    subject: String,
    /// What is worth knowing about it; never a key, a secret or a payload.
    #[schema(value_type = serde_json::Map<String, serde_json::Value>, example = json!({}))]
    details: Option<Box<RawValue>>,
    /// SHA-256 over the entry and the hash before it, in hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    hash: String,
}

impl From<AuditEntry> for AuditEntryResource {
    fn from(AuditEntry { number, note, hash }: AuditEntry) -> Self {
        Self {
            number,
            at: note.at.to_rfc3339_millis(),
            actor: note.actor.name(),
            action: note.action.name(),
            account: note.account.map(|account| account.to_string()),
            subject: note.subject,
            // As it was written, since it is part of what is hashed. What is no JSON was tampered
            // with, which the chain shows.
            details: RawValue::from_string(note.details).ok(),
            hash: hex(&hash),
        }
    }
}

/// Whether the log is whole.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditChain)]
pub(super) struct AuditChainResource {
    /// How many entries say what they said when they were written; those after a break do not
    /// count.
    #[schema(example = 12)]
    entries: u64,
    /// The hash of the last of them, in hex. Who keeps it elsewhere sees later whether the log was
    /// cut short or written anew.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    head: String,
    /// Whether every entry says what it said when it was written, and none is missing.
    intact: bool,
    /// The number where the log is not what it was; null if it is.
    #[schema(required, example = json!(null))]
    first_break: Option<u64>,
}

impl From<AuditChain> for AuditChainResource {
    fn from(chain: AuditChain) -> Self {
        Self {
            entries: chain.entries,
            head: hex(&chain.head),
            intact: chain.first_break.is_none(),
            first_break: chain.first_break,
        }
    }
}

fn hex(hash: &[u8; 32]) -> String {
    use std::fmt::Write as _;

    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Which entries to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `read` reads")]
struct AuditParameters {
    /// Only about the account with this id or username; a deleted one by its id.
    account: Option<String>,
    /// Only of this action, such as `endpoint.created`.
    action: Option<String>,
    /// Only at this instant or later: RFC 3339 or Unix seconds.
    since: Option<String>,
    /// Only before this instant: RFC 3339 or Unix seconds.
    until: Option<String>,
}

impl AuditParameters {
    /// The name of the account to filter by, and the rest of the filter.
    fn read(parameters: &mut Parameters) -> (Option<String>, AuditFilter) {
        let account = super::events::read_account(parameters);
        let filter = AuditFilter {
            account: None,
            action: parameters.optional(
                "action",
                "must be an action of the log, such as `endpoint.created`",
                AuditAction::from_name,
            ),
            since: parameters.instant("since"),
            until: parameters.instant("until"),
        };
        (account, filter)
    }
}

/// List the audit log, newest first.
///
/// With an account's key: what is about the account. A page may be short, even empty, and still
/// name a next one: a filter that few entries pass is answered piece by piece.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    operation_id = "listAudit",
    tag = "Audit",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(AuditParameters, PageParameters),
    responses(
        (status = 200, description = "One page", body = List<AuditEntryResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let ((account, mut filter), page) = Parameters::read(&uri, |parameters| {
        (AuditParameters::read(parameters), PageParameters::read(parameters))
    })?;
    filter.account = find_account(&state.engine, &caller, account).await?;
    let entries = state.engine.list_audit(caller.0, filter, page).await?;
    Ok(answer::ok(&List::from(entries.map(AuditEntryResource::from))))
}

/// The account of that id, whether it still exists or not, or of that username.
async fn find_account(
    engine: &Engine,
    caller: &Authenticated,
    name: Option<String>,
) -> Result<Option<AccountId>, Problem> {
    Ok(match name {
        None => None,
        Some(name) => Some(match AccountId::parse(&name) {
            Ok(id) => id,
            Err(_) => engine.account_named(caller.0, &name).await?,
        }),
    })
}

/// Check that the audit log is whole.
///
/// Reads all of it and follows the chain of hashes from the first entry to the last.
#[utoipa::path(
    get,
    path = "/api/v1/audit/chain",
    operation_id = "checkAudit",
    tag = "Audit",
    security(("operatorKey" = [])),
    responses(
        (status = 200, description = "Whether it is", body = AuditChainResource),
        OfEvery,
        OfFinding
    )
)]
async fn chain(State(state): State<ApiState>, Operator(scope): Operator) -> Answer {
    let chain = state.engine.verify_audit(scope).await?;
    Ok(answer::ok(&AuditChainResource::from(chain)))
}
