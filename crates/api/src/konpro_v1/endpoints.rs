//! List, add, update and delete endpoints.

use axum::extract::{Query, Request, State};
use axum::response::Response;
use domain::id::EndpointId;
use domain::limits::REQUEST_BODY_BYTES_MAX;
use engine::Violation;
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::customer::Permitted;
use super::endpoint::{EndpointChangeFields, NewEndpointFields, WebhookEndpoint};
use super::envelope::{CommonRefusals, Envelope, ErrorAnswer, Failure};
use crate::ApiState;
use crate::body::read_object;

/// Every endpoint of the account.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::WebhookEndpoints)]
pub(super) struct WebhookEndpoints {
    /// Oldest first, disabled ones included.
    data: Vec<WebhookEndpoint>,
}

/// What is said of a deleted endpoint.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::WebhookDeleted)]
pub(super) struct WebhookDeleted {
    /// Its id.
    #[schema(value_type = String, example = "webhook_0197f3a07c2b7d4e8a1b2c3d4e5f6071")]
    endpoint_id: String,
    /// `deleted`.
    #[schema(value_type = String, example = "deleted")]
    status: &'static str,
    /// `Webhook endpoint successfully deleted`.
    #[schema(value_type = String, example = "Webhook endpoint successfully deleted")]
    message: &'static str,
    /// When, to the second.
    #[schema(format = DateTime, example = "2024-01-15T15:45:00Z")]
    deleted_at: String,
}

/// Which endpoint to delete.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteQuery {
    /// Its id.
    #[param(example = "webhook_0197f3a07c2b7d4e8a1b2c3d4e5f6071")]
    endpoint_id: String,
}

/// List webhook endpoints
///
/// Every endpoint of the account, oldest first, with its secret.
#[utoipa::path(
    get,
    path = "/v1/webhook/endpoint.list",
    operation_id = "konpro_v1_list_endpoints",
    tag = super::TAG,
    responses((status = 200, description = "The endpoints", body = WebhookEndpoints), CommonRefusals),
    security(("x_api_key" = []))
)]
pub(super) async fn list(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
) -> Response {
    let list = async || {
        let endpoints = customer.endpoints_to_show(&engine).await?;
        let shown =
            endpoints.iter().map(|endpoint| WebhookEndpoint::of(endpoint, &customer.account));
        Ok(WebhookEndpoints { data: shown.collect() })
    };
    envelope.answer(list().await)
}

/// Add webhook endpoint
///
/// The URL is asked with an `OPTIONS` request and must answer within a second, with a status below
/// 500.
#[utoipa::path(
    post,
    path = "/v1/webhook/endpoint.add",
    operation_id = "konpro_v1_add_endpoint",
    tag = super::TAG,
    request_body = NewEndpointFields,
    responses(
        (status = 200, description = "The endpoint, with its secret", body = WebhookEndpoint),
        (status = 400, description = "`VALIDATION_ERROR`: a field is missing or wrong; \
            `INVALID_REQUEST`: the body is not JSON, or the account has too many endpoints",
            body = ErrorAnswer),
        (status = 413, description = "`INVALID_REQUEST`: the body is too large",
            body = ErrorAnswer),
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
    let add = async || {
        let fields = NewEndpointFields::read(read_object(request, REQUEST_BODY_BYTES_MAX).await?)?;
        let account = &customer.account;
        let endpoint = engine.create_endpoint(customer.scope(), account.id, fields.into()).await?;
        Ok(WebhookEndpoint::of(&endpoint, account))
    };
    envelope.answer(add().await)
}

/// Update webhook endpoint
///
/// Changes URL, events or both; holds from the answer on. Secret and creation time stay. A new URL
/// is asked with an `OPTIONS` request first.
#[utoipa::path(
    patch,
    path = "/v1/webhook/endpoint.update",
    operation_id = "konpro_v1_update_endpoint",
    tag = super::TAG,
    request_body = EndpointChangeFields,
    responses(
        (status = 200, description = "The endpoint as it is now", body = WebhookEndpoint),
        (status = 400, description = "`VALIDATION_ERROR`: a field is missing or wrong; \
            `INVALID_REQUEST`: the body is not JSON", body = ErrorAnswer),
        (status = 404, description = "`RESOURCE_NOT_FOUND`: no such endpoint", body = ErrorAnswer),
        (status = 413, description = "`INVALID_REQUEST`: the body is too large",
            body = ErrorAnswer),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn update(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
    request: Request,
) -> Response {
    let update = async || {
        let members = read_object(request, REQUEST_BODY_BYTES_MAX).await?;
        let fields = EndpointChangeFields::read(members)?;
        let id = read_id(&fields.endpoint_id)?;
        let endpoint = engine.change_endpoint(customer.scope(), id, fields.into()).await?;
        engine.note_reveal(customer.scope(), customer.account.id).await?;
        Ok(WebhookEndpoint::of(&endpoint, &customer.account))
    };
    envelope.answer(update().await)
}

/// Delete webhook endpoint
///
/// Removes the endpoint with its history; it gets nothing any more from the answer on. This cannot
/// be undone.
#[utoipa::path(
    delete,
    path = "/v1/webhook/endpoint.delete",
    operation_id = "konpro_v1_delete_endpoint",
    tag = super::TAG,
    params(DeleteQuery),
    responses(
        (status = 200, description = "It is deleted", body = WebhookDeleted),
        (status = 400, description = "`VALIDATION_ERROR`: `endpoint_id` is missing",
            body = ErrorAnswer),
        (status = 404, description = "`RESOURCE_NOT_FOUND`: no such endpoint", body = ErrorAnswer),
        CommonRefusals,
    ),
    security(("x_api_key" = []))
)]
pub(super) async fn delete(
    State(ApiState { engine, .. }): State<ApiState>,
    envelope: Envelope,
    Permitted(customer): Permitted,
    uri: Uri,
) -> Response {
    let delete = async || {
        let id = read_id(&read_query(&uri)?.endpoint_id)?;
        engine.delete_endpoint(customer.scope(), id).await?;
        Ok(WebhookDeleted {
            endpoint_id: id.to_string(),
            status: "deleted",
            message: "Webhook endpoint successfully deleted",
            deleted_at: engine.clock().now().to_rfc3339_seconds(),
        })
    };
    envelope.answer(delete().await)
}

fn read_query(uri: &Uri) -> Result<DeleteQuery, Failure> {
    let query = Query::try_from_uri(uri).map(|Query(query)| query);
    query.map_err(|_| {
        let reason = "is required, once, in the query".to_owned();
        vec![Violation { field: "endpoint_id".to_owned(), reason }].into()
    })
}

/// Reads an endpoint id. What no id of ours looks like names no endpoint.
fn read_id(text: &str) -> Result<EndpointId, Failure> {
    EndpointId::parse(text).map_err(|_| Failure::no_such_endpoint())
}
