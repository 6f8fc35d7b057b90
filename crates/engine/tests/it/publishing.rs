//! What is accepted, what is refused, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::contract::Contract;
use domain::event::IdempotencyKey;
use domain::matching::NoDelivery;
use engine::administer::{EndpointEdit, Events};
use engine::publish::Publish;
use engine::scope::Scope;
use engine::{EngineError, ErrorCode};
use proptest::prelude::*;

use crate::harness::{Scene, an_event, as_account};

const URL: &str = "https://hooks.customer.com/a";

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_an_event_is_said_and_nothing_is_stored() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::JoggV2, "john").await;
    let check = async |change: &dyn Fn(&mut Publish), code: ErrorCode, words: &str| {
        let mut publish = an_event(&account);
        change(&mut publish);
        let error = scene.engine.publish(Scope::OPERATOR, publish, None).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(words), "{error}");
    };
    check(&|event| event.account = "nobody".to_owned(), ErrorCode::NotFound, "`nobody`").await;
    check(
        &|event| event.event_type = "generated_vidoe_success".to_owned(),
        ErrorCode::Invalid,
        "generated_video_success",
    )
    .await;
    check(&|event| event.data = Bytes::from_static(b"[]"), ErrorCode::Invalid, "object").await;
    let large = Bytes::from(format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024)));
    check(&|event| event.data = large.clone(), ErrorCode::TooLarge, "262144").await;
    let deep = Bytes::from(format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64)));
    check(&|event| event.data = deep.clone(), ErrorCode::Invalid, "64").await;
    check(&|event| event.entity_ids = vec![String::new()], ErrorCode::Invalid, "entity").await;
    let counts = scene.engine.counts(Scope::OPERATOR).await.unwrap();
    assert_eq!(counts.events, 0);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_request_with_the_same_key_is_one_event() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let key = IdempotencyKey::parse("order-1").unwrap();
    let publish = async |hash: [u8; 32]| {
        let keyed = Some((key.clone(), hash));
        scene.engine.publish(Scope::OPERATOR, an_event(&account), keyed).await
    };
    let first = publish([1; 32]).await.unwrap();
    assert_eq!(publish([1; 32]).await.unwrap(), first);
    assert_eq!(publish([2; 32]).await.unwrap_err().code(), ErrorCode::Conflict);
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 1);
    scene.pass(Duration::from_hours(73)).await;
    assert_ne!(publish([2; 32]).await.unwrap(), first);
}

#[tokio::test(start_paused = true)]
async fn one_bad_event_of_a_batch_does_not_fail_the_others() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    let mut unknown = an_event(&account);
    unknown.account = "nobody".to_owned();
    let batch = vec![
        Ok(an_event(&account)),
        Ok(unknown),
        Err(EngineError::invalid("data", "must be a JSON object")),
        Ok(an_event(&account)),
    ];
    let answers = scene.engine.publish_batch(Scope::OPERATOR, batch).await;
    let codes: Vec<_> =
        answers.iter().map(|answer| answer.as_ref().map_err(EngineError::code).err()).collect();
    assert_eq!(codes, [None, Some(ErrorCode::NotFound), Some(ErrorCode::Invalid), None]);
    scene.drain().await;
    assert_eq!(scene.sender.requests().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_tells_for_every_endpoint_its_delivery_or_why_there_is_none() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let edit = async |url: &str, edit: EndpointEdit| {
        let endpoint = scene.endpoint(&account, url).await;
        scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap().id
    };
    let wanted = edit("https://hooks.customer.com/1", EndpointEdit::default()).await;
    let other_type = edit(
        "https://hooks.customer.com/2",
        EndpointEdit {
            events: Some(Events::Listed(vec!["other".to_owned()])),
            ..EndpointEdit::default()
        },
    )
    .await;
    let other_entity = edit(
        "https://hooks.customer.com/3",
        EndpointEdit { entity_id: Some(Some("x".to_owned())), ..EndpointEdit::default() },
    )
    .await;
    let disabled = edit(
        "https://hooks.customer.com/4",
        EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() },
    )
    .await;
    let published = scene.publish(&account).await;
    let story = scene.engine.event(Scope::OPERATOR, published.id).await.unwrap();
    let why = |endpoint| {
        let fate = story.fates.iter().find(|fate| fate.endpoint == endpoint).unwrap();
        fate.delivery.as_ref().map(|_| ()).map_err(|reason| *reason)
    };
    assert_eq!(why(wanted), Ok(()));
    assert_eq!(why(other_type), Err(NoDelivery::NotSubscribed));
    assert_eq!(why(other_entity), Err(NoDelivery::Entity));
    assert_eq!(why(disabled), Err(NoDelivery::Disabled));
    assert_eq!(story.fates.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_about_an_entity_by_name_or_by_an_id_in_its_data() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = scene.endpoint(&account, URL).await;
    let edit = EndpointEdit { entity_id: Some(Some("12345".to_owned())), ..Default::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    let publish = async |data: &'static str, entity_ids: &[&str]| {
        let mut publish = an_event(&account);
        publish.data = Bytes::from_static(data.as_bytes());
        publish.entity_ids = entity_ids.iter().map(ToString::to_string).collect();
        scene.engine.publish(Scope::OPERATOR, publish, None).await.unwrap().deliveries
    };
    assert_eq!(publish("{}", &[]).await, 0);
    assert_eq!(publish("{}", &["other", "12345"]).await, 1);
    assert_eq!(publish(r#"{"avatar_id":12345}"#, &[]).await, 1);
    assert_eq!(publish(r#"{"avatar_id":"12345"}"#, &[]).await, 1);
    assert_eq!(publish(r#"{"avatar":"12345","x":{"a_id":"12345"}}"#, &[]).await, 0);
}

#[tokio::test(start_paused = true)]
async fn an_account_publishes_to_itself_only() {
    let scene = Scene::new().await;
    let (john, _) = scene.subscriber("john", URL).await;
    let (jane, _) = scene.subscriber("jane", "https://hooks.customer.com/b").await;
    let as_john = as_account(&john);
    assert!(scene.engine.publish(as_john, an_event(&john), None).await.is_ok());
    let foreign = scene.engine.publish(as_john, an_event(&jane), None).await.unwrap_err();
    let mut nobody = an_event(&jane);
    nobody.account = jane.id.to_string().replace("acct_0", "acct_f");
    let unknown = scene.engine.publish(as_john, nobody.clone(), None).await.unwrap_err();
    assert_eq!(foreign.code(), ErrorCode::NotFound);
    assert_eq!(
        foreign.message().replace(&jane.id.to_string(), ""),
        unknown.message().replace(&nobody.account, "")
    );
}

#[tokio::test(start_paused = true)]
async fn publishing_while_endpoints_change_loses_nothing_and_sends_nothing_to_the_deleted() {
    let scene = Arc::new(Scene::new().await);
    let (account, _) = scene.subscriber("john", URL).await;
    let publisher = {
        let (scene, account) = (Arc::clone(&scene), account.clone());
        tokio::spawn(async move {
            let mut owed = 0;
            for _ in 0..500 {
                owed += scene.publish(&account).await.deliveries as usize;
                tokio::task::yield_now().await;
            }
            owed
        })
    };
    for number in 0..50 {
        let url = format!("https://hooks.customer.com/changing/{number}");
        let endpoint = scene.endpoint(&account, &url).await;
        tokio::task::yield_now().await;
        scene.engine.delete_endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
        let sent = scene.sender.requests_to(&url).len();
        tokio::task::yield_now().await;
        // What was on its way when the endpoint was deleted may still arrive; nothing else may.
        assert!(scene.sender.requests_to(&url).len() <= sent + 32);
    }
    let owed = publisher.await.unwrap();
    scene.drain().await;
    let counts = scene.engine.counts(Scope::OPERATOR).await.unwrap();
    assert_eq!(counts.created as usize, owed);
    assert_eq!(counts.delivered + counts.cancelled, counts.created);
    assert!(scene.sender.requests_to(URL).len() == 500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_bytes_published_are_the_bytes_sent_first_and_last(
        text in any::<String>(), number: i64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let scene = Scene::new().await;
            let (account, _) = scene.subscriber("john", URL).await;
            scene.sender.script(URL, vec![testkit::doubles::Reply::status(500); 2]);
            let value = serde_json::json!({ "text": text, "number": number });
            let data = format!("{{  \"inner\" :{value},\"again\":1.50}}");
            let mut publish = an_event(&account);
            publish.data = Bytes::from(data.clone());
            scene.engine.publish(Scope::OPERATOR, publish, None).await.unwrap();
            scene.drain().await;
            let requests = scene.sender.requests();
            assert_eq!(requests.len(), 3);
            for sent in requests {
                let body = std::str::from_utf8(&sent.request.body).unwrap();
                assert!(body.ends_with(&format!("\"data\":{data}}}")));
            }
        });
    }
}
