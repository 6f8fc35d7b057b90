//! The envelope around every answer, and the refusals that go into it.
//!
//! Promise: `rid` first, then `code`, `msg`, `data`; a refusal's `data` is `null` and its `msg`
//! says nothing of our inside.

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

use super::HttpStatus;
use crate::ApiState;
use crate::body::BodyRefusal;
use crate::fields;
use crate::request_id::RequestId;
use crate::seconds::whole_seconds;
use crate::to_the_end::Cause;

/// What an answer's body looks like.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::Answer)]
pub(crate) struct Answer<T> {
    /// The request id: 32 lower-case hex digits.
    #[schema(value_type = String, example = "7abb75ebf2523038874d66cf5dfb2b02")]
    rid: RequestId,
    /// 0.
    #[schema(example = 0)]
    code: u32,
    /// `Success`.
    #[schema(value_type = String, example = "Success")]
    msg: &'static str,
    /// What was asked for.
    data: T,
}

/// What a refusal's body looks like.
#[derive(Serialize, ToSchema)]
#[schema(as = jogg_v2::Error)]
pub(crate) struct ErrorAnswer {
    /// The request id: 32 lower-case hex digits.
    #[schema(value_type = String, example = "7abb75ebf2523038874d66cf5dfb2b02")]
    rid: RequestId,
    /// What kind of refusal it is: 10104 record not found, 10105 invalid API key, 18020
    /// insufficient credit, 18025 no permission to call APIs, 40000 parameter error, 429 rate limit
    /// exceeded, 50000 system error.
    #[schema(example = 40000)]
    code: u32,
    /// The same in words.
    #[schema(example = "Parameter error: url is required")]
    msg: String,
    /// Always `null`.
    #[schema(value_type = Option<Object>, required = true)]
    data: (),
}

/// Refusals that every operation may answer with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "describes answers for the OpenAPI document; never built")]
pub(crate) enum CommonRefusals {
    /// Code 10105: the key is missing or wrong
    #[response(status = 401)]
    InvalidApiKey(ErrorAnswer),
    /// Code 18025: the account may not use the API
    #[response(status = 403)]
    NoPermission(ErrorAnswer),
    /// Code 50000: our fault
    #[response(status = 500)]
    SystemError(ErrorAnswer),
}

/// Writes the answers to one request.
#[derive(Clone, Copy)]
pub(crate) struct Envelope {
    rid: RequestId,
    http_status: HttpStatus,
}

impl FromRequestParts<ApiState> for Envelope {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let rid = RequestId::from_request_parts(parts, state).await?;
        Ok(Self::new(rid, state.settings.jogg_v2_http_status))
    }
}

impl Envelope {
    pub(crate) fn new(rid: RequestId, http_status: HttpStatus) -> Self {
        Self { rid, http_status }
    }

    /// What was asked for, or why not.
    pub(crate) fn answer<T: Serialize>(self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(data) => self.succeed("Success", data),
            Err(failure) => self.refuse(failure),
        }
    }

    /// What was asked for, in these words.
    pub(crate) fn succeed<T: Serialize>(self, msg: &'static str, data: T) -> Response {
        json(StatusCode::OK, &Answer { rid: self.rid, code: 0, msg, data })
    }

    /// Why not.
    pub(crate) fn refuse(self, failure: Failure) -> Response {
        let Failure { code, status, msg, retry_after, allow, cause } = failure;
        let body = ErrorAnswer { rid: self.rid, code: code as u32, msg, data: () };
        let mut answer = json(self.http_status.of(status), &body);
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

/// The codes of refusals (JoggAI v2, "Error Handling").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    RateLimitExceeded = 429,
    RecordNotFound = 10104,
    InvalidApiKey = 10105,
    InsufficientCredit = 18020,
    NoPermission = 18025,
    ParameterError = 40000,
    SystemError = 50000,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Failure {
    code: Code,
    status: StatusCode,
    msg: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    cause: Option<Cause>,
}

impl Failure {
    fn new(code: Code, status: StatusCode, msg: impl Into<String>) -> Self {
        Self { code, status, msg: msg.into(), retry_after: None, allow: None, cause: None }
    }

    /// Unknown, or another account's.
    pub(crate) fn record_not_found() -> Self {
        Self::new(Code::RecordNotFound, StatusCode::NOT_FOUND, "Record not found")
    }

    /// No key, or none that opens this API.
    pub(crate) fn invalid_api_key() -> Self {
        Self::new(Code::InvalidApiKey, StatusCode::UNAUTHORIZED, "Invalid API key")
    }

    /// The account's credits are used up.
    pub(crate) fn insufficient_credit() -> Self {
        Self::new(Code::InsufficientCredit, StatusCode::PAYMENT_REQUIRED, "Insufficient credit")
    }

    /// The platform has withdrawn API access.
    pub(crate) fn no_permission() -> Self {
        Self::new(Code::NoPermission, StatusCode::FORBIDDEN, "No permission to call APIs")
    }

    /// Too many requests; ask again after `wait`.
    pub(crate) fn rate_limit_exceeded(wait: Duration) -> Self {
        let msg = "Rate limit exceeded. Please try again later.";
        let failure = Self::new(Code::RateLimitExceeded, StatusCode::TOO_MANY_REQUESTS, msg);
        Self { retry_after: Some(wait), ..failure }
    }

    /// The path is known, but not for this method.
    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let reason = format!("the method must be {}", allow.replace(", ", " or "));
        let failure = Self::parameter_error(StatusCode::METHOD_NOT_ALLOWED, &reason);
        Self { allow: Some(allow), ..failure }
    }

    fn parameter_error(status: StatusCode, reason: &str) -> Self {
        Self::new(Code::ParameterError, status, format!("Parameter error: {reason}"))
    }
}

impl From<BodyRefusal> for Failure {
    fn from(refusal: BodyRefusal) -> Self {
        Self::parameter_error(refusal.status(), &refusal.to_string())
    }
}

impl From<Vec<Violation>> for Failure {
    fn from(wrong: Vec<Violation>) -> Self {
        Self::parameter_error(StatusCode::BAD_REQUEST, &fields::sentence(&wrong))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let (retry_after, cause) = (error.retry_after(), Cause::of(&error));
        let failure = match error.code() {
            ErrorCode::NotFound => Self::record_not_found(),
            ErrorCode::Invalid => error.violations().to_vec().into(),
            ErrorCode::TooLarge => {
                Self::parameter_error(StatusCode::PAYLOAD_TOO_LARGE, error.message())
            }
            ErrorCode::Conflict | ErrorCode::LimitReached => {
                Self::parameter_error(StatusCode::BAD_REQUEST, error.message())
            }
            ErrorCode::NoApiAccess => Self::no_permission(),
            ErrorCode::InsufficientCredit => Self::insufficient_credit(),
            ErrorCode::RateLimited => Self::rate_limit_exceeded(retry_after.unwrap_or_default()),
            ErrorCode::Unavailable | ErrorCode::Internal => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self::new(Code::SystemError, status, "System error")
            }
        };
        Self { retry_after, cause, ..failure }
    }
}
