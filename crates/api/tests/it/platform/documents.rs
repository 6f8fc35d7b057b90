//! The OpenAPI document, held against the routes that exist and the specification of the APIs.

use std::collections::{BTreeMap, BTreeSet};

use http::{Method, Request};
use serde_json::Value;

use super::harness::{OPERATOR, Platform};

fn document() -> Value {
    serde_json::to_value(api::openapi_document()).unwrap()
}

/// Every operation by method and path.
fn operations(document: &Value) -> BTreeMap<String, Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations.insert(format!("{} {path}", method.to_uppercase()), operation.clone());
        }
    }
    operations
}

/// The path with an id in the place of every parameter.
fn filled(path: &str) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        filled.push('1');
        rest = after.split_once('}').unwrap().1;
    }
    filled + rest
}

#[tokio::test(start_paused = true)]
async fn every_documented_operation_is_there_and_asks_for_a_key_if_it_says_so() {
    let platform = Platform::start().await;
    for (name, operation) in operations(&document()) {
        let (method, path) = name.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(filled(path))
            .header("content-type", "application/json")
            .body(axum::body::Body::from("{}"));
        let answer = platform.app.send(request.unwrap()).await;
        let security = operation["security"].as_array().unwrap();
        let needs_key = security.iter().any(|scheme| scheme != &serde_json::json!({}));
        assert_eq!(answer.status, if needs_key { 401 } else { 200 }, "{name} {answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_built_yet_is_not_there() {
    let platform = Platform::start().await;
    for name in ["GET /metrics", "GET /"] {
        let (method, path) = name.split_once(' ').unwrap();
        let answer = platform.call(OPERATOR, method, path, "").await;
        assert_eq!(answer.status, 404, "{name}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_document_is_served_as_openapi_3_1() {
    let platform = Platform::start().await;
    let answer = platform.get("", "/openapi.json").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json(), document());
    assert_eq!(answer.text("/openapi"), "3.1.0");
}

/// Operations that do one thing or another.
const ANSWERED_IN_TWO_WAYS: [&str; 3] = ["startReplay", "putEventType", "putOperationsAccount"];

/// How the paths of operations end whose body says nothing.
const BODYLESS: [&str; 6] =
    ["/keys", "/deliveries/{id}/replay", "/cancel", "/erase", "/reload", "/operations-account"];

#[test]
fn every_operation_is_described_in_full() {
    let document = document();
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].clone().to_string())
        .collect();
    let schemes = &document["components"]["securitySchemes"];
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} is there twice");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        for tag in operation["tags"].as_array().unwrap() {
            assert!(tags.contains(&tag.to_string()), "{name} has the undescribed tag {tag}");
        }
        let responses = operation["responses"].as_object().unwrap();
        let success: Vec<_> = responses.keys().filter(|status| status.starts_with('2')).collect();
        let answers = if ANSWERED_IN_TWO_WAYS.contains(&id) { 2 } else { 1 };
        assert_eq!(success.len(), answers, "{name}");
        for status in success {
            assert!(
                status == "204" || responses[status]["content"].is_object(),
                "{name} does not show its answer"
            );
        }
        for (scheme, _) in operation["security"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|requirement| requirement.as_object().unwrap())
        {
            assert!(schemes[scheme].is_object(), "{name} needs the undescribed key {scheme}");
        }
        let path = name.split_once(' ').unwrap().1;
        let parameters: BTreeSet<_> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        let in_path: BTreeSet<_> = path
            .split('{')
            .skip(1)
            .map(|after| after.split_once('}').unwrap().0.to_owned())
            .collect();
        assert_eq!(parameters, in_path, "{name}");
        let writes = ["POST ", "PUT ", "PATCH "].iter().any(|method| name.starts_with(method));
        let bodyless = BODYLESS.iter().any(|end| name.ends_with(end));
        assert_eq!(operation["requestBody"].is_object(), writes && !bodyless, "{name}");
        if path.starts_with("/api/") {
            let headers = operation["responses"]["429"]["headers"].as_object().unwrap();
            let headers: Vec<_> = headers.keys().map(String::as_str).collect();
            assert_eq!(headers, ["RateLimit", "RateLimit-Policy", "Retry-After"], "{name}");
        }
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn check(value: &Value, document: &Value, seen: &mut usize) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member.as_str() {
                        Some(reference) if name == "$ref" => {
                            let pointer = reference.strip_prefix('#').unwrap();
                            assert!(document.pointer(pointer).is_some(), "{reference}");
                            *seen += 1;
                        }
                        _ => check(member, document, seen),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, document, seen)),
            _ => {}
        }
    }
    let document = document();
    let mut seen = 0;
    check(&document, &document, &mut seen);
    assert!(seen > 100, "only {seen}");
}

/// The names in `` there are `a`, `b` ``.
fn named_in(reason: &str) -> BTreeSet<String> {
    let list = reason.split_once("there are ").unwrap().1;
    list.split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_fields_and_parameters_that_are_documented_are_those_that_are_read() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", domain::contract::Contract::Standard).await;
    let document = document();
    let mut checked = 0;
    for (name, operation) in operations(&document) {
        if !name.contains(" /api/v1/") {
            continue;
        }
        let (method, path) = name.split_once(' ').unwrap();
        let path = path
            .replace("accounts/{id}", &format!("accounts/{}", owner.id))
            .replace("endpoints/{id}", "endpoints/wh_0123456789abcdef0123456789abcdee")
            .replace("deliveries/{id}", "deliveries/dlv_0123456789abcdef0123456789abcdef")
            .replace("{contract}", "standard")
            .replace("{name}", "video.created");
        if operation["requestBody"].is_object() {
            let text = operation["requestBody"]["content"]["application/json"].to_string();
            let at = text.find("#/components").unwrap();
            let reference = text[at + 1..].split('"').next().unwrap();
            let schema = document.pointer(reference).unwrap();
            let documented: BTreeSet<String> =
                schema["properties"].as_object().unwrap().keys().cloned().collect();
            let answer = platform.call(OPERATOR, method, &path, r#"{"colour":"red"}"#).await;
            let errors = answer.json()["errors"].clone();
            let errors = errors.as_array().unwrap();
            let unknown = errors.iter().find(|error| error["field"] == "colour").unwrap();
            assert_eq!(named_in(unknown["reason"].as_str().unwrap()), documented, "{name}");
            checked += 1;
        }
        let documented: BTreeSet<String> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        if !documented.is_empty() {
            let answer = platform.call(OPERATOR, method, &format!("{path}?colour=red"), "").await;
            assert_eq!(answer.status, 422, "{name} {answer:?}");
            let reason = answer.text("/errors/0/reason");
            assert_eq!(named_in(&reason), documented, "{name}");
            checked += 1;
        }
    }
    assert_eq!(checked, 21);
}
