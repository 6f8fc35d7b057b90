//! Why the engine refuses or cannot: one code to branch on, words for the caller, and a separate
//! source for the operator's log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use store::StoreError;

/// What kind of refusal it is; each surface maps these to its own statuses and envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The thing asked for does not exist, or belongs to somebody else: indistinguishable.
    NotFound,
    /// The input is wrong; [`EngineError::violations`] says where.
    Invalid,
    /// The payload is over its bound.
    TooLarge,
    /// Something else is in the way: a username taken, an idempotency key used otherwise.
    Conflict,
    /// The account has as many of these as it may.
    LimitReached,
    /// The platform has withdrawn API access from the account.
    NoApiAccess,
    /// The account's credits are used up.
    InsufficientCredit,
    /// Too many requests; ask again after [`EngineError::retry_after`].
    RateLimited,
    /// Storage or capacity is lacking, or we are shutting down; ask again after
    /// [`EngineError::retry_after`].
    Unavailable,
    /// Our fault.
    Internal,
}

/// One wrong field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field as the caller named it, for example `events`.
    pub field: String,
    /// What is wrong with it, to be read after the field's name and a colon, for example `must not
    /// be empty`.
    pub reason: String,
}

/// A refusal.
#[derive(Clone, Debug)]
pub struct EngineError {
    code: ErrorCode,
    message: String,
    violations: Vec<Violation>,
    retry_after: Option<Duration>,
    cause: Option<Arc<str>>,
}

/// How long callers are asked to wait when storage is lacking: long enough not to make it worse,
/// short enough that a restart goes unnoticed by a patient client.
pub const UNAVAILABLE_RETRY_AFTER: Duration = Duration::from_secs(2);

impl EngineError {
    /// A refusal with a sentence for the caller.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            cause: None,
        }
    }

    /// The thing does not exist.
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no such {what}"))
    }

    /// One field is wrong.
    pub fn invalid(field: &str, reason: impl Into<String>) -> Self {
        Self::all_invalid(vec![Violation { field: field.to_owned(), reason: reason.into() }])
    }

    /// Several fields are wrong; there must be at least one.
    pub fn all_invalid(violations: Vec<Violation>) -> Self {
        let message = violations
            .iter()
            .map(|violation| format!("{}: {}", violation.field, violation.reason))
            .collect::<Vec<_>>()
            .join("; ");
        Self { violations, ..Self::new(ErrorCode::Invalid, message) }
    }

    /// Ask again later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unavailable, message).after(UNAVAILABLE_RETRY_AFTER)
    }

    /// The same refusal with a wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// The code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// A sentence for the caller: lower case, no full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The wrong fields, for [`ErrorCode::Invalid`].
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// What went wrong inside, for the operator's log and never for the caller.
    pub fn cause(&self) -> Option<&Arc<str>> {
        self.cause.as_ref()
    }

    /// How long to wait before asking again.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let refusal = match &error {
            StoreError::Unavailable(_) => {
                Self::unavailable("storage is unavailable just now; nothing was changed")
            }
            StoreError::Broken(_) => Self::unavailable("storage is out of order"),
            StoreError::Closed => Self::unavailable("shutting down"),
        };
        Self { cause: Some(error.to_string().into()), ..refusal }
    }
}
