//! List, add, update and delete endpoints.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use domain::contract::Contract;
use domain::id::EndpointId;
use domain::limits::REQUEST_BODY_BYTES_MAX;
use engine::Engine;
use engine::rate::RateStatus;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::customer::Permitted;
use super::endpoint::{EndpointFields, WebhookEndpoint};
use super::envelope::{Answer, CommonRefusals, Envelope, ErrorAnswer, Failure};
use crate::ApiState;
use crate::body::read_object;
use crate::customer::Customer;
use crate::seconds::unix_seconds_not_before;

const X_RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Every event type, for an endpoint that was given a list of them just now. Reading them then could
/// fail when all is done.
const NOT_ASKED_FOR: &[String] = &[];

/// Every endpoint of the account.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::WebhookEndpoints)]
pub(super) struct WebhookEndpoints {
    /// Oldest first, disabled ones included.
    endpoints: Vec<WebhookEndpoint>,
}

/// What is said of a deleted endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::WebhookDeleted)]
pub(super) struct WebhookDeleted {
    /// `webhook deleted`.
    #[schema(value_type = String, example = "webhook deleted")]
    message: &'static str,
}

/// List webhook endpoints
///
/// Every endpoint of the account, oldest first, with its secret.
#[utoipa::path(
    get,
    path = "/v2/endpoints",
    operation_id = "jogg_v2_list_endpoints",
    tag = super::TAG,
    responses(
        (status = 200, description = "The endpoints", body = Answer<WebhookEndpoints>),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
) -> Response {
    let list = async || {
        let endpoints = customer.endpoints_to_show(&state.engine).await?;
        let all = state.engine.event_type_names(Contract::JoggV2).await?;
        let shown =
            endpoints.iter().map(|endpoint| WebhookEndpoint::of(endpoint, &customer.account, &all));
        Ok(WebhookEndpoints { endpoints: shown.collect() })
    };
    envelope.answer(list().await)
}

/// Add webhook endpoint
///
/// An account may have 20 endpoints, disabled ones included. At most 20 of these requests are taken
/// in 60 seconds from one key, refused ones included.
#[utoipa::path(
    post,
    path = "/v2/endpoint",
    operation_id = "jogg_v2_add_endpoint",
    tag = super::TAG,
    request_body = EndpointFields,
    responses(
        (status = 200, description = "The endpoint, with its secret", body = Answer<WebhookEndpoint>,
            headers(
                ("X-RateLimit-Limit" = u32, description = "Requests allowed in 60 seconds"),
                ("X-RateLimit-Remaining" = u32, description = "Requests left of them"),
                ("X-RateLimit-Reset" = i64, description = "When more are allowed, in Unix seconds"),
            )),
        (status = 400, description = "Code 40000: a field is missing or wrong, or this would be the \
            21st endpoint", body = ErrorAnswer),
        (status = 402, description = "Code 18020: the account's credits are used up",
            body = ErrorAnswer),
        (status = 413, description = "Code 40000: the body is too large", body = ErrorAnswer),
        (status = 429, description = "Code 429: too many requests", body = ErrorAnswer,
            headers(("Retry-After" = u64, description = "Seconds to wait"))),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn add(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
    request: Request,
) -> Response {
    let rate = engine.count_jogg_v2_post(customer.key);
    let added = if rate.is_allowed {
        add_within_limit(&engine, &customer, request).await
    } else {
        Err(Failure::rate_limit_exceeded(rate.reset_at.since(engine.clock().now())))
    };
    let mut answer = envelope.answer(added);
    show(rate, answer.headers_mut());
    answer
}

async fn add_within_limit(
    engine: &Engine,
    customer: &Customer,
    request: Request,
) -> Result<WebhookEndpoint, Failure> {
    if customer.account.credits.is_some_and(|credits| credits <= 0) {
        return Err(Failure::insufficient_credit());
    }
    let fields = EndpointFields::read(read_object(request, REQUEST_BODY_BYTES_MAX).await?)?;
    let account = &customer.account;
    let endpoint = engine.create_endpoint(customer.scope(), account.id, fields.into()).await?;
    Ok(WebhookEndpoint::of(&endpoint, account, NOT_ASKED_FOR))
}

fn show(rate: RateStatus, headers: &mut HeaderMap) {
    headers.insert(X_RATE_LIMIT_LIMIT, HeaderValue::from(rate.limit));
    headers.insert(X_RATE_LIMIT_REMAINING, HeaderValue::from(rate.remaining));
    let reset_at = unix_seconds_not_before(rate.reset_at);
    headers.insert(X_RATE_LIMIT_RESET, HeaderValue::from(reset_at));
}

/// Update webhook endpoint
///
/// Replaces URL, status and events; holds from the answer on. Secret and creation time stay.
#[utoipa::path(
    put,
    path = "/v2/endpoint/{endpoint_id}",
    operation_id = "jogg_v2_update_endpoint",
    tag = super::TAG,
    params(("endpoint_id" = String, Path, description = "The endpoint's id",
        example = "wh_0197f3a07c2b7d4e8a1b2c3d4e5f6071")),
    request_body = EndpointFields,
    responses(
        (status = 200, description = "The endpoint as it is now", body = Answer<WebhookEndpoint>),
        (status = 400, description = "Code 40000: a field is missing or wrong", body = ErrorAnswer),
        (status = 404, description = "Code 10104: no such endpoint", body = ErrorAnswer),
        (status = 413, description = "Code 40000: the body is too large", body = ErrorAnswer),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn update(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let update = async || {
        let fields = EndpointFields::read(read_object(request, REQUEST_BODY_BYTES_MAX).await?)?;
        let id = read_id(id)?;
        let endpoint = engine.change_endpoint(customer.scope(), id, fields.into()).await?;
        engine.note_reveal(customer.scope(), customer.account.id).await?;
        Ok(WebhookEndpoint::of(&endpoint, &customer.account, NOT_ASKED_FOR))
    };
    envelope.answer(update().await)
}

/// Delete webhook endpoint
///
/// The endpoint gets nothing any more from the answer on. This cannot be undone.
#[utoipa::path(
    delete,
    path = "/v2/endpoint/{endpoint_id}",
    operation_id = "jogg_v2_delete_endpoint",
    tag = super::TAG,
    params(("endpoint_id" = String, Path, description = "The endpoint's id",
        example = "wh_0197f3a07c2b7d4e8a1b2c3d4e5f6071")),
    responses(
        (status = 200, description = "It is deleted", body = Answer<WebhookDeleted>),
        (status = 404, description = "Code 10104: no such endpoint", body = ErrorAnswer),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn delete(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let delete = async || {
        engine.delete_endpoint(customer.scope(), read_id(id)?).await?;
        Ok(WebhookDeleted { message: "webhook deleted" })
    };
    envelope.answer(delete().await)
}

/// Reads an endpoint id. What no id of ours looks like names no endpoint.
fn read_id(text: Result<Path<String>, PathRejection>) -> Result<EndpointId, Failure> {
    let Path(text) = text.map_err(|_| Failure::record_not_found())?;
    EndpointId::parse(&text).map_err(|_| Failure::record_not_found())
}
