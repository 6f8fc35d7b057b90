//! A copy of the database, made while a service works on it, or while none does.
//!
//! Promise: the copy is one committed state, in one file, and holds whatever was acknowledged
//! before it was begun; it is whole, and the keys open it, or it is refused. The original is only
//! read. The service goes on: readers and writers do not wait for one another (write-ahead log). What
//! grows meanwhile is its log, which cannot begin anew while a state of before is read, so pages are
//! copied as they are and nothing else is done in that time, and a copy that takes too long is given up.
//! Neighbours: `postrider backup` chooses the place and gives the copy its name; `open` refuses a
//! copy that is put beside the log of another database.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, Transaction};
use store::vault::Vault;
use thiserror::Error;

use crate::keys::{KeysRefused, open_keys, take_into_use};
use crate::migrate::{MIGRATIONS, SEALED_SINCE, check};
use crate::open::{
    LOG_MODE_AT, OpenError, WITHOUT_LOG, check_sqlite_version, connect, log_of, of_io, of_keys,
    of_migration, of_sqlite, refuse_damaged_log_unless_in_use, refuse_log_of_another, true_name,
};
use crate::statistics::PAGE_BYTES;

/// How a copy is made.
pub(crate) struct Pace {
    /// Pages copied in one go. They are synced at once: what piles up unsynced would be waited for by
    /// the service's own syncs.
    pub(crate) pages_at_once: u16,
    /// The log may grow by as much as the copy has before the copy is given up, at least by this.
    pub(crate) log_growth_allowed: u64,
}

/// 16 MiB in one go; the log may grow by a gibibyte.
const PACE: Pace = Pace { pages_at_once: 4_096, log_growth_allowed: 1 << 30 };

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The size of the copy.
    pub bytes: u64,
    /// Events accepted until then.
    pub events: u64,
    /// Deliveries that were pending then.
    pub pending: u64,
}

/// Why there is no copy. Each text is one line that says what to do.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The database cannot be read.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// There is nothing in it.
    #[error("nothing is kept at {}", .0.display())]
    Nothing(PathBuf),
    /// The copy cannot be written.
    #[error("cannot copy to {}: {reason}", .path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What the system or SQLite says.
        reason: String,
    },
    /// No space for it.
    #[error("cannot copy to {}: the disk is full; make space, or name a file on another", .0.display())]
    Full(PathBuf),
    /// The service wrote more meanwhile than its log should hold.
    #[error(
        "copying takes too long: the service's log has grown by {grown} bytes meanwhile, and is \
         given free again; try when less is written, or write to a faster disk"
    )]
    LogTooLong {
        /// By how much, in bytes.
        grown: u64,
    },
}

/// Copies the database's present state to the file `copy`, which is there and empty, and brings it
/// to stable storage. `vault` must have the master keys that the database needs; it is not changed
/// in any other way than that the database's data keys are taken into use. Blocks on the disk.
pub fn back_up(database: &Path, copy: &Path, vault: &Vault) -> Result<BackedUp, BackupError> {
    check_sqlite_version()?;
    let database = match true_name(database) {
        Ok(name) if name.exists() => name,
        Ok(name) => return Err(BackupError::Nothing(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::Nothing(database.to_owned()));
        }
        Err(error) => return Err(of_io(database, &error).into()),
    };
    refuse_log_of_another(&database)?;
    refuse_damaged_log_unless_in_use(&database)?;
    let original = Original::open(&database, vault)?;
    let backed_up = original.hold()?.copy_to(copy, &PACE)?;
    // The log is free again.
    drop(original);
    let connection = connect(copy, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .map_err(|error| of_copy_sqlite(copy, &error))?;
    check_whole(&connection, &database)?;
    check_keys(&connection, &database, vault)?;
    Ok(backed_up)
}

/// The database, opened to be read.
pub(crate) struct Original<'a> {
    database: &'a Path,
    connection: Connection,
}

impl<'a> Original<'a> {
    /// Opens it, and checks that there is something in it, that can be read with the vault's keys.
    pub(crate) fn open(database: &'a Path, vault: &Vault) -> Result<Self, BackupError> {
        // Not read-only: to read a log that a crash left, SQLite needs to write its index.
        let connection = connect(database, OpenFlags::SQLITE_OPEN_READ_WRITE)
            .map_err(|error| of_sqlite(database, &error))?;
        let version = check(&connection, MIGRATIONS);
        if version.map_err(|refused| of_migration(database, refused))? == 0 {
            return Err(BackupError::Nothing(database.to_owned()));
        }
        check_keys(&connection, database, vault)?;
        Ok(Self { database, connection })
    }

    /// Holds its present state, and keeps its log from beginning anew until that is dropped.
    pub(crate) fn hold(&self) -> Result<State<'_>, BackupError> {
        let log_bytes_before = log_bytes(self.database);
        let hold = || {
            let transaction = self.connection.unchecked_transaction()?;
            // The first read is what holds the state.
            let read = |row: &Row<'_>| Ok([row.get(0)?, row.get(1)?]);
            let [events, pending]: [i64; 2] =
                transaction.query_row("SELECT events, pending FROM counts", [], read)?;
            Ok((transaction, events.max(0) as u64, pending.max(0) as u64))
        };
        let (transaction, events, pending) =
            hold().map_err(|error| of_sqlite(self.database, &error))?;
        Ok(State { database: self.database, transaction, log_bytes_before, events, pending })
    }
}

/// One committed state of the database, which stays as it is while the service goes on.
pub(crate) struct State<'a> {
    database: &'a Path,
    transaction: Transaction<'a>,
    log_bytes_before: u64,
    events: u64,
    pending: u64,
}

impl State<'_> {
    /// Copies it, page after page, and brings the copy to stable storage.
    pub(crate) fn copy_to(self, copy: &Path, pace: &Pace) -> Result<BackedUp, BackupError> {
        let of_copying = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt) => of_sqlite(self.database, &error).into(),
            _ => of_copy_sqlite(copy, &error),
        };
        let of_copy = |error: io::Error| of_copy_io(copy, &error);
        let file = OpenOptions::new().write(true).open(copy).map_err(of_copy)?;
        let mut target = connect(copy, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(of_copying)?;
        // What is broken off is thrown away, so nothing needs to be undone; syncing is done here.
        target
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(of_copying)?;
        let backup = Backup::new(&self.transaction, &mut target).map_err(of_copying)?;
        loop {
            match backup.step(pace.pages_at_once.into()).map_err(of_copying)? {
                StepResult::Done => break,
                StepResult::More => {}
                _ => {
                    let (path, reason) = (copy.to_owned(), "another process uses it".to_owned());
                    return Err(BackupError::Copy { path, reason });
                }
            }
            file.sync_data().map_err(of_copy)?;
            self.check_log(bytes_of(&backup), pace)?;
        }
        let bytes = bytes_of(&backup);
        drop(backup);
        drop(target);
        let Self { transaction, events, pending, .. } = self;
        // Ends what keeps the log before what may take long.
        drop(transaction);
        forget_log(&file).and_then(|()| file.sync_all()).map_err(of_copy)?;
        Ok(BackedUp { bytes, events, pending })
    }

    fn check_log(&self, copy_bytes: u64, pace: &Pace) -> Result<(), BackupError> {
        let grown = log_bytes(self.database).saturating_sub(self.log_bytes_before);
        if grown > pace.log_growth_allowed.max(copy_bytes) {
            return Err(BackupError::LogTooLong { grown });
        }
        Ok(())
    }
}

fn log_bytes(database: &Path) -> u64 {
    std::fs::metadata(log_of(database)).map_or(0, |log| log.len())
}

/// The size of the whole copy.
fn bytes_of(backup: &Backup<'_, '_>) -> u64 {
    u64::try_from(backup.progress().pagecount).unwrap_or(0) * PAGE_BYTES
}

/// Has the copy say that it has no log: it is one file, and [`refuse_log_of_another`] knows it.
fn forget_log(mut copy: &File) -> io::Result<()> {
    copy.seek(SeekFrom::Start(LOG_MODE_AT.start as u64))?;
    copy.write_all(&WITHOUT_LOG)
}

fn check_whole(copy: &Connection, database: &Path) -> Result<(), OpenError> {
    let found: String = copy
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| of_sqlite(database, &error))?;
    if found != "ok" {
        return Err(OpenError::Damaged { path: database.to_owned(), reason: found });
    }
    Ok(())
}

/// Checks that the vault's master keys open what is sealed, as far as the file's version has it.
fn check_keys(connection: &Connection, database: &Path, vault: &Vault) -> Result<(), OpenError> {
    let version = check(connection, MIGRATIONS);
    let version = version.map_err(|refused| of_migration(database, refused))?;
    let checked: Result<(), KeysRefused> = if version == MIGRATIONS.len() {
        take_into_use(connection, vault)
    } else if version >= SEALED_SINCE {
        open_keys(connection, &vault.master()).map(drop)
    } else {
        Ok(())
    };
    checked.map_err(|refused| of_keys(database, refused))
}

fn of_copy_io(copy: &Path, error: &io::Error) -> BackupError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BackupError::Full(copy.to_owned())
        }
        _ => BackupError::Copy { path: copy.to_owned(), reason: error.to_string() },
    }
}

fn of_copy_sqlite(copy: &Path, error: &rusqlite::Error) -> BackupError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => BackupError::Full(copy.to_owned()),
        _ => BackupError::Copy { path: copy.to_owned(), reason: error.to_string() },
    }
}
