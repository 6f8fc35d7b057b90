//! One more delivery of an event that exists.

use std::time::Duration;

use domain::delivery::{DeliveryState, Transition};
use domain::id::{EndpointId, EventId};
use domain::subscription::Subscription;

use super::Scene;
use super::endpoints::disable;
use super::scene::USED_UP;
use crate::catalogue::DeletedHistory;
use crate::queue::{Added, NewDelivery, Recorded};

pub async fn a_replay_is_a_new_delivery_of_the_same_event(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let published = scene.publish(&account, &[&endpoint]).await;
    let first = scene.claim(&endpoint, 1).await.remove(0);
    scene.record(first.lease, USED_UP).await;
    let ended = scene.delivery(published.only()).await;
    scene.pass(Duration::from_secs(9));
    let replay = scene.replay(&account, published.event, &endpoint).await;

    let delivery = scene.delivery(replay).await;
    assert_eq!(delivery.state, DeliveryState::Pending);
    assert_eq!((delivery.attempts, delivery.ended_at), (0, None));
    assert_eq!((delivery.due_at, delivery.created_at), (Some(scene.now), scene.now));
    assert_eq!((delivery.event, &delivery.event_type), (ended.event, &ended.event_type));
    let detail = scene.store.read_event(published.event).await.unwrap().unwrap();
    assert_eq!(detail.deliveries, [ended, delivery], "history stays, oldest first");

    let claimed = scene.claim(&endpoint, 2).await.remove(0);
    assert_eq!(claimed.payload, first.payload, "the same bytes are sent");
    assert_eq!((claimed.lease.delivery, claimed.lease.fence), (replay, 1));
    assert_eq!(scene.record(claimed.lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_replay_born_leased_brings_all_that_an_attempt_needs(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[&endpoint]).await.event;
    let first = scene.claim(&endpoint, 1).await.remove(0);
    scene.pass(Duration::from_secs(9));
    let new = NewDelivery { leased: true, ..scene.new_delivery(endpoint.id) };
    let (session, note) = (scene.session, scene.note());
    let added =
        scene.store.add_delivery(session, account.id, event, new.clone(), note).await.unwrap();
    let Added::Created(claimed) = added else { panic!("{added:?}") };
    let lease = crate::queue::Lease { session, delivery: new.id, fence: 1 };
    assert_eq!(claimed.lease, lease);
    assert_eq!((claimed.account, claimed.endpoint), (account.id, endpoint.id));
    assert_eq!((claimed.attempts, claimed.owed_since), (0, scene.now));
    assert_eq!(claimed.payload, first.payload);
    assert_eq!(scene.claim(&endpoint, 1).await.len(), 0, "it is leased");
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_replay_that_is_not_born_leased_answers_a_lease_of_nobody(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[]).await.event;
    let new = scene.new_delivery(endpoint.id);
    let (session, note) = (scene.session, scene.note());
    let id = new.id;
    let added = scene.store.add_delivery(session, account.id, event, new, note).await.unwrap();
    let Added::Created(claimed) = added else { panic!("{added:?}") };
    assert_eq!((claimed.lease.delivery, claimed.lease.fence), (id, 0));
    assert_eq!(scene.record(claimed.lease, Transition::Delivered).await, Recorded::LeaseLost);
    scene.claim_only(&endpoint).await;
}

pub async fn a_replay_born_leased_to_a_lost_session_is_claimable(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[]).await.event;
    let lost = scene.session;
    scene.lose_session().await;
    let new = NewDelivery { leased: true, ..scene.new_delivery(endpoint.id) };
    let note = scene.note();
    let added = scene.store.add_delivery(lost, account.id, event, new, note).await.unwrap();
    let Added::Created(claimed) = added else { panic!("{added:?}") };
    assert_eq!(claimed.lease.fence, 0, "it was not born leased after all");
    scene.claim_only(&endpoint).await;
    assert_eq!(scene.record(claimed.lease, Transition::Delivered).await, Recorded::LeaseLost);
}

pub async fn a_replay_asks_for_neither_subscription_nor_an_enabled_endpoint(scene: &mut Scene) {
    let account = scene.account().await;
    let mut endpoint = scene.new_endpoint(&account);
    endpoint.subscription = Subscription::Listed(Vec::new());
    scene.store.create_endpoint(endpoint.clone(), 1, scene.note()).await.unwrap();
    disable(scene, &endpoint).await;
    let event = scene.publish(&account, &[]).await.event;
    let replay = scene.replay(&account, event, &endpoint).await;
    assert_eq!(scene.delivery(replay).await.endpoint, endpoint.id);
}

pub async fn an_event_may_be_replayed_again_and_again(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let published = scene.publish(&account, &[&endpoint]).await;
    for _ in 0..3 {
        scene.replay(&account, published.event, &endpoint).await;
    }
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 4);
    assert_eq!(scene.store.counts().await.unwrap().created, 4);
}

pub async fn an_event_whose_endpoint_was_deleted_may_be_replayed_to_another(scene: &mut Scene) {
    for history in [DeletedHistory::Keep, DeletedHistory::Remove] {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let event = scene.publish(&account, &[&endpoint]).await.event;
        scene.delete_endpoint(&endpoint, history).await;
        scene.clean_all().await;
        let other = scene.endpoint(&account).await;
        scene.replay(&account, event, &other).await;
        scene.claim_only(&other).await;
    }
}

pub async fn what_cannot_be_replayed_is_said_and_nothing_is_made(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, foreign) = scene.account_with_endpoint().await;
    let deleted = scene.endpoint(&account).await;
    let event = scene.publish(&account, &[]).await.event;
    scene.delete_endpoint(&deleted, DeletedHistory::Keep).await;
    let before = scene.store.counts().await.unwrap();
    let (no_event, no_endpoint) = (EventId::from_u128(900), EndpointId::from_u128(900));
    let nobody = scene.new_account();
    for (account, event, endpoint, answer) in [
        (account.id, no_event, endpoint.id, Added::NoEvent),
        (other.id, event, foreign.id, Added::NoEvent),
        (nobody.id, event, endpoint.id, Added::NoEvent),
        (account.id, event, no_endpoint, Added::NoEndpoint),
        (account.id, event, foreign.id, Added::NoEndpoint),
        (account.id, event, deleted.id, Added::NoEndpoint),
    ] {
        let new = scene.new_delivery(endpoint);
        let id = new.id;
        let added =
            scene.store.add_delivery(scene.session, account, event, new, scene.note()).await;
        assert_eq!(added.unwrap(), answer);
        assert_eq!(scene.store.read_delivery(id).await.unwrap(), None);
    }
    assert_eq!(scene.store.counts().await.unwrap(), before);
}
