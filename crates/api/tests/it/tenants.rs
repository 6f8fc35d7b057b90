//! Tenants are apart: every operation of the document, with every id in every place, asked for by
//! everybody who must not have it.

use domain::account::AccountChange;
use domain::audit::AuditAction;
use domain::contract::Contract;
use engine::scope::Scope;
use serde_json::Value;

use crate::app::Answer;
use crate::operations::{By, Entry, Kind, Operation, Place, Within, operations};
use crate::world::{OPERATOR, Tenant, World, body_naming};

/// How a surface says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    WrongKey,
    Withdrawn,
    NotFound,
}

/// Checks that the answer says no in the words of the operation's surface.
fn is_refused(answer: &Answer, entry: &Entry, no: No) {
    let status = match no {
        No::WrongKey => 401,
        No::Withdrawn => 403,
        No::NotFound => 404,
    };
    let name = entry.operation;
    assert_eq!(answer.status, status, "{name} {answer:?}");
    let json = answer.json();
    let media_type = match entry.contract() {
        Some(Contract::JoggV2) => {
            let code = match no {
                No::WrongKey => 10105,
                No::Withdrawn => 18025,
                No::NotFound => 10104,
            };
            assert_eq!((&json["code"], &json["data"]), (&code.into(), &Value::Null), "{name}");
            "application/json"
        }
        Some(_) => {
            let code = match no {
                No::WrongKey => "INVALID_API_KEY",
                No::Withdrawn => "INSUFFICIENT_PERMISSIONS",
                No::NotFound => "RESOURCE_NOT_FOUND",
            };
            assert_eq!(json["error"]["code"], code, "{name}");
            "application/json"
        }
        None => {
            let kind = match no {
                No::WrongKey => "unauthorized",
                No::Withdrawn => "no-api-access",
                No::NotFound => "not-found",
            };
            assert_eq!(json["type"], format!("urn:postrider:problem:{kind}"), "{name}");
            "application/problem+json"
        }
    };
    assert_eq!(answer.header("content-type"), Some(media_type), "{name}");
    shows_nothing(answer, name);
}

fn shows_nothing(answer: &Answer, name: &str) {
    for secret in ["whsec_", "pr_ak_", "pr_op_"] {
        assert!(!answer.body.contains(secret), "{name} {answer:?}");
    }
}

/// All of the answer but what differs between any two, and `id`.
fn shown(answer: &Answer, id: &str) -> String {
    let request_id = answer.header("x-request-id").unwrap().to_owned();
    let mut headers = answer.headers.clone();
    headers.remove("x-request-id");
    headers.remove("content-length");
    let body = answer.body.replace(&request_id, "<request id>").replace(id, "<id>");
    format!("{} {headers:?} {body}", answer.status)
}

/// An id of the same form that names nothing.
fn unknown_like(id: &str) -> String {
    let (kept, digits) = id.split_at(id.len() - 20);
    let (digit, rest) = digits.split_at(1);
    format!("{kept}{}{rest}", if digit == "0" { "1" } else { "0" })
}

/// Who may open the operation's surface with a good key.
fn opens(entry: &Entry, asker: &Tenant) -> bool {
    entry.contract().is_none_or(|contract| contract == asker.contract)
}

/// Whom the operation is for: the first customer of its contract, or of each contract.
fn owners<'a>(entry: &Entry, world: &'a World) -> Vec<&'a Tenant> {
    let contracts = Contract::ALL.into_iter();
    contracts
        .filter(|contract| entry.contract().is_none_or(|own| own == *contract))
        .map(|contract| world.pair(contract)[0])
        .collect()
}

/// One request for what is not the asker's.
struct Foreign<'a> {
    operation: &'a Operation,
    asker: &'a Tenant,
    owner: &'a Tenant,
    /// Where the id stands; every other place names what is the asker's own.
    place: &'a Place,
}

impl Foreign<'_> {
    async fn ask(&self, world: &World, id: &str) -> Answer {
        let operation = self.operation;
        let entry = operation.entry;
        let fill = |place: &Place| {
            if place == self.place {
                Some(id.to_owned())
            } else {
                place.is_required.then(|| self.asker.id(place.kind).to_owned())
            }
        };
        let body = body_naming(entry, self.asker, self.place, id);
        world.ask_with(operation, &self.asker.key, self.asker, fill, &body).await
    }

    /// Checks that the owner's id is answered like an unknown one, in every form it can be named.
    async fn check(&self, world: &World) {
        let Entry { operation: name, .. } = self.operation.entry;
        let own = self.owner.id(self.place.kind);
        let unknown = unknown_like(own);
        let mut names = vec![(own, unknown.as_str())];
        if self.place.kind == Kind::Account && self.place.within != Within::Path {
            names.push((&self.owner.username, "nobody"));
        }
        for (theirs, nobodys) in names {
            let answer = self.ask(world, theirs).await;
            let expected = self.ask(world, nobodys).await;
            assert_eq!(shown(&answer, theirs), shown(&expected, nobodys), "{name} {theirs}");
            self.is_refusal(&answer);
        }
        if self.place.within != Within::Query {
            let odd = self.ask(world, "%ff").await;
            let expected = self.ask(world, &unknown).await;
            if self.place.within == Within::Path || self.place.kind == Kind::Endpoint {
                assert_eq!(shown(&odd, "%ff"), shown(&expected, &unknown), "{name}");
            }
        }
    }

    fn is_refusal(&self, answer: &Answer) {
        let entry = self.operation.entry;
        let name = entry.operation;
        if !opens(entry, self.asker) {
            return is_refused(answer, entry, No::WrongKey);
        }
        match name {
            // A filter by what is not there lets nothing through.
            "GET /api/v1/deliveries" | "GET /api/v1/replays"
                if self.place.kind != Kind::Account =>
            {
                assert_eq!(answer.status, 200, "{name}");
                assert_eq!(answer.body, r#"{"data":[],"next_cursor":null}"#, "{name}");
            }
            // Every event of a batch is answered on its own.
            "POST /api/v1/events/batch" => {
                assert_eq!(answer.status, 202, "{name}");
                assert_eq!(answer.json()["results"][0]["error"]["status"], 404, "{name}");
                shows_nothing(answer, name);
            }
            _ => is_refused(answer, entry, No::NotFound),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_somebody_elses_is_answered_like_what_does_not_exist_and_nothing_changes() {
    let world = World::start().await;
    let mut cells = 0;
    for operation in &operations() {
        let before = world.picture().await;
        for owner in owners(operation.entry, &world) {
            for place in &operation.places {
                for contract in Contract::ALL {
                    let asker = world.pair(contract)[1];
                    Foreign { operation, asker, owner, place }.check(&world).await;
                    cells += 1;
                }
            }
        }
        let name = operation.entry.operation;
        assert_eq!(world.picture().await, before, "{name} changed something");
    }
    assert!(cells >= 230, "only {cells} cells");
}

#[tokio::test(start_paused = true)]
async fn what_is_wholly_somebody_elses_is_not_found_either() {
    let world = World::start().await;
    let before = world.picture().await;
    for operation @ Operation { entry, places, .. } in &operations() {
        let owned = places.iter().filter(|place| place.is_required).count();
        for owner in owners(entry, &world).into_iter().filter(|_| owned > 1) {
            let thief = world.pair(owner.contract)[1];
            let answer = world.ask_for(operation, &thief.key, owner).await;
            is_refused(&answer, entry, No::NotFound);
        }
    }
    assert_eq!(world.picture().await, before);
}

#[tokio::test(start_paused = true)]
async fn without_a_good_key_nothing_is_open_and_nothing_changes() {
    let world = World::start().await;
    let mut cells = 0;
    for operation @ Operation { entry, needs_key, .. } in
        operations().iter().filter(|it| it.needs_key)
    {
        assert!(needs_key);
        for owner in owners(entry, &world) {
            let revoked = revoked_key(&world, owner).await;
            let before = world.picture().await;
            let expected = world.ask_for(operation, "", owner).await;
            is_refused(&expected, entry, No::WrongKey);
            let mut keys = vec![
                revoked.clone(),
                revoked[..revoked.len() - 1].to_owned(),
                owner.key.to_uppercase(),
                format!("{}x", owner.key),
                "nonsense".to_owned(),
            ];
            if let Some(contract) = entry.contract() {
                keys.push(OPERATOR.to_owned());
                let others = Contract::ALL.into_iter().filter(|other| *other != contract);
                keys.extend(others.map(|other| world.pair(other)[0].key.clone()));
            }
            for key in keys {
                let answer = world.ask_for(operation, &key, owner).await;
                assert_eq!(shown(&answer, "-"), shown(&expected, "-"), "{}", entry.operation);
                cells += 1;
            }
            assert_eq!(world.picture().await, before, "{} changed something", entry.operation);
        }
    }
    assert!(cells >= 500, "only {cells} cells");
}

/// A key of the customer's that was good and is not any more.
async fn revoked_key(world: &World, owner: &Tenant) -> String {
    let (engine, account) = (&world.app.engine, owner.account_id());
    let (record, key) = engine.issue_key(Scope::OPERATOR, account).await.unwrap();
    engine.revoke_key(Scope::OPERATOR, account, record.id).await.unwrap();
    key.reveal().to_owned()
}

#[tokio::test(start_paused = true)]
async fn without_api_access_nothing_is_open_and_nothing_changes() {
    let world = World::start().await;
    for contract in Contract::ALL {
        let change = AccountChange { api_access: Some(false), ..AccountChange::default() };
        let account = world.pair(contract)[0].account_id();
        world.app.engine.change_account(Scope::OPERATOR, account, change).await.unwrap();
    }
    let before = world.picture().await;
    for operation @ Operation { entry, .. } in operations().iter().filter(|it| it.needs_key) {
        for owner in owners(entry, &world) {
            let answer = world.ask_for(operation, &owner.key, owner).await;
            is_refused(&answer, entry, No::Withdrawn);
        }
    }
    assert_eq!(world.picture().await, before);
    for contract in Contract::ALL {
        let owner = world.pair(contract)[0];
        let refusals = world.audited(owner, AuditAction::KeyRefused).await;
        assert!(!refusals.is_empty(), "{contract:?}");
        for refusal in refusals {
            assert_eq!(refusal.details, r#"{"why":"no API access"}"#);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_the_operator_may_do_does_not_exist_for_the_owner() {
    let world = World::start().await;
    let before = world.picture().await;
    for operation @ Operation { entry, .. } in &operations() {
        for owner in owners(entry, &world).into_iter().filter(|_| entry.by == By::Operator) {
            let answer = world.ask_for(operation, &owner.key, owner).await;
            is_refused(&answer, entry, No::NotFound);
            assert_eq!(answer.text("/detail"), "no such path", "{}", entry.operation);
        }
    }
    assert_eq!(world.picture().await, before);
}
