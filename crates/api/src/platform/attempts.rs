//! Attempts: every request made for a delivery, and what came of it.

use axum::extract::State;
use domain::attempt::{Attempt, Phases};
use domain::id::DeliveryId;
use domain::page::Page;
use domain::time::Timestamp;
use engine::scope::Scope;
use http::Uri;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::header_fields::HeaderFields;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::refusals::{OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list))
}

/// One HTTP request for a delivery, and what came of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
pub(super) struct AttemptResource {
    /// 1 for the first.
    #[schema(example = 1)]
    number: u32,
    /// When it began.
    #[schema(format = "date-time")]
    at: String,
    /// How long it took.
    #[schema(example = 12)]
    duration_ms: u64,
    /// Where the time went.
    phases: PhasesResource,
    /// `success`, `status` (an answer other than 2xx), or why there was no answer: `dns`,
    /// `blocked`, `connect`, `tls`, `timeout`, `reset`, `protocol`, or `credentials` (no OAuth 2
    /// token could be got, or the client certificate cannot be used). To an account key, whatever
    /// kept a connection from coming about is `connect`, without times.
    #[schema(example = "success")]
    outcome: &'static str,
    /// The HTTP status; null when there was no answer.
    #[schema(required, example = 200)]
    status: Option<u16>,
    /// The beginning of the answer's body, at most 8 KiB; what is not UTF-8 is shown as U+FFFD.
    response_excerpt: String,
    /// When the next attempt is due; null when there is none.
    #[schema(required, format = "date-time")]
    next_at: Option<String>,
    /// The headers that were sent.
    #[schema(value_type = BTreeMap<String, String>, example = json!({"content-type": "application/json"}))]
    request_headers: HeaderFields,
}

/// Where the time of an attempt went. A reused connection has no DNS, connect and TLS.
#[derive(Serialize, ToSchema)]
#[schema(as = Phases)]
#[expect(clippy::struct_field_names, reason = "units stand at the edges")]
struct PhasesResource {
    /// Looking up the name.
    dns_ms: u64,
    /// Opening the connection.
    connect_ms: u64,
    /// Agreeing on TLS.
    tls_ms: u64,
    /// From the request's first byte to the answer's first byte.
    first_byte_ms: u64,
}

impl From<Phases> for PhasesResource {
    fn from(phases: Phases) -> Self {
        Self {
            dns_ms: phases.dns.as_millis() as u64,
            connect_ms: phases.connect.as_millis() as u64,
            tls_ms: phases.tls.as_millis() as u64,
            first_byte_ms: phases.first_byte.as_millis() as u64,
        }
    }
}

impl From<Attempt> for AttemptResource {
    fn from(attempt: Attempt) -> Self {
        Self {
            number: attempt.number,
            at: attempt.at.to_rfc3339_millis(),
            duration_ms: attempt.duration.as_millis() as u64,
            phases: attempt.phases.into(),
            outcome: attempt.outcome.name(),
            status: attempt.outcome.status(),
            response_excerpt: String::from_utf8_lossy(&attempt.response_excerpt).into_owned(),
            next_at: attempt.next_at.map(Timestamp::to_rfc3339_millis),
            request_headers: HeaderFields::of_head(&attempt.request_head),
        }
    }
}

/// List a delivery's attempts, first one first.
#[utoipa::path(
    get,
    path = "/api/v1/deliveries/{id}/attempts",
    operation_id = "listAttempts",
    tag = "Deliveries",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The delivery's id"), PageParameters),
    responses(
        (status = 200, description = "One page", body = List<AttemptResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(delivery): PathId<DeliveryId>,
    uri: Uri,
) -> Answer {
    let page = Parameters::read(&uri, PageParameters::read)?;
    let mut attempts = state.engine.attempts(caller.0, delivery).await?;
    // Attempts run upwards, so the cursor is the number of the last one shown.
    attempts.retain(|attempt| page.before.is_none_or(|shown| u128::from(attempt.number) > shown));
    let is_more = attempts.len() > page.limit;
    attempts.truncate(page.limit);
    let next_before = attempts.last().filter(|_| is_more).map(|last| u128::from(last.number));
    let seen = match caller.0 {
        Scope::Operator { .. } => |attempt| attempt,
        Scope::Account { .. } => Attempt::for_its_owner,
    };
    let items = attempts.into_iter().map(seen).map(AttemptResource::from).collect();
    Ok(answer::ok(&List::from(Page { items, next_before })))
}
