//! Events, and why an endpoint got none.

use std::time::Duration;

use domain::contract::Contract;
use serde_json::{Value, json};
use testkit::doubles::Reply;

use super::harness::{OPERATOR, Platform, Transcript};

#[tokio::test(start_paused = true)]
async fn an_event_is_read_and_listed_with_its_payload() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    platform.endpoint(&owner, &json!({"url": "https://your-domain.com/a"})).await;
    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
    let delivery = story["deliveries"][0]["delivery"].as_str().unwrap();
    platform.delivery_in_state(&owner.key, delivery, "delivered").await;
    let mut transcript = Transcript::default();
    let path = format!("GET /api/v1/events/{event}");
    transcript.say(&platform, &owner.key, &path, "").await;
    transcript.say(&platform, &owner.key, "GET /api/v1/events", "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn an_event_tells_why_an_endpoint_got_no_delivery() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let url = "https://your-domain.com/a";
    let mut expected = Vec::new();
    for (body, reason) in [
        (json!({"url": url}), json!(null)),
        (json!({"url": url, "events": ["video.failed"]}), json!("not_subscribed")),
        (json!({"url": url, "entity_id": "v2"}), json!("entity")),
        (json!({"url": url, "entity_id": "v1"}), json!(null)),
        (json!({"url": url, "status": "disabled"}), json!("disabled")),
    ] {
        expected.push((platform.endpoint(&owner, &body).await, reason));
    }
    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
    let mut fates: Vec<(String, Value)> = Vec::new();
    for fate in story["deliveries"].as_array().unwrap() {
        assert_eq!(fate["delivery"].is_null(), !fate["reason"].is_null(), "{fate}");
        fates.push((fate["endpoint"].as_str().unwrap().to_owned(), fate["reason"].clone()));
    }
    fates.sort_by(|a, b| a.0.cmp(&b.0));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(fates, expected);
}

#[tokio::test(start_paused = true)]
async fn events_are_filtered_by_account_type_time_and_success() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    let jane = platform.owner("jane", Contract::Standard).await;
    let failing = "https://your-domain.com/failing";
    platform.app.sender.always(failing, Reply::status(500));
    platform.endpoint(&john, &json!({"url": failing, "events": ["video.failed"]})).await;
    platform.endpoint(&john, &json!({"url": "https://your-domain.com/ok"})).await;

    let first = platform.publish(&john, "video.created").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let second = platform.publish(&john, "video.failed").await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let third = platform.publish(&jane, "video.created").await;
    let story = platform.get(OPERATOR, &format!("/api/v1/events/{first}")).await.json();
    let delivery = story["deliveries"][0]["delivery"].as_str().unwrap();
    platform.delivery_in_state(OPERATOR, delivery, "delivered").await;

    let accepted_at =
        platform.get(OPERATOR, &format!("/api/v1/events/{second}")).await.text("/accepted_at");
    for (key, query, expected) in [
        (OPERATOR, String::new(), vec![&third, &second, &first]),
        (&john.key, String::new(), vec![&second, &first]),
        (OPERATOR, format!("account={}&", jane.id), vec![&third]),
        (&john.key, format!("account={}&", john.id), vec![&second, &first]),
        (OPERATOR, "type=video.created&".to_owned(), vec![&third, &first]),
        (OPERATOR, format!("since={accepted_at}&"), vec![&third, &second]),
        (OPERATOR, format!("until={accepted_at}&"), vec![&first]),
        (OPERATOR, "since=1705314605&until=1705314615&".to_owned(), vec![&second]),
        (OPERATOR, "undelivered=true&".to_owned(), vec![&second]),
        (OPERATOR, "undelivered=false&".to_owned(), vec![&third, &second, &first]),
    ] {
        for limit in [1, 500] {
            let pages = platform.pages(key, &format!("/api/v1/events?{query}"), limit).await;
            assert_eq!(pages.concat().iter().collect::<Vec<_>>(), expected, "{query}");
        }
    }
}
