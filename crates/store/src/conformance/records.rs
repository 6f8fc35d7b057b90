//! Attempts recorded, and what they do to their deliveries.

use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Attempt, Failure, Outcome, Phases};
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::id::DeliveryId;
use domain::limits::{RESPONSE_EXCERPT_BYTES_MAX, RETRY_ATTEMPTS_MAX};

use super::Scene;
use super::scene::{USED_UP, at_once};
use crate::queue::{AttemptRecord, GivenBack, Lease, Recorded};

pub async fn a_success_ends_the_delivery_as_delivered(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    scene.pass(Duration::from_secs(2));
    let record = scene.attempt(lease, 1, Transition::Delivered);
    let ended_at = record.attempt.at.plus(record.attempt.duration);
    assert_eq!(scene.record_attempt(record.clone()).await, Recorded::Applied);
    let delivery = scene.delivery(lease.delivery).await;
    assert_eq!(delivery.state, DeliveryState::Delivered);
    assert_eq!((delivery.attempts, delivery.due_at), (1, None));
    assert_eq!(delivery.ended_at, Some(ended_at), "when the attempt ended");
    let attempts = scene.store.list_attempts(lease.delivery).await.unwrap();
    assert_eq!(attempts, [record.attempt]);
}

pub async fn a_retry_is_due_when_the_transition_says(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let due_at = scene.now.plus(Duration::from_millis(5_001));
    assert_eq!(scene.record(lease, Transition::RetryAt(due_at)).await, Recorded::Applied);
    let delivery = scene.delivery(lease.delivery).await;
    assert_eq!(delivery.state, DeliveryState::Pending);
    assert_eq!((delivery.attempts, delivery.due_at, delivery.ended_at), (1, Some(due_at), None));
    assert_eq!(scene.claim_lane(&endpoint, 1).await.next_due_at, Some(due_at));
}

pub async fn an_exhausted_delivery_says_why(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for reason in [EndReason::AttemptsUsedUp, EndReason::TooOld, EndReason::ReceiverRefused] {
        let lease = scene.publish_leased(&account, &endpoint).await;
        let record = scene.attempt(lease, 1, Transition::Exhausted(reason));
        let ended_at = record.attempt.at.plus(record.attempt.duration);
        assert_eq!(scene.record_attempt(record).await, Recorded::Applied);
        let delivery = scene.delivery(lease.delivery).await;
        assert_eq!(delivery.state, DeliveryState::Exhausted(reason));
        assert_eq!((delivery.due_at, delivery.ended_at), (None, Some(ended_at)));
    }
}

/// Attempts that differ from one another in every field.
fn attempts_of_all_kinds(scene: &Scene) -> Vec<Attempt> {
    let answered = [(200, None), (599, Some(0)), (429, Some(86_400))];
    let answered = answered.map(|(status, seconds): (u16, Option<u64>)| Outcome::Answered {
        status,
        retry_after: seconds.map(Duration::from_secs),
    });
    let failed = Failure::ALL.map(Outcome::Failed);
    let excerpts: [Vec<u8>; 5] = [
        Vec::new(),
        "grüße \u{1f600}\u{0} 'quoted' \"twice\"".into(),
        vec![0],
        (0..=255).collect(),
        vec![b'x'; RESPONSE_EXCERPT_BYTES_MAX],
    ];
    let heads = ["", "POST / HTTP/1.1\r\nx: ü\u{0}'", "POST /a HTTP/1.1"];
    let outcomes = answered.into_iter().chain(failed);
    outcomes
        .zip(1_u32..)
        .map(|(outcome, number)| {
            let milliseconds = |factor| Duration::from_millis(u64::from(number * factor));
            Attempt {
                number,
                at: scene.now.plus(milliseconds(3)),
                duration: milliseconds(1_001),
                phases: Phases {
                    dns: milliseconds(1),
                    connect: milliseconds(20),
                    tls: milliseconds(300),
                    first_byte: milliseconds(400),
                },
                outcome,
                request_head: heads[number as usize % heads.len()].to_owned(),
                response_excerpt: excerpts[number as usize % excerpts.len()].clone(),
                next_at: (number % 2 == 0).then(|| scene.now.plus(milliseconds(5))),
            }
        })
        .collect()
}

pub async fn an_attempt_reads_back_as_it_was_recorded(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let attempts = attempts_of_all_kinds(scene);
    let mut delivery = None;
    for attempt in attempts.clone() {
        let lease = scene.claim_only(&endpoint).await;
        delivery = Some(lease.delivery);
        let transition = Transition::RetryAt(scene.now);
        let record = AttemptRecord { lease, attempt, transition };
        assert_eq!(scene.record_attempt(record).await, Recorded::Applied);
    }
    let listed = scene.store.list_attempts(delivery.unwrap()).await.unwrap();
    assert_eq!(listed, attempts);
}

pub async fn as_many_attempts_as_a_schedule_may_have_are_listed_first_one_first(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    for number in 1..=RETRY_ATTEMPTS_MAX as u32 {
        let lease = scene.claim_only(&endpoint).await;
        let record = scene.attempt(lease, number, Transition::RetryAt(scene.now));
        assert_eq!(scene.record_attempt(record).await, Recorded::Applied);
        scene.publish_leased(&account, &endpoint).await;
    }
    let attempts = scene.store.list_attempts(delivery).await.unwrap();
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number as usize).collect();
    assert_eq!(numbers, (1..=RETRY_ATTEMPTS_MAX).collect::<Vec<_>>());
}

pub async fn attempts_of_one_delivery_are_not_those_of_another(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let tried = scene.publish_leased(&account, &endpoint).await;
    let untried = scene.publish_leased(&account, &endpoint).await;
    scene.record(tried, Transition::Delivered).await;
    assert_eq!(scene.store.list_attempts(untried.delivery).await.unwrap(), []);
    let absent = DeliveryId::from_u128(900);
    assert_eq!(scene.store.list_attempts(absent).await.unwrap(), []);
    assert_eq!(scene.store.read_delivery(absent).await.unwrap(), None);
}

/// Checks that nothing can be done under the lease.
async fn is_lost(scene: &Scene, lease: Lease) {
    let before = scene.store.read_delivery(lease.delivery).await.unwrap();
    let attempts = scene.store.list_attempts(lease.delivery).await.unwrap();
    for transition in [Transition::Delivered, Transition::RetryAt(scene.now), USED_UP] {
        assert_eq!(scene.record(lease, transition).await, Recorded::LeaseLost);
    }
    assert_eq!(scene.give_back(lease).await, Recorded::LeaseLost);
    assert_eq!(scene.store.read_delivery(lease.delivery).await.unwrap(), before);
    assert_eq!(scene.store.list_attempts(lease.delivery).await.unwrap(), attempts);
}

pub async fn a_lost_lease_cannot_record_an_attempt(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lost = scene.publish_leased(&account, &endpoint).await;
    assert_eq!(scene.lose_session().await, 1);
    is_lost(scene, lost).await;
    let current = scene.claim_only(&endpoint).await;
    is_lost(scene, lost).await;
    assert_eq!(scene.record(current, Transition::Delivered).await, Recorded::Applied);
    is_lost(scene, lost).await;
}

pub async fn a_lease_records_once(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for transition in [Transition::Delivered, Transition::RetryAt(scene.now), USED_UP] {
        let lease = scene.publish_leased(&account, &endpoint).await;
        assert_eq!(scene.record(lease, transition).await, Recorded::Applied);
        is_lost(scene, lease).await;
    }
}

pub async fn an_older_lease_of_the_same_session_is_lost(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let older = scene.publish_leased(&account, &endpoint).await;
    scene.record(older, Transition::RetryAt(scene.now)).await;
    let current = scene.claim_only(&endpoint).await;
    assert_eq!(current.session, older.session);
    is_lost(scene, older).await;
    assert_eq!(scene.record(current, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_lease_holds_for_its_session_fence_and_delivery_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other_session = scene.store.begin_session(scene.now).await.unwrap();
    let lease = scene.publish_leased(&account, &endpoint).await;
    let absent = DeliveryId::from_u128(900);
    is_lost(scene, Lease { session: other_session, ..lease }).await;
    is_lost(scene, Lease { fence: lease.fence + 1, ..lease }).await;
    is_lost(scene, Lease { fence: 0, ..lease }).await;
    is_lost(scene, Lease { delivery: absent, ..lease }).await;
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn a_claimable_delivery_takes_no_record(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    for fence in [0, 1] {
        is_lost(scene, Lease { session: scene.session, delivery, fence }).await;
    }
}

pub async fn of_records_under_one_lease_at_once_one_applies(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let tasks = (0..20).map(|number| {
        let transition = if number % 2 == 0 { Transition::Delivered } else { USED_UP };
        let record = scene.attempt(lease, 1, transition);
        let store = Arc::clone(&scene.store);
        async move { store.record(vec![record]).await.unwrap()[0] }
    });
    let answers = at_once(tasks).await;
    assert_eq!(answers.iter().filter(|it| **it == Recorded::Applied).count(), 1, "{answers:?}");
    assert_eq!(scene.store.list_attempts(lease.delivery).await.unwrap().len(), 1);
}

pub async fn records_of_one_call_are_answered_in_order_and_each_by_itself(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let first = scene.publish_leased(&account, &endpoint).await;
    let second = scene.publish_leased(&account, &endpoint).await;
    let lost = Lease { fence: 9, ..second };
    let records = [first, lost, first, second]
        .map(|lease| scene.attempt(lease, 1, Transition::Delivered))
        .to_vec();
    let answers = scene.store.record(records).await.unwrap();
    let (applied, lost) = (Recorded::Applied, Recorded::LeaseLost);
    assert_eq!(answers, [applied, lost, lost, applied]);
    for lease in [first, second] {
        assert_eq!(scene.delivery(lease.delivery).await.attempts, 1);
    }
    assert_eq!(scene.store.record(Vec::new()).await.unwrap(), []);
}

pub async fn a_lease_given_back_leaves_the_delivery_due_as_it_was(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let due_at = scene.now.plus(Duration::from_secs(5));
    scene.attempt_only(&endpoint, Transition::RetryAt(due_at)).await;
    scene.pass(Duration::from_mins(1));
    let lease = scene.claim_only(&endpoint).await;
    let before = scene.delivery(lease.delivery).await;
    assert_eq!(before.due_at, Some(due_at));
    assert_eq!(scene.give_back(lease).await, Recorded::Applied);
    assert_eq!(scene.delivery(lease.delivery).await, before, "no attempt is counted");
    let waiting = scene.store.waiting_lanes(None, 1).await.unwrap();
    assert_eq!(waiting[0].due_at, due_at);
    is_lost(scene, lease).await;
    scene.claim_only(&endpoint).await;
}

pub async fn leases_given_back_are_answered_in_order_and_each_by_itself(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let first = scene.publish_leased(&account, &endpoint).await;
    let second = scene.publish_leased(&account, &endpoint).await;
    let lost = Lease { fence: 9, ..second };
    let leases = vec![first, lost, first, second];
    let answers = scene.store.give_back(leases, GivenBack::Unused).await.unwrap();
    let (applied, lost) = (Recorded::Applied, Recorded::LeaseLost);
    assert_eq!(answers, [applied, lost, lost, applied]);
    assert_eq!(scene.claim(&endpoint, 10).await.len(), 2);
    assert_eq!(scene.store.give_back(Vec::new(), GivenBack::Unused).await.unwrap(), []);
}
