//! Copies of a database that is in use: one committed state each, whole, and nobody's but the key
//! file's owner's; and what they ask of the service.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use domain::id::EventId;
use domain::sealing::KeyRing;
use domain::testing::TEST_START;
use rusqlite::Connection;
use store::history::History as _;
use store::queue::{LaneRoom, Queue as _};
use store::vault::a_vault_with;
use tempfile::TempDir;

use super::{Scene, a_key, a_vault, body};
use crate::backup::{Original, Pace, back_up};
use crate::checkpoint::WAL_BYTES_MAX;
use crate::lock::beside;
use crate::{BackupError, OpenError, SqliteStore};

/// A file for a copy.
fn a_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.db");
    std::fs::write(&path, b"").unwrap();
    (folder, path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_holds_what_was_acknowledged_before_it_was_begun_while_more_is_accepted() {
    let scene = Arc::new(Scene::open().await);
    let (stops, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishing = {
        let (scene, stops, acknowledged) =
            (Arc::clone(&scene), Arc::clone(&stops), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for number in 1.. {
                if stops.load(Ordering::SeqCst) {
                    break;
                }
                scene.publish(number, Bytes::from(vec![b'x'; 20_000])).await.unwrap();
                acknowledged.store(number as u64, Ordering::SeqCst);
            }
        })
    };
    while acknowledged.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    let (folder, copy) = a_file();
    let (database, target) = (scene.path.clone(), copy.clone());
    let before = acknowledged.load(Ordering::SeqCst);
    let copying = tokio::task::spawn_blocking(move || back_up(&database, &target, &a_vault()));
    let backed_up = copying.await.unwrap().unwrap();
    let after = acknowledged.load(Ordering::SeqCst);
    stops.store(true, Ordering::SeqCst);
    publishing.await.unwrap();
    assert!((before..=after + 1).contains(&backed_up.events), "{before} {backed_up:?} {after}");
    assert_eq!(backed_up.pending, backed_up.events, "nothing is delivered");
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), backed_up.bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "it is one file");

    let restored = SqliteStore::open(&copy, a_vault()).unwrap();
    let session = restored.begin_session(TEST_START).await.unwrap();
    let lanes = vec![LaneRoom { endpoint: scene.endpoint.id, room: 100_000 }];
    let claims = restored.claim_due(session, TEST_START, lanes).await.unwrap();
    assert_eq!(claims[0].claimed.len() as u64, backed_up.events);
    for number in 1..=backed_up.events {
        let found = restored.read_event(EventId::from_u128(number.into())).await.unwrap();
        assert!(found.is_some_and(|it| it.event.data.is_some()), "{number} of {before}");
    }
}

#[tokio::test]
async fn a_copy_during_which_the_log_grows_too_long_is_given_up_and_the_log_freed() {
    let scene = Scene::open().await;
    let (_folder, copy) = a_file();
    let original = Original::open(&scene.path, &a_vault()).unwrap();
    let state = original.hold().unwrap();
    for number in 1..=20 {
        scene.publish(number, Bytes::from(vec![b'x'; 100_000])).await.unwrap();
    }
    let pace = Pace { pages_at_once: 8, log_growth_allowed: 1_000_000 };
    let refused = state.copy_to(&copy, &pace).unwrap_err();
    let BackupError::LogTooLong { grown } = refused else { panic!("{refused}") };
    assert!(grown > 2_000_000, "{grown}");
    // Nobody reads a state of before any more: the log can be emptied.
    scene.store.close().await.unwrap();
    assert_eq!(std::fs::metadata(beside(&scene.path, "-wal")).unwrap().len(), 0);
}

#[tokio::test]
async fn what_a_long_reader_made_of_the_log_goes_back_to_the_disk() {
    const BODY_BYTES: usize = 1 << 20;
    let scene = Scene::open().await;
    let log_bytes = || std::fs::metadata(beside(&scene.path, "-wal")).unwrap().len();
    let original = Original::open(&scene.path, &a_vault()).unwrap();
    let state = original.hold().unwrap();
    let mut number = 0;
    while log_bytes() < WAL_BYTES_MAX + WAL_BYTES_MAX / 2 {
        number += 1;
        scene.publish(number, Bytes::from(vec![b'x'; BODY_BYTES])).await.unwrap();
    }
    drop(state);
    // The log begins anew when the next checkpoint is done.
    for _ in 0..WAL_BYTES_MAX / BODY_BYTES as u64 {
        number += 1;
        scene.publish(number, Bytes::from(vec![b'x'; BODY_BYTES])).await.unwrap();
    }
    assert!(log_bytes() <= WAL_BYTES_MAX, "{}", log_bytes());
}

#[tokio::test]
async fn a_copy_is_refused_whose_keys_are_not_there() {
    let scene = Scene::open().await;
    let (_folder, copy) = a_file();
    let other = a_vault_with(KeyRing::of(a_key(2)));
    let refused = back_up(&scene.path, &copy, &other).unwrap_err();
    assert!(matches!(refused, BackupError::Database(OpenError::KeyMissing { .. })), "{refused}");
    assert_eq!(std::fs::read(&copy).unwrap(), b"", "nothing is written");
}

#[tokio::test]
async fn a_copy_put_beside_the_log_of_another_database_is_refused_and_left_as_it_is() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let (_folder, copy) = a_file();
    back_up(&scene.path, &copy, &a_vault()).unwrap();
    let Scene { store, path, _directory, .. } = scene;
    drop(store);
    std::fs::copy(&copy, &path).unwrap();
    let Err(refused) = SqliteStore::open(&path, a_vault()) else { panic!("opened") };
    assert!(matches!(refused, OpenError::LogOfAnother(_)), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&copy).unwrap());
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(beside(&path, ending)).unwrap();
    }
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert!(store.read_event(EventId::from_u128(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_copy_of_what_a_crash_left_changes_nothing_of_it() {
    let scene = Scene::open().await;
    for number in 1..=30 {
        scene.publish(number, body()).await.unwrap();
    }
    let Scene { store, path, _directory, .. } = scene;
    drop(store);
    let read = || ["", "-wal"].map(|ending| std::fs::read(beside(&path, ending)).unwrap());
    let before = read();
    let (_folder, copy) = a_file();
    assert_eq!(back_up(&path, &copy, &a_vault()).unwrap().events, 30);
    assert!(before == read());
}

#[tokio::test]
async fn a_database_with_a_damaged_page_has_no_copy() {
    let scene = Scene::open().await;
    for number in 1..=30 {
        scene.publish(number, Bytes::from(vec![b'x'; 5_000])).await.unwrap();
    }
    scene.store.close().await.unwrap();
    let pages: i64 = {
        let connection = Connection::open(&scene.path).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'events'";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let mut bytes = std::fs::read(&scene.path).unwrap();
    let page = (pages as usize - 1) * 4_096;
    bytes[page..page + 64].fill(0x5a);
    std::fs::write(&scene.path, bytes).unwrap();
    let (_folder, copy) = a_file();
    let refused = back_up(&scene.path, &copy, &a_vault()).unwrap_err();
    assert!(matches!(refused, BackupError::Database(OpenError::Damaged { .. })), "{refused}");
}
