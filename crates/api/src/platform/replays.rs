//! Replays: many events delivered again to one endpoint, at a pace.

use axum::extract::State;
use axum::response::Response;
use domain::id::{EndpointId, ReplayId};
use domain::limits::REPLAY_PER_SECOND_MAX;
use domain::replay::{Replay, ReplayFate};
use domain::time::Timestamp;
use engine::replay::many::NewReplay;
use http::Uri;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::events::read_account;
use super::fields::{self, Fields};
use super::instant::{self, Instant, WrittenInstant};
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(start))
        .routes(routes!(list))
        .routes(routes!(read, cancel))
}

/// Many events delivered again to one endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = Replay)]
pub(super) struct ReplayResource {
    /// Its id.
    #[schema(example = "rpl_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// The endpoint's id.
    #[schema(example = "wh_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    endpoint: String,
    /// The id of the account.
    #[schema(example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    account: String,
    /// Where it stands: `running`, `done`, or `cancelled` (by somebody, or because the endpoint is
    /// gone; what it had made stays).
    #[schema(example = "running")]
    state: &'static str,
    /// Which events it delivers again.
    selection: ReplaySelectionResource,
    /// Deliveries it makes each second.
    #[schema(example = 10)]
    per_second: u32,
    /// Events looked at so far.
    looked_at: u64,
    /// Deliveries made so far.
    created: u64,
    /// When it was asked for.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it ended; null while it has not.
    #[schema(required, format = "date-time")]
    ended_at: Option<String>,
}

/// Which events a replay delivers again.
#[derive(Serialize, ToSchema)]
#[schema(as = ReplaySelection)]
pub(super) struct ReplaySelectionResource {
    /// What became of them at the endpoint: `exhausted`, `all` or `missing`.
    #[schema(example = "exhausted")]
    state: &'static str,
    /// Accepted at this instant or later.
    #[schema(format = "date-time")]
    since: String,
    /// Accepted before this instant.
    #[schema(format = "date-time")]
    until: String,
}

impl From<Replay> for ReplayResource {
    fn from(replay: Replay) -> Self {
        Self {
            id: replay.id.to_string(),
            endpoint: replay.endpoint.to_string(),
            account: replay.account.to_string(),
            state: replay.state.name(),
            selection: ReplaySelectionResource {
                state: replay.selection.fate.name(),
                since: replay.selection.since.to_rfc3339_millis(),
                until: replay.selection.until.to_rfc3339_millis(),
            },
            per_second: replay.per_second,
            looked_at: replay.looked_at,
            created: replay.created,
            created_at: replay.created_at.to_rfc3339_millis(),
            ended_at: replay.ended_at.map(Timestamp::to_rfc3339_millis),
        }
    }
}

/// Which events to deliver again, and how fast.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct ReplayRequest {
    /// Accepted at this instant or later.
    #[schema(value_type = WrittenInstant, example = "2026-01-15T10:30:00Z")]
    since: Instant,
    /// Accepted before this instant; now if left out, or later than that.
    #[schema(value_type = Option<WrittenInstant>)]
    until: Option<Instant>,
    /// What became of them at the endpoint. `exhausted` (if left out): the last delivery there is
    /// exhausted. `all`: there is a delivery, and none is pending. `missing`: there is none
    /// although there would have been, because the endpoint was disabled or its filter failed.
    #[schema(example = "exhausted")]
    state: Option<String>,
    /// `true`: only count them.
    dry_run: Option<bool>,
    /// Deliveries to make each second; 10 if left out.
    #[schema(minimum = 1, maximum = 1000, default = 10)]
    per_second: Option<u32>,
}

impl ReplayRequest {
    /// The replay, and whether its events are only to be counted.
    fn read(fields: &mut Fields<'_>) -> (NewReplay, bool) {
        let Instant(since) = fields.required("since", instant::EXPECTED);
        let until = fields.optional("until", instant::EXPECTED).map(|Instant(until)| until);
        let fate = fields
            .optional("state", "a string")
            .map_or(Some(ReplayFate::Exhausted), |name: String| ReplayFate::from_name(&name));
        if fate.is_none() {
            fields.refuse("state", "must be `exhausted`, `all` or `missing`");
        }
        let dry_run = fields.optional("dry_run", "true or false").unwrap_or_default();
        let expected = format!("a whole number from 1 to {REPLAY_PER_SECOND_MAX}");
        let per_second = fields.optional("per_second", &expected);
        let fate = fate.unwrap_or(ReplayFate::Exhausted);
        (NewReplay { fate, since, until, per_second }, dry_run)
    }
}

/// What a replay would do.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayDryRun {
    /// That nothing was done.
    #[schema(example = true)]
    dry_run: bool,
    /// Events it would deliver, of those looked at.
    #[schema(example = 1_234)]
    events: u64,
    /// Whether all were looked at; otherwise there may be more.
    #[schema(example = true)]
    complete: bool,
}

/// Deliver many events again to an endpoint.
///
/// Goes on by itself, evenly at `per_second`, after whatever is fresh, and across restarts. One at
/// a time for each endpoint; it rests while the endpoint is disabled. With `dry_run` nothing is
/// delivered: the events are counted, looking at 10,000 rows of storage at most.
#[utoipa::path(
    post,
    path = "/api/v1/endpoints/{id}/replay",
    operation_id = "startReplay",
    tag = "Replays",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = ReplayRequest,
    responses(
        (status = 200, description = "What it would do (`dry_run`)", body = ReplayDryRun),
        (status = 202, description = "The replay, which runs now", body = ReplayResource),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn start(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(endpoint): PathId<EndpointId>,
    body: JsonBody,
) -> Answer {
    let (new, dry_run) = fields::read_body(&body.0, ReplayRequest::read)?;
    if dry_run {
        let count = state.engine.count_replay(caller.0, endpoint, new).await?;
        let (events, complete) = (count.events, count.is_complete);
        return Ok(answer::ok(&ReplayDryRun { dry_run, events, complete }));
    }
    let replay = state.engine.start_replay(caller.0, endpoint, new).await?;
    let location = format!("/api/v1/replays/{}", replay.id);
    Ok(answer::located(answer::accepted(&ReplayResource::from(replay)), &location))
}

/// Which replays to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the parameters that `list` reads")]
struct ReplayParameters {
    /// Only of the account with this id or username.
    account: Option<String>,
    /// Only to the endpoint with this id.
    endpoint: Option<String>,
}

/// List replays, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/replays",
    operation_id = "listReplays",
    tag = "Replays",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(ReplayParameters, PageParameters),
    responses(
        (status = 200, description = "One page", body = List<ReplayResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(State(state): State<ApiState>, caller: Authenticated, uri: Uri) -> Answer {
    let (account, endpoint, page) = Parameters::read(&uri, |parameters| {
        let account = read_account(parameters);
        let reason = "must be an endpoint's id, `wh_…` or `webhook_…`";
        let endpoint = parameters.optional("endpoint", reason, |text| EndpointId::parse(text).ok());
        (account, endpoint, PageParameters::read(parameters))
    })?;
    let account = match account {
        Some(name) => Some(state.engine.account_named(caller.0, &name).await?),
        None => None,
    };
    let replays = state.engine.list_replays(caller.0, account, endpoint, page).await?;
    Ok(answer::ok(&List::from(replays.map(ReplayResource::from))))
}

/// Read a replay, and how far it got.
#[utoipa::path(
    get,
    path = "/api/v1/replays/{id}",
    operation_id = "readReplay",
    tag = "Replays",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The replay's id")),
    responses(
        (status = 200, description = "The replay", body = ReplayResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<ReplayId>,
) -> Answer {
    let replay = state.engine.replay(caller.0, id).await?;
    Ok(replay_answer(replay))
}

/// Cancel a replay.
///
/// It makes no more deliveries; those it had made stay. One that has ended stays as it ended.
#[utoipa::path(
    delete,
    path = "/api/v1/replays/{id}",
    operation_id = "cancelReplay",
    tag = "Replays",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The replay's id")),
    responses(
        (status = 200, description = "The replay as it is now", body = ReplayResource),
        OfEvery,
        OfFinding
    )
)]
async fn cancel(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<ReplayId>,
) -> Answer {
    let replay = state.engine.cancel_replay(caller.0, id).await?;
    Ok(replay_answer(replay))
}

fn replay_answer(replay: Replay) -> Response {
    answer::ok(&ReplayResource::from(replay))
}
