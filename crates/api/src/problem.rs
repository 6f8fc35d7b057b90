//! Problem documents (RFC 9457): how the platform API, and every path that belongs to no contract,
//! says no.
//!
//! Promise: one table, [`Kind::row`], holds every status, type and title; every refusal of the
//! engine has its line in it, and the compiler asks for new ones. A document carries the request's
//! id and nothing about how we work inside. Neighbours: [`crate::platform`] answers `Result<_,
//! Problem>`; [`complete`] turns problems into documents.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use engine::error::{EngineError, ErrorCode, Violation};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::BodyRefusal;
use crate::request_id::RequestId;
use crate::seconds::whole_seconds;
use crate::to_the_end::Cause;

/// The media type of problem documents (RFC 9457 section 6.1).
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request is refused, in the words of the platform API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The body is not JSON.
    Malformed,
    /// No key, or one that opens nothing.
    Unauthorized,
    /// The account's credits are used up.
    InsufficientCredit,
    /// The platform has withdrawn API access from the account.
    NoApiAccess,
    /// No such thing, or somebody else's.
    NotFound,
    /// The path exists, for other methods.
    MethodNotAllowed,
    /// The body did not arrive in time.
    TooSlow,
    /// Something else is in the way.
    Conflict,
    /// As many as there may be.
    LimitReached,
    /// Over its bound in bytes.
    TooLarge,
    /// The body is not said to be JSON.
    UnsupportedMediaType,
    /// Fields or parameters are wrong.
    Invalid,
    /// Too many requests.
    RateLimited,
    /// Our fault.
    Internal,
    /// Not just now.
    Unavailable,
}

impl Kind {
    /// Every kind.
    #[cfg(test)]
    const ALL: [Self; 15] = [
        Self::Malformed,
        Self::Unauthorized,
        Self::InsufficientCredit,
        Self::NoApiAccess,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::TooSlow,
        Self::Conflict,
        Self::LimitReached,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Invalid,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    /// Status, type and title.
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => {
                (StatusCode::BAD_REQUEST, "urn:postrider:problem:malformed", "Malformed request")
            }
            Self::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "urn:postrider:problem:unauthorized", "Invalid API key")
            }
            Self::InsufficientCredit => (
                StatusCode::PAYMENT_REQUIRED,
                "urn:postrider:problem:insufficient-credit",
                "Insufficient credit",
            ),
            Self::NoApiAccess => {
                (StatusCode::FORBIDDEN, "urn:postrider:problem:no-api-access", "No API access")
            }
            Self::NotFound => {
                (StatusCode::NOT_FOUND, "urn:postrider:problem:not-found", "Not found")
            }
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "urn:postrider:problem:method-not-allowed",
                "Method not allowed",
            ),
            Self::TooSlow => {
                (StatusCode::REQUEST_TIMEOUT, "urn:postrider:problem:too-slow", "Request timeout")
            }
            Self::Conflict => (StatusCode::CONFLICT, "urn:postrider:problem:conflict", "Conflict"),
            Self::LimitReached => {
                (StatusCode::CONFLICT, "urn:postrider:problem:limit-reached", "Limit reached")
            }
            Self::TooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "urn:postrider:problem:too-large", "Too large")
            }
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "urn:postrider:problem:unsupported-media-type",
                "Unsupported media type",
            ),
            Self::Invalid => {
                (StatusCode::UNPROCESSABLE_ENTITY, "urn:postrider:problem:invalid", "Invalid input")
            }
            Self::RateLimited => (
                StatusCode::TOO_MANY_REQUESTS,
                "urn:postrider:problem:rate-limited",
                "Too many requests",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "urn:postrider:problem:internal",
                "Internal error",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "urn:postrider:problem:unavailable",
                "Service unavailable",
            ),
        }
    }
}

/// A refusal on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    cause: Option<Cause>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), violations: Vec::new(), retry_after: None, cause: None }
    }

    /// A path that nothing is behind, or nothing that this caller may know of.
    pub(crate) fn no_such_path() -> Self {
        Self::new(Kind::NotFound, "no such path")
    }

    /// The same refusal with a wait.
    pub(crate) fn after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The document to answer, or to put into a list of answers.
    pub(crate) fn into_document(self, request_id: RequestId) -> ProblemDocument {
        let (status, r#type, title) = self.kind.row();
        let errors = self.violations.into_iter();
        ProblemDocument {
            r#type,
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: errors
                .map(|Violation { field, reason }| FieldError { field, reason })
                .collect(),
            request_id: request_id.to_string(),
        }
    }

    /// The whole answer.
    pub(crate) fn into_answer(mut self, request_id: RequestId) -> Response {
        let (kind, retry_after, cause) = (self.kind, self.retry_after, self.cause.take());
        let document = self.into_document(request_id);
        let body = serde_json::to_vec(&document).expect("text and numbers are JSON");
        let mut answer = (kind.row().0, body).into_response();
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if kind == Kind::Unauthorized {
            // RFC 9110 section 15.5.2 asks for it; RFC 6750 section 3 gives the scheme.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        if let Some(cause) = cause {
            answer.extensions_mut().insert(cause);
        }
        answer
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let kind = match error.code() {
            ErrorCode::NotFound => Kind::NotFound,
            ErrorCode::Invalid => Kind::Invalid,
            ErrorCode::TooLarge => Kind::TooLarge,
            ErrorCode::Conflict => Kind::Conflict,
            ErrorCode::LimitReached => Kind::LimitReached,
            ErrorCode::NoApiAccess => Kind::NoApiAccess,
            ErrorCode::InsufficientCredit => Kind::InsufficientCredit,
            ErrorCode::RateLimited => Kind::RateLimited,
            ErrorCode::Unavailable => Kind::Unavailable,
            ErrorCode::Internal => Kind::Internal,
        };
        Self {
            kind,
            detail: error.message().to_owned(),
            violations: error.violations().to_vec(),
            retry_after: error.retry_after(),
            cause: Cause::of(&error),
        }
    }
}

impl From<BodyRefusal> for Problem {
    fn from(refusal: BodyRefusal) -> Self {
        let kind = match refusal {
            BodyRefusal::WrongContentType | BodyRefusal::Encoded => Kind::UnsupportedMediaType,
            BodyRefusal::TooLarge(_) => Kind::TooLarge,
            BodyRefusal::TooSlow => Kind::TooSlow,
            BodyRefusal::Broken
            | BodyRefusal::Empty
            | BodyRefusal::NotJson { .. }
            | BodyRefusal::TooDeep => Kind::Malformed,
            BodyRefusal::NotObject => Kind::Invalid,
        };
        Self::new(kind, refusal.to_string())
    }
}

impl IntoResponse for Problem {
    /// An answer without a body, which [`complete`] completes: only there the request's id
    /// is known.
    fn into_response(self) -> Response {
        let mut answer = self.kind.row().0.into_response();
        answer.extensions_mut().insert(self);
        answer
    }
}

/// Answers every path that nothing is behind and that belongs to no contract.
pub(crate) async fn unknown_path(request_id: RequestId) -> Response {
    Problem::no_such_path().into_answer(request_id)
}

/// Writes the document of a problem answered without a body, and of a method that a path does not
/// have; other answers stay as they are.
pub(crate) fn complete(mut answer: Response, request_id: RequestId) -> Response {
    if let Some(problem) = answer.extensions_mut().remove::<Problem>() {
        return problem.into_answer(request_id);
    }
    if answer.status() != StatusCode::METHOD_NOT_ALLOWED {
        return answer;
    }
    let detail = "this path does not take this method; the `Allow` header lists those it takes";
    let mut document = Problem::new(Kind::MethodNotAllowed, detail).into_answer(request_id);
    if let Some(allow) = answer.headers_mut().remove(ALLOW) {
        document.headers_mut().insert(ALLOW, allow);
    }
    document
}

/// Why a request was refused (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// The kind of problem: branch on this.
    #[schema(example = "urn:postrider:problem:invalid")]
    r#type: &'static str,
    /// The kind in words.
    #[schema(example = "Invalid input")]
    title: &'static str,
    /// The HTTP status.
    #[schema(example = 422)]
    status: u16,
    /// What is wrong with this request.
    #[schema(example = "username is required")]
    detail: String,
    /// The wrong fields, one entry each; empty when it is not about fields.
    errors: Vec<FieldError>,
    /// The request's id, to find it in the log.
    #[schema(example = "0f8fad5bd9cb469fa16570867728950e")]
    request_id: String,
}

/// One wrong field.
#[derive(Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field, parameter or header.
    #[schema(example = "username")]
    field: String,
    /// What is wrong with it.
    #[schema(example = "is required")]
    reason: String,
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    #[test]
    fn every_kind_of_problem_has_its_status_type_and_title() {
        let mut table = String::new();
        for kind in Kind::ALL {
            let (status, r#type, title) = kind.row();
            writeln!(table, "{} | {type} | {title}", status.as_u16()).unwrap();
        }
        insta::assert_snapshot!(table, @r"
        400 | urn:postrider:problem:malformed | Malformed request
        401 | urn:postrider:problem:unauthorized | Invalid API key
        402 | urn:postrider:problem:insufficient-credit | Insufficient credit
        403 | urn:postrider:problem:no-api-access | No API access
        404 | urn:postrider:problem:not-found | Not found
        405 | urn:postrider:problem:method-not-allowed | Method not allowed
        408 | urn:postrider:problem:too-slow | Request timeout
        409 | urn:postrider:problem:conflict | Conflict
        409 | urn:postrider:problem:limit-reached | Limit reached
        413 | urn:postrider:problem:too-large | Too large
        415 | urn:postrider:problem:unsupported-media-type | Unsupported media type
        422 | urn:postrider:problem:invalid | Invalid input
        429 | urn:postrider:problem:rate-limited | Too many requests
        500 | urn:postrider:problem:internal | Internal error
        503 | urn:postrider:problem:unavailable | Service unavailable
        ");
    }

    #[test]
    fn a_wait_is_announced_in_whole_seconds_rounded_up() {
        let error = EngineError::unavailable("not now").after(Duration::from_millis(1_001));
        let answer = Problem::from(error).into_answer(RequestId::default());
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
}
