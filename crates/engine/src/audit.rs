//! The audit log: read, verified, and written where a look, not a change, is what is noted.
//!
//! Promise: an account reads what is about itself and nothing else; a secret is shown only after
//! the reveal is written down; strangers cannot fill the log. Neighbours: verbs that change
//! something hand their note ([`note`]) to the store together with the change; `restraint` keeps
//! looks and refusals from being written again and again.

use domain::audit::{Actor, AuditEntry, CHAIN_START, first_break};
use domain::id::{AccountId, EndpointId, KeyId};
use domain::page::{Page, PageRequest};
use store::StoreError;
use store::audit::{Audit, AuditFilter};
use store::catalogue::KeyRecord;

use crate::Engine;
use crate::audit::note::Deed;
use crate::audit::restraint::Refusal;
use crate::error::EngineError;
use crate::scope::{Caller, Scope};

mod fields;
pub(crate) mod note;
pub(crate) mod restraint;

/// Entries read in one step of verifying: some megabytes at most, and a few milliseconds of work.
const VERIFIED_AT_ONCE: usize = 1_000;

/// What walking the chain of the audit log found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditChain {
    /// Entries that are what they were when they were written; those after a break do not count.
    pub entries: u64,
    /// The hash of the last of them. Whoever keeps it elsewhere can tell later whether the end of
    /// the log was cut off, which the chain by itself cannot show.
    pub head: [u8; 32],
    /// The first number where an entry is missing or altered.
    pub first_break: Option<u64>,
}

impl Engine {
    /// Entries of the audit log that the caller may see, newest first.
    pub async fn list_audit(
        &self,
        scope: Scope,
        mut filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, EngineError> {
        if let Some(own) = scope.account() {
            if filter.account.is_some_and(|account| account != own) {
                return Err(EngineError::not_found("account"));
            }
            filter.account = Some(own);
        }
        Ok(self.store().list_audit(filter, page).await?)
    }

    /// Walks the chain of the audit log from its beginning. Operator only.
    pub async fn verify_audit(&self, scope: Scope) -> Result<AuditChain, EngineError> {
        scope.operator_only("page")?;
        Ok(walk(&**self.store()).await?)
    }

    /// Notes that every signing secret of the account is about to be shown; to be called before
    /// they are. Repeats by the same key within a minute are not written again.
    pub async fn note_reveal(&self, scope: Scope, account: AccountId) -> Result<(), EngineError> {
        scope.check(account, "account")?;
        self.note_reveal_of(scope, account, account.to_string(), account.as_u128()).await
    }

    /// Notes that the signing secret of one endpoint is about to be shown.
    pub(crate) async fn note_reveal_of_endpoint(
        &self,
        scope: Scope,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<(), EngineError> {
        self.note_reveal_of(scope, account, endpoint.to_string(), endpoint.as_u128()).await
    }

    async fn note_reveal_of(
        &self,
        scope: Scope,
        account: AccountId,
        subject: String,
        id: u128,
    ) -> Result<(), EngineError> {
        let deed = self.deed(scope);
        if !self.reveals().was_noted(scope.key(), id, deed.at) {
            self.store().note(vec![deed.secret_revealed(account, &subject)]).await?;
            self.reveals().remember(scope.key(), id, deed.at);
        }
        Ok(())
    }

    /// Notes that a good key was refused all the same, and why (for example because its account's
    /// API access was withdrawn). Never fails: what cannot be written is warned of.
    pub async fn note_refusal(&self, caller: &Caller, why: &str) {
        let scope = caller.scope();
        let Some(key) = scope.key() else { return };
        let public_part = match self.key_of(scope.account(), key).await {
            Ok(Some(record)) => record.public_part,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "could not note a refused key in the audit log");
                return;
            }
        };
        self.refused(Actor::Key(key), scope.account(), &public_part, why).await;
    }

    /// Notes that a well-formed key was refused.
    pub(crate) async fn refused(
        &self,
        actor: Actor,
        account: Option<AccountId>,
        public_part: &str,
        why: &str,
    ) {
        let deed = Deed { at: self.clock().now(), actor };
        let is_known = account.is_some() || actor != Actor::Stranger;
        let refusal = self.refusals().judge(public_part, is_known, deed.at);
        self.metrics().key_refused(refusal == Refusal::Noted);
        if refusal == Refusal::Noted
            && let Err(error) =
                self.store().note(vec![deed.key_refused(account, public_part, why)]).await
        {
            tracing::warn!(%error, "could not note a refused key in the audit log");
        }
    }

    /// The key of the account (of the operator for `None`) with that id.
    pub(crate) async fn key_of(
        &self,
        account: Option<AccountId>,
        id: KeyId,
    ) -> Result<Option<KeyRecord>, StoreError> {
        let page = PageRequest { before: id.as_u128().checked_add(1), limit: 1 };
        let newest = self.store().list_keys(account, page).await?.items.pop();
        Ok(newest.filter(|record| record.id == id))
    }

    /// What the caller does now.
    pub(crate) fn deed(&self, scope: Scope) -> Deed {
        Deed { at: self.clock().now(), actor: scope.actor() }
    }
}

/// Follows the chain from its beginning to its first break or its end, in steps.
async fn walk(log: &dyn Audit) -> Result<AuditChain, StoreError> {
    let mut chain = AuditChain { entries: 0, head: CHAIN_START, first_break: None };
    loop {
        let entries = log.read_audit(chain.entries, VERIFIED_AT_ONCE).await?;
        chain.first_break = first_break(chain.entries, chain.head, &entries);
        let is_sound = |entry: &&AuditEntry| {
            chain.first_break.is_none_or(|first_break| entry.number < first_break)
        };
        if let Some(last) = entries.iter().take_while(is_sound).last() {
            (chain.entries, chain.head) = (last.number, last.hash);
        }
        if chain.first_break.is_some() || entries.len() < VERIFIED_AT_ONCE {
            return Ok(chain);
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use domain::audit::{AuditAction, AuditNote, link};
    use domain::time::Timestamp;

    use super::*;

    /// A log of these entries, whatever they say.
    struct Log(Vec<AuditEntry>);

    impl Log {
        fn sound(length: u64) -> Self {
            let mut hash = CHAIN_START;
            let entries = (1..=length).map(|number| {
                let note = AuditNote {
                    at: Timestamp::from_seconds(0),
                    actor: Actor::System,
                    action: AuditAction::ServiceStarted,
                    account: None,
                    subject: number.to_string(),
                    details: "{}".to_owned(),
                };
                hash = link(&hash, number, &note);
                AuditEntry { number, note, hash }
            });
            Self(entries.collect())
        }
    }

    #[async_trait]
    impl Audit for Log {
        async fn note(&self, _: Vec<AuditNote>) -> Result<(), StoreError> {
            Err(StoreError::Closed)
        }

        async fn list_audit(
            &self,
            _: AuditFilter,
            _: PageRequest,
        ) -> Result<Page<AuditEntry>, StoreError> {
            Err(StoreError::Closed)
        }

        async fn read_audit(
            &self,
            after: u64,
            limit: usize,
        ) -> Result<Vec<AuditEntry>, StoreError> {
            assert!(limit <= VERIFIED_AT_ONCE, "read in steps");
            let later = self.0.iter().filter(|entry| entry.number > after);
            Ok(later.take(limit).cloned().collect())
        }

        async fn read_announced(&self) -> Result<u64, StoreError> {
            Err(StoreError::Closed)
        }

        async fn note_announced(&self, _: u64) -> Result<(), StoreError> {
            Err(StoreError::Closed)
        }
    }

    #[tokio::test]
    async fn a_sound_log_is_walked_to_its_end_in_steps() {
        for length in [0, 1, 999, 1_000, 1_001, 2_500] {
            let log = Log::sound(length);
            let head = log.0.last().map_or(CHAIN_START, |entry| entry.hash);
            let expected = AuditChain { entries: length, head, first_break: None };
            assert_eq!(walk(&log).await.unwrap(), expected, "{length}");
        }
    }

    #[tokio::test]
    async fn an_entry_altered_or_taken_out_is_found_in_whichever_step_it_is() {
        for broken in [1, 2, 1_000, 1_001, 1_500, 2_500] {
            let at = broken as usize - 1;
            let sound = Log::sound(2_501);
            let head = if at == 0 { CHAIN_START } else { sound.0[at - 1].hash };
            let found = AuditChain { entries: broken - 1, head, first_break: Some(broken) };

            let mut altered = Log::sound(2_501);
            altered.0[at].note.actor = Actor::Operator;
            assert_eq!(walk(&altered).await.unwrap(), found, "{broken}");

            let mut taken_out = sound;
            taken_out.0.remove(at);
            assert_eq!(walk(&taken_out).await.unwrap(), found, "{broken}");
        }
    }
}
