//! Secrets are contained: which answers show one, what they say about being kept, and that a reveal
//! is in the audit log.

use domain::audit::{Actor, AuditAction};
use domain::contract::Contract;
use store::fault::{Fault, Method};

use crate::operations::{By, Entry, Kind, Operation, Shows, operations};
use crate::world::{OPERATOR, Tenant, World};

/// How often `prefix` is followed by that many letters, digits or signs of a key or secret.
fn count(text: &str, prefix: &str, length: usize) -> usize {
    let is_whole = |after: &&str| {
        let letters = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || b"_+/".contains(b));
        letters.count() >= length
    };
    text.split(prefix).skip(1).filter(is_whole).count()
}

/// The key of whoever may ask for the operation.
fn key_of<'a>(entry: &Entry, owner: &'a Tenant) -> &'a str {
    match entry.by {
        By::Owner => &owner.key,
        By::Operator | By::Anybody => OPERATOR,
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_are_shown_where_they_must_be_never_to_be_kept_and_every_reveal_is_noted() {
    for operation @ Operation { entry, .. } in operations().iter().filter(|it| it.needs_key) {
        let contracts = match entry.contract() {
            Some(contract) => vec![contract],
            None => Contract::ALL.to_vec(),
        };
        let world = World::start_with(contracts.clone()).await;
        for owner in contracts.into_iter().map(|contract| world.pair(contract)[0]) {
            let name = entry.operation;
            let answer = world.ask_for(operation, key_of(entry, owner), owner).await;
            assert_eq!(answer.status, entry.status, "{name} {answer:?}");
            assert!(!answer.body.contains("problem:"), "{name} {answer:?}");

            let secrets = count(&answer.body, "whsec_", 32);
            let keys = count(&answer.body, "pr_ak_", 66) + count(&answer.body, "pr_op_", 66);
            let expected = match entry.shows {
                Shows::Nothing => (0, 0),
                Shows::NewKey => (0, 1),
                Shows::NewSecret | Shows::Secrets => (1, 0),
            };
            assert_eq!((secrets, keys), expected, "{name} {answer:?}");
            if expected != (0, 0) {
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
            }

            let reveals = world.audited(owner, AuditAction::SecretRevealed).await;
            if entry.shows == Shows::Secrets {
                let [reveal] = &reveals[..] else { panic!("{name}: {reveals:?}") };
                assert!(matches!(reveal.actor, Actor::Key(_)), "{name}: {reveal:?}");
                let subjects = [Kind::Account, Kind::Endpoint].map(|kind| owner.id(kind));
                assert!(subjects.contains(&reveal.subject.as_str()), "{name}: {reveal:?}");
            } else {
                assert_eq!(reveals, [], "{name}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_whose_reveal_cannot_be_written_down_are_not_shown() {
    let reveals = |it: &&Operation| it.entry.shows == Shows::Secrets;
    for operation @ Operation { entry, .. } in operations().iter().filter(reveals) {
        let contract = entry.contract().unwrap_or(Contract::Standard);
        let world = World::start_with([contract]).await;
        let [owner, _] = world.pair(contract);
        world.app.store.fail(Method::Note, Fault::Before);
        let answer = world.ask_for(operation, &owner.key, owner).await;
        assert!(answer.status.is_server_error(), "{} {answer:?}", entry.operation);
        assert!(!answer.body.contains("whsec_"), "{} {answer:?}", entry.operation);
        world.app.store.heal();
        let answer = world.ask_for(operation, &owner.key, owner).await;
        assert_eq!(answer.status, entry.status, "{} {answer:?}", entry.operation);
    }
}
