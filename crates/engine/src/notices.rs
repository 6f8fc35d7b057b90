//! Telling the platform what happened without anybody's doing: entries of the audit log become
//! events of the operations account.
//!
//! Promise: every entry of an action of [`ANNOUNCED`] that is written while there is an operations
//! account becomes one event, in the order of the log, across crashes too: the log is the outbox,
//! the mark of what was announced moves after the event is durable, and the event's idempotency key
//! is the entry's number. Nothing is left out here for being told often: who writes an entry that may
//! come in storms writes it seldom ([`Engine::note_exhausted`]: once an hour for each endpoint), and
//! of the others each takes days of failures, or a person who made it possible: enabled the endpoint,
//! began the replay. What concerns the operations account itself is never told, so that no notice
//! brings about another. Neighbours: whoever writes such an entry calls [`Engine::wake_announcer`];
//! losing the wake-up costs [`LOOK_EVERY`].

use std::time::Duration;

use bytes::Bytes;
use domain::account::Account;
use domain::audit::{AuditAction, AuditEntry};
use domain::event::IdempotencyKey;
use serde_json::{Map, Value};

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::publish::Publish;
use crate::scope::Scope;

/// What is announced; the event types are the names of the actions.
pub const ANNOUNCED: [AuditAction; 4] = [
    AuditAction::EndpointDisabled,
    AuditAction::EndpointWarned,
    AuditAction::EndpointExhausting,
    AuditAction::ReplayEnded,
];

/// How often the log is looked at when nobody woke the announcer, and how long it rests when
/// something cannot be published.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Entries read in one step: some hundred KiB at most.
const READ_AT_ONCE: usize = 500;

impl Engine {
    /// Tells the announcer that an entry was written that may have to be announced.
    pub(crate) fn wake_announcer(&self) {
        self.shared.announceable.notify_one();
    }

    /// Announces what the audit log tells, for ever.
    pub(crate) async fn run_announcer(self) {
        let mut announced = None;
        loop {
            match self.announce_some(&mut announced).await {
                Ok(true) => tokio::task::yield_now().await,
                Ok(false) => {
                    let woken = self.shared.announceable.notified();
                    let _ = tokio::time::timeout(LOOK_EVERY, woken).await;
                }
                Err(error) => {
                    let cause = error.cause().map_or(error.message(), |cause| cause);
                    tracing::warn!(error = cause, "could not announce; will try again");
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    /// Goes on in the log by one step; whether there may be more. `last` is the number of the last
    /// entry that is done with; `None` until it is read.
    async fn announce_some(&self, last: &mut Option<u64>) -> Result<bool, EngineError> {
        let announced = match *last {
            Some(announced) => announced,
            None => self.store().read_announced().await?,
        };
        *last = Some(announced);
        let entries = self.store().read_audit(announced, READ_AT_ONCE).await?;
        if entries.is_empty() {
            return Ok(false);
        }
        let operations = self.find_operations_account().await?;
        let (mut done, mut failed) = (announced, None);
        for entry in &entries {
            if let Some(operations) = &operations
                && let Err(error) = self.announce(operations, entry).await
            {
                failed = Some(error);
                break;
            }
            done = entry.number;
        }
        if done > announced {
            self.store().note_announced(done).await?;
            *last = Some(done);
        }
        failed.map_or(Ok(entries.len() == READ_AT_ONCE), Err)
    }

    /// Announces the entry if it is to be announced. Errors only when it can be announced later.
    async fn announce(&self, operations: &Account, entry: &AuditEntry) -> Result<(), EngineError> {
        let note = &entry.note;
        let is_announced = ANNOUNCED.contains(&note.action)
            && note.account != Some(operations.id)
            && note.at >= operations.created_at;
        if !is_announced {
            return Ok(());
        }
        let key = IdempotencyKey::parse(&format!("audit:{}", entry.number));
        let key = key.expect("digits are printable");
        let notice = self.notice(operations, entry).await?;
        match self.publish(Scope::OPERATOR, notice, Some((key, entry.hash))).await {
            Ok(_) => {
                self.metrics().announced(note.action);
                Ok(())
            }
            Err(error) if error.code() == ErrorCode::Unavailable => Err(error),
            Err(error) => {
                // It will be refused for ever: by a schema, or by a key that somebody else used.
                tracing::error!(%error, entry = entry.number, "an entry could not be announced");
                Ok(())
            }
        }
    }

    /// The event that tells of the entry: what the entry says, and whom it is about.
    async fn notice(
        &self,
        operations: &Account,
        entry: &AuditEntry,
    ) -> Result<Publish, EngineError> {
        let note = &entry.note;
        let mut data: Map<String, Value> = serde_json::from_str(&note.details).unwrap_or_default();
        let account = match note.account {
            Some(account) => self.registry().roster(account).await?,
            None => None,
        };
        let username = account.map(|roster| roster.account.username.as_str().to_owned());
        let kind = note.action.name().split_once('.').map_or("subject", |(kind, _)| kind);
        let id = note.account.map(|account| account.to_string());
        data.insert(kind.to_owned(), note.subject.as_str().into());
        data.insert("account".to_owned(), id.clone().into());
        data.insert("username".to_owned(), username.into());
        data.insert("at".to_owned(), note.at.to_rfc3339_millis().into());
        data.insert("audit_entry".to_owned(), entry.number.into());
        Ok(Publish {
            account: operations.id.to_string(),
            event_type: note.action.name().to_owned(),
            data: Bytes::from(Value::Object(data).to_string()),
            timestamp: Some(note.at.as_seconds()),
            deliver_at: None,
            ordering_key: Some(note.subject.clone()),
            trace: None,
            entity_ids: id.into_iter().chain([note.subject.clone()]).collect(),
        })
    }
}
