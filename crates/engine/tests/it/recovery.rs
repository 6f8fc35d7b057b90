//! Stops, crashes, and storage that fails.

use std::sync::Arc;
use std::time::Duration;

use domain::delivery::StateName;
use engine::ErrorCode;
use engine::settings::Settings;
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender};
use testkit::gate::Gate;

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_attempts_end_and_loses_and_repeats_nothing() {
    let store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    sender.otherwise(Reply::status(200).after(Duration::from_secs(1)));
    for _ in 0..200 {
        scene.publish(&account).await;
    }
    sender.wait_for(32).await;
    let cut_off = scene.engine.stop(Duration::from_secs(20)).await.unwrap();
    assert_eq!(cut_off, 0);
    assert_eq!(sender.requests().len(), 32);
    let refused = scene.try_publish(&account).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Unavailable);

    let again = Scene::on(Arc::new(store.reopen()), sender.clone()).await;
    again.drain().await;
    assert_eq!(sender.requests().len(), 200);
    assert_eq!(again.count_in(StateName::Delivered).await, 200);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_everything_acknowledged_is_delivered_with_the_same_id_and_body() {
    let store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    let gate = Gate::new();
    sender.always(URL, Reply::status(200).held_by(&gate));
    for _ in 0..2_000 {
        scene.publish(&account).await;
    }
    sender.wait_for(32).await;
    scene.engine.abandon();
    gate.open();

    let again = Scene::with(Arc::new(store.reopen()), sender.clone(), Settings::default(), 8).await;
    again.drain().await;
    assert_eq!(again.count_in(StateName::Delivered).await, 2_000);
    let requests = sender.requests();
    assert_eq!(requests.len(), 2_032, "only what was on its way is repeated");
    let (cut_off, complete) = requests.split_at(32);
    for sent in cut_off {
        let id = sent.header("webhook-id");
        let repeat = complete.iter().find(|other| other.header("webhook-id") == id).unwrap();
        assert_eq!(repeat.request.body, sent.request.body);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_wait_across_a_restart_keep_their_due_time() {
    let store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    sender.script(URL, vec![Reply::status(500); 4]);
    scene.publish(&account).await;
    sender.wait_for_replies(4).await;
    scene.pass(Duration::from_millis(1)).await;
    let due_at = scene.delivery().await.due_at;
    scene.engine.abandon();
    let again = Scene::with(Arc::new(store.reopen()), sender.clone(), Settings::default(), 8).await;
    again.clock.set_forward(Duration::from_secs(200));
    assert_eq!(again.delivery().await.due_at, due_at);
    again.drain().await;
    assert_eq!(sender.requests().len(), 5);
}
