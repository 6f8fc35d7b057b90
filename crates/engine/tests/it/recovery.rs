//! Stops, crashes, and storage that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::Outcome;
use domain::credentials::ClientIdentity;
use domain::delivery::StateName;
use domain::target_url::TargetUrl;
use domain::testing::TEST_START;
use engine::entropy::SystemEntropy;
use engine::scope::Scope;
use engine::sender::{Exchange, Request, Sender};
use engine::settings::Settings;
use engine::{Engine, ErrorCode, Parts};
use store::fault::{Fault, FaultStore, Method, Odds};
use store::memory::MemoryStore;
use store::queue::{LaneRoom, Queue as _, WaitingLane};
use testkit::doubles::{Reply, ScriptedSender, TestClock};
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

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_attempts_that_are_being_recorded() {
    let memory = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory.clone()));
    let sender = ScriptedSender::new();
    let scene = Scene::on(faults.clone(), sender.clone()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    let mut stall = faults.stall(Method::Record);
    scene.publish(&account).await;
    stall.reached_by(1).await;
    let engine = scene.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop(Duration::from_secs(20)).await });
    scene.pass(Duration::from_secs(1)).await;
    assert!(!stopping.is_finished());
    stall.release();
    assert_eq!(stopping.await.unwrap().unwrap(), 0);
    let again = Scene::on(Arc::new(memory.reopen()), sender.clone()).await;
    again.drain().await;
    assert_eq!(sender.requests().len(), 1);
}

/// How often claims of deliveries were lost that are claimable after a restart.
async fn lost_claims(store: &MemoryStore) -> Vec<u32> {
    let again = store.reopen();
    let far = TEST_START.plus(Duration::from_hours(100));
    let session = again.begin_session(far).await.unwrap();
    let waiting = again.waiting_lanes(None, 100).await.unwrap();
    let room = |lane: &WaitingLane| LaneRoom { endpoint: lane.endpoint, room: 100 };
    let claims = again.claim_due(session, far, waiting.iter().map(room).collect()).await.unwrap();
    claims.iter().flat_map(|claim| &claim.claimed).map(|claimed| claimed.lost_claims).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_back_what_a_claim_under_way_brings() {
    let memory = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory.clone()));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.otherwise(Reply::status(500));
    for _ in 0..3 {
        scene.publish(&account).await;
    }
    scene.sender.wait_for_replies(3).await;
    let mut stall = faults.stall(Method::ClaimDue);
    stall.reached_by(1).await;
    scene.pass(Duration::from_secs(10)).await;
    let engine = scene.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop(Duration::from_secs(20)).await });
    scene.pass(Duration::from_secs(1)).await;
    assert!(!stopping.is_finished());
    stall.release();
    assert_eq!(stopping.await.unwrap().unwrap(), 0);
    assert_eq!(lost_claims(&memory).await, [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_back_what_a_publish_under_way_brings() {
    let memory = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory.clone()));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    let mut stall = faults.stall(Method::Accept);
    let engine = scene.engine.clone();
    let event = crate::harness::an_event(&account);
    let publishing =
        tokio::spawn(async move { engine.publish(Scope::OPERATOR, event, None).await });
    stall.reached_by(1).await;
    let engine = scene.engine.clone();
    let stopping = tokio::spawn(async move { engine.stop(Duration::from_secs(20)).await });
    scene.pass(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished());
    stall.release();
    assert_eq!(stopping.await.unwrap().unwrap(), 0);
    publishing.await.unwrap().unwrap();
    assert!(scene.sender.requests().is_empty());
    assert_eq!(lost_claims(&memory).await, [0]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_even_when_storage_takes_nothing() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    faults.fail(Method::Record, Fault::Before);
    scene.publish(&account).await;
    scene.sender.wait_for_replies(1).await;
    let stopped =
        tokio::time::timeout(Duration::from_secs(30), scene.engine.stop(Duration::from_secs(20)));
    stopped.await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn storage_that_fails_now_and_then_loses_and_repeats_nothing() {
    for seed in 0..20 {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
        let (account, _) = scene.subscriber("john", URL).await;
        scene.endpoint(&account, "https://hooks.customer.com/b").await;
        scene.sender.script(URL, vec![Reply::status(503); 30]);
        faults.fail_by_chance(seed, Odds { before: 100, after: 0 });
        let mut acknowledged = 0;
        for _ in 0..200 {
            match scene.try_publish(&account).await {
                Ok(published) => acknowledged += published.deliveries as usize,
                Err(error) => assert_eq!(error.code(), ErrorCode::Unavailable),
            }
        }
        assert!(acknowledged < 400, "seed {seed} injected nothing");
        scene.pass(Duration::from_hours(1)).await;
        faults.heal();
        scene.drain().await;
        assert_eq!(scene.count_in(StateName::Delivered).await, acknowledged, "seed {seed}");
        assert_eq!(scene.sender.requests().len(), acknowledged + 30, "seed {seed}");
        assert_eq!(scene.engine.load().in_memory, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_stored_by_a_call_that_seemed_to_fail_is_delivered_all_the_same() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    faults.script(Method::Accept, [Some(Fault::After)]);
    let error = scene.try_publish(&account).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unavailable);
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 1);
    assert_eq!(scene.count_in(StateName::Delivered).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_goes_away_leaves_no_delivery_behind() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    for _ in 0..50 {
        let mut stall = faults.stall(Method::Accept);
        let publishing = {
            let (engine, account) = (scene.engine.clone(), account.clone());
            tokio::spawn(async move {
                engine.publish(Scope::OPERATOR, crate::harness::an_event(&account), None).await
            })
        };
        stall.reached_by(1).await;
        publishing.abort();
        stall.release();
        // It may have got through before it was ended.
        let _ = publishing.await;
    }
    scene.drain().await;
    let counts = scene.engine.counts(Scope::OPERATOR).await.unwrap();
    assert_eq!(counts.delivered, counts.created);
    assert_eq!(scene.engine.load().in_memory, 0);
}

/// Panics once, then does as it is told.
struct PanicsOnce(ScriptedSender, AtomicBool);

#[async_trait]
impl Sender for PanicsOnce {
    async fn send(&self, request: Request) -> Exchange {
        assert!(self.1.swap(true, Ordering::SeqCst), "the first attempt panics, on purpose");
        self.0.send(request).await
    }

    async fn probe(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        timeout: Duration,
    ) -> Outcome {
        self.0.probe(url, identity, timeout).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_is_made_again_and_holds_up_nothing() {
    let sender = ScriptedSender::new();
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        sender: Arc::new(PanicsOnce(sender.clone(), AtomicBool::new(false))),
        clock: Arc::new(TestClock::starting_at(TEST_START)),
        entropy: Arc::new(SystemEntropy),
        sealing: None,
        spans: None,
        settings: Settings { in_flight_per_endpoint_max: 1, ..Settings::default() },
    };
    let clock = Arc::new(TestClock::starting_at(TEST_START));
    let (engine, _) = Engine::start(parts).await.unwrap();
    let scene = Scene { engine, sender, clock };
    let (account, _) = scene.subscriber("john", URL).await;
    for _ in 0..10 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Delivered).await, 10);
    assert_eq!(scene.sender.requests().len(), 10);
    assert_eq!(scene.engine.load().in_memory, 0);
}
