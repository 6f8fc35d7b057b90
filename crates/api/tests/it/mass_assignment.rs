//! No field changes that was not named for change: what a body says beyond the documented fields is
//! refused or without effect.

use domain::contract::Contract;
use serde_json::Value;

use crate::operations::{By, Entry, Kind, Operation, Place, operations};
use crate::world::{OPERATOR, Picture, Tenant, World, body_of};

/// Fields that only we may set, and what somebody might hope to set them to.
fn read_only_fields(other: &Tenant) -> Vec<(&'static str, String)> {
    let text = |text: &str| format!("\"{text}\"");
    let account = text(other.id(Kind::Account));
    let secret = text("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let instant = text("2001-01-01T00:00:00.000Z");
    vec![
        ("id", text(other.id(Kind::Endpoint))),
        ("account", account.clone()),
        ("account_id", account.clone()),
        ("tenant_id", account),
        ("secret", secret.clone()),
        ("previous_secret", secret),
        ("previous_signs_until", instant.clone()),
        ("created_at", instant.clone()),
        ("updated_at", instant),
        ("role", text("operator")),
        ("disabled_reason", text("gone")),
        ("attempts", "99".to_owned()),
        ("api_key", text("pr_ak_0000000000000000")),
    ]
}

/// What came of a request.
struct Asked {
    status: u16,
    /// The fields it was refused for.
    named: Vec<String>,
    after: Picture,
}

/// Asks for the operation with these members added to the body.
async fn ask(
    world: &World,
    operation: &Operation,
    contract: Contract,
    added: Option<(usize, &str)>,
) -> Asked {
    let entry = operation.entry;
    let [owner, _] = world.pair(contract);
    let key = if entry.by == By::Operator { OPERATOR } else { &owner.key };
    let body = body_of(entry, owner, added);
    let id = |place: &Place| Some(owner.id_for(entry, place.kind).to_owned());
    let answer = world.ask_with(operation, key, owner, id, &body).await;
    let json = answer.json();
    let errors = json.pointer("/errors").or_else(|| json.pointer("/results/0/error/errors"));
    let errors = errors.and_then(Value::as_array).into_iter().flatten();
    Asked {
        status: answer.status.as_u16(),
        named: errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect(),
        after: world.picture().await,
    }
}

#[tokio::test(start_paused = true)]
async fn read_only_and_unknown_fields_are_refused_or_without_effect() {
    let mut cells = 0;
    for operation in operations().iter().filter(|it| it.entry.body.contains("<+>")) {
        let Entry { operation: name, body, status, .. } = operation.entry;
        let contract = operation.entry.contract().unwrap_or(Contract::Standard);
        let done = World::start_with([contract]).await;
        let plain = ask(&done, operation, contract, None).await;
        assert_eq!(plain.status, *status, "{name}");

        let mut world = World::start_with([contract]).await;
        let before = world.picture().await;
        for (field, value) in read_only_fields(done.pair(contract)[1]) {
            for at in 0..body.matches("<+>").count() {
                let added = format!("\"{field}\":{value}");
                let asked = ask(&world, operation, contract, Some((at, &added))).await;
                if operation.entry.contract().is_some() {
                    // The customer contracts pass over what they do not know.
                    assert_eq!(asked.status, *status, "{name} {field}");
                    assert_eq!(asked.after, plain.after, "{name} {field}");
                    world = World::start_with([contract]).await;
                } else {
                    // An event of a batch is refused on its own.
                    let is_within = name.ends_with("/batch") && at == 0;
                    assert_eq!(asked.status, if is_within { 202 } else { 422 }, "{name} {field}");
                    assert_eq!(asked.named, [field], "{name}");
                    assert_eq!(asked.after, before, "{name} {field}");
                }
                cells += 1;
            }
        }
    }
    assert!(cells >= 200, "only {cells} cells");
}
