//! Whether the store still takes writes.
//!
//! Promise: once broken or closed, it stays so; broken outranks closed.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use store::StoreError;

/// Shared by callers, writer and checkpointer.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    broken: OnceLock<String>,
    closed: AtomicBool,
}

impl Condition {
    /// From now on nothing may be acknowledged. The first reason is the one kept.
    pub(crate) fn set_broken(&self, why: String) {
        tracing::error!(%why, "storage cannot be trusted: no more writes until a restart");
        // A second reason is a consequence of the first.
        let _ = self.broken.set(why);
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
