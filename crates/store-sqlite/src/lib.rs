//! The embedded store: the storage port on one SQLite file.
//!
//! Promise: everything of `store`'s port, and stable storage means a sync of the write-ahead log
//! (`synchronous=FULL`, checked). One thread writes and turns whatever waits into one transaction;
//! a few connections read beside it. One process at a time may have the file. Once a sync fails,
//! nothing is acknowledged any more. Signing secrets, custom headers, payloads, and what was sent
//! and answered are sealed in the file and in its log.
//!
//! Reading order: `migrations/` (the schema), `open.rs` (what the file must be), `writer.rs` (group
//! commit), `accept.rs`, `filing.rs` and `record.rs` (what every event costs), `claim.rs`, `ordering.rs`
//! (what waits for what), `cancel.rs`, `catalogue.rs`, `settle.rs` (deleting), `retention.rs`
//! (forgetting), `history.rs` (reading), `replays.rs`, `audit.rs`, `keys.rs` (what seals),
//! `checkpoint.rs`, `log_anew.rs`, `room.rs` (when the disk gets full), `backup.rs`. Neighbours: `store` is
//! the port, `server` opens this and hands it to the engine.

#![warn(missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use rusqlite::Connection;
use store::StoreError;
use store::vault::Vault;

mod accept;
mod audit;
mod backup;
mod cancel;
mod catalogue;
mod checkpoint;
mod claim;
mod condition;
mod endpoints;
mod event_types;
mod failure;
mod fates;
mod filing;
mod following;
mod history;
mod hot;
mod keys;
mod ledger;
mod lock;
mod log;
mod log_anew;
mod migrate;
mod open;
mod ordering;
mod page;
mod queue;
mod readers;
mod record;
mod replays;
mod retention;
mod room;
mod row;
mod sealed_texts;
mod settle;
mod soundness;
mod source;
mod space;
mod state;
mod statistics;
mod streaks;
#[cfg(test)]
mod tests;
mod upgrade;
mod walk;
mod writer;

pub use backup::{BackedUp, BackupError, back_up};
pub use open::{OpenError, SQLITE_VERSION_MIN, holds_sealed};
pub use statistics::{COMMIT_MICROS, GROUP_REQUESTS, Statistics};

use ledger::Ledger;
use readers::Readers;
use soundness::Soundness;
use statistics::Gauges;
use writer::{Haste, Writer};

/// What a method of the port answers.
type Answer<T> = Result<T, StoreError>;

/// A store in one SQLite file, and `-wal`, `-shm` and `.lock` beside it.
///
/// Dropping it without [`close`](store::Queue::close) is what a crash is: nothing acknowledged is
/// lost, and the next start reads the log.
pub struct SqliteStore {
    writer: Writer,
    readers: Arc<Readers>,
    soundness: Soundness,
    gauges: Arc<Gauges>,
    vault: Arc<Vault>,
    /// The row up to which endpoints were sealed again: where the next step carries on.
    sealed_again_to: AtomicI64,
}

impl SqliteStore {
    /// Opens the file, creating it if there is none, bringing its schema to the present version
    /// and freeing what earlier processes had leased. Takes the file's data keys into use, once the
    /// vault's master ring opens all that is sealed under it. Reads nothing else: a backlog stays
    /// where it is. Blocks on the disk.
    pub fn open(path: &Path, vault: Arc<Vault>) -> Result<Self, OpenError> {
        let opened = open::open(path, &vault)?;
        let open::Opened { writer, readers, soundness, gauges } = opened;
        let sealed_again_to = AtomicI64::new(keys::TABLE_START);
        Ok(Self { writer, readers, soundness, gauges, vault, sealed_again_to })
    }

    /// How the store did since it was opened.
    pub fn statistics(&self) -> Statistics {
        self.gauges.read()
    }

    /// The keys, for work elsewhere.
    fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault)
    }

    async fn write<T, Work>(&self, haste: Haste, weight: usize, work: Work) -> Answer<T>
    where
        T: Send + 'static,
        Work: FnOnce(&mut Ledger<'_>) -> failure::Result<T> + Send + 'static,
    {
        self.writer.write(haste, weight, work).await
    }

    async fn read<T, Work>(&self, work: Work) -> Answer<T>
    where
        T: Send + 'static,
        Work: FnOnce(&Connection) -> failure::Result<T> + Send + 'static,
    {
        self.readers.read(work).await
    }

    async fn shut(&self) -> Answer<()> {
        // Its reading would keep the log from being emptied. It stops within microseconds.
        self.soundness.stop();
        self.writer.close().await
    }
}
