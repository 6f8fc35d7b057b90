//! Writing anew the log that another process left.
//!
//! After a sync that failed, Linux keeps what it could not write, takes it for written, and says at
//! the next sync that all is well. SQLite would read it, take it for durable, and build on it: after
//! a power cut everything behind it would be gone. Promise of [`write_anew`]: what SQLite is going
//! to read in the log is on stable storage, whatever became of the syncs of the process before.
//! Neighbour: `open`. The database file needs none of this: what was copied there and not synced
//! is in the log still, and is copied again.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

/// How much is read and written at once.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Writes the log over itself and syncs it; nothing if there is none. Costs as much as there is:
/// 64 MiB take a fraction of a second, and it is more only if the process before ended while, or soon
/// after, a reader such as a backup had kept the log from beginning anew.
pub(crate) fn write_anew(log: &Path) -> io::Result<()> {
    let mut log = match OpenOptions::new().read(true).write(true).open(log) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read = log.read(&mut chunk)?;
        if read == 0 {
            return if offset == 0 { Ok(()) } else { log.sync_all() };
        }
        log.seek(SeekFrom::Start(offset))?;
        log.write_all(&chunk[..read])?;
        offset += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_written_anew_is_the_same_to_the_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db-wal");
        write_anew(&path).unwrap();
        assert!(!path.exists(), "where there is none, none is made");
        for length in [0, 1, 4_120, CHUNK_BYTES, 2 * CHUNK_BYTES + 17] {
            let bytes: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            write_anew(&path).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{length}");
        }
    }
}
