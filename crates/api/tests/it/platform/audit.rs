//! The audit log.

use std::fmt::Write as _;
use std::time::Duration;

use domain::audit::{Actor, AuditAction, AuditNote, CHAIN_START, link};
use domain::contract::Contract;
use domain::id::AccountId;
use domain::time::Timestamp;
use serde_json::{Value, json};

use super::harness::{OPERATOR, Owner, Platform, Transcript};

/// Every entry the key may see, oldest first.
async fn entries(platform: &Platform, key: &str, query: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let mut next = format!("/api/v1/audit?{query}limit=2");
    loop {
        let answer = platform.get(key, &next).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let page = answer.json();
        entries.extend(page["data"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else {
            entries.reverse();
            return entries;
        };
        next = format!("/api/v1/audit?{query}limit=2&cursor={cursor}");
    }
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

/// Does one of everything that is written down; answers whose it was.
async fn live(platform: &Platform) -> Owner {
    let owner = platform.owner("johndoe", Contract::Standard).await;
    let path = format!("/api/v1/accounts/{}", owner.id);
    let ask = async |key: &str, request: &str, body: &str| {
        let (method, path) = request.split_once(' ').unwrap();
        let answer = platform.call(key, method, path, body).await;
        assert!(answer.status.is_success(), "{request} {answer:?}");
        answer
    };
    ask(OPERATOR, &format!("PATCH {path}"), r#"{"credits":5}"#).await;
    let issued = ask(&owner.key, &format!("POST {path}/keys"), "").await;
    ask(&owner.key, &format!("DELETE {path}/keys/{}", issued.text("/id")), "").await;
    assert_eq!(platform.get(&issued.text("/api_key"), &path).await.status, 401);
    let endpoint = platform.endpoint(&owner, &json!({"url": "https://your-domain.com/a"})).await;
    let event = platform.publish(&owner, "video.created").await;
    let story = platform.get(&owner.key, &format!("/api/v1/events/{event}")).await;
    let delivery = story.text("/deliveries/0/delivery");
    platform.delivery_in_state(&owner.key, &delivery, "delivered").await;
    ask(&owner.key, &format!("POST /api/v1/deliveries/{delivery}/replay"), "").await;
    let path = format!("/api/v1/endpoints/{endpoint}");
    ask(&owner.key, &format!("PATCH {path}"), r#"{"headers":{"X-Tenant":"blue"}}"#).await;
    ask(&owner.key, &format!("GET {path}/secret"), "").await;
    ask(OPERATOR, &format!("POST {path}/rotate-secret"), "").await;
    ask(&owner.key, &format!("DELETE {path}"), "").await;
    owner
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_done_is_written_down_with_who_did_it() {
    let platform = Platform::start().await;
    let owner = live(&platform).await;
    let own = entries(&platform, &owner.key, "").await;
    let mut table = String::new();
    for entry in &own {
        assert_eq!(entry["account"], owner.id, "{entry}");
        let actor = entry["actor"].as_str().unwrap().split('_').next().unwrap();
        let fields: Vec<_> = entry["details"].as_object().unwrap().keys().collect();
        let subject = entry["subject"].as_str().unwrap().split('_').next().unwrap();
        let subject = if subject.len() > 8 { "(a key's public part)" } else { subject };
        writeln!(table, "{} by {actor}: {subject} {fields:?}", entry["action"]).unwrap();
    }
    insta::assert_snapshot!(table);
    let shown = serde_json::to_string(&own).unwrap();
    for hidden in ["whsec_", owner.key.as_str(), "\"blue\"", "\"v1\""] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_is_filtered_by_account_action_and_time_and_an_account_sees_its_own() {
    let platform = Platform::start().await;
    let john = platform.owner("john", Contract::Standard).await;
    tokio::time::advance(Duration::from_secs(10)).await;
    let jane = platform.owner("jane", Contract::Standard).await;
    let path = format!("/api/v1/accounts/{}", jane.id);
    assert_eq!(platform.call(OPERATOR, "DELETE", &path, "").await.status, 204);
    let both = ["account.created", "account.created", "account.deleted"];
    for (key, query, expected) in [
        (OPERATOR, String::new(), &both[..]),
        (OPERATOR, "action=account.created&".to_owned(), &both[..2]),
        (OPERATOR, format!("account={}&", jane.id), &both[1..]),
        (OPERATOR, "account=john&".to_owned(), &both[..1]),
        (OPERATOR, "since=1705314605&".to_owned(), &both[1..]),
        (OPERATOR, "until=1705314605&".to_owned(), &both[..1]),
        (&john.key, String::new(), &both[..1]),
        (&john.key, format!("account={}&", john.id), &both[..1]),
        (&john.key, "action=account.deleted&".to_owned(), &[]),
    ] {
        let seen = entries(&platform, key, &query).await;
        let mut seen = actions(&seen);
        // The start of the service is the operator's own affair.
        seen.retain(|action| *action != "service.started");
        assert_eq!(seen, expected, "{query}");
    }
    let mut transcript = Transcript::default();
    for query in ["account=&action=account.born&since=x", "account=nobody", "actor=operator"] {
        transcript.say(&platform, OPERATOR, &format!("GET /api/v1/audit?{query}"), "").await;
    }
    insta::assert_snapshot!(transcript.into_text());
}

/// The note that an entry was made of, as its fields tell.
fn note(entry: &Value) -> AuditNote {
    let text = |name: &str| entry[name].as_str().unwrap();
    AuditNote {
        at: Timestamp::parse_rfc3339(text("at")).unwrap(),
        actor: Actor::from_name(text("actor")).unwrap(),
        action: AuditAction::from_name(text("action")).unwrap(),
        account: entry["account"].as_str().map(|id| AccountId::parse(id).unwrap()),
        subject: text("subject").to_owned(),
        details: entry["details"].to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_the_log_can_follow_its_chain_to_the_head_that_we_name() {
    let platform = Platform::start().await;
    live(&platform).await;
    let entries = entries(&platform, OPERATOR, "").await;
    let mut hash = CHAIN_START;
    for (entry, number) in entries.iter().zip(1..) {
        assert_eq!(entry["number"], number);
        hash = link(&hash, number, &note(entry));
        let hex = hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        assert_eq!(entry["hash"], hex, "{entry}");
    }
    let chain = platform.get(OPERATOR, "/api/v1/audit/chain").await;
    assert_eq!(
        chain.body,
        format!(
            r#"{{"entries":{},"head":{},"intact":true,"first_break":null}}"#,
            entries.len(),
            entries.last().unwrap()["hash"]
        )
    );
}
