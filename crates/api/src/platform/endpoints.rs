//! Endpoints: everything an endpoint has, whatever its account's contract.

use std::collections::BTreeMap;

use axum::extract::State;
use domain::endpoint::{DisabledReason, Endpoint, EndpointStatus, MaxInFlight, RatePerSecond};
use domain::id::{AccountId, EndpointId};
use domain::ordering::DeliveryOrder;
use domain::subscription::Subscription;
use engine::Engine;
use engine::administer::{EndpointEdit, Events, NewEndpoint};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{self, Answer};
use super::caller::Authenticated;
use super::endpoint_settings::{
    ClientCertificate, OAuth2Resource, OAuth2Setting, read_client_key, read_metadata, read_oauth2,
};
use super::fields::{self, Fields};
use super::header_fields::HeaderFields;
use super::health_of::HealthResource;
use super::json_body::JsonBody;
use super::parameters::Parameters;
use super::path_id::PathId;
use super::publish::Receipt;
use super::refusals::{OfBody, OfConflict, OfEvery, OfFinding, OfParameters};
use crate::ApiState;
use crate::page::{List, PageParameters};

/// The word that stands for every event type.
const EVERY_TYPE: &str = "*";

pub(super) fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::default()
        .routes(routes!(create, list))
        .routes(routes!(read, change, delete))
        .routes(routes!(test))
}

/// Whether an endpoint takes deliveries.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EndpointStatus)]
pub(super) enum StatusName {
    Enabled,
    Disabled,
}

/// A URL that wants events.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
pub(super) struct EndpointResource {
    /// Its id, the same in every API.
    #[schema(example = "wh_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    id: String,
    /// The id of its account.
    #[schema(example = "acct_019b8d2f7a5c7c3e9a4b1f0e2d3c4b5a")]
    account: String,
    /// Where deliveries go.
    #[schema(format = "uri", example = "https://hooks.customer.com/postrider")]
    url: String,
    /// Whether it takes deliveries.
    status: StatusName,
    /// Why it is disabled: `requested`, or `gone` when it answered 410.
    #[schema(required, example = json!(null))]
    disabled_reason: Option<&'static str>,
    /// The event types it wants; `["*"]` is every one.
    #[schema(example = json!(["*"]))]
    events: Vec<String>,
    /// The only entity whose events it wants.
    #[schema(required, example = json!(null))]
    entity_id: Option<String>,
    /// A note.
    #[schema(required, example = json!(null))]
    description: Option<String>,
    /// Headers added to each request.
    #[schema(value_type = BTreeMap<String, String>, example = json!({}))]
    headers: HeaderFields,
    /// When it was created.
    #[schema(format = "date-time")]
    created_at: String,
    /// When it was last changed.
    #[schema(format = "date-time")]
    updated_at: String,
    /// Attempts on their way to it at once; null is the installation's default.
    #[schema(required, example = json!(null))]
    max_in_flight: Option<usize>,
    /// Seconds to wait before each attempt; null is the installation's default.
    #[schema(required, example = json!(null))]
    retry_schedule: Option<Vec<u64>>,
    /// The condition on `data` that its events must meet, in CEL.
    #[schema(required, example = json!(null))]
    filter: Option<String>,
    /// `fifo`, `fifo_by_key`, or null: none of its deliveries waits for another.
    #[schema(required, example = json!(null))]
    ordering: Option<&'static str>,
    /// Attempts begun in a second, at most; null is no limit.
    #[schema(required, example = json!(null))]
    rate_limit: Option<u32>,
    /// The time limit of one attempt, in seconds; null is the contract's: 15 for `standard`, 5 for
    /// the others.
    #[schema(required, example = json!(null))]
    timeout_seconds: Option<u64>,
    /// What its owner wants to remember about it; never sent.
    #[schema(example = json!({}))]
    metadata: BTreeMap<String, String>,
    /// The certificate that is shown to a receiver that asks for one; its key is never shown.
    #[schema(required, example = json!(null))]
    client_certificate: Option<ClientCertificate>,
    /// How the token that each delivery carries is got; the secret is never shown.
    #[schema(required, example = json!(null))]
    oauth2: Option<OAuth2Resource>,
    /// Until when the secret before the present one signs too; null when there is none.
    #[schema(required, format = "date-time", example = json!(null))]
    previous_signs_until: Option<String>,
    /// How it is.
    health: HealthResource,
}

impl EndpointResource {
    fn of(engine: &Engine, endpoint: Endpoint) -> Self {
        let health = HealthResource::of(engine, &endpoint);
        let headers = endpoint.headers.iter();
        Self {
            id: endpoint.id.to_string(),
            account: endpoint.account.to_string(),
            url: endpoint.url.as_str().to_owned(),
            status: match endpoint.status {
                EndpointStatus::Enabled => StatusName::Enabled,
                EndpointStatus::Disabled(_) => StatusName::Disabled,
            },
            disabled_reason: endpoint.status.disabled_reason().map(DisabledReason::name),
            events: match endpoint.subscription {
                Subscription::All => vec![EVERY_TYPE.to_owned()],
                Subscription::Listed(types) => types.iter().map(ToString::to_string).collect(),
            },
            entity_id: endpoint.entity_id.map(|id| id.as_str().to_owned()),
            description: endpoint.description,
            headers: HeaderFields(
                headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            ),
            created_at: endpoint.created_at.to_rfc3339_millis(),
            updated_at: endpoint.updated_at.to_rfc3339_millis(),
            max_in_flight: endpoint.max_in_flight.map(MaxInFlight::get),
            retry_schedule: endpoint.retry_schedule.map(|schedule| {
                schedule.waits().iter().map(std::time::Duration::as_secs).collect()
            }),
            filter: endpoint.filter.map(|filter| filter.as_str().to_owned()),
            ordering: (endpoint.order != DeliveryOrder::Any).then(|| endpoint.order.name()),
            rate_limit: endpoint.rate.map(RatePerSecond::get),
            timeout_seconds: endpoint.timeout.map(|timeout| timeout.get().as_secs()),
            metadata: endpoint.metadata.entries().clone(),
            client_certificate: endpoint.client_identity.as_ref().map(ClientCertificate::from),
            oauth2: endpoint.client_credentials.as_ref().map(OAuth2Resource::from),
            previous_signs_until: endpoint
                .previous_secret
                .map(|previous| previous.signs_until.to_rfc3339_millis()),
            health,
        }
    }
}

/// A new endpoint and what signs its deliveries.
#[derive(Serialize, ToSchema)]
pub(super) struct EndpointWithSecret {
    #[serde(flatten)]
    endpoint: EndpointResource,
    /// What signs its deliveries.
    #[schema(example = "whsec_…")]
    secret: String,
}

impl EndpointWithSecret {
    pub(super) fn of(engine: &Engine, endpoint: Endpoint) -> Self {
        let secret = endpoint.secret.reveal().to_owned();
        Self { endpoint: EndpointResource::of(engine, endpoint), secret }
    }
}

/// What is said of a new endpoint.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct EndpointCreation {
    /// Where deliveries go: public HTTPS, unless the installation allows more.
    #[schema(format = "uri", example = "https://hooks.customer.com/postrider")]
    url: String,
    /// The event types it wants, at most 500; `["*"]`, null or nothing is every one. Those of
    /// `standard` accounts may end with a `*`: `video.*` is every type that begins with `video.`.
    #[schema(example = json!(["*"]))]
    events: Option<Vec<String>>,
    /// Whether it takes deliveries.
    #[schema(nullable = false)]
    status: Option<StatusName>,
    /// The only entity whose events it wants.
    entity_id: Option<String>,
    /// A note.
    description: Option<String>,
    /// Headers to add to each request.
    headers: Option<BTreeMap<String, String>>,
    /// Attempts on their way to it at once, 1 to 32.
    max_in_flight: Option<u64>,
    /// Seconds to wait before each attempt, 1 to 30 of them, each at most 604,800; begins with 0.
    retry_schedule: Option<Vec<u64>>,
    /// A condition on `data` in CEL that its events must meet, at most 2,048 bytes.
    #[schema(max_length = 2048, example = "data.duration > 60")]
    filter: Option<String>,
    /// `fifo` for one delivery after the other, `fifo_by_key` for one after the other under each
    /// ordering key; null for as soon as possible.
    #[schema(example = "fifo_by_key")]
    ordering: Option<String>,
    /// Attempts to begin in a second, 1 to 10,000; null for no limit.
    #[schema(minimum = 1, maximum = 10_000)]
    rate_limit: Option<u64>,
    /// The time limit of one attempt in seconds, 1 to 30; null is the contract's: 15 for `standard`,
    /// 5 for the others.
    #[schema(minimum = 1, maximum = 30)]
    timeout_seconds: Option<u64>,
    /// What to remember about it, never sent: at most 50 texts of at most 500 bytes, with names of at
    /// most 40 bytes.
    metadata: Option<BTreeMap<String, String>>,
    /// The certificate to show to a receiver that asks for one, in PEM, its own first and then its
    /// issuers, at most 16 KiB. It is set and removed together with `client_key`.
    #[schema(max_length = 16_384, example = "-----BEGIN CERTIFICATE-----…")]
    client_certificate: Option<String>,
    /// The private key of the certificate, in PEM (PKCS#8, PKCS#1 or SEC1; RSA, ECDSA on P-256 or
    /// P-384, Ed25519), at most 16 KiB. It is never shown.
    #[schema(max_length = 16_384, example = "-----BEGIN PRIVATE KEY-----…")]
    client_key: Option<String>,
    /// How to get the token that each delivery carries. Goes with no header `authorization` of your
    /// own.
    oauth2: Option<OAuth2Setting>,
}

impl EndpointCreation {
    fn read(fields: &mut Fields<'_>) -> NewEndpoint {
        NewEndpoint {
            url: fields.required("url", "a string"),
            events: read_events(fields).unwrap_or_default(),
            is_disabled: read_status(fields).unwrap_or_default(),
            entity_id: fields.optional("entity_id", STRING_OR_NULL),
            description: fields.optional("description", STRING_OR_NULL),
            headers: read_headers(fields).unwrap_or_default(),
            max_in_flight: fields.optional("max_in_flight", NUMBER_OR_NULL),
            retry_schedule: fields.optional("retry_schedule", SECONDS_OR_NULL),
            filter: fields.optional("filter", STRING_OR_NULL),
            ordering: fields.optional("ordering", STRING_OR_NULL),
            rate_limit: fields.optional("rate_limit", NUMBER_OR_NULL),
            timeout_seconds: fields.optional("timeout_seconds", NUMBER_OR_NULL),
            metadata: read_metadata(fields).unwrap_or_default(),
            client_certificate: fields.optional("client_certificate", STRING_OR_NULL),
            client_key: read_client_key(fields).flatten(),
            oauth2: read_oauth2(fields).flatten(),
        }
    }
}

/// What changes about an endpoint; what is left out stays as it is, null takes a field back to its
/// default.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the fields that `read` reads")]
pub(super) struct EndpointPatch {
    /// Where deliveries go.
    #[schema(format = "uri", nullable = false, example = "https://hooks.customer.com/postrider")]
    url: Option<String>,
    /// The event types it wants, at most 500; `["*"]` or null is every one. Those of `standard`
    /// accounts may end with a `*`: `video.*` is every type that begins with `video.`.
    #[schema(example = json!(["*"]))]
    events: Option<Vec<String>>,
    /// Whether it takes deliveries.
    #[schema(nullable = false)]
    status: Option<StatusName>,
    /// The only entity whose events it wants.
    entity_id: Option<String>,
    /// A note.
    description: Option<String>,
    /// Headers to add to each request, in place of those there are.
    headers: Option<BTreeMap<String, String>>,
    /// Attempts on their way to it at once, 1 to 32.
    max_in_flight: Option<u64>,
    /// Seconds to wait before each attempt, 1 to 30 of them, each at most 604,800; begins with 0.
    retry_schedule: Option<Vec<u64>>,
    /// A condition on `data` in CEL that its events must meet, at most 2,048 bytes.
    #[schema(max_length = 2048, example = "data.duration > 60")]
    filter: Option<String>,
    /// `fifo` for one delivery after the other, `fifo_by_key` for one after the other under each
    /// ordering key; null for as soon as possible.
    #[schema(example = "fifo_by_key")]
    ordering: Option<String>,
    /// Attempts to begin in a second, 1 to 10,000; null for no limit.
    #[schema(minimum = 1, maximum = 10_000)]
    rate_limit: Option<u64>,
    /// The time limit of one attempt in seconds, 1 to 30; null is the contract's: 15 for `standard`,
    /// 5 for the others.
    #[schema(minimum = 1, maximum = 30)]
    timeout_seconds: Option<u64>,
    /// What to remember about it, in place of what there is; never sent. At most 50 texts of at most
    /// 500 bytes, with names of at most 40 bytes.
    metadata: Option<BTreeMap<String, String>>,
    /// The certificate to show to a receiver that asks for one, in PEM, its own first and then its
    /// issuers, at most 16 KiB. It is set and removed together with `client_key`.
    #[schema(max_length = 16_384, example = "-----BEGIN CERTIFICATE-----…")]
    client_certificate: Option<String>,
    /// The private key of the certificate, in PEM (PKCS#8, PKCS#1 or SEC1; RSA, ECDSA on P-256 or
    /// P-384, Ed25519), at most 16 KiB. It is never shown.
    #[schema(max_length = 16_384, example = "-----BEGIN PRIVATE KEY-----…")]
    client_key: Option<String>,
    /// How to get the token that each delivery carries. Goes with no header `authorization` of your
    /// own.
    oauth2: Option<OAuth2Setting>,
}

impl EndpointPatch {
    fn read(fields: &mut Fields<'_>) -> EndpointEdit {
        EndpointEdit {
            url: fields.present("url", "a string"),
            events: read_events(fields),
            is_disabled: read_status(fields),
            entity_id: fields.nullable("entity_id", STRING_OR_NULL),
            description: fields.nullable("description", STRING_OR_NULL),
            headers: read_headers(fields),
            max_in_flight: fields.nullable("max_in_flight", NUMBER_OR_NULL),
            retry_schedule: fields.nullable("retry_schedule", SECONDS_OR_NULL),
            filter: fields.nullable("filter", STRING_OR_NULL),
            ordering: fields.nullable("ordering", STRING_OR_NULL),
            rate_limit: fields.nullable("rate_limit", NUMBER_OR_NULL),
            timeout_seconds: fields.nullable("timeout_seconds", NUMBER_OR_NULL),
            metadata: read_metadata(fields),
            client_certificate: fields.nullable("client_certificate", STRING_OR_NULL),
            client_key: read_client_key(fields),
            oauth2: read_oauth2(fields),
        }
    }
}

const STRING_OR_NULL: &str = "a string or null";
const NUMBER_OR_NULL: &str = "a whole number or null";
const SECONDS_OR_NULL: &str = "a list of whole seconds, or null";

fn read_status(fields: &mut Fields<'_>) -> Option<bool> {
    let status = fields.present("status", "`enabled` or `disabled`");
    status.map(|status| matches!(status, StatusName::Disabled))
}

fn read_events(fields: &mut Fields<'_>) -> Option<Events> {
    let names: Option<Vec<String>> =
        fields.nullable("events", "a list of event types, `[\"*\"]` or null")?;
    match names {
        None => Some(Events::All),
        Some(names) if !names.iter().any(|name| name == EVERY_TYPE) => Some(Events::Listed(names)),
        Some(names) => {
            if names.len() > 1 {
                fields.refuse("events", "must name either `*` alone or event types");
            }
            Some(Events::All)
        }
    }
}

fn read_headers(fields: &mut Fields<'_>) -> Option<Vec<(String, String)>> {
    let headers: Option<HeaderFields> =
        fields.nullable("headers", "an object of strings, or null")?;
    Some(headers.unwrap_or_default().0)
}

/// Create an endpoint of the account.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/endpoints",
    operation_id = "createEndpoint",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The account's id")),
    request_body = EndpointCreation,
    responses(
        (status = 201, description = "The endpoint and its secret", body = EndpointWithSecret),
        OfEvery,
        OfFinding,
        OfBody,
        OfConflict
    )
)]
async fn create(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(account): PathId<AccountId>,
    body: JsonBody,
) -> Answer {
    let new = fields::read_body(&body.0, EndpointCreation::read)?;
    let endpoint = state.engine.create_endpoint(caller.0, account, new).await?;
    let location = format!("/api/v1/endpoints/{}", endpoint.id);
    let shown = EndpointWithSecret::of(&state.engine, endpoint);
    Ok(answer::located(answer::created(&shown), &location))
}

/// List the account's endpoints, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/accounts/{id}/endpoints",
    operation_id = "listEndpoints",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The account's id"), PageParameters),
    responses(
        (status = 200, description = "One page", body = List<EndpointResource>),
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
    let endpoints = state.engine.list_endpoints(caller.0, account, page).await?;
    let shown = endpoints.map(|endpoint| EndpointResource::of(&state.engine, endpoint));
    Ok(answer::ok(&List::from(shown)))
}

/// Read an endpoint.
#[utoipa::path(
    get,
    path = "/api/v1/endpoints/{id}",
    operation_id = "readEndpoint",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    responses(
        (status = 200, description = "The endpoint", body = EndpointResource),
        OfEvery,
        OfFinding
    )
)]
async fn read(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
) -> Answer {
    let endpoint = state.engine.endpoint(caller.0, id).await?;
    Ok(answer::ok(&EndpointResource::of(&state.engine, endpoint)))
}

/// Change an endpoint.
///
/// Holds from the answer on: the next attempt of every pending delivery goes by it.
#[utoipa::path(
    patch,
    path = "/api/v1/endpoints/{id}",
    operation_id = "changeEndpoint",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = EndpointPatch,
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointResource),
        OfEvery,
        OfFinding,
        OfBody
    )
)]
async fn change(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
    body: JsonBody,
) -> Answer {
    let edit = fields::read_body(&body.0, EndpointPatch::read)?;
    let endpoint = state.engine.change_endpoint(caller.0, id, edit).await?;
    Ok(answer::ok(&EndpointResource::of(&state.engine, endpoint)))
}

/// Delete an endpoint; its pending deliveries are cancelled at once.
#[utoipa::path(
    delete,
    path = "/api/v1/endpoints/{id}",
    operation_id = "deleteEndpoint",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    responses((status = 204, description = "It is gone"), OfEvery, OfFinding)
)]
async fn delete(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
) -> Answer {
    state.engine.delete_endpoint(caller.0, id).await?;
    Ok(answer::no_content())
}

/// What to test an endpoint with.
#[derive(ToSchema)]
pub(super) struct EndpointTest {
    /// The type of the event; otherwise one that the endpoint subscribed to.
    #[schema(example = "generated_avatar_video_success")]
    r#type: Option<String>,
}

impl EndpointTest {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self { r#type: fields.optional("type", STRING_OR_NULL) }
    }
}

/// Send a sample event to this endpoint only, now.
///
/// It goes the way of every event: it is stored, signed, delivered and tried again. The body may
/// be left out.
#[utoipa::path(
    post,
    path = "/api/v1/endpoints/{id}/test",
    operation_id = "testEndpoint",
    tag = "Endpoints",
    security(("operatorKey" = []), ("accountKey" = [])),
    params(("id" = String, Path, description = "The endpoint's id")),
    request_body = Option<EndpointTest>,
    responses(
        (status = 202, description = "The event is stored and on its way", body = Receipt),
        OfEvery,
        OfFinding,
        OfConflict,
        OfBody
    )
)]
async fn test(
    State(state): State<ApiState>,
    caller: Authenticated,
    PathId(id): PathId<EndpointId>,
    body: JsonBody,
) -> Answer {
    let EndpointTest { r#type } = fields::read_optional_body(&body.0, EndpointTest::read)?;
    let published = state.engine.publish_test(caller.0, id, r#type.as_deref()).await?;
    Ok(answer::accepted(&Receipt::from(published)))
}
