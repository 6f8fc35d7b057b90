//! An account's events from the oldest to the newest, for whoever follows along.

use bytes::Bytes;
use domain::account::Account;
use domain::delivery::Transition;
use domain::id::EventId;
use domain::limits::{EVENT_DATA_BYTES_MAX, PAGE_ROWS_SCANNED_MAX};
use domain::matching::NoDelivery;
use domain::retention::Retention;

use super::Scene;
use super::scene::USED_UP;
use crate::history::{EventWithData, PAGE_DATA_BYTES_MAX};

/// Above every id.
const NEWEST: EventId = EventId::from_u128(u128::MAX);

/// Follows from `after` to what is below `before`, at most `limit` events in each step.
async fn follow(
    scene: &Scene,
    account: &Account,
    after: Option<EventId>,
    before: EventId,
    undelivered: bool,
    limit: usize,
) -> Vec<EventWithData> {
    const STEPS_MAX: usize = 1_000;
    let mut all = Vec::new();
    let mut place = after;
    for _ in 0..STEPS_MAX {
        let followed =
            scene.store.follow_events(account.id, place, before, undelivered, limit).await.unwrap();
        assert!(followed.events.len() <= limit, "no more than asked for");
        let Some(through) = followed.through else {
            assert_eq!(followed.events, [], "what is answered was looked at");
            return all;
        };
        assert!(place < Some(through) && through < before, "it goes on");
        let ids: Vec<_> = followed.events.iter().map(|it| Some(it.event.id)).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| place < *id && *id <= Some(through)));
        place = Some(through);
        all.extend(followed.events);
    }
    panic!("following does not come to an end");
}

/// The ids of everything that following from the beginning answers.
async fn follow_all(scene: &Scene, account: &Account, undelivered: bool) -> Vec<EventId> {
    let events = follow(scene, account, None, NEWEST, undelivered, 2).await;
    events.into_iter().map(|it| it.event.id).collect()
}

pub async fn events_are_followed_from_the_oldest_to_the_newest(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, foreign) = scene.account_with_endpoint().await;
    let mut events = Vec::new();
    for _ in 0..7 {
        let event = scene.publish(&account, &[&endpoint]).await.event;
        events.push(scene.detail(event).await.event);
        scene.publish(&other, &[&foreign]).await;
    }
    for limit in [1, 2, 3, 7, 100] {
        assert_eq!(follow(scene, &account, None, NEWEST, false, limit).await, events);
    }
    let nobody = scene.new_account();
    assert_eq!(follow(scene, &nobody, None, NEWEST, false, 9).await, []);
}

pub async fn events_are_followed_between_two_ids(scene: &mut Scene) {
    let account = scene.account().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(scene.publish(&account, &[]).await.event);
    }
    for (from, to) in [(0, 4), (1, 3), (2, 3), (3, 3), (4, 0)] {
        let events = follow(scene, &account, Some(ids[from]), ids[to], false, 2).await;
        let followed: Vec<_> = events.iter().map(|it| it.event.id).collect();
        let between = ids.iter().filter(|id| ids[from] < **id && **id < ids[to]);
        assert_eq!(followed, between.copied().collect::<Vec<_>>());
    }
    assert_eq!(follow(scene, &account, None, ids[0], false, 2).await, []);
    assert_eq!(follow(scene, &account, Some(NEWEST), NEWEST, false, 2).await, []);
}

pub async fn who_follows_on_sees_what_came_since(scene: &mut Scene) {
    let account = scene.account().await;
    let (mut place, mut seen, mut all) = (None, Vec::new(), Vec::new());
    for number in 0..4 {
        for _ in 0..number {
            all.push(scene.publish(&account, &[]).await.event);
        }
        let followed =
            scene.store.follow_events(account.id, place, NEWEST, false, 100).await.unwrap();
        place = followed.through.or(place);
        seen.extend(followed.events.iter().map(|it| it.event.id));
        assert_eq!(seen, all);
    }
}

pub async fn what_some_endpoint_did_not_get_is_followed_as_undelivered(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let mut undelivered = Vec::new();
    for pair in [
        [Some(Transition::Delivered), Some(Transition::Delivered)],
        [Some(Transition::Delivered), Some(USED_UP)],
        [Some(USED_UP), Some(Transition::Delivered)],
        [Some(Transition::Delivered), None],
    ] {
        let event = scene.publish(&account, &[&first, &second]).await.event;
        for (endpoint, end) in [&first, &second].into_iter().zip(pair) {
            match end {
                Some(end) => scene.attempt_only(endpoint, end).await,
                None => drop(scene.claim_only(endpoint).await),
            }
        }
        if pair != [Some(Transition::Delivered); 2] {
            undelivered.push(event);
        }
    }
    let cancelled = scene.publish(&account, &[&first]).await.event;
    scene.store.cancel_event(account.id, cancelled, scene.note()).await.unwrap();
    undelivered.push(cancelled);
    scene.publish(&account, &[]).await;
    assert_eq!(follow_all(scene, &account, true).await, undelivered);
    assert_eq!(follow_all(scene, &account, false).await.len(), 6);
}

pub async fn what_an_endpoint_missed_is_followed_as_undelivered_until_it_is_replayed(
    scene: &mut Scene,
) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.endpoint(&account).await;
    let mut undelivered = Vec::new();
    for why in NoDelivery::ALL {
        for endpoints in [vec![], vec![&other]] {
            let mut new = scene.new_event(&account, &endpoints).await;
            new.not_made = vec![(endpoint.id, why)];
            let event = scene.accept_new(new).await.event;
            if !endpoints.is_empty() {
                scene.attempt_only(&other, Transition::Delivered).await;
            }
            if matches!(why, NoDelivery::Disabled | NoDelivery::FilterFailed) {
                undelivered.push(event);
            }
        }
    }
    assert_eq!(follow_all(scene, &account, true).await, undelivered);
    for event in undelivered.clone() {
        scene.replay(&account, event, &endpoint).await;
        assert_eq!(follow_all(scene, &account, true).await, undelivered, "it is pending");
        scene.attempt_only(&endpoint, Transition::Delivered).await;
        undelivered.remove(0);
        assert_eq!(follow_all(scene, &account, true).await, undelivered);
    }
}

pub async fn a_step_over_large_events_is_cut_short_and_the_next_goes_on(scene: &mut Scene) {
    let account = scene.account().await;
    let mut ids = Vec::new();
    for _ in 0..PAGE_DATA_BYTES_MAX / EVENT_DATA_BYTES_MAX + 3 {
        let mut new = scene.new_event(&account, &[]).await;
        new.body = Bytes::from(vec![b'x'; EVENT_DATA_BYTES_MAX]);
        new.data = 0..EVENT_DATA_BYTES_MAX;
        ids.push(scene.accept_new(new).await.event);
    }
    let first = scene.store.follow_events(account.id, None, NEWEST, false, 500).await.unwrap();
    assert!(!first.events.is_empty() && first.events.len() < ids.len());
    let bytes: usize = first.events.iter().filter_map(|it| it.data.as_ref()).map(Bytes::len).sum();
    assert!(bytes <= PAGE_DATA_BYTES_MAX);
    assert_eq!(first.through, first.events.last().map(|it| it.event.id));
    let events = follow(scene, &account, None, NEWEST, false, 500).await;
    assert_eq!(events.iter().map(|it| it.event.id).collect::<Vec<_>>(), ids);
}

pub async fn what_is_rare_among_many_events_is_followed_step_by_step(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let template = scene.new_event(&account, &[]).await;
    for _ in 0..=PAGE_ROWS_SCANNED_MAX / 1_000 {
        let events: Vec<_> = (0..1_000).map(|_| scene.another(&template, &[])).collect();
        scene.store.accept(scene.session, events).await.unwrap();
    }
    let rare = scene.publish(&account, &[&endpoint]).await.event;
    let first = scene.store.follow_events(account.id, None, NEWEST, true, 9).await.unwrap();
    assert_eq!(first.events, [], "a step looks at a bounded number of events");
    assert!(first.through.is_some());
    assert_eq!(follow_all(scene, &account, true).await, [rare]);
}

pub async fn an_event_without_a_payload_is_followed_as_such(scene: &mut Scene) {
    let account = scene.account().await;
    let erased = scene.publish(&account, &[]).await.event;
    scene.store.erase_event(account.id, erased, scene.note()).await.unwrap();
    let old = scene.publish(&account, &[]).await.event;
    scene.pass(Retention::default().delivered_payloads_kept_for);
    scene.clean_all().await;
    let events = follow(scene, &account, None, NEWEST, false, 9).await;
    let seen: Vec<_> = events.into_iter().map(|it| (it.event.id, it.data)).collect();
    assert_eq!(seen, [(erased, None), (old, None)]);
}
