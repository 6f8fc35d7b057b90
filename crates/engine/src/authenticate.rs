//! Who a key belongs to.
//!
//! Promise: a revoked key opens nothing once its revocation has answered; a wrong key costs no
//! storage read unless its checksum is right; comparison is in constant time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::account::Account;
use domain::audit::Actor;
use domain::id::{AccountId, KeyId};
use domain::time::Timestamp;
use store::catalogue::KeyRecord;

use crate::Engine;
use crate::audit::note::Deed;
use crate::error::EngineError;
use crate::keys::{self, ApiKey, OPERATOR_KEY_PREFIX};
use crate::rate::{BucketStatus, RateStatus};
use crate::scope::Caller;
use crate::settings::{JOGG_V2_POST_WINDOW, JOGG_V2_POSTS_MAX};

/// Keys looked up in storage at once: half of what an embedded store reads at once.
pub(crate) const KEY_LOOKUPS_MAX: usize = 2;

/// Most keys whose last use waits to be written; uses beyond it go unnoted until then.
const NOTED_MAX: usize = 10_000;

/// When keys were last used, until it is written down.
#[derive(Default)]
pub(crate) struct KeyUses(Mutex<HashMap<KeyId, Timestamp>>);

impl KeyUses {
    fn note(&self, key: KeyId, now: Timestamp) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if uses.len() < NOTED_MAX || uses.contains_key(&key) {
            uses.insert(key, now);
        }
    }

    /// Takes what is noted.
    pub(crate) fn take(&self) -> Vec<(KeyId, Timestamp)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
            .into_iter()
            .collect()
    }
}

impl Engine {
    /// Who the key belongs to; `None` for a key that is wrong, revoked or of a deleted account,
    /// which is noted in the audit log if the key is well formed.
    pub async fn authenticate(&self, key: &str) -> Result<Option<Caller>, EngineError> {
        let hash = keys::hash(self.pepper(), key);
        if self.bootstrap_hash().is_some_and(|expected| keys::same_hash(expected, &hash)) {
            return Ok(Some(Caller::Operator { key: None }));
        }
        let Some(public_part) = keys::public_part(key) else {
            return Ok(None);
        };
        let Some(record) = self.find_key(public_part).await? else {
            self.refused(Actor::Stranger, None, public_part, "unknown or revoked").await;
            return Ok(None);
        };
        if !keys::same_hash(&record.hash, &hash) {
            self.refused(Actor::Stranger, record.account, public_part, "wrong secret").await;
            return Ok(None);
        }
        self.key_uses().note(record.id, self.clock().now());
        let Some(account) = record.account else {
            return Ok(Some(Caller::Operator { key: Some(record.id) }));
        };
        let Some(roster) = self.registry().roster(account).await? else {
            let actor = Actor::Key(record.id);
            self.refused(actor, Some(account), public_part, "account deleted").await;
            return Ok(None);
        };
        Ok(Some(Caller::Account { key: record.id, roster }))
    }

    /// The key with that public part. Those not at hand are looked up few at a time, so that a
    /// flood of made-up ones leaves storage to others.
    async fn find_key(&self, public_part: &str) -> Result<Option<Arc<KeyRecord>>, EngineError> {
        if let Some(record) = self.registry().key_at_hand(public_part) {
            return Ok(Some(record));
        }
        let turn = self.key_lookups().acquire().await;
        let _turn = turn.expect("nobody closes the semaphore");
        Ok(self.registry().key(public_part).await?)
    }

    /// Counts a request to the platform API; `None` if such callers are not limited.
    pub fn count_platform_request(&self, caller: &Caller) -> Option<BucketStatus> {
        let (rate, key) = match caller {
            Caller::Operator { key } => (self.settings().operator_key_rate, *key),
            Caller::Account { key, .. } => (self.settings().account_key_rate, Some(*key)),
        };
        // No key in storage has the id 0: ids begin with the time.
        let id = key.map_or(0, KeyId::as_u128);
        Some(self.rates().take(id, rate?, self.clock().now()))
    }

    /// Counts a `POST` of a `jogg_v2` key.
    pub fn count_jogg_v2_post(&self, key: KeyId) -> RateStatus {
        let now = self.clock().now();
        self.rates().count(key.as_u128(), JOGG_V2_POSTS_MAX, JOGG_V2_POST_WINDOW, None, now)
    }

    /// Counts a request of a `konpro_v1` account on its plan, whichever key it used; `None` without
    /// a plan.
    pub fn count_konpro_v1_request(&self, account: &Account) -> Option<RateStatus> {
        let limits = self.settings().plans.get(account.plan.as_deref()?)?;
        let now = self.clock().now();
        let minute = std::time::Duration::from_mins(1);
        let id = account.id.as_u128();
        Some(self.rates().count(id, limits.per_minute, minute, Some(limits.per_day), now))
    }

    /// Makes a first operator key if there is neither one in storage nor one in the settings.
    pub(crate) async fn make_first_operator_key(&self) -> Result<Option<ApiKey>, EngineError> {
        if self.bootstrap_hash().is_some() {
            return Ok(None);
        }
        let page = domain::page::PageRequest { before: None, limit: 1 };
        if !self.store().list_keys(None, page).await?.items.is_empty() {
            return Ok(None);
        }
        let (record, key) = self.make_key(OPERATOR_KEY_PREFIX, None);
        let deed = Deed { at: record.created_at, actor: Actor::System };
        let note = deed.key_created(&record);
        self.store().create_key(record, note).await?;
        Ok(Some(key))
    }

    pub(crate) fn make_key(&self, prefix: &str, account: Option<AccountId>) -> (KeyRecord, ApiKey) {
        let key = ApiKey::make(prefix, self.dice());
        let now = self.clock().now();
        let record = KeyRecord {
            id: KeyId::from_u128(self.dice().id(now)),
            account,
            public_part: key.public_part().to_owned(),
            hash: keys::hash(self.pepper(), key.reveal()),
            created_at: now,
            last_used_at: None,
        };
        (record, key)
    }
}
