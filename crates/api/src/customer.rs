//! The account behind a request to one of the customer contracts.
//!
//! Promise: whoever has a [`Customer`] has shown a good key of an account of that contract. A key
//! of another contract, or the operator's, is as good as none.

use domain::account::Account;
use domain::contract::Contract;
use domain::id::KeyId;
use engine::scope::{Caller, Scope};
use engine::{Engine, EngineError};
use http::HeaderMap;

use crate::key::x_api_key;

/// An account, and the key it showed.
#[derive(Clone, Debug)]
pub(crate) struct Customer {
    pub(crate) key: KeyId,
    pub(crate) account: Account,
}

impl Customer {
    /// The account of `contract` whose key is in `x-api-key`, if it is one.
    pub(crate) async fn find(
        engine: &Engine,
        contract: Contract,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, EngineError> {
        let Some(key) = x_api_key(headers) else {
            return Ok(None);
        };
        Ok(match engine.authenticate(key).await? {
            Some(Caller::Account { key, roster }) if roster.account.contract == contract => {
                Some(Self { key, account: roster.account.clone() })
            }
            _ => None,
        })
    }

    /// What it may see and change: its own.
    pub(crate) fn scope(&self) -> Scope {
        Scope::Account(self.account.id)
    }
}
