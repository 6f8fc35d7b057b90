//! A backlog costs nothing to open, and questions are answered by index.

use store::queue::{LaneRoom, Queue as _};

use super::{Scene, body};
use crate::{
    SqliteStore, audit, claim, fates, filing, history, open, ordering, queue, replays, retention,
    settle, source,
};

/// Deliveries in the backlog of these tests.
const BACKLOG: usize = 50_000;

/// How SQLite means to run the statement.
fn plan(connection: &rusqlite::Connection, sql: &str) -> String {
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let parameters = statement.parameter_count();
    let nothing = vec![rusqlite::types::Null; parameters];
    let rows = statement
        .query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>("detail"))
        .unwrap();
    rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn no_question_scans_or_sorts() {
    let scene = Scene::open().await;
    scene
        .store
        .read(|connection| {
            for (sql, index) in [
                (claim::SELECT_DUE, "deliveries_open (state=? AND endpoint=? AND due_at<?)"),
                (claim::SELECT_NEXT_DUE, "COVERING INDEX deliveries_open (state=? AND endpoint=?)"),
                (
                    queue::SELECT_NEXT_LANE,
                    "COVERING INDEX deliveries_open (state=? AND endpoint>?)",
                ),
                (open::RELEASE_ALL, "deliveries_open (state=?)"),
                (filing::INDEX_FRESH, "deliveries USING PRIMARY KEY (id>?)"),
                (history::COUNT_WAITING, "COVERING INDEX deliveries_open (state=? AND endpoint=?)"),
                (filing::SELECT_UNFILED, "INTEGER PRIMARY KEY (rowid>?)"),
                (source::EVENTS, "sqlite_autoindex_events_1 (id<?)"),
                (source::EVENTS_OF, "PRIMARY KEY (account=? AND id<?)"),
                (source::DELIVERIES, "PRIMARY KEY (id<?)"),
                (source::DELIVERIES_OF, "PRIMARY KEY (endpoint=? AND id<?)"),
                (source::EVENTS_OF_AFTER, "PRIMARY KEY (account=? AND id>?)"),
                (ordering::SELECT_FIRST, "PRIMARY KEY (endpoint=? AND key=?)"),
                (ordering::SELECT_HEAD, "PRIMARY KEY (endpoint=? AND key=?)"),
                (ordering::COUNT_BEHIND, "PRIMARY KEY (endpoint=?)"),
                (retention::SELECT_NEXT_EVENT, "SEARCH events USING INTEGER PRIMARY KEY (rowid>?)"),
                (retention::SELECT_KEPT_LONGER, "PRIMARY KEY (pass=? AND owed_since<?)"),
                (retention::SELECT_PENDING, "INTEGER PRIMARY KEY (rowid>?)"),
                (retention::DELETE_ENDED_REPLAYS, "replays_ended (ended_at<?)"),
                (settle::SELECT_EVENTS_OF_ACCOUNT, "PRIMARY KEY (account=?)"),
                (fates::SELECT_STANDING, "deliveries USING PRIMARY KEY (id=?)"),
                (fates::SELECT_STANDING, "departed USING PRIMARY KEY (id=?)"),
                (fates::SELECT_REPLAYED, "PRIMARY KEY (event=?)"),
                (replays::COUNT_RUNNING, "replays_running_by_endpoint (endpoint=?)"),
                (replays::SELECT_RUNNING, "replays_running (id>?)"),
                (replays::LIST, "PRIMARY KEY (id<?)"),
                (replays::LIST_OF_ACCOUNT, "replays_by_account (account=? AND id<?)"),
                (replays::LIST_OF_ENDPOINT, "replays_by_endpoint (endpoint=? AND id<?)"),
                (audit::SELECT_ALL, "INTEGER PRIMARY KEY (rowid<?)"),
                (audit::SELECT_OF_ACCOUNT, "audit_by_account (account=? AND rowid<?)"),
            ] {
                let plan = plan(connection, sql);
                assert!(plan.contains(index), "{sql}\n{plan}");
                assert!(!plan.contains("TEMP B-TREE"), "{sql}\n{plan}");
                assert!(!plan.replace("SCAN counts", "").contains("SCAN"), "{sql}\n{plan}");
            }
            Ok(())
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_with_a_backlog_opens_without_reading_it_and_serves_it() {
    let scene = Scene::open().await;
    for first in (0..BACKLOG).step_by(1_000) {
        let numbers = first as u128 + 1..=first as u128 + 1_000;
        let events = numbers.map(|number| scene.event(number, body())).collect();
        scene.store.accept(scene.session, events).await.unwrap();
    }
    let lane = vec![LaneRoom { endpoint: scene.endpoint.id, room: 7 }];
    let now = domain::testing::TEST_START;
    scene.store.claim_due(scene.session, now, lane.clone()).await.unwrap();
    let Scene { store, path, endpoint, _directory: _kept, .. } = scene;
    drop(store);

    let store = SqliteStore::open(&path, super::a_vault()).unwrap();
    // What opening wrote are the seven leases it ended, not the backlog.
    let changed = store
        .write(crate::writer::Haste::AtOnce, 1, |ledger| Ok(ledger.connection.total_changes()))
        .await
        .unwrap();
    assert!(changed <= 8, "{changed} rows");
    let lanes = store.waiting_lanes(None, 10).await.unwrap();
    assert_eq!(lanes.len(), 1);
    assert_eq!(lanes[0].endpoint, endpoint.id);
    let session = store.begin_session(now).await.unwrap();
    let claims = store.claim_due(session, now, lane).await.unwrap();
    assert_eq!(claims[0].claimed.len(), 7);
    assert_eq!(claims[0].claimed[0].lease.fence, 2);
    assert_eq!(claims[0].next_due_at, Some(now));
}
