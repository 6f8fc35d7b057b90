//! What SQLite says went wrong, read as what it means for the store.
//!
//! Promise: a failure after which stable storage cannot be trusted is never taken for one that
//! passes. Neighbours: everything that touches SQLite fails with [`Failure`]; `writer` decides by
//! [`Failure::is_fatal`] whether it may go on.

use rusqlite::ErrorCode;
use store::StoreError;
use thiserror::Error;

/// Why something could not be done.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// A stored row says something that we never write. The row is lost; its neighbours are not.
    #[error("{table}.{column} of row {row} is unreadable")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row, by the hex digits of its id or by its number.
        row: String,
    },
    /// What is left of the disk is kept for what was accepted.
    #[error("the disk is nearly full")]
    NoRoom,
    /// SQLite refused a statement.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    /// SQLite refused to commit, for a reason that leaves open what is on the disk.
    #[error("commit failed: {0}")]
    Commit(rusqlite::Error),
}

/// What came of touching SQLite.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// Tells a commit's failures that left everything as it was from those that may not have.
    pub(crate) fn of_commit(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DiskFull
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::ReadOnly,
            ) => Self::Sqlite(error),
            _ => Self::Commit(error),
        }
    }

    /// Whether no write may be acknowledged any more. Read errors count: what else is on a disk
    /// that cannot be read is not known. So do errors of a sync, after which the kernel may drop
    /// what it could not write and say at the next sync that all is well.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::NoRoom => false,
            Self::Commit(_) => true,
            Self::Sqlite(error) => {
                error.sqlite_error().is_some_and(|error| error.extended_code == READONLY_DBMOVED)
                    || matches!(
                        error.sqlite_error_code(),
                        Some(
                            ErrorCode::SystemIoFailure
                                | ErrorCode::DatabaseCorrupt
                                | ErrorCode::NotADatabase
                                | ErrorCode::FileLockingProtocolFailed
                        )
                    )
            }
        }
    }
}

/// `SQLITE_READONLY_DBMOVED`: the file was moved or deleted while open.
const READONLY_DBMOVED: i32 = rusqlite::ffi::SQLITE_READONLY_DBMOVED;

/// A failure as callers get it; made once per failure and given to each who waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was changed.
    Unavailable(String),
    /// Not to be trusted.
    Broken(String),
}

impl From<&Failure> for Verdict {
    fn from(failure: &Failure) -> Self {
        let code = match failure {
            Failure::NoRoom => return Self::Unavailable(failure.to_string()),
            Failure::Sqlite(error) if !failure.is_fatal() => error.sqlite_error_code(),
            Failure::Sqlite(_) | Failure::Unreadable { .. } | Failure::Commit(_) => None,
        };
        match code {
            Some(ErrorCode::DiskFull) => Self::Unavailable("the disk is full".to_owned()),
            Some(ErrorCode::ReadOnly) => {
                Self::Unavailable("the database file became read-only".to_owned())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Self::Unavailable("another process holds the database".to_owned())
            }
            Some(_) => Self::Unavailable(failure.to_string()),
            None => Self::Broken(failure.to_string()),
        }
    }
}

impl From<Verdict> for StoreError {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Unavailable(why) => Self::Unavailable(why),
            Verdict::Broken(why) => Self::Broken(why),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Verdict::from(&failure).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(extended_code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(extended_code), None)
    }

    #[test]
    fn what_may_have_damaged_storage_is_fatal_and_what_passes_is_not() {
        use rusqlite::ffi::{
            SQLITE_BUSY, SQLITE_CONSTRAINT_UNIQUE, SQLITE_CORRUPT, SQLITE_FULL, SQLITE_IOERR_FSYNC,
            SQLITE_IOERR_READ, SQLITE_IOERR_WRITE, SQLITE_NOMEM, SQLITE_NOTADB, SQLITE_READONLY,
        };
        let check = |code, in_statement: bool, in_commit: bool| {
            assert_eq!(Failure::Sqlite(sqlite(code)).is_fatal(), in_statement, "{code}");
            assert_eq!(Failure::of_commit(sqlite(code)).is_fatal(), in_commit, "{code} in commit");
        };
        check(SQLITE_FULL, false, false);
        check(SQLITE_BUSY, false, false);
        // Memory may give out after the sync: the transaction is durable, and its caller told otherwise.
        check(SQLITE_NOMEM, false, true);
        check(SQLITE_READONLY, false, false);
        check(READONLY_DBMOVED, true, true);
        check(SQLITE_IOERR_FSYNC, true, true);
        check(SQLITE_IOERR_WRITE, true, true);
        check(SQLITE_IOERR_READ, true, true);
        check(SQLITE_CORRUPT, true, true);
        check(SQLITE_NOTADB, true, true);
        check(SQLITE_CONSTRAINT_UNIQUE, false, true);
    }

    #[test]
    fn callers_learn_whether_asking_again_is_right() {
        let full = Failure::Sqlite(sqlite(rusqlite::ffi::SQLITE_FULL));
        assert_eq!(Verdict::from(&full), Verdict::Unavailable("the disk is full".to_owned()));
        let sync = Failure::of_commit(sqlite(rusqlite::ffi::SQLITE_IOERR_FSYNC));
        assert!(matches!(Verdict::from(&sync), Verdict::Broken(_)));
        let row = Failure::Unreadable { table: "events", column: "event_type", row: "7".into() };
        assert_eq!(
            Verdict::from(&row),
            Verdict::Broken("events.event_type of row 7 is unreadable".to_owned())
        );
    }
}
