//! New signing secrets while deliveries go on.

use std::time::Duration;

use domain::account::Account;
use domain::contract::Contract;
use engine::ErrorCode;
use engine::scope::Scope;
use testkit::doubles::{Reply, SentRequest};
use testkit::verify::{contract_header, next_contract_header, verify_hex, verify_standard};
use tokio::time::Instant;

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";

/// Shorter than by default, so that less time has to pass.
const OVERLAP: Duration = Duration::from_hours(1);

/// Whether a receiver with this secret takes the delivery by the contract's own header; one that
/// looks at the announced signature too, if `reads_next`. `None` for a contract without any.
fn contract_accepts(
    contract: Contract,
    secret: &str,
    sent: &SentRequest,
    reads_next: bool,
) -> Option<bool> {
    let body = &sent.request.body;
    let matches = |name: &'static str| {
        sent.header(name).is_some_and(|value| verify_hex(name, value, secret, body).is_ok())
    };
    let own = matches(contract_header(contract)?);
    Some(own || (reads_next && next_contract_header(contract).is_some_and(matches)))
}

/// Whether a receiver with this secret takes the delivery by the Standard Webhooks headers.
fn standard_accepts(secret: &str, sent: &SentRequest) -> bool {
    let header = |name| sent.header(name).unwrap();
    let [id, timestamp, signatures] =
        ["webhook-id", "webhook-timestamp", "webhook-signature"].map(header);
    verify_standard(id, timestamp, signatures, secret, &sent.request.body).is_ok()
}

/// Whether a receiver with this secret takes the delivery whichever headers it goes by.
fn accepts(contract: Contract, secret: &str, sent: &SentRequest) -> bool {
    standard_accepts(secret, sent) && contract_accepts(contract, secret, sent, true).unwrap_or(true)
}

/// Whether any header of the delivery is signed with this secret.
fn is_signed_with(contract: Contract, secret: &str, sent: &SentRequest) -> bool {
    standard_accepts(secret, sent)
        || contract_accepts(contract, secret, sent, true).unwrap_or(false)
}

/// Publishes at odd intervals for `length`; some attempts fail, so that retries run across all.
async fn publish_for(scene: &Scene, account: &Account, length: Duration) {
    let end = Instant::now() + length;
    let mut published = 0;
    while Instant::now() < end {
        if published % 7 == 0 {
            scene.sender.script(URL, [Reply::status(500), Reply::status(503)]);
        }
        scene.publish(account).await;
        published += 1;
        scene.pass(Duration::from_secs(31)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn during_a_rotation_no_receiver_refuses_anything_whichever_secret_it_holds() {
    for contract in Contract::ALL {
        let scene = Scene::new().await;
        let account = scene.account(contract, "john").await;
        let old = scene.endpoint(&account, URL).await;
        scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(300)));
        publish_for(&scene, &account, Duration::from_mins(20)).await;
        for _ in 0..100 {
            scene.publish(&account).await;
        }
        scene.pass(Duration::from_millis(100)).await;
        let rotated = scene.engine.rotate_secret(Scope::OPERATOR, old.id, Some(OVERLAP)).await;
        let new = rotated.unwrap();
        let before = scene.sender.requests().len();
        let until = Instant::now() + OVERLAP;
        // What was published before, and not yet attempted, is signed by both too.
        scene.pass(Duration::from_secs(1)).await;
        for _ in 0..100 {
            scene.publish(&account).await;
        }
        publish_for(&scene, &account, OVERLAP + Duration::from_mins(20)).await;
        scene.drain().await;
        let (old, new) = (old.secret.reveal(), new.secret.reveal());
        assert_ne!(old, new);
        let sent = scene.sender.requests();
        let (before, after) = sent.split_at(before);
        let (during, after): (Vec<_>, Vec<_>) = after.iter().partition(|sent| sent.at < until);
        assert!(before.len() > 60 && during.len() > 200 && after.len() > 30);
        for sent in before {
            assert!(accepts(contract, old, sent) && !is_signed_with(contract, new, sent));
        }
        for sent in during {
            assert!(accepts(contract, old, sent), "who holds the old one");
            assert!(accepts(contract, new, sent), "who holds the new one");
            // Whoever has never heard of a second header goes on with the old one.
            assert_ne!(contract_accepts(contract, old, sent, false), Some(false));
        }
        for sent in after {
            assert!(accepts(contract, new, sent) && !is_signed_with(contract, old, sent));
            assert_ne!(contract_accepts(contract, new, sent, false), Some(false));
            assert!(next_contract_header(contract).is_none_or(|name| sent.header(name).is_none()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_without_overlap_voids_every_earlier_secret_at_once() {
    for contract in Contract::ALL {
        let scene = Scene::new().await;
        let account = scene.account(contract, "john").await;
        let first = scene.endpoint(&account, URL).await;
        let rotate = async |overlap| {
            scene.engine.rotate_secret(Scope::OPERATOR, first.id, overlap).await.unwrap()
        };
        let second = rotate(None).await;
        let third = rotate(Some(Duration::ZERO)).await;
        scene.publish(&account).await;
        scene.drain().await;
        let sent = &scene.sender.requests()[0];
        assert!(!is_signed_with(contract, first.secret.reveal(), sent));
        assert!(!is_signed_with(contract, second.secret.reveal(), sent));
        assert!(accepts(contract, third.secret.reveal(), sent));
    }
}

#[tokio::test(start_paused = true)]
async fn no_third_secret_signs_beside_two_and_the_refusal_says_until_when() {
    let scene = Scene::new().await;
    let (_, endpoint) = scene.subscriber("john", URL).await;
    let rotate =
        async |overlap| scene.engine.rotate_secret(Scope::OPERATOR, endpoint.id, overlap).await;
    let hour = Some(Duration::from_hours(1));
    let rotated = rotate(hour).await.unwrap();
    let until = rotated.previous_secret.clone().unwrap().signs_until;
    let refused = rotate(hour).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Conflict);
    assert!(refused.message().contains(&until.to_rfc3339_millis()), "{refused}");
    assert!(refused.message().contains("overlap of 0"), "{refused}");
    assert_eq!(
        scene.engine.endpoint(Scope::OPERATOR, endpoint.id).await.unwrap().secret,
        rotated.secret
    );
    scene.pass(Duration::from_hours(1)).await;
    rotate(hour).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_overlap_is_a_day_unless_asked_otherwise_and_at_most_seven() {
    let scene = Scene::new().await;
    let (_, endpoint) = scene.subscriber("john", URL).await;
    let rotate =
        async |overlap| scene.engine.rotate_secret(Scope::OPERATOR, endpoint.id, overlap).await;
    let longest = Duration::from_hours(7 * 24);
    let refused = rotate(Some(longest + Duration::from_secs(1))).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::Invalid);
    assert_eq!(refused.violations()[0].field, "overlap_seconds");
    let length = |rotated: domain::endpoint::Endpoint| {
        rotated.previous_secret.unwrap().signs_until.since(rotated.updated_at)
    };
    assert_eq!(length(rotate(None).await.unwrap()), Duration::from_hours(24));
    rotate(Some(Duration::ZERO)).await.unwrap();
    assert_eq!(length(rotate(Some(longest)).await.unwrap()), longest);
}
