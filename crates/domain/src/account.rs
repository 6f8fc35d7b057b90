//! An account: a customer of the platform, under which everything else lives.

use thiserror::Error;

use crate::contract::Contract;
use crate::id::AccountId;
use crate::limits::USERNAME_LENGTH_MAX;
use crate::time::Timestamp;

/// A customer of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its name, unique in the installation.
    pub username: Username,
    /// Its contract; never changes.
    pub contract: Contract,
    /// Its rate plan, if any; plans are named in the configuration.
    pub plan: Option<String>,
    /// What is left of its credits; `None` when the platform does not track them.
    pub credits: Option<i64>,
    /// Whether the platform lets it use the contract's API.
    pub api_access: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What may be changed about an account; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// New plan; `Some(None)` removes it.
    pub plan: Option<Option<String>>,
    /// New credits; `Some(None)` stops tracking.
    pub credits: Option<Option<i64>>,
    /// New API access.
    pub api_access: Option<bool>,
}

impl AccountChange {
    /// Applies the change.
    pub fn apply(self, account: &mut Account) {
        if let Some(plan) = self.plan {
            account.plan = plan;
        }
        if let Some(credits) = self.credits {
            account.credits = credits;
        }
        if let Some(api_access) = self.api_access {
            account.api_access = api_access;
        }
    }
}

/// The name of an account: 1–100 characters, no control characters, no white space at the ends,
/// and not of the form of an account id, since callers may use either to name an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Username(String);

/// Why a text is not a username.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UsernameError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Over [`USERNAME_LENGTH_MAX`] characters.
    #[error("must have at most {USERNAME_LENGTH_MAX} characters")]
    TooLong,
    /// A control character, or white space at an end.
    #[error("must not contain control characters, nor begin or end with white space")]
    BadCharacter,
    /// Looks like an account id.
    #[error("must not begin with `acct_`, which is kept for account ids")]
    LooksLikeId,
}

impl Username {
    /// Reads a username.
    pub fn parse(text: &str) -> Result<Self, UsernameError> {
        if text.is_empty() {
            return Err(UsernameError::Empty);
        }
        if text.chars().count() > USERNAME_LENGTH_MAX {
            return Err(UsernameError::TooLong);
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(UsernameError::BadCharacter);
        }
        if text.starts_with(AccountId::PREFIX) {
            return Err(UsernameError::LooksLikeId);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_username_is_short_printable_and_no_id() {
        let check = |text: &str, expected: Result<(), UsernameError>| {
            assert_eq!(Username::parse(text).map(|_| ()), expected, "{text:?}");
        };
        check("johndoe", Ok(()));
        check("jogg@gmail.com", Ok(()));
        check("Jürgen von der Lippe", Ok(()));
        check("", Err(UsernameError::Empty));
        check(&"a".repeat(101), Err(UsernameError::TooLong));
        check(" a", Err(UsernameError::BadCharacter));
        check("a\nb", Err(UsernameError::BadCharacter));
        check("acct_1", Err(UsernameError::LooksLikeId));
    }
}
