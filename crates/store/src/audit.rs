//! The audit log: written in the same step as what it tells of, read, and never changed.

use async_trait::async_trait;
use domain::audit::{AuditAction, AuditEntry, AuditNote};
use domain::id::AccountId;
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;

use crate::StoreError;

/// Which entries to list; `None` does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// About this account.
    pub account: Option<AccountId>,
    /// Of this action.
    pub action: Option<AuditAction>,
    /// At this instant or later.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
}

/// The audit log. Every method of [`crate::Catalogue`], [`crate::Queue`] and [`crate::Replays`] that
/// takes a note writes it in the same step, if and only if it changes what it is asked to change; the note's
/// `at` is when the change happens. Numbers are given out in order of writing, and each entry's
/// hash is [`domain::audit::link`] of the entry before it. Deleting an account leaves its entries.
#[async_trait]
pub trait Audit: Send + Sync {
    /// Writes down what is no change: a reveal, a refused key, a start.
    async fn note(&self, notes: Vec<AuditNote>) -> Result<(), StoreError>;

    /// Entries that pass the filter, newest first. A page's `before` is an entry's number. Reads at
    /// most [`domain::limits::PAGE_ROWS_SCANNED_MAX`] rows: a page may be short and still name a
    /// next one.
    async fn list_audit(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError>;

    /// The entries after number `after`, oldest first, at most `limit`: for whoever walks the chain.
    async fn read_audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;

    /// The number of the last entry that was announced as an operational event; 0 if none was.
    async fn read_announced(&self) -> Result<u64, StoreError>;

    /// Notes that every entry up to this number was announced. A number below the last is ignored.
    async fn note_announced(&self, number: u64) -> Result<(), StoreError>;
}
