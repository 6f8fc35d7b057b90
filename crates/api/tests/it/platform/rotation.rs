//! New signing secrets, and new sealing keys.

use std::time::Duration;

use domain::contract::Contract;
use serde_json::json;
use testkit::verify::verify_standard;

use super::harness::{OPERATOR, Owner, Platform, Transcript};
use crate::app::{URL, sealing_key};

async fn platform_and_endpoint() -> (Platform, Owner, String) {
    let platform = Platform::start().await;
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let endpoint = platform.endpoint(&owner, &json!({"url": URL})).await;
    (platform, owner, format!("/api/v1/endpoints/{endpoint}"))
}

#[tokio::test(start_paused = true)]
async fn a_secret_is_replaced_and_the_one_before_is_named_by_its_end_only() {
    let (platform, owner, path) = platform_and_endpoint().await;
    let mut transcript = Transcript::default();
    let rotate = format!("POST {path}/rotate-secret");
    for body in [
        r#"{"overlap_seconds":60}"#,
        r#"{"overlap_seconds":60}"#,
        r#"{"overlap_seconds":0}"#,
        "",
        r#"{"overlap_seconds":604801}"#,
        r#"{"overlap_seconds":-1}"#,
        r#"{"overlap":1}"#,
        "[]",
    ] {
        transcript.say(&platform, &owner.key, &rotate, body).await;
    }
    transcript.say(&platform, &owner.key, &format!("GET {path}"), "").await;
    transcript.say(&platform, &owner.key, &format!("GET {path}/secret"), "").await;
    insta::assert_snapshot!(transcript.into_text());
}

#[tokio::test(start_paused = true)]
async fn receivers_that_hold_the_old_or_the_new_secret_refuse_nothing_until_the_overlap_ends() {
    let (platform, owner, path) = platform_and_endpoint().await;
    let old = platform.get(&owner.key, &format!("{path}/secret")).await.text("/secret");
    let body = json!({"overlap_seconds": 3600});
    let rotated = platform.post(&owner.key, &format!("{path}/rotate-secret"), &body).await;
    let new = rotated.text("/secret");
    assert_ne!(old, new);
    for (sent_before, wait, holds_for_old) in [(0, 0, true), (1, 3599, true), (2, 1, false)] {
        tokio::time::advance(Duration::from_secs(wait)).await;
        platform.publish(&owner, "video.created").await;
        let sent = platform.app.sender.wait_for(sent_before + 1).await.pop().unwrap();
        let header = |name: &str| sent.header(name).unwrap();
        for (secret, holds) in [(&new, true), (&old, holds_for_old)] {
            let verified = verify_standard(
                header("webhook-id"),
                header("webhook-timestamp"),
                header("webhook-signature"),
                secret,
                &sent.request.body,
            );
            assert_eq!(verified.is_ok(), holds, "{sent_before}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sealing_keys_are_shown_by_id_and_count_and_taken_from_the_file() {
    let platform = Platform::start().await;
    let mut transcript = Transcript::default();
    transcript.say(&platform, OPERATOR, "GET /api/v1/sealing-keys", "").await;
    let ring = platform.app.sealing.file.lock().unwrap().with_active(sealing_key(2));
    *platform.app.sealing.file.lock().unwrap() = ring;
    transcript.say(&platform, OPERATOR, "GET /api/v1/sealing-keys", "").await;
    transcript.say(&platform, OPERATOR, "POST /api/v1/sealing-keys/reload", "").await;
    transcript.say(&platform, OPERATOR, "GET /api/v1/sealing-keys", "").await;
    transcript.say(&platform, OPERATOR, "POST /api/v1/sealing-keys/reload", "[]").await;
    insta::assert_snapshot!(transcript.into_text());
}
