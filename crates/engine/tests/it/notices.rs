//! The operations account: what it is told, in what order, how often, and never about itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::account::Account;
use domain::attempt::ReceiverControl;
use domain::audit::AuditAction;
use domain::contract::Contract;
use domain::endpoint::{Endpoint, EndpointStatus};
use domain::page::PageRequest;
use domain::testing::TEST_START;
use engine::administer::{Events, NewAccount, NewEndpoint};
use engine::operations::{OPERATIONS_USERNAME, OperationsAccount};
use engine::scope::Scope;
use engine::{ErrorCode, EventFilter};
use serde_json::Value;
use store::fault::{Fault, FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, TestClock};

use crate::harness::{Scene, as_account};
use crate::health::{enable, notes, one_try, publish_hourly, start_at, status};

const URL: &str = "https://hooks.customer.com/a";
const OPERATIONS_URL: &str = "https://operations.platform.com/hooks";
const HOUR: Duration = Duration::from_hours(1);

async fn operations_account(scene: &Scene) -> Account {
    match scene.engine.put_operations_account(Scope::OPERATOR).await.unwrap() {
        OperationsAccount::Created(account) | OperationsAccount::Found(account) => account,
    }
}

/// An operations account with an endpoint that wants everything.
async fn operations(scene: &Scene) -> (Account, Endpoint) {
    let account = operations_account(scene).await;
    let endpoint = scene.endpoint(&account, OPERATIONS_URL).await;
    (account, endpoint)
}

/// What is published into the operations account, oldest first: types and data.
async fn told(scene: &Scene) -> Vec<(String, Value)> {
    let account = scene.engine.operations_account(Scope::OPERATOR).await.unwrap();
    let filter = EventFilter { account: Some(account.id), ..EventFilter::default() };
    let events = scene.engine.list_events(Scope::OPERATOR, filter, PageRequest::LARGEST).await;
    let mut told: Vec<(String, Value)> = Vec::new();
    for found in events.unwrap().items {
        let data: Bytes = found.data.unwrap();
        let event_type = found.event.event_type.as_str().to_owned();
        told.push((event_type, serde_json::from_slice(&data).unwrap()));
    }
    told.reverse();
    told
}

async fn told_types(scene: &Scene) -> Vec<String> {
    told(scene).await.into_iter().map(|(event_type, _)| event_type).collect()
}

/// Has the endpoint disabled by a receiver that asks for it.
async fn have_disabled(scene: &Scene, account: &Account, endpoint: &Endpoint) {
    let reply = Reply::status(200).with_control(ReceiverControl::Disable);
    scene.sender.script(endpoint.url.as_str(), [reply]);
    scene.publish(account).await;
    scene.pass(Duration::from_secs(1)).await;
    assert_ne!(status(scene, endpoint).await, EndpointStatus::Enabled);
}

#[tokio::test(start_paused = true)]
async fn what_happens_to_an_endpoint_is_delivered_to_the_operations_account_in_order() {
    let scene = Scene::new().await;
    operations(&scene).await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(500));
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 121)).await;
    let told = told(&scene).await;
    let types: Vec<&str> = told
        .iter()
        .map(|(event_type, _)| event_type.as_str())
        .filter(|event_type| *event_type != "endpoint.exhausting")
        .collect();
    assert_eq!(types, ["endpoint.warned", "endpoint.warned", "endpoint.disabled"]);
    for (event_type, data) in &told {
        assert_eq!(data["account"], account.id.to_string(), "{event_type}");
        assert_eq!(data["username"], "john");
        assert_eq!(data["endpoint"], endpoint.id.to_string());
        assert_eq!(data["url"], URL);
        for member in ["since", "at"] {
            assert!(data[member].as_str().unwrap().ends_with('Z'), "{member}: {data}");
        }
        assert!(data["failures"].is_u64() && data["audit_entry"].is_u64(), "{data}");
    }
    let (_, disabled) = told.last().unwrap();
    assert_eq!(disabled["reason"], "failing");

    let delivered = scene.sender.requests_to(OPERATIONS_URL);
    assert_eq!(delivered.len(), told.len());
    for (sent, (event_type, data)) in delivered.iter().zip(&told) {
        let body: Value = serde_json::from_slice(&sent.request.body).unwrap();
        assert_eq!(body["type"], *event_type);
        assert_eq!(body["data"], *data);
        assert!(sent.header("webhook-signature").is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_before_there_was_an_operations_account_is_not_told_later() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    have_disabled(&scene, &account, &endpoint).await;
    scene.pass(Duration::from_mins(1)).await;
    operations(&scene).await;
    scene.pass(HOUR * 2).await;
    assert!(told(&scene).await.is_empty());
    enable(&scene, &endpoint).await;
    have_disabled(&scene, &account, &endpoint).await;
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(told_types(&scene).await, ["endpoint.disabled"]);
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_announced_exactly_once_wherever_the_process_dies_meanwhile() {
    let crashes = [
        (Method::Accept, Fault::Before),
        (Method::Accept, Fault::After),
        (Method::NoteAnnounced, Fault::Before),
        (Method::NoteAnnounced, Fault::After),
    ];
    for (method, fault) in crashes {
        let memory = Arc::new(MemoryStore::new());
        let faults = Arc::new(FaultStore::new(memory.clone()));
        let clock = Arc::new(TestClock::starting_at(TEST_START));
        let sender = ScriptedSender::new();
        let scene = start_at(&clock, faults.clone(), &sender, 7).await;
        operations(&scene).await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let reply = Reply::status(200).with_control(ReceiverControl::Disable);
        sender.script(URL, [reply.after(Duration::from_secs(1))]);
        scene.publish(&account).await;
        scene.pass(Duration::from_millis(500)).await;
        faults.fail(method, fault);
        scene.pass(Duration::from_secs(30)).await;
        assert_ne!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
        scene.engine.abandon();

        let scene = start_at(&clock, Arc::new(memory.reopen()), &sender, 8).await;
        scene.pass(HOUR).await;
        assert_eq!(told_types(&scene).await, ["endpoint.disabled"], "{method:?} {fault:?}");
        assert_eq!(sender.requests_to(OPERATIONS_URL).len(), 1, "{method:?} {fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_notice_that_storage_cannot_take_is_published_when_it_can() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    operations(&scene).await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    for method in [Method::ReadAudit, Method::FindOperationsAccount, Method::Accept] {
        enable(&scene, &endpoint).await;
        let before = told(&scene).await.len();
        let reply = Reply::status(200).with_control(ReceiverControl::Disable);
        scene.sender.script(URL, [reply.after(Duration::from_secs(1))]);
        scene.publish(&account).await;
        scene.pass(Duration::from_millis(500)).await;
        faults.fail(method, Fault::Before);
        scene.pass(Duration::from_mins(5)).await;
        faults.heal();
        assert_eq!(told(&scene).await.len(), before, "{method:?}");
        scene.pass(Duration::from_secs(11)).await;
        assert_eq!(told(&scene).await.len(), before + 1, "{method:?}");
        scene.pass(HOUR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operations_endpoint_that_fails_brings_about_no_notice() {
    let scene = Scene::new().await;
    let (operations, own) = operations(&scene).await;
    let account = scene.account(Contract::Standard, "john").await;
    one_try(&scene, &account, URL).await;
    scene.sender.otherwise(Reply::status(500));
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 121)).await;
    let notices = told(&scene).await.len();
    // Two warnings, one disabling, and deliveries given up once an hour at most.
    assert!((3..=124).contains(&notices), "{notices}");
    scene.pass(HOUR * 24).await;
    let told = told(&scene).await;
    assert!(told.len() <= notices + 1, "{}", told.len());
    for (_, data) in &told {
        assert_eq!(data["account"], account.id.to_string());
    }
    // It is disabled like any other, and that stands in the log.
    assert_ne!(status(&scene, &own).await, EndpointStatus::Enabled);
    let disabled = notes(&scene, AuditAction::EndpointDisabled).await;
    assert!(disabled.iter().any(|note| note.account == Some(operations.id)));
}

#[tokio::test(start_paused = true)]
async fn every_disabling_is_told_however_soon_after_the_one_before() {
    let scene = Scene::new().await;
    operations(&scene).await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    for _ in 0..5 {
        enable(&scene, &endpoint).await;
        have_disabled(&scene, &account, &endpoint).await;
    }
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(told_types(&scene).await, ["endpoint.disabled"; 5]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_given_up_are_told_once_an_hour_for_each_endpoint() {
    let scene = Scene::new().await;
    operations(&scene).await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoints = [URL, "https://hooks.customer.com/b"];
    for url in endpoints {
        one_try(&scene, &account, url).await;
        scene.sender.always(url, Reply::status(500));
    }
    for hours in 1..=2 {
        for _ in 0..6 {
            scene.publish(&account).await;
            scene.pass(Duration::from_mins(5)).await;
        }
        let told = told(&scene).await;
        for url in endpoints {
            let of_it = told.iter().filter(|(_, data)| data["url"] == url);
            assert_eq!(of_it.count(), hours, "{url}");
        }
        assert!(told.iter().all(|(event_type, _)| event_type == "endpoint.exhausting"));
        scene.pass(HOUR / 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operations_endpoint_subscribes_like_any_other() {
    let scene = Scene::new().await;
    let operations = operations_account(&scene).await;
    let john = scene.account(Contract::Standard, "john").await;
    let subscribe = async |path: &str, events: Option<&str>, entity_id: Option<String>| {
        let url = format!("https://operations.platform.com/{path}");
        let events = events.map_or(Events::All, |name| Events::Listed(vec![name.to_owned()]));
        let new = NewEndpoint { url, events, entity_id, ..NewEndpoint::default() };
        scene.engine.create_endpoint(Scope::OPERATOR, operations.id, new).await.unwrap();
    };
    subscribe("all", None, None).await;
    subscribe("disabled", Some("endpoint.disabled"), None).await;
    subscribe("warned", Some("endpoint.warned"), None).await;
    subscribe("john", None, Some(john.id.to_string())).await;
    subscribe("jane", None, Some("acct_00000000000000000000000000000001".to_owned())).await;
    let endpoint = scene.endpoint(&john, URL).await;
    have_disabled(&scene, &john, &endpoint).await;
    scene.pass(Duration::from_secs(1)).await;
    let sent_to = |path: &str| {
        scene.sender.requests_to(&format!("https://operations.platform.com/{path}")).len()
    };
    let counts = ["all", "disabled", "warned", "john", "jane"].map(sent_to);
    assert_eq!(counts, [1, 1, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn there_is_one_operations_account_and_only_the_operator_sees_it() {
    let scene = Scene::new().await;
    let john = scene.account(Contract::Standard, "john").await;
    let engine = &scene.engine;
    let refused = engine.operations_account(Scope::OPERATOR).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let OperationsAccount::Created(account) =
        engine.put_operations_account(Scope::OPERATOR).await.unwrap()
    else {
        panic!("it was there");
    };
    assert_eq!(account.username.as_str(), OPERATIONS_USERNAME);
    assert_eq!(account.contract, Contract::Standard);
    let again = engine.put_operations_account(Scope::OPERATOR).await.unwrap();
    assert_eq!(again, OperationsAccount::Found(account.clone()));
    assert_eq!(engine.operations_account(Scope::OPERATOR).await.unwrap(), account);
    for scope in [as_account(&john), as_account(&account)] {
        let refused = engine.put_operations_account(scope).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
        let refused = engine.operations_account(scope).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
    }
    scene.engine.delete_account(Scope::OPERATOR, account.id).await.unwrap();
    assert!(engine.operations_account(Scope::OPERATOR).await.is_err());
    let another = operations_account(&scene).await;
    assert_ne!(another.id, account.id);
}

#[tokio::test(start_paused = true)]
async fn an_operations_account_needs_its_username() {
    let scene = Scene::new().await;
    let new = NewAccount {
        username: OPERATIONS_USERNAME.to_owned(),
        contract: Contract::JoggV2,
        plan: None,
        credits: None,
        api_access: true,
    };
    scene.engine.create_account(Scope::OPERATOR, new).await.unwrap();
    let refused = scene.engine.put_operations_account(Scope::OPERATOR).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
}
