//! Deliveries leased from birth are spared the index of what is open, and never lost for it.

use std::sync::Arc;

use domain::id::EndpointId;
use domain::testing::TEST_START;
use store::StoreError;
use store::queue::{Accepted, LaneRoom, NewEvent, Queue as _};

use tempfile::TempDir;

use super::{Scene, body};
use crate::SqliteStore;
use crate::filing::FILED_FROM_ENTRIES;
use crate::state;

/// Events of one delivery that are filed at once when they come: each is two entries.
const FILED_AT_ONCE: usize = FILED_FROM_ENTRIES / 2;

/// An event whose delivery is leased from birth.
fn leased(scene: &Scene, number: usize) -> NewEvent {
    let mut event = scene.event(number as u128, body());
    event.deliveries[0].leased = true;
    event
}

async fn publish_leased(scene: &Scene, numbers: std::ops::Range<usize>) {
    let events: Vec<_> = numbers.map(|number| leased(scene, number)).collect();
    let answers = scene.store.accept(scene.session, events).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Accepted::New));
}

async fn in_state(store: &SqliteStore, state: i64) -> usize {
    let count = "SELECT count(*) FROM deliveries WHERE state = ?1";
    let counted = move |connection: &rusqlite::Connection| {
        Ok(connection.query_row(count, [state], |row| row.get::<_, u32>(0))? as usize)
    };
    store.read(counted).await.unwrap()
}

async fn claimable(store: &SqliteStore, endpoint: EndpointId) -> usize {
    let session = store.begin_session(TEST_START).await.unwrap();
    let lanes = vec![LaneRoom { endpoint, room: 2 * FILED_AT_ONCE }];
    let claims = store.claim_due(session, TEST_START, lanes).await.unwrap();
    claims[0].claimed.len()
}

#[tokio::test]
async fn no_filed_delivery_is_fresh() {
    let scene = Scene::open().await;
    publish_leased(&scene, 1..FILED_AT_ONCE).await;
    assert_eq!(in_state(&scene.store, state::FRESH).await, FILED_AT_ONCE - 1);
    publish_leased(&scene, FILED_AT_ONCE..FILED_AT_ONCE + 1).await;
    publish_leased(&scene, FILED_AT_ONCE + 1..FILED_AT_ONCE + 2).await;
    assert_eq!(in_state(&scene.store, state::FRESH).await, 1, "the one that came after the filing");
    assert_eq!(in_state(&scene.store, state::LEASED).await, FILED_AT_ONCE);
}

#[tokio::test]
async fn what_a_killed_process_had_leased_from_birth_is_claimable_filed_or_not() {
    let scene = Scene::open().await;
    publish_leased(&scene, 1..FILED_AT_ONCE + 1).await;
    publish_leased(&scene, FILED_AT_ONCE + 1..FILED_AT_ONCE + 11).await;
    assert_eq!(in_state(&scene.store, state::FRESH).await, 10);
    let Scene { store, path, endpoint, _directory: _kept, .. } = scene;
    drop(store);

    let store = SqliteStore::open(&path, super::a_vault()).unwrap();
    assert_eq!(claimable(&store, endpoint.id).await, FILED_AT_ONCE + 10);
}

#[tokio::test]
async fn what_a_lost_session_had_leased_from_birth_is_claimable() {
    let scene = Scene::open().await;
    publish_leased(&scene, 1..11).await;
    let later = TEST_START.plus(std::time::Duration::from_hours(1));
    assert_eq!(scene.store.release_expired(later).await.unwrap(), 10);
    assert_eq!(claimable(&scene.store, scene.endpoint.id).await, 10);
}

/// Opens the file of this scene again after three events leased from birth were left in it and
/// something was altered.
async fn reopened_after(alteration: &'static str) -> (Arc<SqliteStore>, EndpointId, TempDir) {
    let scene = Scene::open().await;
    publish_leased(&scene, 1..4).await;
    scene.write(move |ledger| ledger.execute(alteration, [])).await.unwrap();
    let Scene { store, path, endpoint, _directory: kept, .. } = scene;
    drop(store);
    (Arc::new(SqliteStore::open(&path, super::a_vault()).unwrap()), endpoint.id, kept)
}

#[tokio::test]
async fn an_event_that_nobody_can_read_does_not_keep_deliveries_leased_for_ever() {
    for deliveries in ["x'01'", "x''", "zeroblob(32)"] {
        let damage = format!("UPDATE events SET deliveries = {deliveries} WHERE number = 1");
        let (store, endpoint, _kept) = reopened_after(damage.leak()).await;
        assert_eq!(in_state(&store, state::FRESH).await, 0, "{deliveries}");
        assert_eq!(claimable(&store, endpoint).await, 2, "all but the one, which is set aside");
        assert_eq!(in_state(&store, state::EXHAUSTED).await, 1, "{deliveries}");
    }
}

#[tokio::test]
async fn a_lease_that_nobody_holds_is_found_after_a_start_and_stops_the_writer() {
    for damage in [
        "UPDATE counts SET filed_through = filed_through + 4096",
        "UPDATE deliveries SET state = 2, session = NULL",
    ] {
        let (store, _, _kept) = reopened_after(damage).await;
        store.soundness.wait();
        let is_damage = in_state(&store, state::FRESH).await > 0;
        assert_eq!(is_damage, damage.contains("counts"));
        let session = store.begin_session(TEST_START).await;
        assert_eq!(matches!(session, Err(StoreError::Broken(_))), is_damage, "{session:?}");
    }
}
