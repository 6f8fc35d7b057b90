//! Space given back to the disk.
//!
//! Removed rows leave free pages in the file, which are used again. What is free beyond that is cut
//! off the end of the file in small steps (`PRAGMA auto_vacuum = incremental`, which `open` and
//! `upgrade` set); the file gets shorter when the log is next brought into it.

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::retention::Step;
use crate::statistics::PAGE_BYTES;

/// Free pages that stay in the file to be used again: 4 MiB, or a twentieth of the file if that is
/// more. Where much is deleted, much comes soon.
const FREE_PAGES_KEPT: i64 = 1_024;
const FREE_PAGES_KEPT_PER_PAGE: i64 = 20;

/// Most pages that are given back in one step. Each is moved from the end of the file to a free
/// place: about 10 ms for so many.
const PAGES_GIVEN_BACK_MAX: usize = 512;

impl Ledger<'_> {
    /// Cuts free pages off the end of the file, beyond those that are kept to be used again;
    /// answers whether there are no more to cut off. They are off the disk when the log is next
    /// brought into the file.
    pub(crate) fn give_back_pages(&mut self, step: &mut Step) -> Result<bool> {
        let read = |pragma: &str| -> Result<i64> {
            Ok(self.connection.pragma_query_value(None, pragma, |row| row.get(0))?)
        };
        let pages = read("page_count")?;
        let kept = FREE_PAGES_KEPT.max(pages / FREE_PAGES_KEPT_PER_PAGE);
        let surplus = read("freelist_count")? - kept;
        if surplus <= 0 {
            return Ok(true);
        }
        let most = step.rows_left.min(PAGES_GIVEN_BACK_MAX) as i64;
        if most == 0 {
            return Ok(false);
        }
        let cut = format!("PRAGMA incremental_vacuum({})", surplus.min(most));
        let mut statement = self.connection.prepare(&cut)?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        let given_back = pages - read("page_count")?;
        step.spend(given_back.max(0) as usize);
        step.cleaned.freed_bytes += given_back.max(0) as u64 * PAGE_BYTES;
        // A file that cannot shrink must not keep us at it.
        Ok(given_back <= 0 || given_back >= surplus)
    }
}
