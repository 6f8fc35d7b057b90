//! What is kept no longer: the disk has its space back, nobody waits for it, nothing is left of it,
//! and one damaged row keeps no other.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use domain::attempt::{Attempt, Outcome, Phases};
use domain::delivery::Transition;
use domain::id::{DeliveryId, EventId};
use domain::ordering::OrderingKey;
use domain::page::PageRequest;
use domain::retention::Retention;
use domain::testing::TEST_START;
use domain::time::Timestamp;
use store::catalogue::{Catalogue as _, DeletedHistory};
use store::conformance::scene::note_at;
use store::history::History as _;
use store::queue::{
    Accepted, AttemptRecord, Cancelled, Cleaned, LaneRoom, NewDelivery, NewEvent, Queue as _,
};
use store::replays::Replays as _;

use super::Scene;
use crate::ledger::Ledger;
use crate::retention::PENDING_LOOKED_AT;

const RETENTION: Retention = Retention {
    delivered_payloads_kept_for: Duration::from_hours(1),
    records_kept_for: Duration::from_hours(10),
};

/// Pages of the files beside the database's rows: the log's are not given back until it is emptied.
fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

pub(super) fn hours(hours: u64) -> Timestamp {
    TEST_START.plus(Duration::from_hours(hours))
}

impl Scene {
    /// Publishes events of these numbers and records an attempt of each of their deliveries.
    async fn publish_and_deliver(&self, numbers: std::ops::Range<u128>, body_bytes: usize) {
        let room = numbers.clone().count();
        let body = Bytes::from(vec![b'x'; body_bytes]);
        let events: Vec<NewEvent> =
            numbers.map(|number| self.event(number, body.clone())).collect();
        let answers = self.store.accept(self.session, events).await.unwrap();
        assert_eq!(answers, vec![Accepted::New; room]);
        self.deliver_all().await;
    }

    pub(super) async fn deliver_all(&self) {
        let lanes = vec![LaneRoom { endpoint: self.endpoint.id, room: 100_000 }];
        let claims = self.store.claim_due(self.session, TEST_START, lanes).await.unwrap();
        let attempt = Attempt {
            number: 1,
            at: TEST_START,
            duration: Duration::from_millis(5),
            phases: Phases::default(),
            outcome: Outcome::Answered { status: 200, retry_after: None },
            request_head: "POST / HTTP/1.1\n".repeat(20),
            response_excerpt: vec![b'y'; 500],
            next_at: None,
        };
        let record = |lease| AttemptRecord {
            lease,
            attempt: attempt.clone(),
            transition: Transition::Delivered,
        };
        let records = claims[0].claimed.iter().map(|claimed| record(claimed.lease)).collect();
        self.store.record(records).await.unwrap();
    }

    pub(super) async fn clean_at(&self, now: Timestamp, rows_max: usize) -> Cleaned {
        let mut total = Cleaned::default();
        loop {
            let step = self.store.clean(now, &RETENTION, rows_max).await.unwrap();
            total.payloads += step.payloads;
            total.events += step.events;
            total.expired += step.expired;
            total.freed_bytes += step.freed_bytes;
            if !step.has_more {
                return total;
            }
        }
    }

    /// Rows of every table that grows with events.
    async fn rows(&self) -> Vec<(&'static str, i64)> {
        const TABLES: [&str; 12] = [
            "events",
            "event_extras",
            "events_by_account",
            "deliveries",
            "deliveries_by_endpoint",
            "attempts",
            "replayed",
            "ordered",
            "kept_longer",
            "pending_payloads",
            "departed_events",
            "departed_endpoints",
        ];
        self.write(|ledger| {
            let count = |table: &str| -> crate::failure::Result<i64> {
                let sql = format!("SELECT count(*) FROM {table}");
                Ok(ledger.connection.query_row(&sql, [], |row| row.get(0))?)
            };
            let counts: crate::failure::Result<Vec<_>> =
                TABLES.iter().map(|table| Ok((*table, count(table)?))).collect();
            Ok(counts?.into_iter().filter(|(_, rows)| *rows > 0).collect())
        })
        .await
        .unwrap()
    }
}

/// What a step did to the file: rows changed, and pages given back.
#[derive(Clone, Copy, Debug)]
struct Effort {
    rows: u64,
    pages: i64,
}

impl Scene {
    /// Rows changed since the store was opened, and the file's pages.
    async fn effort(&self) -> Effort {
        self.write(|ledger| {
            let pages =
                ledger.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            Ok(Effort { rows: ledger.connection.total_changes(), pages })
        })
        .await
        .unwrap()
    }
}

#[tokio::test]
async fn the_disk_has_its_space_back_and_nobody_waits_for_it() {
    const EVENTS: u128 = 3_000;
    const STEP_ROWS: usize = 500;
    /// Rows that are changed for one that counts: of an event there are its row, its delivery, its
    /// attempt, and its place in the lists by account and by endpoint.
    const ROWS_PER_ROW: u64 = 5;
    let scene = Scene::open().await;
    for first in (1..=EVENTS).step_by(500) {
        scene.publish_and_deliver(first..first + 500, 8_000).await;
    }
    let counts = scene.store.counts().await.unwrap();
    let mut published = EVENTS;
    let mut cleaned = Cleaned::default();
    for now in [hours(1), hours(10)] {
        loop {
            let before = scene.effort().await;
            let step = scene.store.clean(now, &RETENTION, STEP_ROWS).await.unwrap();
            let after = scene.effort().await;
            let changed = after.rows - before.rows;
            assert!(changed <= STEP_ROWS as u64 * ROWS_PER_ROW, "{changed} rows in {step:?}");
            assert!(before.pages - after.pages <= STEP_ROWS as i64, "{before:?} {after:?}");
            assert!(step.payloads + step.events <= STEP_ROWS as u64);
            cleaned.payloads += step.payloads;
            cleaned.events += step.events;
            cleaned.freed_bytes += step.freed_bytes;
            if !step.has_more {
                break;
            }
            published += 1;
            let mut new = scene.event(published, super::body());
            new.event.accepted_at = hours(10);
            assert_eq!(
                scene.store.accept(scene.session, vec![new]).await.unwrap(),
                [Accepted::New]
            );
        }
    }
    assert_eq!((cleaned.payloads, cleaned.events), (EVENTS as u64, EVENTS as u64));
    assert!(cleaned.freed_bytes > 20_000_000, "{cleaned:?}");
    let after = scene.store.counts().await.unwrap();
    assert_eq!(after.delivered, counts.delivered);
    assert_eq!(after.events, u64::try_from(published).unwrap());
    scene.store.close().await.unwrap();
    // What is kept to be used again, and little more.
    assert!(file_bytes(&scene.path) < 6_000_000, "{}", file_bytes(&scene.path));
}

#[tokio::test]
async fn nothing_is_left_of_what_was_kept_long_enough() {
    let scene = Scene::open().await;
    scene.publish_and_deliver(1..20, 10).await;
    let mut scheduled = scene.event(20, super::body());
    scheduled.event.deliver_at = Some(hours(2));
    let mut ordered = Vec::new();
    for number in 21..24 {
        let mut new = scene.event(number, super::body());
        new.deliveries[0].ordering_key = OrderingKey::parse("video").ok();
        new.event.ordering_key = OrderingKey::parse("video").ok();
        ordered.push(new);
    }
    let pending = scene.event(24, super::body());
    let all = [vec![scheduled, pending], ordered].concat();
    scene.store.accept(scene.session, all).await.unwrap();
    let replay = scene.event(900, super::body()).deliveries.remove(0);
    let (account, note) = (scene.account.id, note_at(TEST_START));
    let event = EventId::from_u128(3);
    scene.store.add_delivery(scene.session, account, event, replay, note.clone()).await.unwrap();
    let endpoint = scene.endpoint.id;
    let cleaned = scene.clean_at(hours(1), 7).await;
    assert_eq!((cleaned.payloads, cleaned.events), (18, 0));
    scene.store.delete_endpoint(account, endpoint, DeletedHistory::Keep, note).await.unwrap();
    let cleaned = scene.clean_at(hours(10), 7).await;
    assert_eq!((cleaned.events, cleaned.expired), (23, 0));
    let cleaned = scene.clean_at(hours(12), 7).await;
    assert_eq!((cleaned.events, cleaned.expired), (1, 0));
    assert_eq!(scene.rows().await, []);
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.events, counts.created, counts.pending), (24, 25, 0));
    assert_eq!((counts.delivered, counts.cancelled), (19, 6));
}

#[tokio::test]
async fn a_row_that_nobody_can_read_keeps_no_other_from_being_removed() {
    let scene = Scene::open().await;
    scene.publish_and_deliver(1..6, 10).await;
    scene
        .write(|ledger| {
            ledger.execute("UPDATE events SET deliveries = x'01' WHERE number = 2", [])?;
            ledger.execute("UPDATE events SET id = x'02' WHERE number = 3", [])
        })
        .await
        .unwrap();
    assert_eq!(scene.clean_at(hours(1), 3).await.payloads, 3);
    assert_eq!(scene.clean_at(hours(10), 3).await.events, 3);
    for (number, is_there) in [(1, false), (4, false), (5, false)] {
        let found = scene.store.read_delivery(DeliveryId::from_u128(number)).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{number}");
    }
    assert_eq!(scene.clean_at(hours(10), 3).await, Cleaned::default(), "it is passed over");
}

#[tokio::test]
async fn a_new_file_can_give_space_back() {
    let scene = Scene::open().await;
    let mode = scene.write(|ledger| {
        Ok(ledger.connection.pragma_query_value(None, "auto_vacuum", |row| row.get::<_, i64>(0))?)
    });
    assert_eq!(mode.await.unwrap(), 2, "incremental");
}

/// How many rows the statement finds.
async fn count(scene: &Scene, sql: &'static str) -> i64 {
    scene
        .write(move |ledger| Ok(ledger.connection.query_row(sql, [], |row| row.get(0))?))
        .await
        .unwrap()
}

#[tokio::test]
async fn however_much_was_pending_goes_in_one_round() {
    const EVENTS: u64 = PENDING_LOOKED_AT as u64 + 50;
    let scene = Scene::open().await;
    let events = (1..=u128::from(EVENTS)).map(|it| scene.event(it, super::body())).collect();
    scene.store.accept(scene.session, events).await.unwrap();
    assert_eq!(scene.clean_at(hours(1), 100_000).await.payloads, 0);
    scene.deliver_all().await;
    assert_eq!(scene.clean_at(hours(1), 100_000).await.payloads, EVENTS);
}

#[tokio::test]
async fn looking_at_deliveries_is_work_too() {
    const ROWS_MAX: usize = 44;
    const ROWS_PER_EVENT: usize = 11;
    let scene = Scene::open().await;
    let mut events = Vec::new();
    for number in 1..=20 {
        let mut new = scene.event(number * 1_000, super::body());
        let first = new.deliveries[0].clone();
        new.deliveries = (0..160)
            .map(|it| NewDelivery {
                id: DeliveryId::from_u128(number * 1_000 + it),
                ..first.clone()
            })
            .collect();
        events.push(new);
    }
    scene.store.accept(scene.session, events).await.unwrap();
    for (column, now) in [("payloads_through", hours(1)), ("events_through", hours(10))] {
        assert!(scene.store.clean(now, &RETENTION, ROWS_MAX).await.unwrap().has_more);
        let sql: &'static str = match column {
            "payloads_through" => "SELECT payloads_through FROM cleaning",
            _ => "SELECT events_through FROM cleaning",
        };
        assert!(count(&scene, sql).await <= (ROWS_MAX / ROWS_PER_EVENT) as i64);
    }
    assert_eq!(scene.clean_at(hours(10), ROWS_MAX).await.events, 20);
    assert_eq!(scene.rows().await, []);
}

#[tokio::test]
async fn payloads_records_and_pages_do_not_wait_for_one_another() {
    let scene = Scene::open().await;
    scene.publish_and_deliver(1..400, 20_000).await;
    scene.clean_at(hours(1), 500).await;
    // Pages are free now, records are old, and payloads are.
    scene.publish_and_deliver(400..800, 10).await;
    let free = "SELECT count(*) FROM events WHERE body IS NULL";
    assert_eq!(count(&scene, free).await, 399);
    scene
        .write(|ledger| ledger.execute("UPDATE events SET accepted_at = 0 WHERE number < 400", []))
        .await
        .unwrap();
    let step = scene.store.clean(hours(1), &RETENTION, 40).await.unwrap();
    assert!(step.payloads > 0 && step.events > 0 && step.has_more, "{step:?}");
}

#[tokio::test]
async fn an_event_with_very_many_attempts_is_erased_in_steps() {
    let scene = Scene::open().await;
    let left = "SELECT count(*) FROM attempts WHERE length(exchange) > 0";
    let account = scene.account.id;
    for event in [1_000, 2_000, 3_000] {
        let mut new = scene.event(event, super::body());
        for number in 1..5 {
            let first = new.deliveries[0].clone();
            new.deliveries.push(NewDelivery { id: DeliveryId::from_u128(event + number), ..first });
        }
        scene.store.accept(scene.session, vec![new]).await.unwrap();
    }
    scene.deliver_all().await;
    assert_eq!(count(&scene, left).await, 15);

    let erased =
        scene.store.erase_in_steps(account, EventId::from_u128(1_000), note_at(TEST_START), 1);
    assert_eq!(erased.await.unwrap(), Cancelled::Deliveries(0));
    assert_eq!(count(&scene, left).await, 10, "all of it when it is answered");

    // As if the process died after the first step.
    for (number, left_then) in [(2_000, 8), (3_000, 6)] {
        let event = EventId::from_u128(number);
        let first_step =
            move |ledger: &mut Ledger<'_>| ledger.erase_event(account, event, TEST_START, 2);
        assert_eq!(scene.write(first_step).await.unwrap(), Cancelled::Deliveries(0));
        let detail = scene.store.read_event(event).await.unwrap().unwrap();
        assert_eq!(detail.event.data, None, "what others go by is done at once");
        if number == 2_000 {
            assert_eq!(count(&scene, left).await, left_then);
            assert_eq!(scene.clean_at(TEST_START, 1).await, Cleaned::default());
            assert_eq!(count(&scene, left).await, 5);
        } else {
            let again = scene.store.erase_event(account, event, note_at(TEST_START)).await;
            assert_eq!(again.unwrap(), Cancelled::Deliveries(0), "it goes on");
            assert_eq!(count(&scene, left).await, 0);
            let again = scene.store.erase_event(account, event, note_at(TEST_START)).await;
            assert_eq!(again.unwrap(), Cancelled::Nothing);
        }
    }
    assert_eq!(count(&scene, "SELECT count(*) FROM pending_payloads").await, 0);
}

#[tokio::test]
async fn a_deleted_account_with_large_events_and_many_replays_goes_in_steps() {
    let scene = Scene::open().await;
    let account = scene.account.id;
    scene.publish_and_deliver(1..4, 10).await;
    scene
        .write(move |ledger| {
            ledger.execute("UPDATE events SET data_length = 10000000", [])?;
            let sql = "WITH RECURSIVE numbers (number) AS \
                 (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < 600) \
                 INSERT INTO replays SELECT CAST(printf('%016d', number) AS BLOB), ?1, \
                 zeroblob(16), 'all', 0, 0, 1, 'done', 0, 0, NULL, 0, 0 FROM numbers";
            ledger.execute(sql, [account.to_bytes()])
        })
        .await
        .unwrap();
    assert!(scene.store.delete_account(account, note_at(TEST_START)).await.unwrap());
    assert_eq!(count(&scene, "SELECT count(*) FROM events").await, 1);
    assert_eq!(count(&scene, "SELECT count(*) FROM replays").await, 600);
    for account in [None, Some(account)] {
        let page = PageRequest::LARGEST;
        assert_eq!(scene.store.list_replays(account, None, page).await.unwrap().items, []);
    }
    scene.store.clean(TEST_START, &RETENTION, 500).await.unwrap();
    let replays = count(&scene, "SELECT count(*) FROM replays").await;
    assert!((1..600).contains(&replays), "{replays}");
    scene.clean_at(TEST_START, 100).await;
    assert_eq!(count(&scene, "SELECT count(*) FROM replays").await, 0);
    assert_eq!(scene.rows().await, []);
}

#[tokio::test]
async fn what_is_erased_is_overwritten_in_the_file() {
    let scene = Scene::open().await;
    scene.publish_and_deliver(1..2, 20_000).await;
    let pieces = scene
        .write(|ledger| {
            let piece = |sql: &str| -> crate::failure::Result<Vec<u8>> {
                Ok(ledger.connection.query_row(sql, [], |row| row.get(0))?)
            };
            let exchange = piece("SELECT substr(exchange, -64) FROM attempts")?;
            Ok([piece("SELECT substr(body, 10001, 64) FROM events")?, exchange])
        })
        .await
        .unwrap();
    let event = EventId::from_u128(1);
    let note = note_at(TEST_START);
    scene.store.erase_event(scene.account.id, event, note).await.unwrap();
    scene.store.close().await.unwrap();
    let file = std::fs::read(&scene.path).unwrap();
    for piece in pieces {
        assert_eq!(piece.len(), 64);
        assert!(!file.windows(piece.len()).any(|there| there == piece), "it is still there");
    }
}
