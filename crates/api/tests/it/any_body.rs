//! Bodies nobody thought of.

use std::time::Duration;

use axum::body::Body;
use domain::contract::Contract;
use http::{Method, Request};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value};

use crate::app::App;

/// Any JSON of moderate size.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "https://[a-z]{1,8}\\.com(/[ -~]{0,8})?".prop_map(Value::from),
        Just(Value::from("enabled")),
        Just(Value::from("generated_script_failed")),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,9}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Any body, most of them objects with members that are asked for.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let names = vec!["url", "status", "events", "entity_id", "endpoint_id"];
    let member = (prop::sample::select(names), json());
    let object = prop::collection::vec(member, 0..6).prop_map(|members| {
        let members: Map<_, _> =
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Value::Object(members).to_string().into_bytes()
    });
    prop_oneof![
        4 => object,
        1 => json().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
    ]
}

#[test]
fn whatever_is_sent_is_taken_or_refused_in_the_envelope_and_never_our_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let (app, jogg, konpro) = runtime.block_on(async {
        let app = App::start().await;
        let jogg = app.customer("johndoe", Contract::JoggV2).await;
        let konpro = app.customer("user123", Contract::KonproV1).await;
        (app, jogg, konpro)
    });
    let calls = [
        (&jogg.key, Method::POST, "/v2/endpoint"),
        (&jogg.key, Method::PUT, "/v2/endpoint/wh_00000000000000000000000000000000"),
        (&konpro.key, Method::POST, "/v1/webhook/endpoint.add"),
        (&konpro.key, Method::PATCH, "/v1/webhook/endpoint.update"),
    ];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(256));
    runner
        .run(&body(), |body| {
            app.pass(Duration::from_mins(1));
            for (key, method, path) in &calls {
                let request =
                    Request::builder().method(method).uri(*path).header("x-api-key", *key);
                let request = request.body(Body::from(body.clone())).unwrap();
                let answer = runtime.block_on(app.send(request));
                let json = answer.json();
                prop_assert!(matches!(answer.status.as_u16(), 200 | 400 | 404), "{:?}", answer);
                let is_taken = answer.status == 200;
                if path.starts_with("/v2") {
                    prop_assert!(answer.body.starts_with(r#"{"rid":""#), "{:?}", answer);
                    prop_assert_eq!(json["code"] == 0, is_taken);
                } else {
                    prop_assert_eq!(json.get("endpoint_id").is_some(), is_taken);
                    prop_assert_eq!(json.get("error").is_some(), !is_taken);
                }
            }
            Ok(())
        })
        .unwrap();
}
