//! Who asks: the key of a request, checked before anything else of it is read.
//!
//! Promise: a good key is counted against its limit, then let in, if the platform has not withdrawn
//! API access from its account. The first refusal is the answer.

use axum::extract::FromRequestParts;
use engine::error::{EngineError, ErrorCode};
use engine::scope::{Caller, Scope};
use http::request::Parts;

use super::rate_limit::Standing;
use crate::ApiState;
use crate::customer::NO_API_ACCESS;
use crate::key;
use crate::problem::{Kind, Problem};

/// A caller with a good key, and what it may see.
pub(super) struct Authenticated(pub(super) Scope);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let wrong_key = || {
            Problem::new(
                Kind::Unauthorized,
                "send a key of this installation as `Authorization: Bearer <key>`",
            )
        };
        let key = key::bearer(&parts.headers).ok_or_else(wrong_key)?;
        let caller = state.engine.authenticate(key).await?.ok_or_else(wrong_key)?;
        if let Some(status) = state.engine.count_platform_request(&caller) {
            parts.extensions.get_or_insert_default::<Standing>().note(status)?;
        }
        if let Caller::Account { roster, .. } = &caller
            && !roster.account.api_access
        {
            state.engine.note_refusal(&caller, NO_API_ACCESS).await;
            let message = "the platform has withdrawn API access from this account";
            return Err(EngineError::new(ErrorCode::NoApiAccess, message).into());
        }
        Ok(Self(caller.scope()))
    }
}

/// A caller with an operator key; to any other this path does not exist.
pub(super) struct Operator(pub(super) Scope);

impl FromRequestParts<ApiState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        match Authenticated::from_request_parts(parts, state).await? {
            Authenticated(scope @ Scope::Operator { .. }) => Ok(Self(scope)),
            Authenticated(Scope::Account { .. }) => Err(Problem::no_such_path()),
        }
    }
}
