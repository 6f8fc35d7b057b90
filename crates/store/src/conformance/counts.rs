//! The counts, from which it can be seen that nothing is lost.

use domain::delivery::Transition;

use super::Scene;
use super::scene::USED_UP;
use crate::catalogue::DeletedHistory;
use crate::history::Counts;

async fn counts_are(scene: &Scene, expected: Counts) {
    assert_eq!(scene.store.counts().await.unwrap(), expected);
}

pub async fn an_empty_store_counts_nothing(scene: &mut Scene) {
    counts_are(scene, Counts::default()).await;
}

pub async fn each_change_of_a_delivery_moves_one_count_to_another(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let doomed = scene.endpoint(&account).await;
    let mut expected = Counts::default();
    scene.publish(&account, &[]).await;
    expected.events += 1;
    counts_are(scene, expected).await;

    let event = scene.publish(&account, &[&endpoint, &doomed]).await.event;
    expected.events += 1;
    expected.created += 2;
    expected.pending += 2;
    counts_are(scene, expected).await;

    let lease = scene.claim_only(&endpoint).await;
    counts_are(scene, expected).await;
    scene.give_back(lease).await;
    scene.attempt_only(&endpoint, Transition::RetryAt(scene.now)).await;
    counts_are(scene, expected).await;

    scene.attempt_only(&endpoint, Transition::Delivered).await;
    expected.pending -= 1;
    expected.delivered += 1;
    counts_are(scene, expected).await;

    scene.replay(&account, event, &endpoint).await;
    expected.created += 1;
    expected.pending += 1;
    counts_are(scene, expected).await;

    scene.attempt_only(&endpoint, USED_UP).await;
    expected.pending -= 1;
    expected.exhausted += 1;
    counts_are(scene, expected).await;

    scene.delete_endpoint(&doomed, DeletedHistory::Keep).await;
    expected.pending -= 1;
    expected.cancelled += 1;
    counts_are(scene, expected).await;
}

pub async fn the_counts_are_the_same_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let doomed = scene.endpoint(&account).await;
    for end in [Transition::Delivered, USED_UP] {
        scene.publish(&account, &[&endpoint, &doomed]).await;
        scene.attempt_only(&endpoint, end).await;
    }
    scene.delete_endpoint(&doomed, DeletedHistory::Remove).await;
    scene.publish_leased(&account, &endpoint).await;
    let before = scene.store.counts().await.unwrap();
    let expected =
        Counts { events: 3, created: 5, pending: 1, delivered: 1, exhausted: 1, cancelled: 2 };
    assert_eq!(before, expected);
    scene.crash().await;
    counts_are(scene, before).await;
}

pub async fn a_store_that_is_well_says_so(scene: &mut Scene) {
    scene.store.check().await.unwrap();
}
