//! Claims that were lost, deliveries on trial, deliveries set aside.

use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::endpoint::Endpoint;
use domain::id::DeliveryId;
use domain::limits::{SET_ASIDE_AFTER_LOST_CLAIMS, TRIAL_AFTER_LOST_CLAIMS};

use super::Scene;
use super::scene::USED_UP;
use crate::catalogue::DeletedHistory;
use crate::history::Counts;
use crate::queue::{Added, Claimed, GivenBack, Lease, NewDelivery, Recorded};

const SECOND: Duration = Duration::from_secs(1);
const SET_ASIDE: DeliveryState = DeliveryState::Exhausted(EndReason::SetAside);

/// Claims the only claimable delivery of the lane, which must come with that many lost claims.
async fn claim_with(scene: &Scene, endpoint: &Endpoint, lost_claims: u32) -> Lease {
    let claimed = scene.claim(endpoint, 2).await;
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    assert_eq!(claimed[0].lost_claims, lost_claims);
    claimed[0].lease
}

/// Loses the claim, on trial or not.
async fn lose(scene: &Scene, lease: Lease, on_trial: bool) {
    if on_trial {
        assert_eq!(scene.store.begin_trial(lease).await.unwrap(), Recorded::Applied);
    }
    assert_eq!(scene.give_back_as(lease, GivenBack::Unanswered).await, Recorded::Applied);
}

/// Publishes a delivery and loses it until it would be tried alone.
async fn suspect(scene: &mut Scene, account: &Account, endpoint: &Endpoint) -> DeliveryId {
    let delivery = scene.publish(account, &[endpoint]).await.only();
    for lost_claims in 0..TRIAL_AFTER_LOST_CLAIMS {
        let lease = claim_with(scene, endpoint, lost_claims).await;
        lose(scene, lease, false).await;
    }
    delivery
}

pub async fn a_claim_that_ends_with_its_session_is_lost(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    for lost_claims in 0..TRIAL_AFTER_LOST_CLAIMS {
        claim_with(scene, &endpoint, lost_claims).await;
        assert_eq!(scene.lose_session().await, 1);
    }
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
}

pub async fn a_claim_that_ends_with_its_process_is_lost(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    for lost_claims in 0..TRIAL_AFTER_LOST_CLAIMS {
        claim_with(scene, &endpoint, lost_claims).await;
        scene.crash().await;
    }
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
}

pub async fn a_delivery_born_leased_is_lost_with_its_session(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish_leased(&account, &endpoint).await;
    scene.lose_session().await;
    let lease = claim_with(scene, &endpoint, 1).await;
    scene.record(lease, Transition::Delivered).await;
    scene.publish_leased(&account, &endpoint).await;
    scene.crash().await;
    claim_with(scene, &endpoint, 1).await;
}

pub async fn a_lease_given_back_unused_is_no_lost_claim(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    for _ in 0..SET_ASIDE_AFTER_LOST_CLAIMS {
        let lease = claim_with(scene, &endpoint, 0).await;
        assert_eq!(scene.give_back(lease).await, Recorded::Applied);
    }
    claim_with(scene, &endpoint, 0).await;
}

pub async fn a_lease_given_back_unanswered_is_a_lost_claim_due_as_it_was(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    let before = scene.delivery(delivery).await;
    scene.pass(SECOND);
    let lease = claim_with(scene, &endpoint, 0).await;
    lose(scene, lease, false).await;
    assert_eq!(scene.delivery(delivery).await, before);
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
    claim_with(scene, &endpoint, 1).await;
}

pub async fn a_lost_lease_given_back_unanswered_counts_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let old = claim_with(scene, &endpoint, 0).await;
    scene.give_back(old).await;
    let current = claim_with(scene, &endpoint, 0).await;
    let leases = vec![old, current, current];
    let answers = scene.store.give_back(leases, GivenBack::Unanswered).await.unwrap();
    assert_eq!(answers, [Recorded::LeaseLost, Recorded::Applied, Recorded::LeaseLost]);
    claim_with(scene, &endpoint, 1).await;
}

pub async fn a_recorded_attempt_starts_the_count_of_lost_claims_anew(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    suspect(scene, &account, &endpoint).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.store.begin_trial(lease).await.unwrap();
    let retry = Transition::RetryAt(scene.now);
    assert_eq!(scene.record(lease, retry).await, Recorded::Applied);
    for lost_claims in 0..TRIAL_AFTER_LOST_CLAIMS {
        let lease = claim_with(scene, &endpoint, lost_claims).await;
        lose(scene, lease, false).await;
    }
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    lose(scene, lease, false).await;
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
}

pub async fn a_bystander_of_crashes_is_never_counted_beyond_its_trial(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    suspect(scene, &account, &endpoint).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    lose(scene, lease, false).await;
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.lose_session().await;
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.crash().await;
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
}

pub async fn a_claim_lost_on_trial_is_counted_however_it_is_lost(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for way in 0..3 {
        let delivery = suspect(scene, &account, &endpoint).await;
        let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
        assert_eq!(lease.delivery, delivery);
        assert_eq!(scene.store.begin_trial(lease).await.unwrap(), Recorded::Applied);
        match way {
            0 => drop(scene.give_back_as(lease, GivenBack::Unanswered).await),
            1 => drop(scene.lose_session().await),
            _ => scene.crash().await,
        }
        let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS + 1).await;
        scene.set_aside(lease).await;
    }
}

pub async fn a_trial_ends_with_its_lease(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    suspect(scene, &account, &endpoint).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.store.begin_trial(lease).await.unwrap();
    assert_eq!(scene.give_back(lease).await, Recorded::Applied);
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    lose(scene, lease, false).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    lose(scene, lease, true).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS + 1).await;
    lose(scene, lease, false).await;
    claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS + 1).await;
}

pub async fn a_lost_lease_begins_no_trial(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    suspect(scene, &account, &endpoint).await;
    let old = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.give_back(old).await;
    assert_eq!(scene.store.begin_trial(old).await.unwrap(), Recorded::LeaseLost);
    let current = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    let session = scene.store.begin_session(scene.now.plus(SECOND)).await.unwrap();
    for lost in [old, Lease { session, ..current }, Lease { fence: current.fence + 1, ..current }] {
        assert_eq!(scene.store.begin_trial(lost).await.unwrap(), Recorded::LeaseLost);
    }
    lose(scene, current, false).await;
    let last = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    scene.record(last, Transition::Delivered).await;
    assert_eq!(scene.store.begin_trial(last).await.unwrap(), Recorded::LeaseLost);
    let absent = Lease { delivery: DeliveryId::from_u128(999), ..last };
    assert_eq!(scene.store.begin_trial(absent).await.unwrap(), Recorded::LeaseLost);
}

pub async fn what_was_not_claimed_is_not_lost(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let claimed = scene.publish(&account, &[&endpoint]).await.only();
    scene.claim_only(&endpoint).await;
    scene.publish(&account, &[&endpoint]).await;
    let given_back = scene.publish_leased(&account, &endpoint).await;
    scene.give_back(given_back).await;
    scene.lose_session().await;
    scene.crash().await;
    let lost = |it: &Claimed| (it.lease.delivery == claimed, it.lost_claims);
    let counted: Vec<_> = scene.claim(&endpoint, 9).await.iter().map(lost).collect();
    assert_eq!(counted, [(true, 1), (false, 0), (false, 0)]);
}

pub async fn a_delivery_set_aside_is_exhausted_without_an_attempt(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let before = scene.delivery(lease.delivery).await;
    scene.pass(SECOND);
    assert_eq!(scene.set_aside(lease).await, Recorded::Applied);
    let mut expected = before;
    (expected.state, expected.due_at, expected.ended_at) = (SET_ASIDE, None, Some(scene.now));
    assert_eq!(scene.delivery(lease.delivery).await, expected);
    let counts = scene.store.counts().await.unwrap();
    assert_eq!(counts, Counts { events: 1, created: 1, exhausted: 1, ..Counts::default() });
    assert_eq!(scene.lose_session().await, 0, "its lease ended");
    scene.crash().await;
    assert_eq!(scene.delivery(lease.delivery).await, expected);
    assert_eq!(scene.claim(&endpoint, 1).await, []);
}

pub async fn a_delivery_set_aside_after_attempts_keeps_them(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    scene.attempt_only(&endpoint, Transition::RetryAt(scene.now)).await;
    let attempts = scene.store.list_attempts(delivery).await.unwrap();
    let lease = scene.claim_only(&endpoint).await;
    assert_eq!(scene.set_aside(lease).await, Recorded::Applied);
    let ended = scene.delivery(delivery).await;
    assert_eq!((ended.state, ended.attempts), (SET_ASIDE, 1));
    assert_eq!(scene.store.list_attempts(delivery).await.unwrap(), attempts);
}

pub async fn a_lost_lease_sets_nothing_aside(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    let old = scene.claim_only(&endpoint).await;
    scene.give_back(old).await;
    let waiting = scene.delivery(delivery).await;
    assert_eq!(scene.set_aside(old).await, Recorded::LeaseLost);
    let current = scene.claim_only(&endpoint).await;
    let before = scene.store.counts().await.unwrap();
    let session = scene.store.begin_session(scene.now.plus(SECOND)).await.unwrap();
    for lost in [old, Lease { session, ..current }] {
        assert_eq!(scene.set_aside(lost).await, Recorded::LeaseLost);
    }
    assert_eq!(scene.delivery(delivery).await, waiting);
    assert_eq!(scene.record(current, Transition::Delivered).await, Recorded::Applied);
    let delivered = scene.delivery(delivery).await;
    assert_eq!(scene.set_aside(current).await, Recorded::LeaseLost);
    assert_eq!(scene.delivery(delivery).await, delivered);
    let absent = Lease { delivery: DeliveryId::from_u128(999), ..current };
    assert_eq!(scene.set_aside(absent).await, Recorded::LeaseLost);
    let expected = Counts { pending: before.pending - 1, delivered: 1, ..before };
    assert_eq!(scene.store.counts().await.unwrap(), expected);
}

pub async fn deliveries_are_set_aside_in_order_and_each_by_itself(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let first = scene.publish_leased(&account, &endpoint).await;
    let lost = scene.publish_leased(&account, &endpoint).await;
    scene.record(lost, USED_UP).await;
    let second = scene.publish_leased(&account, &endpoint).await;
    let leases = vec![first, lost, first, second];
    let answers = scene.store.set_aside(leases, scene.now).await.unwrap();
    let (applied, lease_lost) = (Recorded::Applied, Recorded::LeaseLost);
    assert_eq!(answers, [applied, lease_lost, lease_lost, applied]);
    let reason = DeliveryState::Exhausted(EndReason::AttemptsUsedUp);
    for (lease, state) in [(first, SET_ASIDE), (lost, reason), (second, SET_ASIDE)] {
        assert_eq!(scene.delivery(lease.delivery).await.state, state);
    }
    assert_eq!(scene.store.set_aside(Vec::new(), scene.now).await.unwrap(), []);
    assert_eq!(scene.store.counts().await.unwrap().exhausted, 3);
}

pub async fn a_deleted_endpoint_has_nothing_to_try_or_set_aside(scene: &mut Scene) {
    for history in [DeletedHistory::Keep, DeletedHistory::Remove] {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let lease = scene.publish_leased(&account, &endpoint).await;
        scene.delete_endpoint(&endpoint, history).await;
        let before = scene.store.counts().await.unwrap();
        for _ in 0..2 {
            assert_eq!(scene.store.begin_trial(lease).await.unwrap(), Recorded::LeaseLost);
            assert_eq!(scene.set_aside(lease).await, Recorded::LeaseLost);
            scene.clean_all().await;
        }
        assert_eq!(scene.store.counts().await.unwrap(), before);
    }
}

pub async fn a_replay_of_a_delivery_set_aside_has_lost_no_claim(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = suspect(scene, &account, &endpoint).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS).await;
    lose(scene, lease, true).await;
    let lease = claim_with(scene, &endpoint, TRIAL_AFTER_LOST_CLAIMS + 1).await;
    scene.set_aside(lease).await;
    let event = scene.delivery(delivery).await.event;
    scene.replay(&account, event, &endpoint).await;
    claim_with(scene, &endpoint, 0).await;
    let new = NewDelivery { leased: true, ..scene.new_delivery(endpoint.id) };
    let (session, note) = (scene.session, scene.note());
    let added = scene.store.add_delivery(session, account.id, event, new, note).await.unwrap();
    let Added::Created(claimed) = added else { panic!("{added:?}") };
    assert_eq!(claimed.lost_claims, 0);
}
