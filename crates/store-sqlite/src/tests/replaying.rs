//! A replay costs what its span does and what its events have to do with its endpoint; so does
//! following what is undelivered. Rows that nobody can read stop neither.

use std::time::Duration;

use domain::delivery::StateName;
use domain::id::{DeliveryId, EndpointId, EventId, ReplayId, uuid_v7};
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use domain::page::PageRequest;
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::testing::TEST_START;
use domain::time::Timestamp;
use rusqlite::params;
use store::StoreError;
use store::conformance::scene::note_at;
use store::history::{EventFilter, History as _};
use store::queue::{Added, NewDelivery, Queue as _};
use store::replays::{ReplayCount, ReplayCreated, Replays as _};

use super::{Scene, body};
use crate::fates::{Fates, REPLAYS_LOOKED_AT_MAX};
use crate::room::Room;
use crate::row::Fields;

/// Whatever was accepted, to the scene's endpoint; above every id.
fn everything(scene: &Scene, fate: ReplayFate) -> Replay {
    let since = Timestamp::from_millis(0);
    let until = TEST_START.plus(Duration::from_millis(1));
    let selection = ReplaySelection { fate, since, until };
    let id = ReplayId::from_u128(u128::MAX);
    Replay::begin(id, scene.account.id, scene.endpoint.id, selection, TEST_START)
}

/// Publishes events with a delivery to the scene's endpoint and `others` to endpoints nobody knows;
/// all are delivered.
async fn publish_to_many(scene: &Scene, events: u128, others: u128) {
    let publish = |number| {
        let mut new = scene.event(number * 1_000_000, body());
        new.deliveries.extend((1..=others).map(|other| NewDelivery {
            id: DeliveryId::from_u128(number * 1_000_000 + other),
            endpoint: EndpointId::from_u128(1_000 + other),
            leased: false,
            ordering_key: None,
        }));
        new
    };
    let events = (1..=events).map(publish).collect();
    scene.store.accept(scene.session, events).await.unwrap();
    let end = "UPDATE deliveries SET state = 2, due_at = NULL, ended_at = 0";
    scene.write(|ledger| ledger.execute(end, [])).await.unwrap();
}

#[tokio::test]
async fn a_replay_reads_of_an_event_what_its_endpoint_got_and_so_many_replays_at_most() {
    let scene = Scene::open().await;
    publish_to_many(&scene, 1, 1_000).await;
    let endpoint = scene.endpoint.id;
    let look = async || {
        let look = move |connection: &rusqlite::Connection| {
            let sql = "SELECT id, number, deliveries FROM events";
            let found = crate::catalogue::find(connection, sql, [], |row| {
                let fields = Fields::new("events", row);
                let mut fates = Fates::new(connection);
                let states = fates.states_at(endpoint, fields.get("number")?, &fields)?;
                Ok((states, fates.rows_read))
            });
            Ok(found?.unwrap())
        };
        scene.store.read(look).await.unwrap()
    };
    let pages = 1_001 * 32 / 4_096;
    assert_eq!(look().await, (vec![StateName::Delivered], 1 + pages));
    let replays = REPLAYS_LOOKED_AT_MAX as i64 + 50;
    let replay = move |ledger: &mut crate::ledger::Ledger<'_>| {
        for number in 1..=replays {
            let id = u128::MAX - number as u128;
            let sql = "INSERT INTO replayed SELECT number, ?1 FROM events";
            ledger.execute(sql, params![id.to_be_bytes()])?;
        }
        Ok(())
    };
    scene.write(replay).await.unwrap();
    assert_eq!(look().await.1, 1 + pages + REPLAYS_LOOKED_AT_MAX);
}

#[tokio::test]
async fn a_step_of_a_replay_is_bounded_by_all_the_rows_it_reads() {
    let scene = Scene::open().await;
    publish_to_many(&scene, 50, 0).await;
    let replay = everything(&scene, ReplayFate::Exhausted);
    let id = replay.id;
    scene.store.create_replay(replay.clone(), note_at(TEST_START)).await.unwrap();
    let step = async || {
        let ids = vec![DeliveryId::from_u128(1)];
        scene.store.step_replay(id, ids, 20, TEST_START).await.unwrap().unwrap()
    };
    assert_eq!(step().await.replay.looked_at, 10, "an event and a delivery each");
    let Replay { account, endpoint, selection, .. } = replay;
    let count = scene.store.count_replay(account, endpoint, selection, 98).await.unwrap();
    assert!(!count.is_complete);
    let count = scene.store.count_replay(account, endpoint, selection, 100).await.unwrap();
    assert!(count.is_complete);
    while step().await.replay.state == ReplayState::Running {}
}

#[tokio::test]
async fn who_looks_for_what_is_undelivered_reads_so_many_deliveries_at_once_at_most() {
    const EVENTS: usize = 25;
    const OTHERS: usize = 500;
    let scene = Scene::open().await;
    publish_to_many(&scene, EVENTS as u128, OTHERS as u128).await;
    let account = scene.account.id;
    let newest = EventId::from_u128(u128::MAX);
    let followed = scene.store.follow_events(account, None, newest, true, 9).await.unwrap();
    let looked_at = PAGE_ROWS_SCANNED_MAX.div_ceil(OTHERS + 2) as u128;
    assert_eq!(followed.through, Some(EventId::from_u128(looked_at * 1_000_000)));
    let rest = scene.store.follow_events(account, followed.through, newest, true, 9).await;
    assert_eq!(rest.unwrap().through, Some(EventId::from_u128(EVENTS as u128 * 1_000_000)));

    let filter =
        EventFilter { account: Some(account), undelivered: true, ..EventFilter::default() };
    let page = scene.store.list_events(filter.clone(), PageRequest::LARGEST).await.unwrap();
    let lowest = (EVENTS as u128 - looked_at + 1) * 1_000_000;
    assert_eq!((page.items.len(), page.next_before), (0, Some(lowest)));
    let next = PageRequest { before: page.next_before, ..PageRequest::LARGEST };
    assert_eq!(scene.store.list_events(filter, next).await.unwrap().next_before, None);
}

#[tokio::test]
async fn an_event_or_a_replay_that_nobody_can_read_stops_neither_replays_nor_followers() {
    for is_filed in [false, true] {
        for broken in [
            "UPDATE events SET deliveries = x'01' WHERE id = ?1",
            "UPDATE events SET not_made = x'01' WHERE id = ?1",
            "UPDATE events SET accepted_at = -9e18 WHERE id = ?1",
            "UPDATE deliveries SET state = 77 WHERE id = ?1",
        ] {
            let scene = Scene::open().await;
            publish_to_many(&scene, 3, 0).await;
            let replay = everything(&scene, ReplayFate::All);
            scene.store.create_replay(replay.clone(), note_at(TEST_START)).await.unwrap();
            let id = 2_000_000_u128.to_be_bytes();
            let unreadable = "INSERT INTO replays SELECT x'00', account, endpoint, 'nonsense', \
                              since, until, per_second, state, 0, 0, NULL, 0, NULL FROM replays";
            scene
                .write(move |ledger| {
                    if is_filed {
                        ledger.file()?;
                    }
                    ledger.execute(broken, [id])?;
                    ledger.execute(unreadable, [])?;
                    ledger.unfiled = None;
                    Ok(())
                })
                .await
                .unwrap();
            let running = scene.store.running_replays(None, 9).await.unwrap();
            assert_eq!(running, std::slice::from_ref(&replay));
            let ids = (1..=9).map(DeliveryId::from_u128).collect();
            let step = scene.store.step_replay(replay.id, ids, 100, TEST_START).await.unwrap();
            let step = step.unwrap();
            assert_eq!((step.created, step.replay.state), (2, ReplayState::Done), "{broken}");
            let newest = EventId::from_u128(u128::MAX);
            let account = scene.account.id;
            let followed = scene.store.follow_events(account, None, newest, true, 9).await.unwrap();
            let ids: Vec<_> = followed.events.iter().map(|it| it.event.id.as_u128()).collect();
            assert!(ids.contains(&1_000_000) && ids.contains(&3_000_000), "{broken} {ids:?}");
            assert_eq!(followed.through, Some(EventId::from_u128(3_000_000)), "{broken}");
        }
    }
}

#[tokio::test]
async fn a_replay_finds_filed_events_that_were_accepted_while_the_clock_was_set_back() {
    let scene = Scene::open().await;
    let at = |hours: u64| TEST_START.plus(Duration::from_hours(hours));
    // The clock goes from 9 back to 1; ids go on from where they were.
    let clock = [(8, 8), (9, 9), (9, 1), (9, 2), (9, 3)];
    let born_at =
        |hours, number: u128| uuid_v7(at(hours).as_millis() as u64, &[0; 10]) + 2 * number;
    let event = |(number, (hours, accepted_at)): (usize, (u64, u64))| {
        let mut new = scene.event(number as u128 + 1, body());
        new.event.id = EventId::from_u128(born_at(hours, number as u128));
        new.event.accepted_at = at(accepted_at);
        new
    };
    let events = clock.into_iter().enumerate().map(event).collect();
    scene.store.accept(scene.session, events).await.unwrap();
    let end = "UPDATE deliveries SET state = 2, due_at = NULL, ended_at = 0";
    scene.write(|ledger| ledger.file().and_then(|()| ledger.execute(end, []))).await.unwrap();
    for (number, since, until, expected) in [(1, 0, 4, 3), (2, 2, 4, 2), (3, 8, 9, 1)] {
        let fate = ReplayFate::All;
        let selection = ReplaySelection { fate, since: at(since), until: at(until) };
        let id = ReplayId::from_u128(born_at(9, 100 + number));
        let (account, endpoint) = (scene.account.id, scene.endpoint.id);
        let replay = Replay::begin(id, account, endpoint, selection, at(4));
        scene.store.create_replay(replay, note_at(at(4))).await.unwrap();
        let ids = (0..9).map(|it| DeliveryId::from_u128(number * 1_000 + it)).collect();
        let step = scene.store.step_replay(id, ids, 100, at(4)).await.unwrap().unwrap();
        assert_eq!(step.replay.looked_at, expected, "{since} to {until}");
        assert_eq!(step.replay.state, ReplayState::Done);
    }
}

#[tokio::test]
async fn a_replay_begins_where_its_span_does_and_ends_soon_after_it() {
    /// More outside the span, on either side, than a step reads there.
    const EVENTS: u128 = 4_000;
    let scene = Scene::open().await;
    let born_at = |at: Timestamp| uuid_v7(at.as_millis() as u64, &[0; 10]);
    let at = |number: u128| TEST_START.plus(Duration::from_secs(60 * number as u64));
    for first in (1..=EVENTS).step_by(1_000) {
        let event = |number| {
            let mut new = scene.event(number, body());
            new.event.accepted_at = at(number);
            new.event.id = EventId::from_u128(born_at(at(number)));
            new
        };
        let events = (first..first + 1_000).map(event).collect();
        scene.store.accept(scene.session, events).await.unwrap();
    }
    let account = scene.account.id;
    scene
        .write(|ledger| {
            ledger.file()?;
            ledger.execute(
                "UPDATE deliveries SET state = 3, reason = 'too_old', due_at = NULL, ended_at = 0",
                [],
            )
        })
        .await
        .unwrap();
    for (since, until) in [(2_000, 2_010), (1, 3), (3_991, 9_999)] {
        let fate = ReplayFate::Exhausted;
        let selection = ReplaySelection { fate, since: at(since), until: at(until) };
        let wanted = until.min(EVENTS + 1) - since;
        let count = scene.store.count_replay(account, scene.endpoint.id, selection, 100).await;
        assert_eq!(count.unwrap(), ReplayCount { events: wanted as u64, is_complete: true });
        let id = ReplayId::from_u128(born_at(at(EVENTS + 1)) + since);
        let replay = Replay::begin(id, account, scene.endpoint.id, selection, at(EVENTS));
        let created = scene.store.create_replay(replay, note_at(at(EVENTS))).await.unwrap();
        assert_eq!(created, ReplayCreated::Created);
        let ids = (0..100).map(|it| DeliveryId::from_u128(since * 1_000_000 + it)).collect();
        let step = scene.store.step_replay(id, ids, 100, at(EVENTS)).await.unwrap().unwrap();
        assert_eq!((step.created, step.replay.looked_at), (wanted as usize, wanted as u64));
        assert_eq!(step.replay.state, ReplayState::Done, "{since} to {until}, in one step");
    }
}

#[tokio::test]
async fn a_replay_takes_nothing_of_the_space_kept_for_what_was_accepted() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let end = "UPDATE deliveries SET state = 2, due_at = NULL, ended_at = 0";
    scene.write(|ledger| ledger.file().and_then(|()| ledger.execute(end, []))).await.unwrap();
    let replay = || {
        let new = NewDelivery {
            id: DeliveryId::from_u128(8),
            endpoint: scene.endpoint.id,
            leased: false,
            ordering_key: None,
        };
        let (account, event) = (scene.account.id, EventId::from_u128(1));
        scene.store.add_delivery(scene.session, account, event, new, note_at(TEST_START))
    };
    let set_room = |free: u64| {
        scene.write(move |ledger| {
            ledger.room = Room::with_free(free);
            Ok(())
        })
    };
    set_room(1 << 20).await.unwrap();
    let refused = replay().await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    set_room(1 << 30).await.unwrap();
    assert!(matches!(replay().await, Ok(Added::Created(_))));
}
