//! Replays of many events, and following along.

use std::time::Duration;

use domain::contract::Contract;
use serde_json::json;
use testkit::doubles::Reply;

use super::harness::{OPERATOR, Owner, Platform, Transcript};
use crate::app::URL;

/// An account with an endpoint that has turned down that many events, and works again.
async fn with_exhausted(platform: &Platform, count: usize) -> (Owner, String) {
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let endpoint = json!({"url": URL, "retry_schedule": [0]});
    let endpoint = platform.endpoint(&owner, &endpoint).await;
    platform.app.sender.always(URL, Reply::status(429));
    for _ in 0..count {
        platform.publish(&owner, "video.created").await;
    }
    platform.app.sender.wait_for_replies(count).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    platform.app.sender.always(URL, Reply::status(200));
    (owner, endpoint)
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_tried_begun_read_listed_and_cancelled() {
    let platform = Platform::start().await;
    let (owner, endpoint) = with_exhausted(&platform, 25).await;
    let path = format!("POST /api/v1/endpoints/{endpoint}/replay");
    let since = "2024-01-15T10:00:00Z";
    let mut transcript = Transcript::default();
    let mut say = async |request: &str, body: serde_json::Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        transcript.say(&platform, &owner.key, request, &body).await
    };
    say(&path, json!({"since": since, "dry_run": true})).await;
    let running = say(&path, json!({"since": since})).await;
    say(&path, json!({"since": 1_705_312_800, "state": "all"})).await;
    tokio::time::sleep(Duration::from_millis(950)).await;
    let replay = format!("/api/v1/replays/{}", running.text("/id"));
    assert_eq!(running.header("location"), Some(replay.as_str()));
    say(&format!("GET {replay}"), json!(null)).await;
    say(&format!("GET /api/v1/replays?endpoint={endpoint}"), json!(null)).await;
    say(&format!("DELETE {replay}"), json!(null)).await;
    let rest = json!({
        "since": since, "until": "2024-01-15T11:30:01+01:00", "state": "exhausted",
        "dry_run": false, "per_second": 1_000,
    });
    let rest = say(&path, rest).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    say(&format!("GET /api/v1/replays/{}", rest.text("/id")), json!(null)).await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn what_a_replay_may_not_be_is_refused_by_name() {
    let platform = Platform::start().await;
    let (owner, endpoint) = with_exhausted(&platform, 1).await;
    let path = format!("/api/v1/endpoints/{endpoint}/replay");
    let since = "2024-01-15T10:00:00Z";
    for (body, field) in [
        (json!({}), "since"),
        (json!({"since": null}), "since"),
        (json!({"since": "yesterday"}), "since"),
        (json!({"since": "2034-01-15T10:00:00Z"}), "since"),
        (json!({"since": since, "until": "2024-01-15T10:00:00"}), "until"),
        (json!({"since": since, "until": since}), "since"),
        (json!({"since": since, "state": "delivered"}), "state"),
        (json!({"since": since, "dry_run": "yes"}), "dry_run"),
        (json!({"since": since, "per_second": 0}), "per_second"),
        (json!({"since": since, "per_second": 1_001}), "per_second"),
        (json!({"since": since, "per_second": 1.5}), "per_second"),
        (json!({"since": since, "speed": 1}), "speed"),
    ] {
        let answer = platform.post(&owner.key, &path, &body).await;
        assert_eq!(answer.status, 422, "{body} {answer:?}");
        assert_eq!(answer.text("/errors/0/field"), field, "{body}");
    }
    let disabled = platform
        .call(
            &owner.key,
            "PATCH",
            &format!("/api/v1/endpoints/{endpoint}"),
            r#"{"status":"disabled"}"#,
        )
        .await;
    assert_eq!(disabled.status, 200);
    let answer = platform.post(&owner.key, &path, &json!({"since": since})).await;
    assert_eq!(answer.status, 409, "{answer:?}");
    assert!(answer.text("/detail").contains("enable it first"));
}

#[tokio::test(start_paused = true)]
async fn events_are_followed_from_the_oldest_with_a_cursor_that_is_always_there() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let nobodys = platform.owner("jane", Contract::Standard).await;
    let path = "/api/v1/events/follow";
    let start = platform.get(&owner.key, path).await.json();
    assert_eq!(start["data"], json!([]));
    let mut cursor = start["next_cursor"].as_str().unwrap().to_owned();

    let mut published = Vec::new();
    for _ in 0..5 {
        published.push(platform.publish(&owner, "video.created").await);
        platform.publish(&nobodys, "video.created").await;
    }
    let mut followed = Vec::new();
    for expected in [2, 2, 1, 0] {
        let path = format!("{path}?account={}&limit=2&after={cursor}", owner.id);
        let page = platform.get(OPERATOR, &path).await.json();
        let rows = page["data"].as_array().unwrap();
        assert_eq!(rows.len(), expected);
        followed.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        page["next_cursor"].as_str().unwrap().clone_into(&mut cursor);
    }
    assert_eq!(followed, published);
    let later = platform.publish(&owner, "video.created").await;
    let page = platform.get(&owner.key, &format!("{path}?after={cursor}")).await;
    assert_eq!(page.text("/data/0/id"), later);
    assert_eq!(page.json()["data"].as_array().unwrap().len(), 1);

    let nothing = platform.get(&owner.key, &format!("{path}?undelivered=true")).await.json();
    assert_eq!(nothing["data"], json!([]), "nobody wanted any of them");
    assert_ne!(nothing["next_cursor"], start["next_cursor"], "all were looked at");

    for (key, query, field) in [
        (OPERATOR, "", "account"),
        (&*owner.key, "?after=x", "after"),
        (&owner.key, "?limit=501", "limit"),
        (&owner.key, "?undelivered=perhaps", "undelivered"),
        (&owner.key, "?cursor=x", "cursor"),
    ] {
        let refused = platform.get(key, &format!("{path}{query}")).await;
        assert_eq!(refused.status, 422, "{query}");
        assert_eq!(refused.text("/errors/0/field"), field);
    }
}
