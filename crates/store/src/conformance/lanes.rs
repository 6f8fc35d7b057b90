//! Which endpoints have something to claim.

use std::time::Duration;

use domain::account::Account;
use domain::delivery::Transition;
use domain::endpoint::Endpoint;

use super::Scene;
use super::audit::all_lanes;
use super::endpoints::disable;
use super::scene::USED_UP;
use crate::queue::WaitingLane;

fn lane(endpoint: &Endpoint, due_at: domain::time::Timestamp) -> WaitingLane {
    WaitingLane { endpoint: endpoint.id, account: endpoint.account, due_at }
}

async fn endpoints(scene: &mut Scene, account: &Account, number: usize) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for _ in 0..number {
        endpoints.push(scene.endpoint(account).await);
    }
    endpoints
}

pub async fn each_endpoint_with_claimable_deliveries_waits_once(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let (other, second) = scene.account_with_endpoint().await;
    scene.endpoint(&account).await;
    for _ in 0..3 {
        scene.publish(&account, &[&first]).await;
        scene.publish(&other, &[&second]).await;
    }
    let lanes = all_lanes(&*scene.store).await;
    assert_eq!(lanes, [lane(&first, scene.now), lane(&second, scene.now)]);
}

pub async fn an_empty_store_has_no_waiting_lanes(scene: &mut Scene) {
    assert_eq!(all_lanes(&*scene.store).await, []);
}

pub async fn a_lane_is_due_when_its_earliest_delivery_is(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let start = scene.now;
    let at = |seconds| start.plus(Duration::from_secs(seconds));
    for seconds in [30, 10, 20] {
        scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, Transition::RetryAt(at(seconds))).await;
    }
    for seconds in [10, 20, 30] {
        let lanes = all_lanes(&*scene.store).await;
        assert_eq!(lanes, [lane(&endpoint, at(seconds))], "due or not yet");
        scene.now = at(seconds);
        scene.attempt_only(&endpoint, Transition::Delivered).await;
    }
    assert_eq!(all_lanes(&*scene.store).await, []);
}

pub async fn what_is_leased_or_ended_does_not_wait(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for end in [Transition::Delivered, USED_UP] {
        scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, end).await;
    }
    scene.publish_leased(&account, &endpoint).await;
    scene.publish(&account, &[&endpoint]).await;
    let lease = scene.claim_only(&endpoint).await;
    assert_eq!(all_lanes(&*scene.store).await, []);
    scene.give_back(lease).await;
    assert_eq!(all_lanes(&*scene.store).await, [lane(&endpoint, scene.now)]);
}

pub async fn deliveries_of_disabled_endpoints_wait_in_their_lanes(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    disable(scene, &endpoint).await;
    assert_eq!(all_lanes(&*scene.store).await, [lane(&endpoint, scene.now)]);
}

pub async fn lanes_are_answered_in_order_of_ids_after_the_one_named(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let mut all = vec![first];
    all.extend(endpoints(scene, &account, 6).await);
    for endpoint in all.iter().rev() {
        scene.publish(&account, &[endpoint]).await;
    }
    let expected: Vec<_> = all.iter().map(|endpoint| lane(endpoint, scene.now)).collect();
    let mut answered = Vec::new();
    for size in [3, 3, 1, 0] {
        let after = answered.last().map(|lane: &WaitingLane| lane.endpoint);
        let lanes = scene.store.waiting_lanes(after, 3).await.unwrap();
        assert_eq!(lanes.len(), size);
        answered.extend(lanes);
    }
    assert_eq!(answered, expected);
}

pub async fn lanes_after_one_that_waits_no_more_are_not_missed(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    scene.publish(&account, &[&first, &second]).await;
    scene.attempt_only(&first, Transition::Delivered).await;
    let lanes = scene.store.waiting_lanes(Some(first.id), 10).await.unwrap();
    assert_eq!(lanes, [lane(&second, scene.now)]);
}
