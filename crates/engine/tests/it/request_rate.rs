//! How many requests to the platform API a key may make.

use std::sync::Arc;
use std::time::Duration;

use domain::contract::Contract;
use engine::scope::{Caller, Scope};
use engine::settings::{BucketRate, Settings};
use store::memory::MemoryStore;
use testkit::doubles::ScriptedSender;

use crate::harness::Scene;

#[tokio::test(start_paused = true)]
async fn each_account_key_has_its_own_100_a_second_and_the_operator_no_limit() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::Standard, "john").await;
    let mut callers = Vec::new();
    for _ in 0..2 {
        let (_, key) = engine.issue_key(Scope::OPERATOR, account.id).await.unwrap();
        callers.push(engine.authenticate(key.reveal()).await.unwrap().unwrap());
    }
    let allowed = |caller: &Caller| {
        (0..1_000).filter(|_| engine.count_platform_request(caller).unwrap().is_allowed).count()
    };
    assert_eq!(allowed(&callers[0]), 200);
    assert_eq!(allowed(&callers[1]), 200);
    let refused = engine.count_platform_request(&callers[0]).unwrap();
    assert_eq!((refused.limit, refused.window_seconds), (200, 2));
    assert_eq!((refused.remaining, refused.reset_seconds), (0, 2));
    scene.pass(refused.retry_after.unwrap()).await;
    assert_eq!(allowed(&callers[0]), 1);
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(allowed(&callers[0]), 100);
    let operator = Caller::Operator { key: None };
    assert_eq!(engine.count_platform_request(&operator), None);
}

#[tokio::test(start_paused = true)]
async fn operator_keys_are_limited_too_when_the_settings_say_so() {
    let settings = Settings {
        account_key_rate: None,
        operator_key_rate: Some(BucketRate { per_second: 1, burst: 3 }),
        ..Settings::default()
    };
    let store = Arc::new(MemoryStore::new());
    let scene = Scene::with(store, ScriptedSender::new(), settings, 1).await;
    let operator = Caller::Operator { key: None };
    let remaining = [2, 1, 0, 0].map(|_| scene.engine.count_platform_request(&operator).unwrap());
    assert_eq!(remaining.map(|status| status.remaining), [2, 1, 0, 0]);
    assert_eq!(remaining.map(|status| status.is_allowed), [true, true, true, false]);
    let account = scene.account(Contract::Standard, "john").await;
    let (_, key) = scene.engine.issue_key(Scope::OPERATOR, account.id).await.unwrap();
    let caller = scene.engine.authenticate(key.reveal()).await.unwrap().unwrap();
    assert_eq!(scene.engine.count_platform_request(&caller), None);
}
