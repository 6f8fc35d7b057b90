//! Filters tried on samples, and what an event's story says of them.

use domain::contract::Contract;
use serde_json::json;

use super::harness::{OPERATOR, Platform};
use crate::app::URL;

#[tokio::test(start_paused = true)]
async fn a_filter_is_tried_before_it_is_set_and_explains_itself() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let endpoint = platform.endpoint(&owner, &json!({"url": URL})).await;
    let path = format!("/api/v1/endpoints/{endpoint}/filter/test");
    let filter = "data.duration > 60 && data.status == 'completed'";
    let data = json!({"duration": 30, "status": "completed"});
    for key in [OPERATOR, &owner.key] {
        let answer = platform.post(key, &path, &json!({"filter": filter, "data": data})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(
            answer.json(),
            json!({"passes": false, "explanation": "rejected because data.duration = 30 is not > 60"})
        );
    }
    let body = json!({"filter": "data.avatar_id == 12345", "type": "create_avatar_success"});
    let answer = platform.post(&owner.key, &path, &body).await.json();
    assert_eq!(answer["passes"], true);
    assert_eq!(answer["explanation"], "passed because data.avatar_id = 12345 is == 12345");

    for (body, field, reason) in [
        (json!({}), "filter", "is required: the endpoint has none"),
        (
            json!({"filter": "data.duration >"}),
            "filter",
            "is wrong at line 1, character 16: ends where a value is needed",
        ),
        (json!({"filter": 5}), "filter", "must be a string or null"),
        (json!({"filter": filter, "data": [1]}), "data", "must be a JSON object"),
        (
            json!({"filter": filter, "entity_ids": [1]}),
            "entity_ids",
            "must be a list of strings or null",
        ),
    ] {
        let answer = platform.post(&owner.key, &path, &body).await;
        assert_eq!(answer.status, 422, "{body} {answer:?}");
        assert_eq!(answer.text("/errors/0/field"), field, "{body}");
        assert_eq!(answer.text("/errors/0/reason"), reason, "{body}");
    }
    let stranger = platform.owner("jane", Contract::JoggV2).await;
    let answer = platform.post(&stranger.key, &path, &json!({"filter": filter})).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_filter_is_set_shown_and_applied_and_the_event_says_why_it_was_not_delivered() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let filter = "data.video_id == \"v2\"";
    let endpoint = platform.endpoint(&owner, &json!({"url": URL, "filter": filter})).await;
    let path = format!("/api/v1/endpoints/{endpoint}");
    assert_eq!(platform.get(&owner.key, &path).await.text("/filter"), filter);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;

    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
    assert_eq!(
        story["deliveries"],
        json!([{
            "endpoint": endpoint, "delivery": null, "reason": "filter", "state": null,
            "detail": "rejected because data.video_id = \"v1\" is not == \"v2\"",
        }])
    );
    let wrong = platform.call(&owner.key, "PATCH", &path, r#"{"filter":"data.x = 1"}"#).await;
    assert_eq!(wrong.status, 422);
    assert_eq!(
        wrong.text("/errors/0/reason"),
        "is wrong at line 1, character 8: `=` does not compare; use `==`"
    );
    let gone = platform.call(&owner.key, "PATCH", &path, r#"{"filter":null}"#).await;
    assert_eq!(gone.json()["filter"], json!(null));
    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
    assert_eq!(story["deliveries"][0]["reason"], json!(null));
}
