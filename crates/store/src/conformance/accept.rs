//! Events accepted, each with the deliveries it owes, or not at all.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::account::{Account, AccountChange};
use domain::delivery::{Delivery, DeliveryState, Transition};
use domain::endpoint::Endpoint;
use domain::event::EntityId;
use domain::id::EndpointId;
use domain::limits::{BATCH_EVENTS_MAX, ENTITY_IDS_MAX, EVENT_DATA_BYTES_MAX};
use domain::matching::NoDelivery;
use domain::time::Timestamp;

use super::Scene;
use super::endpoints::disable;
use super::scene::{at_once, event_type, idempotency};
use crate::catalogue::DeletedHistory;
use crate::queue::{Accepted, NewEvent, Recorded};

pub async fn an_event_and_its_deliveries_read_back_as_they_were_accepted(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let mut new = scene.new_event(&account, &[&first, &second]).await;
    new.event.event_type = event_type("Avatar_video.success-2");
    new.event.timestamp = Timestamp::from_seconds(-1);
    new.event.entity_ids = (0..ENTITY_IDS_MAX)
        .map(|number| EntityId::parse(&format!("\"ü\" {number}")).unwrap())
        .collect();
    new.not_made = NoDelivery::ALL
        .into_iter()
        .map(|reason| (EndpointId::from_u128(900 + reason as u128), reason))
        .collect();
    scene.accept_new(new.clone()).await;

    let detail = scene.store.read_event(new.event.id).await.unwrap().unwrap();
    assert_eq!(detail.event.event, new.event);
    assert_eq!(detail.event.data, Some(new.body.slice(new.data.clone())));
    assert_eq!(detail.not_made, new.not_made);
    let owed = new.deliveries.iter().map(|delivery| Delivery {
        id: delivery.id,
        event: new.event.id,
        event_type: new.event.event_type.clone(),
        endpoint: delivery.endpoint,
        account: account.id,
        state: DeliveryState::Pending,
        attempts: 0,
        due_at: Some(new.event.accepted_at),
        created_at: new.event.accepted_at,
        ended_at: None,
        waits_for: None,
    });
    assert_eq!(detail.deliveries, owed.collect::<Vec<_>>());
}

pub async fn body_and_data_come_back_byte_for_byte(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let text = "{\"a\": \"ü\u{0}\u{1f600}\", \"b\" : 1.0e+2 }".as_bytes();
    for (body, data) in [(every_byte.as_slice(), 3..200), (text, 0..text.len()), (b"{}", 1..1)] {
        let mut new = scene.new_event(&account, &[&endpoint]).await;
        new.body = Bytes::copy_from_slice(body);
        new.data = data.clone();
        let event = scene.accept_new(new).await.event;
        let claimed = scene.claim(&endpoint, 1).await;
        assert_eq!(claimed[0].payload.body, body);
        let detail = scene.store.read_event(event).await.unwrap().unwrap();
        assert_eq!(detail.event.data.as_deref(), Some(&body[data]));
    }
}

pub async fn the_largest_event_comes_back_byte_for_byte(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    let bytes = (0..EVENT_DATA_BYTES_MAX + 500).map(|at| (at * 7 % 251) as u8);
    new.body = bytes.collect::<Vec<_>>().into();
    new.data = 400..EVENT_DATA_BYTES_MAX + 400;
    scene.accept_new(new.clone()).await;
    let claimed = scene.claim(&endpoint, 1).await;
    assert!(claimed[0].payload.body == new.body);
    let detail = scene.store.read_event(new.event.id).await.unwrap().unwrap();
    assert!(detail.event.data == Some(new.body.slice(new.data)));
}

pub async fn an_event_that_nobody_wants_is_kept(scene: &mut Scene) {
    let account = scene.account().await;
    let event = scene.publish(&account, &[]).await.event;
    let detail = scene.store.read_event(event).await.unwrap().unwrap();
    assert_eq!((detail.deliveries, detail.not_made), (Vec::new(), Vec::new()));
}

pub async fn events_of_one_call_are_answered_in_order_and_each_by_itself(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let nobody = scene.new_account();
    let mut first = scene.new_event(&account, &[&endpoint]).await;
    first.idempotency = idempotency("again", 1);
    scene.accept_new(first.clone()).await;

    let new = scene.new_event(&account, &[&endpoint]).await;
    let mut repeated = scene.new_event(&account, &[&endpoint]).await;
    repeated.idempotency = idempotency("again", 1);
    let mut reused = scene.new_event(&account, &[&endpoint]).await;
    reused.idempotency = idempotency("again", 2);
    let mut late = scene.new_event(&account, &[&endpoint]).await;
    late.roster_version -= 1;
    let mut lost = scene.new_event(&account, &[]).await;
    lost.event.account = nobody.id;
    let last = scene.new_event(&account, &[&endpoint]).await;

    let events = vec![new.clone(), repeated, reused, late, lost, last.clone()];
    let answers = scene.store.accept(scene.session, events.clone()).await.unwrap();
    let first_answer = Accepted::Repeated { event: first.event.id, deliveries: 1 };
    let expected = [
        Accepted::New,
        first_answer,
        Accepted::KeyReused,
        Accepted::RosterChanged,
        Accepted::NoAccount,
        Accepted::New,
    ];
    assert_eq!(answers, expected);
    for (event, answer) in events.iter().zip(expected) {
        let stored = scene.store.read_event(event.event.id).await.unwrap().is_some();
        assert_eq!(stored, answer == Accepted::New, "{answer:?}");
    }
    assert_eq!(scene.store.counts().await.unwrap().created, 3);
}

pub async fn no_events_are_answered_with_no_answers(scene: &mut Scene) {
    assert_eq!(scene.store.accept(scene.session, Vec::new()).await.unwrap(), []);
}

pub async fn an_event_matched_before_the_roster_changed_is_not_stored(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let stale = scene.new_event(&account, &[&endpoint]).await;
    scene.endpoint(&account).await;
    refused_as_stale(scene, &stale).await;

    let stale = scene.new_event(&account, &[&endpoint]).await;
    disable(scene, &endpoint).await;
    refused_as_stale(scene, &stale).await;

    let stale = scene.new_event(&account, &[&endpoint]).await;
    let change = AccountChange { credits: Some(Some(0)), ..AccountChange::default() };
    scene.store.change_account(account.id, change, scene.note()).await.unwrap();
    refused_as_stale(scene, &stale).await;

    let stale = scene.new_event(&account, &[&endpoint]).await;
    scene.delete_endpoint(&endpoint, DeletedHistory::Keep).await;
    refused_as_stale(scene, &stale).await;
}

async fn refused_as_stale(scene: &mut Scene, new: &NewEvent) {
    let before = scene.store.counts().await.unwrap();
    assert_eq!(scene.accept(new.clone()).await, Accepted::RosterChanged);
    assert_eq!(scene.store.read_event(new.event.id).await.unwrap(), None);
    for delivery in &new.deliveries {
        assert_eq!(scene.store.read_delivery(delivery.id).await.unwrap(), None);
    }
    assert_eq!(scene.store.counts().await.unwrap(), before);
}

pub async fn an_event_of_an_absent_account_is_not_stored(scene: &mut Scene) {
    let nobody = scene.new_account();
    let new = scene.new_event(&nobody, &[]).await;
    let id = new.event.id;
    assert_eq!(scene.accept(new).await, Accepted::NoAccount);
    assert_eq!(scene.store.read_event(id).await.unwrap(), None);
}

pub async fn a_delivery_born_leased_is_its_sessions_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let claim = scene.claim_lane(&endpoint, 10).await;
    assert_eq!((claim.claimed, claim.next_due_at), (Vec::new(), None));
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn deliveries_of_one_event_are_born_leased_each_by_itself(scene: &mut Scene) {
    let (account, first) = scene.account_with_endpoint().await;
    let second = scene.endpoint(&account).await;
    let mut new = scene.new_event(&account, &[&first, &second]).await;
    new.deliveries[0].leased = true;
    scene.accept_new(new).await;
    assert_eq!(scene.claim(&first, 1).await.len(), 0);
    assert_eq!(scene.claim(&second, 1).await.len(), 1);
}

pub async fn a_delivery_born_leased_to_a_lost_session_is_claimable(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lost = scene.session;
    scene.lose_session().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.deliveries[0].leased = true;
    let answers = scene.store.accept(lost, vec![new]).await.unwrap();
    assert_eq!(answers, [Accepted::New]);
    let lease = scene.claim_only(&endpoint).await;
    let presumed = crate::queue::Lease { session: lost, fence: 1, ..lease };
    assert_eq!(scene.record(presumed, Transition::Delivered).await, Recorded::LeaseLost);
    assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::Applied);
}

pub async fn the_largest_batch_is_accepted_in_one_call(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let template = scene.new_event(&account, &[]).await;
    let mut events = Vec::with_capacity(BATCH_EVENTS_MAX);
    for _ in 0..BATCH_EVENTS_MAX {
        events.push(scene.another(&template, &[&endpoint]));
    }
    let answers = scene.store.accept(scene.session, events).await.unwrap();
    assert_eq!(answers, vec![Accepted::New; BATCH_EVENTS_MAX]);
    let claimed = scene.claim(&endpoint, BATCH_EVENTS_MAX + 1).await;
    assert_eq!(claimed.len(), BATCH_EVENTS_MAX);
}

pub async fn events_accepted_at_once_are_all_there(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let template = scene.new_event(&account, &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..200 {
        let new = scene.another(&template, &[&endpoint]);
        let (store, session) = (Arc::clone(&scene.store), scene.session);
        tasks.push(async move {
            let id = new.event.id;
            assert_eq!(store.accept(session, vec![new]).await.unwrap(), [Accepted::New]);
            assert!(store.read_event(id).await.unwrap().is_some(), "what is answered is there");
        });
    }
    at_once(tasks).await;
    assert_eq!(scene.store.counts().await.unwrap().events, 200);
    assert_eq!(scene.claim(&endpoint, 300).await.len(), 200);
}

pub async fn an_endpoint_deleted_while_events_arrive_is_owed_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut tasks = Vec::new();
    for number in 0..40 {
        let new = scene.new_event(&account, &[&endpoint]).await;
        let (store, session, note) = (Arc::clone(&scene.store), scene.session, scene.note());
        let (account, endpoint) = (account.id, endpoint.id);
        tasks.push(async move {
            if number == 20 {
                let keep = DeletedHistory::Keep;
                assert!(store.delete_endpoint(account, endpoint, keep, note).await.unwrap());
                0
            } else {
                match store.accept(session, vec![new]).await.unwrap()[..] {
                    [Accepted::New] => 1,
                    [Accepted::RosterChanged] => 0,
                    ref other => panic!("{other:?}"),
                }
            }
        });
    }
    let accepted: u64 = at_once(tasks).await.into_iter().sum();
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.events, counts.created), (accepted, accepted));
    assert_eq!((counts.cancelled, counts.pending), (accepted, 0));
}

pub async fn events_of_different_accounts_are_accepted_in_one_call(scene: &mut Scene) {
    let owners: [(Account, Endpoint); 2] =
        [scene.account_with_endpoint().await, scene.account_with_endpoint().await];
    let mut events = Vec::new();
    for (account, endpoint) in &owners {
        events.push(scene.new_event(account, &[endpoint]).await);
    }
    let answers = scene.store.accept(scene.session, events).await.unwrap();
    assert_eq!(answers, [Accepted::New, Accepted::New]);
    for (account, endpoint) in &owners {
        let claimed = scene.claim(endpoint, 10).await;
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].account, account.id);
    }
}

pub async fn a_delivery_is_not_due_before_its_event_was_accepted(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let mut new = scene.new_event(&account, &[&endpoint]).await;
    new.event.accepted_at = scene.now.plus(Duration::from_millis(1));
    let due_at = new.event.accepted_at;
    scene.accept_new(new).await;
    let claim = scene.claim_lane(&endpoint, 1).await;
    assert_eq!((claim.claimed.len(), claim.next_due_at), (0, Some(due_at)));
}
