//! Who may open a file, and what is said to those who may not.

#![allow(clippy::unwrap_used, reason = "these are tests: an error is a failure")]

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use store::catalogue::Catalogue as _;
use store::queue::Queue as _;
use store::vault::a_vault;
use store_sqlite::{OpenError, SqliteStore};
use tempfile::TempDir;

fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    (directory, path)
}

/// The error, which must be one line that names the file.
fn refusal(path: &Path) -> OpenError {
    let Err(error) = SqliteStore::open(path, a_vault()) else {
        panic!("{} was opened", path.display())
    };
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
    assert!(line.contains(&*path.file_name().unwrap().to_string_lossy()), "{line}");
    error
}

#[test]
fn a_second_opener_of_a_file_is_refused_until_the_first_is_gone() {
    let (_directory, path) = directory();
    let first = SqliteStore::open(&path, a_vault()).unwrap();
    assert!(matches!(refusal(&path), OpenError::Locked(_)));
    drop(first);
    SqliteStore::open(&path, a_vault()).unwrap();
}

#[cfg(unix)]
#[test]
fn a_second_opener_is_refused_under_every_name_of_the_file() {
    let (directory, path) = directory();
    let _first = SqliteStore::open(&path, a_vault()).unwrap();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let Err(OpenError::Locked(named)) = SqliteStore::open(&link, a_vault()) else {
        panic!("opened twice")
    };
    assert_eq!(named, path.canonicalize().unwrap());
}

#[cfg(unix)]
#[test]
fn nobody_but_its_owner_may_read_a_new_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = directory();
    let _store = SqliteStore::open(&path, a_vault()).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_directory_that_may_not_be_written_is_said_to_be_so() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, path) = directory();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere but in a file system of the kernel's own.
    let is_root = std::fs::write(directory.path().join("probe"), "").is_ok();
    let path = if is_root { PathBuf::from("/sys/postrider.db") } else { path };
    let error = refusal(&path);
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}

#[test]
fn a_missing_directory_is_said_to_be_missing() {
    let (directory, _) = directory();
    let error = refusal(&directory.path().join("nowhere").join("postrider.db"));
    assert!(matches!(error, OpenError::NoDirectory(_)), "{error}");
}

#[test]
fn a_directory_is_not_a_store() {
    let (directory, path) = directory();
    std::fs::create_dir(&path).unwrap();
    refusal(&path);
    drop(directory);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_is() {
    let (_directory, path) = directory();
    let text = "Dear diary, ".repeat(1_000);
    std::fs::write(&path, &text).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::NotADatabase(_)), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let (_directory, path) = directory();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    drop(other);
    let error = refusal(&path);
    assert!(matches!(error, OpenError::NotADatabase(_)), "{error}");
}

#[test]
fn a_link_to_a_file_that_does_not_exist_yet_is_refused() {
    let (directory, path) = directory();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    refusal(&link);
    assert!(!path.exists());
    drop(SqliteStore::open(&path, a_vault()).unwrap());
    drop(SqliteStore::open(&link, a_vault()).unwrap());
}

#[test]
fn a_database_of_another_program_keeps_every_byte() {
    let (_directory, path) = directory();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE bookmarks (url)").unwrap();
    let before = std::fs::read(&path).unwrap();
    refusal(&path);
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_a_later_version_is_refused() {
    let (_directory, path) = directory();
    drop(SqliteStore::open(&path, a_vault()).unwrap());
    let later = Connection::open(&path).unwrap();
    later.pragma_update(None, "user_version", 1_000).unwrap();
    drop(later);
    let error = refusal(&path);
    assert!(matches!(error, OpenError::TooNew { found: 1_000, .. }), "{error}");
}

#[test]
fn a_damaged_database_is_said_to_be_damaged() {
    let (_directory, path) = directory();
    drop(SqliteStore::open(&path, a_vault()).unwrap());
    // The process that opens reads the whole schema; its page holds nonsense now.
    let clean = Connection::open(&path).unwrap();
    clean.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(clean);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100..4_096].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_closed_store_leaves_an_empty_log_and_a_dropped_one_all_it_acknowledged() {
    let (_directory, path) = directory();
    let log = || std::fs::metadata(path.with_extension("db-wal")).map_or(0, |log| log.len());
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    let pepper = store.read_or_create_pepper([7; 32]).await.unwrap();
    drop(store);
    assert!(log() > 0);
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert_eq!(store.read_or_create_pepper([8; 32]).await.unwrap(), pepper);
    store.close().await.unwrap();
    assert_eq!(log(), 0);
}

#[tokio::test]
async fn what_is_acknowledged_is_in_the_files_at_that_moment() {
    let (_directory, path) = directory();
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    let pepper = store.read_or_create_pepper([7; 32]).await.unwrap();
    let (_elsewhere, copy) = self::directory();
    for suffix in ["", "-wal"] {
        let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(name(&path), name(&copy)).unwrap();
    }
    let found = SqliteStore::open(&copy, a_vault()).unwrap();
    assert_eq!(found.read_or_create_pepper([8; 32]).await.unwrap(), pepper);
}
