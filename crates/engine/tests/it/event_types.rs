//! Event types: what an operator registers may be published and subscribed to, and data must meet
//! its schema.

use std::sync::Arc;

use bytes::Bytes;
use domain::account::Account;
use domain::contract::Contract;
use domain::event::IdempotencyKey;
use domain::page::PageRequest;
use engine::administer::{Events, NewEndpoint};
use engine::event_types::{ListedType, NewEventType};
use engine::publish::{Publish, Published};
use engine::scope::Scope;
use engine::{Engine, EngineError, ErrorCode};
use store::fault::{FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::ScriptedSender;

use crate::harness::{Scene, as_account};

const SCHEMA: &str = r#"{"type":"object","required":["id"],
    "properties":{"id":{"type":"string","pattern":"^v[0-9]+$"},"size":{"type":"integer"}}}"#;

fn with(schema: Option<&str>, sample: Option<&str>) -> NewEventType {
    NewEventType {
        description: None,
        schema: schema.map(str::to_owned),
        sample: sample.map(str::to_owned),
    }
}

async fn put(engine: &Engine, name: &str, new: NewEventType) -> Result<bool, EngineError> {
    let put = engine.put_event_type(Scope::OPERATOR, Contract::JoggV2, name, new).await;
    put.map(|(_, is_new)| is_new)
}

async fn publish(
    engine: &Engine,
    account: &Account,
    name: &str,
    data: &'static str,
) -> Result<Published, EngineError> {
    let publish = Publish {
        account: account.id.to_string(),
        event_type: name.to_owned(),
        data: Bytes::from_static(data.as_bytes()),
        ..Publish::default()
    };
    engine.publish(Scope::OPERATOR, publish, None).await
}

async fn list(engine: &Engine, contract: Contract) -> Vec<ListedType> {
    let page = PageRequest::LARGEST;
    engine.list_event_types(Scope::OPERATOR, contract, page).await.unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_registered_type_may_be_published_and_subscribed_to_until_it_is_taken_out() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::JoggV2, "john").await;
    let error = publish(engine, &account, "video_ready", "{}").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Invalid);

    assert!(put(engine, "video_ready", NewEventType::default()).await.unwrap());
    let new = NewEndpoint {
        url: "https://hooks.customer.com/a".to_owned(),
        events: Events::Listed(vec!["video_ready".to_owned()]),
        ..NewEndpoint::default()
    };
    engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    let published = publish(engine, &account, "video_ready", "{}").await.unwrap();
    assert_eq!(published.deliveries, 1);
    let names = engine.event_type_names(Contract::JoggV2).await.unwrap();
    assert_eq!(names.len(), 23);
    assert_eq!(names[22], "video_ready");
    let error = publish(engine, &account, "video_raedy", "{}").await.unwrap_err();
    assert!(error.message().contains("the nearest are `video_ready`, `"), "{error}");

    let operator = Scope::OPERATOR;
    engine.delete_event_type(operator, Contract::JoggV2, "video_ready").await.unwrap();
    assert!(publish(engine, &account, "video_ready", "{}").await.is_err());
    assert_eq!(engine.event_type_names(Contract::JoggV2).await.unwrap().len(), 22);
    let again = engine.delete_event_type(operator, Contract::JoggV2, "video_ready").await;
    assert_eq!(again.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn data_that_does_not_meet_its_schema_is_refused_with_the_places() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::JoggV2, "john").await;
    let table: [(&'static str, &[(&str, &str)]); 5] = [
        (r#"{"id":"v1","size":3}"#, &[]),
        (r#"{"size":3}"#, &[("data", "\"id\" is a required property")]),
        (r#"{"id":"w1","size":3}"#, &[("data/id", "does not match \"^v[0-9]+$\"")]),
        (
            r#"{"id":5,"size":"x"}"#,
            &[
                ("data/id", "is not of type \"string\""),
                ("data/size", "is not of type \"integer\""),
            ],
        ),
        (r#"{"id":"v1","size":3,"more":true}"#, &[]),
    ];
    put(engine, "video_ready", with(Some(SCHEMA), None)).await.unwrap();
    for (data, wrong) in table {
        let published = publish(engine, &account, "video_ready", data).await;
        let violations = published.map_or_else(|error| error.violations().to_vec(), |_| Vec::new());
        let told: Vec<_> =
            violations.iter().map(|it| (it.field.as_str(), it.reason.as_str())).collect();
        assert_eq!(told, wrong, "{data}");
    }
    // A change holds from its answer on.
    assert!(!put(engine, "video_ready", NewEventType::default()).await.unwrap());
    publish(engine, &account, "video_ready", r#"{"size":3}"#).await.unwrap();
    // Many faults are told in a few.
    let list = r#"{"type":"object","additionalProperties":{"type":"integer"}}"#;
    put(engine, "video_ready", with(Some(list), None)).await.unwrap();
    let data = r#"{"a":"","b":"","c":"","d":"","e":"","f":"","g":""}"#;
    let error = publish(engine, &account, "video_ready", data).await.unwrap_err();
    assert_eq!(error.violations().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_registered_of_a_documented_type_adds_to_it_and_falls_back() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let name = "generated_video_success";
    let documented = list(engine, Contract::JoggV2).await;
    assert_eq!(documented.len(), 22);
    assert_eq!(documented[0].name, name);
    assert_eq!(documented[0].registered, None);

    let new = NewEventType { description: Some("Ready".to_owned()), ..NewEventType::default() };
    assert!(put(engine, name, new.clone()).await.unwrap());
    let now = list(engine, Contract::JoggV2).await;
    assert_eq!(now.len(), 22);
    assert_eq!(now[0].description.as_deref(), Some("Ready"));
    assert_eq!(now[0].sample, documented[0].sample);
    let (created_at, updated_at) = now[0].registered.unwrap();
    assert_eq!(created_at, updated_at);

    scene.pass(std::time::Duration::from_secs(5)).await;
    put(engine, name, new).await.unwrap();
    assert_eq!(list(engine, Contract::JoggV2).await, now, "nothing changed");
    put(engine, name, with(None, Some(r#"{"x":1}"#))).await.unwrap();
    let changed = &list(engine, Contract::JoggV2).await[0];
    assert_eq!(changed.description, documented[0].description);
    assert_eq!(changed.sample.as_deref(), Some(r#"{"x":1}"#));
    assert!(changed.registered.unwrap().1 > created_at);
    assert_eq!(changed.registered.unwrap().0, created_at);

    engine.delete_event_type(Scope::OPERATOR, Contract::JoggV2, name).await.unwrap();
    assert_eq!(list(engine, Contract::JoggV2).await, documented);
}

#[tokio::test(start_paused = true)]
async fn a_test_event_carries_the_registered_sample() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = scene.endpoint(&account, "https://hooks.customer.com/a").await;
    let register = async |name: &str, new| {
        engine.put_event_type(Scope::OPERATOR, Contract::Standard, name, new).await.unwrap();
    };
    register("video.ready", with(Some(SCHEMA), None)).await;
    let sent = async |name: Option<&str>| {
        let published = engine.publish_test(Scope::OPERATOR, endpoint.id, name).await?;
        let story = engine.event(Scope::OPERATOR, published.id).await.unwrap().event;
        let data = String::from_utf8(story.data.unwrap().to_vec()).unwrap();
        Ok::<_, EngineError>((story.event.event_type.to_string(), data))
    };
    assert_eq!(sent(None).await.unwrap().0, "postrider.test");
    let error = sent(Some("video.ready")).await.unwrap_err();
    assert!(error.message().starts_with("type: `video.ready` has a schema"), "{error}");
    let sample = r#"{ "id" : "v7" }"#;
    register("video.ready", with(Some(SCHEMA), Some(sample))).await;
    let expected = ("video.ready".to_owned(), sample.to_owned());
    assert_eq!(sent(None).await.unwrap(), expected);
    assert_eq!(sent(Some("video.ready")).await.unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_account_reads_the_types_of_its_own_contract_and_changes_none() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let own = as_account(&scene.account(Contract::KonproV1, "john").await);
    let page = PageRequest::LARGEST;
    let name = "avatar_video.success";
    let listed = engine.list_event_types(own, Contract::KonproV1, page).await.unwrap();
    assert_eq!(listed.items.len(), 7);
    assert_eq!(engine.event_type(own, Contract::KonproV1, name).await.unwrap().name, name);
    for other in [Contract::JoggV2, Contract::Standard] {
        let error = engine.list_event_types(own, other, page).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::NotFound);
        assert!(engine.event_type(own, other, name).await.is_err());
    }
    let put = engine.put_event_type(own, Contract::KonproV1, name, NewEventType::default()).await;
    assert_eq!(put.unwrap_err().code(), ErrorCode::NotFound);
    let deleted = engine.delete_event_type(own, Contract::KonproV1, name).await;
    assert_eq!(deleted.unwrap_err().code(), ErrorCode::NotFound);
    let unknown = engine.event_type(own, Contract::KonproV1, "nothing").await;
    assert_eq!(unknown.unwrap_err().code(), ErrorCode::NotFound);
}

#[tokio::test(start_paused = true)]
async fn event_types_are_listed_page_by_page() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    for name in ["zebra", "ape"] {
        put(engine, name, NewEventType::default()).await.unwrap();
    }
    let (mut names, mut page) = (Vec::new(), PageRequest { before: None, limit: 5 });
    loop {
        let found = engine.list_event_types(Scope::OPERATOR, Contract::JoggV2, page).await.unwrap();
        assert!(found.items.len() <= 5);
        names.extend(found.items.into_iter().map(|listed| listed.name));
        let Some(before) = found.next_before else { break };
        page.before = Some(before);
    }
    assert_eq!(names, engine.event_type_names(Contract::JoggV2).await.unwrap());
    assert_eq!(names[22..], ["ape", "zebra"]);
    let beyond = PageRequest { before: Some(u128::MAX), limit: 5 };
    let found = engine.list_event_types(Scope::OPERATOR, Contract::JoggV2, beyond).await.unwrap();
    assert_eq!((found.items.len(), found.next_before), (0, None));
}

#[tokio::test(start_paused = true)]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn what_is_no_schema_or_does_not_meet_it_is_refused_when_it_is_set() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let long = format!(r#"{{"title":"{}"}}"#, "x".repeat(32 * 1024));
    let deep = format!(r#"{{"not":{}{{}}{}}}"#, r#"{"not":"#.repeat(64), "}".repeat(64));
    let chain = |length: usize, end: &str| {
        let links: Vec<_> =
            (0..length).map(|n| format!(r##""{n}":{{"$ref":"#/$defs/{}"}}"##, n + 1)).collect();
        let links = links.join(",");
        format!(r##"{{"$ref":"#/$defs/0","$defs":{{{links},"{length}":{end}}}}}"##)
    };
    let too_many = chain(600, "{}");
    let each_level = chain(10, r##"{"items":{"$ref":"#"}}"##);
    let doubling = r##"{"allOf":[{"items":{"$ref":"#"}},{"items":{"$ref":"#"}}]}"##;
    let laughs: Vec<_> = (0..40)
        .map(|n| {
            format!(
                r##""{n}":{{"allOf":[{{"$ref":"#/$defs/{0}"}},{{"$ref":"#/$defs/{0}"}}]}}"##,
                n + 1
            )
        })
        .collect();
    let laughs = format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"40":{{}}}}}}"##, laughs.join(","));
    // A property may be named as a keyword is, and be a schema all the same.
    let hidden = |schema: &str| {
        let names = ["default", "const", "enum", "example", "examples"];
        names.map(|name| format!(r#"{{"properties":{{"{name}":{schema}}}}}"#))
    };
    let hidden_reference = hidden(r##"{"$ref":"#place"}"##);
    let hidden_recursion = hidden(r##"{"$dynamicRef":"#place"}"##);
    let hidden_base = hidden(r#"{"$id":"https://example.com/b"}"#);
    let hidden_old_base = hidden(r#"{"id":"https://example.com/b"}"#);
    let links: Vec<_> = (0..27)
        .map(|n| {
            format!(
                r##""{n}":{{"allOf":[{{"$ref":"#/$defs/default/properties/{0}"}},
                    {{"$ref":"#/$defs/default/properties/{0}"}}]}}"##,
                n + 1
            )
        })
        .collect();
    let hidden_laughs = format!(
        r##"{{"$ref":"#/$defs/default/properties/0",
            "$defs":{{"default":{{"properties":{{{},"27":{{}}}}}}}}}}"##,
        links.join(",")
    );
    for (schemas, reason) in [
        (&hidden_reference, "schema: has a reference at `/properties/"),
        (&hidden_recursion, "schema: has a `$dynamicRef` at `/properties/"),
        (&hidden_base, "schema: has an `$id` at `/properties/"),
        (&hidden_old_base, "schema: has an `id` at `/properties/"),
    ] {
        for schema in schemas {
            let error = put(engine, "video_ready", with(Some(schema), None)).await;
            let error = error.expect_err(schema);
            assert!(error.message().starts_with(reason), "{schema}: {error}");
        }
    }
    let table = [
        ("[]", "schema: must be a JSON object"),
        (hidden_laughs.as_str(), "schema: takes too long: a recursion"),
        (
            r##"{"default":{"type":"string"},"$ref":"#/default"}"##,
            "schema: has a reference at `/$ref` that does not lead",
        ),
        (
            r##"{"properties":{"a":{}},"$ref":"#/properties"}"##,
            "schema: has a reference at `/$ref` that does not lead",
        ),
        (
            r#"{"items":{"$schema":"http://json-schema.org/draft-04/schema#"}}"#,
            "schema: has a `$schema` at `/items/$schema`",
        ),
        (r#"{"type":"strange"}"#, "schema: is not a JSON Schema at `/type`: "),
        (
            r#"{"properties":{"a":{"pattern":"("}}}"#,
            "schema: is not a JSON Schema at `/properties/a/pattern`: ",
        ),
        (r#"{"pattern":"(?=x)"}"#, "schema: is not a JSON Schema at `/pattern`: "),
        (
            r#"{"$ref":"https://example.com/schema.json"}"#,
            "schema: has a reference at `/$ref` that does not lead",
        ),
        (
            r#"{"$ref":"file:///etc/passwd"}"#,
            "schema: has a reference at `/$ref` that does not lead",
        ),
        (
            r##"{"properties":{"a":{"$ref":"#/$defs/b"}}}"##,
            "schema: has a reference at `/properties/a/$ref` that",
        ),
        (r##"{"$ref":"#"}"##, "schema: has a reference that leads back to itself"),
        (
            r##"{"allOf":[{"anyOf":[{"$ref":"#"}]}]}"##,
            "schema: has a reference that leads back to itself",
        ),
        (r##"{"$dynamicRef":"#a"}"##, "schema: has a `$dynamicRef` at `/$dynamicRef`; use `$ref`"),
        (r#"{"items":{"$id":"https://example.com/b"}}"#, "schema: has an `$id` at `/items/$id`"),
        (r#"{"$schema":"https://example.com/own"}"#, "schema: is not a JSON Schema at "),
        (doubling, "schema: takes too long: a recursion"),
        (laughs.as_str(), "schema: takes too long: a recursion"),
        (too_many.as_str(), "schema: has more than 512 schemas within one another"),
        (each_level.as_str(), "schema: has more than 512 schemas within one another"),
        (long.as_str(), "schema: has more than 32768 bytes"),
        (deep.as_str(), "schema: is nested deeper than 64 levels"),
    ];
    for (schema, reason) in table {
        let error = put(engine, "video_ready", with(Some(schema), None)).await.expect_err(schema);
        assert!(error.message().starts_with(reason), "{schema}: {error}");
        assert!(error.message().len() < 1_000);
    }
    // No way through data leads to more than one of two properties.
    let branching: Vec<_> = (0..60)
        .map(|n| {
            let to = format!(r##"{{"$ref":"#/$defs/{}"}}"##, n + 1);
            format!(r#""{n}":{{"properties":{{"a":{to},"b":{to}}}}}"#)
        })
        .collect();
    let branching =
        format!(r##"{{"$ref":"#/$defs/0","$defs":{{{},"60":{{}}}}}}"##, branching.join(","));
    for good in [
        "{}",
        SCHEMA,
        r##"{"$id":"https://example.com/a","items":{"$ref":"#/$defs/b"},"$defs":{"b":true}}"##,
        r##"{"properties":{"left":{"$ref":"#"},"right":{"$ref":"#"},"all":{"items":{"$ref":"#"}}}}"##,
        r#"{"const":{"$ref":"https://example.com/"},"enum":[{"$ref":"no"}]}"#,
        r#"{"properties":{"id":{"type":"string"},"$ref":{"type":"string"},"default":{"enum":[1]}}}"#,
        r##"{"properties":{"default":{"const":1},"a":{"$ref":"#/properties/default"}}}"##,
        branching.as_str(),
        r#"{"$schema":"http://json-schema.org/draft-07/schema#","format":"email"}"#,
    ] {
        put(engine, "video_ready", with(Some(good), None)).await.expect(good);
    }
    let refused = async |name: &str, new| put(engine, name, new).await.unwrap_err().to_string();
    assert_eq!(
        refused("video_ready", with(Some(SCHEMA), Some(r#"{"id":"w"}"#))).await,
        "sample/id: does not match \"^v[0-9]+$\""
    );
    assert_eq!(
        refused("video_ready", with(None, Some("[]"))).await,
        "sample: must be a JSON object"
    );
    assert!(
        refused("generated_video_success", with(Some(SCHEMA), None))
            .await
            .starts_with("sample: is required, because the documented sample does not meet")
    );
    assert!(
        refused("no type", NewEventType::default()).await.starts_with("name: an event type has")
    );
    let description = Some("x".repeat(1_025));
    let new = NewEventType { description, ..NewEventType::default() };
    assert_eq!(refused("video_ready", new).await, "description: must have at most 1024 bytes");
}

#[tokio::test(start_paused = true)]
async fn data_of_more_parts_than_its_schema_can_check_is_refused() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::JoggV2, "john").await;
    let list = |element: &str, count: usize| -> &'static str {
        let data = format!(r#"{{"a":[{}]}}"#, vec![element; count].join(","));
        assert!(data.len() <= 256 * 1024);
        Box::leak(data.into_boxed_str())
    };
    let listed = |schema: &str| format!(r#"{{"properties":{{"a":{{"items":{schema}}}}}}}"#);
    let arrays = listed(&format!(r#"{{"enum":[[],{}]}}"#, vec!["[1]"; 6_000].join(",")));
    let texts = listed(&format!(r#"{{"not":{{"enum":[{}]}}}}"#, vec![r#""a""#; 6_000].join(",")));
    let schemas = listed(&format!(r#"{{"allOf":[{}]}}"#, vec!["{}"; 1_000].join(",")));
    let names: Vec<_> = (0..1_000).map(|n| format!(r#""{n}":{{}}"#)).collect();
    let names = listed(&format!(r#"{{"properties":{{{}}}}}"#, names.join(",")));
    for (schema, element) in [(arrays, "[]"), (texts, "1"), (schemas, "1"), (names, "{}")] {
        put(engine, "video_ready", with(Some(&schema), None)).await.unwrap();
        let many = list(element, 60_000);
        let error = publish(engine, &account, "video_ready", many).await.unwrap_err();
        let [fault] = error.violations() else { panic!("{error}") };
        assert_eq!(fault.field, "data");
        let reason = "has too many parts (60002) for its schema, which may check each of them ";
        assert!(fault.reason.starts_with(reason), "{error}");
        publish(engine, &account, "video_ready", list(element, 200)).await.unwrap();
        let sample = with(Some(&schema), Some(list(element, 9_000)));
        let error = put(engine, "video_ready", sample).await.unwrap_err();
        assert!(error.message().starts_with("sample: has "), "{error}");
    }
    // What fills an event is checked by a usual schema.
    let usual = listed(
        r#"{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":20},
            "size":{"type":"integer","minimum":0}}}"#,
    );
    put(engine, "video_ready", with(Some(&usual), None)).await.unwrap();
    let full = list(r#"{"id":"abc","size":12}"#, 11_000);
    publish(engine, &account, "video_ready", full).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deepest_schema_looks_at_the_deepest_data_on_an_ordinary_stack() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::JoggV2, "john").await;
    // Seven schemas within one another at each of 64 levels.
    let schema = r##"{"allOf":[{"anyOf":[{"oneOf":[{"not":{"not":{
        "additionalProperties":{"$ref":"#"},"minProperties":1}}}]}]}]}"##;
    put(engine, "video_ready", with(Some(schema), None)).await.unwrap();
    for (inmost, meets) in [("1", true), ("{}", false)] {
        let levels = 64 - usize::from(!meets);
        let data = format!("{}{inmost}{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        let data: &'static str = Box::leak(data.into_boxed_str());
        let published = publish(engine, &account, "video_ready", data).await;
        assert_eq!(published.is_ok(), meets, "{published:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repetition_gets_the_first_answer_though_its_type_is_gone_or_stricter_by_now() {
    let scene = Scene::new().await;
    let engine = &scene.engine;
    let account = scene.account(Contract::JoggV2, "john").await;
    let publish = async |key: &str, hash: u8| {
        let publish = Publish {
            account: "john".to_owned(),
            event_type: "video_ready".to_owned(),
            data: Bytes::from_static(b"{}"),
            ..Publish::default()
        };
        let key = IdempotencyKey::parse(key).unwrap();
        engine.publish(as_account(&account), publish, Some((key, [hash; 32]))).await
    };
    put(engine, "video_ready", NewEventType::default()).await.unwrap();
    let first = publish("a", 1).await.unwrap();
    let check = async || {
        assert_eq!(publish("a", 1).await.unwrap(), first);
        for (key, hash) in [("a", 2), ("b", 1)] {
            let error = publish(key, hash).await.unwrap_err();
            assert_eq!(error.code(), ErrorCode::Invalid, "{key} {hash}");
        }
    };
    put(engine, "video_ready", with(Some(SCHEMA), None)).await.unwrap();
    check().await;
    engine.delete_event_type(Scope::OPERATOR, Contract::JoggV2, "video_ready").await.unwrap();
    check().await;
    assert_eq!(engine.counts(Scope::OPERATOR).await.unwrap().events, 1);
}

#[tokio::test(start_paused = true)]
async fn registered_types_are_read_once_for_all_who_need_them() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Arc::new(Scene::on(faults.clone(), ScriptedSender::new()).await);
    let account = scene.account(Contract::JoggV2, "john").await;
    let mut stall = faults.stall(Method::ListEventTypes);
    let subscribing: Vec<_> = (0..10)
        .map(|_| {
            let (scene, account) = (Arc::clone(&scene), account.id);
            tokio::spawn(async move {
                let new = NewEndpoint {
                    url: "https://hooks.customer.com/a".to_owned(),
                    events: Events::Listed(vec!["unknown".to_owned()]),
                    ..NewEndpoint::default()
                };
                scene.engine.create_endpoint(Scope::OPERATOR, account, new).await
            })
        })
        .collect();
    stall.reached_by(1).await;
    tokio::task::yield_now().await;
    stall.release();
    for subscribing in subscribing {
        let error = subscribing.await.unwrap().unwrap_err();
        assert_eq!(error.code(), ErrorCode::Invalid);
    }
    assert_eq!(faults.calls(Method::ListEventTypes), 1);
}
