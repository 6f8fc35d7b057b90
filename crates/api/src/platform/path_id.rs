//! Ids in paths. What is not an id names nothing, and is answered like an id that names nothing.

use axum::extract::{FromRequestParts, Path};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, IdError, KeyId, ReplayId};
use engine::error::EngineError;
use http::request::Parts;

use crate::ApiState;
use crate::problem::Problem;

/// A kind of id.
pub(super) trait Named: Sized {
    /// The word for what it names.
    const WHAT: &'static str;

    /// Reads the id.
    fn parse(text: &str) -> Result<Self, IdError>;
}

macro_rules! named {
    ($($id:ident is $what:literal),*) => {
        $(impl Named for $id {
            const WHAT: &'static str = $what;

            fn parse(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        })*
    };
}

named!(
    AccountId is "account",
    KeyId is "key",
    EndpointId is "endpoint",
    EventId is "event",
    DeliveryId is "delivery",
    ReplayId is "replay"
);

/// The only id of a path.
pub(super) struct PathId<T>(pub(super) T);

impl<T: Named> FromRequestParts<ApiState> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.ok()
            .and_then(|Path(text)| T::parse(&text).ok())
            .map(Self)
            .ok_or_else(|| EngineError::not_found(T::WHAT).into())
    }
}

/// Both ids of a path: of the owner, and of what it owns.
pub(super) struct PathIds<A, B>(pub(super) A, pub(super) B);

impl<A: Named, B: Named> FromRequestParts<ApiState> for PathIds<A, B> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        path.ok()
            .and_then(|Path((a, b))| Some(Self(A::parse(&a).ok()?, B::parse(&b).ok()?)))
            .ok_or_else(|| EngineError::not_found(B::WHAT).into())
    }
}
