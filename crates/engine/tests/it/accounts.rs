//! Accounts, keys and endpoints: scope, limits, input.

use std::sync::Arc;

use domain::account::AccountChange;
use domain::attempt::{Failure, Outcome};
use domain::contract::Contract;
use domain::page::PageRequest;
use engine::administer::{EndpointEdit, Events, NewAccount, NewEndpoint};
use engine::scope::{Caller, Scope};
use engine::settings::Settings;
use engine::{EngineError, ErrorCode};
use store::fault::{FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::ScriptedSender;

use crate::harness::{Scene, as_account};

const URL: &str = "https://hooks.customer.com/a";

fn new_account(contract: Contract, username: &str) -> NewAccount {
    NewAccount {
        username: username.to_owned(),
        contract,
        plan: None,
        credits: None,
        api_access: true,
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_its_account_until_it_is_revoked() {
    let scene = Scene::new().await;
    let (account, first) = scene
        .engine
        .create_account(Scope::OPERATOR, new_account(Contract::JoggV2, "john"))
        .await
        .unwrap();
    let (record, second) = scene.engine.issue_key(Scope::OPERATOR, account.id).await.unwrap();
    let opens = async |key: &str| match scene.engine.authenticate(key).await.unwrap() {
        Some(Caller::Account { roster, .. }) => Some(roster.account.id),
        Some(Caller::Operator { .. }) => panic!("an account key is no operator key"),
        None => None,
    };
    assert_eq!(opens(first.reveal()).await, Some(account.id));
    assert_eq!(opens(second.reveal()).await, Some(account.id));
    assert_eq!(opens("").await, None);
    assert_eq!(opens(&second.reveal().replace("pr_ak_", "pr_op_")).await, None);
    scene.engine.revoke_key(Scope::OPERATOR, account.id, record.id).await.unwrap();
    assert_eq!(opens(second.reveal()).await, None);
    assert_eq!(opens(first.reveal()).await, Some(account.id));
    scene.engine.delete_account(Scope::OPERATOR, account.id).await.unwrap();
    assert_eq!(opens(first.reveal()).await, None);
}

#[tokio::test(start_paused = true)]
async fn the_operator_key_of_the_settings_opens_everything() {
    let settings = Settings { bootstrap_operator_key: Some("k".repeat(32)), ..Settings::default() };
    let store = Arc::new(MemoryStore::new());
    let scene = Scene::with(store, ScriptedSender::new(), settings, 1).await;
    let caller = scene.engine.authenticate(&"k".repeat(32)).await.unwrap();
    assert!(matches!(caller, Some(Caller::Operator { key: None })));
    assert!(scene.engine.authenticate(&"k".repeat(33)).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_endpoints_added_at_once_leave_exactly_20() {
    let scene = Arc::new(Scene::new().await);
    let account = scene.account(Contract::JoggV2, "john").await;
    let adds: Vec<_> = (0..100)
        .map(|number| {
            let (scene, account) = (Arc::clone(&scene), account.id);
            tokio::spawn(async move {
                let new = NewEndpoint {
                    url: format!("https://hooks.customer.com/{number}"),
                    ..NewEndpoint::default()
                };
                scene.engine.create_endpoint(Scope::OPERATOR, account, new).await
            })
        })
        .collect();
    let mut created = 0;
    for add in adds {
        match add.await.unwrap() {
            Ok(_) => created += 1,
            Err(error) => assert_eq!(error.code(), ErrorCode::LimitReached),
        }
    }
    assert_eq!(created, 20);
    let all = scene.engine.all_endpoints(Scope::OPERATOR, account.id).await.unwrap();
    assert_eq!(all.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_created_without_reading_those_there_are() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let account = scene.account(Contract::Standard, "john").await;
    for number in 0..50 {
        scene.endpoint(&account, &format!("https://hooks.customer.com/{number}")).await;
    }
    assert_eq!(faults.calls(Method::ReadRoster), 0);
}

#[tokio::test(start_paused = true)]
async fn every_wrong_field_of_an_endpoint_is_named() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::JoggV2, "john").await;
    let new = NewEndpoint {
        url: "https://127.0.0.1/".to_owned(),
        events: Events::Listed(vec!["generated_vidoe_success".to_owned()]),
        headers: vec![("Host".to_owned(), "x".to_owned())],
        max_in_flight: Some(0),
        retry_schedule: Some(vec![1]),
        description: Some("x".repeat(2_000)),
        ..NewEndpoint::default()
    };
    let error: EngineError =
        scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap_err();
    let fields: Vec<_> =
        error.violations().iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(
        fields,
        ["url", "events", "description", "headers", "max_in_flight", "retry_schedule"]
    );
    assert!(error.message().contains("generated_video_success"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_konpro_endpoint_must_answer_the_probe_and_all_failures_read_alike() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::KonproV1, "john").await;
    let add = async |outcome: Outcome| {
        scene.sender.script_probes(URL, [outcome]);
        let new = NewEndpoint { url: URL.to_owned(), ..NewEndpoint::default() };
        scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await
    };
    let answered = |status| Outcome::Answered { status, retry_after: None };
    for status in [200, 204, 301, 404, 405, 499] {
        assert!(add(answered(status)).await.is_ok(), "{status}");
    }
    let failures = Failure::ALL.map(Outcome::Failed).into_iter().chain([answered(500)]);
    let mut texts = Vec::new();
    for failure in failures {
        texts.push(add(failure).await.unwrap_err().to_string());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(scene.sender.probes().len(), 6 + Failure::ALL.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn other_accounts_and_their_endpoints_do_not_exist_for_an_account() {
    let scene = Scene::new().await;
    let (john, _) = scene.subscriber("john", URL).await;
    let (jane, endpoint) = scene.subscriber("jane", "https://hooks.customer.com/b").await;
    let as_john = as_account(&john);
    let page = PageRequest { before: None, limit: 10 };
    let engine = &scene.engine;
    let codes = [
        engine.account(as_john, jane.id).await.err(),
        engine.endpoint(as_john, endpoint.id).await.err(),
        engine.list_endpoints(as_john, jane.id, page).await.err(),
        engine.list_keys(as_john, jane.id, page).await.err(),
        engine.delete_endpoint(as_john, endpoint.id).await.err(),
        engine.change_endpoint(as_john, endpoint.id, EndpointEdit::default()).await.err(),
        engine.delete_account(as_john, john.id).await.err(),
        engine.change_account(as_john, john.id, AccountChange::default()).await.err(),
        engine.publish_test(as_john, endpoint.id, None).await.err(),
    ]
    .map(|error| error.map(|error| error.code()));
    assert_eq!(codes, [Some(ErrorCode::NotFound); 9]);
    let own = engine.list_accounts(as_john, page).await.unwrap();
    assert_eq!(own.items, [john]);
}
