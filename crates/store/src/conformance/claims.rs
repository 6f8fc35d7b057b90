//! Deliveries claimed: what is due, in order, by one session at a time.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use domain::delivery::Transition;
use domain::id::EndpointId;

use super::Scene;
use super::endpoints::disable;
use super::scene::{SESSION_LIFE, USED_UP, at_once};
use crate::queue::{Claimed, LaneClaim, LaneRoom, Payload, Recorded};

const SECOND: Duration = Duration::from_secs(1);

/// The ids of what was claimed.
fn ids(claimed: &[Claimed]) -> Vec<domain::id::DeliveryId> {
    claimed.iter().map(|claimed| claimed.lease.delivery).collect()
}

pub async fn a_claim_brings_all_that_an_attempt_needs(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let new = scene.new_event(&account, &[&endpoint]).await;
    let delivery = scene.accept_new(new.clone()).await.only();
    scene.pass(SECOND);
    let claimed = scene.claim(&endpoint, 1).await;
    let expected = Claimed {
        lease: crate::queue::Lease { session: scene.session, delivery, fence: 1 },
        account: account.id,
        endpoint: endpoint.id,
        attempts: 0,
        lost_claims: 0,
        owed_since: new.event.accepted_at,
        is_ordered: false,
        is_replay: false,
        payload: Arc::new(Payload {
            event: new.event.id,
            event_type: new.event.event_type,
            trace: None,
            body: new.body,
        }),
    };
    assert_eq!(claimed, [expected]);
}

pub async fn a_claim_tells_how_many_attempts_there_were(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    for attempts in 0..4 {
        let claimed = scene.claim(&endpoint, 1).await;
        assert_eq!(claimed[0].attempts, attempts);
        let retry = Transition::RetryAt(scene.now);
        let attempt = scene.attempt(claimed[0].lease, attempts + 1, retry);
        assert_eq!(scene.record_attempt(attempt).await, Recorded::Applied);
    }
}

pub async fn two_sessions_never_hold_one_lease(scene: &mut Scene) {
    const DELIVERIES: usize = 200;
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..DELIVERIES {
        scene.publish(&account, &[&endpoint]).await;
    }
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (store, now) = (Arc::clone(&scene.store), scene.now);
        let endpoint = endpoint.id;
        tasks.push(async move {
            let session = store.begin_session(now.plus(SESSION_LIFE)).await.unwrap();
            let mut mine = Vec::new();
            loop {
                let lanes = vec![LaneRoom { endpoint, room: 7 }];
                let claim = store.claim_due(session, now, lanes).await.unwrap().remove(0);
                if claim.claimed.is_empty() {
                    return mine;
                }
                assert!(claim.claimed.iter().all(|claimed| claimed.lease.session == session));
                mine.extend(ids(&claim.claimed));
            }
        });
    }
    let all: Vec<_> = at_once(tasks).await.into_iter().flatten().collect();
    assert_eq!(all.len(), DELIVERIES, "each is claimed");
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), DELIVERIES, "each is claimed once");
}

pub async fn what_is_leased_is_not_claimed_again_by_its_own_session(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 1);
    let again = scene.claim_lane(&endpoint, 10).await;
    let nothing = LaneClaim { endpoint: endpoint.id, claimed: Vec::new(), next_due_at: None };
    assert_eq!(again, nothing);
}

pub async fn what_is_due_is_claimed_earliest_first(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut by_due = Vec::new();
    for wait in [3, 1, 2] {
        scene.publish(&account, &[&endpoint]).await;
        let lease = scene.claim_only(&endpoint).await;
        let due_at = scene.now.plus(SECOND * wait);
        scene.record(lease, Transition::RetryAt(due_at)).await;
        by_due.push((due_at, lease.delivery));
    }
    by_due.sort_unstable();
    scene.pass(SECOND * 3);
    let claimed = ids(&scene.claim(&endpoint, 10).await);
    assert_eq!(claimed, by_due.iter().map(|(_, id)| *id).collect::<Vec<_>>());
}

pub async fn of_deliveries_due_at_once_the_oldest_is_claimed_first(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut oldest_first = Vec::new();
    for _ in 0..20 {
        oldest_first.push(scene.publish(&account, &[&endpoint]).await.only());
    }
    let mut claimed = ids(&scene.claim(&endpoint, 8).await);
    claimed.extend(ids(&scene.claim(&endpoint, 100).await));
    assert_eq!(claimed, oldest_first);
}

pub async fn no_more_is_claimed_than_there_is_room_for(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..5 {
        scene.publish(&account, &[&endpoint]).await;
    }
    for (room, brought) in [(1, 1), (3, 3), (3, 1), (3, 0)] {
        assert_eq!(scene.claim(&endpoint, room).await.len(), brought);
    }
}

pub async fn a_delivery_can_be_claimed_from_the_instant_it_is_due(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let due_at = scene.now.plus(SECOND);
    scene.attempt_only(&endpoint, Transition::RetryAt(due_at)).await;
    scene.pass(SECOND.saturating_sub(Duration::from_millis(1)));
    let claim = scene.claim_lane(&endpoint, 1).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (0, Some(due_at)));
    scene.pass(Duration::from_millis(1));
    let claim = scene.claim_lane(&endpoint, 1).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (1, None));
}

pub async fn what_is_not_due_does_not_hide_what_is(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let due_at = scene.now.plus(SECOND);
    scene.attempt_only(&endpoint, Transition::RetryAt(due_at)).await;
    let due = scene.publish(&account, &[&endpoint]).await.only();
    let claim = scene.claim_lane(&endpoint, 2).await;
    assert_eq!((ids(&claim.claimed), claim.next_due_at), (vec![due], Some(due_at)));
}

pub async fn what_was_left_for_want_of_room_is_next_due(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut due = Vec::new();
    for _ in 0..3 {
        scene.publish(&account, &[&endpoint]).await;
        due.push(Some(scene.now));
        scene.pass(SECOND);
    }
    due.push(None);
    for next_due_at in &due[1..] {
        assert_eq!(scene.claim_lane(&endpoint, 1).await.next_due_at, *next_due_at);
    }
}

pub async fn each_claim_of_a_delivery_has_a_higher_fence(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let mut last = 0;
    for _ in 0..3 {
        let lease = scene.claim_only(&endpoint).await;
        assert!(lease.fence > last);
        last = lease.fence;
        scene.give_back(lease).await;
        let lease = scene.claim_only(&endpoint).await;
        assert!(lease.fence > last);
        last = lease.fence;
        scene.record(lease, Transition::RetryAt(scene.now)).await;
        let lease = scene.claim_only(&endpoint).await;
        assert!(lease.fence > last);
        last = lease.fence;
        scene.lose_session().await;
    }
}

pub async fn lanes_are_answered_in_order_and_each_with_its_own(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let empty = scene.endpoint(&account).await;
    let unknown = EndpointId::from_u128(900);
    let published = scene.publish(&account, &[&first, &second]).await;
    scene.publish(&account, &[&first]).await;
    let lanes = [(second.id, 5), (unknown, 5), (first.id, 1), (empty.id, 5)];
    let lanes = lanes.map(|(endpoint, room)| LaneRoom { endpoint, room });
    let claims = scene.store.claim_due(scene.session, scene.now, lanes.to_vec()).await.unwrap();
    let brought: Vec<_> =
        claims.iter().map(|it| (it.endpoint, ids(&it.claimed), it.next_due_at)).collect();
    let expected = [
        (second.id, vec![published.deliveries[1]], None),
        (unknown, Vec::new(), None),
        (first.id, vec![published.deliveries[0]], Some(scene.now)),
        (empty.id, Vec::new(), None),
    ];
    assert_eq!(brought, expected);
}

pub async fn no_lanes_are_answered_with_no_claims(scene: &mut Scene) {
    let claims = scene.store.claim_due(scene.session, scene.now, Vec::new()).await.unwrap();
    assert_eq!(claims, []);
}

pub async fn deliveries_of_one_event_share_its_payload(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    scene.publish(&account, &[&first, &second]).await;
    let of_first = scene.claim(&first, 1).await.remove(0);
    let of_second = scene.claim(&second, 1).await.remove(0);
    assert_eq!(of_first.payload, of_second.payload);
}

pub async fn a_lost_session_is_leased_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lost = scene.session;
    scene.lose_session().await;
    scene.publish(&account, &[&endpoint]).await;
    let lanes = vec![LaneRoom { endpoint: endpoint.id, room: 1 }];
    let claims = scene.store.claim_due(lost, scene.now, lanes).await.unwrap();
    assert_eq!((claims[0].claimed.len(), claims[0].next_due_at), (0, Some(scene.now)));
    assert_eq!(scene.claim(&endpoint, 1).await.len(), 1);
}

pub async fn what_has_ended_is_never_claimed(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for end in [Transition::Delivered, USED_UP] {
        scene.publish(&account, &[&endpoint]).await;
        scene.attempt_only(&endpoint, end).await;
    }
    scene.pass(Duration::from_hours(24));
    let claim = scene.claim_lane(&endpoint, 10).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (0, None));
}

pub async fn deliveries_of_a_disabled_endpoint_can_be_claimed_by_who_asks(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    disable(scene, &endpoint).await;
    assert_eq!(scene.claim(&endpoint, 1).await.len(), 1);
}
