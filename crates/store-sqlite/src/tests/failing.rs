//! A full disk, a commit that fails, a writer that dies, a row that nobody can read.

use bytes::Bytes;
use domain::id::{EndpointId, EventId};
use domain::testing::TEST_START;
use store::StoreError;
use store::catalogue::Catalogue as _;
use store::history::History as _;
use store::queue::{Accepted, LaneRoom, Queue as _};

use super::{Scene, ask, body};
use crate::failure::Failure;

/// As on a disk with no space: SQLite may use no page beyond those it has.
async fn fill_disk(scene: &Scene) {
    scene
        .write(|ledger| {
            let pages: i64 =
                ledger.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            Ok(ledger.connection.pragma_update(None, "max_page_count", pages)?)
        })
        .await
        .unwrap();
}

async fn make_space(scene: &Scene) {
    scene
        .write(|ledger| Ok(ledger.connection.pragma_update(None, "max_page_count", 1 << 30)?))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_what_does_not_fit_and_service_resumes_with_space() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let before = scene.store.counts().await.unwrap();
    fill_disk(&scene).await;
    let large = Bytes::from(vec![b'x'; 100_000]);
    let refused = scene.publish(2, large.clone()).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable(why) if why.contains("disk is full")));
    assert_eq!(scene.store.counts().await.unwrap(), before);
    assert!(scene.store.read_event(EventId::from_u128(1)).await.unwrap().is_some());
    make_space(&scene).await;
    assert_eq!(scene.publish(2, large).await.unwrap(), [Accepted::New]);
    assert_eq!(scene.store.counts().await.unwrap().events, 2);
    scene.store.check().await.unwrap();
}

#[tokio::test]
async fn nothing_of_a_transaction_that_did_not_fit_is_acknowledged() {
    let scene = Scene::open().await;
    fill_disk(&scene).await;
    let release = scene.hold_writer().await;
    let large = Bytes::from(vec![b'x'; 100_000]);
    let asked = [(1, body()), (2, large), (3, body())]
        .map(|(number, body)| ask(scene.publish(number, body)));
    drop(release);
    for answer in asked {
        assert!(matches!(answer.await, Err(StoreError::Unavailable(_))));
    }
    assert_eq!(scene.store.counts().await.unwrap().events, 0);
}

#[tokio::test]
async fn after_a_failed_commit_nothing_is_acknowledged_any_more() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let release = scene.hold_writer().await;
    let beside = ask(scene.publish(2, body()));
    // A transaction that is not there any more cannot be committed.
    let spoiling = ask(scene.write(|ledger| ledger.execute("ROLLBACK", [])));
    drop(release);
    assert!(matches!(beside.await, Err(StoreError::Broken(_))));
    assert!(matches!(spoiling.await, Err(StoreError::Broken(_))));
    assert!(matches!(scene.publish(3, body()).await, Err(StoreError::Broken(_))));
    assert!(matches!(scene.store.check().await, Err(StoreError::Broken(_))));
    assert!(matches!(scene.store.close().await, Err(StoreError::Broken(_))));
    let read = async |number| scene.store.read_event(EventId::from_u128(number)).await.unwrap();
    assert!(read(1).await.is_some(), "reading goes on");
    assert!(read(2).await.is_none());
}

#[tokio::test]
async fn a_writer_that_panics_answers_everybody_and_takes_nothing_more() {
    let scene = Scene::open().await;
    let release = scene.hold_writer().await;
    let panicking = ask(scene.write::<()>(|_| panic!("as if it had a mistake")));
    let beside = ask(scene.publish(1, body()));
    drop(release);
    assert!(matches!(panicking.await, Err(StoreError::Broken(_))));
    assert!(matches!(beside.await, Err(StoreError::Broken(_))));
    assert!(matches!(scene.publish(2, body()).await, Err(StoreError::Broken(_))));
    assert_eq!(scene.store.counts().await.unwrap().events, 0);
}

#[tokio::test]
async fn an_unreadable_row_is_named_and_its_neighbours_are_served() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    scene.publish(2, body()).await.unwrap();
    scene
        .write(|ledger| {
            let damage = |sql: &str| ledger.execute(sql, []);
            damage("UPDATE events SET event_type = ' ' WHERE number = 1")?;
            damage("UPDATE endpoints SET url = 'gopher:hole'")?;
            Ok(())
        })
        .await
        .unwrap();
    let named = |error: StoreError, what: &str| {
        let StoreError::Broken(why) = &error else { panic!("{error}") };
        assert!(why.contains(what), "{why}");
    };
    let one = "00000000000000000000000000000001";
    let error = scene.store.read_event(EventId::from_u128(1)).await.unwrap_err();
    named(error, &format!("events.event_type of row {one}"));
    assert!(scene.store.read_event(EventId::from_u128(2)).await.unwrap().is_some());
    let error = scene.store.read_roster(scene.account.id).await.unwrap_err();
    named(error, "endpoints.url of row");
    let lane = |endpoint| LaneRoom { endpoint, room: 10 };
    let lanes = vec![lane(EndpointId::from_u128(77)), lane(scene.endpoint.id)];
    let claims = scene.store.claim_due(scene.session, TEST_START, lanes).await.unwrap();
    let claimed: Vec<_> =
        claims.iter().flat_map(|claim| &claim.claimed).map(|it| it.payload.event).collect();
    assert_eq!(claimed, [EventId::from_u128(2)], "what is behind it in its lane goes on");
    assert_eq!(scene.publish(3, body()).await.unwrap(), [Accepted::New]);
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.exhausted), (2, 1), "the unreadable one was set aside");
}

#[tokio::test]
async fn a_request_undone_alone_leaves_the_others_of_its_transaction() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let before = scene.store.statistics().commits;
    let release = scene.hold_writer().await;
    let first = ask(scene.publish(2, body()));
    let failing = ask(scene.write(|ledger| {
        ledger.in_savepoint(|ledger| {
            ledger.execute("DELETE FROM deliveries", [])?;
            Err::<(), _>(Failure::Unreadable { table: "events", column: "id", row: "1".into() })
        })
    }));
    let last = ask(scene.publish(3, body()));
    drop(release);
    assert_eq!(first.await.unwrap(), [Accepted::New]);
    assert!(matches!(failing.await, Err(StoreError::Broken(_))));
    assert_eq!(last.await.unwrap(), [Accepted::New]);
    assert_eq!(scene.store.statistics().commits - before, 2);
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.events, counts.pending), (3, 3));
}
