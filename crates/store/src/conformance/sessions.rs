//! Sessions: who holds leases, and until when he may be presumed alive.

use std::time::Duration;

use domain::delivery::Transition;

use super::Scene;
use super::scene::SESSION_LIFE;
use crate::queue::{Extended, LaneRoom, Recorded};

const MILLISECOND: Duration = Duration::from_millis(1);

pub async fn no_two_sessions_have_one_id(scene: &mut Scene) {
    let mut sessions = vec![scene.session];
    for _ in 0..5 {
        sessions.push(scene.store.begin_session(scene.now.plus(SESSION_LIFE)).await.unwrap());
    }
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 6);
}

pub async fn what_a_released_session_held_is_claimable_due_as_it_was(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let due_at = scene.now.plus(Duration::from_secs(5));
    scene.publish(&account, &[&endpoint]).await;
    scene.attempt_only(&endpoint, Transition::RetryAt(due_at)).await;
    scene.now = due_at;
    let claimed = scene.claim_only(&endpoint).await;
    let born = scene.publish_leased(&account, &endpoint).await;
    scene.pass(MILLISECOND);
    let before = [scene.delivery(claimed.delivery).await, scene.delivery(born.delivery).await];
    assert_eq!(scene.lose_session().await, 2);
    let after = [scene.delivery(claimed.delivery).await, scene.delivery(born.delivery).await];
    assert_eq!(after, before);
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 2);
}

pub async fn a_session_lives_until_its_instant_is_past(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish_leased(&account, &endpoint).await;
    scene.pass(SESSION_LIFE);
    assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 0);
    assert_eq!(scene.claim(&endpoint, 1).await.len(), 0);
    scene.pass(MILLISECOND);
    assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 1);
    assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 0);
}

pub async fn an_extended_session_keeps_what_it_holds(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    for _ in 0..3 {
        let until = scene.now.plus(SESSION_LIFE * 2);
        let extended = scene.store.extend_session(scene.session, until).await.unwrap();
        assert_eq!(extended, Extended::Extended);
        scene.pass(SESSION_LIFE * 2);
        assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 0);
    }
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_session_that_ran_out_lives_on_unless_it_was_released(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    scene.pass(SESSION_LIFE * 2);
    let until = scene.now.plus(SESSION_LIFE);
    let extended = scene.store.extend_session(scene.session, until).await.unwrap();
    assert_eq!(extended, Extended::Extended);
    assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 0);
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_released_session_is_lost_for_good(scene: &mut Scene) {
    let lost = scene.session;
    assert_eq!(scene.lose_session().await, 0);
    for _ in 0..2 {
        let until = scene.now.plus(SESSION_LIFE);
        let extended = scene.store.extend_session(lost, until).await.unwrap();
        assert_eq!(extended, Extended::SessionLost);
    }
}

pub async fn a_session_released_while_it_held_nothing_is_lost_too(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lost = scene.session;
    scene.lose_session().await;
    scene.publish(&account, &[&endpoint]).await;
    let lanes = vec![LaneRoom { endpoint: endpoint.id, room: 1 }];
    assert_eq!(scene.store.claim_due(lost, scene.now, lanes).await.unwrap()[0].claimed, []);
}

pub async fn releasing_one_session_leaves_the_others_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish_leased(&account, &endpoint).await;
    let silent = scene.session;
    scene.session = scene.store.begin_session(scene.now.plus(SESSION_LIFE * 3)).await.unwrap();
    let lease = scene.publish_leased(&account, &endpoint).await;
    scene.pass(SESSION_LIFE * 2);
    assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 1);
    let until = scene.now.plus(SESSION_LIFE);
    let extended = scene.store.extend_session(silent, until).await.unwrap();
    assert_eq!(extended, Extended::SessionLost);
    let extended = scene.store.extend_session(scene.session, until).await.unwrap();
    assert_eq!(extended, Extended::Extended);
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn what_was_recorded_or_given_back_is_not_released(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let recorded = scene.publish_leased(&account, &endpoint).await;
    scene.record(recorded, Transition::Delivered).await;
    let given_back = scene.publish_leased(&account, &endpoint).await;
    scene.give_back(given_back).await;
    assert_eq!(scene.lose_session().await, 0);
}
