//! What may be set about an endpoint: read, checked, kept, and used in each attempt.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::account::Account;
use domain::contract::Contract;
use domain::endpoint::{Endpoint, Metadata};
use domain::ordering::DeliveryOrder;
use domain::subscription::Subscription;
use domain::trace::TraceContext;
use engine::EngineError;
use engine::administer::{EndpointEdit, Events, NewEndpoint, OAuth2Text, SecretText};
use engine::scope::Scope;
use engine::sender::IdentityRefusal;
use testkit::doubles::Reply;

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";

fn secret(text: &str) -> SecretText {
    SecretText(text.to_owned())
}

fn oauth2() -> OAuth2Text {
    OAuth2Text {
        token_url: "https://auth.customer.com/token".to_owned(),
        client_id: "shop".to_owned(),
        client_secret: secret("hush"),
        scope: Some("hooks".to_owned()),
        audience: None,
    }
}

fn with_everything() -> NewEndpoint {
    NewEndpoint {
        url: URL.to_owned(),
        filter: Some("data.duration > 60".to_owned()),
        ordering: Some("fifo_by_key".to_owned()),
        rate_limit: Some(10_000),
        timeout_seconds: Some(30),
        metadata: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        client_certificate: Some(CERTIFICATE.to_owned()),
        client_key: Some(secret("key")),
        oauth2: Some(oauth2()),
        ..NewEndpoint::default()
    }
}

async fn create(
    scene: &Scene,
    account: &Account,
    new: NewEndpoint,
) -> Result<Endpoint, EngineError> {
    scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await
}

async fn change(
    scene: &Scene,
    endpoint: &Endpoint,
    edit: EndpointEdit,
) -> Result<Endpoint, EngineError> {
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await
}

/// The wrong fields and why.
fn wrong(refused: Result<Endpoint, EngineError>) -> Vec<String> {
    let error = refused.unwrap_err();
    error.violations().iter().map(|wrong| format!("{} {}", wrong.field, wrong.reason)).collect()
}

#[tokio::test(start_paused = true)]
async fn every_setting_is_kept_for_every_contract_and_null_takes_it_back() {
    let scene = Scene::new().await;
    for contract in Contract::ALL {
        let account = scene.account(contract, contract.name()).await;
        let created = create(&scene, &account, with_everything()).await.unwrap();
        let endpoint = scene.engine.endpoint(Scope::OPERATOR, created.id).await.unwrap();
        assert_eq!(endpoint, created);
        assert_eq!(endpoint.filter.as_ref().unwrap().as_str(), "data.duration > 60");
        assert_eq!(endpoint.order, DeliveryOrder::FifoByKey);
        assert_eq!(endpoint.rate.unwrap().get(), 10_000);
        assert_eq!(endpoint.attempt_timeout(), Duration::from_secs(30));
        assert_eq!(endpoint.metadata.entries()["team"], "blue");
        assert_eq!(endpoint.client_identity.as_ref().unwrap().private_key(), "key");
        let credentials = endpoint.client_credentials.as_ref().unwrap().request();
        assert_eq!(credentials.client_secret, "hush");

        let reset = EndpointEdit {
            filter: Some(None),
            ordering: Some(None),
            rate_limit: Some(None),
            timeout_seconds: Some(None),
            metadata: Some(BTreeMap::new()),
            client_certificate: Some(None),
            oauth2: Some(None),
            ..EndpointEdit::default()
        };
        let endpoint = change(&scene, &endpoint, reset).await.unwrap();
        assert_eq!((endpoint.filter, endpoint.order), (None, DeliveryOrder::Any));
        assert_eq!((endpoint.rate, endpoint.timeout), (None, None));
        assert_eq!(endpoint.metadata, Metadata::default());
        assert_eq!((endpoint.client_identity, endpoint.client_credentials), (None, None));
    }
}

#[tokio::test(start_paused = true)]
async fn every_wrong_setting_is_named_with_its_reason() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let new = NewEndpoint {
        url: URL.to_owned(),
        events: Events::Listed(vec!["video.*.created".to_owned()]),
        ordering: Some("any".to_owned()),
        rate_limit: Some(0),
        timeout_seconds: Some(31),
        metadata: BTreeMap::from([(String::new(), String::new())]),
        client_certificate: Some("x".repeat(16 * 1024 + 1)),
        client_key: Some(secret(&"y".repeat(16 * 1024 + 1))),
        oauth2: Some(OAuth2Text {
            token_url: "https://10.0.0.1/token".to_owned(),
            client_id: String::new(),
            client_secret: secret("a\r\nb"),
            scope: Some("s".repeat(1_025)),
            audience: Some(String::new()),
        }),
        ..NewEndpoint::default()
    };
    let wrong = wrong(create(&scene, &account, new).await);
    let expected = [
        "events contains `video.*.created`: a `*` may only stand at the end",
        "ordering must be `fifo`, `fifo_by_key` or null",
        "rate_limit must be 1 to 10000",
        "timeout_seconds must be 1 to 30 seconds",
        "metadata has at most 50 entries",
        "client_certificate must have at most 16384 bytes",
        "client_key must have at most 16384 bytes",
        "oauth2.token_url ",
        "oauth2.client_id must have 1 to 1024 bytes",
        "oauth2.client_secret must have no control characters",
        "oauth2.scope must have 1 to 1024 bytes",
        "oauth2.audience must have 1 to 1024 bytes",
    ];
    assert_eq!(wrong.len(), expected.len(), "{wrong:#?}");
    for (wrong, expected) in wrong.iter().zip(expected) {
        assert!(wrong.starts_with(expected), "{wrong}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_cannot_be_read_is_refused_when_it_is_set() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let with = |filter: &str| NewEndpoint {
        filter: Some(filter.to_owned()),
        url: URL.to_owned(),
        ..NewEndpoint::default()
    };
    for filter in ["data.a >", "", &format!("data.a == \"{}\"", "x".repeat(2_048))] {
        let wrong = wrong(create(&scene, &account, with(filter)).await);
        assert!(wrong.len() == 1 && wrong[0].starts_with("filter "), "{wrong:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_and_its_key_are_set_and_removed_together() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = create(&scene, &account, with_everything()).await.unwrap();
    let edit = |certificate: Option<Option<&str>>, key: Option<Option<&str>>| EndpointEdit {
        client_certificate: certificate.map(|text| text.map(str::to_owned)),
        client_key: key.map(|text| text.map(secret)),
        ..EndpointEdit::default()
    };
    let (given, null, absent) = (Some(Some(CERTIFICATE)), Some(None), None);
    for (certificate, key, reason) in [
        (given, absent, "client_key is required with client_certificate"),
        (given, null, "client_key is required with client_certificate"),
        (absent, given, "client_certificate is required with client_key"),
        (null, given, "client_certificate is required with client_key"),
        (absent, null, "client_certificate is removed together with client_key: must be null too"),
    ] {
        assert_eq!(wrong(change(&scene, &endpoint, edit(certificate, key)).await), [reason]);
    }
    let kept = change(&scene, &endpoint, edit(absent, absent)).await.unwrap();
    assert_eq!(kept, endpoint);
    for key in [absent, null] {
        let removed = change(&scene, &endpoint, edit(null, key)).await.unwrap();
        assert_eq!(removed.client_identity, None);
        let set = change(&scene, &endpoint, edit(given, Some(Some("key")))).await.unwrap();
        assert_eq!(set.client_identity, endpoint.client_identity);
    }
    for (refusal, reason) in [
        (IdentityRefusal::Certificate("is no good".to_owned()), "client_certificate is no good"),
        (IdentityRefusal::Key("is no good".to_owned()), "client_key is no good"),
    ] {
        scene.sender.refuse_identities(refusal);
        assert_eq!(wrong(create(&scene, &account, with_everything()).await), [reason]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_and_a_header_authorization_exclude_each_other() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let header = || vec![("Authorization".to_owned(), "Bearer mine".to_owned())];
    let both = NewEndpoint { headers: header(), ..with_everything() };
    let headers = "headers must not hold `authorization`: the token of oauth2 goes there";
    let token = "oauth2 must not be set while `headers` holds `authorization`";
    assert_eq!(wrong(create(&scene, &account, both).await), [headers]);

    let set_header = || EndpointEdit { headers: Some(header()), ..EndpointEdit::default() };
    let set_token = || EndpointEdit { oauth2: Some(Some(oauth2())), ..EndpointEdit::default() };
    let with_token = create(&scene, &account, with_everything()).await.unwrap();
    assert_eq!(wrong(change(&scene, &with_token, set_header()).await), [headers]);
    let swapped = EndpointEdit { oauth2: Some(None), ..set_header() };
    let with_header = change(&scene, &with_token, swapped).await.unwrap();
    assert_eq!(wrong(change(&scene, &with_header, set_token()).await), [token]);
    let swapped = EndpointEdit { headers: Some(Vec::new()), ..set_token() };
    let with_token = change(&scene, &with_header, swapped).await.unwrap();
    assert!(with_token.client_credentials.is_some() && with_token.headers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn patterns_of_event_types_are_for_the_native_contract() {
    let scene = Scene::new().await;
    for contract in Contract::ALL {
        let account = scene.account(contract, contract.name()).await;
        let new = NewEndpoint {
            url: URL.to_owned(),
            events: Events::Listed(vec!["generated_*".to_owned()]),
            ..NewEndpoint::default()
        };
        let created = create(&scene, &account, new).await;
        if contract == Contract::Standard {
            let Subscription::Listed(patterns) = created.unwrap().subscription else { panic!() };
            assert_eq!(patterns[0].to_string(), "generated_*");
        } else {
            assert!(wrong(created)[0].starts_with("events contains "));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_goes_by_its_endpoints_settings_and_stores_no_token() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let new = NewEndpoint { filter: None, timeout_seconds: Some(7), ..with_everything() };
    let endpoint = create(&scene, &account, new).await.unwrap();
    scene.publish(&account).await;
    let sent = scene.sender.wait_for(1).await;
    assert_eq!(sent[0].request.timeout, Duration::from_secs(7));
    assert_eq!(sent[0].request.identity, endpoint.client_identity);
    assert_eq!(sent[0].request.credentials, endpoint.client_credentials);
    scene.drain().await;
    let delivery = scene.delivery().await;
    let attempts = scene.engine.attempts(Scope::OPERATOR, delivery.id).await.unwrap();
    let head = &attempts[0].request_head;
    assert!(head.ends_with("\nauthorization: Bearer [hidden]\n"), "{head}");
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_a_span_of_its_own_in_the_publishers_trace() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::status(500), Reply::status(500)]);
    let given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let given = TraceContext::parse(given).unwrap();
    let mut event = an_event(&account);
    event.trace = Some(given);
    scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap();
    scene.drain().await;
    let mut spans = Vec::new();
    for sent in scene.sender.wait_for(3).await {
        let sent = TraceContext::parse(sent.header("traceparent").unwrap()).unwrap();
        assert_eq!(sent.under(0), given.under(0));
        spans.push(sent.parent_id);
    }
    spans.push(given.parent_id);
    spans.sort_unstable();
    spans.dedup();
    assert_eq!(spans.len(), 4);

    scene.publish(&account).await;
    let sent = scene.sender.wait_for(4).await;
    assert_eq!(sent[3].header("traceparent"), None);
}
