//! What is cancelled by request: an event, or one delivery of it.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::id::{DeliveryId, EventId};

use super::Scene;
use super::audit::all_lanes;
use super::scene::USED_UP;
use crate::queue::{Cancelled, Recorded};

const CANCELLED: DeliveryState = DeliveryState::Cancelled(EndReason::Requested);

async fn cancel_event(scene: &Scene, account: &Account, event: EventId) -> Cancelled {
    scene.store.cancel_event(account.id, event, scene.note()).await.unwrap()
}

async fn cancel_delivery(scene: &Scene, account: &Account, delivery: DeliveryId) -> Cancelled {
    scene.store.cancel_delivery(account.id, delivery, scene.note()).await.unwrap()
}

pub async fn cancelling_an_event_cancels_what_is_pending_of_it_leased_or_not(scene: &mut Scene) {
    let account = scene.account().await;
    let mut endpoints = Vec::new();
    for _ in 0..5 {
        endpoints.push(scene.endpoint(&account).await);
    }
    let [delivered, exhausted, waiting, leased, due] = &endpoints[..] else { unreachable!() };
    let published = scene.publish(&account, &endpoints.iter().collect::<Vec<_>>()).await;
    let neighbour = scene.publish(&account, &[due]).await.only();
    scene.attempt_only(delivered, Transition::Delivered).await;
    scene.attempt_only(exhausted, USED_UP).await;
    let tomorrow = scene.now.plus(Duration::from_hours(24));
    scene.attempt_only(waiting, Transition::RetryAt(tomorrow)).await;
    let lease = scene.claim_only(leased).await;
    let ended = [
        scene.delivery(published.deliveries[0]).await,
        scene.delivery(published.deliveries[1]).await,
    ];
    scene.pass(Duration::from_secs(3));
    assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Deliveries(3));
    for id in &published.deliveries[2..] {
        let delivery = scene.delivery(*id).await;
        assert_eq!(delivery.state, CANCELLED);
        assert_eq!((delivery.due_at, delivery.ended_at), (None, Some(scene.now)));
    }
    for delivery in ended {
        assert_eq!(scene.delivery(delivery.id).await, delivery);
    }
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
    assert_eq!(scene.give_back(lease).await, Recorded::LeaseLost);
    assert_eq!(scene.set_aside(lease).await, Recorded::LeaseLost);
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.cancelled), (1, 3));
    assert_eq!(scene.claim_only(due).await.delivery, neighbour);
    assert_eq!(all_lanes(&*scene.store).await, []);
}

pub async fn cancelling_a_delivery_leaves_the_others_of_its_event_alone(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    for is_leased in [false, true] {
        let published = scene.publish(&account, &[&first, &second]).await;
        let [cancelled, other] = published.deliveries[..] else { unreachable!() };
        let lease = if is_leased { Some(scene.claim_only(&first).await) } else { None };
        let before = scene.delivery(other).await;
        scene.pass(Duration::from_secs(1));
        assert_eq!(cancel_delivery(scene, &account, cancelled).await, Cancelled::Deliveries(1));
        let delivery = scene.delivery(cancelled).await;
        assert_eq!((delivery.state, delivery.ended_at), (CANCELLED, Some(scene.now)));
        assert_eq!(scene.delivery(other).await, before);
        if let Some(lease) = lease {
            assert_eq!(scene.record(lease, USED_UP).await, Recorded::LeaseLost);
        }
        assert_eq!(scene.claim_lane(&first, 5).await.next_due_at, None);
        assert_eq!(scene.claim_only(&second).await.delivery, other);
    }
}

pub async fn a_scheduled_event_is_cancelled_before_it_is_due(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.deliver_at = Some(scene.now.plus(Duration::from_hours(1)));
    let published = scene.accept_new(new).await;
    assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Deliveries(1));
    scene.pass(Duration::from_hours(2));
    assert_eq!(scene.claim(&endpoint, 1).await, []);
    assert_eq!(scene.delivery(published.only()).await.state, CANCELLED);
}

pub async fn there_is_nothing_to_cancel_of_what_has_ended(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let unwanted = scene.publish(&account, &[]).await.event;
    assert_eq!(cancel_event(scene, &account, unwanted).await, Cancelled::Nothing);
    for end in [Transition::Delivered, USED_UP] {
        let published = scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, end).await;
        let ended = scene.delivery(published.only()).await;
        assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Nothing);
        assert_eq!(cancel_delivery(scene, &account, ended.id).await, Cancelled::Nothing);
        assert_eq!(scene.delivery(ended.id).await, ended);
    }
    let published = scene.publish(&account, &[&endpoint]).await;
    assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Deliveries(1));
    let cancelled = scene.delivery(published.only()).await;
    scene.pass(Duration::from_secs(1));
    assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Nothing);
    assert_eq!(cancel_delivery(scene, &account, cancelled.id).await, Cancelled::Nothing);
    assert_eq!(scene.delivery(cancelled.id).await, cancelled);
}

pub async fn what_is_cancelled_is_the_accounts_own(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, _) = scene.account_with_endpoint().await;
    let nobody = scene.new_account();
    let published = scene.publish(&account, &[&endpoint]).await;
    for stranger in [&other, &nobody] {
        let cancelled = cancel_event(scene, stranger, published.event).await;
        assert_eq!(cancelled, Cancelled::NotFound);
        let cancelled = cancel_delivery(scene, stranger, published.only()).await;
        assert_eq!(cancelled, Cancelled::NotFound);
    }
    let absent = cancel_event(scene, &account, EventId::from_u128(900)).await;
    assert_eq!(absent, Cancelled::NotFound);
    let absent = cancel_delivery(scene, &account, DeliveryId::from_u128(900)).await;
    assert_eq!(absent, Cancelled::NotFound);
    assert_eq!(scene.delivery(published.only()).await.state, DeliveryState::Pending);
    assert_eq!(scene.claim(&endpoint, 5).await.len(), 1);
}

pub async fn what_was_cancelled_can_be_replayed(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let published = scene.publish(&account, &[&endpoint]).await;
    cancel_event(scene, &account, published.event).await;
    let replay = scene.replay(&account, published.event, &endpoint).await;
    assert_eq!(scene.claim_only(&endpoint).await.delivery, replay);
    assert_eq!(cancel_event(scene, &account, published.event).await, Cancelled::Deliveries(1));
    assert_eq!(scene.delivery(replay).await.state, CANCELLED);
}

pub async fn of_cancelling_and_recording_at_once_one_happens(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..10 {
        let lease = scene.publish_leased(&account, &endpoint).await;
        let attempt = scene.attempt(lease, 1, Transition::Delivered);
        let (store, id, note) = (Arc::clone(&scene.store), account.id, scene.note());
        let cancel =
            tokio::spawn(
                async move { store.cancel_delivery(id, lease.delivery, note).await.unwrap() },
            );
        let recorded = scene.record_attempt(attempt).await;
        let cancelled = cancel.await.unwrap();
        let expected = match recorded {
            Recorded::Applied => (Cancelled::Nothing, DeliveryState::Delivered),
            Recorded::LeaseLost => (Cancelled::Deliveries(1), CANCELLED),
        };
        assert_eq!((cancelled, scene.delivery(lease.delivery).await.state), expected);
    }
}

pub async fn what_was_cancelled_is_so_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let due = scene.publish(&account, &[&endpoint]).await;
    cancel_delivery(scene, &account, lease.delivery).await;
    cancel_event(scene, &account, due.event).await;
    let before = [scene.delivery(lease.delivery).await, scene.delivery(due.only()).await];
    scene.crash().await;
    for delivery in before {
        assert_eq!(scene.delivery(delivery.id).await, delivery);
    }
    assert_eq!(scene.claim(&endpoint, 5).await, []);
}
