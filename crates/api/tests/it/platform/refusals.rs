//! Every kind of refusal that has to do with HTTP itself.

use axum::body::Body;
use domain::contract::Contract;
use http::Request;
use http::request::Builder;

use super::harness::{OPERATOR, Platform, Transcript};
use crate::app::Answer;

#[tokio::test(start_paused = true)]
async fn every_wrong_request_gets_its_problem() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let mut transcript = Transcript::default();
    let endpoint = "/api/v1/endpoints/wh_0123456789abcdef0123456789abcdee";
    let bodies_of_accounts = [
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        "{}",
        r#"{"username":1,"contract":"jogg_v3","plan":1,"credits":1.5,"api_access":null}"#,
        r#"{"username":" john","contract":"jogg_v2"}"#,
        r#"{"username":"john","contract":"jogg_v2","plan":"gold"}"#,
        r#"{"username":"john","contract":"jogg_v2","id":"acct_1","colour":"red"}"#,
    ];
    for body in bodies_of_accounts {
        transcript.say(&platform, OPERATOR, "POST /api/v1/accounts", body).await;
    }
    for request in [
        "GET /api/v1/accounts?limit=0",
        "GET /api/v1/accounts?limit=501",
        "GET /api/v1/accounts?limit=ten&cursor=AAAA",
        "GET /api/v1/accounts?limit=1&limit=2",
        "GET /api/v1/accounts?colour=red",
        "GET /api/v1/events?account=johndoe&type=a+b&since=yesterday&until=&undelivered=yes",
        "GET /api/v1/deliveries?endpoint=1&event=2&state=lost",
        "GET /api/v1/accounts/johndoe",
        "GET /api/v1/accounts/acct_0123456789abcdef0123456789abcdee",
        "GET /api/v1/nothing",
        "GET /api/v1",
        "GET /nothing",
        "PUT /api/v1/accounts",
        "POST /api/v1/events/evt_1",
        "DELETE /healthz",
    ] {
        transcript.say(&platform, OPERATOR, request, "").await;
    }
    transcript.say(&platform, &owner.key, &format!("GET {endpoint}"), "").await;
    transcript.say(&platform, "pr_ak_wrong", &format!("GET {endpoint}"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

/// A request for an account, complete but for what the test is about.
fn creation() -> Builder {
    Request::post("/api/v1/accounts").header("authorization", format!("Bearer {OPERATOR}"))
}

async fn send(platform: &Platform, request: Builder, body: impl Into<Body>) -> Answer {
    platform.app.send(request.body(body.into()).unwrap()).await
}

#[tokio::test(start_paused = true)]
async fn a_body_must_be_said_to_be_json() {
    let platform = Platform::start().await;
    let body = r#"{"username":"john","contract":"jogg_v2"}"#;
    for wrong in ["application/x-www-form-urlencoded", "text/plain", "", "application/xml"] {
        let answer = send(&platform, creation().header("content-type", wrong), body).await;
        assert_eq!(answer.status, 415, "{wrong}");
        assert_eq!(answer.text("/type"), "urn:postrider:problem:unsupported-media-type");
    }
    let right = creation().header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(send(&platform, right, body).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn a_body_over_its_bound_is_refused() {
    let platform = Platform::start().await;
    let over = send(&platform, creation(), " ".repeat(64 * 1024 + 1)).await;
    assert_eq!(over.status, 413);
    assert_eq!(over.text("/type"), "urn:postrider:problem:too-large");
    let at_bound = send(&platform, creation(), " ".repeat(64 * 1024)).await;
    assert_eq!(at_bound.status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_deep_body_is_refused_by_name_and_harms_nobody() {
    let platform = Platform::start().await;
    let deep = format!(r#"{{"username":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
    let answer = send(&platform, creation(), deep).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.text("/errors/0/field"), "username");
}

#[tokio::test(start_paused = true)]
async fn only_a_good_bearer_key_opens_the_api() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let path = format!("/api/v1/accounts/{}", owner.id);
    let bearer = format!("Bearer {}", owner.key);
    let mut broken = bearer.clone();
    broken.push('x');
    for (name, value) in [
        ("accept", "*/*"),
        ("authorization", ""),
        ("authorization", "Bearer"),
        ("authorization", "Basic am9obg=="),
        ("authorization", owner.key.as_str()),
        ("authorization", broken.as_str()),
        ("x-api-key", owner.key.as_str()),
    ] {
        let request = Request::get(&path).header(name, value);
        let answer = send(&platform, request, Body::empty()).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(answer.text("/type"), "urn:postrider:problem:unauthorized");
        assert!(!answer.body.contains(&owner.key));
    }
    let request = Request::get(&path).header("authorization", bearer);
    assert_eq!(send(&platform, request, Body::empty()).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_probes_say_whether_we_live_and_whether_we_can_work() {
    let platform = Platform::start().await;
    let mut transcript = Transcript::default();
    transcript.say(&platform, "", "GET /healthz", "").await;
    transcript.say(&platform, "", "GET /readyz", "").await;
    platform.app.engine.stop(std::time::Duration::ZERO).await.unwrap();
    transcript.say(&platform, "", "GET /healthz", "").await;
    transcript.say(&platform, "", "GET /readyz", "").await;
    insta::assert_snapshot!(transcript.into_text());
}
