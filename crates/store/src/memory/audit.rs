//! The audit log in memory.

use std::ops::Bound;

use async_trait::async_trait;
use domain::audit::{AuditEntry, AuditNote};
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use domain::page::{Page, PageRequest};

use super::history::{allows, is_within};
use super::{MemoryStore, PageBounds, page_of};
use crate::StoreError;
use crate::audit::{Audit, AuditFilter};

fn entry_passes(note: &AuditNote, filter: &AuditFilter) -> bool {
    let AuditFilter { account, action, since, until } = filter;
    (account.is_none() || *account == note.account)
        && allows(action.as_ref(), &note.action)
        && is_within(note.at, *since, *until)
}

#[async_trait]
impl Audit for MemoryStore {
    async fn note(&self, notes: Vec<AuditNote>) -> Result<(), StoreError> {
        let mut state = self.change()?;
        for note in notes {
            state.write_down(note);
        }
        Ok(())
    }

    async fn list_audit(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        let bounds = PageBounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: usize::MAX };
        let pick =
            |entry: &AuditEntry| entry_passes(&entry.note, &filter).then(|| (entry.clone(), 0));
        Ok(page_of(&self.look().audit, page, u128::from, bounds, pick))
    }

    async fn read_audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let state = self.look();
        let entries = state.audit.range((Bound::Excluded(after), Bound::Unbounded));
        Ok(entries.take(limit).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_announced(&self) -> Result<u64, StoreError> {
        Ok(self.look().announced)
    }

    async fn note_announced(&self, number: u64) -> Result<(), StoreError> {
        let mut state = self.change()?;
        state.announced = state.announced.max(number);
        Ok(())
    }
}
