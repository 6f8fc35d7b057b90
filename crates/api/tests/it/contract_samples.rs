//! What we answer and deliver, held against the samples of the published documents.

use bytes::Bytes;
use domain::contract::Contract;
use domain::time::Timestamp;
use engine::publish::Publish;
use engine::scope::Scope;
use http::Method;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use testkit::verify::{verify_hex, verify_standard};

use crate::app::{App, URL};

/// The members of a JSON object in the order they are written.
#[derive(Debug, Default, PartialEq)]
struct Members(Vec<(String, Value)>);

impl Members {
    /// Names and kinds, in order.
    fn shape(&self) -> Vec<(&str, &'static str)> {
        let kind = |value: &Value| match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        self.0.iter().map(|(name, value)| (name.as_str(), kind(value))).collect()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Members::default();
                while let Some(member) = map.next_entry()? {
                    members.0.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[tokio::test(start_paused = true)]
async fn the_jogg_v2_events_answer_is_the_documents_sample_with_a_request_id() {
    let app = App::start().await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;

    let answer = app.get(&customer.key, "/v2/events").await;

    let sample: Members =
        serde_json::from_str(include_str!("../fixtures/jogg_v2/events.json")).unwrap();
    let ours = answer.body.replace(answer.header("x-request-id").unwrap(), "");
    assert_eq!(serde_json::from_str::<Members>(&ours).unwrap(), sample);
}

#[tokio::test(start_paused = true)]
async fn a_jogg_v2_endpoint_has_the_members_of_the_documents_sample_in_their_order() {
    #[derive(Deserialize)]
    struct Added {
        data: Members,
    }
    let app = App::start().await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    let sample = include_str!("../fixtures/jogg_v2/webhook_endpoint.json");

    // The sample itself is a good request: what is not asked for is ignored.
    let answer = app.post(&customer.key, "/v2/endpoint", sample).await;

    let ours: Added = serde_json::from_str(&answer.body).unwrap();
    let sample: Members = serde_json::from_str(sample).unwrap();
    assert_eq!(ours.data.shape(), sample.shape());
    for sent in ["url", "status", "events", "username"] {
        let find = |members: &Members| {
            members.0.iter().find(|(name, _)| name == sent).map(|(_, value)| value.clone())
        };
        assert_eq!(find(&ours.data), find(&sample), "{sent}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_konpro_v1_list_has_the_members_of_the_documents_sample_in_their_order() {
    #[derive(Deserialize)]
    struct Listed {
        data: Vec<Members>,
    }
    let app = App::start().await;
    let customer = app.customer("user123", Contract::KonproV1).await;
    let sample: Listed =
        serde_json::from_str(include_str!("../fixtures/konpro_v1/endpoint.list.json")).unwrap();
    for endpoint in &sample.data {
        let member = |name: &str| &endpoint.0.iter().find(|(known, _)| known == name).unwrap().1;
        let body = serde_json::json!({"url": member("url"), "events": member("events")});
        let path = "/v1/webhook/endpoint.add";
        let answer = app.post(&customer.key, path, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    let answer = app.get(&customer.key, "/v1/webhook/endpoint.list").await;

    assert_eq!(serde_json::from_str::<Members>(&answer.body).unwrap().shape(), [("data", "array")]);
    let ours: Listed = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(ours.data.len(), sample.data.len());
    for (ours, sample) in ours.data.iter().zip(&sample.data) {
        assert_eq!(ours.shape(), sample.shape());
    }
    assert!(answer.body.contains(r#""created_at":"2024-01-15T10:30:00Z""#), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn every_documented_jogg_v2_payload_reaches_an_endpoint_byte_for_byte() {
    #[derive(Deserialize)]
    struct Sample<'a> {
        event: &'a str,
        timestamp: i64,
        #[serde(borrow)]
        data: &'a RawValue,
    }
    let samples = [
        include_str!("../fixtures/jogg_v2/deliveries/generated_avatar_video_success.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_photo_avatar_success.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_script_success.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_image_success.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_image_failed.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_motion_success.json"),
        include_str!("../fixtures/jogg_v2/deliveries/generated_motion_failed.json"),
    ];
    let app = App::start().await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    let names = app.get(&customer.key, "/v2/events").await.json()["data"]["events"].clone();
    let body = serde_json::json!({"url": URL, "status": "enabled", "events": names});
    let added = app.post(&customer.key, "/v2/endpoint", &body.to_string()).await;
    let secret = added.text("/data/secret");

    for (sent_before, text) in samples.into_iter().enumerate() {
        let sample: Sample<'_> = serde_json::from_str(text).unwrap();
        let publish = Publish {
            account: "johndoe".to_owned(),
            event_type: sample.event.to_owned(),
            data: Bytes::copy_from_slice(sample.data.get().as_bytes()),
            timestamp: Some(sample.timestamp),
            ..Publish::default()
        };
        let published = app.engine.publish(Scope::OPERATOR, publish, None).await.unwrap();

        let sent = app.sender.wait_for(sent_before + 1).await.pop().unwrap();

        let expected = format!(
            r#"{{"event_id":"{}","event":"{}","timestamp":{},"data":{}}}"#,
            published.id,
            sample.event,
            sample.timestamp,
            sample.data.get()
        );
        assert_eq!(std::str::from_utf8(&sent.request.body).unwrap(), expected);
        assert_eq!(sent.header("X-Webhook-Event"), Some(sample.event));
        assert_eq!(sent.header("User-Agent"), Some("JoggAI-Webhook/2.0"));
        let signature = sent.header("X-Webhook-Signature").unwrap();
        verify_hex("x-webhook-signature", signature, &secret, &sent.request.body).unwrap();
        verify_standard(
            sent.header("webhook-id").unwrap(),
            sent.header("webhook-timestamp").unwrap(),
            sent.header("webhook-signature").unwrap(),
            &secret,
            &sent.request.body,
        )
        .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_disables_an_endpoint_holds_from_its_answer_on() {
    let app = App::start().await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    let fields = |status: &str| {
        format!(r#"{{"url":"{URL}","status":"{status}","events":["generated_script_failed"]}}"#)
    };
    let added = app.post(&customer.key, "/v2/endpoint", &fields("enabled")).await;
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    let publish = || {
        let publish = Publish {
            account: "johndoe".to_owned(),
            event_type: "generated_script_failed".to_owned(),
            data: Bytes::from_static(b"{}"),
            timestamp: Some(Timestamp::from_seconds(1_732_806_631).as_seconds()),
            ..Publish::default()
        };
        app.engine.publish(Scope::OPERATOR, publish, None)
    };
    assert_eq!(publish().await.unwrap().deliveries, 1);
    let answer = app.call(&customer.key, Method::PUT, &path, &fields("disabled")).await;
    assert_eq!(answer.text("/data/status"), "disabled");
    assert_eq!(publish().await.unwrap().deliveries, 0);
    let answer = app.call(&customer.key, Method::PUT, &path, &fields("enabled")).await;
    assert_eq!(answer.text("/data/status"), "enabled");
    assert_eq!(publish().await.unwrap().deliveries, 1);
    app.call(&customer.key, Method::DELETE, &path, "").await;
    assert_eq!(publish().await.unwrap().deliveries, 0);
}
