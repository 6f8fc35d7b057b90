//! Who asks, and what they may see.
//!
//! Promise: an account sees and acts on its own objects; everything else is not found, in the same
//! words as what does not exist. Every verb that takes an id takes a [`Scope`], which also says
//! whose name the audit log gives to what is done.

use std::sync::Arc;

use crate::registry::RosterAtHand;
use domain::audit::Actor;
use domain::id::{AccountId, KeyId};

use crate::error::EngineError;

/// Whose objects a caller may see, and with which key it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    Operator {
        /// The operator key in storage that was shown; `None` for the configuration's.
        key: Option<KeyId>,
    },
    /// One account's.
    Account {
        /// The account.
        account: AccountId,
        /// Its key that was shown.
        key: KeyId,
    },
}

impl Scope {
    /// The scope of the configuration's operator key, and of Postrider's own questions.
    pub const OPERATOR: Self = Self::Operator { key: None };

    /// Refuses objects of accounts outside the scope as if they did not exist.
    pub fn check(self, owner: AccountId, what: &str) -> Result<(), EngineError> {
        match self {
            Self::Operator { .. } => Ok(()),
            Self::Account { account, .. } if account == owner => Ok(()),
            Self::Account { .. } => Err(EngineError::not_found(what)),
        }
    }

    /// Refuses what only the operator may do as if it did not exist.
    pub fn operator_only(self, what: &str) -> Result<(), EngineError> {
        match self {
            Self::Operator { .. } => Ok(()),
            Self::Account { .. } => Err(EngineError::not_found(what)),
        }
    }

    /// The account to filter lists by.
    pub fn account(self) -> Option<AccountId> {
        match self {
            Self::Operator { .. } => None,
            Self::Account { account, .. } => Some(account),
        }
    }

    /// The key that was shown; `None` for the configuration's operator key.
    pub fn key(self) -> Option<KeyId> {
        match self {
            Self::Operator { key } => key,
            Self::Account { key, .. } => Some(key),
        }
    }

    /// What the audit log calls whoever asks.
    pub fn actor(self) -> Actor {
        self.key().map_or(Actor::Operator, Actor::Key)
    }
}

/// A caller whose key is good.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The operator.
    Operator {
        /// The operator key in storage that it used; `None` for the configuration's.
        key: Option<KeyId>,
    },
    /// An account.
    Account {
        /// The key it used.
        key: KeyId,
        /// The account and its endpoints as they stand.
        roster: Arc<RosterAtHand>,
    },
}

impl Caller {
    /// What it may see.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Operator { key } => Scope::Operator { key: *key },
            Self::Account { key, roster } => {
                Scope::Account { account: roster.account.id, key: *key }
            }
        }
    }
}
