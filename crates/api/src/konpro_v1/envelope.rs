//! Answers and refusals.
//!
//! Promise: a success is the bare object; a refusal has a code to branch on, words for a person,
//! the field that is wrong if one is, and the request id, and says nothing of our inside.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use engine::{EngineError, ErrorCode, Violation};
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::ApiState;
use crate::body::BodyRefusal;
use crate::fields;
use crate::request_id::RequestId;
use crate::seconds::whole_seconds;
use crate::to_the_end::Cause;

/// What a refusal's body looks like.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::Error)]
pub(crate) struct ErrorAnswer {
    /// What is wrong.
    error: ErrorBody,
    /// The request id, to be quoted when asking for help.
    #[schema(example = "req-7abb75ebf2523038874d66cf5dfb2b02")]
    request_id: String,
}

/// What is wrong with a request.
#[derive(Serialize, ToSchema)]
#[schema(as = konpro_v1::ErrorBody)]
struct ErrorBody {
    code: Code,
    /// The same in words.
    #[schema(example = "url is required")]
    message: String,
    /// The first wrong field; with `VALIDATION_ERROR` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Box<Details>>,
}

/// A wrong field.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = konpro_v1::ErrorDetails)]
struct Details {
    /// Its name.
    #[schema(example = "url")]
    field: String,
    /// What is wrong with it.
    #[schema(example = "is required")]
    reason: String,
}

/// What kind of refusal it is (KonPro v1, "Error Responses").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = konpro_v1::ErrorCode)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Code {
    InvalidApiKey,
    InsufficientPermissions,
    ResourceNotFound,
    InvalidRequest,
    ValidationError,
    RateLimitExceeded,
    ProcessingError,
    ServiceUnavailable,
}

/// Refusals that every operation may answer with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers for the OpenAPI document; never built")]
pub(crate) enum CommonRefusals {
    /// `INVALID_API_KEY`: the key is missing or wrong
    #[response(status = 401)]
    InvalidApiKey(ErrorAnswer),
    /// `INSUFFICIENT_PERMISSIONS`: the account may not use the API
    #[response(status = 403)]
    InsufficientPermissions(ErrorAnswer),
    /// `RATE_LIMIT_EXCEEDED`: too many requests for the account's plan; `Retry-After` says how many
    /// seconds to wait
    #[response(status = 429)]
    RateLimitExceeded(ErrorAnswer),
    /// `PROCESSING_ERROR`: our fault
    #[response(status = 500)]
    ProcessingError(ErrorAnswer),
    /// `SERVICE_UNAVAILABLE`: not just now; `Retry-After` says how many seconds to wait
    #[response(status = 503)]
    ServiceUnavailable(ErrorAnswer),
}

/// Writes the answers to one request.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    id: RequestId,
}

impl FromRequestParts<ApiState> for Envelope {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        Ok(Self::new(RequestId::from_request_parts(parts, state).await?))
    }
}

impl Envelope {
    pub(crate) fn new(id: RequestId) -> Self {
        Self { id }
    }

    /// What was asked for, or why not.
    pub(crate) fn answer<T: Serialize>(self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(body) => json(StatusCode::OK, &body),
            Err(failure) => self.refuse(failure),
        }
    }

    /// Why not.
    pub(crate) fn refuse(self, failure: Failure) -> Response {
        let Failure { code, status, message, details, retry_after, allow, cause } = failure;
        let body = ErrorAnswer {
            error: ErrorBody { code, message, details },
            request_id: format!("req-{}", self.id),
        };
        let mut answer = json(status, &body);
        let headers = answer.headers_mut();
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(allow) = allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(cause) = cause {
            answer.extensions_mut().insert(cause);
        }
        answer
    }
}

/// Answers may carry secrets, so none is to be kept on the way.
fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("answers have text keys and no failing parts");
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    status: StatusCode,
    message: String,
    details: Option<Box<Details>>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    cause: Option<Cause>,
}

impl Failure {
    fn new(code: Code, status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, status, message, details: None, retry_after: None, allow: None, cause: None }
    }

    /// No key, or none that opens this API.
    pub(crate) fn invalid_api_key() -> Self {
        let message = "the API key is missing or not valid";
        Self::new(Code::InvalidApiKey, StatusCode::UNAUTHORIZED, message)
    }

    /// The platform has withdrawn API access.
    pub(crate) fn insufficient_permissions() -> Self {
        let message = "the account has no API access";
        Self::new(Code::InsufficientPermissions, StatusCode::FORBIDDEN, message)
    }

    /// Unknown, or another account's.
    pub(crate) fn not_found(message: &str) -> Self {
        Self::new(Code::ResourceNotFound, StatusCode::NOT_FOUND, message)
    }

    /// An endpoint that is unknown, or another account's.
    pub(crate) fn no_such_endpoint() -> Self {
        Self::not_found("no such endpoint")
    }

    /// Too many requests; ask again after `wait`.
    pub(crate) fn rate_limit_exceeded(wait: Duration) -> Self {
        let message = "too many requests for the account's plan; ask again later";
        let failure = Self::new(Code::RateLimitExceeded, StatusCode::TOO_MANY_REQUESTS, message);
        Self { retry_after: Some(wait), ..failure }
    }

    /// The path is known, but not for this method.
    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let message = format!("the method must be {allow}");
        let failure = Self::new(Code::InvalidRequest, StatusCode::METHOD_NOT_ALLOWED, message);
        Self { allow: Some(allow), ..failure }
    }
}

impl From<BodyRefusal> for Failure {
    fn from(refusal: BodyRefusal) -> Self {
        Self::new(Code::InvalidRequest, refusal.status(), refusal.to_string())
    }
}

impl From<Vec<Violation>> for Failure {
    fn from(wrong: Vec<Violation>) -> Self {
        let message = fields::sentence(&wrong);
        let first = wrong.into_iter().next();
        let details = first.map(|Violation { field, reason }| Box::new(Details { field, reason }));
        Self { details, ..Self::new(Code::ValidationError, StatusCode::BAD_REQUEST, message) }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let (retry_after, cause) = (error.retry_after(), Cause::of(&error));
        let because = |code, status| Self::new(code, status, error.message());
        let failure = match error.code() {
            ErrorCode::NotFound => because(Code::ResourceNotFound, StatusCode::NOT_FOUND),
            ErrorCode::Invalid => error.violations().to_vec().into(),
            ErrorCode::TooLarge => because(Code::InvalidRequest, StatusCode::PAYLOAD_TOO_LARGE),
            ErrorCode::Conflict | ErrorCode::LimitReached | ErrorCode::InsufficientCredit => {
                because(Code::InvalidRequest, StatusCode::BAD_REQUEST)
            }
            ErrorCode::NoApiAccess => Self::insufficient_permissions(),
            ErrorCode::RateLimited => Self::rate_limit_exceeded(retry_after.unwrap_or_default()),
            ErrorCode::Unavailable => {
                let message = "the service is unavailable just now; ask again later";
                Self::new(Code::ServiceUnavailable, StatusCode::SERVICE_UNAVAILABLE, message)
            }
            ErrorCode::Internal => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(Code::ProcessingError, status, "the request could not be processed")
            }
        };
        Self { retry_after, cause, ..failure }
    }
}
