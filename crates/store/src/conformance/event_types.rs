//! Event types that an operator registered.

use std::sync::Arc;
use std::time::Duration;

use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::limits::EVENT_TYPES_PER_CONTRACT_MAX;

use super::Scene;
use super::scene::{at_once, event_type};
use crate::catalogue::EventTypePut;

/// A type of that name, with everything that can be said of it.
fn a_type(scene: &Scene, contract: Contract, name: &str) -> RegisteredType {
    RegisteredType {
        contract,
        name: event_type(name),
        description: Some(format!("\"{name}\" f\u{fc}r alle")),
        schema: Some(r#"{ "type" : "object" }"#.to_owned()),
        sample: Some("{\"n\": 1.0e+2}".to_owned()),
        created_at: scene.now,
        updated_at: scene.now,
    }
}

/// A type of which nothing but its name is known.
fn a_bare_type(scene: &Scene, contract: Contract, name: &str) -> RegisteredType {
    let full = a_type(scene, contract, name);
    RegisteredType { description: None, schema: None, sample: None, ..full }
}

async fn put(scene: &Scene, registered: &RegisteredType) -> EventTypePut {
    scene.store.put_event_type(registered.clone(), scene.note()).await.unwrap()
}

async fn listed(scene: &Scene, contract: Contract) -> Vec<RegisteredType> {
    scene.store.list_event_types(contract).await.unwrap()
}

pub async fn event_types_read_back_as_registered_in_the_order_of_their_names(scene: &mut Scene) {
    let mut expected = Vec::new();
    for name in ["b", "a.c", "B", "a", "a-c", "a_c", "a.b"] {
        let registered = if expected.len() % 2 == 0 {
            a_type(scene, Contract::Standard, name)
        } else {
            a_bare_type(scene, Contract::Standard, name)
        };
        assert_eq!(put(scene, &registered).await, EventTypePut::Created);
        expected.push(registered);
    }
    expected.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
    assert_eq!(listed(scene, Contract::Standard).await, expected);
    scene.crash().await;
    assert_eq!(listed(scene, Contract::Standard).await, expected);
}

pub async fn an_event_type_is_in_the_catalogue_of_its_contract_alone(scene: &mut Scene) {
    for contract in Contract::ALL {
        let registered = a_type(scene, contract, "video.created");
        assert_eq!(put(scene, &registered).await, EventTypePut::Created);
    }
    for contract in Contract::ALL {
        let expected = [a_type(scene, contract, "video.created")];
        assert_eq!(listed(scene, contract).await, expected);
        let name = event_type("video.created");
        let note = scene.note();
        assert!(scene.store.delete_event_type(contract, &name, note).await.unwrap());
        assert_eq!(listed(scene, contract).await, []);
    }
}

pub async fn an_event_type_registered_again_is_changed_and_as_old_as_before(scene: &mut Scene) {
    let first = a_type(scene, Contract::JoggV2, "video.created");
    put(scene, &first).await;
    scene.pass(Duration::from_secs(1));
    let second = a_bare_type(scene, Contract::JoggV2, "video.created");
    assert_eq!(put(scene, &second).await, EventTypePut::Changed);
    let expected = RegisteredType { created_at: first.created_at, ..second };
    assert_eq!(listed(scene, Contract::JoggV2).await, [expected]);
}

pub async fn an_event_type_is_taken_out_once(scene: &mut Scene) {
    let contract = Contract::Standard;
    for name in ["a", "b"] {
        put(scene, &a_type(scene, contract, name)).await;
    }
    let kept = [a_type(scene, contract, "b")];
    for (name, is_there) in [("a", true), ("a", false), ("A", false), ("b.c", false)] {
        let (named, note) = (event_type(name), scene.note());
        let deleted = scene.store.delete_event_type(contract, &named, note).await.unwrap();
        assert_eq!(deleted, is_there, "{name}");
        assert_eq!(listed(scene, contract).await, kept);
    }
    assert_eq!(put(scene, &a_type(scene, contract, "a")).await, EventTypePut::Created);
}

pub async fn no_more_event_types_are_registered_than_there_may_be(scene: &mut Scene) {
    let mut tasks = Vec::new();
    for number in 0..EVENT_TYPES_PER_CONTRACT_MAX + 5 {
        let registered = a_bare_type(scene, Contract::Standard, &format!("type{number}"));
        let (store, note) = (Arc::clone(&scene.store), scene.note());
        tasks.push(async move { store.put_event_type(registered, note).await.unwrap() });
    }
    let answers = at_once(tasks).await;
    let count = |wanted| answers.iter().filter(|answer| **answer == wanted).count();
    assert_eq!(count(EventTypePut::Created), EVENT_TYPES_PER_CONTRACT_MAX);
    assert_eq!(count(EventTypePut::LimitReached), 5);
    let registered = listed(scene, Contract::Standard).await;
    assert_eq!(registered.len(), EVENT_TYPES_PER_CONTRACT_MAX);
    assert_eq!(put(scene, &registered[7]).await, EventTypePut::Changed, "it is not a new one");
    let other = a_bare_type(scene, Contract::KonproV1, "type0");
    assert_eq!(put(scene, &other).await, EventTypePut::Created, "each contract by itself");
    let note = scene.note();
    let name = registered[7].name.clone();
    assert!(scene.store.delete_event_type(Contract::Standard, &name, note).await.unwrap());
    let new = a_bare_type(scene, Contract::Standard, "new");
    assert_eq!(put(scene, &new).await, EventTypePut::Created);
}
