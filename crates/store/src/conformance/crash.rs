//! What a process leaves to the next one, whether it was killed or closed its store.

use std::sync::Arc;
use std::time::Duration;

use domain::account::AccountChange;
use domain::delivery::Transition;
use domain::endpoint::EndpointChange;
use domain::limits::IDEMPOTENCY_KEPT_FOR;
use domain::page::PageRequest;
use domain::retention::Retention;
use domain::testing::an_endpoint;

use super::Scene;
use super::audit::{all_deliveries, all_events, all_lanes};
use super::endpoints::disable;
use super::scene::{SESSION_LIFE, USED_UP, at_once, idempotency, note_at};
use crate::StoreError;
use crate::catalogue::DeletedHistory;
use crate::history::{DeliveryFilter, EventFilter};
use crate::queue::{Accepted, Extended, GivenBack, LaneRoom, Recorded};

pub async fn accounts_keys_and_endpoints_are_there_after_a_crash(scene: &mut Scene) {
    let pepper = scene.store.read_or_create_pepper([7; 32]).await.unwrap();
    let (mut account, endpoint) = scene.account_with_endpoint().await;
    let change = AccountChange { plan: Some(Some("pro".to_owned())), ..Default::default() };
    change.clone().apply(&mut account);
    scene.store.change_account(account.id, change, scene.note()).await.unwrap();
    let endpoint = disable(scene, &endpoint).await;
    let operator_key = scene.new_key(None);
    scene.store.create_key(operator_key.clone(), scene.note()).await.unwrap();
    let gone = scene.account().await;
    scene.store.delete_account(gone.id, scene.note()).await.unwrap();
    let keys = scene.store.list_keys(Some(account.id), PageRequest::LARGEST).await.unwrap();
    let roster = scene.store.read_roster(account.id).await.unwrap();
    scene.crash().await;
    assert_eq!(scene.store.read_or_create_pepper([8; 32]).await.unwrap(), pepper);
    assert_eq!(scene.store.read_account(account.id).await.unwrap(), Some(account.clone()));
    assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap(), Some(endpoint));
    assert_eq!(scene.store.read_roster(account.id).await.unwrap(), roster);
    let found = scene.store.find_key(&operator_key.public_part).await.unwrap();
    assert_eq!(found, Some(operator_key));
    let keys_after = scene.store.list_keys(Some(account.id), PageRequest::LARGEST).await.unwrap();
    assert_eq!(keys_after, keys);
    assert_eq!(scene.store.read_account(gone.id).await.unwrap(), None);
}

pub async fn events_deliveries_and_attempts_are_there_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[&endpoint]).await.event;
    scene.attempt_only(&endpoint, USED_UP).await;
    scene.replay(&account, event, &endpoint).await;
    scene.attempt_only(&endpoint, Transition::Delivered).await;
    scene.publish(&account, &[&endpoint]).await;
    let retry = Transition::RetryAt(scene.now.plus(Duration::from_secs(5)));
    scene.attempt_only(&endpoint, retry).await;
    scene.publish_leased(&account, &endpoint).await;
    let events = all_events(&*scene.store, &EventFilter::default()).await;
    let deliveries = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
    let detail = scene.store.read_event(event).await.unwrap();
    let mut attempts = Vec::new();
    for delivery in &deliveries {
        attempts.push(scene.store.list_attempts(delivery.id).await.unwrap());
    }
    scene.crash().await;
    assert_eq!(all_events(&*scene.store, &EventFilter::default()).await, events);
    assert_eq!(all_deliveries(&*scene.store, &DeliveryFilter::default()).await, deliveries);
    assert_eq!(scene.store.read_event(event).await.unwrap(), detail);
    for (delivery, attempts) in deliveries.iter().zip(attempts) {
        assert_eq!(scene.store.list_attempts(delivery.id).await.unwrap(), attempts);
    }
}

pub async fn every_event_acknowledged_while_many_arrive_is_there_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let template = scene.new_event(&account, &[]).await;
    let mut tasks = Vec::new();
    for _ in 0..100 {
        let new = scene.another(&template, &[&endpoint]);
        let (store, session) = (Arc::clone(&scene.store), scene.session);
        tasks.push(async move {
            let id = new.event.id;
            assert_eq!(store.accept(session, vec![new]).await.unwrap(), [Accepted::New]);
            id
        });
    }
    let acknowledged = at_once(tasks).await;
    scene.crash().await;
    for event in acknowledged {
        assert!(scene.store.read_event(event).await.unwrap().is_some());
    }
    assert_eq!(scene.claim(&endpoint, 200).await.len(), 100);
}

pub async fn what_was_leased_is_claimable_after_a_crash_due_as_it_was(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    scene.publish(&account, &[&endpoint]).await;
    let claimed = scene.claim_only(&endpoint).await;
    let due_at = scene.now;
    scene.pass(Duration::from_secs(1));
    let born = scene.publish_leased(&account, &endpoint).await;
    let before = scene.delivery(born.delivery).await;
    scene.crash().await;
    assert_eq!(scene.delivery(born.delivery).await, before);
    assert_eq!(all_lanes(&*scene.store).await[0].due_at, due_at);
    let leases: Vec<_> = scene.claim(&endpoint, 10).await.iter().map(|it| it.lease).collect();
    assert_eq!(leases.len(), 2);
    for (old, new) in [claimed, born].into_iter().zip(leases) {
        assert_eq!(old.delivery, new.delivery);
        assert!(new.fence > old.fence);
        assert_eq!(scene.record(old, Transition::Delivered).await, Recorded::LeaseLost);
        assert_eq!(scene.record(new, Transition::Delivered).await, Recorded::Applied);
    }
}

pub async fn a_session_of_an_earlier_process_is_lost(scene: &mut Scene) {
    let earlier = scene.session;
    for _ in 0..2 {
        scene.crash().await;
        assert_ne!(scene.session, earlier);
        let until = scene.now.plus(SESSION_LIFE);
        let extended = scene.store.extend_session(earlier, until).await.unwrap();
        assert_eq!(extended, Extended::SessionLost);
        assert_eq!(scene.store.release_expired(scene.now).await.unwrap(), 0);
    }
}

pub async fn idempotency_keys_are_remembered_after_a_crash(scene: &mut Scene) {
    let account = scene.account().await;
    let mut new = scene.new_event(&account, &[]).await;
    new.idempotency = idempotency("order", 1);
    let event = scene.accept_new(new.clone()).await.event;
    scene.crash().await;
    let repeated = Accepted::Repeated { event, deliveries: 0 };
    let again = scene.another(&new, &[]);
    assert_eq!(scene.accept(again).await, repeated);
    let mut later = scene.another(&new, &[]);
    later.event.accepted_at = scene.now.plus(IDEMPOTENCY_KEPT_FOR);
    assert_eq!(scene.accept(later).await, Accepted::New);
}

pub async fn the_version_of_a_roster_grows_on_after_a_crash(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let stale = scene.new_event(&account, &[&endpoint]).await;
    disable(scene, &endpoint).await;
    let before = scene.store.read_roster(account.id).await.unwrap().unwrap().version;
    scene.crash().await;
    assert_eq!(scene.accept(stale).await, Accepted::RosterChanged);
    let change = EndpointChange::default();
    let (id, note) = (endpoint.id, scene.note());
    scene.store.change_endpoint(account.id, id, None, change, note).await.unwrap();
    let after = scene.store.read_roster(account.id).await.unwrap().unwrap().version;
    assert!(after > before);
}

pub async fn deletions_hold_after_a_crash_and_are_cleaned_then(scene: &mut Scene) {
    let (account, kept) = scene.account_with_endpoint().await;
    let removed = scene.endpoint(&account).await;
    let (doomed, foreign) = scene.account_with_endpoint().await;
    for _ in 0..20 {
        scene.publish(&account, &[&kept, &removed]).await;
        scene.publish(&doomed, &[&foreign]).await;
    }
    scene.delete_endpoint(&kept, DeletedHistory::Keep).await;
    scene.delete_endpoint(&removed, DeletedHistory::Remove).await;
    scene.store.delete_account(doomed.id, scene.note()).await.unwrap();
    let deliveries = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
    assert_eq!(deliveries.len(), 20);
    let counts = scene.store.counts().await.unwrap();
    scene.crash().await;
    for _ in 0..2 {
        let after = all_deliveries(&*scene.store, &DeliveryFilter::default()).await;
        assert_eq!(after, deliveries);
        assert_eq!(scene.store.counts().await.unwrap(), counts);
        assert_eq!(all_events(&*scene.store, &EventFilter::default()).await.len(), 20);
        assert_eq!(all_lanes(&*scene.store).await, []);
        scene.clean_all().await;
    }
}

pub async fn a_closed_store_takes_no_writes(scene: &mut Scene) {
    fn refused<T>(answer: Result<T, StoreError>) {
        assert!(matches!(answer.err(), Some(StoreError::Closed)));
    }
    let (account, endpoint) = scene.account_with_endpoint().await;
    let lease = scene.publish_leased(&account, &endpoint).await;
    let new = scene.new_event(&account, &[&endpoint]).await;
    let event = new.event.id;
    let second = scene.new_account();
    let key = scene.new_key(None);
    let second_endpoint = scene.new_endpoint(&account);
    let (session, now) = (scene.session, scene.now);
    let lanes = vec![LaneRoom { endpoint: endpoint.id, room: 1 }];
    let keep = DeletedHistory::Keep;
    let record = scene.attempt(lease, 1, Transition::Delivered);
    let secret = an_endpoint(&account, 99).secret;
    let delivery = scene.new_delivery(endpoint.id);
    let store = &scene.store;
    let note = || note_at(now);
    store.close().await.unwrap();
    store.close().await.unwrap();
    refused(store.check().await);
    refused(store.create_account(second, key.clone(), note()).await);
    refused(store.change_account(account.id, AccountChange::default(), note()).await);
    refused(store.delete_account(account.id, note()).await);
    refused(store.create_key(key.clone(), note()).await);
    refused(store.delete_key(None, key.id, note()).await);
    refused(store.note_key_uses(vec![(key.id, now)]).await);
    refused(store.create_endpoint(second_endpoint, 20, note()).await);
    let change = EndpointChange::default();
    refused(store.change_endpoint(account.id, endpoint.id, None, change, note()).await);
    refused(store.delete_endpoint(account.id, endpoint.id, keep, note()).await);
    refused(store.rotate_secret(account.id, endpoint.id, secret, SESSION_LIFE, note()).await);
    refused(store.reseal(1).await);
    refused(store.begin_session(now).await);
    refused(store.extend_session(session, now).await);
    refused(store.release_expired(now).await);
    refused(store.accept(session, vec![new]).await);
    refused(store.add_delivery(session, account.id, event, delivery, note()).await);
    refused(store.claim_due(session, now, lanes).await);
    refused(store.give_back(vec![lease], GivenBack::Unused).await);
    refused(store.begin_trial(lease).await);
    refused(store.set_aside(vec![lease], now).await);
    refused(store.record(vec![record]).await);
    refused(store.note(vec![note()]).await);
    refused(store.clean(now, &Retention::default(), 1).await);
    scene.crash().await;
    assert_eq!(scene.store.read_account(account.id).await.unwrap(), Some(account));
    assert_eq!(scene.store.counts().await.unwrap().pending, 1);
    scene.claim_only(&endpoint).await;
}

pub async fn what_was_acknowledged_before_or_while_closing_is_there(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let template = scene.new_event(&account, &[]).await;
    let mut tasks = Vec::new();
    for number in 0..60 {
        let new = scene.another(&template, &[&endpoint]);
        let (store, session) = (Arc::clone(&scene.store), scene.session);
        tasks.push(async move {
            if number == 30 {
                store.close().await.unwrap();
                return 0;
            }
            match store.accept(session, vec![new]).await {
                Ok(answers) => {
                    assert_eq!(answers, [Accepted::New]);
                    1
                }
                Err(StoreError::Closed) => 0,
                Err(error) => panic!("{error}"),
            }
        });
    }
    let acknowledged: u64 = at_once(tasks).await.into_iter().sum();
    scene.crash().await;
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.events, counts.pending), (acknowledged, acknowledged));
}
