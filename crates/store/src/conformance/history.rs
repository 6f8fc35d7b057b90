//! Events and deliveries listed by what they are.

use std::time::Duration;

use bytes::Bytes;
use domain::account::Account;
use domain::delivery::{DeliveryState, StateName, Transition};
use domain::endpoint::Endpoint;
use domain::id::{DeliveryId, EventId};
use domain::limits::EVENT_DATA_BYTES_MAX;
use domain::page::PageRequest;

use super::Scene;
use super::audit::{all_deliveries, all_events};
use super::scene::{Published, USED_UP, event_type};
use crate::catalogue::DeletedHistory;
use crate::history::{DeliveryFilter, EventFilter, PAGE_DATA_BYTES_MAX};
use crate::queue::{Accepted, NewEvent};

const SECOND: Duration = Duration::from_secs(1);

/// Checks that exactly these events pass the filter, oldest first.
async fn events_are(scene: &Scene, filter: EventFilter, expected: &[EventId]) {
    let events = all_events(&*scene.store, &filter).await;
    let mut ids: Vec<_> = events.iter().map(|event| event.event.id).collect();
    ids.reverse();
    assert_eq!(ids, expected, "{filter:?}");
}

/// Checks that exactly these deliveries pass the filter, oldest first.
async fn deliveries_are(scene: &Scene, filter: DeliveryFilter, expected: &[DeliveryId]) {
    let deliveries = all_deliveries(&*scene.store, &filter).await;
    let mut ids: Vec<_> = deliveries.iter().map(|delivery| delivery.id).collect();
    ids.reverse();
    assert_eq!(ids, expected, "{filter:?}");
}

fn any_event() -> EventFilter {
    EventFilter::default()
}

fn any_delivery() -> DeliveryFilter {
    DeliveryFilter::default()
}

async fn publish_type(
    scene: &mut Scene,
    account: &Account,
    endpoints: &[&Endpoint],
    name: &str,
) -> Published {
    let mut new = scene.new_event(account, endpoints).await;
    new.event.event_type = event_type(name);
    scene.accept_new(new).await
}

pub async fn what_was_never_there_is_absent(scene: &mut Scene) {
    events_are(scene, any_event(), &[]).await;
    deliveries_are(scene, any_delivery(), &[]).await;
    assert_eq!(scene.store.read_event(EventId::from_u128(900)).await.unwrap(), None);
    assert_eq!(scene.store.read_delivery(DeliveryId::from_u128(900)).await.unwrap(), None);
}

pub async fn events_are_filtered_by_account_and_type(scene: &mut Scene) {
    let (first, second) = (scene.account().await, scene.account().await);
    let a = publish_type(scene, &first, &[], "video.created").await.event;
    let b = publish_type(scene, &second, &[], "video.created").await.event;
    let c = publish_type(scene, &first, &[], "Video.created").await.event;
    let created = Some(event_type("video.created"));
    events_are(scene, any_event(), &[a, b, c]).await;
    events_are(scene, EventFilter { account: Some(first.id), ..any_event() }, &[a, c]).await;
    let by_type = EventFilter { event_type: created, ..any_event() };
    events_are(scene, by_type.clone(), &[a, b]).await;
    events_are(scene, EventFilter { account: Some(second.id), ..by_type }, &[b]).await;
    let other_type = Some(event_type("video"));
    events_are(scene, EventFilter { event_type: other_type, ..any_event() }, &[]).await;
    let nobody = scene.new_account().id;
    events_are(scene, EventFilter { account: Some(nobody), ..any_event() }, &[]).await;
}

pub async fn events_are_filtered_by_when_they_were_accepted(scene: &mut Scene) {
    let account = scene.account().await;
    let (mut ids, mut at) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ids.push(scene.publish(&account, &[]).await.event);
        at.push(scene.now);
        scene.pass(SECOND);
    }
    let since = |index: usize| EventFilter { since: Some(at[index]), ..any_event() };
    events_are(scene, since(0), &ids).await;
    events_are(scene, since(1), &ids[1..]).await;
    let until = Some(at[2]);
    events_are(scene, EventFilter { until, ..any_event() }, &ids[..2]).await;
    events_are(scene, EventFilter { until, ..since(1) }, &ids[1..2]).await;
    events_are(scene, EventFilter { until, ..since(2) }, &[]).await;
}

pub async fn undelivered_events_have_a_delivery_in_another_state(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let delivered = scene.publish(&account, &[&first]).await.event;
    scene.attempt_only(&first, Transition::Delivered).await;
    let half = scene.publish(&account, &[&first, &second]).await.event;
    scene.attempt_only(&first, Transition::Delivered).await;
    let unwanted = scene.publish(&account, &[]).await.event;
    let exhausted = scene.publish(&account, &[&first]).await.event;
    scene.attempt_only(&first, USED_UP).await;
    let undelivered = EventFilter { undelivered: true, ..any_event() };
    events_are(scene, undelivered.clone(), &[half, exhausted]).await;
    scene.delete_endpoint(&second, DeletedHistory::Keep).await;
    events_are(scene, undelivered.clone(), &[half, exhausted]).await;
    events_are(scene, any_event(), &[delivered, half, unwanted, exhausted]).await;
    scene.replay(&account, exhausted, &first).await;
    scene.attempt_only(&first, Transition::Delivered).await;
    events_are(scene, undelivered, &[half, exhausted]).await;
}

pub async fn deliveries_are_filtered_by_whose_and_what_they_are(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let (other, foreign) = scene.account_with_endpoint().await;
    let one = scene.publish(&account, &[&first, &second]).await;
    let two = scene.publish(&other, &[&foreign]).await;
    let three = scene.publish(&account, &[&first]).await;
    let (of_first, of_second) = (one.deliveries[0], one.deliveries[1]);
    let all = [of_first, of_second, two.only(), three.only()];
    deliveries_are(scene, any_delivery(), &all).await;
    let of_account = DeliveryFilter { account: Some(account.id), ..any_delivery() };
    deliveries_are(scene, of_account.clone(), &[of_first, of_second, three.only()]).await;
    let to_first = DeliveryFilter { endpoint: Some(first.id), ..any_delivery() };
    deliveries_are(scene, to_first.clone(), &[of_first, three.only()]).await;
    let of_event = DeliveryFilter { event: Some(one.event), ..any_delivery() };
    deliveries_are(scene, of_event, &[of_first, of_second]).await;
    let narrow = DeliveryFilter { event: Some(three.event), ..to_first };
    deliveries_are(scene, narrow, &[three.only()]).await;
    let nothing = DeliveryFilter { event: Some(two.event), ..of_account.clone() };
    deliveries_are(scene, nothing, &[]).await;
    let nothing = DeliveryFilter { endpoint: Some(foreign.id), ..of_account };
    deliveries_are(scene, nothing, &[]).await;
}

pub async fn deliveries_are_filtered_by_state(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let doomed = scene.endpoint(&account).await;
    let cancelled = scene.publish(&account, &[&doomed]).await.only();
    scene.delete_endpoint(&doomed, DeletedHistory::Keep).await;
    let delivered = scene.publish_leased(&account, &endpoint).await;
    scene.record(delivered, Transition::Delivered).await;
    let exhausted = scene.publish_leased(&account, &endpoint).await;
    scene.record(exhausted, USED_UP).await;
    let leased = scene.publish_leased(&account, &endpoint).await.delivery;
    let claimable = scene.publish(&account, &[&endpoint]).await.only();
    for (state, expected) in [
        (StateName::Pending, vec![leased, claimable]),
        (StateName::Delivered, vec![delivered.delivery]),
        (StateName::Exhausted, vec![exhausted.delivery]),
        (StateName::Cancelled, vec![cancelled]),
    ] {
        let by_state = DeliveryFilter { state: Some(state), ..any_delivery() };
        deliveries_are(scene, by_state.clone(), &expected).await;
        let of_account = DeliveryFilter { account: Some(account.id), ..by_state.clone() };
        deliveries_are(scene, of_account, &expected).await;
        let to_endpoint = DeliveryFilter { endpoint: Some(endpoint.id), ..by_state };
        let expected = if state == StateName::Cancelled { Vec::new() } else { expected };
        deliveries_are(scene, to_endpoint, &expected).await;
    }
}

pub async fn deliveries_are_filtered_by_when_they_were_created(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[]).await.event;
    let (mut ids, mut at) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        scene.pass(SECOND);
        ids.push(scene.replay(&account, event, &endpoint).await);
        at.push(scene.now);
    }
    let since = |index: usize| DeliveryFilter { since: Some(at[index]), ..any_delivery() };
    deliveries_are(scene, since(0), &ids).await;
    deliveries_are(scene, since(1), &ids[1..]).await;
    let until = Some(at[2]);
    deliveries_are(scene, DeliveryFilter { until, ..any_delivery() }, &ids[..2]).await;
    let narrow = DeliveryFilter { until, state: Some(StateName::Pending), ..since(1) };
    deliveries_are(scene, narrow, &ids[1..2]).await;
}

pub async fn a_page_of_large_events_is_cut_short_and_the_next_goes_on(scene: &mut Scene) {
    let account = scene.account().await;
    let template = scene.new_event(&account, &[]).await;
    let body = Bytes::from(vec![b'x'; EVENT_DATA_BYTES_MAX]);
    let mut published = Vec::new();
    for _ in 0..40 {
        let data = 0..EVENT_DATA_BYTES_MAX;
        let new = NewEvent { body: body.clone(), data, ..scene.another(&template, &[]) };
        published.push(scene.accept_new(new).await.event);
    }
    let first = scene.store.list_events(any_event(), PageRequest::LARGEST).await.unwrap();
    let bytes: usize = first.items.iter().filter_map(|it| it.data.as_ref()).map(Bytes::len).sum();
    assert!(!first.items.is_empty() && bytes <= PAGE_DATA_BYTES_MAX, "{bytes}");
    assert!(first.next_before.is_some());
    events_are(scene, any_event(), &published).await;
}

pub async fn what_is_rare_in_a_long_history_is_found_page_by_page(scene: &mut Scene) {
    const CALLS: usize = 11;
    let (account, endpoint) = scene.account_with_endpoint().await;
    let rare = publish_type(scene, &account, &[&endpoint], "rare").await;
    let template = scene.new_event(&account, &[]).await;
    for _ in 0..CALLS {
        let events: Vec<_> = (0..1_000).map(|_| scene.another(&template, &[&endpoint])).collect();
        let answers = scene.store.accept(scene.session, events).await.unwrap();
        assert!(answers.iter().all(|answer| *answer == Accepted::New));
    }
    let lease = scene.claim(&endpoint, 1).await[0].lease;
    assert_eq!(lease.delivery, rare.only());
    scene.record(lease, USED_UP).await;
    let by_type = EventFilter { event_type: Some(event_type("rare")), ..any_event() };
    events_are(scene, by_type, &[rare.event]).await;
    let until = Some(scene.now.plus(SECOND));
    let exhausted = Some(StateName::Exhausted);
    let by_state = DeliveryFilter { state: exhausted, until, ..any_delivery() };
    deliveries_are(scene, by_state, &[rare.only()]).await;
    assert!(matches!(scene.delivery(rare.only()).await.state, DeliveryState::Exhausted(_)));
}
