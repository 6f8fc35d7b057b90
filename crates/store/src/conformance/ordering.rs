//! Deliveries that wait for one another: one line for each endpoint and ordering key.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, StateName, Transition};
use domain::endpoint::Endpoint;
use domain::id::DeliveryId;
use domain::ordering::OrderingKey;
use domain::time::Timestamp;

use super::Scene;
use super::audit::{all_deliveries, all_lanes};
use super::scene::{USED_UP, at_once};
use crate::catalogue::DeletedHistory;
use crate::history::DeliveryFilter;
use crate::queue::{Cancelled, GivenBack, Lease, NewEvent, Recorded};

const SECOND: Duration = Duration::from_secs(1);

/// Accepts events with one delivery each, all in one line; answers the deliveries in that order.
async fn line_of<const N: usize>(
    scene: &mut Scene,
    account: &Account,
    endpoint: &Endpoint,
) -> [DeliveryId; N] {
    let mut line = Vec::new();
    for _ in 0..N {
        line.push(scene.publish_in_line(account, endpoint, "video_1").await.only());
    }
    line.try_into().expect("as many as were made")
}

/// Fails unless the delivery can be claimed from `due_at` on.
async fn is_due(scene: &Scene, id: DeliveryId, due_at: Timestamp) {
    let delivery = scene.delivery(id).await;
    assert_eq!((delivery.state, delivery.waits_for), (DeliveryState::Pending, None));
    assert_eq!(delivery.due_at, Some(due_at));
}

/// Fails unless the delivery is pending behind the other.
async fn waits(scene: &Scene, id: DeliveryId, head: DeliveryId) {
    let delivery = scene.delivery(id).await;
    assert_eq!((delivery.state, delivery.due_at), (DeliveryState::Pending, None));
    assert_eq!(delivery.waits_for, Some(head));
}

/// Claims and delivers one after the other whatever the lane has; fails if there are ever two.
async fn drain(scene: &Scene, endpoint: &Endpoint) -> Vec<DeliveryId> {
    let mut order = Vec::new();
    loop {
        let claim = scene.claim_lane(endpoint, 5).await;
        let [claimed] = &claim.claimed[..] else {
            assert_eq!((claim.claimed, claim.next_due_at), (Vec::new(), None));
            return order;
        };
        assert_eq!(claim.next_due_at, None, "the others are not claimable");
        let mut attempt = scene.attempt(claimed.lease, 1, Transition::Delivered);
        attempt.attempt.duration = Duration::ZERO;
        assert_eq!(scene.record_attempt(attempt).await, Recorded::Applied);
        order.push(claimed.lease.delivery);
    }
}

pub async fn the_first_of_a_line_is_claimable_and_the_others_wait_for_it(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [first, second, third] = line_of(scene, &account, &endpoint).await;
    is_due(scene, first, scene.now).await;
    waits(scene, second, first).await;
    waits(scene, third, first).await;
    let lanes = all_lanes(&*scene.store).await;
    assert_eq!(lanes.iter().map(|lane| lane.due_at).collect::<Vec<_>>(), [scene.now]);
    let claim = scene.claim_lane(&endpoint, 5).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (1, None));
    assert_eq!(claim.claimed[0].lease.delivery, first);
    assert!(claim.claimed[0].is_ordered);
    assert_eq!(all_lanes(&*scene.store).await, [], "who waits is not claimable");
    waits(scene, second, first).await;
}

pub async fn a_line_moves_in_the_order_of_acceptance_whatever_the_ids(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut events = Vec::new();
    for _ in 0..6 {
        let mut new = scene.new_event(&account, &[&endpoint]).await;
        new.deliveries[0].ordering_key = OrderingKey::from_stored("video_1");
        events.push(new);
    }
    events.reverse();
    events.swap(1, 4);
    let order: Vec<_> = events.iter().map(|new| new.deliveries[0].id).collect();
    let later = events.split_off(3);
    scene.store.accept(scene.session, events).await.unwrap();
    for new in later {
        scene.accept_new(new).await;
    }
    for id in &order[1..] {
        waits(scene, *id, order[0]).await;
    }
    assert_eq!(drain(scene, &endpoint).await, order);
}

pub async fn the_next_in_line_is_due_when_an_attempt_ends_the_one_before_it(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for end in [Transition::Delivered, USED_UP] {
        let [first, second, third] = line_of(scene, &account, &endpoint).await;
        scene.pass(SECOND);
        let lease = scene.claim_only(&endpoint).await;
        assert_eq!(lease.delivery, first);
        let attempt = scene.attempt(lease, 1, end);
        let ended_at = attempt.attempt.at.plus(attempt.attempt.duration);
        assert_eq!(scene.record_attempt(attempt).await, Recorded::Applied);
        is_due(scene, second, ended_at).await;
        waits(scene, third, second).await;
        scene.pass(SECOND);
        assert_eq!(drain(scene, &endpoint).await, [second, third]);
    }
}

pub async fn the_next_in_line_is_due_however_the_one_before_it_ends(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for way in 0..4 {
        for is_leased in [true, false] {
            let [first, second, third] = line_of(scene, &account, &endpoint).await;
            scene.pass(SECOND);
            let event = scene.delivery(first).await.event;
            if is_leased || way == 0 {
                scene.claim_only(&endpoint).await;
            }
            let (store, id, note) = (&scene.store, account.id, scene.note());
            let ended = match way {
                0 => {
                    let lease = Lease { session: scene.session, delivery: first, fence: 1 };
                    assert_eq!(scene.set_aside(lease).await, Recorded::Applied);
                    Cancelled::Deliveries(1)
                }
                1 => store.cancel_delivery(id, first, note).await.unwrap(),
                2 => store.cancel_event(id, event, note).await.unwrap(),
                _ => store.erase_event(id, event, note).await.unwrap(),
            };
            assert_eq!(ended, Cancelled::Deliveries(1));
            assert_eq!(scene.delivery(first).await.waits_for, None);
            is_due(scene, second, scene.now).await;
            waits(scene, third, second).await;
            assert_eq!(drain(scene, &endpoint).await, [second, third]);
        }
    }
}

pub async fn a_retry_keeps_the_line_waiting(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [first, second] = line_of(scene, &account, &endpoint).await;
    for number in 1..4 {
        let lease = scene.claim_only(&endpoint).await;
        assert_eq!(lease.delivery, first);
        let retry_at = scene.now.plus(SECOND);
        let attempt = scene.attempt(lease, number, Transition::RetryAt(retry_at));
        assert_eq!(scene.record_attempt(attempt).await, Recorded::Applied);
        is_due(scene, first, retry_at).await;
        waits(scene, second, first).await;
        let claim = scene.claim_lane(&endpoint, 5).await;
        assert_eq!((claim.claimed.len(), claim.next_due_at), (0, Some(retry_at)));
        scene.pass(SECOND);
    }
    assert_eq!(drain(scene, &endpoint).await, [first, second]);
}

pub async fn a_lease_lost_or_given_back_keeps_the_line_waiting(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [first, second] = line_of(scene, &account, &endpoint).await;
    for why in [GivenBack::Unused, GivenBack::Unanswered] {
        let lease = scene.claim_only(&endpoint).await;
        assert_eq!(
            (lease.delivery, scene.give_back_as(lease, why).await),
            (first, Recorded::Applied)
        );
        waits(scene, second, first).await;
    }
    scene.claim_only(&endpoint).await;
    assert_eq!(scene.lose_session().await, 1);
    waits(scene, second, first).await;
    assert_eq!(drain(scene, &endpoint).await, [first, second]);
}

pub async fn keys_and_endpoints_have_lines_of_their_own(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let keys = ["a", "A", "a ", "aa", "\u{e4}", ""];
    for endpoint in [&first, &second] {
        for key in keys {
            scene.publish_in_line(&account, endpoint, key).await;
        }
        let unordered = scene.publish(&account, &[endpoint]).await.only();
        let claimed = scene.claim(endpoint, 10).await;
        assert_eq!(claimed.len(), keys.len() + 1, "none waits for another");
        for claimed in claimed {
            assert_eq!(claimed.is_ordered, claimed.lease.delivery != unordered);
        }
    }
}

pub async fn what_has_no_key_waits_for_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [head, _] = line_of(scene, &account, &endpoint).await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.ordering_key = OrderingKey::from_stored("video_1");
    let unordered = scene.accept_new(new).await.only();
    let claimed = scene.claim(&endpoint, 5).await;
    let claimed: Vec<_> = claimed.iter().map(|it| (it.lease.delivery, it.is_ordered)).collect();
    assert_eq!(claimed, [(head, true), (unordered, false)]);
}

pub async fn a_replay_waits_for_nobody_and_nobody_for_it(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let published = scene.publish_in_line(&account, &endpoint, "video_1").await;
    let head = published.only();
    let replay = scene.replay(&account, published.event, &endpoint).await;
    is_due(scene, replay, scene.now).await;
    let second = scene.publish_in_line(&account, &endpoint, "video_1").await.only();
    waits(scene, second, head).await;
    let leases = scene.claim(&endpoint, 5).await;
    let claimed: Vec<_> = leases.iter().map(|it| (it.is_ordered, it.is_replay)).collect();
    assert_eq!(claimed, [(true, false), (false, true)]);
    assert_eq!(scene.record(leases[0].lease, Transition::Delivered).await, Recorded::Applied);
    assert_eq!(scene.delivery(second).await.waits_for, None, "the replay holds nobody up");
}

pub async fn who_is_cancelled_while_waiting_holds_nobody_up(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [first, second, third, fourth] = line_of(scene, &account, &endpoint).await;
    let event = scene.delivery(third).await.event;
    let cancelled = scene.store.cancel_delivery(account.id, second, scene.note()).await.unwrap();
    assert_eq!(cancelled, Cancelled::Deliveries(1));
    let erased = scene.store.erase_event(account.id, event, scene.note()).await.unwrap();
    assert_eq!(erased, Cancelled::Deliveries(1));
    for (id, reason) in [(second, EndReason::Requested), (third, EndReason::Erased)] {
        let ended = scene.delivery(id).await;
        assert_eq!(ended.state, DeliveryState::Cancelled(reason));
        assert_eq!((ended.waits_for, ended.ended_at), (None, Some(scene.now)));
    }
    is_due(scene, first, scene.now).await;
    waits(scene, fourth, first).await;
    assert_eq!(drain(scene, &endpoint).await, [first, fourth]);
}

pub async fn a_line_that_came_to_its_end_begins_anew(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..3 {
        let [first, second] = line_of(scene, &account, &endpoint).await;
        is_due(scene, first, scene.now).await;
        assert_eq!(drain(scene, &endpoint).await, [first, second]);
        scene.pass(SECOND);
    }
}

/// An event in line that is to be delivered that much later.
async fn scheduled(
    scene: &mut Scene,
    account: &Account,
    endpoint: &Endpoint,
    ahead: Duration,
) -> NewEvent {
    let mut new = scene.new_event(account, &[endpoint]).await;
    new.event.deliver_at = Some(scene.now.plus(ahead));
    new.deliveries[0].ordering_key = OrderingKey::from_stored("video_1");
    new
}

pub async fn a_scheduled_delivery_keeps_its_place_in_line(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let start = scene.now;
    let first = scheduled(scene, &account, &endpoint, SECOND * 5).await;
    let first = scene.accept_new(first).await.only();
    let [second] = line_of(scene, &account, &endpoint).await;
    let third = scheduled(scene, &account, &endpoint, SECOND * 60).await;
    let third = scene.accept_new(third).await.only();
    is_due(scene, first, start.plus(SECOND * 5)).await;
    waits(scene, second, first).await;
    scene.pass(SECOND * 5);
    let lease = scene.claim_only(&endpoint).await;
    let mut attempt = scene.attempt(lease, 1, Transition::Delivered);
    attempt.attempt.duration = Duration::ZERO;
    assert_eq!(scene.record_attempt(attempt).await, Recorded::Applied);
    is_due(scene, second, scene.now).await;
    waits(scene, third, second).await;
    let lease = scene.claim_only(&endpoint).await;
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
    is_due(scene, third, start.plus(SECOND * 60)).await;
}

pub async fn deleting_an_endpoint_ends_its_lines(scene: &mut Scene) {
    for history in [DeletedHistory::Keep, DeletedHistory::Remove] {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let line: [_; 3] = line_of(scene, &account, &endpoint).await;
        let lease = scene.claim_only(&endpoint).await;
        let pending = scene.store.counts().await.unwrap().pending;
        scene.delete_endpoint(&endpoint, history).await;
        for _ in 0..2 {
            for id in line {
                let ended = scene.store.read_delivery(id).await.unwrap();
                assert_eq!(ended.is_some(), history == DeletedHistory::Keep);
                let state = DeliveryState::Cancelled(EndReason::EndpointDeleted);
                assert!(ended.is_none_or(|it| it.state == state && it.waits_for.is_none()));
            }
            assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
            assert_eq!(scene.claim(&endpoint, 5).await, []);
            assert_eq!(scene.store.counts().await.unwrap().pending, pending - 3);
            scene.clean_all().await;
        }
    }
}

pub async fn deleting_an_account_ends_its_lines_alone(scene: &mut Scene) {
    let (doomed, its_endpoint) = scene.account_with_endpoint().await;
    let _: [_; 3] = line_of(scene, &doomed, &its_endpoint).await;
    let (account, endpoint) = scene.account_with_endpoint().await;
    let line: [_; 3] = line_of(scene, &account, &endpoint).await;
    assert!(scene.store.delete_account(doomed.id, scene.note()).await.unwrap());
    scene.clean_all().await;
    assert_eq!(drain(scene, &endpoint).await, line);
}

pub async fn what_waits_is_listed_and_counted_as_pending(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [first, second, third] = line_of(scene, &account, &endpoint).await;
    let filter = DeliveryFilter { state: Some(StateName::Pending), ..DeliveryFilter::default() };
    let listed = all_deliveries(&*scene.store, &filter).await;
    let listed: Vec<_> = listed.iter().map(|it| (it.id, it.waits_for)).collect();
    assert_eq!(listed, [(third, Some(first)), (second, Some(first)), (first, None)]);
    assert_eq!(scene.store.counts().await.unwrap().pending, 3);
    let event = scene.delivery(second).await.event;
    assert_eq!(scene.detail(event).await.deliveries, [scene.delivery(second).await]);
}

pub async fn lines_stand_after_a_crash_as_they_did(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let [done, first] = line_of(scene, &account, &endpoint).await;
    let lease = scene.claim_only(&endpoint).await;
    assert_eq!(lease.delivery, done);
    scene.record(lease, Transition::Delivered).await;
    scene.pass(SECOND);
    let later = scheduled(scene, &account, &endpoint, Duration::ZERO).await;
    let [third] = line_of(scene, &account, &endpoint).await;
    let last = scene.accept_new(later).await.only();
    scene.claim_only(&endpoint).await;
    let before = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
    scene.crash().await;
    assert_eq!(all_deliveries(&*scene.store, &DeliveryFilter::default()).await, before);
    let [newest] = line_of(scene, &account, &endpoint).await;
    waits(scene, newest, first).await;
    assert_eq!(drain(scene, &endpoint).await, [first, third, last, newest]);
}

pub async fn of_events_accepted_into_a_line_at_once_one_is_claimable(scene: &mut Scene) {
    const EVENTS: usize = 40;
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut tasks = Vec::new();
    for _ in 0..EVENTS {
        let new = scheduled(scene, &account, &endpoint, Duration::ZERO).await;
        let (store, session) = (Arc::clone(&scene.store), scene.session);
        tasks.push(async move { store.accept(session, vec![new]).await.unwrap() });
    }
    at_once(tasks).await;
    let all = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
    let heads: Vec<_> = all.iter().filter(|it| it.waits_for.is_none()).collect();
    assert_eq!((all.len(), heads.len()), (EVENTS, 1));
    assert_eq!(drain(scene, &endpoint).await.len(), EVENTS);
}
