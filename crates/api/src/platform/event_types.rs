//! Event types: the catalogue of a contract, and what the operator registers beside and about it.

use axum::extract::{FromRequestParts, Path, State};
use domain::contract::Contract;
use domain::limits::{SAMPLE_BYTES_MAX, SCHEMA_BYTES_MAX};
use engine::EngineError;
use engine::event_types::{ListedType, NewEventType};
use http::Uri;
use http::request::Parts;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::{Authenticated, Operator};
use super::fields::{self, Fields};
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};
use crate::problem::Problem;

/// Largest body: a schema, a sample, and room for the fields around them.
const BODY_BYTES_MAX: usize = SCHEMA_BYTES_MAX + SAMPLE_BYTES_MAX + 8 * 1024;

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(read, put, delete))
}

/// An event type of a contract.
#[derive(Serialize, ToSchema)]
#[schema(as = EventType)]
pub(super) struct EventTypeResource {
    /// Its name.
    #[schema(example = "generated_avatar_video_success")]
    name: String,
    /// What it says.
    #[schema(required, example = "Avatar video generation succeeded")]
    description: Option<String>,
    /// The JSON Schema that its `data` must meet, as it was written; null is no schema.
    #[schema(required, value_type = Option<serde_json::Map<String, serde_json::Value>>, example = json!(null))]
    schema: Option<Box<RawValue>>,
    /// A sample of its `data`, as it was written.
    #[schema(required, value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    sample: Option<Box<RawValue>>,
    /// `documented` if only the contract's documents name it, `registered` if the operator added it
    /// or something about it.
    #[schema(example = "documented")]
    source: &'static str,
    /// When it was registered; null if it was not.
    #[schema(required, format = "date-time", example = json!(null))]
    created_at: Option<String>,
    /// When what was registered was last changed; null if nothing was.
    #[schema(required, format = "date-time", example = json!(null))]
    updated_at: Option<String>,
}

impl From<ListedType> for EventTypeResource {
    fn from(listed: ListedType) -> Self {
        let json = |text: Option<String>| {
            text.map(|text| {
                RawValue::from_string(text).expect("what is listed was read as JSON before")
            })
        };
        Self {
            name: listed.name,
            description: listed.description,
            schema: json(listed.schema),
            sample: json(listed.sample),
            source: if listed.registered.is_some() { "registered" } else { "documented" },
            created_at: listed.registered.map(|(created_at, _)| created_at.to_rfc3339_millis()),
            updated_at: listed.registered.map(|(_, updated_at)| updated_at.to_rfc3339_millis()),
        }
    }
}

/// What is registered of an event type, in whole: what is left out is taken out.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct EventTypeRegistration {
    /// What it says.
    #[schema(example = "Avatar video generation succeeded")]
    description: Option<String>,
    /// A JSON Schema (2020-12 unless `$schema` says otherwise) that every `data` published from now
    /// on must meet; references lead into the same document.
    #[schema(
        value_type = Option<serde_json::Map<String, serde_json::Value>>,
        example = json!({"type":"object","required":["video_id"]})
    )]
    schema: Option<Box<RawValue>>,
    /// A sample of `data` that meets the schema; test events carry it.
    #[schema(
        value_type = Option<serde_json::Map<String, serde_json::Value>>,
        example = json!({"video_id":"video_123456"})
    )]
    sample: Option<Box<RawValue>>,
}

impl EventTypeRegistration {
    fn read(fields: &mut Fields<'_>) -> NewEventType {
        let mut json = |name| {
            let json: Option<&RawValue> = fields.optional(name, "an object or null");
            json.map(|json| json.get().to_owned())
        };
        let (schema, sample) = (json("schema"), json("sample"));
        let description = fields.optional("description", "a string or null");
        NewEventType { description, schema, sample }
    }
}

/// The contract of a path.
struct OfContract(Contract);

impl FromRequestParts<ApiState> for OfContract {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let contract = path.ok().and_then(|Path(name)| Contract::from_name(&name));
        contract.map(Self).ok_or_else(|| EngineError::not_found("contract").into())
    }
}

/// The contract of a path, and the name of an event type.
struct OfType(Contract, String);

impl FromRequestParts<ApiState> for OfType {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        path.ok()
            .and_then(|Path((contract, name))| Some(Self(Contract::from_name(&contract)?, name)))
            .ok_or_else(|| EngineError::not_found("contract").into())
    }
}

/// List the event types of a contract.
///
/// Those that its documents name in their order, then those that the operator added by name.
#[utoipa::path(
    get,
    path = "/api/v1/contracts/{contract}/event-types",
    operation_id = "listEventTypes",
    tag = "Event types",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(
        ("contract" = String, Path, description = "`jogg_v2`, `konpro_v1` or `standard`"),
        PageParameters
    ),
    responses(
        (status = 200, description = "One page", body = List<EventTypeResource>),
        OfEvery,
        OfFinding,
        OfParameters
    )
)]
async fn list(
    State(state): State<ApiState>,
    caller: Authenticated,
    OfContract(contract): OfContract,
    uri: Uri,
) -> Answer {
    let page = Parameters::read(&uri, PageParameters::read)?;
    let listed = state.engine.list_event_types(caller.0, contract, page).await?;
    Ok(answer::ok(&List::from(listed.map(EventTypeResource::from))))
}

/// Read an event type.
#[utoipa::path(
    get,
    path = "/api/v1/contracts/{contract}/event-types/{name}",
    operation_id = "readEventType",
    tag = "Event types",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(
        ("contract" = String, Path, description = "`jogg_v2`, `konpro_v1` or `standard`"),
        ("name" = String, Path, description = "The event type's name")
    ),
    responses(
        (status = 200, description = "The event type", body = EventTypeResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    OfType(contract, name): OfType,
) -> Answer {
    let listed = state.engine.event_type(caller.0, contract, &name).await?;
    Ok(answer::ok(&EventTypeResource::from(listed)))
}

/// Register an event type, or something about a documented one.
///
/// From the answer on it may be published and subscribed to, and its `data` must meet the schema.
#[utoipa::path(
    put,
    path = "/api/v1/contracts/{contract}/event-types/{name}",
    operation_id = "putEventType",
    tag = "Event types",
    security(("operatorKey" = [])),
    params(
        ("contract" = String, Path, description = "`jogg_v2`, `konpro_v1` or `standard`"),
        ("name" = String, Path, description = "The event type's name")
    ),
    request_body(
        content = Option<EventTypeRegistration>,
        description = "What is registered; the name alone if left out"
    ),
    responses(
        (status = 200, description = "It was registered before", body = EventTypeResource),
        (status = 201, description = "It is registered now", body = EventTypeResource),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn put(
    State(state): State<ApiState>,
    operator: Operator,
    OfType(contract, name): OfType,
    body: JsonBody<BODY_BYTES_MAX>,
) -> Answer {
    let new = fields::read_optional_body(&body.0, EventTypeRegistration::read)?;
    let (listed, is_new) = state.engine.put_event_type(operator.0, contract, &name, new).await?;
    let shown = EventTypeResource::from(listed);
    Ok(if is_new { answer::created(&shown) } else { answer::ok(&shown) })
}

/// Take out what was registered of an event type.
///
/// What the contract's documents say of it stays. Endpoints that subscribed to it stay as they are.
#[utoipa::path(
    delete,
    path = "/api/v1/contracts/{contract}/event-types/{name}",
    operation_id = "deleteEventType",
    tag = "Event types",
    security(("operatorKey" = [])),
    params(
        ("contract" = String, Path, description = "`jogg_v2`, `konpro_v1` or `standard`"),
        ("name" = String, Path, description = "The event type's name")
    ),
    responses((status = 204, description = "It is gone"), OfEvery, OfFinding)
)]
async fn delete(
    State(state): State<ApiState>,
    operator: Operator,
    OfType(contract, name): OfType,
) -> Answer {
    state.engine.delete_event_type(operator.0, contract, &name).await?;
    Ok(answer::no_content())
}
