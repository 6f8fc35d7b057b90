//! Opening the file: who may, what it must be, and how its connections are set.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::limits::TRIAL_AFTER_LOST_CLAIMS;
use domain::sealing::SealingKeyId;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use store::vault::Vault;
use thiserror::Error;

use crate::audit::head_is_whole;
use crate::checkpoint::{Checkpointer, WAL_BYTES_MAX};
use crate::claim::losing;
use crate::condition::Condition;
use crate::failure::Failure;
use crate::filing::index_fresh;
use crate::keys::{KeysRefused, take_into_use};
use crate::lock::{FileLock, LockRefused, beside, owner_only};
use crate::log;
use crate::log_anew::write_anew;
use crate::migrate::{MIGRATIONS, MigrationRefused, SEALED_SINCE, check, migrate};
use crate::readers::{READERS, Readers};
use crate::soundness::Soundness;
use crate::statistics::Gauges;
use crate::upgrade::{give_space_back, scrub_if_due};
use crate::writer::{Workplace, Writer};

/// The earliest SQLite that we trust: 3.51.3 mends a race between a writer and a checkpoint that
/// could damage a file in WAL mode (its release notes).
pub const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Memory for pages of the writer: the hot ends of all indexes of a few thousand endpoints.
const WRITER_CACHE_KIB: i64 = 16 * 1024;

/// Memory for pages of each reader; the system's cache stands behind it.
const READER_CACHE_KIB: i64 = 2 * 1024;

/// Prepared statements kept per connection: all that we have.
const STATEMENTS_KEPT: usize = 128;

/// How long to wait for another process that holds the file for a moment, such as a backup.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a store was not opened. Each text is one line that names the file and what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("another process uses {}: stop it, or name another file", .0.display())]
    Locked(PathBuf),
    /// We may not write there.
    #[error(
        "cannot write {}: give this user write access to the file and its directory ({reason})",
        .path.display()
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Its directory does not exist.
    #[error("cannot create {}: make its directory first", .0.display())]
    NoDirectory(PathBuf),
    /// Something else than a database of ours.
    #[error("{} is not a Postrider database: name another file", .0.display())]
    NotADatabase(PathBuf),
    /// A later Postrider wrote it.
    #[error(
        "{} was written by a later Postrider (schema {found}, this one knows {known}): \
         use that version, or a backup from before the upgrade",
        .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// Ours.
        known: usize,
    },
    /// The SQLite that we were built with is too old to be trusted.
    #[error("SQLite {found} is too old, at least 3.51.3 is needed: build with the bundled one")]
    TooOldSqlite {
        /// Its version.
        found: &'static str,
    },
    /// A key is missing that sealed something in it.
    #[error(
        "{} holds secrets sealed under the key {id}, which the key file lacks: \
         put its line back into the key file",
        .path.display()
    )]
    KeyMissing {
        /// The file.
        path: PathBuf,
        /// The key.
        id: SealingKeyId,
    },
    /// A key is not the one of that id that sealed something in it.
    #[error(
        "{} holds secrets sealed under another key of the id {id} than the key file has: \
         put the line of that key back into the key file",
        .path.display()
    )]
    KeyWrong {
        /// The file.
        path: PathBuf,
        /// The key.
        id: SealingKeyId,
    },
    /// A log that is not its own lies beside it.
    #[error(
        "{} was put beside the log of another database, which would spoil it: move the files with \
         the same name and -wal or -shm behind it away, or put the database they belong to back",
        .0.display()
    )]
    LogOfAnother(PathBuf),
    /// Something of its log is missing that was on stable storage.
    #[error(
        "the log of {shown}, {shown}-wal, is damaged at its frame {frame}: acknowledged events are \
         missing; put the log back as it was, or restore a backup{usable}",
        shown = .path.display(),
    )]
    LogDamaged {
        /// The database file.
        path: PathBuf,
        /// The first frame that is not whole.
        frame: u32,
        /// How to go on without what is missing, if one can.
        usable: String,
    },
    /// Its log is there, and it is not.
    #[error(
        "{shown} is missing or empty, but its log {shown}-wal is not: put the file back, or move the \
         log away to begin anew",
        shown = .0.display()
    )]
    Gone(PathBuf),
    /// No space.
    #[error("cannot open {}: the disk is full; make space", .0.display())]
    Full(PathBuf),
    /// The file is damaged.
    #[error("{} is damaged: restore a backup ({reason})", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Anything else.
    #[error("cannot open {}: {reason}", .path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// An opened store's parts.
pub(crate) struct Opened {
    pub(crate) writer: Writer,
    pub(crate) readers: Arc<Readers>,
    pub(crate) soundness: Soundness,
    pub(crate) gauges: Arc<Gauges>,
}

pub(crate) fn open(path: &Path, vault: &Arc<Vault>) -> Result<Opened, OpenError> {
    check_sqlite_version()?;
    let path = &true_name(path).map_err(|error| of_io(path, &error))?;
    let lock = FileLock::take(path).map_err(|refused| match refused {
        LockRefused::Taken => OpenError::Locked(path.clone()),
        LockRefused::Io(error) => of_io(path, &error),
    })?;
    refuse_log_of_another(path)?;
    refuse_damaged_log(path)?;
    write_anew(&log_of(path)).map_err(|error| of_io(path, &error))?;
    // SQLite would let others read what it creates; its log and index take the file's permissions.
    owner_only()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| of_io(path, &error))?;
    let lock = Arc::new(lock);
    let of_sqlite = |error| of_sqlite(path, &error);
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(of_sqlite)?;
    let refused = |refused| of_migration(path, refused);
    // Nothing is changed in a file that is refused.
    if check(&connection, MIGRATIONS).map_err(refused)? == 0 {
        // Only before the first page is written; later, the file must be written anew.
        give_space_back(&connection).map_err(of_sqlite)?;
    }
    make_durable(&connection, path)?;
    migrate(&mut connection, MIGRATIONS, vault).map_err(refused)?;
    scrub_if_due(&connection, &lock).map_err(of_sqlite)?;
    take_into_use(&connection, vault).map_err(|refused| of_keys(path, refused))?;
    if !head_is_whole(&connection).unwrap_or(false) {
        tracing::error!("the end of the audit log was altered: walk its chain to see where");
    }
    end_sessions(&connection).map_err(|failure| of_failure(path, &failure))?;

    let gauges = Arc::new(Gauges::default());
    let condition = Arc::new(Condition::of(path));
    let hooked = Arc::clone(&gauges);
    connection
        .wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            hooked.set_wal_pages(u64::try_from(pages).unwrap_or(0));
            Ok(())
        }))
        .map_err(of_sqlite)?;
    let second = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(of_sqlite)?;
    make_durable(&second, path)?;
    let of_thread = |error: io::Error| of_io(path, &error);
    let checkpointer = Checkpointer::start(second, Arc::clone(&gauges), Arc::clone(&condition))
        .map_err(of_thread)?;
    let readers =
        (0..READERS).map(|_| connect_reader(path)).collect::<Result<_, _>>().map_err(of_sqlite)?;
    let readers = Readers::new(readers, Arc::clone(&condition), Arc::clone(&lock));
    let soundness = Soundness::start(
        connect_reader(path).map_err(of_sqlite)?,
        path,
        Arc::clone(&gauges),
        Arc::clone(&condition),
        Arc::clone(&lock),
    )
    .map_err(of_thread)?;
    let workplace = Workplace {
        connection,
        checkpointer,
        gauges: Arc::clone(&gauges),
        condition,
        vault: Arc::clone(vault),
        lock,
    };
    let writer = Writer::start(workplace).map_err(of_thread)?;
    Ok(Opened { writer, readers, soundness, gauges })
}

/// Whether the database file holds something sealed, so that its keys must be there; not if it is
/// missing, empty, or of a version that sealed nothing. Whoever makes a key file asks first.
pub fn holds_sealed(path: &Path) -> Result<bool, OpenError> {
    check_sqlite_version()?;
    let is_empty = match std::fs::metadata(path) {
        Ok(file) => file.len() == 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(of_io(path, &error)),
    };
    if is_empty {
        return Ok(false);
    }
    let path = &true_name(path).map_err(|error| of_io(path, &error))?;
    refuse_log_of_another(path)?;
    refuse_damaged_log_unless_in_use(path)?;
    // Not read-only: to read a log that a crash left, SQLite needs to write its index.
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
    let connection = connection.map_err(|error| of_sqlite(path, &error))?;
    let version = check(&connection, MIGRATIONS).map_err(|refused| of_migration(path, refused))?;
    Ok(version >= SEALED_SINCE)
}

/// Refuses a file that does not know of the log beside it: a backup that was put where another
/// database was, whose log SQLite would play back into it. Our files say in their header that
/// they have a log before there is one.
pub(crate) fn refuse_log_of_another(path: &Path) -> Result<(), OpenError> {
    let has_log = std::fs::metadata(log_of(path)).is_ok_and(|log| log.len() > 0);
    let mut header = [0; LOG_MODE_AT.end];
    let mut read = || File::open(path)?.read_exact(&mut header);
    if !has_log || read().is_err() || header[LOG_MODE_AT] != WITHOUT_LOG {
        // What cannot be read, SQLite will say more about.
        return Ok(());
    }
    Err(OpenError::LogOfAnother(path.to_owned()))
}

/// Refuses what SQLite would take for less than it was: a database file that is gone, whose log it
/// would throw away, and a log of which something is missing.
pub(crate) fn refuse_damaged_log(path: &Path) -> Result<(), OpenError> {
    let of_io = |error: io::Error| of_io(path, &error);
    let (log, index) = (log_of(path), beside(path, "-shm"));
    let is_empty = |path: &Path| path.metadata().map_or(true, |file| file.len() == 0);
    if is_empty(path) && !is_empty(&log) {
        return Err(OpenError::Gone(path.to_owned()));
    }
    let Some(gap) = log::check(&log, &index).map_err(of_io)? else { return Ok(()) };
    let usable = gap.usable_bytes.map_or_else(String::new, |bytes| {
        let (log, index) = (quoted(&log), quoted(&index));
        format!("; to go on without them: truncate -s {bytes} {log} && rm {index}")
    });
    Err(OpenError::LogDamaged { path: path.to_owned(), frame: gap.frame, usable })
}

/// The path as one word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// [`refuse_damaged_log`] for a store that is opened beside whoever serves it. Comes before SQLite
/// does, whose first connection makes the index anew, and with that what proves the damage.
pub(crate) fn refuse_damaged_log_unless_in_use(path: &Path) -> Result<(), OpenError> {
    // What was never served has no lock, and one of ours could keep the service out.
    if !beside(path, ".lock").exists() {
        return Ok(());
    }
    match FileLock::take(path) {
        Ok(_lock) => refuse_damaged_log(path),
        // A log that a service writes at this moment is never whole.
        Err(LockRefused::Taken) => Ok(()),
        Err(LockRefused::Io(error)) => Err(of_io(path, &error)),
    }
}

/// The write-ahead log of the database.
pub(crate) fn log_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// Where a file's header says whether it has a write-ahead log: the versions for writing and reading
/// (SQLite's file format, 1.3.3).
pub(crate) const LOG_MODE_AT: Range<usize> = 18..20;

/// What stands there if it has none.
pub(crate) const WITHOUT_LOG: [u8; 2] = [1, 1];

pub(crate) fn check_sqlite_version() -> Result<(), OpenError> {
    if rusqlite::version_number() < SQLITE_VERSION_MIN {
        return Err(OpenError::TooOldSqlite { found: rusqlite::version() });
    }
    Ok(())
}

/// The file's one name, whatever links lead to it, so that its lock is one too.
pub(crate) fn true_name(path: &Path) -> io::Result<PathBuf> {
    if let Ok(name) = path.canonicalize() {
        return Ok(name);
    }
    if path.is_symlink() {
        // What it leads to would be locked under another name once it exists.
        return Err(io::Error::other("it is a symbolic link that leads nowhere"));
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(directory.canonicalize()?.join(name))
}

pub(crate) fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // The last connection would otherwise empty the log when dropped; that is `close`'s business.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Else statements are prepared anew whenever a value changes that a better plan might hang on;
    // ours name their index.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "mmap_size", 0)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    Ok(connection)
}

fn connect_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    Ok(connection)
}

/// Sets what durability rests on, and reads it back: SQLite takes a pragma it cannot follow
/// without a word.
fn make_durable(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let set_and_read = || {
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        // What a reader that stayed for long made of the log goes back to the disk.
        connection.pragma_update(None, "journal_size_limit", WAL_BYTES_MAX as i64)?;
        let journal_mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        connection.pragma_update(None, "synchronous", "full")?;
        let synchronous: i64 =
            connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok((journal_mode, synchronous))
    };
    let (journal_mode, synchronous) = set_and_read().map_err(|error| of_sqlite(path, &error))?;
    if journal_mode == "wal" && synchronous == SYNCHRONOUS_FULL {
        return Ok(());
    }
    Err(OpenError::Other {
        path: path.to_owned(),
        reason: format!(
            "its file system does not allow durable writes \
             (journal_mode {journal_mode}, synchronous {synchronous})"
        ),
    })
}

/// `PRAGMA synchronous`: every commit is synced.
pub(crate) const SYNCHRONOUS_FULL: i64 = 2;

/// No engine of an earlier process lives, since only one process has the file: what they held is
/// claimable. Costs as much as they held, which their memory bounded.
fn end_sessions(connection: &Connection) -> Result<(), Failure> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute("DELETE FROM sessions", [])?;
    index_fresh(connection)?;
    transaction.execute(RELEASE_ALL, [TRIAL_AFTER_LOST_CLAIMS])?;
    Ok(transaction.commit()?)
}

pub(crate) const RELEASE_ALL: &str =
    concat!("UPDATE deliveries INDEXED BY deliveries_open SET ", losing!(), " WHERE state = 1");

pub(crate) fn of_migration(path: &Path, refused: MigrationRefused) -> OpenError {
    match refused {
        MigrationRefused::TooNew { found } => {
            OpenError::TooNew { path: path.to_owned(), found, known: MIGRATIONS.len() }
        }
        MigrationRefused::Foreign => OpenError::NotADatabase(path.to_owned()),
        MigrationRefused::Sqlite(error) => of_sqlite(path, &error),
    }
}

pub(crate) fn of_keys(path: &Path, refused: KeysRefused) -> OpenError {
    let path = path.to_owned();
    match refused {
        KeysRefused::Missing(id) => OpenError::KeyMissing { path, id },
        KeysRefused::Wrong(id) => OpenError::KeyWrong { path, id },
        KeysRefused::Damaged(failure) => OpenError::Damaged { path, reason: failure.to_string() },
        KeysRefused::Sqlite(error) => of_sqlite(&path, &error),
    }
}

pub(crate) fn of_io(path: &Path, error: &io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => OpenError::NoDirectory(path),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable { path, reason: error.to_string() }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full(path),
        _ => OpenError::Other { path, reason: error.to_string() },
    }
}

fn of_failure(path: &Path, failure: &Failure) -> OpenError {
    match failure {
        Failure::Sqlite(error) | Failure::Commit(error) => of_sqlite(path, error),
        Failure::NoRoom => OpenError::Full(path.to_owned()),
        Failure::Unreadable { .. } => {
            OpenError::Damaged { path: path.to_owned(), reason: failure.to_string() }
        }
    }
}

pub(crate) fn of_sqlite(path: &Path, error: &rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    let reason = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotADatabase(path),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Locked(path),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::NotWritable { path, reason }
        }
        Some(ErrorCode::DiskFull) => OpenError::Full(path),
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path, reason },
        _ => OpenError::Other { path, reason },
    }
}
