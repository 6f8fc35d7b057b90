//! Events erased: nothing is left of what they said, and everything of what became of them.

use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::endpoint::Endpoint;
use domain::id::{EndpointId, EventId};
use domain::matching::NoDelivery;
use domain::ordering::OrderingKey;
use domain::retention::Retention;

use super::Scene;
use super::audit::all_events;
use super::scene::{Published, USED_UP};
use crate::history::EventFilter;
use crate::queue::{Added, Cancelled, Recorded};

const ERASED: DeliveryState = DeliveryState::Cancelled(EndReason::Erased);

async fn erase(scene: &Scene, account: &Account, event: EventId) -> Cancelled {
    scene.store.erase_event(account.id, event, scene.note()).await.unwrap()
}

/// Accepts an event with everything that can be erased, and one delivery to each endpoint.
async fn publish_rich(scene: &mut Scene, account: &Account, endpoints: &[&Endpoint]) -> Published {
    let mut new = scene.new_event(account, endpoints).await;
    new.event.ordering_key = OrderingKey::parse("video_123456").ok();
    new.not_made = vec![(EndpointId::from_u128(900), NoDelivery::Disabled)];
    scene.accept_new(new).await
}

pub async fn nothing_is_left_of_what_an_erased_event_said(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let published = publish_rich(scene, &account, &[&first, &second]).await;
    scene.attempt_only(&first, Transition::RetryAt(scene.now)).await;
    let lease = scene.claim_only(&first).await;
    scene.record_attempt(scene.attempt(lease, 2, Transition::Delivered)).await;
    scene.attempt_only(&second, USED_UP).await;
    assert_eq!(erase(scene, &account, published.event).await, Cancelled::Deliveries(0));
    for _ in 0..2 {
        let detail = scene.detail(published.event).await;
        assert_eq!(detail.event.data, None);
        assert_eq!(detail.event.event.entity_ids, []);
        assert_eq!(detail.event.event.ordering_key, None);
        for (delivery, count) in published.deliveries.iter().zip([2, 1]) {
            let attempts = scene.store.list_attempts(*delivery).await.unwrap();
            assert_eq!(attempts.len(), count);
            for attempt in attempts {
                assert_eq!((&*attempt.request_head, &*attempt.response_excerpt), ("", &b""[..]));
            }
        }
        scene.crash().await;
    }
}

pub async fn that_an_erased_event_was_and_what_became_of_it_stays(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let published = publish_rich(scene, &account, &[&first, &second]).await;
    scene.attempt_only(&first, Transition::Delivered).await;
    scene.attempt_only(&second, USED_UP).await;
    let mut detail = scene.detail(published.event).await;
    let mut attempts = Vec::new();
    for id in &published.deliveries {
        attempts.extend(scene.store.list_attempts(*id).await.unwrap());
    }
    let counts = scene.store.counts().await.unwrap();
    scene.pass(Duration::from_secs(1));
    assert_eq!(erase(scene, &account, published.event).await, Cancelled::Deliveries(0));
    detail.event.data = None;
    detail.event.event.entity_ids.clear();
    detail.event.event.ordering_key = None;
    assert_eq!(scene.detail(published.event).await, detail);
    let listed = all_events(&*scene.store, &EventFilter::default()).await;
    assert_eq!(listed, [detail.event]);
    let mut left = Vec::new();
    for id in &published.deliveries {
        left.extend(scene.store.list_attempts(*id).await.unwrap());
    }
    for attempt in &mut attempts {
        attempt.request_head.clear();
        attempt.response_excerpt.clear();
    }
    assert_eq!(left, attempts);
    assert_eq!(scene.store.counts().await.unwrap(), counts);
}

pub async fn what_is_pending_of_an_erased_event_is_cancelled_leased_or_not(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let third = scene.endpoint(&account).await;
    let published = publish_rich(scene, &account, &[&first, &second, &third]).await;
    scene.attempt_only(&third, Transition::Delivered).await;
    let lease = scene.claim_only(&first).await;
    scene.pass(Duration::from_secs(1));
    assert_eq!(erase(scene, &account, published.event).await, Cancelled::Deliveries(2));
    for id in &published.deliveries[..2] {
        let delivery = scene.delivery(*id).await;
        assert_eq!((delivery.state, delivery.ended_at), (ERASED, Some(scene.now)));
        assert_eq!(delivery.due_at, None);
    }
    let delivered = scene.delivery(published.deliveries[2]).await;
    assert_eq!(delivered.state, DeliveryState::Delivered);
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
    assert_eq!(scene.store.list_attempts(lease.delivery).await.unwrap(), []);
    for endpoint in [&first, &second, &third] {
        assert_eq!(scene.claim(endpoint, 5).await, []);
    }
}

pub async fn an_event_is_erased_once(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = publish_rich(scene, &account, &[&endpoint]).await.event;
    assert_eq!(erase(scene, &account, event).await, Cancelled::Deliveries(1));
    let before = scene.detail(event).await;
    scene.pass(Duration::from_secs(1));
    assert_eq!(erase(scene, &account, event).await, Cancelled::Nothing);
    assert_eq!(scene.detail(event).await, before);
    let cancelled = scene.store.cancel_event(account.id, event, scene.note()).await.unwrap();
    assert_eq!(cancelled, Cancelled::Nothing);
}

pub async fn an_event_is_erased_for_its_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let event = publish_rich(scene, &account, &[&endpoint]).await.event;
    let before = scene.detail(event).await;
    assert_eq!(erase(scene, &other, event).await, Cancelled::NotFound);
    assert_eq!(erase(scene, &account, EventId::from_u128(900)).await, Cancelled::NotFound);
    assert_eq!(scene.detail(event).await, before);
    scene.claim_only(&endpoint).await;
}

pub async fn erasing_an_event_leaves_its_neighbours_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let neighbour = publish_rich(scene, &account, &[&endpoint]).await;
    scene.attempt_only(&endpoint, Transition::RetryAt(scene.now)).await;
    let erased = publish_rich(scene, &account, &[&endpoint]).await;
    let before = scene.detail(neighbour.event).await;
    let attempts = scene.store.list_attempts(neighbour.only()).await.unwrap();
    assert_eq!(erase(scene, &account, erased.event).await, Cancelled::Deliveries(1));
    assert_eq!(scene.detail(neighbour.event).await, before);
    assert_eq!(scene.store.list_attempts(neighbour.only()).await.unwrap(), attempts);
    assert_eq!(scene.claim_only(&endpoint).await.delivery, neighbour.only());
}

pub async fn an_erased_event_cannot_be_replayed(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = publish_rich(scene, &account, &[&endpoint]).await.event;
    erase(scene, &account, event).await;
    let before = scene.store.counts().await.unwrap();
    let (new, note) = (scene.new_delivery(endpoint.id), scene.note());
    let added = scene.store.add_delivery(scene.session, account.id, event, new, note).await;
    assert_eq!(added.unwrap(), Added::NoEvent);
    assert_eq!(scene.store.counts().await.unwrap(), before);
}

pub async fn an_event_whose_payload_was_kept_long_enough_can_still_be_erased(scene: &mut Scene) {
    let account = scene.account().await;
    let mut new = scene.new_event(&account, &[]).await;
    new.event.ordering_key = OrderingKey::parse("video_123456").ok();
    let event = scene.accept_new(new).await.event;
    scene.pass(Retention::default().delivered_payloads_kept_for);
    scene.clean_all().await;
    let kept = scene.detail(event).await.event;
    assert_eq!((kept.data, kept.event.entity_ids.len()), (None, 1));
    assert_eq!(erase(scene, &account, event).await, Cancelled::Deliveries(0));
    let erased = scene.detail(event).await.event.event;
    assert_eq!((erased.entity_ids, erased.ordering_key), (Vec::new(), None));
    assert_eq!(erase(scene, &account, event).await, Cancelled::Nothing);
}
