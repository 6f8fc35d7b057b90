//! The operations account, and what an endpoint shows of how it is.

use std::time::Duration;

use domain::attempt::ReceiverControl;
use domain::contract::Contract;
use serde_json::{Value, json};
use testkit::doubles::Reply;
use testkit::verify::verify_standard;

use super::harness::{OPERATOR, Platform, Transcript};
use crate::app::URL;

const PATH: &str = "/api/v1/operations-account";
const OPERATIONS_URL: &str = "https://operations.platform.com/hooks";

#[tokio::test(start_paused = true)]
async fn an_operations_account_is_made_once_and_is_an_account_like_any_other() {
    let platform = Platform::start().await;
    let john = platform.owner("johndoe", Contract::Standard).await;
    let mut transcript = Transcript::default();
    for (key, request, body) in [
        (OPERATOR, "GET", ""),
        (&john.key, "PUT", ""),
        (&john.key, "GET", ""),
        (OPERATOR, "PUT", r#"{"contract":"jogg_v2"}"#),
        (OPERATOR, "PUT", ""),
        (OPERATOR, "PUT", "{}"),
        (OPERATOR, "GET", ""),
    ] {
        transcript.say(&platform, key, &format!("{request} {PATH}"), body).await;
    }
    let account = platform.get(OPERATOR, PATH).await.text("/id");
    let of_account = |what: &str| format!("POST /api/v1/accounts/{account}/{what}");
    let key = transcript.say(&platform, OPERATOR, &of_account("keys"), "").await.text("/api_key");
    let body = json!({"url": OPERATIONS_URL, "events": ["endpoint.disabled"]}).to_string();
    transcript.say(&platform, &key, &of_account("endpoints"), &body).await;
    let by_hand = json!({"account": account, "type": "deploy.done", "data": {}}).to_string();
    transcript.say(&platform, OPERATOR, "POST /api/v1/events", &by_hand).await;
    transcript.say(&platform, OPERATOR, &format!("DELETE /api/v1/accounts/{account}"), "").await;
    transcript.say(&platform, OPERATOR, &format!("GET {PATH}"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn an_operations_account_needs_its_username() {
    let platform = Platform::start().await;
    platform.owner("postrider.operations", Contract::JoggV2).await;
    let answer = platform.call(OPERATOR, "PUT", PATH, "").await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.text("/detail").contains("`postrider.operations`"));
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_is_told_to_the_platform_and_seen_by_its_account() {
    let platform = Platform::start().await;
    let account = platform.call(OPERATOR, "PUT", PATH, "").await.text("/id");
    let path = format!("/api/v1/accounts/{account}/endpoints");
    let operations = platform.post(OPERATOR, &path, &json!({"url": OPERATIONS_URL})).await;
    let john = platform.owner("johndoe", Contract::JoggV2).await;
    let endpoint = platform.endpoint(&john, &json!({"url": URL})).await;
    let sender = &platform.app.sender;
    sender.script(URL, [Reply::status(500).with_control(ReceiverControl::Disable)]);
    platform.publish(&john, "generated_video_success").await;
    let told = sender
        .wait_until("a notice", |all| {
            all.iter().any(|sent| sent.request.url.as_str() == OPERATIONS_URL)
        })
        .await
        .pop()
        .unwrap();
    let header = |name: &str| told.header(name).unwrap();
    verify_standard(
        header("webhook-id"),
        header("webhook-timestamp"),
        header("webhook-signature"),
        &operations.text("/secret"),
        &told.request.body,
    )
    .unwrap();
    let body: Value = serde_json::from_slice(&told.request.body).unwrap();
    assert_eq!(body["type"], "endpoint.disabled");
    let data = &body["data"];
    assert_eq!(data["account"], john.id);
    assert_eq!(data["username"], "johndoe");
    assert_eq!(data["endpoint"], endpoint);
    assert_eq!(data["url"], URL);
    assert_eq!(data["reason"], "receiver_asked");
    assert_eq!(data["failures"], 1);

    let path = "/api/v1/audit?action=endpoint.disabled";
    let own = platform.get(&john.key, path).await.json();
    assert_eq!(own["data"][0]["number"], data["audit_entry"], "{own}");
    let shown = platform.get(&john.key, &format!("/api/v1/endpoints/{endpoint}")).await.json();
    assert_eq!(shown["status"], "disabled");
    assert_eq!(shown["disabled_reason"], "receiver_asked");
    assert_eq!(shown["health"]["failing_since"], data["since"]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_shows_since_when_it_fails_and_when_it_may_be_disabled() {
    let platform = Platform::start().await;
    let john = platform.owner("johndoe", Contract::Standard).await;
    let endpoint = platform.endpoint(&john, &json!({"url": URL})).await;
    let path = format!("/api/v1/endpoints/{endpoint}");
    let list = format!("/api/v1/accounts/{}/endpoints", john.id);
    let well = json!({
        "breaker": "closed",
        "retry_at": null,
        "paused_until": null,
        "failing_since": null,
        "failures": 0,
        "last_failure_at": null,
        "warnings": 0,
        "disabled_at_earliest": null,
        "in_flight": 0,
        "waiting_in_memory": 0,
    });
    let health = async || platform.get(&john.key, &path).await.json()["health"].clone();
    assert_eq!(health().await, well);
    assert_eq!(platform.get(&john.key, &list).await.json()["data"][0]["health"], well);

    platform.app.sender.script(URL, vec![Reply::status(500); 3]);
    platform.publish(&john, "video.created").await;
    platform.app.sender.wait_for_replies(3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let failing = health().await;
    assert_eq!(failing["failures"], 3, "{failing}");
    let at = |member: &str| {
        let text = failing[member].as_str().unwrap_or_else(|| panic!("{member}: {failing}"));
        domain::time::Timestamp::parse_rfc3339(text).unwrap()
    };
    assert!(at("last_failure_at") > at("failing_since"));
    let earliest = at("failing_since").plus(Duration::from_hours(120));
    assert_eq!(at("disabled_at_earliest"), earliest);

    platform.app.sender.wait_for_replies(4).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(health().await, well);
}
