//! The JoggAI v2 surface: every answer as bytes, every refusal, every limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::jogg_v2::HttpStatus;
use axum::body::Body;
use domain::account::AccountChange;
use domain::contract::Contract;
use domain::limits::REQUEST_BODY_BYTES_MAX;
use engine::administer::{NewAccount, NewEndpoint};
use engine::scope::Scope;
use engine::settings::Settings;
use futures_util::future::join_all;
use futures_util::stream;
use http::{Method, Request};
use serde_json::json;

use crate::app::{Answer, App, Customer, URL, is_request_id, new_account};

const ADD: &str = r#"{"url":"https://your-domain.com/webhook","status":"enabled","events":["generated_avatar_video_success","generated_avatar_video_failed"]}"#;

async fn app_and_customer() -> (App, Customer) {
    let app = App::start().await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    (app, customer)
}

/// Code and HTTP status of a refusal, whose form is checked on the way.
fn refusal(answer: &Answer) -> (u64, u16) {
    let json = answer.json();
    let begins = format!(r#"{{"rid":"{}","code":"#, answer.header("x-request-id").unwrap());
    assert!(answer.body.starts_with(&begins), "{}", answer.body);
    assert!(answer.body.ends_with(r#","data":null}"#), "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    (json["code"].as_u64().unwrap(), answer.status.as_u16())
}

fn message(answer: &Answer) -> String {
    answer.text("/msg")
}

#[tokio::test(start_paused = true)]
async fn what_was_done_is_answered_so_though_event_types_cannot_be_read() {
    let (app, customer) = app_and_customer().await;
    app.store.fail(store::fault::Method::ListEventTypes, store::fault::Fault::Broken);
    let added = app.post(&customer.key, "/v2/endpoint", ADD).await;
    assert_eq!(added.json()["code"], 0, "{}", added.body);
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    let updated = app.call(&customer.key, Method::PUT, &path, ADD).await;
    assert_eq!(updated.json()["data"], added.json()["data"]);
}

#[tokio::test(start_paused = true)]
async fn adding_an_endpoint_answers_it_with_its_secret() {
    let (app, customer) = app_and_customer().await;
    let answer = app.post(&customer.key, "/v2/endpoint", ADD).await;
    insta::assert_snapshot!(answer.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-ratelimit-limit: 20
    x-ratelimit-remaining: 19
    x-ratelimit-reset: 1705314661
    x-request-id: RID

    {"rid":"RID","code":0,"msg":"Success","data":{"endpoint_id":"wh_…","url":"https://your-domain.com/webhook","secret":"whsec_…","status":"enabled","events":["generated_avatar_video_success","generated_avatar_video_failed"],"username":"johndoe","created_at":1705314600}}
    "#);
}

#[tokio::test(start_paused = true)]
async fn listing_answers_every_endpoint_oldest_first() {
    let (app, customer) = app_and_customer().await;
    let empty = app.get(&customer.key, "/v2/endpoints").await;
    insta::assert_snapshot!(empty.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":0,"msg":"Success","data":{"endpoints":[]}}
    "#);
    let first = app.post(&customer.key, "/v2/endpoint", ADD).await;
    let second = json!({"url": "https://mysite.com/callback", "status": "disabled",
        "events": ["generated_script_failed"]});
    app.post(&customer.key, "/v2/endpoint", &second.to_string()).await;

    let listed = app.get(&customer.key, "/v2/endpoints").await;

    insta::assert_snapshot!(listed.shown_body(), @r#"{"rid":"RID","code":0,"msg":"Success","data":{"endpoints":[{"endpoint_id":"wh_…","url":"https://your-domain.com/webhook","secret":"whsec_…","status":"enabled","events":["generated_avatar_video_success","generated_avatar_video_failed"],"username":"johndoe","created_at":1705314600},{"endpoint_id":"wh_…","url":"https://mysite.com/callback","secret":"whsec_…","status":"disabled","events":["generated_script_failed"],"username":"johndoe","created_at":1705314600}]}}"#);
    assert_eq!(listed.json()["data"]["endpoints"][0], first.json()["data"]);
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_the_platform_gave_every_event_lists_all_their_names() {
    let (app, customer) = app_and_customer().await;
    let new = NewEndpoint { url: URL.to_owned(), ..NewEndpoint::default() };
    app.engine.create_endpoint(Scope::OPERATOR, customer.account.id, new).await.unwrap();
    let listed = app.get(&customer.key, "/v2/endpoints").await.json();
    let catalogue = app.get(&customer.key, "/v2/events").await.json();
    assert_eq!(listed["data"]["endpoints"][0]["events"], catalogue["data"]["events"]);
}

#[tokio::test(start_paused = true)]
async fn an_update_replaces_url_status_and_events_and_nothing_else() {
    let (app, customer) = app_and_customer().await;
    let added = app.post(&customer.key, "/v2/endpoint", ADD).await;
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    app.pass(Duration::from_secs(100));
    let change = json!({"url": "https://mysite.com/new", "status": "disabled",
        "events": ["generated_script_failed", "generated_script_failed"], "secret": "whsec_mine"});

    let updated = app.call(&customer.key, Method::PUT, &path, &change.to_string()).await;

    insta::assert_snapshot!(updated.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":0,"msg":"Success","data":{"endpoint_id":"wh_…","url":"https://mysite.com/new","secret":"whsec_…","status":"disabled","events":["generated_script_failed"],"username":"johndoe","created_at":1705314600}}
    "#);
    for kept in ["/data/endpoint_id", "/data/secret"] {
        assert_eq!(updated.text(kept), added.text(kept));
    }
    let listed = app.get(&customer.key, "/v2/endpoints").await;
    assert_eq!(listed.json()["data"]["endpoints"], json!([updated.json()["data"]]));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_endpoint_is_gone() {
    let (app, customer) = app_and_customer().await;
    let added = app.post(&customer.key, "/v2/endpoint", ADD).await;
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));

    let deleted = app.call(&customer.key, Method::DELETE, &path, "").await;

    insta::assert_snapshot!(deleted.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":0,"msg":"Success","data":{"message":"webhook deleted"}}
    "#);
    let again = app.call(&customer.key, Method::DELETE, &path, "").await;
    assert_eq!(refusal(&again), (10104, 404));
    let listed = app.get(&customer.key, "/v2/endpoints").await;
    assert_eq!(listed.json()["data"]["endpoints"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn listing_events_answers_the_catalogue_with_a_lower_case_success() {
    let (app, customer) = app_and_customer().await;
    let answer = app.get(&customer.key, "/v2/events").await;
    insta::assert_snapshot!(answer.shown(), @r#"
    200
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":0,"msg":"success","data":{"events":["generated_video_success","generated_video_failed","create_avatar_success","create_avatar_failed","generated_image_success","generated_image_failed","generated_motion_success","generated_motion_failed","generated_product_video_success","generated_product_video_failed","generated_avatar_video_success","generated_avatar_video_failed","generated_template_video_success","generated_template_video_failed","generated_translate_video_success","generated_translate_video_failed","generated_photo_avatar_success","generated_photo_avatar_failed","generated_product_avatar_success","generated_product_avatar_failed","generated_script_success","generated_script_failed"]}}
    "#);
}

#[tokio::test(start_paused = true)]
async fn every_request_has_an_id_of_its_own() {
    let (app, customer) = app_and_customer().await;
    let first = app.get(&customer.key, "/v2/events").await.text("/rid");
    let second = app.get(&customer.key, "/v2/events").await.text("/rid");
    assert!(is_request_id(&first) && is_request_id(&second));
    assert_ne!(first, second);
}

#[tokio::test(start_paused = true)]
async fn every_refusal_has_its_code_status_and_words() {
    let (app, customer) = app_and_customer().await;
    let change = |credits, api_access| AccountChange { credits, api_access, plan: None };
    let set = async |change| {
        app.engine.change_account(Scope::OPERATOR, customer.account.id, change).await.unwrap();
    };
    let unknown = "/v2/endpoint/wh_00000000000000000000000000000000";

    let not_found = app.call(&customer.key, Method::DELETE, unknown, "").await;
    insta::assert_snapshot!(not_found.shown(), @r#"
    404
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":10104,"msg":"Record not found","data":null}
    "#);
    let wrong_key = app.get("nonsense", "/v2/endpoints").await;
    insta::assert_snapshot!(wrong_key.shown(), @r#"
    401
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":10105,"msg":"Invalid API key","data":null}
    "#);
    let invalid = app.post(&customer.key, "/v2/endpoint", "{}").await;
    insta::assert_snapshot!(invalid.shown(), @r#"
    400
    cache-control: no-store
    content-type: application/json
    x-ratelimit-limit: 20
    x-ratelimit-remaining: 19
    x-ratelimit-reset: 1705314661
    x-request-id: RID

    {"rid":"RID","code":40000,"msg":"Parameter error: url is required; status is required; events is required","data":null}
    "#);
    set(change(Some(Some(0)), None)).await;
    let no_credit = app.post(&customer.key, "/v2/endpoint", ADD).await;
    insta::assert_snapshot!(no_credit.shown(), @r#"
    402
    cache-control: no-store
    content-type: application/json
    x-ratelimit-limit: 20
    x-ratelimit-remaining: 18
    x-ratelimit-reset: 1705314661
    x-request-id: RID

    {"rid":"RID","code":18020,"msg":"Insufficient credit","data":null}
    "#);
    set(change(None, Some(false))).await;
    let no_access = app.get(&customer.key, "/v2/events").await;
    insta::assert_snapshot!(no_access.shown(), @r#"
    403
    cache-control: no-store
    content-type: application/json
    x-request-id: RID

    {"rid":"RID","code":18025,"msg":"No permission to call APIs","data":null}
    "#);
    set(change(Some(None), Some(true))).await;
    for _ in 0..18 {
        app.post(&customer.key, "/v2/endpoint", "{}").await;
    }
    let too_many = app.post(&customer.key, "/v2/endpoint", ADD).await;
    insta::assert_snapshot!(too_many.shown(), @r#"
    429
    cache-control: no-store
    content-type: application/json
    retry-after: 60
    x-ratelimit-limit: 20
    x-ratelimit-remaining: 0
    x-ratelimit-reset: 1705314661
    x-request-id: RID

    {"rid":"RID","code":429,"msg":"Rate limit exceeded. Please try again later.","data":null}
    "#);
    app.pass(Duration::from_mins(1));
    app.engine.stop(Duration::ZERO).await.unwrap();
    let our_fault = app.post(&customer.key, "/v2/endpoint", ADD).await;
    insta::assert_snapshot!(our_fault.shown(), @r#"
    500
    cache-control: no-store
    content-type: application/json
    retry-after: 2
    x-ratelimit-limit: 20
    x-ratelimit-remaining: 19
    x-ratelimit-reset: 1705314721
    x-request-id: RID

    {"rid":"RID","code":50000,"msg":"System error","data":null}
    "#);
}

#[tokio::test(start_paused = true)]
async fn always_200_answers_every_refusal_with_200_and_the_same_body() {
    let app = App::start_with(HttpStatus::Always200, Settings::default()).await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    let key = &customer.key;
    let delete = app.call(key, Method::DELETE, "/v2/endpoint/wh_1", "").await;
    assert_eq!(refusal(&delete), (10104, 200));
    assert_eq!(refusal(&app.get("nonsense", "/v2/events").await), (10105, 200));
    assert_eq!(refusal(&app.get(key, "/v2/nothing").await), (10104, 200));
    assert_eq!(refusal(&app.call(key, Method::PATCH, "/v2/events", "").await), (40000, 200));
    for _ in 0..20 {
        assert_eq!(refusal(&app.post(key, "/v2/endpoint", "{}").await), (40000, 200));
    }
    let too_many = app.post(key, "/v2/endpoint", ADD).await;
    assert_eq!(refusal(&too_many), (429, 200));
    assert_eq!(too_many.header("retry-after"), Some("60"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_field_is_named_with_what_is_wrong() {
    let (app, customer) = app_and_customer().await;
    let good = json!({"url": URL, "status": "enabled", "events": ["generated_script_failed"]});
    let added = app.post(&customer.key, "/v2/endpoint", &good.to_string()).await;
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    let cases = [
        ("url", None, "Parameter error: url is required"),
        ("url", Some(json!(null)), "Parameter error: url is required"),
        ("url", Some(json!(7)), "Parameter error: url: must be a string"),
        ("url", Some(json!("")), "Parameter error: url: "),
        ("url", Some(json!("http://your-domain.com/")), "Parameter error: url: "),
        ("url", Some(json!("https://127.0.0.1/")), "Parameter error: url: "),
        ("url", Some(json!("https://user@your-domain.com/")), "Parameter error: url: "),
        ("status", None, "Parameter error: status is required"),
        ("status", Some(json!("on")), "Parameter error: status: must be `enabled` or `disabled`"),
        ("status", Some(json!("Enabled")), "Parameter error: status: must be "),
        ("status", Some(json!(true)), "Parameter error: status: must be `enabled` or `disabled`"),
        ("events", None, "Parameter error: events is required"),
        ("events", Some(json!([])), "Parameter error: events: must name at least one"),
        (
            "events",
            Some(json!("generated_script_failed")),
            "Parameter error: events: must be an array",
        ),
        ("events", Some(json!([1])), "Parameter error: events: must be an array of strings"),
        (
            "events",
            Some(json!(["generated_script_faild"])),
            "Parameter error: events: contains the unknown event `generated_script_faild`; did you mean `generated_script_failed`",
        ),
        ("events", Some(json!(["video.created"])), "Parameter error: events: contains the unknown"),
    ];
    for (field, value, expected) in cases {
        let mut body = good.clone();
        match &value {
            Some(value) => body[field] = value.clone(),
            None => drop(body.as_object_mut().unwrap().remove(field)),
        }
        app.pass(Duration::from_mins(1));
        for (method, path) in [(Method::POST, "/v2/endpoint"), (Method::PUT, path.as_str())] {
            let answer = app.call(&customer.key, method, path, &body.to_string()).await;
            assert_eq!(refusal(&answer), (40000, 400), "{field} {value:?}");
            assert!(message(&answer).starts_with(expected), "{}", message(&answer));
        }
    }
    let listed = app.get(&customer.key, "/v2/endpoints").await;
    assert_eq!(listed.json()["data"]["endpoints"], json!([added.json()["data"]]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_json_object_is_refused_with_what_to_send() {
    let (app, customer) = app_and_customer().await;
    let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(64), "]".repeat(64));
    let cases = [
        ("", "the request body is empty; send a JSON object"),
        ("{", "the request body is not valid JSON (line 1, column 1)"),
        ("url=https%3A%2F%2Fa.com", "the request body is not valid JSON (line 1, column 1)"),
        ("[]", "the request body must be a JSON object"),
        ("null", "the request body must be a JSON object"),
        ("{} {}", "the request body is not valid JSON (line 1, column 4)"),
        (&deep, "the request body is nested deeper than 64 levels"),
    ];
    for (body, expected) in cases {
        let answer = app.post(&customer.key, "/v2/endpoint", body).await;
        assert_eq!(refusal(&answer), (40000, 400), "{body}");
        assert_eq!(message(&answer), format!("Parameter error: {expected}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_must_say_json_or_nothing() {
    let (app, customer) = app_and_customer().await;
    let send = async |content_type: Option<&str>| {
        let request = Request::post("/v2/endpoint").header("x-api-key", &customer.key);
        let request = match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        };
        app.send(request.body(Body::from(ADD)).unwrap()).await
    };
    assert_eq!(send(None).await.status, 200);
    assert_eq!(send(Some("application/json; charset=utf-8")).await.status, 200);
    let refused = send(Some("application/x-www-form-urlencoded")).await;
    assert_eq!(refusal(&refused), (40000, 400));
    assert_eq!(
        message(&refused),
        "Parameter error: the request must be sent with `Content-Type: application/json`"
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_over_its_bound_is_refused_without_reading_on() {
    let (app, customer) = app_and_customer().await;
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let endless = stream::repeat_with(move || {
        counted.fetch_add(1024, Ordering::SeqCst);
        Ok::<_, std::io::Error>(vec![b' '; 1024])
    });
    let request = Request::post("/v2/endpoint").header("x-api-key", &customer.key);
    let answer = app.send(request.body(Body::from_stream(endless)).unwrap()).await;
    assert_eq!(refusal(&answer), (40000, 413));
    assert!(read.load(Ordering::SeqCst) <= REQUEST_BODY_BYTES_MAX + 1024);

    let padded = |length: usize| format!("{ADD}{}", " ".repeat(length - ADD.len()));
    let largest = padded(REQUEST_BODY_BYTES_MAX);
    assert_eq!(app.post(&customer.key, "/v2/endpoint", &largest).await.status, 200);
    let too_large = padded(REQUEST_BODY_BYTES_MAX + 1);
    let answer = app.post(&customer.key, "/v2/endpoint", &too_large).await;
    assert_eq!(refusal(&answer), (40000, 413));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let (app, customer) = app_and_customer().await;
    let never = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let request = Request::post("/v2/endpoint").header("x-api-key", &customer.key);
    let answer = app.send(request.body(never).unwrap()).await;
    assert_eq!(refusal(&answer), (40000, 408));
}

#[tokio::test(start_paused = true)]
async fn unknown_paths_and_wrong_methods_answer_in_the_envelope() {
    let (app, customer) = app_and_customer().await;
    let key = &customer.key;
    let cases = [
        (Method::GET, "/v2", (10104, 404), None),
        (Method::GET, "/v2/", (10104, 404), None),
        (Method::GET, "/v2/endpoints/", (10104, 404), None),
        (Method::POST, "/v2/endpoint/", (10104, 404), None),
        (Method::PUT, "/v2/endpoint/", (10104, 404), None),
        (Method::GET, "/v2/endpoint/a/b", (10104, 404), None),
        (Method::GET, "/v2/videos", (10104, 404), None),
        (Method::DELETE, "/v2/endpoint/%ff", (10104, 404), None),
        (Method::DELETE, "/v2/endpoint/wh_1", (10104, 404), None),
        (Method::POST, "/v2/endpoints", (40000, 405), Some("GET")),
        (Method::OPTIONS, "/v2/events", (40000, 405), Some("GET")),
        (Method::GET, "/v2/endpoint", (40000, 405), Some("POST")),
        (Method::OPTIONS, "/v2/endpoint", (40000, 405), Some("POST")),
        (Method::GET, "/v2/endpoint/wh_1", (40000, 405), Some("PUT, DELETE")),
        (Method::PATCH, "/v2/endpoint/wh_1", (40000, 405), Some("PUT, DELETE")),
    ];
    for (method, path, expected, allow) in cases {
        let answer = app.call(key, method.clone(), path, "").await;
        assert_eq!(refusal(&answer), expected, "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    // The answer to HEAD has no body (RFC 9110, section 9.3.2).
    for path in ["/v2/endpoints", "/v2/events"] {
        let answer = app.call(key, Method::HEAD, path, "").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (405, ""));
        assert_eq!(answer.header("allow"), Some("GET"));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_key_of_a_jogg_v2_account_opens_this_api() {
    let settings = Settings {
        bootstrap_operator_key: Some("an operator key of 32 characters!".to_owned()),
        ..Settings::default()
    };
    let app = App::start_with(HttpStatus::Mapped, settings).await;
    let customer = app.customer("johndoe", Contract::JoggV2).await;
    let konpro = app.customer("user123", Contract::KonproV1).await;
    let standard = app.customer("native", Contract::Standard).await;
    let operator = "an operator key of 32 characters!";
    let mut altered = customer.key.clone();
    altered.pop();
    for key in ["", "nonsense", operator, &altered, &konpro.key, &standard.key] {
        for (method, path) in [
            (Method::GET, "/v2/endpoints"),
            (Method::POST, "/v2/endpoint"),
            (Method::PUT, "/v2/endpoint/wh_1"),
            (Method::DELETE, "/v2/endpoint/wh_1"),
            (Method::GET, "/v2/events"),
        ] {
            let answer = app.call(key, method, path, "").await;
            assert_eq!(refusal(&answer), (10105, 401), "{key} {path}");
        }
    }
    let missing = app.send(Request::get("/v2/events").body(Body::empty()).unwrap()).await;
    assert_eq!(refusal(&missing), (10105, 401));
    let bearer =
        Request::get("/v2/events").header("authorization", format!("Bearer {}", customer.key));
    assert_eq!(refusal(&app.send(bearer.body(Body::empty()).unwrap()).await), (10105, 401));
}

#[tokio::test(start_paused = true)]
async fn another_accounts_endpoint_is_as_unknown_as_none() {
    let (app, owner) = app_and_customer().await;
    let stranger = app.customer("stranger", Contract::JoggV2).await;
    let added = app.post(&owner.key, "/v2/endpoint", ADD).await;
    let theirs = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    let nobodys = "/v2/endpoint/wh_00000000000000000000000000000002";
    for (method, body) in [(Method::PUT, ADD), (Method::DELETE, "")] {
        let foreign = app.call(&stranger.key, method.clone(), &theirs, body).await;
        let unknown = app.call(&stranger.key, method, nobodys, body).await;
        assert_eq!(refusal(&foreign), (10104, 404));
        assert_eq!(foreign.shown(), unknown.shown());
    }
    let listed = app.get(&stranger.key, "/v2/endpoints").await;
    assert_eq!(listed.json()["data"]["endpoints"], json!([]));
    let kept = app.get(&owner.key, "/v2/endpoints").await;
    assert_eq!(kept.json()["data"]["endpoints"], json!([added.json()["data"]]));
}

#[tokio::test(start_paused = true)]
async fn checks_run_in_the_order_key_access_rate_credit_body() {
    let app = App::start().await;
    let new = new_account("johndoe", Contract::JoggV2);
    let new = NewAccount { credits: Some(0), api_access: false, ..new };
    let customer = Customer::create(&app.engine, new).await;
    let post = async |key: &str| refusal(&app.post(key, "/v2/endpoint", "no JSON").await);
    let change = async |change| {
        app.engine.change_account(Scope::OPERATOR, customer.account.id, change).await.unwrap();
    };

    assert_eq!(post("nonsense").await, (10105, 401));
    for _ in 0..25 {
        assert_eq!(post(&customer.key).await, (18025, 403));
    }
    change(AccountChange { api_access: Some(true), ..AccountChange::default() }).await;
    for _ in 0..20 {
        assert_eq!(post(&customer.key).await, (18020, 402));
    }
    assert_eq!(post(&customer.key).await, (429, 429));
    change(AccountChange { credits: Some(Some(1)), ..AccountChange::default() }).await;
    assert_eq!(post(&customer.key).await, (429, 429));
    app.pass(Duration::from_mins(1));
    assert_eq!(post(&customer.key).await, (40000, 400));
}

#[tokio::test(start_paused = true)]
async fn credit_is_asked_for_on_post_only() {
    let (app, customer) = app_and_customer().await;
    let added = app.post(&customer.key, "/v2/endpoint", ADD).await;
    let path = format!("/v2/endpoint/{}", added.text("/data/endpoint_id"));
    let change = AccountChange { credits: Some(Some(-1)), ..AccountChange::default() };
    app.engine.change_account(Scope::OPERATOR, customer.account.id, change).await.unwrap();
    assert_eq!(refusal(&app.post(&customer.key, "/v2/endpoint", ADD).await), (18020, 402));
    assert_eq!(app.get(&customer.key, "/v2/endpoints").await.status, 200);
    assert_eq!(app.call(&customer.key, Method::PUT, &path, ADD).await.status, 200);
    assert_eq!(app.call(&customer.key, Method::DELETE, &path, "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_21st_post_in_60_seconds_waits_until_the_first_is_60_seconds_old() {
    let (app, customer) = app_and_customer().await;
    let post = async || app.post(&customer.key, "/v2/endpoint", "{}").await;
    for remaining in (0..20).rev() {
        let answer = post().await;
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(&*remaining.to_string()));
        app.pass(Duration::from_secs(1));
    }
    // 20 seconds have passed since the first.
    app.pass(Duration::from_millis(39_999));
    let refused = post().await;
    assert_eq!(refusal(&refused), (429, 429));
    assert_eq!(refused.header("retry-after"), Some("1"));
    // What is not counted goes on meanwhile.
    assert_eq!(app.get(&customer.key, "/v2/endpoints").await.status, 200);
    let another = app.engine.issue_key(Scope::OPERATOR, customer.account.id).await.unwrap().1;
    assert_eq!(refusal(&app.post(another.reveal(), "/v2/endpoint", "{}").await), (40000, 400));

    app.pass(Duration::from_millis(1));
    assert_eq!(refusal(&post().await), (40000, 400));
    assert_eq!(refusal(&post().await), (429, 429));
}

#[tokio::test(start_paused = true)]
async fn a_hundred_adds_at_once_leave_exactly_20_endpoints() {
    let (app, customer) = app_and_customer().await;
    let mut keys = vec![customer.key.clone()];
    for _ in 0..4 {
        let issued = app.engine.issue_key(Scope::OPERATOR, customer.account.id).await.unwrap();
        keys.push(issued.1.reveal().to_owned());
    }
    let adds = (0..100).map(|number| app.post(&keys[number % 5], "/v2/endpoint", ADD));

    let answers = join_all(adds).await;

    let (added, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(added.len(), 20);
    for answer in refused {
        assert_eq!(refusal(answer), (40000, 400));
        assert!(message(answer).starts_with("Parameter error: the account already has 20"));
    }
    let listed = app.get(&customer.key, "/v2/endpoints").await.json();
    assert_eq!(listed["data"]["endpoints"].as_array().unwrap().len(), 20);

    app.pass(Duration::from_mins(1));
    let path = format!("/v2/endpoint/{}", added[0].text("/data/endpoint_id"));
    app.call(&keys[0], Method::DELETE, &path, "").await;
    assert_eq!(app.post(&keys[0], "/v2/endpoint", ADD).await.status, 200);
    assert_eq!(refusal(&app.post(&keys[0], "/v2/endpoint", ADD).await), (40000, 400));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_is_an_invalid_key_at_once() {
    let (app, customer) = app_and_customer().await;
    let (record, key) = app.engine.issue_key(Scope::OPERATOR, customer.account.id).await.unwrap();
    assert_eq!(app.get(key.reveal(), "/v2/events").await.status, 200);
    app.engine.revoke_key(Scope::OPERATOR, customer.account.id, record.id).await.unwrap();
    assert_eq!(refusal(&app.get(key.reveal(), "/v2/events").await), (10105, 401));
}
