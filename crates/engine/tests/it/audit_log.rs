//! The audit log: what each verb leaves in it, who may read it, and what cannot fill it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::account::{Account, AccountChange};
use domain::audit::{Actor, AuditAction, AuditEntry};
use domain::contract::Contract;
use domain::delivery::Delivery;
use domain::endpoint::Endpoint;
use domain::id::{AccountId, EndpointId, KeyId, ReplayId};
use domain::page::PageRequest;
use domain::replay::ReplayFate;
use domain::testing::TEST_START;
use engine::administer::{EndpointEdit, Events, NewAccount, NewEndpoint};
use engine::event_types::NewEventType;
use engine::operations::OperationsAccount;
use engine::publish::Publish;
use engine::replay::many::NewReplay;
use engine::scope::{Caller, Scope};
use engine::{AuditFilter, ErrorCode};
use store::fault::{Fault, FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::ScriptedSender;

use crate::harness::{Scene, an_event, as_account};

const URL: &str = "https://hooks.customer.com/a";
const OTHER: &str = "https://hooks.customer.com/b";
const HEADER_VALUE: &str = "Bearer of-bad-news";
const DESCRIPTION: &str = "what only we may know";
const EVENT_TYPE: &str = "video.made";
const REGISTERED_TYPE: &str = "video.known";

/// Every verb that changes something, and what it is called in the log.
const CHANGES: [(&str, AuditAction); 18] = [
    ("create_account", AuditAction::AccountCreated),
    ("change_account", AuditAction::AccountChanged),
    ("delete_account", AuditAction::AccountDeleted),
    ("issue_key", AuditAction::KeyCreated),
    ("revoke_key", AuditAction::KeyRevoked),
    ("create_endpoint", AuditAction::EndpointCreated),
    ("change_endpoint", AuditAction::EndpointChanged),
    ("rotate_secret", AuditAction::SecretRotated),
    ("delete_endpoint", AuditAction::EndpointDeleted),
    ("replay_delivery", AuditAction::DeliveryReplayed),
    ("cancel_event", AuditAction::EventCancelled),
    ("cancel_delivery", AuditAction::DeliveryCancelled),
    ("erase_event", AuditAction::EventErased),
    ("start_replay", AuditAction::ReplayStarted),
    ("cancel_replay", AuditAction::ReplayCancelled),
    ("put_operations_account", AuditAction::AccountCreated),
    ("put_event_type", AuditAction::EventTypeChanged),
    ("delete_event_type", AuditAction::EventTypeDeleted),
];

/// Verbs that only look, that leave a note of their own kind, or whose history is of events.
const OTHERS: [&str; 31] = [
    "account",
    "account_named",
    "all_endpoints",
    "attempts",
    "count_replay",
    "counts",
    "delivery",
    "endpoint",
    "event",
    "event_type",
    "follow_events",
    "list_accounts",
    "list_audit",
    "list_deliveries",
    "list_endpoints",
    "list_event_types",
    "list_events",
    "list_keys",
    "list_replays",
    "note_reveal",
    "operations_account",
    "publish",
    "publish_batch",
    "publish_test",
    "reload_sealing_keys",
    "replay",
    "sealing_keys",
    "secret",
    "stats",
    "test_filter",
    "verify_audit",
];

/// What the operator alone may do.
const OPERATOR_ONLY: [&str; 6] = [
    "create_account",
    "change_account",
    "delete_account",
    "put_operations_account",
    "put_event_type",
    "delete_event_type",
];

/// An account with all there is to change, and the secrets that are in it.
struct Stage {
    scene: Scene,
    account: Account,
    endpoint: Endpoint,
    delivery: Delivery,
    /// Due in an hour.
    scheduled: Delivery,
    /// Resting, since its endpoint is disabled.
    replay: ReplayId,
    key: KeyId,
    secrets: Vec<String>,
}

impl Stage {
    async fn new() -> Self {
        let scene = Scene::new().await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let (record, key) = scene.engine.issue_key(Scope::OPERATOR, account.id).await.unwrap();
        scene.publish(&account).await;
        scene.drain().await;
        let delivery = scene.delivery().await;
        let (scheduled, replay) = scheduled_and_replay(&scene, &account).await;
        let (contract, new) = (Contract::Standard, NewEventType::default());
        let put = scene.engine.put_event_type(Scope::OPERATOR, contract, REGISTERED_TYPE, new);
        put.await.unwrap();
        let secrets = vec![
            endpoint.secret.reveal().to_owned(),
            key.reveal().to_owned(),
            HEADER_VALUE.to_owned(),
            DESCRIPTION.to_owned(),
            "video_1".to_owned(),
        ];
        Self { scene, account, endpoint, delivery, scheduled, replay, key: record.id, secrets }
    }

    /// Does it; answers the account it was about and what it was done to, if that is not new.
    #[expect(clippy::too_many_lines, reason = "a few lines for each verb")]
    async fn perform(&mut self, verb: &str, scope: Scope) -> (AccountId, Option<String>) {
        let engine = &self.scene.engine;
        let (account, endpoint) = (self.account.id, self.endpoint.id);
        let headers = vec![("x-tenant".to_owned(), HEADER_VALUE.to_owned())];
        let description = Some(DESCRIPTION.to_owned());
        match verb {
            "create_account" => {
                let new = NewAccount {
                    username: "jane".to_owned(),
                    contract: Contract::JoggV2,
                    plan: None,
                    credits: Some(3),
                    api_access: true,
                };
                let (account, key) = engine.create_account(scope, new).await.unwrap();
                self.secrets.push(key.reveal().to_owned());
                (account.id, Some(account.id.to_string()))
            }
            "change_account" => {
                let change = AccountChange { api_access: Some(false), ..AccountChange::default() };
                engine.change_account(scope, account, change).await.unwrap();
                (account, Some(account.to_string()))
            }
            "delete_account" => {
                engine.delete_account(scope, account).await.unwrap();
                (account, Some(account.to_string()))
            }
            "issue_key" => {
                let (record, key) = engine.issue_key(scope, account).await.unwrap();
                self.secrets.push(key.reveal().to_owned());
                (account, Some(record.id.to_string()))
            }
            "revoke_key" => {
                engine.revoke_key(scope, account, self.key).await.unwrap();
                (account, Some(self.key.to_string()))
            }
            "create_endpoint" => {
                let url = OTHER.to_owned();
                let new = NewEndpoint { url, headers, description, ..NewEndpoint::default() };
                let new = engine.create_endpoint(scope, account, new).await.unwrap();
                self.secrets.push(new.secret.reveal().to_owned());
                (account, Some(new.id.to_string()))
            }
            "change_endpoint" => {
                let edit = EndpointEdit {
                    headers: Some(headers),
                    description: Some(description),
                    events: Some(Events::Listed(vec!["video.ready".to_owned()])),
                    ..EndpointEdit::default()
                };
                engine.change_endpoint(scope, endpoint, edit).await.unwrap();
                (account, Some(endpoint.to_string()))
            }
            "rotate_secret" => {
                let rotated = engine.rotate_secret(scope, endpoint, None).await.unwrap();
                self.secrets.push(rotated.secret.reveal().to_owned());
                (account, Some(endpoint.to_string()))
            }
            "delete_endpoint" => {
                engine.delete_endpoint(scope, endpoint).await.unwrap();
                (account, Some(endpoint.to_string()))
            }
            "put_operations_account" => {
                let put = engine.put_operations_account(scope).await.unwrap();
                let OperationsAccount::Created(account) = put else { panic!("it was there") };
                (account.id, Some(account.id.to_string()))
            }
            "replay_delivery" => {
                engine.replay_delivery(scope, self.delivery.id).await.unwrap();
                (account, Some(self.delivery.id.to_string()))
            }
            "cancel_event" => {
                engine.cancel_event(scope, self.scheduled.event).await.unwrap();
                (account, Some(self.scheduled.event.to_string()))
            }
            "cancel_delivery" => {
                engine.cancel_delivery(scope, self.scheduled.id).await.unwrap();
                (account, Some(self.scheduled.id.to_string()))
            }
            "erase_event" => {
                engine.erase_event(scope, self.delivery.event).await.unwrap();
                (account, Some(self.delivery.event.to_string()))
            }
            "start_replay" => {
                let replay = engine.start_replay(scope, endpoint, everything()).await.unwrap();
                (account, Some(replay.id.to_string()))
            }
            "cancel_replay" => {
                engine.cancel_replay(scope, self.replay).await.unwrap();
                (account, Some(self.replay.to_string()))
            }
            "put_event_type" => {
                let new = NewEventType { description, ..NewEventType::default() };
                engine.put_event_type(scope, Contract::Standard, EVENT_TYPE, new).await.unwrap();
                (account, Some(EVENT_TYPE.to_owned()))
            }
            "delete_event_type" => {
                let contract = Contract::Standard;
                engine.delete_event_type(scope, contract, REGISTERED_TYPE).await.unwrap();
                (account, Some(REGISTERED_TYPE.to_owned()))
            }
            other => panic!("say here how to do {other}"),
        }
    }
}

/// Every event so far.
fn everything() -> NewReplay {
    NewReplay { fate: ReplayFate::All, since: TEST_START, until: None, per_second: None }
}

/// A delivery that is due in an hour, and a replay that does not get on.
async fn scheduled_and_replay(scene: &Scene, account: &Account) -> (Delivery, ReplayId) {
    let deliver_at = Some(TEST_START.plus(Duration::from_hours(1)));
    let event = Publish { deliver_at, ..an_event(account) };
    let event = scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap().id;
    let story = scene.engine.event(Scope::OPERATOR, event).await.unwrap();
    let scheduled = story.fates[0].delivery.clone().unwrap();
    let idle = scene.endpoint(account, "https://hooks.customer.com/idle").await;
    let replay = scene.engine.start_replay(Scope::OPERATOR, idle.id, everything()).await.unwrap();
    let edit = EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, idle.id, edit).await.unwrap();
    (scheduled, replay.id)
}

/// Every entry, oldest first.
async fn log(scene: &Scene) -> Vec<AuditEntry> {
    let filter = AuditFilter::default();
    let page = scene.engine.list_audit(Scope::OPERATOR, filter, PageRequest::LARGEST).await;
    let mut entries = page.unwrap().items;
    entries.reverse();
    entries
}

async fn actions(scene: &Scene, action: AuditAction) -> Vec<AuditEntry> {
    let entries = log(scene).await.into_iter();
    entries.filter(|entry| entry.note.action == action).collect()
}

#[tokio::test(start_paused = true)]
async fn every_change_leaves_one_entry_that_says_who_and_what_and_no_secret() {
    let operator_key = KeyId::from_u128(5);
    for (verb, action) in CHANGES {
        let scopes: [fn(&Stage) -> Scope; 3] = [
            |_| Scope::OPERATOR,
            |_| Scope::Operator { key: Some(KeyId::from_u128(5)) },
            |stage| as_account(&stage.account),
        ];
        for scope in scopes {
            let mut stage = Stage::new().await;
            let scope = scope(&stage);
            if scope.account().is_some() && OPERATOR_ONLY.contains(&verb) {
                continue;
            }
            let before = log(&stage.scene).await.len();
            let (account, subject) = stage.perform(verb, scope).await;
            let entries = log(&stage.scene).await.split_off(before);
            let [entry] = entries.as_slice() else { panic!("{verb}: {entries:?}") };
            let actor = match scope {
                Scope::Operator { key: None } => Actor::Operator,
                Scope::Operator { .. } => Actor::Key(operator_key),
                Scope::Account { key, .. } => Actor::Key(key),
            };
            assert_eq!(entry.note.actor, actor, "{verb}");
            assert_eq!(entry.note.action, action, "{verb}");
            // The catalogue is no account's.
            let is_common = verb.ends_with("_event_type");
            assert_eq!(entry.note.account, (!is_common).then_some(account), "{verb}");
            assert_eq!(Some(&entry.note.subject), subject.as_ref(), "{verb}");
            assert!(entry.note.details.starts_with('{') && entry.note.details.ends_with('}'));
            for secret in &stage.secrets {
                let shown = format!("{entry:?}");
                assert!(!shown.contains(secret.as_str()), "{verb} shows {secret:?}: {shown}");
            }
            assert!(stage.scene.engine.verify_audit(Scope::OPERATOR).await.is_ok());
        }
    }
}

/// A verb added to the engine must be added to one of the tables above.
#[test]
fn every_verb_is_known_to_be_a_change_or_not() {
    fn read(folder: &Path, verbs: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, verbs);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for verb in source.split("    pub async fn ").skip(1) {
                let (signature, _) = verb.split_once(" {\n").unwrap();
                if signature.contains("scope: Scope") {
                    verbs.insert(verb.split_once('(').unwrap().0.to_owned());
                }
            }
        }
    }
    let mut verbs = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut verbs);
    let known: BTreeSet<String> =
        CHANGES.iter().map(|(verb, _)| *verb).chain(OTHERS).map(str::to_owned).collect();
    assert_eq!(verbs, known);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_changes_nothing_leaves_no_entry_and_the_object_as_it_was() {
    let stage = Stage::new().await;
    let engine = &stage.scene.engine;
    let operator = Scope::OPERATOR;
    let before = log(&stage.scene).await.len();
    stage.scene.pass(Duration::from_secs(1)).await;

    let same = EndpointEdit {
        url: Some(stage.endpoint.url.as_str().to_owned()),
        ..EndpointEdit::default()
    };
    let endpoint = engine.change_endpoint(operator, stage.endpoint.id, same).await.unwrap();
    assert_eq!(endpoint, stage.endpoint);
    let same = AccountChange { api_access: Some(true), ..AccountChange::default() };
    let account = engine.change_account(operator, stage.account.id, same).await.unwrap();
    assert_eq!(account, stage.account);
    assert_eq!(log(&stage.scene).await.len(), before);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_does_not_exist_leaves_no_entry() {
    let stage = Stage::new().await;
    let engine = &stage.scene.engine;
    let before = log(&stage.scene).await.len();
    let operator = Scope::OPERATOR;
    let new = NewAccount {
        username: "john".to_owned(),
        contract: Contract::JoggV2,
        plan: None,
        credits: None,
        api_access: true,
    };
    let nowhere = EndpointId::from_u128(2);
    let edit = EndpointEdit::default;
    let wrong = EndpointEdit { url: Some("http://[".to_owned()), ..edit() };
    let nobody = AccountId::from_u128(4);
    let too_long = Some(Duration::from_hours(7 * 24 + 1));
    assert!(engine.create_account(operator, new).await.is_err());
    assert!(engine.change_account(operator, nobody, AccountChange::default()).await.is_err());
    assert!(engine.delete_account(operator, nobody).await.is_err());
    assert!(engine.issue_key(operator, nobody).await.is_err());
    assert!(engine.revoke_key(operator, stage.account.id, KeyId::from_u128(1)).await.is_err());
    assert!(engine.change_endpoint(operator, nowhere, edit()).await.is_err());
    assert!(engine.change_endpoint(operator, stage.endpoint.id, wrong).await.is_err());
    assert!(engine.delete_endpoint(operator, nowhere).await.is_err());
    assert!(engine.rotate_secret(operator, nowhere, None).await.is_err());
    assert!(engine.rotate_secret(operator, stage.endpoint.id, too_long).await.is_err());
    assert!(engine.secret(operator, nowhere).await.is_err());
    assert_eq!(log(&stage.scene).await.split_off(before), []);
}

#[tokio::test(start_paused = true)]
async fn a_first_operator_key_is_noted_as_ours() {
    let scene = Scene::new().await;
    let entries = actions(&scene, AuditAction::KeyCreated).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.note.actor, Actor::System);
    assert_eq!(entry.note.account, None);
}

#[tokio::test(start_paused = true)]
async fn an_account_reads_the_entries_about_itself_and_no_others() {
    let scene = Scene::new().await;
    let (john, _) = scene.subscriber("john", URL).await;
    let (jane, endpoint) = scene.subscriber("jane", OTHER).await;
    scene.engine.rotate_secret(as_account(&jane), endpoint.id, None).await.unwrap();
    let engine = &scene.engine;
    let page = PageRequest::LARGEST;
    for (account, count) in [(&john, 2), (&jane, 3)] {
        let filters = [
            AuditFilter::default(),
            AuditFilter { account: Some(account.id), ..AuditFilter::default() },
        ];
        for filter in filters {
            let own = engine.list_audit(as_account(account), filter, page).await.unwrap().items;
            assert_eq!(own.len(), count);
            assert!(own.iter().all(|entry| entry.note.account == Some(account.id)));
        }
    }
    let of_jane = AuditFilter { account: Some(jane.id), ..AuditFilter::default() };
    let refused = engine.list_audit(as_account(&john), of_jane, page).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let refused = engine.verify_audit(as_account(&john)).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let refused = engine.note_reveal(as_account(&john), jane.id).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::NotFound);
    let all = log(&scene).await;
    let chain = engine.verify_audit(Scope::OPERATOR).await.unwrap();
    assert_eq!((chain.entries, chain.first_break), (all.len() as u64, None));
    assert_eq!(Some(chain.head), all.last().map(|entry| entry.hash));
}

#[tokio::test(start_paused = true)]
async fn repeated_looks_at_the_same_secrets_are_noted_once_a_minute() {
    let scene = Scene::new().await;
    let (john, endpoint) = scene.subscriber("john", URL).await;
    let engine = &scene.engine;
    let noted = async || actions(&scene, AuditAction::SecretRevealed).await.len();
    let own = as_account(&john);
    for _ in 0..10 {
        let shown = engine.secret(own, endpoint.id).await.unwrap();
        assert_eq!(shown.secret, endpoint.secret);
        engine.note_reveal(own, john.id).await.unwrap();
    }
    assert_eq!(noted().await, 2, "one of the endpoint, one of the account");
    engine.secret(Scope::OPERATOR, endpoint.id).await.unwrap();
    assert_eq!(noted().await, 3, "by another key");
    scene.pass(Duration::from_secs(59)).await;
    engine.secret(own, endpoint.id).await.unwrap();
    assert_eq!(noted().await, 3);
    scene.pass(Duration::from_secs(1)).await;
    engine.secret(own, endpoint.id).await.unwrap();
    assert_eq!(noted().await, 4);
    for entry in actions(&scene, AuditAction::SecretRevealed).await {
        assert_eq!(entry.note.account, Some(john.id));
        assert!(!format!("{entry:?}").contains(endpoint.secret.reveal()));
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_shown_that_cannot_be_noted() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (john, endpoint) = scene.subscriber("john", URL).await;
    faults.fail(Method::Note, Fault::Before);
    for _ in 0..2 {
        let refused = scene.engine.secret(as_account(&john), endpoint.id).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unavailable);
        let refused = scene.engine.note_reveal(as_account(&john), john.id).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unavailable);
    }
    faults.heal();
    scene.engine.secret(as_account(&john), endpoint.id).await.unwrap();
    assert_eq!(actions(&scene, AuditAction::SecretRevealed).await.len(), 1);
}

/// A key that is well formed, whether or not it is one.
fn well_formed_key(public_part: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let unchecked = format!("pr_ak_{public_part}_{}", "x".repeat(43));
    let mut left = crc32fast::hash(unchecked.as_bytes()) as usize;
    let mut checksum = [0; 6];
    for digit in checksum.iter_mut().rev() {
        *digit = DIGITS[left % 62];
        left /= 62;
    }
    unchecked + std::str::from_utf8(&checksum).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_refused_key_is_noted_by_its_public_part_with_the_reason() {
    let scene = Scene::new().await;
    let john = scene.account(Contract::Standard, "john").await;
    let engine = &scene.engine;
    let (record, key) = engine.issue_key(Scope::OPERATOR, john.id).await.unwrap();
    let opens = async |key: &str| engine.authenticate(key).await.unwrap().is_some();
    let noted = async || actions(&scene, AuditAction::KeyRefused).await;

    assert!(opens(key.reveal()).await);
    for not_even_a_key in ["", "x", "pr_ak_", &key.reveal().replace("pr_ak_", "pr_op_")] {
        assert!(!opens(not_even_a_key).await);
    }
    assert!(noted().await.is_empty(), "what is no key is not noted");

    assert!(!opens(&well_formed_key("0123456789abcdef")).await);
    assert!(!opens(&well_formed_key(&record.public_part)).await);
    scene.pass(Duration::from_mins(1)).await;
    engine.delete_account(Scope::OPERATOR, john.id).await.unwrap();
    assert!(!opens(key.reveal()).await);

    let made_up = "0123456789abcdef".to_owned();
    let expected = [
        (Actor::Stranger, None, made_up, r#"{"why":"unknown or revoked"}"#),
        (Actor::Stranger, Some(john.id), record.public_part.clone(), r#"{"why":"wrong secret"}"#),
        (
            Actor::Key(record.id),
            Some(john.id),
            record.public_part.clone(),
            r#"{"why":"account deleted"}"#,
        ),
    ];
    for (entry, (actor, account, subject, details)) in noted().await.into_iter().zip(expected) {
        let note = entry.note;
        assert_eq!((note.actor, note.account, note.subject), (actor, account, subject));
        assert_eq!(note.details, details);
    }
    assert_eq!(noted().await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_good_key_that_its_surface_refuses_is_noted_once_a_minute() {
    let scene = Scene::new().await;
    let john = scene.account(Contract::Standard, "john").await;
    let engine = &scene.engine;
    let (record, key) = engine.issue_key(Scope::OPERATOR, john.id).await.unwrap();
    let caller = engine.authenticate(key.reveal()).await.unwrap().unwrap();
    for _ in 0..10 {
        engine.note_refusal(&caller, "API access withdrawn").await;
    }
    let entries = actions(&scene, AuditAction::KeyRefused).await;
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry.note.actor, Actor::Key(record.id));
    assert_eq!(entry.note.account, Some(john.id));
    assert_eq!(entry.note.subject, record.public_part);
    assert_eq!(entry.note.details, r#"{"why":"API access withdrawn"}"#);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_made_up_keys_leaves_sixty_entries_a_minute_and_is_refused_all_the_same() {
    let scene = Scene::new().await;
    for number in 0..2_000 {
        let key = well_formed_key(&format!("{number:016}"));
        assert!(scene.engine.authenticate(&key).await.unwrap().is_none());
        assert!(scene.engine.authenticate(&key).await.unwrap().is_none());
    }
    assert_eq!(actions(&scene, AuditAction::KeyRefused).await.len(), 60);
    scene.pass(Duration::from_mins(1)).await;
    let key = well_formed_key(&format!("{:016}", 5_000));
    assert!(scene.engine.authenticate(&key).await.unwrap().is_none());
    assert_eq!(actions(&scene, AuditAction::KeyRefused).await.len(), 61);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_refused_as_ever_while_nothing_can_be_noted() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    faults.fail(Method::Note, Fault::Before);
    let key = well_formed_key("0123456789abcdef");
    assert!(scene.engine.authenticate(&key).await.unwrap().is_none());
    assert_eq!(faults.calls(Method::Note), 2, "the start, and this");
    let caller = Caller::Operator { key: None };
    scene.engine.note_refusal(&caller, "because").await;
}
