//! Answers: a status and a resource as JSON.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::problem::Problem;

/// What every handler answers.
pub(super) type Answer = Result<Response, Problem>;

/// 200 and the resource.
pub(super) fn ok(resource: &impl Serialize) -> Response {
    json(StatusCode::OK, resource)
}

/// 201 and the resource.
pub(super) fn created(resource: &impl Serialize) -> Response {
    json(StatusCode::CREATED, resource)
}

/// The same answer, which says where the resource is to be read from now on.
pub(super) fn located(mut answer: Response, location: &str) -> Response {
    let location = HeaderValue::from_str(location).expect("paths of ours are ASCII");
    answer.headers_mut().insert(LOCATION, location);
    answer
}

/// 202 and the resource.
pub(super) fn accepted(resource: &impl Serialize) -> Response {
    json(StatusCode::ACCEPTED, resource)
}

/// 204.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// Answers may carry secrets, so none is to be kept on the way (RFC 9111, section 5.2.2.5).
fn json(status: StatusCode, resource: &impl Serialize) -> Response {
    let body = serde_json::to_vec(resource).expect("resources are text, numbers and JSON");
    let mut answer = (status, body).into_response();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
