//! Requests that wait together are committed together, and every commit is synced.

use store::StoreError;
use store::catalogue::Catalogue as _;
use store::queue::{Accepted, Queue as _};

use super::{Scene, ask, body};
use crate::open::SYNCHRONOUS_FULL;

#[tokio::test]
async fn every_commit_is_synced_to_a_write_ahead_log() {
    let scene = Scene::open().await;
    let (journal_mode, synchronous) = scene
        .write(|ledger| {
            let read = |pragma: &str| {
                ledger
                    .connection
                    .pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))
            };
            Ok((read("journal_mode")?, read("synchronous")?))
        })
        .await
        .unwrap();
    assert_eq!(journal_mode, rusqlite::types::Value::Text("wal".to_owned()));
    assert_eq!(synchronous, rusqlite::types::Value::Integer(SYNCHRONOUS_FULL));
}

#[tokio::test]
async fn what_gathers_during_a_commit_shares_the_next() {
    let scene = Scene::open().await;
    let before = scene.store.statistics();
    let release = scene.hold_writer().await;
    let asked: Vec<_> = (1..=500).map(|number| ask(scene.publish(number, body()))).collect();
    drop(release);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), [Accepted::New]);
    }
    let after = scene.store.statistics();
    assert_eq!(after.requests - before.requests, 501);
    assert_eq!(after.commits - before.commits, 2, "one held, one for all that came meanwhile");
    assert!(after.commit_last > std::time::Duration::ZERO);
    assert!(after.wal_bytes > 0);
}

#[tokio::test]
async fn requests_that_can_wait_are_not_kept_back_for_ever() {
    let scene = Scene::open().await;
    scene.store.note_key_uses(Vec::new()).await.unwrap();
    scene.store.note_key_uses(Vec::new()).await.unwrap();
}

#[tokio::test]
async fn closing_waits_for_what_was_asked_before() {
    let scene = Scene::open().await;
    let release = scene.hold_writer().await;
    let asked = ask(scene.publish(1, body()));
    let closing = ask(scene.store.close());
    assert!(matches!(scene.publish(2, body()).await, Err(StoreError::Closed)));
    drop(release);
    assert_eq!(asked.await.unwrap(), [Accepted::New]);
    closing.await.unwrap();
    assert!(matches!(scene.publish(3, body()).await, Err(StoreError::Closed)));
    scene.store.close().await.unwrap();
}
