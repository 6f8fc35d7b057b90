//! Events accepted at most once per key.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::endpoint::Endpoint;
use domain::limits::IDEMPOTENCY_KEPT_FOR;

use super::Scene;
use super::endpoints::disable;
use super::scene::{Published, at_once, idempotency};
use crate::catalogue::DeletedHistory;
use crate::queue::{Accepted, NewEvent};

const MILLISECOND: Duration = Duration::from_millis(1);

/// An event under the key, accepted now if it is accepted.
async fn keyed(
    scene: &mut Scene,
    account: &Account,
    endpoints: &[&Endpoint],
    key: &str,
    hash: u8,
) -> NewEvent {
    NewEvent { idempotency: idempotency(key, hash), ..scene.new_event(account, endpoints).await }
}

/// Publishes under the key `order` and answers what was said.
async fn repeat(scene: &mut Scene, account: &Account) -> Accepted {
    let new = keyed(scene, account, &[], "order", 1).await;
    scene.accept(new).await
}

async fn publish_keyed(scene: &mut Scene, account: &Account, endpoints: &[&Endpoint]) -> Published {
    let new = keyed(scene, account, endpoints, "order", 1).await;
    scene.accept_new(new).await
}

pub async fn a_repeated_request_gets_the_first_answer_and_stores_nothing(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let event = publish_keyed(scene, &account, &[&first, &second]).await.event;
    let before = scene.store.counts().await.unwrap();
    for _ in 0..2 {
        let again = keyed(scene, &account, &[&first], "order", 1).await;
        let id = again.event.id;
        assert_eq!(scene.accept(again).await, Accepted::Repeated { event, deliveries: 2 });
        assert_eq!(scene.store.read_event(id).await.unwrap(), None);
    }
    assert_eq!(scene.store.counts().await.unwrap(), before);
}

pub async fn a_key_used_for_another_request_is_refused_and_stores_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    publish_keyed(scene, &account, &[]).await;
    let before = scene.store.counts().await.unwrap();
    let other = keyed(scene, &account, &[&endpoint], "order", 2).await;
    let id = other.event.id;
    assert_eq!(scene.accept(other).await, Accepted::KeyReused);
    assert_eq!(scene.store.read_event(id).await.unwrap(), None);
    assert_eq!(scene.store.counts().await.unwrap(), before);
    assert!(matches!(repeat(scene, &account).await, Accepted::Repeated { .. }));
}

pub async fn a_key_counts_for_its_account_alone(scene: &mut Scene) {
    let (first, second) = (scene.account().await, scene.account().await);
    assert_eq!(repeat(scene, &first).await, Accepted::New);
    assert_eq!(repeat(scene, &second).await, Accepted::New);
}

pub async fn keys_are_told_apart_byte_by_byte(scene: &mut Scene) {
    let account = scene.account().await;
    let long = "k".repeat(255);
    for key in ["a", "A", "a ", " a", "a%", "a'b", &long[..254], &long] {
        let new = keyed(scene, &account, &[], key, 1).await;
        assert_eq!(scene.accept(new).await, Accepted::New, "{key:?}");
    }
}

pub async fn events_without_a_key_are_all_new(scene: &mut Scene) {
    let account = scene.account().await;
    for _ in 0..3 {
        scene.publish(&account, &[]).await;
    }
    assert_eq!(scene.store.counts().await.unwrap().events, 3);
}

pub async fn of_equal_requests_at_once_one_is_new(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut tasks = Vec::new();
    for _ in 0..50 {
        let new = keyed(scene, &account, &[&endpoint], "order", 1).await;
        let (store, session) = (Arc::clone(&scene.store), scene.session);
        tasks.push(async move { store.accept(session, vec![new]).await.unwrap()[0] });
    }
    let answers = at_once(tasks).await;
    assert_eq!(answers.iter().filter(|answer| **answer == Accepted::New).count(), 1);
    let repeated = answers.iter().filter(|it| matches!(it, Accepted::Repeated { .. }));
    assert_eq!(repeated.count(), 49, "{answers:?}");
    assert_eq!(scene.store.counts().await.unwrap().created, 1);
}

pub async fn equal_requests_in_one_call_are_accepted_once(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let first = keyed(scene, &account, &[&endpoint], "order", 1).await;
    let second = keyed(scene, &account, &[&endpoint], "order", 1).await;
    let other = keyed(scene, &account, &[&endpoint], "order", 2).await;
    let event = first.event.id;
    let answers = scene.store.accept(scene.session, vec![first, second, other]).await.unwrap();
    let repeated = Accepted::Repeated { event, deliveries: 1 };
    assert_eq!(answers, [Accepted::New, repeated, Accepted::KeyReused]);
}

pub async fn a_key_is_remembered_for_its_time_and_no_longer(scene: &mut Scene) {
    let account = scene.account().await;
    let event = publish_keyed(scene, &account, &[]).await.event;
    scene.pass(IDEMPOTENCY_KEPT_FOR.saturating_sub(MILLISECOND));
    let repeated = Accepted::Repeated { event, deliveries: 0 };
    assert_eq!(repeat(scene, &account).await, repeated);
    scene.pass(MILLISECOND);
    assert_eq!(repeat(scene, &account).await, Accepted::New);
}

pub async fn a_key_past_its_time_may_be_used_for_another_request(scene: &mut Scene) {
    let account = scene.account().await;
    publish_keyed(scene, &account, &[]).await;
    scene.pass(IDEMPOTENCY_KEPT_FOR);
    let other = keyed(scene, &account, &[], "order", 2).await;
    assert_eq!(scene.accept(other).await, Accepted::New);
}

pub async fn a_key_used_anew_after_its_time_is_remembered_anew(scene: &mut Scene) {
    let account = scene.account().await;
    publish_keyed(scene, &account, &[]).await;
    scene.pass(IDEMPOTENCY_KEPT_FOR);
    let event = publish_keyed(scene, &account, &[]).await.event;
    scene.pass(IDEMPOTENCY_KEPT_FOR.saturating_sub(MILLISECOND));
    scene.clean_all().await;
    let repeated = Accepted::Repeated { event, deliveries: 0 };
    assert_eq!(repeat(scene, &account).await, repeated);
}

pub async fn repeating_does_not_prolong_the_time_of_a_key(scene: &mut Scene) {
    let account = scene.account().await;
    publish_keyed(scene, &account, &[]).await;
    scene.pass(IDEMPOTENCY_KEPT_FOR / 2);
    assert!(matches!(repeat(scene, &account).await, Accepted::Repeated { .. }));
    scene.pass(IDEMPOTENCY_KEPT_FOR / 2);
    assert_eq!(repeat(scene, &account).await, Accepted::New);
}

pub async fn cleaning_forgets_no_key_before_its_time(scene: &mut Scene) {
    let account = scene.account().await;
    let event = publish_keyed(scene, &account, &[]).await.event;
    scene.pass(IDEMPOTENCY_KEPT_FOR.saturating_sub(MILLISECOND));
    scene.clean_all().await;
    let repeated = Accepted::Repeated { event, deliveries: 0 };
    assert_eq!(repeat(scene, &account).await, repeated);
    scene.pass(MILLISECOND);
    scene.clean_all().await;
    assert_eq!(repeat(scene, &account).await, Accepted::New);
}

pub async fn a_repetition_is_recognised_although_the_roster_changed(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let stale = keyed(scene, &account, &[&endpoint], "order", 1).await;
    let event = publish_keyed(scene, &account, &[&endpoint]).await.event;
    disable(scene, &endpoint).await;
    assert_eq!(scene.accept(stale).await, Accepted::Repeated { event, deliveries: 1 });
}

pub async fn an_event_that_is_not_accepted_leaves_its_key_free(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let stale = keyed(scene, &account, &[&endpoint], "order", 1).await;
    disable(scene, &endpoint).await;
    assert_eq!(scene.accept(stale).await, Accepted::RosterChanged);
    let other = keyed(scene, &account, &[&endpoint], "order", 2).await;
    assert_eq!(scene.accept(other).await, Accepted::New);
}

pub async fn the_first_answer_stands_although_its_deliveries_are_removed(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = publish_keyed(scene, &account, &[&endpoint]).await.event;
    scene.delete_endpoint(&endpoint, DeletedHistory::Remove).await;
    scene.clean_all().await;
    assert_eq!(repeat(scene, &account).await, Accepted::Repeated { event, deliveries: 1 });
}
