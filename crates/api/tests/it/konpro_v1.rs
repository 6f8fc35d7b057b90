//! The KonPro v1 surface: every answer as bytes, every refusal, every limit.

use std::time::Duration;

use axum::body::Body;
use domain::account::AccountChange;
use domain::attempt::{Failure, Outcome};
use domain::contract::Contract;
use domain::limits::REQUEST_BODY_BYTES_MAX;
use engine::administer::{EndpointEdit, NewAccount};
use engine::scope::Scope;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::app::{Answer, App, Customer, new_account};

const LIST: &str = "/v1/webhook/endpoint.list";
const ADD: &str = "/v1/webhook/endpoint.add";
const UPDATE: &str = "/v1/webhook/endpoint.update";
const DELETE: &str = "/v1/webhook/endpoint.delete";
const EVENTS: &str = "/v1/webhook/webhook.list";

const URL: &str = "https://example.com/konpro/webhooks";

async fn app_and_customer() -> (App, Customer) {
    let app = App::start().await;
    let customer = app.customer("user123", Contract::KonproV1).await;
    (app, customer)
}

impl App {
    async fn add(&self, customer: &Customer, body: &Value) -> Answer {
        self.post(&customer.key, ADD, &body.to_string()).await
    }

    async fn update(&self, customer: &Customer, body: &Value) -> Answer {
        self.call(&customer.key, Method::PATCH, UPDATE, &body.to_string()).await
    }

    async fn delete(&self, customer: &Customer, id: &str) -> Answer {
        let path = format!("{DELETE}?endpoint_id={id}");
        self.call(&customer.key, Method::DELETE, &path, "").await
    }
}

/// Code and HTTP status of a refusal, whose form is checked on the way.
fn refusal(answer: &Answer) -> (String, u16) {
    let ends = format!(r#","request_id":"req-{}"}}"#, answer.header("x-request-id").unwrap());
    assert!(answer.body.starts_with(r#"{"error":{"code":""#), "{}", answer.body);
    assert!(answer.body.ends_with(&ends), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    (answer.text("/error/code"), answer.status.as_u16())
}

fn is_refused(answer: &Answer, code: &str, status: u16) {
    assert_eq!(refusal(answer), (code.to_owned(), status), "{}", answer.body);
}

#[tokio::test(start_paused = true)]
async fn adding_an_endpoint_answers_it_bare_with_its_secret() {
    let (app, customer) = app_and_customer().await;
    let body = json!({"url": URL, "events": ["video.created", "avatar.updated"],
        "entity_id": "project123"});
    insta::assert_snapshot!(app.add(&customer, &body).await.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"endpoint_id":"webhook_…","url":"https://example.com/konpro/webhooks","secret":"whsec_…","status":"enabled","events":["video.created","avatar.updated"],"username":"user123","created_at":"2024-01-15T10:30:00Z"}
    "#);
    assert_eq!(app.sender.probes(), [URL]);
}

#[tokio::test(start_paused = true)]
async fn listing_answers_every_endpoint_oldest_first() {
    let (app, customer) = app_and_customer().await;
    insta::assert_snapshot!(app.get(&customer.key, LIST).await.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"data":[]}
    "#);
    let first = app.add(&customer, &json!({"url": URL})).await;
    let id = domain::id::EndpointId::parse(&first.text("/endpoint_id")).unwrap();
    let disable = EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() };
    app.engine.change_endpoint(Scope::OPERATOR, id, disable).await.unwrap();
    app.pass(Duration::from_secs(1));
    app.add(&customer, &json!({"url": "https://mysite.com/", "events": ["a"]})).await;

    insta::assert_snapshot!(app.get(&customer.key, LIST).await.shown_body(), @r#"{"data":[{"endpoint_id":"webhook_…","url":"https://example.com/konpro/webhooks","secret":"whsec_…","status":"disabled","events":[],"username":"user123","created_at":"2024-01-15T10:30:00Z"},{"endpoint_id":"webhook_…","url":"https://mysite.com/","secret":"whsec_…","status":"enabled","events":["a"],"username":"user123","created_at":"2024-01-15T10:30:01Z"}]}"#);
}

#[tokio::test(start_paused = true)]
async fn omitted_null_and_empty_events_all_mean_all() {
    let (app, customer) = app_and_customer().await;
    for body in [
        json!({"url": URL}),
        json!({"url": URL, "events": null}),
        json!({"url": URL, "events": [], "entity_id": null}),
    ] {
        let answer = app.add(&customer, &body).await;
        assert_eq!(answer.json()["events"], json!([]), "{body}");
        let id = domain::id::EndpointId::parse(&answer.text("/endpoint_id")).unwrap();
        let endpoint = app.engine.endpoint(Scope::OPERATOR, id).await.unwrap();
        assert_eq!(endpoint.subscription, domain::subscription::Subscription::All, "{body}");
        assert_eq!(endpoint.entity_id, None, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_keeps_what_it_omits() {
    let (app, customer) = app_and_customer().await;
    let body = json!({"url": URL, "events": ["a", "b", "a"], "entity_id": "project123"});
    let added = app.add(&customer, &body).await;
    let id = added.text("/endpoint_id");
    app.pass(Duration::from_secs(100));
    let update = async |change: Value| {
        let mut body = json!({"endpoint_id": id});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        app.update(&customer, &body).await
    };

    let new_url = update(json!({"url": "https://example.com/new-webhook-url"})).await;
    insta::assert_snapshot!(new_url.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"endpoint_id":"webhook_…","url":"https://example.com/new-webhook-url","secret":"whsec_…","status":"enabled","events":["a","b"],"username":"user123","created_at":"2024-01-15T10:30:00Z"}
    "#);
    assert_eq!(new_url.text("/secret"), added.text("/secret"));
    assert_eq!(new_url.text("/endpoint_id"), id);

    let cases = [
        (json!({}), json!(["a", "b"])),
        (json!({"events": ["c"]}), json!(["c"])),
        (json!({"events": null}), json!([])),
        (json!({"events": ["c"], "entity_id": "other", "status": "disabled"}), json!(["c"])),
        (json!({"events": []}), json!([])),
    ];
    for (change, events) in cases {
        let answer = update(change.clone()).await;
        assert_eq!(answer.json()["events"], events, "{change}");
        assert_eq!(answer.text("/url"), "https://example.com/new-webhook-url");
        assert_eq!(answer.text("/status"), "enabled");
    }
    let id = domain::id::EndpointId::parse(&id).unwrap();
    let endpoint = app.engine.endpoint(Scope::OPERATOR, id).await.unwrap();
    assert_eq!(endpoint.entity_id.unwrap().as_str(), "project123");
    // Once when it was added, and once for the one update that changed the URL.
    assert_eq!(app.sender.probes(), [URL, "https://example.com/new-webhook-url"]);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_endpoint_is_gone() {
    let (app, customer) = app_and_customer().await;
    let id = app.add(&customer, &json!({"url": URL})).await.text("/endpoint_id");
    app.pass(Duration::from_mins(315));
    insta::assert_snapshot!(app.delete(&customer, &id).await.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"endpoint_id":"webhook_…","status":"deleted","message":"Webhook endpoint successfully deleted","deleted_at":"2024-01-15T15:45:00Z"}
    "#);
    is_refused(&app.delete(&customer, &id).await, "RESOURCE_NOT_FOUND", 404);
    assert_eq!(app.get(&customer.key, LIST).await.body, r#"{"data":[]}"#);
}

#[tokio::test(start_paused = true)]
async fn listing_events_answers_the_catalogue() {
    let (app, customer) = app_and_customer().await;
    insta::assert_snapshot!(app.get(&customer.key, EVENTS).await.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"data":["avatar_video.success","avatar_video.fail","avatar_video_gif.success","avatar_video_gif.fail","video_translate.success","video_translate.fail","personalized_video"]}
    "#);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_code_status_and_words() {
    let (app, customer) = app_and_customer().await;
    let set_access = async |api_access| {
        let change = AccountChange { api_access: Some(api_access), ..AccountChange::default() };
        app.engine.change_account(Scope::OPERATOR, customer.account.id, change).await.unwrap();
    };

    insta::assert_snapshot!(app.get("nonsense", LIST).await.shown(), @r#"
    401
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"INVALID_API_KEY","message":"the API key is missing or not valid"},"request_id":"req-RID"}
    "#);
    set_access(false).await;
    insta::assert_snapshot!(app.get(&customer.key, LIST).await.shown(), @r#"
    403
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"INSUFFICIENT_PERMISSIONS","message":"the account has no API access"},"request_id":"req-RID"}
    "#);
    set_access(true).await;
    insta::assert_snapshot!(app.delete(&customer, "webhook_123456").await.shown(), @r#"
    404
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"RESOURCE_NOT_FOUND","message":"no such endpoint"},"request_id":"req-RID"}
    "#);
    insta::assert_snapshot!(app.post(&customer.key, ADD, "{").await.shown(), @r#"
    400
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"INVALID_REQUEST","message":"the request body is not valid JSON (line 1, column 1)"},"request_id":"req-RID"}
    "#);
    insta::assert_snapshot!(app.add(&customer, &json!({})).await.shown(), @r#"
    400
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"error":{"code":"VALIDATION_ERROR","message":"url is required","details":{"field":"url","reason":"is required"}},"request_id":"req-RID"}
    "#);
    let change = AccountChange { plan: Some(Some("trial".to_owned())), ..AccountChange::default() };
    app.engine.change_account(Scope::OPERATOR, customer.account.id, change).await.unwrap();
    for _ in 0..10 {
        assert_eq!(app.get(&customer.key, LIST).await.status, 200);
    }
    insta::assert_snapshot!(app.get(&customer.key, LIST).await.shown(), @r#"
    429
    cache-control: no-store
    content-type: application/json
    retry-after: 60
    x-request-id: RID

    {"error":{"code":"RATE_LIMIT_EXCEEDED","message":"too many requests for the account's plan; ask again later"},"request_id":"req-RID"}
    "#);
    app.pass(Duration::from_mins(1));
    app.engine.stop(Duration::ZERO).await.unwrap();
    insta::assert_snapshot!(app.add(&customer, &json!({"url": URL})).await.shown(), @r#"
    503
    cache-control: no-store
    content-type: application/json
    retry-after: 2
    x-request-id: RID

    {"error":{"code":"SERVICE_UNAVAILABLE","message":"the service is unavailable just now; ask again later"},"request_id":"req-RID"}
    "#);
}

#[tokio::test(start_paused = true)]
async fn a_wrong_field_is_named_with_what_is_wrong() {
    let (app, customer) = app_and_customer().await;
    let added = app.add(&customer, &json!({"url": URL})).await;
    let id = added.text("/endpoint_id");
    let check = |answer: &Answer, field: &str, reason: &str| {
        is_refused(answer, "VALIDATION_ERROR", 400);
        assert_eq!(answer.text("/error/details/field"), field);
        let given = answer.text("/error/details/reason");
        assert!(given.starts_with(reason), "{field}: {given}");
        assert!(answer.text("/error/message").starts_with(field));
    };
    for (field, value, reason) in [
        ("url", json!(7), "must be a string"),
        ("url", json!("http://example.com/"), "the URL must start with https://"),
        ("url", json!("https://10.0.0.1/"), "the URL "),
        ("url", json!("nonsense"), "the URL must start with https://"),
        ("events", json!("a"), "must be an array of strings"),
        ("events", json!({"a": 1}), "must be an array of strings"),
        ("events", json!([1]), "must be an array of strings"),
        ("events", json!(["a b"]), "contains `a b`"),
        ("events", json!([""]), "contains ``"),
        ("entity_id", json!(7), "must be a string"),
        ("entity_id", json!(""), "an entity id has 1 to 255 bytes"),
    ] {
        let mut body = json!({"url": URL});
        body[field] = value.clone();
        check(&app.add(&customer, &body).await, field, reason);
        if field != "entity_id" {
            let mut body = json!({"endpoint_id": id});
            body[field] = value;
            check(&app.update(&customer, &body).await, field, reason);
        }
    }
    check(&app.add(&customer, &json!({"url": null})).await, "url", "is required");
    check(&app.update(&customer, &json!({"url": URL})).await, "endpoint_id", "is required");
    let null_id = json!({"endpoint_id": null, "url": URL});
    check(&app.update(&customer, &null_id).await, "endpoint_id", "is required");
    check(
        &app.update(&customer, &json!({"endpoint_id": 7})).await,
        "endpoint_id",
        "must be a string",
    );
    let null_url = json!({"endpoint_id": id, "url": null});
    check(&app.update(&customer, &null_url).await, "url", "must be a string");
    for query in ["", "?", "?id=webhook_1", "?endpoint_id=a&endpoint_id=b"] {
        let path = format!("{DELETE}{query}");
        let answer = app.call(&customer.key, Method::DELETE, &path, "").await;
        check(&answer, "endpoint_id", "is required");
    }
    let listed = app.get(&customer.key, LIST).await;
    assert_eq!(listed.json()["data"], json!([added.json()]));
}

#[tokio::test(start_paused = true)]
async fn several_wrong_fields_are_all_in_the_message_and_the_first_in_the_details() {
    let (app, customer) = app_and_customer().await;
    let answer = app.add(&customer, &json!({"events": 1, "entity_id": 2})).await;
    insta::assert_snapshot!(answer.shown_body(), @r#"{"error":{"code":"VALIDATION_ERROR","message":"url is required; events: must be an array of strings; entity_id: must be a string","details":{"field":"url","reason":"is required"}},"request_id":"req-RID"}"#);
}

#[tokio::test(start_paused = true)]
async fn every_failed_probe_is_told_in_the_same_words() {
    let (app, customer) = app_and_customer().await;
    let answered = |status| Outcome::Answered { status, retry_after: None };
    let mut told = Vec::new();
    for outcome in Failure::ALL.map(Outcome::Failed).into_iter().chain([500, 503].map(answered)) {
        app.sender.script_probes(URL, [outcome]);
        let answer = app.add(&customer, &json!({"url": URL})).await;
        is_refused(&answer, "VALIDATION_ERROR", 400);
        assert_eq!(answer.text("/error/details/field"), "url");
        told.push(answer.shown());
    }
    told.dedup();
    assert_eq!(told.len(), 1);
    for status in [200, 204, 301, 404, 405, 499] {
        app.sender.script_probes(URL, [answered(status)]);
        assert_eq!(app.add(&customer, &json!({"url": URL})).await.status, 200, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_whose_new_url_fails_the_probe_changes_nothing() {
    let (app, customer) = app_and_customer().await;
    let added = app.add(&customer, &json!({"url": URL})).await;
    let new_url = "https://mysite.com/";
    app.sender.script_probes(new_url, [Outcome::Failed(Failure::Timeout)]);
    let body = json!({"endpoint_id": added.text("/endpoint_id"), "url": new_url, "events": ["a"]});
    is_refused(&app.update(&customer, &body).await, "VALIDATION_ERROR", 400);
    assert_eq!(app.get(&customer.key, LIST).await.json()["data"], json!([added.json()]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_we_can_read_is_an_invalid_request() {
    let (app, customer) = app_and_customer().await;
    let good = json!({"url": URL}).to_string();
    let send = async |content_type: &str, body: String| {
        let request = Request::post(ADD)
            .header("x-api-key", &customer.key)
            .header("content-type", content_type);
        app.send(request.body(Body::from(body)).unwrap()).await
    };
    assert_eq!(send("application/json", good.clone()).await.status, 200);
    is_refused(&send("text/plain", good.clone()).await, "INVALID_REQUEST", 400);
    is_refused(&send("application/json", "[]".to_owned()).await, "INVALID_REQUEST", 400);
    is_refused(&send("application/json", String::new()).await, "INVALID_REQUEST", 400);
    let too_large = format!("{good}{}", " ".repeat(REQUEST_BODY_BYTES_MAX));
    is_refused(&send("application/json", too_large).await, "INVALID_REQUEST", 413);
}

#[tokio::test(start_paused = true)]
async fn unknown_paths_and_wrong_methods_answer_in_the_same_words() {
    let (app, customer) = app_and_customer().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/webhook",
        "/v1/webhook/",
        "/v1/webhook/endpoint.list/",
        "/v1/webhook/endpoint.get",
        "/v1/videos",
    ] {
        is_refused(&app.get(&customer.key, path).await, "RESOURCE_NOT_FOUND", 404);
    }
    for (method, path, allow) in [
        (Method::POST, LIST, "GET"),
        (Method::OPTIONS, LIST, "GET"),
        (Method::PUT, EVENTS, "GET"),
        (Method::GET, ADD, "POST"),
        (Method::PUT, UPDATE, "PATCH"),
        (Method::POST, UPDATE, "PATCH"),
        (Method::GET, DELETE, "DELETE"),
        (Method::POST, DELETE, "DELETE"),
    ] {
        let answer = app.call(&customer.key, method.clone(), path, "").await;
        is_refused(&answer, "INVALID_REQUEST", 405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    // The answer to HEAD has no body (RFC 9110, section 9.3.2).
    for path in [LIST, EVENTS] {
        let answer = app.call(&customer.key, Method::HEAD, path, "").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (405, ""));
        assert_eq!(answer.header("allow"), Some("GET"));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_key_of_a_konpro_v1_account_opens_this_api() {
    let app = App::start().await;
    let jogg = app.customer("johndoe", Contract::JoggV2).await;
    let standard = app.customer("native", Contract::Standard).await;
    for key in ["", "nonsense", &jogg.key, &standard.key] {
        for (method, path) in [
            (Method::GET, LIST),
            (Method::POST, ADD),
            (Method::PATCH, UPDATE),
            (Method::DELETE, DELETE),
            (Method::GET, EVENTS),
        ] {
            is_refused(&app.call(key, method, path, "").await, "INVALID_API_KEY", 401);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn another_accounts_endpoint_is_as_unknown_as_none() {
    let (app, owner) = app_and_customer().await;
    let stranger = app.customer("stranger", Contract::KonproV1).await;
    let added = app.add(&owner, &json!({"url": URL})).await;
    let theirs = added.text("/endpoint_id");
    let nobodys = "webhook_00000000000000000000000000000001".to_owned();
    for id in [&theirs, &nobodys] {
        let update = json!({"endpoint_id": id, "events": ["a"]});
        is_refused(&app.update(&stranger, &update).await, "RESOURCE_NOT_FOUND", 404);
        is_refused(&app.delete(&stranger, id).await, "RESOURCE_NOT_FOUND", 404);
    }
    let foreign = app.delete(&stranger, &theirs).await;
    assert_eq!(foreign.shown(), app.delete(&stranger, &nobodys).await.shown());
    assert_eq!(app.get(&stranger.key, LIST).await.body, r#"{"data":[]}"#);
    assert_eq!(app.get(&owner.key, LIST).await.json()["data"], json!([added.json()]));
}

#[tokio::test(start_paused = true)]
async fn a_plan_limits_all_requests_and_no_plan_limits_none() {
    let app = App::start().await;
    let unlimited = app.customer("user123", Contract::KonproV1).await;
    for _ in 0..400 {
        assert_eq!(app.get(&unlimited.key, EVENTS).await.status, 200);
    }
    for (plan, per_minute, per_day) in [("trial", 10, 100), ("pro", 60, 1_000)] {
        let new = new_account(plan, Contract::KonproV1);
        let new = NewAccount { plan: Some(plan.to_owned()), ..new };
        let customer = Customer::create(&app.engine, new).await;
        let mut used = 0;
        while used < per_day {
            for _ in 0..per_minute.min(per_day - used) {
                // Refused requests count as others do.
                let answer = app.post(&customer.key, ADD, "{}").await;
                is_refused(&answer, "VALIDATION_ERROR", 400);
                used += 1;
            }
            let over = app.get(&customer.key, LIST).await;
            is_refused(&over, "RATE_LIMIT_EXCEEDED", 429);
            app.pass(Duration::from_mins(1));
        }
        let over = app.get(&customer.key, LIST).await;
        is_refused(&over, "RATE_LIMIT_EXCEEDED", 429);
        let wait = over.header("retry-after").unwrap().parse().unwrap();
        assert!(wait > 3_600, "until midnight: {wait}");
        app.pass(Duration::from_secs(wait));
        assert_eq!(app.get(&customer.key, LIST).await.status, 200);
    }
}
