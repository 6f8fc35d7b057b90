//! Endpoints.

use std::fmt::Write as _;

use domain::contract::Contract;
use serde_json::{Value, json};

use super::harness::{OPERATOR, Platform, Transcript};

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_created_read_listed_changed_and_deleted() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let mut transcript = Transcript::default();
    let list = format!("/api/v1/accounts/{}/endpoints", owner.id);
    let full = concat!(
        r#"{"url":"https://your-domain.com/a","events":["video.created","video.created"],"#,
        r#""status":"disabled","entity_id":"video_1","description":"first","#,
        r#""headers":{"X-Tenant":"blue","Authorization":"Bearer x"},"#,
        r#""max_in_flight":2,"retry_schedule":[0,60,3600]}"#,
    );
    let created = transcript.say(&platform, &owner.key, &format!("POST {list}"), full).await;
    let path = format!("/api/v1/endpoints/{}", created.text("/id"));
    let least = r#"{"url":"https://your-domain.com/b"}"#;
    transcript.say(&platform, &owner.key, &format!("POST {list}"), least).await;
    transcript.say(&platform, &owner.key, &format!("GET {path}"), "").await;
    transcript.say(&platform, &owner.key, &format!("GET {path}/secret"), "").await;
    transcript.say(&platform, &owner.key, &format!("GET {list}"), "").await;
    let one = r#"{"status":"enabled","url":"https://your-domain.com/c"}"#;
    transcript.say(&platform, &owner.key, &format!("PATCH {path}"), one).await;
    let reset = concat!(
        r#"{"events":null,"entity_id":null,"description":null,"headers":null,"#,
        r#""max_in_flight":null,"retry_schedule":null}"#,
    );
    transcript.say(&platform, &owner.key, &format!("PATCH {path}"), reset).await;
    transcript.say(&platform, &owner.key, &format!("DELETE {path}"), "").await;
    transcript.say(&platform, &owner.key, &format!("GET {path}"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn what_an_endpoint_signs_in_with_is_taken_and_never_shown() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let mut transcript = Transcript::default();
    let list = format!("/api/v1/accounts/{}/endpoints", owner.id);
    let certificate = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let full = json!({
        "url": "https://your-domain.com/a",
        "events": ["video.*", "order.shipped"],
        "filter": "data.duration > 60",
        "ordering": "fifo_by_key",
        "rate_limit": 10,
        "timeout_seconds": 20,
        "metadata": {"team": "blue"},
        "client_certificate": certificate,
        "client_key": "the private key",
        "oauth2": {"token_url": "https://auth.your-domain.com/token", "client_id": "shop",
            "client_secret": "the client secret", "scope": "hooks"},
    });
    let created =
        transcript.say(&platform, &owner.key, &format!("POST {list}"), &full.to_string()).await;
    let path = format!("/api/v1/endpoints/{}", created.text("/id"));
    for shown in [
        platform.get(&owner.key, &path).await,
        platform.get(&owner.key, &list).await,
        platform.get(&owner.key, &format!("{path}/secret")).await,
        platform.get(OPERATOR, "/api/v1/audit").await,
    ] {
        let shown = shown.json().to_string();
        assert!(!shown.contains("the private key"), "{shown}");
        assert!(!shown.contains("the client secret"), "{shown}");
    }
    let half = r#"{"client_certificate":null,"oauth2":{"token_url":"https://auth.your-domain.com/token","client_id":"shop","client_secret":"s","audience":"api"}}"#;
    transcript.say(&platform, &owner.key, &format!("PATCH {path}"), half).await;
    let reset = concat!(
        r#"{"filter":null,"ordering":null,"rate_limit":null,"timeout_seconds":null,"#,
        r#""metadata":null,"client_certificate":null,"client_key":null,"oauth2":null}"#,
    );
    transcript.say(&platform, &owner.key, &format!("PATCH {path}"), reset).await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn every_way_to_say_all_events_means_all_events() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    for events in [json!(["*"]), json!(null)] {
        let body = json!({"url": "https://your-domain.com/a", "events": events});
        let id = platform.endpoint(&owner, &body).await;
        let answer = platform.get(&owner.key, &format!("/api/v1/endpoints/{id}")).await;
        assert_eq!(answer.json()["events"], json!(["*"]));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_of_konpro_v1_has_the_id_of_its_own_documents() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::KonproV1).await;
    let id = platform.endpoint(&owner, &json!({"url": "https://your-domain.com/a"})).await;
    assert!(id.starts_with("webhook_"), "{id}");
    let listed = platform.app.get(&owner.key, "/v1/webhook/endpoint.list").await;
    assert_eq!(listed.text("/data/0/endpoint_id"), id);
}

#[tokio::test(start_paused = true)]
async fn the_twenty_first_endpoint_of_jogg_v2_is_refused() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let body = json!({"url": "https://your-domain.com/a"});
    for _ in 0..20 {
        platform.endpoint(&owner, &body).await;
    }
    let path = format!("/api/v1/accounts/{}/endpoints", owner.id);
    let answer = platform.post(&owner.key, &path, &body).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.text("/type"), "urn:postrider:problem:limit-reached");
}

#[tokio::test(start_paused = true)]
async fn every_wrong_field_of_an_endpoint_is_named() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let path = format!("/api/v1/accounts/{}/endpoints", owner.id);
    let mut table = String::new();
    for body in [
        json!({}),
        json!({"url": 1, "events": "all", "status": "paused", "headers": {"a": 1}}),
        json!({"url": "https://your-domain.com", "entity_id": 1, "description": [],
            "max_in_flight": -1, "retry_schedule": [0, 1.5]}),
        json!({"url": "http://127.0.0.1/", "events": [], "entity_id": "", "max_in_flight": 33,
            "retry_schedule": [], "headers": {"Host": "x"}, "description": "d".repeat(1025)}),
        json!({"url": "https://your-domain.com", "events": ["generated_avatar_vidoe_success"]}),
        json!({"url": "https://your-domain.com", "events": ["*", "generated_video_success"]}),
        json!({"url": "https://your-domain.com", "rate": 1, "filter": {}, "ordering": true,
            "rate_limit": "1", "timeout_seconds": 1.5, "metadata": {"a": 1}, "oauth2": [],
            "client_certificate": 1, "client_key": {}}),
        json!({"url": "https://your-domain.com", "oauth2": {"token_url": 1, "secret": "hush"}}),
        json!({"url": "https://your-domain.com", "ordering": "lifo", "rate_limit": 10_001,
            "timeout_seconds": 0, "metadata": {"": "x"}, "client_key": "hush",
            "oauth2": {"token_url": "http://127.0.0.1/", "client_id": "", "client_secret": "a\nb"}}),
        json!({"url": null, "status": null}),
    ] {
        let answer = platform.post(&owner.key, &path, &body).await;
        assert_eq!(answer.status, 422, "{body} {answer:?}");
        for error in answer.json()["errors"].as_array().unwrap() {
            let text = |name: &str| error[name].as_str().unwrap().to_owned();
            writeln!(table, "{} {}", text("field"), text("reason")).unwrap();
        }
        table.push('\n');
    }
    insta::assert_snapshot!(table);
}

#[tokio::test(start_paused = true)]
async fn a_test_event_goes_to_its_endpoint_only() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let tested = "https://your-domain.com/tested";
    let id = platform
        .endpoint(&owner, &json!({"url": tested, "events": ["generated_image_failed"]}))
        .await;
    platform.endpoint(&owner, &json!({"url": "https://your-domain.com/other"})).await;
    let path = format!("/api/v1/endpoints/{id}/test");

    let answer = platform.call(&owner.key, "POST", &path, "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()["deliveries"], 1);
    let asked = json!({"type": "create_avatar_success"});
    assert_eq!(platform.post(&owner.key, &path, &asked).await.status, 202);

    let sent = platform.app.sender.wait_for(2).await;
    let types: Vec<_> = sent.iter().map(|sent| sent.header("x-webhook-event").unwrap()).collect();
    assert_eq!(types, ["generated_image_failed", "create_avatar_success"]);
    assert!(sent.iter().all(|sent| sent.request.url.as_str() == tested));
    let body: Value = serde_json::from_slice(&sent[0].request.body).unwrap();
    assert_eq!(body["event_id"], answer.text("/id"));

    let unknown = platform.post(&owner.key, &path, &json!({"type": "nonsense"})).await;
    assert_eq!(unknown.status, 422);
    assert_eq!(unknown.text("/errors/0/field"), "type");
}
