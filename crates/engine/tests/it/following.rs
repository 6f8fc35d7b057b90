//! Following events: nobody who polls misses one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::contract::Contract;
use domain::id::EventId;
use engine::scope::Scope;
use engine::settings::Settings;
use engine::{EngineError, ErrorCode};
use proptest::prelude::*;
use store::fault::{FaultStore, Method, Stall};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender};
use tokio::task::JoinHandle;

use crate::harness::{Scene, an_event, as_account};

const URL: &str = "https://hooks.customer.com/a";

/// Somebody who polls.
struct Follower {
    after: Option<EventId>,
    undelivered: bool,
    seen: Vec<EventId>,
}

impl Follower {
    fn new(undelivered: bool) -> Self {
        Self { after: None, undelivered, seen: Vec::new() }
    }

    /// Asks once; answers how many events came.
    async fn poll(&mut self, scene: &Scene, account: &Account, limit: usize) -> usize {
        let scope = as_account(account);
        let (after, undelivered) = (self.after, self.undelivered);
        let followed =
            scene.engine.follow_events(scope, account.id, after, undelivered, limit).await.unwrap();
        let count = followed.events.len();
        assert!(count <= limit);
        self.seen.extend(followed.events.into_iter().map(|event| event.event.id));
        self.after = followed.through.or(self.after);
        count
    }

    async fn poll_to_the_end(&mut self, scene: &Scene, account: &Account) {
        while self.poll(scene, account, 500).await > 0 {}
    }
}

/// A publish that storage holds back until told.
struct Held {
    stall: Stall,
    publishing: JoinHandle<Result<EventId, EngineError>>,
}

impl Held {
    async fn begin(scene: &Scene, faults: &FaultStore, account: &Account) -> Self {
        let mut stall = faults.stall(Method::Accept);
        let (engine, event) = (scene.engine.clone(), an_event(account));
        let publishing = tokio::spawn(async move {
            engine.publish(Scope::OPERATOR, event, None).await.map(|published| published.id)
        });
        stall.reached_by(1).await;
        Self { stall, publishing }
    }

    async fn end(self) -> EventId {
        self.stall.release();
        self.publishing.await.unwrap().unwrap()
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A publisher of the first account begins, or of the second.
    Begin {
        is_other: bool,
    },
    /// One that began ends.
    End(usize),
    /// One that began goes away.
    GoAway(usize),
    Poll {
        limit: usize,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any::<bool>().prop_map(|is_other| Step::Begin { is_other }),
        4 => any::<usize>().prop_map(Step::End),
        1 => any::<usize>().prop_map(Step::GoAway),
        4 => (1..4usize).prop_map(|limit| Step::Poll { limit }),
    ]
}

async fn run(steps: Vec<Step>) {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let john = scene.account(Contract::Standard, "john").await;
    let jane = scene.account(Contract::Standard, "jane").await;
    let mut follower = Follower::new(false);
    let mut held: Vec<(bool, Held)> = Vec::new();
    let mut published = Vec::new();
    for step in steps {
        match step {
            Step::Begin { is_other } => {
                let account = if is_other { &jane } else { &john };
                held.push((is_other, Held::begin(&scene, &faults, account).await));
            }
            Step::End(which) if !held.is_empty() => {
                let (is_other, ends) = held.swap_remove(which % held.len());
                let id = ends.end().await;
                if !is_other {
                    published.push(id);
                }
            }
            Step::GoAway(which) if !held.is_empty() => {
                let (_, goes) = held.swap_remove(which % held.len());
                goes.publishing.abort();
                drop(goes.stall);
                goes.publishing.await.unwrap_err();
            }
            Step::Poll { limit } => drop(follower.poll(&scene, &john, limit).await),
            Step::End(_) | Step::GoAway(_) => {}
        }
    }
    for (is_other, ends) in held {
        let id = ends.end().await;
        if !is_other {
            published.push(id);
        }
    }
    scene.pass(Duration::from_mins(1)).await;
    follower.poll_to_the_end(&scene, &john).await;
    published.sort();
    assert_eq!(follower.seen, published);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_follower_sees_every_event_once_and_in_order_however_slowly_some_become_durable(
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(run(steps));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_shown_only_when_all_before_it_are_durable_or_refused() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let john = scene.account(Contract::Standard, "john").await;
    let mut follower = Follower::new(false);
    let slow = Held::begin(&scene, &faults, &john).await;
    let fast = Held::begin(&scene, &faults, &john).await.end().await;
    assert_eq!(follower.poll(&scene, &john, 10).await, 0);
    let slow = slow.end().await;
    follower.poll_to_the_end(&scene, &john).await;
    assert_eq!(follower.seen, [slow, fast]);
}

#[tokio::test(start_paused = true)]
async fn with_undelivered_only_what_not_every_endpoint_got_is_followed() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(200), Reply::status(500), Reply::status(200)]);
    let mut events = BTreeMap::new();
    for name in ["delivered", "failed", "delivered too"] {
        events.insert(name, scene.publish(&account).await.id);
        scene.pass(Duration::from_millis(10)).await;
    }
    let mut follower = Follower::new(true);
    follower.poll_to_the_end(&scene, &account).await;
    assert_eq!(follower.seen, [events["failed"]]);
    assert_eq!(follower.after, Some(events["delivered too"]), "all were looked at");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_holds_across_a_restart_with_a_clock_that_was_set_back() {
    let store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let account = scene.account(Contract::Standard, "john").await;
    scene.clock.set_forward(Duration::from_hours(5));
    let before = scene.publish(&account).await.id;
    let mut follower = Follower::new(false);
    follower.poll_to_the_end(&scene, &account).await;
    scene.engine.abandon();
    let again = Scene::with(Arc::new(store.reopen()), sender, Settings::default(), 8).await;
    let after = again.publish(&account).await.id;
    follower.poll_to_the_end(&again, &account).await;
    assert_eq!(follower.seen, [before, after]);
}

#[tokio::test(start_paused = true)]
async fn nobody_follows_somebody_else() {
    let scene = Scene::new().await;
    let john = scene.account(Contract::Standard, "john").await;
    let jane = scene.account(Contract::Standard, "jane").await;
    let refused = scene.engine.follow_events(as_account(&jane), john.id, None, false, 10).await;
    assert_eq!(refused.unwrap_err().code(), ErrorCode::NotFound);
}
