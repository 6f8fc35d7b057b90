//! Events to be delivered later, and what else a publisher says of an event.

use std::time::Duration;

use domain::delivery::Transition;
use domain::ordering::OrderingKey;
use domain::trace::TraceContext;

use super::Scene;
use super::audit::all_lanes;
use crate::queue::{Added, NewDelivery, Recorded};

const SECOND: Duration = Duration::from_secs(1);

/// A trace with every bit in use.
const TRACE: TraceContext =
    TraceContext { trace_id: u128::MAX - 1, parent_id: u64::MAX - 2, flags: 0xff };

pub async fn what_a_publisher_says_of_an_event_reads_back(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let traces = [None, Some(TRACE), Some(TraceContext { trace_id: 1, parent_id: 1, flags: 0 })];
    let keys = [None, OrderingKey::parse("\"\u{fc}\" %").ok(), OrderingKey::parse("k").ok()];
    let mut events = Vec::new();
    for (trace, ordering_key) in traces.into_iter().zip(keys) {
        for ahead in [None, Some(Duration::ZERO), Some(Duration::from_millis(1)), Some(SECOND)] {
            let mut new = scene.new_event(&account, &[&endpoint]).await;
            new.event.deliver_at = ahead.map(|ahead| scene.now.plus(ahead));
            new.event.trace = trace;
            new.event.ordering_key = ordering_key.clone();
            events.push(new.event.clone());
            scene.accept_new(new).await;
        }
    }
    for event in &events {
        assert_eq!(&scene.detail(event.id).await.event.event, event);
    }
    scene.crash().await;
    for event in &events {
        assert_eq!(&scene.detail(event.id).await.event.event, event);
    }
}

pub async fn deliveries_of_a_scheduled_event_are_due_when_it_says(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    let due_at = scene.now.plus(SECOND);
    new.event.deliver_at = Some(due_at);
    let delivery = scene.accept_new(new).await.only();
    let made = scene.delivery(delivery).await;
    assert_eq!((made.created_at, made.due_at), (scene.now, Some(due_at)));
    assert_eq!(all_lanes(&*scene.store).await[0].due_at, due_at);
    scene.pass(SECOND.saturating_sub(Duration::from_millis(1)));
    let claim = scene.claim_lane(&endpoint, 1).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (0, Some(due_at)));
    scene.pass(Duration::from_millis(1));
    assert_eq!(scene.claim_only(&endpoint).await.delivery, delivery);
}

pub async fn an_event_scheduled_for_the_past_is_due_when_it_was_accepted(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.deliver_at = Some(scene.now.minus(SECOND));
    let delivery = scene.accept_new(new).await.only();
    assert_eq!(scene.delivery(delivery).await.due_at, Some(scene.now));
    assert_eq!(scene.claim(&endpoint, 1).await[0].owed_since, scene.now);
}

pub async fn a_scheduled_delivery_is_owed_since_it_was_to_be_delivered(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    let deliver_at = scene.now.plus(SECOND);
    new.event.deliver_at = Some(deliver_at);
    let event = scene.accept_new(new).await.event;
    let early = scene.replay(&account, event, &endpoint).await;
    let claimed = scene.claim(&endpoint, 5).await;
    assert_eq!(claimed.len(), 1, "a replay is due at once");
    assert_eq!((claimed[0].lease.delivery, claimed[0].owed_since), (early, deliver_at));
    scene.pass(SECOND * 2);
    let retry = scene.attempt(claimed[0].lease, 1, Transition::RetryAt(scene.now.plus(SECOND)));
    assert_eq!(scene.record_attempt(retry).await, Recorded::Applied);
    let first = scene.claim(&endpoint, 5).await;
    assert_eq!((first.len(), first[0].owed_since), (1, deliver_at));
    scene.replay(&account, event, &endpoint).await;
    assert_eq!(scene.claim(&endpoint, 5).await[0].owed_since, scene.now);
    scene.pass(SECOND);
    assert_eq!(scene.claim(&endpoint, 5).await[0].owed_since, deliver_at, "also a retry");
}

pub async fn a_claim_tells_the_publishers_trace_and_whether_it_is_a_replay(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.trace = Some(TRACE);
    let event = scene.accept_new(new).await.event;
    scene.replay(&account, event, &endpoint).await;
    let told = |claimed: &crate::queue::Claimed| (claimed.payload.trace, claimed.is_replay);
    let claimed: Vec<_> = scene.claim(&endpoint, 5).await.iter().map(told).collect();
    assert_eq!(claimed, [(Some(TRACE), false), (Some(TRACE), true)]);
    for leased in [true, false] {
        let new = NewDelivery { leased, ..scene.new_delivery(endpoint.id) };
        let (session, note) = (scene.session, scene.note());
        let added = scene.store.add_delivery(session, account.id, event, new, note).await.unwrap();
        let Added::Created(claimed) = added else { panic!("{added:?}") };
        assert_eq!(told(&claimed), (Some(TRACE), true));
    }
    scene.crash().await;
    let claimed: Vec<_> = scene.claim(&endpoint, 5).await.iter().map(told).collect();
    assert_eq!(claimed.len(), 4);
    assert_eq!(claimed[0], (Some(TRACE), false));
    assert!(claimed[1..].iter().all(|told| *told == (Some(TRACE), true)), "{claimed:?}");
}
