//! Accounts and keys.

use std::time::Duration;

use domain::contract::Contract;
use serde_json::json;

use super::harness::{OPERATOR, Platform, Transcript};

#[tokio::test(start_paused = true)]
async fn an_account_is_created_read_listed_changed_and_deleted() {
    let platform = Platform::start().await;
    let mut transcript = Transcript::default();
    let created = transcript
        .say(
            &platform,
            OPERATOR,
            "POST /api/v1/accounts",
            r#"{"username":"johndoe","contract":"jogg_v2"}"#,
        )
        .await;
    let path = format!("/api/v1/accounts/{}", created.text("/id"));
    transcript
        .say(
            &platform,
            OPERATOR,
            "POST /api/v1/accounts",
            r#"{"username":"jane","contract":"konpro_v1","plan":"pro","credits":7,"api_access":false}"#,
        )
        .await;
    transcript.say(&platform, OPERATOR, &format!("GET {path}"), "").await;
    transcript.say(&platform, OPERATOR, "GET /api/v1/accounts", "").await;
    let change = r#"{"plan":"trial","credits":3}"#;
    transcript.say(&platform, OPERATOR, &format!("PATCH {path}"), change).await;
    let back = r#"{"plan":null,"credits":null,"api_access":true}"#;
    transcript.say(&platform, OPERATOR, &format!("PATCH {path}"), back).await;
    transcript.say(&platform, OPERATOR, &format!("PATCH {path}"), "{}").await;
    transcript.say(&platform, OPERATOR, &format!("DELETE {path}"), "").await;
    transcript.say(&platform, OPERATOR, &format!("GET {path}"), "").await;
    transcript.say(&platform, OPERATOR, &format!("DELETE {path}"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn a_key_is_issued_listed_and_revoked() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let mut transcript = Transcript::default();
    let path = format!("/api/v1/accounts/{}/keys", owner.id);
    let issued = transcript.say(&platform, &owner.key, &format!("POST {path}"), "").await;
    transcript.say(&platform, &owner.key, &format!("POST {path}"), "{}").await;
    transcript.say(&platform, &owner.key, &format!("GET {path}"), "").await;
    let new_key = issued.text("/api_key");
    assert_eq!(platform.get(&new_key, &path).await.status, 200);
    let revoke = format!("DELETE {path}/{}", issued.text("/id"));
    transcript.say(&platform, &owner.key, &revoke, "").await;
    transcript.say(&platform, &owner.key, &revoke, "").await;
    transcript.say(&platform, &new_key, &format!("GET {path}"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn a_taken_username_is_a_conflict() {
    let platform = Platform::start().await;
    platform.owner("johndoe", Contract::Standard).await;
    let body = json!({"username": "johndoe", "contract": "jogg_v2"});
    let answer = platform.post(OPERATOR, "/api/v1/accounts", &body).await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.text("/type"), "urn:postrider:problem:conflict");
    assert_eq!(answer.text("/detail"), "the username `johndoe` is taken");
}

#[tokio::test(start_paused = true)]
async fn withdrawn_api_access_closes_the_api_until_it_is_given_back() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let path = format!("/api/v1/accounts/{}", owner.id);
    for (access, status) in [(false, 403), (true, 200)] {
        let body = json!({"api_access": access}).to_string();
        assert_eq!(platform.call(OPERATOR, "PATCH", &path, &body).await.status, 200);
        let answer = platform.get(&owner.key, &path).await;
        assert_eq!(answer.status, status);
        if status == 403 {
            assert_eq!(answer.text("/type"), "urn:postrider:problem:no-api-access");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_deleted_account_opens_nothing() {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let path = format!("/api/v1/accounts/{}", owner.id);
    assert_eq!(platform.call(OPERATOR, "DELETE", &path, "").await.status, 204);
    assert_eq!(platform.get(&owner.key, &path).await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn pages_neither_repeat_nor_skip_while_rows_arrive() {
    let platform = Platform::start().await;
    let mut before = Vec::new();
    for number in 0..7 {
        before.push(platform.owner(&format!("user{number}"), Contract::Standard).await.id);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    before.reverse();
    let pages = platform.pages(OPERATOR, "/api/v1/accounts?", 3).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 1]);
    assert_eq!(pages.concat(), before);

    let first = platform.get(OPERATOR, "/api/v1/accounts?limit=3").await;
    platform.owner("latecomer", Contract::Standard).await;
    let cursor = first.text("/next_cursor");
    let rest = platform.get(OPERATOR, &format!("/api/v1/accounts?cursor={cursor}")).await.json();
    let ids: Vec<_> = rest["data"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, before[3..].iter().collect::<Vec<_>>());
    assert_eq!(rest["next_cursor"], json!(null));
}
