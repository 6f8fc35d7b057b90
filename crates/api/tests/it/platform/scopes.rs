//! Who may see what.

use domain::contract::Contract;
use serde_json::json;

use super::harness::{OPERATOR, Platform};

const UNKNOWN: &str = "0123456789abcdef0123456789abcdee";

#[tokio::test(start_paused = true)]
async fn what_belongs_to_another_account_is_answered_byte_for_byte_like_what_does_not_exist() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    let jane = platform.owner("jane", Contract::Standard).await;
    let endpoint = platform.endpoint(&john, &json!({"url": "https://your-domain.com/a"})).await;
    let event = platform.publish(&john, "video.created").await;
    let story = platform.get(&john.key, &format!("/api/v1/events/{event}")).await.json();
    let delivery = story["deliveries"][0]["delivery"].as_str().unwrap().to_owned();
    let keys = format!("/api/v1/accounts/{}/keys", john.id);
    let key = platform.get(&john.key, &keys).await.text("/data/0/id");

    let account = |path: &str| (john.id.clone(), "acct_", format!("/api/v1/accounts/ID{path}"));
    let of = |id: &str, prefix, path: &str| (id.to_owned(), prefix, format!("/api/v1/{path}"));
    let url = r#"{"url":"https://your-domain.com/b"}"#;
    for (method, (id, prefix, path), body) in [
        ("GET", account(""), ""),
        ("PATCH", account(""), "{}"),
        ("DELETE", account(""), ""),
        ("GET", account("/keys"), ""),
        ("POST", account("/keys"), ""),
        ("GET", account("/endpoints"), ""),
        ("POST", account("/endpoints"), url),
        ("DELETE", account(&format!("/keys/{key}")), ""),
        ("GET", of(&endpoint, "wh_", "endpoints/ID"), ""),
        ("PATCH", of(&endpoint, "wh_", "endpoints/ID"), url),
        ("PATCH", of(&endpoint, "wh_", "endpoints/ID"), "{}"),
        ("DELETE", of(&endpoint, "wh_", "endpoints/ID"), ""),
        ("GET", of(&endpoint, "wh_", "endpoints/ID/secret"), ""),
        ("POST", of(&endpoint, "wh_", "endpoints/ID/test"), ""),
        ("GET", of(&event, "evt_", "events/ID"), ""),
        ("GET", of(&delivery, "dlv_", "deliveries/ID"), ""),
        ("GET", of(&delivery, "dlv_", "deliveries/ID/attempts"), ""),
        ("POST", of(&delivery, "dlv_", "deliveries/ID/replay"), ""),
        ("GET", of(&john.id, "acct_", "events?account=ID"), ""),
    ] {
        let mut answers = Vec::new();
        for id in [id, format!("{prefix}{UNKNOWN}")] {
            let answer = platform.call(&jane.key, method, &path.replace("ID", &id), body).await;
            assert_eq!(answer.status, 404, "{method} {path} {answer:?}");
            let request_id = answer.header("x-request-id").unwrap();
            let mut headers = answer.headers.clone();
            headers.remove("x-request-id");
            answers.push((answer.body.replace(request_id, ""), headers));
        }
        assert_eq!(answers[0], answers[1], "{method} {path}");
        if !path.contains('?') {
            let odd = platform.call(&jane.key, method, &path.replace("ID", "%ff"), body).await;
            let request_id = odd.header("x-request-id").unwrap();
            assert_eq!(odd.body.replace(request_id, ""), answers[0].0, "{method} {path}");
        }
    }
    let unchanged = platform.get(&john.key, &format!("/api/v1/endpoints/{endpoint}")).await;
    assert_eq!(unchanged.text("/url"), "https://your-domain.com/a");
}

#[tokio::test(start_paused = true)]
async fn an_account_publishes_for_itself_only() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    let jane = platform.owner("jane", Contract::Standard).await;
    let refusal = async |account: &str| {
        let body = json!({"account": account, "type": "video.created", "data": {}});
        let answer = platform.post(&jane.key, "/api/v1/events", &body).await;
        assert_eq!(answer.status, 404, "{account}");
        let request_id = answer.header("x-request-id").unwrap();
        answer.body.replace(request_id, "").replace(account, "ACCOUNT")
    };
    let unknown = refusal(&format!("acct_{UNKNOWN}")).await;
    assert_eq!(refusal(&john.id).await, unknown);
    assert_eq!(refusal("john").await, unknown);
    assert_eq!(refusal("nobody").await, unknown);
}

#[tokio::test(start_paused = true)]
async fn an_accounts_lists_show_its_own_only() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    let jane = platform.owner("jane", Contract::Standard).await;
    let endpoint = platform.endpoint(&john, &json!({"url": "https://your-domain.com/a"})).await;
    let event = platform.publish(&john, "video.created").await;
    let ids = async |path: &str| platform.pages(&jane.key, path, 500).await.concat();
    assert_eq!(ids("/api/v1/accounts?").await, std::slice::from_ref(&jane.id));
    assert!(ids("/api/v1/events?").await.is_empty());
    assert!(ids("/api/v1/deliveries?").await.is_empty());
    assert!(ids(&format!("/api/v1/deliveries?endpoint={endpoint}&")).await.is_empty());
    assert!(ids(&format!("/api/v1/deliveries?event={event}&")).await.is_empty());
    assert_eq!(platform.pages(OPERATOR, "/api/v1/deliveries?", 500).await.concat().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_only_the_operator_may_do_does_not_exist_for_others() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    let own = format!("/api/v1/accounts/{}", john.id);
    for (method, path) in
        [("POST", "/api/v1/accounts"), ("PATCH", own.as_str()), ("DELETE", own.as_str())]
    {
        let answer = platform.call(&john.key, method, path, "{").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert_eq!(answer.text("/detail"), "no such path");
    }
}
