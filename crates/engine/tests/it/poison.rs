//! Events that bring down whoever works on them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::account::Account;
use domain::attempt::Outcome;
use domain::credentials::ClientIdentity;
use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::target_url::TargetUrl;
use domain::testing::TEST_START;
use engine::publish::{Publish, Published};
use engine::scope::Scope;
use engine::sender::{Exchange, Request, Sender};
use engine::settings::Settings;
use engine::{Engine, Parts};
use store::SharedStore;
use store::fault::{FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SeededEntropy, TestClock};
use testkit::gate::Gate;
use tokio::sync::Notify;

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";
const NEIGHBOUR: &str = "https://hooks.customer.com/b";

/// What is in the payload of a poison event.
const POISON: &[u8] = b"poison";

fn is_poison(request: &Request) -> bool {
    request.body.windows(POISON.len()).any(|window| window == POISON)
}

async fn publish_poison(scene: &Scene, account: &Account) -> Published {
    let event = Publish { data: Bytes::from_static(br#"{"a":"poison"}"#), ..an_event(account) };
    scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap()
}

async fn start(
    store: SharedStore,
    sender: Arc<dyn Sender>,
    scripted: &ScriptedSender,
    seed: u64,
) -> Scene {
    let clock = Arc::new(TestClock::starting_at(TEST_START));
    let parts = Parts {
        store,
        sender,
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(seed)),
        sealing: None,
        spans: None,
        settings: Settings::default(),
    };
    let (engine, _) = Engine::start(parts).await.unwrap();
    Scene { engine, sender: scripted.clone(), clock }
}

/// The one delivery that was set aside.
async fn set_aside(scene: &Scene) -> domain::delivery::Delivery {
    let exhausted = DeliveryState::Exhausted(EndReason::SetAside);
    let deliveries = scene.deliveries().await;
    let mut aside = deliveries.into_iter().filter(|delivery| delivery.state == exhausted);
    let delivery = aside.next().expect("one delivery was set aside");
    assert_eq!(aside.count(), 0, "only one delivery was set aside");
    delivery
}

/// Panics on poison.
struct Panics(ScriptedSender);

#[async_trait]
impl Sender for Panics {
    async fn send(&self, request: Request) -> Exchange {
        assert!(!is_poison(&request), "poison, on purpose");
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
async fn an_event_that_panics_is_set_aside_after_three_claims_and_stops_nothing_else() {
    let sender = ScriptedSender::new();
    let store = Arc::new(MemoryStore::new());
    let scene = start(store, Arc::new(Panics(sender.clone())), &sender, 7).await;
    let (account, _) = scene.subscriber("john", URL).await;
    for _ in 0..5 {
        scene.publish(&account).await;
    }
    let poison = publish_poison(&scene, &account).await;
    for _ in 0..5 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Delivered).await, 10);
    assert_eq!(sender.requests().len(), 10, "the others are sent once");
    let aside = set_aside(&scene).await;
    assert_eq!(aside.event, poison.id);
    assert_eq!(aside.attempts, 0, "no outcome is made up");
    assert!(aside.ended_at.is_some());
    assert_eq!(scene.engine.load().in_memory, 0);
}

/// Brings the process down on poison: says so, and never answers.
struct Deadly {
    sender: ScriptedSender,
    death: Arc<Notify>,
}

#[async_trait]
impl Sender for Deadly {
    async fn send(&self, request: Request) -> Exchange {
        if is_poison(&request) {
            self.death.notify_one();
            std::future::pending::<()>().await;
        }
        self.sender.send(request).await
    }

    async fn probe(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        timeout: Duration,
    ) -> Outcome {
        self.sender.probe(url, identity, timeout).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_kills_the_process_is_set_aside_alone_after_three_claims() {
    let mut store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let death = Arc::new(Notify::new());
    // Bystanders are on their way, and wait in memory, at every death.
    sender.always(URL, Reply::status(200).after(Duration::from_secs(1)));
    sender.always(NEIGHBOUR, Reply::status(200).after(Duration::from_secs(1)));
    let mut lives = 0;
    let last = loop {
        lives += 1;
        assert!(lives <= 4, "it is set aside after the third death");
        let deadly = Deadly { sender: sender.clone(), death: Arc::clone(&death) };
        let scene = start(store.clone(), Arc::new(deadly), &sender, lives).await;
        if lives == 1 {
            let (john, _) = scene.subscriber("john", URL).await;
            let (_jane, _) = scene.subscriber("jane", NEIGHBOUR).await;
            for _ in 0..50 {
                scene.publish(&john).await;
            }
            publish_poison(&scene, &john).await;
            for _ in 0..50 {
                scene.publish(&john).await;
            }
        }
        let died = tokio::time::timeout(Duration::from_mins(5), death.notified()).await;
        if died.is_err() {
            break scene;
        }
        scene.engine.abandon();
        store = Arc::new(store.reopen());
    };
    assert_eq!(lives, 4);
    last.drain().await;
    assert_eq!(last.count_in(StateName::Delivered).await, 100, "no bystander is set aside");
    set_aside(&last).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_set_aside_can_be_replayed() {
    let sender = ScriptedSender::new();
    let store = Arc::new(MemoryStore::new());
    let scene = start(store.clone(), Arc::new(Panics(sender.clone())), &sender, 7).await;
    let (account, _) = scene.subscriber("john", URL).await;
    publish_poison(&scene, &account).await;
    scene.drain().await;
    let aside = set_aside(&scene).await;
    scene.engine.abandon();

    let mended =
        Scene::with(Arc::new(store.reopen()), sender.clone(), Settings::default(), 8).await;
    mended.engine.replay_delivery(Scope::OPERATOR, aside.id).await.unwrap();
    mended.drain().await;
    assert_eq!(mended.count_in(StateName::Delivered).await, 1);
}

/// A store whose process died twice while these many deliveries were on their way.
async fn died_twice_with(count: usize, sender: &ScriptedSender) -> Arc<MemoryStore> {
    let silent = Gate::new();
    sender.script(URL, vec![Reply::status(200).held_by(&silent); 2 * count]);
    let mut store = Arc::new(MemoryStore::new());
    for life in 1..=2 {
        let scene = Scene::with(store.clone(), sender.clone(), Settings::default(), life).await;
        if life == 1 {
            let (account, _) = scene.subscriber("john", URL).await;
            for _ in 0..count {
                scene.publish(&account).await;
            }
        }
        sender.wait_for(count * usize::try_from(life).unwrap()).await;
        scene.engine.abandon();
        store = Arc::new(store.reopen());
    }
    store
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_attempted_alone_until_the_outcome_of_the_one_before_is_written_down() {
    let sender = ScriptedSender::new();
    let store = died_twice_with(2, &sender).await;
    let faults = Arc::new(FaultStore::new(store));
    let mut stall = faults.stall(Method::Record);
    let scene = Scene::with(faults.clone(), sender.clone(), Settings::default(), 3).await;
    sender.wait_for(5).await;
    stall.reached_by(1).await;
    scene.pass(Duration::from_secs(5)).await;
    assert_eq!(sender.requests().len(), 5, "the other waits");
    stall.release();
    scene.drain().await;
    assert_eq!(sender.requests().len(), 6);
    assert_eq!(scene.count_in(StateName::Delivered).await, 2);
}

#[tokio::test(start_paused = true)]
async fn those_that_must_be_attempted_alone_follow_one_another_at_once() {
    let sender = ScriptedSender::new();
    let store = died_twice_with(20, &sender).await;
    let scene = Scene::with(store, sender.clone(), Settings::default(), 3).await;
    scene.pass(Duration::from_secs(2)).await;
    assert_eq!(scene.count_in(StateName::Delivered).await, 20);
}
