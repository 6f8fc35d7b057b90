//! Lanes at work: limits, neighbours, changes of endpoints while deliveries are on their way.

use std::sync::Arc;
use std::time::Duration;

use domain::contract::Contract;
use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::endpoint::{DisabledReason, EndpointStatus};
use engine::ErrorCode;
use engine::administer::EndpointEdit;
use engine::scope::Scope;
use store::fault::{FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender};
use testkit::gate::Gate;

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";
const OTHER: &str = "https://hooks.customer.com/b";

fn set_disabled(is_disabled: bool) -> EndpointEdit {
    EndpointEdit { is_disabled: Some(is_disabled), ..EndpointEdit::default() }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_delivered_once_to_each_endpoint_that_wants_it() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.endpoint(&account, OTHER).await;
    let published = scene.publish(&account).await;
    assert_eq!(published.deliveries, 2);
    scene.drain().await;
    assert_eq!(scene.sender.requests_to(URL).len(), 1);
    assert_eq!(scene.sender.requests_to(OTHER).len(), 1);
    assert_eq!(scene.count_in(StateName::Delivered).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_is_made_at_once() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let before = tokio::time::Instant::now();
    scene.publish(&account).await;
    let sent = scene.sender.wait_for(1).await;
    assert_eq!(sent[0].at - before, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_endpoint_delays_no_neighbour_and_never_passes_its_limit() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::silence());
    for _ in 0..2_000 {
        scene.publish(&account).await;
    }
    scene.endpoint(&account, OTHER).await;
    let (neighbour, _) = scene.subscriber("jane", "https://hooks.customer.com/c").await;
    let before = tokio::time::Instant::now();
    scene.publish(&neighbour).await;
    scene.publish(&account).await;
    let others = |requests: &[testkit::doubles::SentRequest]| {
        requests.iter().filter(|sent| sent.request.url.as_str() != URL).count()
    };
    let requests =
        scene.sender.wait_until("both healthy deliveries", |requests| others(requests) == 2).await;
    for sent in requests.iter().filter(|sent| sent.request.url.as_str() != URL) {
        assert!(sent.at - before < Duration::from_millis(10));
    }
    assert_eq!(scene.sender.in_flight_peak_to(URL), 32);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_one_account_does_not_delay_another() {
    let scene = Scene::new().await;
    let (busy, _) = scene.subscriber("busy", URL).await;
    for number in 0..31 {
        scene.endpoint(&busy, &format!("https://hooks.customer.com/busy/{number}")).await;
    }
    let (quiet, _) = scene.subscriber("quiet", OTHER).await;
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(100)));
    for _ in 0..1_000 {
        scene.publish(&busy).await;
    }
    let before = tokio::time::Instant::now();
    scene.publish(&quiet).await;
    let requests = scene
        .sender
        .wait_until("the quiet account's delivery", |requests| {
            requests.iter().any(|sent| sent.request.url.as_str() == OTHER)
        })
        .await;
    let quiet_at = requests.iter().find(|sent| sent.request.url.as_str() == OTHER).unwrap().at;
    assert!(quiet_at - before <= Duration::from_millis(101), "{:?}", quiet_at - before);
    assert!(scene.sender.in_flight_peak() <= 512);
    scene.drain().await;
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_does_not_fit_is_delivered_later() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let gate = Gate::new();
    scene.sender.always(URL, Reply::status(200).held_by(&gate));
    let events = 5_000;
    for _ in 0..events {
        scene.publish(&account).await;
        assert!(scene.engine.load().in_memory <= 1_024 + 32);
    }
    gate.open();
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), events);
    assert_eq!(scene.count_in(StateName::Delivered).await, events);
    assert_eq!(scene.engine.load().in_memory, 0);
    assert_eq!(scene.engine.load().lanes, 0);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_asks_for_fewer_attempts_at_once_gets_fewer() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit { max_in_flight: Some(Some(2)), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(10)));
    for _ in 0..50 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    assert_eq!(scene.sender.in_flight_peak_to(URL), 2);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_holds_its_pending_deliveries_until_it_is_enabled() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(500)]);
    scene.publish(&account).await;
    scene.sender.wait_for_replies(1).await;
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, set_disabled(true)).await.unwrap();
    scene.pass(Duration::from_hours(10)).await;
    assert_eq!(scene.sender.requests().len(), 1);
    assert_eq!(scene.delivery().await.state, DeliveryState::Pending);
    assert_eq!(scene.publish(&account).await.deliveries, 0);
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, set_disabled(false)).await.unwrap();
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 2);
    assert_eq!(scene.delivery().await.state, DeliveryState::Delivered);
}

#[tokio::test(start_paused = true)]
async fn deliveries_waiting_in_memory_are_held_too_when_their_endpoint_is_disabled() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let gate = Gate::new();
    scene.sender.always(URL, Reply::status(200).held_by(&gate));
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.sender.wait_for(32).await;
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, set_disabled(true)).await.unwrap();
    gate.open();
    scene.pass(Duration::from_hours(1)).await;
    assert_eq!(scene.sender.requests().len(), 32);
    assert_eq!(scene.count_in(StateName::Pending).await, 68);
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, set_disabled(false)).await.unwrap();
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_answers_410_is_disabled() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(410)]);
    scene.publish(&account).await;
    scene.pass(Duration::from_hours(1)).await;
    let endpoint = scene.engine.endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
    assert_eq!(endpoint.status, EndpointStatus::Disabled(DisabledReason::Gone));
    assert_eq!(scene.sender.requests().len(), 1);
    assert_eq!(scene.delivery().await.state, DeliveryState::Pending);
}

#[tokio::test(start_paused = true)]
async fn the_next_attempt_uses_the_url_and_events_of_the_last_update() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(500)]);
    scene.publish(&account).await;
    scene.sender.wait_for_replies(1).await;
    let edit = EndpointEdit { url: Some(OTHER.to_owned()), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.drain().await;
    assert_eq!(scene.sender.requests_to(URL).len(), 1);
    assert_eq!(scene.sender.requests_to(OTHER).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_endpoint_gets_nothing_more_and_its_deliveries_are_cancelled() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let gate = Gate::new();
    scene.sender.always(URL, Reply::status(200).held_by(&gate));
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.sender.wait_for(32).await;
    scene.engine.delete_endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
    gate.open();
    scene.drain().await;
    scene.pass(Duration::from_hours(1)).await;
    assert_eq!(scene.sender.requests().len(), 32);
    let cancelled = DeliveryState::Cancelled(EndReason::EndpointDeleted);
    assert!(scene.deliveries().await.iter().all(|one| one.state == cancelled));
    assert_eq!(scene.engine.load().in_memory, 0);
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_a_new_delivery_of_the_same_event_and_history_stays() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.publish(&account).await;
    scene.drain().await;
    let old = scene.delivery().await;
    let new = scene.engine.replay_delivery(Scope::OPERATOR, old.id).await.unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!(new.event, old.event);
    scene.drain().await;
    let requests = scene.sender.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].request.body, requests[1].request.body);
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(scene.engine.delivery(Scope::OPERATOR, old.id).await.unwrap(), old);
    assert_eq!(scene.count_in(StateName::Delivered).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_test_event_goes_to_its_endpoint_only_whatever_it_subscribed_to() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::JoggV2, "john").await;
    let endpoint = scene.endpoint(&account, URL).await;
    scene.endpoint(&account, OTHER).await;
    let published = scene.engine.publish_test(Scope::OPERATOR, endpoint.id, None).await.unwrap();
    assert_eq!(published.deliveries, 1);
    scene.drain().await;
    assert_eq!(scene.sender.requests_to(URL).len(), 1);
    assert!(scene.sender.requests_to(OTHER).is_empty());
    let sent = &scene.sender.requests()[0];
    assert_eq!(sent.header("x-webhook-event"), Some("generated_video_success"));
}

#[tokio::test(start_paused = true)]
async fn a_test_event_whose_endpoint_is_disabled_or_deleted_meanwhile_is_refused() {
    for (is_deleted, expected) in [(false, ErrorCode::Conflict), (true, ErrorCode::NotFound)] {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
        let (_, endpoint) = scene.subscriber("john", URL).await;
        let mut stall = faults.stall(Method::Accept);
        let changing = async {
            stall.reached_by(1).await;
            if is_deleted {
                scene.engine.delete_endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
            } else {
                let edit = set_disabled(true);
                scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
            }
            stall.release();
        };
        let testing = scene.engine.publish_test(Scope::OPERATOR, endpoint.id, None);
        let (tested, ()) = tokio::join!(testing, changing);
        assert_eq!(tested.unwrap_err().code(), expected);
        assert!(scene.deliveries().await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_410_does_not_disable_an_endpoint_that_was_changed_since() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let gate = Gate::new();
    scene.sender.script(URL, [Reply::status(410).held_by(&gate)]);
    scene.publish(&account).await;
    scene.sender.wait_for(1).await;
    scene.pass(Duration::from_millis(5)).await;
    let edit = EndpointEdit { url: Some(OTHER.to_owned()), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    gate.open();
    scene.drain().await;
    assert_eq!(scene.sender.requests_to(OTHER).len(), 1);
    let endpoint = scene.engine.endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
    assert_eq!(endpoint.status, EndpointStatus::Enabled);
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_or_disabled_is_neither_replayed_nor_tested() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.otherwise(Reply::status(500));
    scene.publish(&account).await;
    let pending = scene.delivery().await;
    let error = scene.engine.replay_delivery(Scope::OPERATOR, pending.id).await.unwrap_err();
    assert_eq!(error.code(), engine::ErrorCode::Conflict);
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, set_disabled(true)).await.unwrap();
    let error = scene.engine.publish_test(Scope::OPERATOR, endpoint.id, None).await.unwrap_err();
    assert_eq!(error.code(), engine::ErrorCode::Conflict);
}
