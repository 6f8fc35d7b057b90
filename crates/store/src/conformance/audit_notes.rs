//! What is noted in the audit log: every change, and nothing that did not happen.

use std::time::Duration;

use domain::account::{Account, AccountChange};
use domain::audit::AuditAction;
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::delivery::Transition;
use domain::endpoint::{Endpoint, EndpointChange};
use domain::id::{DeliveryId, EndpointId, EventId, ReplayId};
use domain::limits::EVENT_TYPES_PER_CONTRACT_MAX;
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::retention::Retention;
use domain::secret::{SECRET_BYTES, SigningSecret};
use domain::time::Timestamp;

use super::Scene;
use super::audit_log::{a_note, length, log};
use super::rotation::rotate;
use super::scene::event_type;
use crate::catalogue::{
    AccountCreated, DeletedHistory, EndpointCreated, EventTypePut, SecretRotated,
};
use crate::queue::{Added, Cancelled, GivenBack};
use crate::replays::ReplayCreated;

const SECOND: Duration = Duration::from_secs(1);

fn a_secret() -> SigningSecret {
    SigningSecret::from_random(&[5; SECRET_BYTES])
}

/// A replay of nothing.
fn a_replay(scene: &mut Scene, endpoint: &Endpoint) -> Replay {
    let id = ReplayId::from_u128(scene.next_number().into());
    let selection = ReplaySelection { fate: ReplayFate::All, since: scene.now, until: scene.now };
    Replay::begin(id, endpoint.account, endpoint.id, selection, scene.now)
}

fn a_type(scene: &Scene) -> RegisteredType {
    RegisteredType {
        contract: Contract::Standard,
        name: event_type("video.created"),
        description: None,
        schema: None,
        sample: None,
        created_at: scene.now,
        updated_at: scene.now,
    }
}

pub async fn each_change_leaves_one_entry_with_its_note(scene: &mut Scene) {
    let account = scene.new_account();
    let (key, id) = (scene.new_key(Some(&account)), account.id);
    let second_key = scene.new_key(Some(&account));
    let endpoint = scene.new_endpoint(&account);
    let mut expected = Vec::new();
    let mut note = |scene: &mut Scene, action| {
        scene.pass(SECOND);
        let note = a_note(scene, action, id);
        expected.push(note.clone());
        note
    };
    let noted = note(scene, AuditAction::AccountCreated);
    scene.store.create_account(account.clone(), key, noted).await.unwrap();
    let noted = note(scene, AuditAction::AccountChanged);
    scene.store.change_account(id, AccountChange::default(), noted).await.unwrap();
    let noted = note(scene, AuditAction::KeyCreated);
    scene.store.create_key(second_key.clone(), noted).await.unwrap();
    let noted = note(scene, AuditAction::KeyRevoked);
    scene.store.delete_key(Some(id), second_key.id, noted).await.unwrap();
    let noted = note(scene, AuditAction::EndpointCreated);
    scene.store.create_endpoint(endpoint.clone(), 20, noted).await.unwrap();
    let noted = note(scene, AuditAction::EndpointChanged);
    let change = EndpointChange::default();
    scene.store.change_endpoint(id, endpoint.id, None, change, noted).await.unwrap();
    let noted = note(scene, AuditAction::SecretRotated);
    scene.store.rotate_secret(id, endpoint.id, a_secret(), SECOND, noted).await.unwrap();
    let noted = note(scene, AuditAction::SecretRevealed);
    scene.store.note(vec![noted]).await.unwrap();
    let event = scene.publish(&account, &[]).await.event;
    let (session, new) = (scene.session, scene.new_delivery(endpoint.id));
    let delivery = new.id;
    let noted = note(scene, AuditAction::DeliveryReplayed);
    scene.store.add_delivery(session, id, event, new, noted).await.unwrap();
    let noted = note(scene, AuditAction::DeliveryCancelled);
    scene.store.cancel_delivery(id, delivery, noted).await.unwrap();
    let pending = scene.publish(&account, &[&endpoint]).await.event;
    let noted = note(scene, AuditAction::EventCancelled);
    scene.store.cancel_event(id, pending, noted).await.unwrap();
    let noted = note(scene, AuditAction::EventErased);
    scene.store.erase_event(id, event, noted).await.unwrap();
    let replay = a_replay(scene, &endpoint);
    let noted = note(scene, AuditAction::ReplayStarted);
    scene.store.create_replay(replay.clone(), noted).await.unwrap();
    let noted = note(scene, AuditAction::ReplayCancelled);
    scene.store.cancel_replay(replay.id, noted).await.unwrap();
    let registered = a_type(scene);
    for _ in 0..2 {
        let noted = note(scene, AuditAction::EventTypeChanged);
        scene.store.put_event_type(registered.clone(), noted).await.unwrap();
    }
    let noted = note(scene, AuditAction::EventTypeDeleted);
    scene.store.delete_event_type(registered.contract, &registered.name, noted).await.unwrap();
    let operations = scene.new_account();
    let noted = note(scene, AuditAction::AccountCreated);
    scene.store.create_operations_account(operations, noted).await.unwrap();
    let noted = note(scene, AuditAction::EndpointDeleted);
    let history = DeletedHistory::Keep;
    scene.store.delete_endpoint(id, endpoint.id, history, noted).await.unwrap();
    let noted = note(scene, AuditAction::AccountDeleted);
    scene.store.delete_account(id, noted).await.unwrap();
    assert_eq!(log(scene).await, expected);
}

pub async fn an_account_or_key_that_is_not_changed_leaves_no_entry(scene: &mut Scene) {
    let (account, other) = (scene.account().await, scene.account().await);
    let twin = Account { username: account.username.clone(), ..scene.new_account() };
    let key = scene.new_key(Some(&twin));
    let operator_key = scene.new_key(None);
    scene.store.create_key(operator_key.clone(), scene.note()).await.unwrap();
    let before = length(scene).await;
    let (store, note) = (&scene.store, || scene.note());
    let created = store.create_account(twin.clone(), key.clone(), note()).await.unwrap();
    assert_eq!(created, AccountCreated::UsernameTaken);
    let change = AccountChange::default();
    assert_eq!(store.change_account(twin.id, change, note()).await.unwrap(), None);
    assert!(!store.delete_account(twin.id, note()).await.unwrap());
    assert!(!store.create_key(key.clone(), note()).await.unwrap());
    for (owner, key) in [(None, key.id), (Some(other.id), operator_key.id)] {
        assert_eq!(store.delete_key(owner, key, note()).await.unwrap(), None);
    }
    assert_eq!(length(scene).await, before);
}

pub async fn an_endpoint_that_is_not_changed_leaves_no_entry(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let nobody = scene.new_account();
    rotate(scene, &endpoint, SECOND).await;
    let before = length(scene).await;
    let one_too_many = scene.new_endpoint(&account);
    let orphan = scene.new_endpoint(&nobody);
    let again = rotate(scene, &endpoint, SECOND).await;
    assert!(matches!(again, SecretRotated::StillOverlapping(_)), "{again:?}");
    let (store, note) = (&scene.store, || scene.note());
    let created = store.create_endpoint(one_too_many, 1, note()).await.unwrap();
    assert_eq!(created, EndpointCreated::LimitReached);
    let created = store.create_endpoint(orphan, 1, note()).await.unwrap();
    assert_eq!(created, EndpointCreated::NoAccount);
    let absent = EndpointId::from_u128(998);
    for (account, id) in [(other.id, endpoint.id), (account.id, absent)] {
        let change = EndpointChange::default();
        let changed = store.change_endpoint(account, id, None, change, note()).await.unwrap();
        assert_eq!(changed, None);
        let history = DeletedHistory::Remove;
        assert!(!store.delete_endpoint(account, id, history, note()).await.unwrap());
        let rotated = store.rotate_secret(account, id, a_secret(), SECOND, note()).await.unwrap();
        assert_eq!(rotated, SecretRotated::NoEndpoint);
    }
    assert_eq!(length(scene).await, before);
}

pub async fn a_replay_that_is_not_made_leaves_no_entry(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (other, foreign) = scene.account_with_endpoint().await;
    let event = scene.publish(&account, &[]).await.event;
    let before = length(scene).await;
    let session = scene.session;
    let cases = [
        (other.id, event, foreign.id, Added::NoEvent),
        (account.id, EventId::from_u128(999), endpoint.id, Added::NoEvent),
        (account.id, event, foreign.id, Added::NoEndpoint),
        (account.id, event, EndpointId::from_u128(998), Added::NoEndpoint),
    ];
    for (account, event, endpoint, expected) in cases {
        let (new, note) = (scene.new_delivery(endpoint), scene.note());
        let added = scene.store.add_delivery(session, account, event, new, note).await.unwrap();
        assert_eq!(added, expected);
    }
    assert_eq!(length(scene).await, before);
}

pub async fn what_is_not_cancelled_or_erased_leaves_no_entry(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let other = scene.account().await;
    let delivered = scene.publish(&account, &[&endpoint]).await;
    scene.attempt_only(&endpoint, Transition::Delivered).await;
    let erased = scene.publish(&account, &[]).await.event;
    scene.store.erase_event(account.id, erased, scene.note()).await.unwrap();
    let before = length(scene).await;
    let (store, note) = (&scene.store, || scene.note());
    let cases = [
        (account.id, delivered.event, delivered.only(), Cancelled::Nothing),
        (other.id, delivered.event, delivered.only(), Cancelled::NotFound),
        (account.id, EventId::from_u128(900), DeliveryId::from_u128(900), Cancelled::NotFound),
    ];
    for (account, event, delivery, expected) in cases {
        assert_eq!(store.cancel_event(account, event, note()).await.unwrap(), expected);
        assert_eq!(store.cancel_delivery(account, delivery, note()).await.unwrap(), expected);
    }
    let cases = [
        (account.id, erased, Cancelled::Nothing),
        (other.id, delivered.event, Cancelled::NotFound),
        (account.id, EventId::from_u128(900), Cancelled::NotFound),
    ];
    for (account, event, expected) in cases {
        assert_eq!(store.erase_event(account, event, note()).await.unwrap(), expected);
    }
    assert_eq!(length(scene).await, before);
}

pub async fn a_replay_of_many_that_does_not_begin_or_go_on_leaves_no_entry(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let (_, foreign) = scene.account_with_endpoint().await;
    let running = a_replay(scene, &endpoint);
    let second = a_replay(scene, &endpoint);
    let stolen = a_replay(scene, &Endpoint { account: account.id, ..foreign });
    scene.store.create_replay(running.clone(), scene.note()).await.unwrap();
    let before = length(scene).await;
    let (store, note, now) = (&scene.store, || scene.note(), scene.now);
    let refused = store.create_replay(second.clone(), note()).await.unwrap();
    assert_eq!(refused, ReplayCreated::LimitReached);
    let refused = store.create_replay(stolen, note()).await.unwrap();
    assert_eq!(refused, ReplayCreated::NoEndpoint);
    assert_eq!(store.cancel_replay(second.id, note()).await.unwrap(), None);
    assert_eq!(length(scene).await, before);
    let mut ended = running.clone();
    while ended.state == ReplayState::Running {
        let ids = vec![DeliveryId::from_u128(900)];
        ended = store.step_replay(running.id, ids, 9, now).await.unwrap().unwrap().replay;
    }
    let before = length(scene).await;
    assert_eq!(store.step_replay(running.id, Vec::new(), 9, now).await.unwrap(), None);
    assert_eq!(store.cancel_replay(running.id, note()).await.unwrap(), Some(ended));
    assert_eq!(length(scene).await, before);
}

pub async fn a_replay_that_ends_is_noted_in_the_step_that_ends_it(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    for is_deleted in [false, true] {
        scene.publish(&account, &[]).await;
        scene.pass(SECOND);
        let selection = ReplaySelection {
            since: Timestamp::from_millis(0),
            ..a_replay(scene, &endpoint).selection
        };
        let replay = Replay { selection, ..a_replay(scene, &endpoint) };
        scene.store.create_replay(replay.clone(), scene.note()).await.unwrap();
        if is_deleted {
            scene.delete_endpoint(&endpoint, DeletedHistory::Keep).await;
        }
        scene.pass(SECOND);
        let mut ended = replay.clone();
        while ended.state == ReplayState::Running {
            let before = log(scene).await;
            let ids = vec![DeliveryId::from_u128(scene.next_number().into())];
            let step = scene.store.step_replay(replay.id, ids, 1, scene.now).await;
            ended = step.unwrap().unwrap().replay;
            scene.crash().await;
            let mut expected = before;
            if ended.state != ReplayState::Running {
                expected.push(ended.ended_note(scene.now));
            }
            assert_eq!(log(scene).await, expected);
        }
        let expected = if is_deleted { ReplayState::Cancelled } else { ReplayState::Done };
        assert_eq!(ended.state, expected);
    }
}

pub async fn a_catalogue_or_an_account_that_is_not_changed_leaves_no_entry(scene: &mut Scene) {
    let operations = scene.new_account();
    scene.store.create_operations_account(operations, scene.note()).await.unwrap();
    let before = length(scene).await;
    let another = scene.new_account();
    let (store, note) = (&scene.store, || scene.note());
    let refused = store.create_operations_account(another, note()).await.unwrap();
    assert_eq!(refused, AccountCreated::UsernameTaken);
    let registered = a_type(scene);
    for contract in Contract::ALL {
        let deleted = store.delete_event_type(contract, &registered.name, note()).await;
        assert!(!deleted.unwrap());
    }
    assert_eq!(length(scene).await, before);
    for number in 0..EVENT_TYPES_PER_CONTRACT_MAX {
        let name = event_type(&format!("type{number}"));
        let registered = RegisteredType { name, ..registered.clone() };
        store.put_event_type(registered, note()).await.unwrap();
    }
    let before = length(scene).await;
    let refused = store.put_event_type(registered, note()).await.unwrap();
    assert_eq!(refused, EventTypePut::LimitReached);
    assert_eq!(length(scene).await, before);
}

pub async fn deliveries_go_their_way_without_entries(scene: &mut Scene) {
    let (account, endpoint) = scene.account_with_endpoint().await;
    let key = scene.new_key(None);
    scene.store.create_key(key.clone(), scene.note()).await.unwrap();
    let before = length(scene).await;
    scene.publish(&account, &[&endpoint]).await;
    let lease = scene.claim_only(&endpoint).await;
    scene.store.begin_trial(lease).await.unwrap();
    scene.give_back_as(lease, GivenBack::Unanswered).await;
    scene.attempt_only(&endpoint, Transition::RetryAt(scene.now)).await;
    scene.set_aside(scene.claim_only(&endpoint).await).await;
    scene.store.note_key_uses(vec![(key.id, scene.now)]).await.unwrap();
    scene.store.read_or_create_pepper([1; 32]).await.unwrap();
    scene.lose_session().await;
    scene.store.write_streaks(vec![(endpoint.id, None)]).await.unwrap();
    scene.store.note_announced(1).await.unwrap();
    scene.publish(&account, &[&endpoint]).await;
    scene.pass(Retention::default().records_kept_for);
    scene.clean_all().await;
    assert_eq!(length(scene).await, before);
}
