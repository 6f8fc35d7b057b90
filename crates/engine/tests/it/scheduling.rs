//! Events that are delivered later, and what else a publisher may say of them.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::contract::Contract;
use domain::delivery::{DeliveryState, StateName};
use domain::event::IdempotencyKey;
use domain::limits::DELIVER_AT_AHEAD_MAX;
use domain::testing::TEST_START;
use domain::time::Timestamp;
use domain::trace::TraceContext;
use engine::administer::EndpointEdit;
use engine::clock::Clock as _;
use engine::publish::Publish;
use engine::scope::Scope;
use engine::settings::Settings;
use engine::{EngineError, ErrorCode, EventWithData};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender};

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";
const OTHER: &str = "https://hooks.customer.com/b";

fn in_hours(hours: u64) -> Timestamp {
    TEST_START.plus(Duration::from_hours(hours))
}

fn at(account: &Account, deliver_at: Timestamp) -> Publish {
    Publish { deliver_at: Some(deliver_at), ..an_event(account) }
}

/// Publishes the event and answers how it is shown.
async fn publish(scene: &Scene, event: Publish) -> Result<EventWithData, EngineError> {
    let published = scene.engine.publish(Scope::OPERATOR, event, None).await?;
    Ok(scene.engine.event(Scope::OPERATOR, published.id).await.unwrap().event)
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_event_is_delivered_when_it_is_due_and_not_before() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let shown = publish(&scene, at(&account, in_hours(3))).await.unwrap();
    assert_eq!(shown.event.deliver_at, Some(in_hours(3)));
    assert_eq!(scene.delivery().await.due_at, Some(in_hours(3)));
    scene.pass(Duration::from_hours(3) - Duration::from_millis(1)).await;
    assert!(scene.sender.requests().is_empty());
    scene.pass(Duration::from_millis(20)).await;
    assert_eq!(scene.sender.requests().len(), 1);
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Delivered).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_scheduled_for_the_past_or_the_present_is_delivered_at_once() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    for (sent, deliver_at) in [Timestamp::from_seconds(0), TEST_START].into_iter().enumerate() {
        let shown = publish(&scene, at(&account, deliver_at)).await.unwrap();
        assert_eq!(shown.event.deliver_at, None);
        scene.sender.wait_for(sent + 1).await;
    }
    assert!(scene.clock.now() < TEST_START.plus(Duration::from_millis(5)));
}

#[tokio::test(start_paused = true)]
async fn an_event_is_scheduled_fourteen_days_ahead_and_no_further() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let furthest = TEST_START.plus(DELIVER_AT_AHEAD_MAX);
    publish(&scene, at(&account, furthest)).await.unwrap();
    let beyond = furthest.plus(Duration::from_millis(1));
    let refused = publish(&scene, at(&account, beyond)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Invalid);
    assert_eq!(refused.violations()[0].field, "deliver_at");
    assert_eq!(refused.violations()[0].reason, "must be at most 14 days ahead");
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_event_is_owed_to_who_wanted_it_when_it_came_and_sent_where_they_are_when_due()
{
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    publish(&scene, at(&account, in_hours(1))).await.unwrap();
    scene.endpoint(&account, "https://hooks.customer.com/later").await;
    let edit = EndpointEdit { url: Some(OTHER.to_owned()), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.pass(Duration::from_hours(2)).await;
    let sent = scene.sender.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].request.url.as_str(), OTHER);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_scheduled_delivery_counts_from_when_it_is_due() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.otherwise(Reply::status(503));
    publish(&scene, at(&account, in_hours(5 * 24))).await.unwrap();
    scene.pass(Duration::from_hours(5 * 24 + 1)).await;
    let delivery = scene.delivery().await;
    assert_eq!(delivery.state, DeliveryState::Pending, "it is not too old an hour later");
    assert!(delivery.attempts > 1);
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_event_waits_across_a_restart() {
    let store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    publish(&scene, at(&account, in_hours(3))).await.unwrap();
    scene.engine.abandon();
    let again = Scene::with(Arc::new(store.reopen()), sender.clone(), Settings::default(), 8).await;
    again.pass(Duration::from_hours(3) - Duration::from_millis(1)).await;
    assert!(sender.requests().is_empty());
    again.pass(Duration::from_millis(20)).await;
    assert_eq!(sender.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_publishes_a_scheduled_event_once() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let key = IdempotencyKey::parse("order-1").unwrap();
    for _ in 0..2 {
        let keyed = Some((key.clone(), [1; 32]));
        let event = at(&account, in_hours(1));
        scene.engine.publish(Scope::OPERATOR, event, keyed).await.unwrap();
    }
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_ordering_key_and_a_trace_stay_with_the_event_and_a_wrong_key_is_named() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let trace = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
    let event =
        Publish { ordering_key: Some("project 42".to_owned()), trace, ..an_event(&account) };
    let shown = publish(&scene, event).await.unwrap().event;
    assert_eq!(shown.ordering_key.unwrap().as_str(), "project 42");
    assert_eq!(shown.trace, trace);
    for wrong in ["", "a\u{7}", &"k".repeat(256)] {
        let event = Publish { ordering_key: Some(wrong.to_owned()), ..an_event(&account) };
        let refused = publish(&scene, event).await.unwrap_err();
        assert_eq!(refused.violations()[0].field, "ordering_key", "{wrong}");
    }
}
