//! Whether the store still takes writes.
//!
//! Promise: once broken or closed, it stays so; broken outranks closed.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use store::StoreError;

/// Shared by callers, writer, readers and checkpointer.
#[derive(Debug)]
pub(crate) struct Condition {
    database: PathBuf,
    broken: OnceLock<String>,
    closed: AtomicBool,
}

impl Condition {
    /// That of a store which was just opened on the file.
    pub(crate) fn of(database: &Path) -> Self {
        let database = database.to_owned();
        Self { database, broken: OnceLock::new(), closed: AtomicBool::new(false) }
    }

    /// From now on nothing may be acknowledged. The first reason is the one kept.
    pub(crate) fn set_broken(&self, why: String) {
        // A second reason is a consequence of the first.
        if let Err(why) = self.broken.set(why) {
            tracing::debug!(%why, "storage cannot be trusted, as was said");
            return;
        }
        tracing::error!(
            why = self.broken(),
            database = %self.database.display(),
            "storage cannot be trusted: no more writes until a restart; if it is damaged, restore a backup"
        );
    }

    pub(crate) fn set_closed(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Why it cannot be trusted, if it cannot.
    pub(crate) fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// An error unless writes are taken.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.broken() {
            Some(why) => Err(StoreError::Broken(why.to_owned())),
            None if self.closed.load(Ordering::Acquire) => Err(StoreError::Closed),
            None => Ok(()),
        }
    }

    /// Why there is no writer.
    pub(crate) fn gone(&self) -> StoreError {
        self.check().err().unwrap_or_else(|| StoreError::Broken("the writer stopped".to_owned()))
    }
}
