//! Events that are due later, cancelled and erased.

use axum::body::Body;
use domain::contract::Contract;
use domain::id::EventId;
use engine::scope::Scope;
use http::Request;
use serde_json::{Value, json};

use super::harness::{Owner, Platform, Transcript};
use crate::app::URL;

/// Publishes an event with these members added, and answers its id.
async fn publish(platform: &Platform, owner: &Owner, added: Value) -> String {
    let mut body =
        json!({"account": owner.id, "type": "video.created", "data": {"video_id": "v1"}});
    body.as_object_mut().unwrap().extend(added.as_object().unwrap().clone());
    let answer = platform.post(&owner.key, "/api/v1/events", &body).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.text("/id")
}

#[tokio::test(start_paused = true)]
async fn a_scheduled_event_is_shown_cancelled_and_erased() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    platform.endpoint(&owner, &json!({"url": URL})).await;
    let later = json!({
        "deliver_at": "2024-01-16T12:00:00+01:00", "ordering_key": "project 42",
        "entity_ids": ["v1"],
    });
    let event = publish(&platform, &owner, later.clone()).await;
    let other = publish(&platform, &owner, later).await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{other}")).await;
    let delivery = story.text("/deliveries/0/delivery");
    let mut transcript = Transcript::default();
    for request in [
        format!("GET /api/v1/events/{event}"),
        format!("POST /api/v1/events/{event}/cancel"),
        format!("POST /api/v1/events/{event}/cancel"),
        format!("POST /api/v1/events/{event}/erase"),
        format!("POST /api/v1/events/{event}/erase"),
        format!("GET /api/v1/events/{event}"),
        format!("POST /api/v1/deliveries/{delivery}/cancel"),
        format!("POST /api/v1/deliveries/{delivery}/cancel"),
    ] {
        transcript.say(&platform, &owner.key, &request, "").await;
    }
    insta::assert_snapshot!(transcript.into_text());
    assert!(platform.app.sender.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn when_an_event_is_due_is_said_in_rfc_3339_or_unix_seconds() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    for (deliver_at, shown) in [
        (json!("2024-01-16T12:00:00+01:00"), json!("2024-01-16T11:00:00.000Z")),
        (json!("2024-01-16T11:00:00.5Z"), json!("2024-01-16T11:00:00.500Z")),
        (json!(1_705_402_800), json!("2024-01-16T11:00:00.000Z")),
        (json!(0), json!(null)),
        (json!("1999-12-31T23:59:59Z"), json!(null)),
        (json!(null), json!(null)),
    ] {
        let event = publish(&platform, &owner, json!({"deliver_at": deliver_at})).await;
        let event = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await.json();
        assert_eq!(event["deliver_at"], shown, "{deliver_at}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_of_an_event_is_its_own_or_the_requests_and_a_malformed_one_is_ignored() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let (one, two) = (
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
    );
    let event = |member: Option<&str>| {
        let mut event = json!({"account": owner.id, "type": "video.created", "data": {}});
        if let Some(member) = member {
            event["traceparent"] = member.into();
        }
        event
    };
    let send = async |path: &str, headers: &[&str], body: Value| {
        let mut request = Request::post(path)
            .header("authorization", format!("Bearer {}", owner.key))
            .header("content-type", "application/json");
        for header in headers {
            request = request.header("traceparent", *header);
        }
        platform.app.send(request.body(Body::from(body.to_string())).unwrap()).await
    };
    let trace_of = async |id: &str| {
        let id = EventId::parse(id).unwrap();
        let story = platform.app.engine.event(Scope::OPERATOR, id).await.unwrap();
        story.event.event.trace.map(|trace| trace.to_string())
    };
    for (headers, member, expected) in [
        (vec![], None, None),
        (vec![one], None, Some(one)),
        (vec![], Some(two), Some(two)),
        (vec![one], Some(two), Some(two)),
        (vec![one], Some("nonsense"), Some(one)),
        (vec!["nonsense"], None, None),
        (vec![one, two], None, None),
    ] {
        let answer = send("/api/v1/events", &headers, event(member)).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(trace_of(&answer.text("/id")).await.as_deref(), expected);
    }
    let batch = json!({"events": [event(None), event(Some(two))]});
    let answer = send("/api/v1/events/batch", &[one], batch).await;
    assert_eq!(trace_of(&answer.text("/results/0/id")).await.as_deref(), Some(one));
    assert_eq!(trace_of(&answer.text("/results/1/id")).await.as_deref(), Some(two));
}

#[tokio::test(start_paused = true)]
async fn a_repetition_with_another_trace_is_the_same_request_and_with_another_time_is_not() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let send = async |deliver_at: i64, trace: &str| {
        let body = json!({
            "account": owner.id, "type": "video.created", "data": {}, "deliver_at": deliver_at,
        });
        let request = Request::post("/api/v1/events")
            .header("authorization", format!("Bearer {}", owner.key))
            .header("idempotency-key", "order 42")
            .header("traceparent", trace)
            .body(Body::from(body.to_string()));
        platform.app.send(request.unwrap()).await
    };
    let first =
        send(1_705_402_800, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00").await;
    let again =
        send(1_705_402_800, "00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-00").await;
    assert_eq!((first.status, &first.body), (again.status, &again.body));
    let other = send(1_705_402_801, "").await;
    assert_eq!(other.status, 409);
}
