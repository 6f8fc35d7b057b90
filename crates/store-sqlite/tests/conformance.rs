//! The store runs the suite that every implementation of the port runs.

#![allow(clippy::unwrap_used, reason = "these are tests: an error is a failure")]

use std::sync::Arc;

use async_trait::async_trait;
use store::SharedStore;
use store::conformance::Harness;
use store::vault::a_vault;
use store_sqlite::SqliteStore;
use tempfile::TempDir;

/// A file in a directory of its own.
struct SqliteHarness {
    directory: TempDir,
}

impl SqliteHarness {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open_file(&self) -> SharedStore {
        Arc::new(SqliteStore::open(&self.directory.path().join("postrider.db"), a_vault()).unwrap())
    }
}

#[async_trait]
impl Harness for SqliteHarness {
    async fn open(&self) -> SharedStore {
        self.open_file()
    }

    /// The process that goes on here drops the store as a killed one would: the log is as the last
    /// commit left it.
    async fn reopen(&self, store: SharedStore) -> SharedStore {
        drop(store);
        self.open_file()
    }
}

store::store_conformance!(SqliteHarness::new());
