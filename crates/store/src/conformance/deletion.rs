//! Endpoints and accounts deleted: nothing is owed to them any more, at once and for every reader.

use std::time::Duration;

use domain::account::Account;
use domain::delivery::{DeliveryState, EndReason, StateName, Transition};
use domain::endpoint::Endpoint;
use domain::id::{DeliveryId, EndpointId};
use domain::page::PageRequest;

use super::Scene;
use super::audit::{all_deliveries, all_events, all_lanes};
use super::scene::USED_UP;
use crate::catalogue::{DeletedHistory, EndpointCreated};
use crate::history::{DeliveryFilter, EventFilter};
use crate::queue::{Accepted, Added, Lease, Recorded};

const BOTH: [DeletedHistory; 2] = [DeletedHistory::Keep, DeletedHistory::Remove];

const CANCELLED: DeliveryState = DeliveryState::Cancelled(EndReason::EndpointDeleted);

/// One delivery of each kind to one endpoint.
struct OneOfEach {
    due: DeliveryId,
    waiting: DeliveryId,
    leased: Lease,
    delivered: DeliveryId,
    exhausted: DeliveryId,
}

impl OneOfEach {
    /// How many are pending.
    const PENDING: u64 = 3;

    async fn make(scene: &mut Scene, account: &Account, endpoint: &Endpoint) -> Self {
        let delivered = scene.publish_leased(account, endpoint).await;
        scene.record(delivered, Transition::Delivered).await;
        let exhausted = scene.publish_leased(account, endpoint).await;
        scene.record(exhausted, USED_UP).await;
        let waiting = scene.publish_leased(account, endpoint).await;
        let tomorrow = scene.now.plus(Duration::from_hours(24));
        scene.record(waiting, Transition::RetryAt(tomorrow)).await;
        let due = scene.publish(account, &[endpoint]).await.only();
        let leased = scene.publish_leased(account, endpoint).await;
        let (delivered, exhausted) = (delivered.delivery, exhausted.delivery);
        Self { due, waiting: waiting.delivery, leased, delivered, exhausted }
    }

    fn pending(&self) -> [DeliveryId; Self::PENDING as usize] {
        [self.due, self.waiting, self.leased.delivery]
    }

    fn ended(&self) -> [DeliveryId; 2] {
        [self.delivered, self.exhausted]
    }
}

pub async fn deleting_an_endpoint_cancels_what_is_pending_leased_or_not(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let each = OneOfEach::make(scene, &account, &endpoint).await;
    scene.pass(Duration::from_secs(7));
    scene.delete_endpoint(&endpoint, DeletedHistory::Keep).await;
    for id in each.pending() {
        let delivery = scene.delivery(id).await;
        assert_eq!(delivery.state, CANCELLED);
        assert_eq!((delivery.due_at, delivery.ended_at), (None, Some(scene.now)));
    }
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.cancelled), (0, OneOfEach::PENDING));
}

pub async fn an_attempt_at_a_cancelled_delivery_cannot_be_recorded(scene: &mut Scene) {
    for history in BOTH {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let lease = scene.publish_leased(&account, &endpoint).await;
        scene.delete_endpoint(&endpoint, history).await;
        let before = scene.store.counts().await.unwrap();
        for _ in 0..2 {
            let retry = Transition::RetryAt(scene.now);
            assert_eq!(scene.record(lease, Transition::Delivered).await, Recorded::LeaseLost);
            assert_eq!(scene.record(lease, retry).await, Recorded::LeaseLost);
            assert_eq!(scene.give_back(lease).await, Recorded::LeaseLost);
            scene.clean_all().await;
        }
        assert_eq!(scene.store.counts().await.unwrap(), before);
        assert_eq!(scene.store.list_attempts(lease.delivery).await.unwrap(), []);
    }
}

pub async fn history_kept_is_there_to_be_read(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let each = OneOfEach::make(scene, &account, &endpoint).await;
    let mut before = Vec::new();
    for id in each.ended() {
        before.push((scene.delivery(id).await, scene.store.list_attempts(id).await.unwrap()));
    }
    let tries = scene.store.list_attempts(each.waiting).await.unwrap();
    scene.delete_endpoint(&endpoint, DeletedHistory::Keep).await;
    for _ in 0..2 {
        for (delivery, attempts) in &before {
            assert_eq!(&scene.delivery(delivery.id).await, delivery);
            assert_eq!(&scene.store.list_attempts(delivery.id).await.unwrap(), attempts);
        }
        assert_eq!(scene.store.list_attempts(each.waiting).await.unwrap(), tries);
        assert_eq!(scene.delivery(each.waiting).await.attempts, 1);
        let filter = DeliveryFilter { endpoint: Some(endpoint.id), ..DeliveryFilter::default() };
        assert_eq!(all_deliveries(&*scene.store, &filter).await.len(), 5);
        scene.clean_all().await;
    }
}

pub async fn history_removed_is_gone_with_its_attempts(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let each = OneOfEach::make(scene, &account, &endpoint).await;
    let event = scene.delivery(each.delivered).await.event;
    scene.delete_endpoint(&endpoint, DeletedHistory::Remove).await;
    for _ in 0..2 {
        for id in each.pending().into_iter().chain(each.ended()) {
            assert_eq!(scene.store.read_delivery(id).await.unwrap(), None);
            assert_eq!(scene.store.list_attempts(id).await.unwrap(), []);
        }
        let filters = [
            DeliveryFilter::default(),
            DeliveryFilter { endpoint: Some(endpoint.id), ..DeliveryFilter::default() },
            DeliveryFilter { account: Some(account.id), ..DeliveryFilter::default() },
            DeliveryFilter { event: Some(event), ..DeliveryFilter::default() },
        ];
        for filter in filters {
            assert_eq!(all_deliveries(&*scene.store, &filter).await, [], "{filter:?}");
        }
        for state in StateName::ALL {
            let filter = DeliveryFilter { state: Some(state), ..DeliveryFilter::default() };
            assert_eq!(all_deliveries(&*scene.store, &filter).await, [], "{filter:?}");
        }
        let detail = scene.store.read_event(event).await.unwrap().expect("the event stays");
        assert_eq!(detail.deliveries, []);
        let undelivered = EventFilter { undelivered: true, ..EventFilter::default() };
        assert_eq!(all_events(&*scene.store, &undelivered).await, []);
        assert_eq!(all_events(&*scene.store, &EventFilter::default()).await.len(), 5);
        scene.clean_all().await;
    }
}

pub async fn what_is_removed_stays_counted_as_it_ended(scene: &mut Scene) {
    for history in BOTH {
        let before = scene.store.counts().await.unwrap();
        let (account, endpoint) = scene.account_with_endpoint().await;
        OneOfEach::make(scene, &account, &endpoint).await;
        scene.delete_endpoint(&endpoint, history).await;
        for _ in 0..2 {
            let counts = scene.store.counts().await.unwrap();
            assert_eq!(counts.created - before.created, 5);
            assert_eq!(counts.delivered - before.delivered, 1);
            assert_eq!(counts.exhausted - before.exhausted, 1);
            assert_eq!(counts.cancelled - before.cancelled, OneOfEach::PENDING);
            assert_eq!(counts.pending, 0);
            scene.clean_all().await;
        }
    }
}

pub async fn a_deleted_endpoint_is_nowhere_any_more(scene: &mut Scene) {
    for history in BOTH {
        let (account, endpoint) = scene.account_with_endpoint().await;
        OneOfEach::make(scene, &account, &endpoint).await;
        scene.delete_endpoint(&endpoint, history).await;
        assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap(), None);
        let listed = scene.store.list_endpoints(account.id, PageRequest::LARGEST).await.unwrap();
        assert_eq!(listed.items, []);
        let roster = scene.store.read_roster(account.id).await.unwrap().unwrap();
        assert_eq!(roster.endpoints, []);
        assert_eq!(all_lanes(&*scene.store).await, []);
        let claim = scene.claim_lane(&endpoint, 10).await;
        assert_eq!((claim.claimed, claim.next_due_at), (Vec::new(), None));
        assert_eq!(scene.lose_session().await, 0, "nothing is leased");
        assert!(!deletes(scene, &account, endpoint.id, history).await, "deleted once");
    }
}

async fn deletes(
    scene: &Scene,
    account: &Account,
    endpoint: EndpointId,
    history: DeletedHistory,
) -> bool {
    scene.store.delete_endpoint(account.id, endpoint, history, scene.note()).await.unwrap()
}

pub async fn an_endpoint_is_deleted_for_its_account_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let delivery = scene.publish(&account, &[&endpoint]).await.only();
    for history in BOTH {
        assert!(!deletes(scene, &other, endpoint.id, history).await);
        assert!(!deletes(scene, &account, EndpointId::from_u128(900), history).await);
    }
    assert_eq!(scene.delivery(delivery).await.state, DeliveryState::Pending);
    assert_eq!(scene.store.find_endpoint(endpoint.id).await.unwrap(), Some(endpoint));
}

pub async fn deleting_an_endpoint_leaves_its_neighbours_alone(scene: &mut Scene) {
    for history in BOTH {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let neighbour = scene.endpoint(&account).await;
        let published = scene.publish(&account, &[&endpoint, &neighbour]).await;
        let each = OneOfEach::make(scene, &account, &neighbour).await;
        let before = scene.delivery(published.deliveries[1]).await;
        scene.delete_endpoint(&endpoint, history).await;
        scene.clean_all().await;
        assert_eq!(scene.delivery(before.id).await, before);
        assert_eq!(scene.record(each.leased, Transition::Delivered).await, Recorded::Applied);
        assert_eq!(scene.store.list_attempts(each.delivered).await.unwrap().len(), 1);
        assert_eq!(scene.claim(&neighbour, 10).await.len(), 2);
    }
}

pub async fn a_deleted_endpoint_with_a_long_history_is_final_before_it_is_cleaned(
    scene: &mut Scene,
) {
    const EVENTS: usize = 2_500;
    for history in BOTH {
        let (account, endpoint) = scene.account_with_endpoint().await;
        let template = scene.new_event(&account, &[]).await;
        for _ in 0..5 {
            let events: Vec<_> =
                (0..EVENTS / 5).map(|_| scene.another(&template, &[&endpoint])).collect();
            scene.store.accept(scene.session, events).await.unwrap();
        }
        scene.claim(&endpoint, 10).await;
        scene.delete_endpoint(&endpoint, history).await;
        let of_endpoint =
            DeliveryFilter { endpoint: Some(endpoint.id), ..DeliveryFilter::default() };
        let pending = DeliveryFilter { state: Some(StateName::Pending), ..of_endpoint.clone() };
        let before = all_deliveries(&*scene.store, &of_endpoint).await;
        let kept = if history == DeletedHistory::Keep { EVENTS } else { 0 };
        assert_eq!(before.len(), kept);
        assert!(before.iter().all(|delivery| delivery.state == CANCELLED));
        assert_eq!(all_deliveries(&*scene.store, &pending).await, []);
        let counts = scene.store.counts().await.unwrap();
        assert_eq!(counts.pending, 0);
        scene.clean_all().await;
        assert_eq!(all_deliveries(&*scene.store, &of_endpoint).await, before);
        assert_eq!(scene.store.counts().await.unwrap(), counts);
    }
}

pub async fn cleaning_an_empty_store_finds_nothing_to_do(scene: &mut Scene) {
    assert!(!scene.clean(1).await.has_more);
}

pub async fn cleaning_takes_small_steps_until_all_is_done(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for _ in 0..20 {
        OneOfEach::make(scene, &account, &endpoint).await;
    }
    scene.delete_endpoint(&endpoint, DeletedHistory::Remove).await;
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    let mut steps = 0;
    while scene.clean(1).await.has_more {
        steps += 1;
        assert!(steps < 10_000, "cleaning comes to an end");
    }
    assert!(!scene.clean(1_000).await.has_more);
}

pub async fn a_deleted_account_is_out_of_sight_with_all_it_owned(scene: &mut Scene) {
    let account = scene.new_account();
    let key = scene.new_key(Some(&account));
    scene.store.create_account(account.clone(), key.clone(), scene.note()).await.unwrap();
    let endpoint = scene.endpoint(&account).await;
    let each = OneOfEach::make(scene, &account, &endpoint).await;
    let event = scene.delivery(each.delivered).await.event;
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    for _ in 0..2 {
        let store = &scene.store;
        assert_eq!(store.read_account(account.id).await.unwrap(), None);
        assert_eq!(store.find_account(account.username.as_str()).await.unwrap(), None);
        assert_eq!(store.read_roster(account.id).await.unwrap(), None);
        assert_eq!(store.list_accounts(PageRequest::LARGEST).await.unwrap().items, []);
        assert_eq!(store.find_key(&key.public_part).await.unwrap(), None);
        let keys = store.list_keys(Some(account.id), PageRequest::LARGEST).await.unwrap();
        assert_eq!(keys.items, []);
        assert_eq!(store.find_endpoint(endpoint.id).await.unwrap(), None);
        let endpoints = store.list_endpoints(account.id, PageRequest::LARGEST).await.unwrap();
        assert_eq!(endpoints.items, []);
        assert_eq!(store.read_event(event).await.unwrap(), None);
        for account in [None, Some(account.id)] {
            let events = EventFilter { account, ..EventFilter::default() };
            assert_eq!(all_events(&**store, &events).await, []);
            let deliveries = DeliveryFilter { account, ..DeliveryFilter::default() };
            assert_eq!(all_deliveries(&**store, &deliveries).await, []);
        }
        for filter in [
            DeliveryFilter { event: Some(event), ..DeliveryFilter::default() },
            DeliveryFilter { endpoint: Some(endpoint.id), ..DeliveryFilter::default() },
        ] {
            assert_eq!(all_deliveries(&**store, &filter).await, [], "{filter:?}");
        }
        for id in each.pending().into_iter().chain(each.ended()) {
            assert_eq!(store.read_delivery(id).await.unwrap(), None);
            assert_eq!(store.list_attempts(id).await.unwrap(), []);
        }
        assert!(!store.delete_account(account.id, scene.note()).await.unwrap(), "deleted once");
        scene.clean_all().await;
    }
}

pub async fn a_deleted_account_is_owed_nothing(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let each = OneOfEach::make(scene, &account, &endpoint).await;
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    for _ in 0..2 {
        assert_eq!(all_lanes(&*scene.store).await, []);
        let claim = scene.claim_lane(&endpoint, 10).await;
        assert_eq!((claim.claimed, claim.next_due_at), (Vec::new(), None));
        assert_eq!(scene.record(each.leased, Transition::Delivered).await, Recorded::LeaseLost);
        assert_eq!(scene.give_back(each.leased).await, Recorded::LeaseLost);
        assert_eq!(scene.lose_session().await, 0, "nothing is leased");
        let counts = scene.store.counts().await.unwrap();
        assert_eq!((counts.events, counts.created, counts.pending), (5, 5, 0));
        let ended = (counts.delivered, counts.exhausted, counts.cancelled);
        assert_eq!(ended, (1, 1, OneOfEach::PENDING));
        scene.clean_all().await;
    }
}

pub async fn the_username_of_a_deleted_account_is_free_again(scene: &mut Scene) {
    let (first, endpoint) = scene.account_with_endpoint().await;
    OneOfEach::make(scene, &first, &endpoint).await;
    assert!(scene.store.delete_account(first.id, scene.note()).await.unwrap());
    let second = Account { username: first.username.clone(), ..scene.new_account() };
    let key = scene.new_key(Some(&second));
    scene.store.create_account(second.clone(), key, scene.note()).await.unwrap();
    let found = scene.store.find_account(first.username.as_str()).await.unwrap();
    assert_eq!(found, Some(second.id));
    let filter = EventFilter { account: Some(second.id), ..EventFilter::default() };
    assert_eq!(all_events(&*scene.store, &filter).await, [], "its predecessor's are not its own");
    scene.clean_all().await;
    assert_eq!(scene.store.read_account(second.id).await.unwrap(), Some(second));
}

pub async fn nothing_can_be_made_for_a_deleted_account(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[]).await.event;
    let matched = scene.new_event(&account, &[&endpoint]).await;
    let (key, second) = (scene.new_key(Some(&account)), scene.new_endpoint(&account));
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    assert_eq!(scene.accept(matched).await, Accepted::NoAccount);
    assert!(!scene.store.create_key(key, scene.note()).await.unwrap());
    let created = scene.store.create_endpoint(second, 20, scene.note()).await.unwrap();
    assert_eq!(created, EndpointCreated::NoAccount);
    let new = scene.new_delivery(endpoint.id);
    let (session, note) = (scene.session, scene.note());
    let added = scene.store.add_delivery(session, account.id, event, new, note).await.unwrap();
    assert_eq!(added, Added::NoEvent);
}

pub async fn deleting_an_account_leaves_its_neighbours_alone(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, neighbour) = scene.account_with_endpoint().await;
    OneOfEach::make(scene, &account, &endpoint).await;
    let each = OneOfEach::make(scene, &other, &neighbour).await;
    let operator_key = scene.new_key(None);
    scene.store.create_key(operator_key.clone(), scene.note()).await.unwrap();
    assert!(scene.store.delete_account(account.id, scene.note()).await.unwrap());
    scene.clean_all().await;
    assert_eq!(scene.store.read_account(other.id).await.unwrap(), Some(other.clone()));
    let keys = scene.store.list_keys(Some(other.id), PageRequest::LARGEST).await.unwrap();
    assert_eq!(keys.items.len(), 1);
    let found = scene.store.find_key(&operator_key.public_part).await.unwrap();
    assert_eq!(found, Some(operator_key));
    assert_eq!(scene.record(each.leased, Transition::Delivered).await, Recorded::Applied);
    assert_eq!(scene.store.list_attempts(each.exhausted).await.unwrap().len(), 1);
    let filter = EventFilter { account: Some(other.id), ..EventFilter::default() };
    assert_eq!(all_events(&*scene.store, &filter).await.len(), 5);
    assert_eq!(scene.claim(&neighbour, 10).await.len(), 1);
}
