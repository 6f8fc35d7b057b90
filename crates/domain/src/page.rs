//! Pages of lists.
//!
//! Promise: lists run from the newest to the oldest by id; a page names where the next begins, so
//! rows that arrive while somebody pages are neither repeated nor skipped.

use crate::limits::PAGE_SIZE_MAX;

/// Which page is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Only rows whose id is below this one; `None` for the first page.
    pub before: Option<u128>,
    /// Most rows to answer; 1 to [`PAGE_SIZE_MAX`].
    pub limit: usize,
}

impl PageRequest {
    /// The first page, as large as one may be.
    pub const LARGEST: Self = Self { before: None, limit: PAGE_SIZE_MAX };
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, newest first.
    pub items: Vec<T>,
    /// What to ask with for the rows after these; `None` when there are none.
    pub next_before: Option<u128>,
}

impl<T> Page<T> {
    /// The same page with each row mapped.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_before: self.next_before }
    }
}
