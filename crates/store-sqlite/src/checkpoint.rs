//! Bringing pages from the write-ahead log to the database file, beside the commits.
//!
//! Promise: commits do not wait for it, and the log stays bounded. The thread here copies what it
//! can while the writer goes on; what was written meanwhile is a short tail that only the writer,
//! between two transactions, can finish, after which the log begins anew in the same place and a
//! sync has no new file length to record. Neighbours: `writer` calls [`Checkpointer::after_commit`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, ErrorCode};

use crate::condition::Condition;
use crate::failure::Failure;
use crate::lock::FileLock;
use crate::open::BUSY_TIMEOUT;
use crate::statistics::Gauges;

/// From this size of the log on, a checkpoint is due. Pages that many events share are copied
/// once per checkpoint, so a larger log writes less; a smaller one opens faster after a crash.
const CHECKPOINT_WAL_BYTES: u64 = 16 * 1024 * 1024;

/// How long the writer waits for readers when the log is to begin anew: everybody waits with it.
const RESTART_WAIT_MAX: Duration = Duration::from_millis(100);

/// From this size on, the writer itself waits until the log can begin anew. What it had beyond that
/// is then given back to the disk.
pub(crate) const WAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How far a checkpoint is. One at a time, and each to its end: a page that many transactions
/// change is copied once per checkpoint, so those that overlap would copy in vain.
mod stage {
    pub(super) const NONE: u8 = 0;
    /// The thread copies.
    pub(super) const COPYING: u8 = 1;
    /// What came meanwhile waits for the writer.
    pub(super) const TAIL: u8 = 2;
}

/// The thread, and when the writer must help.
pub(crate) struct Checkpointer {
    due: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    stage: Arc<AtomicU8>,
    gauges: Arc<Gauges>,
    /// The size of the log at which the writer tries next to make it begin anew.
    restart_at: u64,
}

impl Checkpointer {
    pub(crate) fn start(
        connection: Connection,
        gauges: Arc<Gauges>,
        condition: Arc<Condition>,
    ) -> std::io::Result<Self> {
        let (due, wait) = sync_channel(1);
        let stage = Arc::new(AtomicU8::new(stage::NONE));
        let shared = (Arc::clone(&stage), Arc::clone(&gauges));
        let thread = std::thread::Builder::new()
            .name("store-checkpoint".to_owned())
            .spawn(move || run(&connection, &wait, &shared.0, &shared.1, &condition))?;
        Ok(Self { due: Some(due), thread: Some(thread), stage, gauges, restart_at: WAL_BYTES_MAX })
    }

    /// Does what is due after a commit on `connection`, the writer's.
    pub(crate) fn after_commit(&mut self, connection: &Connection) -> Result<(), Failure> {
        let wal_bytes = self.gauges.wal_bytes();
        if wal_bytes < CHECKPOINT_WAL_BYTES {
            self.restart_at = WAL_BYTES_MAX;
            return Ok(());
        }
        if wal_bytes >= self.restart_at {
            // A reader that stays for long can keep the log from beginning anew; to wait for it at
            // every commit would stop everything.
            self.restart_at = wal_bytes + WAL_BYTES_MAX;
            connection.busy_timeout(RESTART_WAIT_MAX)?;
            checkpoint(connection, CheckpointMode::RESTART, &self.gauges)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            return Ok(());
        }
        match self.stage.load(Ordering::Acquire) {
            stage::TAIL => {
                checkpoint(connection, CheckpointMode::PASSIVE, &self.gauges)?;
                self.stage.store(stage::NONE, Ordering::Release);
            }
            stage::NONE => {
                self.stage.store(stage::COPYING, Ordering::Release);
                if let Some(due) = &self.due {
                    // It has room: the thread took the one before, which is why the stage is this.
                    let _ = due.try_send(());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the thread, then empties the log.
    pub(crate) fn finish(
        &mut self,
        connection: &Connection,
        lock: &FileLock,
    ) -> Result<(), Failure> {
        self.stop();
        connection.busy_timeout(RESTART_WAIT_MAX)?;
        match empty_log(connection, lock) {
            Ok(true) => self.gauges.note_checkpoint(),
            Ok(false) => {}
            Err(error) => {
                unless_hindered(error)?;
            }
        }
        Ok(())
    }

    /// Ends the thread.
    pub(crate) fn stop(&mut self) {
        self.due = None;
        if let Some(thread) = self.thread.take() {
            // It reports its failures itself.
            let _ = thread.join();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(
    connection: &Connection,
    due: &Receiver<()>,
    stage: &AtomicU8,
    gauges: &Gauges,
    condition: &Condition,
) {
    while due.recv().is_ok() {
        match checkpoint(connection, CheckpointMode::PASSIVE, gauges) {
            Ok(Progress::Done) => stage.store(stage::TAIL, Ordering::Release),
            Ok(Progress::Hindered) => stage.store(stage::NONE, Ordering::Release),
            // After a failed sync of the database file its pages may be lost, and the log, which
            // has them, would be overwritten once a later sync says that all is well.
            Err(failure) => condition.set_broken(format!("checkpoint failed: {failure}")),
        }
    }
}

/// Empties the log in good order: an index that a power loss leaves behind then knows that all of it
/// was copied, and does not miss it. `false` if somebody still reads it, or the index cannot be synced.
pub(crate) fn empty_log(connection: &Connection, lock: &FileLock) -> rusqlite::Result<bool> {
    let (frames, copied) = connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::PASSIVE)?;
    if copied < frames {
        return Ok(false);
    }
    if let Err(error) = lock.sync_index() {
        tracing::warn!(%error, "could not sync the index of the log, which is not emptied therefore");
        return Ok(false);
    }
    connection.wal_checkpoint_v2(None::<&str>, CheckpointMode::TRUNCATE).map(|_| true)
}

enum Progress {
    Done,
    /// Another checkpoint runs, or there is no space: later.
    Hindered,
}

fn checkpoint(
    connection: &Connection,
    mode: CheckpointMode,
    gauges: &Gauges,
) -> Result<Progress, Failure> {
    match connection.wal_checkpoint_v2(None::<&str>, mode) {
        Ok(_) => {
            gauges.note_checkpoint();
            Ok(Progress::Done)
        }
        Err(error) => unless_hindered(error),
    }
}

fn unless_hindered(error: rusqlite::Error) -> Result<Progress, Failure> {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull) => {
            Ok(Progress::Hindered)
        }
        _ => Err(Failure::Sqlite(error)),
    }
}
