//! Publishing.

use std::fmt::Write as _;

use axum::body::Body;
use domain::contract::Contract;
use http::Request;
use serde_json::{Value, json};

use super::harness::{OPERATOR, Owner, Platform, Transcript};
use crate::app::{Answer, URL};

/// A body of an event of `type` whose `data` is this JSON.
fn event(owner: &Owner, data: &str) -> String {
    format!(r#"{{"account":"{}","type":"video.created","data":{data}}}"#, owner.id)
}

async fn publish_with_key(platform: &Platform, owner: &Owner, key: &str, body: &str) -> Answer {
    let request = Request::post("/api/v1/events")
        .header("authorization", format!("Bearer {}", owner.key))
        .header("content-type", "application/json")
        .header("idempotency-key", key)
        .body(Body::from(body.to_owned()));
    platform.app.send(request.unwrap()).await
}

async fn events_of(platform: &Platform, owner: &Owner) -> Vec<String> {
    platform.pages(&owner.key, "/api/v1/events?", 500).await.concat()
}

#[tokio::test(start_paused = true)]
async fn an_event_is_published_by_id_or_username() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    platform.endpoint(&owner, &json!({"url": URL})).await;
    let mut transcript = Transcript::default();
    let full = concat!(
        r#"{"account":"johndoe","type":"generated_avatar_video_success","#,
        r#""data":{"video_id":"video_123456","status":"completed"},"#,
        r#""timestamp":1732806631,"entity_ids":["video_123456"]}"#,
    );
    transcript.say(&platform, OPERATOR, "POST /api/v1/events", full).await;
    let by_id = format!(
        r#"{{"data":{{}},"type":"generated_video_failed","account":"{}","timestamp":null}}"#,
        owner.id
    );
    transcript.say(&platform, &owner.key, "POST /api/v1/events", &by_id).await;
    insta::assert_snapshot!(transcript.into_text());
    let sent = platform.app.sender.wait_for(2).await;
    let first: Value = serde_json::from_slice(&sent[0].request.body).unwrap();
    assert_eq!(first["timestamp"], 1_732_806_631);
}

#[tokio::test(start_paused = true)]
async fn data_is_delivered_byte_for_byte() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    platform.endpoint(&owner, &json!({"url": URL})).await;
    for data in [
        "{}",
        r#"{ "b" : 1.0e+2 , "a":[ 1,2 ] }"#,
        "{\"twice\":1,\n\t\"twice\":2}",
        r#"{"escaped":"\u00e9\/\ud83d\ude00","plain":"é😀"}"#,
        r#"{"large":123456789012345678901234567890,"minus":-0}"#,
        r#"{"lone":"\ud800"}"#,
    ] {
        let answer =
            platform.call(&owner.key, "POST", "/api/v1/events", &event(&owner, data)).await;
        assert_eq!(answer.status, 202, "{data} {answer:?}");
        let sent = platform.app.sender.wait_until(data, |sent| {
            sent.iter().any(|sent| sent.header("webhook-id") == Some(&answer.text("/id")))
        });
        let sent = sent.await;
        let body = String::from_utf8(sent.last().unwrap().request.body.to_vec()).unwrap();
        assert!(body.ends_with(&format!(r#""data":{data}}}"#)), "{body}");
        let page = format!("/api/v1/events/{}", answer.text("/id"));
        let shown = platform.get(&owner.key, &page).await.body;
        assert!(shown.contains(&format!(r#""data":{data},"accepted_at""#)), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_and_body_publish_once_and_another_body_is_a_conflict() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let other = platform.owner("jane", Contract::Standard).await;
    let body = event(&owner, "{}");
    let first = publish_with_key(&platform, &owner, "order 42", &body).await;
    assert_eq!(first.status, 202);
    let again = publish_with_key(&platform, &owner, "order 42", &body).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));

    let changed = publish_with_key(&platform, &owner, "order 42", &event(&owner, "{ }")).await;
    assert_eq!(changed.status, 409);
    assert_eq!(changed.text("/type"), "urn:postrider:problem:conflict");

    let elsewhere = publish_with_key(&platform, &other, "order 42", &event(&other, "{}")).await;
    assert_eq!(elsewhere.status, 202);
    assert_eq!(events_of(&platform, &owner).await, [first.text("/id")]);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_idempotency_key_is_named() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let body = event(&owner, "{}");
    for key in ["", &"k".repeat(256), "tab\there", "é"] {
        let answer = publish_with_key(&platform, &owner, key, &body).await;
        assert_eq!(answer.status, 422, "{key}");
        assert_eq!(answer.text("/errors/0/field"), "Idempotency-Key");
    }
    let longest = publish_with_key(&platform, &owner, &"k".repeat(255), &body).await;
    assert_eq!(longest.status, 202);
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_of_a_batch_does_not_fail_the_others() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    platform.endpoint(&owner, &json!({"url": URL})).await;
    let good = r#"{"account":"johndoe","type":"generated_video_success","data":{"n":1}}"#;
    let too_large = format!(
        r#"{{"account":"johndoe","type":"generated_video_success","data":{{"n":"{}"}}}}"#,
        "x".repeat(256 * 1024)
    );
    let events = [
        good,
        r#"{"account":"johndoe","type":"generated_vidoe_success","data":{}}"#,
        r#"{"account":"nobody","type":"generated_video_success","data":{}}"#,
        r#"{"account":"johndoe","type":"generated_video_success","data":[]}"#,
        r#"{"account":"johndoe","type":"generated_video_success","colour":1}"#,
        "[]",
        &too_large,
        good,
    ];
    let body = format!(r#"{{"events":[{}]}}"#, events.join(","));
    let answer = platform.call(OPERATOR, "POST", "/api/v1/events/batch", &body).await;
    assert_eq!(answer.status, 202);
    let results = answer.json();
    let results = results["results"].as_array().unwrap();
    let statuses: Vec<_> =
        results.iter().map(|result| result["error"]["status"].as_u64().unwrap_or(202)).collect();
    assert_eq!(statuses, [202, 422, 404, 422, 422, 422, 413, 202]);
    for result in results {
        if let Some(error) = result.get("error") {
            assert_eq!(error["request_id"], answer.header("x-request-id").unwrap());
        } else {
            assert_eq!(result["deliveries"], 1);
        }
    }
    let mut accepted = events_of(&platform, &owner).await;
    accepted.reverse();
    assert_eq!(accepted, [&results[0], &results[7]].map(|result| result["id"].as_str().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_at_most_1000_events() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let batch =
        |count: usize| format!(r#"{{"events":[{}]}}"#, vec![event(&owner, "{}"); count].join(","));
    let path = "/api/v1/events/batch";
    let full = platform.call(&owner.key, "POST", path, &batch(1000)).await;
    assert_eq!(full.status, 202);
    assert_eq!(full.json()["results"].as_array().unwrap().len(), 1000);
    let over = platform.call(&owner.key, "POST", path, &batch(1001)).await;
    assert_eq!(over.status, 422);
    assert_eq!(over.text("/errors/0/field"), "events");
    let empty = platform.call(&owner.key, "POST", path, &batch(0)).await;
    assert_eq!((empty.status.as_u16(), empty.body.as_str()), (202, r#"{"results":[]}"#));
}

#[tokio::test(start_paused = true)]
async fn a_batch_refuses_an_idempotency_key_that_it_would_not_heed() {
    let platform = Platform::start().await;
    let request = Request::post("/api/v1/events/batch")
        .header("authorization", format!("Bearer {OPERATOR}"))
        .header("idempotency-key", "order 42")
        .body(Body::from(r#"{"events":[]}"#));
    let answer = platform.app.send(request.unwrap()).await;
    assert_eq!(answer.status, 422);
    assert_eq!(answer.text("/errors/0/field"), "Idempotency-Key");
}

#[tokio::test(start_paused = true)]
async fn data_that_is_not_utf_8_is_not_json() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let mut body = event(&owner, r#"{"a":"x"}"#).into_bytes();
    let at = body.iter().rposition(|byte| *byte == b'x').unwrap();
    body[at] = 0xff;
    let request = Request::post("/api/v1/events")
        .header("authorization", format!("Bearer {}", owner.key))
        .body(Body::from(body));
    let answer = platform.app.send(request.unwrap()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(events_of(&platform, &owner).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_an_event_may_not_be_is_refused_by_name() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::JoggV2).await;
    let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let with_data = |data: &str| {
        format!(r#"{{"account":"johndoe","type":"generated_video_success","data":{data}}}"#)
    };
    let with = |field: &str| {
        format!(r#"{{"account":"johndoe","type":"generated_video_success","data":{{}},{field}}}"#)
    };
    let of_size = |size: usize| with_data(&format!(r#"{{"n":"{}"}}"#, "x".repeat(size - 8)));
    let mut table = String::new();
    for (what, body, status) in [
        ("nothing", "{}".to_owned(), 422),
        ("data of a list", with_data("[]"), 422),
        ("data of null", with_data("null"), 422),
        ("data of text", with_data(r#""{}""#), 422),
        ("data 64 deep", with_data(&deep(64)), 202),
        ("data 65 deep", with_data(&deep(65)), 422),
        ("data of 100,000 brackets", with_data(&"[".repeat(100_000)), 400),
        ("data of 256 KiB", of_size(256 * 1024), 202),
        ("data of a byte more", of_size(256 * 1024 + 1), 413),
        ("body of 320 KiB and a byte", " ".repeat(320 * 1024 + 1), 413),
        ("data that is not JSON", with_data("{'a':1}"), 400),
        ("data with a bare control character", with_data("{\"a\":\"\u{0}\"}"), 400),
        ("unknown field", with(r#""colour":"red""#), 422),
        ("field given twice", with(r#""data":{}"#), 422),
        ("timestamp of text", with(r#""timestamp":"now""#), 422),
        ("timestamp of milliseconds", with(r#""timestamp":1732806631000"#), 422),
        ("timestamp before 1970", with(r#""timestamp":-1"#), 422),
        ("deliver_at of text", with(r#""deliver_at":"tomorrow""#), 422),
        ("deliver_at of milliseconds", with(r#""deliver_at":1705402800000"#), 422),
        ("deliver_at in 14 days and more", with(r#""deliver_at":"2024-01-29T10:30:10Z""#), 422),
        ("ordering_key of nothing", with(r#""ordering_key":"""#), 422),
        ("ordering_key of a number", with(r#""ordering_key":7"#), 422),
        ("traceparent of a number", with(r#""traceparent":7"#), 422),
        ("entity_ids of text", with(r#""entity_ids":"v1""#), 422),
        ("entity_ids of nothing", with(r#""entity_ids":[""]"#), 422),
        (
            "101 entity_ids",
            with(&format!(r#""entity_ids":[{}]"#, vec![r#""v""#; 101].join(","))),
            422,
        ),
        (
            "misspelt type",
            r#"{"account":"johndoe","type":"generated_avatar_vidoe_success","data":{}}"#.to_owned(),
            422,
        ),
        (
            "unknown account",
            r#"{"account":"nobody","type":"generated_video_success","data":{}}"#.to_owned(),
            404,
        ),
    ] {
        let answer = platform.call(&owner.key, "POST", "/api/v1/events", &body).await;
        assert_eq!(answer.status, status, "{what} {answer:?}");
        let said = if status == 202 { String::new() } else { answer.text("/detail") };
        writeln!(table, "{what} | {status} | {said}").unwrap();
    }
    insta::assert_snapshot!(table);
}
