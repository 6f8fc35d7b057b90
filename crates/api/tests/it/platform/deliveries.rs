//! Deliveries, attempts, replay.

use std::time::Duration;

use domain::contract::Contract;
use serde_json::json;
use testkit::doubles::Reply;

use super::harness::{Owner, Platform, Transcript};
use crate::app::URL;

/// The ids of the event's deliveries, oldest first.
async fn deliveries_of(platform: &Platform, owner: &Owner, event: &str) -> Vec<String> {
    let path = format!("/api/v1/deliveries?event={event}&");
    let mut ids = platform.pages(&owner.key, &path, 500).await.concat();
    ids.reverse();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_delivery_and_its_attempts_are_read_while_pending_and_when_delivered() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    platform.endpoint(&owner, &json!({"url": URL, "headers": {"X-Tenant": "blue"}})).await;
    let replies = [
        Reply::status(503).with_excerpt("try later \u{e9}".as_bytes().to_vec()),
        Reply::status(200).with_excerpt(b"fine \xff".to_vec()),
    ];
    platform.app.sender.script(URL, replies);
    let event = platform.publish(&owner, "generated_video_success").await;
    let id = deliveries_of(&platform, &owner, &event).await.remove(0);
    let mut transcript = Transcript::default();
    let path = format!("GET /api/v1/deliveries/{id}");
    platform.delivery_when(&owner.key, &id, |delivery| delivery["attempts"] == 1).await;
    transcript.say(&platform, &owner.key, &path, "").await;
    platform.app.sender.wait_for_replies(2).await;
    platform.delivery_in_state(&owner.key, &id, "delivered").await;
    transcript.say(&platform, &owner.key, &path, "").await;
    transcript.say(&platform, &owner.key, "GET /api/v1/deliveries", "").await;
    transcript.say(&platform, &owner.key, &format!("{path}/attempts"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn attempts_are_paged_upwards() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let schedule = json!({"url": URL, "retry_schedule": [0, 1, 1, 1]});
    platform.endpoint(&owner, &schedule).await;
    platform.app.sender.always(URL, Reply::status(500));
    let event = platform.publish(&owner, "video.created").await;
    let id = deliveries_of(&platform, &owner, &event).await.remove(0);
    platform.app.sender.wait_for_replies(4).await;
    let delivery = platform.delivery_in_state(&owner.key, &id, "exhausted").await;
    assert_eq!(delivery["reason"], "attempts_used_up");

    let mut numbers = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let path = format!("/api/v1/deliveries/{id}/attempts{query}");
        let page = platform.get(&owner.key, &path).await.json();
        let rows = page["data"].as_array().unwrap();
        numbers.push(rows.iter().map(|row| row["number"].as_u64().unwrap()).collect::<Vec<_>>());
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(numbers, [vec![1, 2, 3], vec![4]]);
}

#[tokio::test(start_paused = true)]
async fn deliveries_are_filtered_by_endpoint_event_state_and_time() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let failing = "https://your-domain.com/failing";
    platform.app.sender.always(failing, Reply::status(500));
    let bad = platform.endpoint(&owner, &json!({"url": failing})).await;
    let good = platform.endpoint(&owner, &json!({"url": "https://your-domain.com/ok"})).await;
    let first = platform.publish(&owner, "video.created").await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let second = platform.publish(&owner, "video.created").await;
    let of_first = deliveries_of(&platform, &owner, &first).await;
    let of_second = deliveries_of(&platform, &owner, &second).await;
    for id in of_first.iter().chain(&of_second) {
        let path = format!("/api/v1/deliveries/{id}");
        let endpoint = platform.get(&owner.key, &path).await.text("/endpoint");
        let state = if endpoint == good { "delivered" } else { "pending" };
        platform.delivery_in_state(&owner.key, id, state).await;
    }
    let count = async |query: &str| {
        let path = format!("/api/v1/deliveries?{query}&");
        platform.pages(&owner.key, &path, 1).await.concat().len()
    };
    assert_eq!(count("state=delivered").await, 2);
    assert_eq!(count("state=pending").await, 2);
    assert_eq!(count("state=cancelled").await, 0);
    assert_eq!(count(&format!("endpoint={bad}")).await, 2);
    assert_eq!(count(&format!("endpoint={bad}&event={first}")).await, 1);
    assert_eq!(count("since=1705314601").await, 2);
    assert_eq!(count("until=2024-01-15T10:30:01Z").await, 2);
    assert_eq!(count("until=2024-01-15T11:30:01%2B01:00").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_replay_is_a_new_delivery_of_the_same_event() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let endpoint = platform.endpoint(&owner, &json!({"url": URL})).await;
    let event = platform.publish(&owner, "video.created").await;
    let old = deliveries_of(&platform, &owner, &event).await.remove(0);
    platform.delivery_in_state(&owner.key, &old, "delivered").await;

    let path = format!("/api/v1/deliveries/{old}/replay");
    let answer = platform.call(&owner.key, "POST", &path, "").await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let new = answer.text("/id");
    assert_ne!(new, old);
    assert_eq!(answer.text("/event"), event);
    assert_eq!(answer.text("/endpoint"), endpoint);
    platform.delivery_in_state(&owner.key, &new, "delivered").await;
    let sent = platform.app.sender.requests();
    assert_eq!(sent[0].request.body, sent[1].request.body);
    assert_eq!(sent[0].header("webhook-id"), sent[1].header("webhook-id"));
    assert_eq!(deliveries_of(&platform, &owner, &event).await, [old.clone(), new]);
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
    assert_eq!(story["deliveries"].as_array().unwrap().len(), 2);

    let endpoint_path = format!("/api/v1/endpoints/{endpoint}");
    assert_eq!(platform.call(&owner.key, "DELETE", &endpoint_path, "").await.status, 204);
    let gone = platform.call(&owner.key, "POST", &path, "").await;
    assert_eq!(gone.status, 409);
    assert_eq!(gone.text("/type"), "urn:postrider:problem:conflict");
}
