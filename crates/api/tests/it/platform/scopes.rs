//! Who may see what, where `crate::tenants` does not ask.

use domain::contract::Contract;
use serde_json::json;

use super::harness::{OPERATOR, Platform};

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
