//! One process per database file.
//!
//! Promise: while a [`FileLock`] lives, no other process (nor this one) gets another on the same
//! file, under whatever name it is asked for; a process that dies gives it up. The lock is on a
//! file beside the database: closing a second handle of the database itself would make the kernel
//! forget SQLite's own locks (POSIX, fcntl).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The right to use a database file.
#[derive(Debug)]
pub(crate) struct FileLock {
    /// Closing it is what unlocks.
    _file: File,
    database: PathBuf,
    /// Once it was synced; closed only with this, since that ends SQLite's own locks on it.
    index: OnceLock<File>,
}

/// Why a lock was not given.
#[derive(Debug)]
pub(crate) enum LockRefused {
    /// Somebody has it.
    Taken,
    /// The file system says no.
    Io(io::Error),
}

impl FileLock {
    /// Takes the lock, or says why not; never waits.
    pub(crate) fn take(database: &Path) -> Result<Self, LockRefused> {
        let path = beside(database, ".lock");
        let file = owner_only().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(LockRefused::Io)?;
        match file.try_lock() {
            Ok(()) => {
                Ok(Self { _file: file, database: database.to_owned(), index: OnceLock::new() })
            }
            Err(TryLockError::WouldBlock) => Err(LockRefused::Taken),
            Err(TryLockError::Error(error)) => Err(LockRefused::Io(error)),
        }
    }
}

impl FileLock {
    /// Puts the index of the write-ahead log on stable storage, as it is now.
    pub(crate) fn sync_index(&self) -> io::Result<()> {
        if let Some(index) = self.index.get() {
            return index.sync_all();
        }
        let index = File::open(beside(&self.database, "-shm"))?;
        self.index.get_or_init(|| index).sync_all()
    }
}

/// Options for files that hold secrets: nobody but their owner may read what they create.
pub(crate) fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The file of that suffix that belongs to the database.
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
