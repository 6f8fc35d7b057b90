//! Cancelling what is pending.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::audit::AuditAction;
use domain::contract::Contract;
use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::id::{DeliveryId, EventId};
use domain::testing::TEST_START;
use engine::ErrorCode;
use engine::administer::NewEndpoint;
use engine::clock::Clock as _;
use engine::publish::Publish;
use engine::scope::Scope;
use store::fault::{FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender};
use testkit::gate::Gate;

use crate::harness::{Scene, an_event, as_account};
use crate::health::{notes, one_try};

const URL: &str = "https://hooks.customer.com/a";

const REQUESTED: DeliveryState = DeliveryState::Cancelled(EndReason::Requested);

/// Publishes an event that is due in an hour.
async fn schedule(scene: &Scene, account: &Account) -> EventId {
    let deliver_at = Some(TEST_START.plus(Duration::from_hours(1)));
    let event = Publish { deliver_at, ..an_event(account) };
    scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap().id
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_event_that_is_cancelled_before_it_is_due_is_never_sent() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.endpoint(&account, "https://hooks.customer.com/b").await;
    let event = schedule(&scene, &account).await;
    assert_eq!(scene.engine.cancel_event(as_account(&account), event).await.unwrap(), 2);
    for delivery in scene.deliveries().await {
        assert_eq!(delivery.state, REQUESTED);
        assert_eq!((delivery.attempts, delivery.due_at), (0, None));
    }
    let again = scene.engine.cancel_event(Scope::OPERATOR, event).await.unwrap_err();
    assert_eq!(again.code(), ErrorCode::Conflict);
    assert!(again.message().starts_with("nothing is pending"), "{again}");
    scene.pass(Duration::from_hours(2)).await;
    assert!(scene.sender.requests().is_empty());
    scene.check_balance().await;
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_waits_for_its_next_attempt_is_cancelled_and_its_neighbour_is_not() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let other = "https://hooks.customer.com/b";
    let neighbour = scene.endpoint(&account, other).await;
    scene.sender.script(URL, [Reply::status(503)]);
    scene.sender.script(other, [Reply::status(503)]);
    scene.publish(&account).await;
    scene.sender.wait_for_replies(2).await;
    scene.pass(Duration::from_millis(1)).await;
    let deliveries = scene.deliveries().await;
    let mine = deliveries.iter().find(|delivery| delivery.endpoint != neighbour.id).unwrap();
    let cancelled = scene.engine.cancel_delivery(as_account(&account), mine.id).await.unwrap();
    assert_eq!((cancelled.id, cancelled.state, cancelled.attempts), (mine.id, REQUESTED, 1));
    scene.drain().await;
    assert_eq!(scene.sender.requests_to(URL).len(), 1);
    assert_eq!(scene.sender.requests_to(other).len(), 2);
    for ended in scene.deliveries().await {
        let refused = scene.engine.cancel_delivery(Scope::OPERATOR, ended.id).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Conflict);
    }
    assert_eq!(scene.count_in(StateName::Delivered).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_memory_is_not_sent_once_it_is_cancelled_and_what_is_on_its_way_ends() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let new = NewEndpoint { url: URL.to_owned(), max_in_flight: Some(1), ..NewEndpoint::default() };
    scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    let gate = Gate::new();
    scene.sender.always(URL, Reply::status(200).held_by(&gate));
    let mut events = Vec::new();
    for _ in 0..10 {
        events.push(scene.publish(&account).await.id);
    }
    scene.sender.wait_for(1).await;
    for event in &events[..5] {
        assert_eq!(scene.engine.cancel_event(Scope::OPERATOR, *event).await.unwrap(), 1);
    }
    gate.open();
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 6, "the first was on its way");
    assert_eq!(scene.count_in(StateName::Cancelled).await, 5);
    assert_eq!(scene.count_in(StateName::Delivered).await, 5);
    assert_eq!(scene.engine.load().in_memory, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_during_its_last_attempt_is_not_noted_as_given_up() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    one_try(&scene, &account, URL).await;
    let gate = Gate::new();
    scene.sender.script(URL, [Reply::status(500).held_by(&gate), Reply::status(500)]);
    let event = scene.publish(&account).await.id;
    scene.sender.wait_for(1).await;
    assert_eq!(scene.engine.cancel_event(Scope::OPERATOR, event).await.unwrap(), 1);
    gate.open();
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Cancelled).await, 1);
    assert!(notes(&scene, AuditAction::EndpointExhausting).await.is_empty());
    // The hour in which it is noted once has not begun either.
    scene.publish(&account).await;
    scene.drain().await;
    assert_eq!(notes(&scene, AuditAction::EndpointExhausting).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_cancelled_delivery_goes_next_at_once() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let new = NewEndpoint {
        url: URL.to_owned(),
        ordering: Some("fifo".to_owned()),
        ..NewEndpoint::default()
    };
    scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    let first = schedule(&scene, &account).await;
    let second = scene.publish(&account).await.id;
    scene.pass(Duration::from_mins(5)).await;
    assert!(scene.sender.requests().is_empty(), "the second waits for the first");
    let asked_at = scene.clock.now();
    scene.engine.cancel_event(Scope::OPERATOR, first).await.unwrap();
    let sent = scene.sender.wait_for(1).await;
    assert_eq!(sent[0].header("webhook-id"), Some(second.to_string().as_str()));
    assert!(scene.clock.now().since(asked_at) < Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn what_is_somebody_elses_or_nobodys_is_not_found() {
    let scene = Scene::new().await;
    let (john, _) = scene.subscriber("john", URL).await;
    let jane = scene.account(Contract::Standard, "jane").await;
    let event = schedule(&scene, &john).await;
    let delivery = scene.delivery().await.id;
    for (scope, event, delivery) in [
        (as_account(&jane), event, delivery),
        (Scope::OPERATOR, EventId::from_u128(1), DeliveryId::from_u128(1)),
    ] {
        let refused = scene.engine.cancel_event(scope, event).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
        let refused = scene.engine.erase_event(scope, event).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
        let refused = scene.engine.cancel_delivery(scope, delivery).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::NotFound);
    }
    assert_eq!(scene.delivery().await.state, DeliveryState::Pending);
}

#[tokio::test(start_paused = true)]
async fn what_was_replayed_while_its_event_was_being_cancelled_is_not_sent_either() {
    for method in [Method::CancelEvent, Method::EraseEvent] {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
        let account = scene.account(Contract::Standard, "john").await;
        let max_in_flight = Some(1);
        let new = NewEndpoint { url: URL.to_owned(), max_in_flight, ..NewEndpoint::default() };
        scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
        let event = scene.publish(&account).await.id;
        scene.drain().await;
        let delivered = scene.delivery().await.id;
        let gate = Gate::new();
        scene.sender.always(URL, Reply::status(200).held_by(&gate));
        scene.publish(&account).await;
        scene.sender.wait_for(2).await;

        let mut stall = faults.stall(method);
        let cancelling = async {
            match method {
                Method::CancelEvent => scene.engine.cancel_event(Scope::OPERATOR, event).await,
                _ => scene.engine.erase_event(Scope::OPERATOR, event).await,
            }
        };
        let replaying = async {
            stall.reached_by(1).await;
            scene.engine.replay_delivery(Scope::OPERATOR, delivered).await.unwrap();
            stall.release();
        };
        let (cancelled, ()) = tokio::join!(cancelling, replaying);
        assert_eq!(cancelled.unwrap(), 1, "{method:?}");
        gate.open();
        scene.drain().await;
        assert_eq!(scene.sender.requests().len(), 2, "{method:?}");
        assert_eq!(scene.count_in(StateName::Cancelled).await, 1, "{method:?}");
        assert_eq!(scene.engine.load().in_memory, 0);
    }
}
