//! Readers beside the writer, the log that does not grow, and entries that are not filed yet.

use bytes::Bytes;
use domain::id::EventId;
use domain::page::PageRequest;
use domain::retention::Retention;
use domain::testing::TEST_START;
use store::catalogue::Catalogue as _;
use store::conformance::scene::note_at;
use store::history::{DeliveryFilter, EventFilter, History as _};
use store::queue::{Accepted, Queue as _};

use super::{Scene, body};
use crate::filing::FILED_FROM_ENTRIES;

#[tokio::test]
async fn readers_go_on_while_a_transaction_is_open() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let release = scene.hold_writer().await;
    assert!(scene.store.read_event(EventId::from_u128(1)).await.unwrap().is_some());
    assert_eq!(scene.store.counts().await.unwrap().events, 1);
    let lanes = scene.store.waiting_lanes(None, 10).await.unwrap();
    assert_eq!(lanes.len(), 1);
    drop(release);
}

#[tokio::test]
async fn a_reader_that_panics_gives_its_connection_back() {
    let scene = Scene::open().await;
    for _ in 0..2 * crate::readers::READERS {
        let panicking = scene.store.read::<(), _>(|_| panic!("as if it had a mistake")).await;
        assert!(panicking.is_err());
    }
    assert!(scene.store.read_account(scene.account.id).await.unwrap().is_some());
}

#[tokio::test]
async fn the_log_stays_bounded_while_much_is_written() {
    const LOG_BYTES_MAX: u64 = 80 * 1024 * 1024;
    let scene = Scene::open().await;
    let large = Bytes::from(vec![b'x'; 256 * 1024]);
    for number in 1..=400 {
        assert_eq!(scene.publish(number, large.clone()).await.unwrap(), [Accepted::New]);
        assert!(scene.store.statistics().wal_bytes < LOG_BYTES_MAX);
    }
    assert!(scene.store.statistics().checkpoints > 0);
    assert!(std::fs::metadata(scene.path.with_extension("db-wal")).unwrap().len() < LOG_BYTES_MAX);
}

/// Reads every page of both lists; answers how many events and deliveries there are.
async fn listed(scene: &Scene) -> (usize, usize) {
    let (mut events, mut deliveries) = (0, 0);
    let mut page = PageRequest::LARGEST;
    let filter = EventFilter { account: Some(scene.account.id), ..EventFilter::default() };
    loop {
        let found = scene.store.list_events(filter.clone(), page).await.unwrap();
        events += found.items.len();
        let Some(next) = found.next_before else { break };
        page.before = Some(next);
    }
    page.before = None;
    let filter = DeliveryFilter { endpoint: Some(scene.endpoint.id), ..DeliveryFilter::default() };
    loop {
        let found = scene.store.list_deliveries(filter.clone(), page).await.unwrap();
        deliveries += found.items.len();
        let Some(next) = found.next_before else { break };
        page.before = Some(next);
    }
    (events, deliveries)
}

#[tokio::test]
async fn events_are_listed_once_before_and_after_they_are_filed() {
    let scene = Scene::open().await;
    let half = FILED_FROM_ENTRIES as u128 / 2;
    let publish = async |numbers: std::ops::Range<u128>| {
        let events: Vec<_> = numbers.map(|number| scene.event(number, body())).collect();
        let count = events.len();
        let answers = scene.store.accept(scene.session, events).await.unwrap();
        assert_eq!(answers, vec![Accepted::New; count]);
    };
    let unfiled = async || {
        let read = |connection: &rusqlite::Connection| {
            let mut count = 0;
            crate::filing::for_each_unfiled(connection, |_| {
                count += 1;
                Ok(())
            })?;
            Ok(count)
        };
        scene.store.read(read).await.unwrap()
    };
    publish(1..half).await;
    assert_eq!(unfiled().await, half - 1);
    assert_eq!(listed(&scene).await, (half as usize - 1, half as usize - 1));
    publish(half..half + 1).await;
    assert_eq!(unfiled().await, half);
    assert_eq!(listed(&scene).await, (half as usize, half as usize));
    publish(half + 1..half + 4).await;
    assert_eq!(unfiled().await, 3);
    assert_eq!(listed(&scene).await, (half as usize + 3, half as usize + 3));
}

#[tokio::test]
async fn events_made_after_the_newest_ones_were_removed_are_found() {
    let scene = Scene::open().await;
    for number in 1..=10 {
        scene.publish(number, body()).await.unwrap();
    }
    assert!(scene.store.delete_account(scene.account.id, note_at(TEST_START)).await.unwrap());
    let retention = Retention::default();
    while scene.store.clean(TEST_START, &retention, 3).await.unwrap().has_more {}
    let kept = scene.write(|ledger| {
        let rows = "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM deliveries) \
                    + (SELECT count(*) FROM events_by_account) \
                    + (SELECT count(*) FROM deliveries_by_endpoint)";
        Ok(ledger.connection.query_row(rows, [], |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(kept.await.unwrap(), 0);
    let key = store::catalogue::KeyRecord {
        id: domain::id::KeyId::from_u128(2),
        account: Some(scene.account.id),
        public_part: "two".to_owned(),
        hash: [2; 32],
        created_at: TEST_START,
        last_used_at: None,
    };
    let note = note_at(TEST_START);
    scene.store.create_account(scene.account.clone(), key, note.clone()).await.unwrap();
    scene.store.create_endpoint(scene.endpoint.clone(), 10, note).await.unwrap();
    assert_eq!(scene.publish(11, body()).await.unwrap(), [Accepted::New]);
    assert_eq!(listed(&scene).await, (1, 1));
}
