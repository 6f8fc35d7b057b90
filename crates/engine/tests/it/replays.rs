//! Replays of many events: which, how fast, and what stops them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::breaker::BreakerState;
use domain::contract::Contract;
use domain::delivery::{DeliveryState, StateName};
use domain::endpoint::Endpoint;
use domain::id::{EndpointId, EventId, ReplayId};
use domain::limits::REPLAY_PER_SECOND_MAX;
use domain::page::PageRequest;
use domain::replay::{Replay, ReplayFate, ReplayState};
use domain::testing::TEST_START;
use engine::administer::{EndpointEdit, NewEndpoint};
use engine::clock::Clock as _;
use engine::replay::many::NewReplay;
use engine::scope::Scope;
use engine::settings::Settings;
use engine::{AuditFilter, EngineError, ErrorCode};
use store::fault::{Fault, FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SentRequest};

use crate::harness::{Scene, as_account};

const URL: &str = "https://hooks.customer.com/a";
const OTHER: &str = "https://hooks.customer.com/b";

/// Everything so far of that fate, at the default pace.
fn everything(fate: ReplayFate) -> NewReplay {
    NewReplay { fate, since: TEST_START, until: None, per_second: None }
}

fn exhausted() -> NewReplay {
    everything(ReplayFate::Exhausted)
}

/// An account with one endpoint at this URL that is tried once only.
async fn tried_once(scene: &Scene, username: &str, url: &str) -> (Account, Endpoint) {
    let account = scene.account(Contract::Standard, username).await;
    let new = NewEndpoint {
        url: url.to_owned(),
        retry_schedule: Some(vec![0]),
        ..NewEndpoint::default()
    };
    let endpoint = scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    (account, endpoint)
}

/// Publishes that many events, which the endpoint at [`URL`] turns down; then it works again. It
/// says 429, which tells nothing bad of its health.
async fn exhaust(scene: &Scene, account: &Account, count: usize) -> Vec<EventId> {
    scene.sender.always(URL, Reply::status(429));
    let mut events = Vec::new();
    for _ in 0..count {
        events.push(scene.publish(account).await.id);
    }
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Exhausted).await, count);
    scene.pass(Duration::from_hours(1)).await;
    scene.sender.always(URL, Reply::status(200));
    events
}

async fn start(scene: &Scene, endpoint: EndpointId, new: NewReplay) -> Result<Replay, EngineError> {
    scene.engine.start_replay(Scope::OPERATOR, endpoint, new).await
}

async fn read(scene: &Scene, id: ReplayId) -> Replay {
    scene.engine.replay(Scope::OPERATOR, id).await.unwrap()
}

/// Lets time pass until the replay has ended, and all it made with it.
async fn ended(scene: &Scene, id: ReplayId) -> Replay {
    let deadline = scene.clock.now().plus(Duration::from_hours(24));
    loop {
        let replay = read(scene, id).await;
        if replay.state != ReplayState::Running {
            scene.drain().await;
            return replay;
        }
        assert!(scene.clock.now() < deadline, "{replay:?}");
        scene.pass(Duration::from_millis(100)).await;
    }
}

fn ids(sent: &[SentRequest]) -> Vec<String> {
    sent.iter().map(|sent| sent.header("webhook-id").unwrap().to_owned()).collect()
}

fn texts(events: &[EventId]) -> Vec<String> {
    events.iter().map(ToString::to_string).collect()
}

async fn entries(scene: &Scene, action: AuditAction) -> Vec<AuditNote> {
    let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
    let page = scene.engine.list_audit(Scope::OPERATOR, filter, PageRequest::LARGEST).await;
    page.unwrap().items.into_iter().map(|entry| entry.note).collect()
}

#[tokio::test(start_paused = true)]
async fn a_replay_delivers_each_event_once_more_evenly_and_no_faster_than_it_may() {
    for per_second in [1, 10, 97] {
        let scene = Scene::new().await;
        let (account, endpoint) = tried_once(&scene, "john", URL).await;
        let events = exhaust(&scene, &account, 300).await;
        let sent_before = scene.sender.requests().len();
        let began_at = tokio::time::Instant::now();
        let new = NewReplay { per_second: Some(per_second), ..exhausted() };
        let replay = start(&scene, endpoint.id, new).await.unwrap();
        assert_eq!((replay.state, replay.per_second), (ReplayState::Running, per_second));
        let replay = ended(&scene, replay.id).await;
        assert_eq!(replay.state, ReplayState::Done);
        assert_eq!((replay.looked_at, replay.created), (300, 300));
        assert!(replay.ended_at.is_some());

        let sent = scene.sender.requests().split_off(sent_before);
        assert_eq!(ids(&sent), texts(&events), "each once, the oldest first");
        let step = (per_second / 8).max(1) as usize;
        for sent in sent.windows(per_second as usize + step) {
            let length = sent[sent.len() - 1].at - sent[0].at;
            assert!(length >= Duration::from_millis(980), "{per_second} {length:?}");
        }
        let lasted = (sent[299].at - began_at).as_secs_f64();
        let expected = 300.0 / f64::from(per_second);
        assert!(lasted < expected * 1.05 + 0.2, "{per_second}: {lasted} s");
        assert_eq!(scene.count_in(StateName::Delivered).await, 300);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replayed_event_keeps_its_id_and_body_and_is_signed_anew() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 1).await;
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap();
    ended(&scene, replay.id).await;
    let sent = scene.sender.requests();
    let [old, new] = sent.as_slice() else { panic!("{}", sent.len()) };
    assert_eq!(new.request.body, old.request.body);
    assert_eq!(new.header("webhook-id"), old.header("webhook-id"));
    let timestamp =
        |sent: &SentRequest| -> i64 { sent.header("webhook-timestamp").unwrap().parse().unwrap() };
    assert!(timestamp(new) >= timestamp(old) + 3_600);
    assert_ne!(new.header("webhook-signature"), old.header("webhook-signature"));
}

/// An endpoint at which events have met every fate.
async fn with_every_fate(scene: &Scene) -> (EndpointId, BTreeMap<&'static str, EventId>) {
    let (account, endpoint) = tried_once(scene, "john", URL).await;
    let mut events = BTreeMap::new();
    let set_disabled = async |is_disabled: bool| {
        let edit = EndpointEdit { is_disabled: Some(is_disabled), ..EndpointEdit::default() };
        scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    };
    events.insert("delivered", scene.publish(&account).await.id);
    scene.drain().await;
    events.insert("exhausted", exhaust(scene, &account, 1).await[0]);
    set_disabled(true).await;
    events.insert("missing", scene.publish(&account).await.id);
    set_disabled(false).await;
    let deliver_at = Some(scene.clock.now().plus(Duration::from_hours(9)));
    let pending = engine::publish::Publish { deliver_at, ..crate::harness::an_event(&account) };
    let pending = scene.engine.publish(Scope::OPERATOR, pending, None).await.unwrap();
    events.insert("pending", pending.id);
    let mut replayed = exhaust_again(scene, &account).await;
    events.insert("exhausted, then delivered", replayed.remove(0));
    (endpoint.id, events)
}

/// An event that was exhausted, and delivered when it was replayed.
async fn exhaust_again(scene: &Scene, account: &Account) -> Vec<EventId> {
    scene.sender.script(URL, [Reply::status(429)]);
    let event = scene.publish(account).await.id;
    scene.pass(Duration::from_secs(1)).await;
    let story = scene.engine.event(Scope::OPERATOR, event).await.unwrap();
    let delivery = story.fates[0].delivery.clone().unwrap();
    assert_eq!(delivery.state.name(), StateName::Exhausted);
    scene.engine.replay_delivery(Scope::OPERATOR, delivery.id).await.unwrap();
    scene.pass(Duration::from_mins(10)).await;
    vec![event]
}

#[tokio::test(start_paused = true)]
async fn each_fate_selects_what_it_says_and_a_dry_run_counts_the_same_and_does_nothing() {
    for (fate, expected) in [
        (ReplayFate::Exhausted, vec!["exhausted"]),
        (ReplayFate::All, vec!["delivered", "exhausted", "exhausted, then delivered"]),
        (ReplayFate::Missing, vec!["missing"]),
    ] {
        let scene = Scene::new().await;
        let (endpoint, events) = with_every_fate(&scene).await;
        let created = scene.engine.counts(Scope::OPERATOR).await.unwrap().created;
        scene.pass(Duration::from_secs(1)).await;
        let counted =
            scene.engine.count_replay(Scope::OPERATOR, endpoint, everything(fate)).await.unwrap();
        assert_eq!(counted.events, expected.len() as u64, "{fate:?}");
        assert!(counted.is_complete);
        let counts = scene.engine.counts(Scope::OPERATOR).await.unwrap();
        assert_eq!(counts.created, created, "counting makes nothing");

        let sent_before = scene.sender.requests().len();
        let replay = start(&scene, endpoint, everything(fate)).await.unwrap();
        scene.pass(Duration::from_secs(30)).await;
        let replay = read(&scene, replay.id).await;
        assert_eq!((replay.state, replay.created), (ReplayState::Done, counted.events));
        let sent: BTreeSet<_> =
            ids(&scene.sender.requests().split_off(sent_before)).into_iter().collect();
        let expected: BTreeSet<_> = expected.iter().map(|name| events[name].to_string()).collect();
        assert_eq!(sent, expected, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_events_of_the_span_are_replayed() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    scene.sender.always(URL, Reply::status(429));
    let mut events = Vec::new();
    for _ in 0..10 {
        events.push(scene.publish(&account).await.id);
        scene.pass(Duration::from_mins(1)).await;
    }
    scene.drain().await;
    scene.sender.always(URL, Reply::status(200));
    let sent_before = scene.sender.requests().len();
    let minute = |number: u64| TEST_START.plus(Duration::from_mins(number));
    let new = NewReplay { since: minute(3), until: Some(minute(7)), ..exhausted() };
    let replay = start(&scene, endpoint.id, new).await.unwrap();
    assert_eq!((replay.selection.since, replay.selection.until), (minute(3), minute(7)));
    assert_eq!(ended(&scene, replay.id).await.created, 4);
    let sent = scene.sender.requests().split_off(sent_before);
    assert_eq!(ids(&sent), texts(&events[3..7]));
    let far = NewReplay { until: Some(minute(99_999)), ..exhausted() };
    let replay = start(&scene, endpoint.id, far).await.unwrap();
    assert_eq!(replay.selection.until, replay.created_at, "what comes later is not selected");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_replay_stops_at_once_and_what_it_made_stays() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 100).await;
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap();
    scene.pass(Duration::from_secs(3)).await;
    let cancelled = scene.engine.cancel_replay(as_account(&account), replay.id).await.unwrap();
    assert_eq!(cancelled.state, ReplayState::Cancelled);
    assert!((29..=32).contains(&cancelled.created), "{cancelled:?}");
    scene.pass(Duration::from_mins(1)).await;
    assert_eq!(read(&scene, replay.id).await, cancelled);
    assert_eq!(scene.count_in(StateName::Delivered).await as u64, cancelled.created);
    let again = scene.engine.cancel_replay(Scope::OPERATOR, replay.id).await.unwrap();
    assert_eq!(again, cancelled);
    assert_eq!(entries(&scene, AuditAction::ReplayCancelled).await.len(), 1);
    assert!(entries(&scene, AuditAction::ReplayEnded).await.is_empty());

    let rest = start(&scene, endpoint.id, exhausted()).await.unwrap();
    assert_eq!(ended(&scene, rest.id).await.created, 100 - cancelled.created);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_a_restart_without_repeating_or_losing_anything() {
    let mut store = Arc::new(MemoryStore::new());
    let sender = ScriptedSender::new();
    let scene = Scene::on(store.clone(), sender.clone()).await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    let events = exhaust(&scene, &account, 200).await;
    let sent_before = sender.requests().len();
    let new = NewReplay { per_second: Some(50), ..exhausted() };
    let replay = start(&scene, endpoint.id, new).await.unwrap().id;
    let mut scene = scene;
    for restart in 0..4 {
        // Between two attempts, so that none is on its way and made again.
        scene.pass(Duration::from_millis(700 + restart)).await;
        scene.engine.abandon();
        store = Arc::new(store.reopen());
        let shown = scene.clock.now();
        scene = Scene::with(store.clone(), sender.clone(), Settings::default(), 8 + restart).await;
        scene.clock.set_forward(shown.since(TEST_START));
    }
    assert_eq!(ended(&scene, replay).await.created, 200);
    let mut sent = ids(&sender.requests().split_off(sent_before));
    sent.sort();
    let mut expected = texts(&events);
    expected.sort();
    assert_eq!(sent, expected);
}

#[tokio::test(start_paused = true)]
async fn steps_that_fail_or_seem_to_only_slow_a_replay() {
    for period in 1..5 {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
        let (account, endpoint) = tried_once(&scene, "john", URL).await;
        let events = exhaust(&scene, &account, 50).await;
        let sent_before = scene.sender.requests().len();
        let replay = start(&scene, endpoint.id, exhausted()).await.unwrap().id;
        for faulty in [Method::StepReplay, Method::RunningReplays] {
            let calm = std::iter::repeat_n(None, period);
            let mishaps = calm.chain([Some(Fault::Before), Some(Fault::After)]).cycle();
            faults.script(faulty, mishaps.take(200));
        }
        assert_eq!(ended(&scene, replay).await.created, 50, "{period}");
        let sent: BTreeSet<_> =
            ids(&scene.sender.requests().split_off(sent_before)).into_iter().collect();
        assert_eq!(sent, texts(&events).into_iter().collect(), "{period}");
        assert!(faults.calls(Method::StepReplay) > 50);
        scene.pass(Duration::from_mins(2)).await;
        assert_eq!(entries(&scene, AuditAction::ReplayEnded).await.len(), 1, "{period}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_rests_while_its_endpoint_is_disabled_and_does_not_catch_up_in_a_burst() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 100).await;
    let set_disabled = async |is_disabled: bool| {
        let edit = EndpointEdit { is_disabled: Some(is_disabled), ..EndpointEdit::default() };
        scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    };
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap().id;
    scene.pass(Duration::from_secs(2)).await;
    set_disabled(true).await;
    let resting = read(&scene, replay).await;
    scene.pass(Duration::from_mins(10)).await;
    assert_eq!(read(&scene, replay).await, resting);
    set_disabled(false).await;
    scene.pass(Duration::from_secs(3)).await;
    let made = read(&scene, replay).await.created - resting.created;
    assert!((15..=31).contains(&made), "{made} in three seconds");
    assert_eq!(ended(&scene, replay).await.created, 100);
}

#[tokio::test(start_paused = true)]
async fn a_replay_whose_endpoint_is_deleted_is_cancelled() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 100).await;
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap().id;
    scene.pass(Duration::from_secs(2)).await;
    scene.engine.delete_endpoint(Scope::OPERATOR, endpoint.id).await.unwrap();
    scene.pass(Duration::from_secs(2)).await;
    let ended = read(&scene, replay).await;
    assert_eq!(ended.state, ReplayState::Cancelled);
    assert!(ended.created < 100);
    let notes = entries(&scene, AuditAction::ReplayEnded).await;
    assert_eq!(notes, [ended.ended_note(ended.ended_at.unwrap())]);
    scene.check_balance().await;
}

#[tokio::test(start_paused = true)]
async fn fresh_events_keep_their_latency_while_a_thousand_are_replayed_as_fast_as_can_be() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    let neighbour = scene.subscriber("jane", OTHER).await.0;
    exhaust(&scene, &account, 1_000).await;
    for url in [URL, OTHER] {
        scene.sender.always(url, Reply::status(200).after(Duration::from_millis(20)));
    }
    let per_second = Some(REPLAY_PER_SECOND_MAX);
    let replay = start(&scene, endpoint.id, NewReplay { per_second, ..exhausted() }).await.unwrap();
    let mut waits = Vec::new();
    while read(&scene, replay.id).await.state == ReplayState::Running {
        for (account, url) in [(&account, URL), (&neighbour, OTHER)] {
            let began_at = tokio::time::Instant::now();
            let id = scene.publish(account).await.id.to_string();
            let is_it = |sent: &SentRequest| {
                sent.request.url.as_str() == url && sent.header("webhook-id") == Some(&id)
            };
            let sent = scene.sender.wait_until("the fresh event", |sent| sent.iter().any(is_it));
            let sent = sent.await;
            waits.push(sent.iter().find(|sent| is_it(sent)).unwrap().at - began_at);
        }
        scene.pass(Duration::from_millis(10)).await;
    }
    waits.sort();
    assert!(waits.len() >= 20, "{} fresh events", waits.len());
    assert!(waits[waits.len() - 1] <= Duration::from_millis(100), "{waits:?}");
    assert_eq!(ended(&scene, replay.id).await.created, 1_000);
}

#[tokio::test(start_paused = true)]
async fn fresh_events_keep_their_latency_while_a_slow_endpoint_gets_a_fast_replay() {
    const TAKES: Duration = Duration::from_millis(400);
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let new = NewEndpoint {
        url: URL.to_owned(),
        retry_schedule: Some(vec![0]),
        max_in_flight: Some(4),
        ..NewEndpoint::default()
    };
    let endpoint = scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap();
    exhaust(&scene, &account, 1_000).await;
    scene.sender.always(URL, Reply::status(200).after(TAKES));
    let per_second = Some(REPLAY_PER_SECOND_MAX);
    let replay = start(&scene, endpoint.id, NewReplay { per_second, ..exhausted() }).await.unwrap();
    scene.pass(Duration::from_secs(5)).await;
    let mut waits = Vec::new();
    for _ in 0..30 {
        let began_at = tokio::time::Instant::now();
        let id = scene.publish(&account).await.id.to_string();
        let is_it = |sent: &SentRequest| sent.header("webhook-id") == Some(&id);
        let sent = scene.sender.wait_until("the fresh event", |sent| sent.iter().any(is_it)).await;
        waits.push(sent.iter().find(|sent| is_it(sent)).unwrap().at - began_at);
        scene.pass(Duration::from_millis(730)).await;
    }
    waits.sort();
    assert!(waits[waits.len() - 1] <= TAKES * 2, "{waits:?}");
    let running = read(&scene, replay.id).await;
    assert_eq!(running.state, ReplayState::Running);
    let begun = scene.sender.requests().len() as u64 - 1_000;
    assert!(running.created <= begun + 200, "{running:?} with {begun} attempts");
    let expected = scene.clock.now().since(replay.created_at).as_secs() * 10;
    assert!(begun > expected * 9 / 10, "{begun} of {expected}: the endpoint is kept busy");
    assert_eq!(ended(&scene, replay.id).await.created, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_replay_probes_an_endpoint_that_nothing_else_would_and_makes_no_more_while_it_fails() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 100).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..40 {
        scene.publish(&account).await;
        scene.pass(Duration::from_millis(100)).await;
    }
    scene.drain().await;
    let is_closed = || scene.engine.lane(endpoint.id).breaker == BreakerState::Closed;
    assert!(!is_closed());
    let fast = NewReplay { per_second: Some(100), ..exhausted() };
    let replay = start(&scene, endpoint.id, fast).await.unwrap().id;
    scene.pass(Duration::from_hours(1)).await;
    let made = read(&scene, replay).await.created;
    assert!((1..=80).contains(&made), "{made} probes");
    assert!(!is_closed());
    scene.sender.always(URL, Reply::status(200));
    assert_eq!(ended(&scene, replay).await.state, ReplayState::Done);
    assert!(is_closed());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replayed_is_refused_with_the_reason() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 20).await;
    let later = scene.clock.now().plus(Duration::from_secs(1));
    for (new, field) in [
        (NewReplay { since: later, ..exhausted() }, "since"),
        (NewReplay { until: Some(TEST_START), ..exhausted() }, "since"),
        (NewReplay { per_second: Some(0), ..exhausted() }, "per_second"),
        (NewReplay { per_second: Some(1_001), ..exhausted() }, "per_second"),
    ] {
        let refused = start(&scene, endpoint.id, new).await.unwrap_err();
        assert_eq!(refused.violations()[0].field, field, "{new:?}");
        let counted = scene.engine.count_replay(Scope::OPERATOR, endpoint.id, new).await;
        assert_eq!(counted.unwrap_err().violations()[0].field, field, "{new:?}");
    }
    let conflict = async || {
        let refused = start(&scene, endpoint.id, exhausted()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Conflict);
        refused.message().to_owned()
    };
    let running = start(&scene, endpoint.id, exhausted()).await.unwrap();
    assert!(conflict().await.contains("is running"));
    ended(&scene, running.id).await;
    let edit = EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    assert!(conflict().await.contains("enable it first"));
    assert_eq!(entries(&scene, AuditAction::ReplayStarted).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_account_sees_and_ends_its_own_replays_only() {
    let scene = Scene::new().await;
    let (john, endpoint) = tried_once(&scene, "john", URL).await;
    let (jane, hers) = tried_once(&scene, "jane", OTHER).await;
    exhaust(&scene, &john, 5).await;
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap().id;
    let other = start(&scene, hers.id, exhausted()).await.unwrap().id;
    let engine = &scene.engine;
    let not_found = |error: EngineError| assert_eq!(error.code(), ErrorCode::NotFound);
    let scope = as_account(&jane);
    not_found(engine.replay(scope, replay).await.unwrap_err());
    not_found(engine.cancel_replay(scope, replay).await.unwrap_err());
    not_found(engine.start_replay(scope, endpoint.id, exhausted()).await.unwrap_err());
    not_found(engine.count_replay(scope, endpoint.id, exhausted()).await.unwrap_err());
    let list = async |scope, account, endpoint| {
        let page = PageRequest::LARGEST;
        let listed = engine.list_replays(scope, account, endpoint, page).await;
        listed.map(|page| page.items.into_iter().map(|replay| replay.id).collect::<Vec<_>>())
    };
    not_found(list(scope, Some(john.id), None).await.unwrap_err());
    assert_eq!(list(scope, None, None).await.unwrap(), [other]);
    assert_eq!(list(scope, None, Some(endpoint.id)).await.unwrap(), []);
    assert_eq!(list(Scope::OPERATOR, None, None).await.unwrap(), [other, replay]);
    assert_eq!(list(Scope::OPERATOR, Some(john.id), None).await.unwrap(), [replay]);
    assert_eq!(list(Scope::OPERATOR, None, Some(hers.id)).await.unwrap(), [other]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_replay_is_in_the_audit_log() {
    let scene = Scene::new().await;
    let (account, endpoint) = tried_once(&scene, "john", URL).await;
    exhaust(&scene, &account, 3).await;
    let replay = start(&scene, endpoint.id, exhausted()).await.unwrap().id;
    ended(&scene, replay).await;
    let notes = entries(&scene, AuditAction::ReplayEnded).await;
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    assert_eq!((note.actor, note.account), (Actor::System, Some(account.id)));
    assert_eq!(note.subject, replay.to_string());
    let expected =
        format!(r#"{{"created":3,"endpoint":"{}","looked_at":3,"state":"done"}}"#, endpoint.id);
    assert_eq!(note.details, expected);
}

#[tokio::test(start_paused = true)]
async fn many_replays_at_once_each_keep_their_pace() {
    let scene = Scene::new().await;
    let mut replays = Vec::new();
    for number in 0..40 {
        let (account, endpoint) = tried_once(&scene, &format!("john{number}"), URL).await;
        scene.sender.always(URL, Reply::status(429));
        for _ in 0..20 {
            scene.publish(&account).await;
        }
        scene.drain().await;
        replays.push(endpoint.id);
    }
    scene.pass(Duration::from_hours(1)).await;
    scene.sender.always(URL, Reply::status(200));
    let mut running = Vec::new();
    for endpoint in replays {
        running.push(start(&scene, endpoint, exhausted()).await.unwrap().id);
    }
    scene.pass(Duration::from_secs(1)).await;
    for id in &running {
        let created = read(&scene, *id).await.created;
        assert!((9..=12).contains(&created), "{created}");
    }
    for id in running {
        assert_eq!(ended(&scene, id).await.created, 20);
    }
    let delivered = scene.deliveries().await;
    let delivered = delivered.iter().filter(|it| it.state == DeliveryState::Delivered).count();
    assert_eq!(delivered, 800);
}
