//! Filters: tried on a sample.

use axum::extract::State;
use bytes::Bytes;
use domain::id::EndpointId;
use domain::limits::PUBLISH_BODY_BYTES_MAX;
use engine::filter::{Explanation, FilterTrial, Verdict};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::fields::{self, Fields};
use super::json_body::JsonBody;
use super::path_id::PathId;
use super::refusals::{OfBody, OfEvery, OfFinding};
use crate::ApiState;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(test))
}

/// What to try a filter on.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct FilterTest {
    /// The filter; the endpoint's own if left out.
    #[schema(example = "data.duration > 60 && data.status == \"completed\"")]
    filter: Option<String>,
    /// The type of the event; one that the endpoint subscribed to if left out.
    #[schema(example = "generated_avatar_video_success")]
    r#type: Option<String>,
    /// The `data` of the event; the sample of the type if left out.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>, example = json!({"duration":30,"status":"completed"}))]
    data: Option<Box<RawValue>>,
    /// What the event is about.
    entity_ids: Option<Vec<String>>,
}

impl FilterTest {
    fn read(fields: &mut Fields<'_>, body: &Bytes) -> FilterTrial {
        FilterTrial {
            filter: fields.optional("filter", "a string or null"),
            event_type: fields.optional("type", "a string or null"),
            data: fields
                .optional("data", "an object or null")
                .map(|data: &RawValue| body.slice_ref(data.get().as_bytes())),
            entity_ids: fields
                .optional("entity_ids", "a list of strings or null")
                .unwrap_or_default(),
        }
    }
}

/// What a filter says.
#[derive(Serialize, ToSchema)]
pub(super) struct FilterAnswer {
    /// Whether it lets the event pass. `false` too when it cannot be applied to it, which the
    /// explanation says.
    #[schema(example = false)]
    passes: bool,
    /// Why.
    #[schema(example = "rejected because data.duration = 30 is not > 60")]
    explanation: String,
}

impl From<Explanation> for FilterAnswer {
    fn from(Explanation { verdict, sentence }: Explanation) -> Self {
        Self { passes: verdict == Verdict::Passes, explanation: sentence }
    }
}

/// Try a filter on a sample.
///
/// Nothing is stored or sent. The body may be left out.
#[utoipa::path(
    post,
    path = "/api/v1/endpoints/{id}/filter/test",
    operation_id = "testFilter",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body(
        content = Option<FilterTest>,
        description = "What to try; the endpoint's filter and a sample event if left out"
    ),
    responses(
        (status = 200, description = "What the filter says", body = FilterAnswer),
        OfEvery,
        OfFinding,
        OfBody
    )
)]
async fn test(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
    JsonBody(body): JsonBody<PUBLISH_BODY_BYTES_MAX>,
) -> Answer {
    let trial = fields::read_optional_body(&body, |fields| FilterTest::read(fields, &body))?;
    let explanation = state.engine.test_filter(caller.0, id, trial).await?;
    Ok(answer::ok(&FilterAnswer::from(explanation)))
}
