//! Accounts and keys, here, and endpoints, in `endpoints`: created, read, changed, deleted.
//!
//! Promise: one place checks scope, input, limits and the registration probe, whichever API asks;
//! a change holds from its answer on, because the registry forgets before the answer is given; and
//! every change leaves a note in the audit log, in the same step.

use domain::account::{Account, AccountChange, Username};
use domain::contract::Contract;
use domain::id::{AccountId, KeyId};
use domain::limits::KEYS_PER_ACCOUNT_MAX;
use domain::page::{Page, PageRequest};
use store::catalogue::{AccountCreated, KeyRecord};

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::keys::{ACCOUNT_KEY_PREFIX, ApiKey};
use crate::scope::Scope;

mod credential_fields;
mod endpoint_fields;
mod endpoints;

pub use credential_fields::{OAuth2Text, SecretText};
pub use endpoint_fields::{EndpointEdit, Events, NewEndpoint};
pub use endpoints::PROBE_TIMEOUT;
pub(crate) use endpoints::PROBES_MAX;

/// What a caller says of a new account.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its username.
    pub username: String,
    /// Its contract.
    pub contract: Contract,
    /// Its plan.
    pub plan: Option<String>,
    /// Its credits.
    pub credits: Option<i64>,
    /// Whether it may use its contract's API.
    pub api_access: bool,
}

impl Engine {
    /// Creates an account with its first key. Operator only.
    pub async fn create_account(
        &self,
        scope: Scope,
        new: NewAccount,
    ) -> Result<(Account, ApiKey), EngineError> {
        scope.operator_only("page")?;
        let username = Username::parse(&new.username)
            .map_err(|error| EngineError::invalid("username", error.to_string()))?;
        self.check_plan(new.plan.as_deref())?;
        let deed = self.deed(scope);
        let account = Account {
            id: AccountId::from_u128(self.dice().id(deed.at)),
            username,
            contract: new.contract,
            plan: new.plan,
            credits: new.credits,
            api_access: new.api_access,
            created_at: deed.at,
        };
        let (record, key) = self.make_key(ACCOUNT_KEY_PREFIX, Some(account.id));
        let note = deed.account_created(&account, &record);
        match self.store().create_account(account.clone(), record, note).await? {
            AccountCreated::Created => Ok((account, key)),
            AccountCreated::UsernameTaken => Err(EngineError::new(
                ErrorCode::Conflict,
                format!("the username `{}` is taken", account.username.as_str()),
            )),
        }
    }

    /// The account.
    pub async fn account(&self, scope: Scope, id: AccountId) -> Result<Account, EngineError> {
        scope.check(id, "account")?;
        let account = self.registry().account(id).await?;
        account.ok_or_else(|| EngineError::not_found("account"))
    }

    /// Accounts the caller may see, newest first.
    pub async fn list_accounts(
        &self,
        scope: Scope,
        page: PageRequest,
    ) -> Result<Page<Account>, EngineError> {
        match scope {
            Scope::Operator { .. } => Ok(self.store().list_accounts(page).await?),
            Scope::Account { account: own, .. } => {
                let is_after = page.before.is_none_or(|before| own.as_u128() < before);
                let items =
                    if is_after { vec![self.account(scope, own).await?] } else { Vec::new() };
                Ok(Page { items, next_before: None })
            }
        }
    }

    /// Changes plan, credits or API access. Operator only.
    pub async fn change_account(
        &self,
        scope: Scope,
        id: AccountId,
        change: AccountChange,
    ) -> Result<Account, EngineError> {
        scope.operator_only("account")?;
        self.check_plan(change.plan.as_ref().and_then(Option::as_deref))?;
        let before = self.account(scope, id).await?;
        let mut after = before.clone();
        change.clone().apply(&mut after);
        if after == before {
            return Ok(before);
        }
        let note = self.deed(scope).account_changed(&before, change.clone());
        let changed = self.store().change_account(id, change, note).await;
        self.registry().forget(id);
        changed?.ok_or_else(|| EngineError::not_found("account"))
    }

    /// Deletes an account with all it owns. Operator only.
    pub async fn delete_account(&self, scope: Scope, id: AccountId) -> Result<(), EngineError> {
        scope.operator_only("account")?;
        let roster = self.registry().roster(id).await?;
        let roster = roster.ok_or_else(|| EngineError::not_found("account"))?;
        let note = self.deed(scope).account_deleted(&roster.account);
        let deleted = self.store().delete_account(id, note).await;
        self.registry().forget_account(id, roster.account.username.as_str());
        for endpoint in &roster.endpoints {
            self.health_gone(endpoint.id);
        }
        self.wake_cleaner();
        if deleted? { Ok(()) } else { Err(EngineError::not_found("account")) }
    }

    /// Issues a key for the account.
    pub async fn issue_key(
        &self,
        scope: Scope,
        account: AccountId,
    ) -> Result<(KeyRecord, ApiKey), EngineError> {
        scope.check(account, "account")?;
        let page = PageRequest { before: None, limit: KEYS_PER_ACCOUNT_MAX };
        if self.store().list_keys(Some(account), page).await?.items.len() >= KEYS_PER_ACCOUNT_MAX {
            return Err(EngineError::new(
                ErrorCode::LimitReached,
                format!(
                    "the account has {KEYS_PER_ACCOUNT_MAX} keys, the most it may have; revoke one"
                ),
            ));
        }
        let (record, key) = self.make_key(ACCOUNT_KEY_PREFIX, Some(account));
        let note = self.deed(scope).key_created(&record);
        if self.store().create_key(record.clone(), note).await? {
            Ok((record, key))
        } else {
            Err(EngineError::not_found("account"))
        }
    }

    /// Keys of the account, newest first.
    pub async fn list_keys(
        &self,
        scope: Scope,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, EngineError> {
        self.account(scope, account).await?;
        Ok(self.store().list_keys(Some(account), page).await?)
    }

    /// Revokes a key of the account at once.
    pub async fn revoke_key(
        &self,
        scope: Scope,
        account: AccountId,
        key: KeyId,
    ) -> Result<(), EngineError> {
        scope.check(account, "key")?;
        let not_found = || EngineError::not_found("key");
        let record = self.key_of(Some(account), key).await?.ok_or_else(not_found)?;
        let note = self.deed(scope).key_revoked(&record);
        let deleted = self.store().delete_key(Some(account), key, note).await;
        self.registry().forget_key(&record.public_part);
        deleted?.map(drop).ok_or_else(not_found)
    }

    fn check_plan(&self, plan: Option<&str>) -> Result<(), EngineError> {
        let plans = &self.settings().plans;
        match plan {
            Some(plan) if !plans.contains_key(plan) => {
                let known = plans.keys().cloned().collect::<Vec<_>>().join("`, `");
                Err(EngineError::invalid("plan", format!("must be one of `{known}`, or null")))
            }
            _ => Ok(()),
        }
    }
}

/// A caller's text, cut so that it fits an error message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN_MAX: usize = 100;
    if text.chars().count() <= SHOWN_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}
