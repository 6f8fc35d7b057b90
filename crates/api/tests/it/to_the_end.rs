//! Requests whose caller hangs up, and requests that meet a bug.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::Outcome;
use domain::contract::Contract;
use domain::credentials::ClientIdentity;
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use engine::clock::Clock;
use engine::sender::{Exchange, Request, Sender};
use http::Method;
use testkit::doubles::{ScriptedSender, TestClock};
use testkit::gate::Gate;
use tokio::sync::Notify;

use crate::app::{App, Customer, START, URL, new_account, request, send};

/// Holds back every probe until its gate is open.
struct SlowProbes {
    begun: Arc<Notify>,
    gate: Gate,
}

#[async_trait]
impl Sender for SlowProbes {
    async fn send(&self, _: Request) -> Exchange {
        unreachable!("nothing is published")
    }

    async fn probe(&self, _: &TargetUrl, _: Option<&ClientIdentity>, _: Duration) -> Outcome {
        self.begun.notify_one();
        self.gate.passed().await;
        Outcome::Answered { status: 204, retry_after: None }
    }
}

/// A clock with a bug that can be switched on.
#[derive(Default)]
struct ClockWithBug(AtomicBool);

impl Clock for ClockWithBug {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "the bug");
        START
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_caller_hangs_up_is_carried_to_its_end() {
    let (begun, gate) = (Arc::new(Notify::new()), Gate::new());
    let sender = SlowProbes { begun: Arc::clone(&begun), gate: gate.clone() };
    let clock = Arc::new(TestClock::starting_at(START));
    let (engine, router) = App::start_on(clock, Arc::new(sender)).await;
    let customer = Customer::create(&engine, new_account("user123", Contract::KonproV1)).await;
    let body = format!(r#"{{"url":"{URL}"}}"#);
    let add = request(&customer.key, Method::POST, "/v1/webhook/endpoint.add", &body);
    tokio::select! {
        _ = send(&router, add) => unreachable!("the probe is held back"),
        () = begun.notified() => {}
    }

    // The request is dropped; what it began goes on.
    gate.open();

    let list = || request(&customer.key, Method::GET, "/v1/webhook/endpoint.list", "");
    let mut listed = send(&router, list()).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        listed = send(&router, list()).await;
    }
    assert_eq!(listed.json()["data"].as_array().unwrap().len(), 1, "{}", listed.body);
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_a_handler_is_our_fault_in_the_words_of_the_surface() {
    let clock = Arc::new(ClockWithBug::default());
    let (engine, router) =
        App::start_on(Arc::clone(&clock) as _, Arc::new(ScriptedSender::new())).await;
    let jogg = Customer::create(&engine, new_account("johndoe", Contract::JoggV2)).await;
    let konpro = Customer::create(&engine, new_account("user123", Contract::KonproV1)).await;
    clock.0.store(true, Ordering::SeqCst);

    let answer = send(&router, request(&jogg.key, Method::GET, "/v2/endpoints", "")).await;
    insta::assert_snapshot!(answer.shown(), @r#"
    500
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":50000,"msg":"System error","data":null}
    "#);
    let path = "/v1/webhook/endpoint.list";
    let answer = send(&router, request(&konpro.key, Method::GET, path, "")).await;
    insta::assert_snapshot!(answer.shown(), @r#"
    500
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"PROCESSING_ERROR","message":"the request could not be processed"},"request_id":"req-RID"}
    "#);
    // Publishing has no task of its own, and the same answer.
    for (method, path) in [(Method::GET, "/api/v1/accounts"), (Method::POST, "/api/v1/events")] {
        let mut platform = request("", method, path, "{}");
        let bearer = format!("Bearer {}", jogg.key).parse().unwrap();
        platform.headers_mut().insert("authorization", bearer);
        let answer = send(&router, platform).await;
        assert_eq!(answer.status, 500, "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        assert!(!answer.body.contains("bug"), "{}", answer.body);
    }
}
