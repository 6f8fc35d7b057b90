//! Who asks, and what they may see.
//!
//! Promise: an account sees and acts on its own objects; everything else is not found, in the same
//! words as what does not exist. Every verb that takes an id takes a [`Scope`].

use std::sync::Arc;

use domain::id::{AccountId, KeyId};
use store::catalogue::Roster;

use crate::error::EngineError;

/// Whose objects a caller may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    Operator,
    /// One account's.
    Account(AccountId),
}

impl Scope {
    /// Refuses objects of accounts outside the scope as if they did not exist.
    pub fn check(self, owner: AccountId, what: &str) -> Result<(), EngineError> {
        match self {
            Self::Operator => Ok(()),
            Self::Account(own) if own == owner => Ok(()),
            Self::Account(_) => Err(EngineError::not_found(what)),
        }
    }

    /// Refuses what only the operator may do as if it did not exist.
    pub fn operator_only(self, what: &str) -> Result<(), EngineError> {
        match self {
            Self::Operator => Ok(()),
            Self::Account(_) => Err(EngineError::not_found(what)),
        }
    }

    /// The account to filter lists by.
    pub fn account(self) -> Option<AccountId> {
        match self {
            Self::Operator => None,
            Self::Account(account) => Some(account),
        }
    }
}

/// A caller whose key is good.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The operator.
    Operator,
    /// An account.
    Account {
        /// The key it used.
        key: KeyId,
        /// The account and its endpoints as they stand.
        roster: Arc<Roster>,
    },
}

impl Caller {
    /// What it may see.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Operator => Scope::Operator,
            Self::Account { roster, .. } => Scope::Account(roster.account.id),
        }
    }
}
