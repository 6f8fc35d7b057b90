//! The account behind a request to one of the customer contracts.
//!
//! Promise: whoever has a [`Customer`] has shown a good key of an account of that contract. A key
//! of another contract, or the operator's, is as good as none.

use domain::account::Account;
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::id::KeyId;
use engine::scope::{Caller, Scope};
use engine::{Engine, EngineError};
use http::HeaderMap;

use crate::key::x_api_key;

/// Why a good key is refused, in the words of the audit log.
pub(crate) const NO_API_ACCESS: &str = "no API access";

/// An account, and the key it showed.
#[derive(Clone, Debug)]
pub(crate) struct Customer {
    pub(crate) key: KeyId,
    pub(crate) account: Account,
}

impl Customer {
    /// The account of `contract` whose key is in `x-api-key`, if it is one. Whether it has API
    /// access is left to the surface to answer; that it has none is in the audit log by then.
    pub(crate) async fn find(
        engine: &Engine,
        contract: Contract,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, EngineError> {
        let Some(key) = x_api_key(headers) else {
            return Ok(None);
        };
        let caller = engine.authenticate(key).await?;
        let Some(caller @ Caller::Account { key, roster }) = &caller else {
            return Ok(None);
        };
        if roster.account.contract != contract {
            return Ok(None);
        }
        if !roster.account.api_access {
            engine.note_refusal(caller, NO_API_ACCESS).await;
        }
        Ok(Some(Self { key: *key, account: roster.account.clone() }))
    }

    /// Every endpoint of the account, oldest first, to be shown with its secret: that they are
    /// shown is in the audit log before this answers.
    pub(crate) async fn endpoints_to_show(
        &self,
        engine: &Engine,
    ) -> Result<Vec<Endpoint>, EngineError> {
        let endpoints = engine.all_endpoints(self.scope(), self.account.id).await?;
        if !endpoints.is_empty() {
            engine.note_reveal(self.scope(), self.account.id).await?;
        }
        Ok(endpoints)
    }

    /// What it may see and change: its own.
    pub(crate) fn scope(&self) -> Scope {
        Scope::Account { account: self.account.id, key: self.key }
    }
}
