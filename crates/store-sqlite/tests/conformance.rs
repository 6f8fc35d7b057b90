//! The store runs the suite that every implementation of the port runs.

#![allow(clippy::unwrap_used, reason = "these are tests: an error is a failure")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use domain::sealing::{KEY_BYTES, KeyRing, SealingKey, SealingKeyId};
use store::SharedStore;
use store::conformance::Harness;
use store::vault::Vault;
use store_sqlite::SqliteStore;
use tempfile::TempDir;

/// A vault with one master key, and chance that is never the same twice.
fn a_vault() -> Arc<Vault> {
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let fill = |bytes: &mut [u8]| {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = drawn[index % drawn.len()] ^ (index / drawn.len()) as u8;
        }
    };
    let master = SealingKey::new(SealingKeyId::from_bytes([1; 8]), [1; KEY_BYTES]);
    Arc::new(Vault::new(KeyRing::of(master), Arc::new(fill)))
}

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
