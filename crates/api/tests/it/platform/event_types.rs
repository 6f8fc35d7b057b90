//! Event types through the API: the catalogue of each contract, and what an operator registers.

use domain::contract::Contract;
use serde_json::{Value, json};

use super::harness::{OPERATOR, Platform};
use crate::app::{Answer, URL};

async fn put(platform: &Platform, name: &str, body: &str) -> Answer {
    let path = format!("/api/v1/contracts/jogg_v2/event-types/{name}");
    platform.call(OPERATOR, "PUT", &path, body).await
}

#[tokio::test(start_paused = true)]
async fn a_type_is_registered_read_listed_replaced_and_taken_out() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let catalogue = "/api/v1/contracts/jogg_v2/event-types";
    let list = async || platform.get(&owner.key, &format!("{catalogue}?limit=500")).await.json();
    let before = list().await;
    assert_eq!(before["data"].as_array().unwrap().len(), 22);
    assert_eq!(before["next_cursor"], json!(null));
    assert_eq!(
        before["data"][0],
        json!({
            "name": "generated_video_success", "description": "Video generation succeeded",
            "schema": null, "source": "documented", "created_at": null, "updated_at": null,
            "sample": {"project_id": "project_123456", "video_url": "https://res.jogg.ai/video.mp4", "duration": 30},
        })
    );

    // Bytes are kept as they were sent.
    let body = r#"{"description":"Ready","schema":{ "type" : "object" },"sample":{ "n" : 1.0 }}"#;
    let created = put(&platform, "video_ready", body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(created.body.contains(r#""schema":{ "type" : "object" },"sample":{ "n" : 1.0 }"#));
    assert_eq!(created.text("/source"), "registered");
    let read = platform.get(&owner.key, &format!("{catalogue}/video_ready")).await;
    assert_eq!(read.body, created.body);
    let after = list().await;
    assert_eq!(after["data"].as_array().unwrap()[..22], before["data"].as_array().unwrap()[..]);
    assert_eq!(after["data"][22], read.json());

    assert_eq!(put(&platform, "video_ready", "").await.status, 200);
    let read = platform.get(OPERATOR, &format!("{catalogue}/video_ready")).await;
    assert_eq!(read.json()["schema"], Value::Null);
    let delete = async |key: &str, name: &str| {
        platform.call(key, "DELETE", &format!("{catalogue}/{name}"), "").await.status
    };
    assert_eq!(delete(&owner.key, "video_ready").await, 404);
    assert_eq!(delete(OPERATOR, "video_ready").await, 204);
    assert_eq!(delete(OPERATOR, "video_ready").await, 404);
    assert_eq!(delete(OPERATOR, "generated_video_success").await, 404);
    assert_eq!(list().await, before);
    for path in ["video_ready", "no%20type", "%ff"] {
        let answer = platform.get(OPERATOR, &format!("{catalogue}/{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let other = platform.get(OPERATOR, "/api/v1/contracts/other/event-types").await;
    assert_eq!(
        (other.status.as_u16(), other.text("/detail")),
        (404, "no such contract".to_owned())
    );
    let foreign = platform.get(&owner.key, "/api/v1/contracts/konpro_v1/event-types").await;
    assert_eq!(foreign.status, 404);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_type_or_with_data_is_named() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    for (body, field) in [
        (r#"{"schema":[]}"#, "schema"),
        (r#"{"schema":{"type":"strange"}}"#, "schema"),
        (r#"{"schema":{"$ref":"https://example.com/schema.json"}}"#, "schema"),
        (r#"{"schema":{"required":["a"]},"sample":{}}"#, "sample"),
        (r#"{"sample":1}"#, "sample"),
        (r#"{"description":1}"#, "description"),
        (r#"{"name":"other"}"#, "name"),
    ] {
        let answer = put(&platform, "video_ready", body).await;
        assert_eq!(answer.status, 422, "{body} {answer:?}");
        assert_eq!(answer.text("/errors/0/field"), field, "{body}");
    }
    let schema = r#"{"schema":{"properties":{"duration":{"type":"integer"}}}}"#;
    assert_eq!(put(&platform, "video_ready", schema).await.status, 201);
    let event = json!({"account": "johndoe", "type": "video_ready", "data": {"duration": "long"}});
    let answer = platform.post(&owner.key, "/api/v1/events", &event).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    assert_eq!(
        answer.json()["errors"],
        json!([{"field": "data/duration", "reason": "is not of type \"integer\""}])
    );
    assert!(!answer.body.contains("long"));
}

#[tokio::test(start_paused = true)]
async fn customers_see_registered_types_after_the_documented_ones() {
    let platform = Platform::start().await;
    let jogg = platform.owner("johndoe", Contract::JoggV2).await;
    let konpro = platform.owner("jane", Contract::KonproV1).await;
    platform.endpoint(&jogg, &json!({"url": URL})).await;
    let ask = async |key: &str, path: &str| {
        let request = http::Request::get(path).header("x-api-key", key);
        platform.app.send(request.body(axum::body::Body::empty()).unwrap()).await.json()
    };
    let names = async || {
        [
            ask(&jogg.key, "/v2/events").await["data"]["events"].clone(),
            ask(&jogg.key, "/v2/endpoints").await["data"]["endpoints"][0]["events"].clone(),
            ask(&konpro.key, "/v1/webhook/webhook.list").await["data"].clone(),
        ]
        .map(|names| names.as_array().unwrap().clone())
    };
    let before = names().await;
    assert_eq!(before.each_ref().map(Vec::len), [22, 22, 7]);
    for (contract, name) in [("jogg_v2", "zebra"), ("jogg_v2", "ape"), ("konpro_v1", "owl")] {
        let path = format!("/api/v1/contracts/{contract}/event-types/{name}");
        assert_eq!(platform.call(OPERATOR, "PUT", &path, "{}").await.status, 201);
    }
    let after = names().await;
    for (before, (after, added)) in before.iter().zip(after.iter().zip([
        vec!["ape", "zebra"],
        vec!["ape", "zebra"],
        vec!["owl"],
    ])) {
        assert_eq!(after[..before.len()], before[..]);
        assert_eq!(after[before.len()..], added);
    }
}
