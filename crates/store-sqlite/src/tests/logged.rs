//! The audit log: append-only in the file itself, without a gap, and checked at its end.

use domain::audit::{CHAIN_START, first_break};
use domain::testing::TEST_START;
use store::StoreError;
use store::audit::Audit as _;
use store::conformance::scene::note_at;

use super::{Scene, a_vault, ask};
use crate::SqliteStore;
use crate::audit::head_is_whole;

/// The numbers of all entries; they must be a whole chain.
async fn chain(store: &SqliteStore) -> Vec<u64> {
    let entries = store.read_audit(0, 1_000).await.unwrap();
    assert_eq!(first_break(0, CHAIN_START, &entries), None);
    entries.iter().map(|entry| entry.number).collect()
}

#[tokio::test]
async fn entries_can_be_neither_changed_nor_removed_nor_put_in_between() {
    let scene = Scene::open().await;
    assert_eq!(chain(&scene.store).await, [1, 2]);
    for tampering in [
        "UPDATE audit SET details = '{}'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 2",
        "REPLACE INTO audit SELECT number, 0, actor, action, account, subject, details, hash \
         FROM audit",
        "INSERT INTO audit SELECT 9, at, actor, action, account, subject, details, hash \
         FROM audit WHERE number = 1",
        "INSERT INTO audit SELECT 0, at, actor, action, account, subject, details, hash \
         FROM audit WHERE number = 1",
    ] {
        let refused = scene.write(move |ledger| ledger.execute(tampering, [])).await;
        let StoreError::Unavailable(why) = refused.unwrap_err() else { panic!("{tampering}") };
        assert!(why.contains("the audit log"), "{why}");
    }
    assert_eq!(chain(&scene.store).await, [1, 2]);
}

#[tokio::test]
async fn an_entry_undone_with_its_transaction_leaves_no_gap() {
    let scene = Scene::open().await;
    let note = || scene.store.note(vec![note_at(TEST_START)]);
    note().await.unwrap();
    let release = scene.hold_writer().await;
    let undone = ask(note());
    let failing = ask(scene.write(|ledger| ledger.execute("INSERT INTO counts SELECT 1", [])));
    drop(release);
    undone.await.unwrap_err();
    failing.await.unwrap_err();
    note().await.unwrap();
    assert_eq!(chain(&scene.store).await, [1, 2, 3, 4]);
}

#[tokio::test]
async fn the_chain_goes_on_after_a_crash_and_an_altered_end_is_seen_when_it_is_opened() {
    let scene = Scene::open().await;
    let Scene { store, path, _directory: _kept, .. } = scene;
    drop(store);
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    store.note(vec![note_at(TEST_START), note_at(TEST_START)]).await.unwrap();
    assert_eq!(chain(&store).await, [1, 2, 3, 4]);
    drop(store);

    let behind = rusqlite::Connection::open(&path).unwrap();
    assert!(head_is_whole(&behind).unwrap());
    behind
        .execute_batch(
            "DROP TRIGGER audit_is_not_changed; UPDATE audit SET at = 0 WHERE number = 4",
        )
        .unwrap();
    assert!(!head_is_whole(&behind).unwrap());
    drop(behind);
    // Deliveries go on whoever altered the log.
    SqliteStore::open(&path, a_vault()).unwrap();
}
