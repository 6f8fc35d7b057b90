//! Endpoints at which nothing succeeds for days: when they are warned of and disabled, what keeps
//! them from it, and what a restart leaves of it.

use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::attempt::ReceiverControl;
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::contract::Contract;
use domain::endpoint::{DisabledReason, Endpoint, EndpointStatus};
use domain::health::Streak;
use domain::page::PageRequest;
use domain::testing::TEST_START;
use domain::time::Timestamp;
use engine::administer::{EndpointEdit, NewEndpoint};
use engine::clock::Clock as _;
use engine::scope::Scope;
use engine::settings::Settings;
use engine::{AuditFilter, Engine, Parts};
use serde_json::Value;
use store::SharedStore;
use store::catalogue::Catalogue as _;
use store::fault::{Fault, FaultStore, Method};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SeededEntropy, TestClock};

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";
const HOUR: Duration = Duration::from_hours(1);

/// Timers fire up to a millisecond late.
const LATE: Duration = Duration::from_millis(2);

/// An engine on this store, at the time that this clock shows.
pub(crate) async fn start_at(
    clock: &Arc<TestClock>,
    store: SharedStore,
    sender: &ScriptedSender,
    seed: u64,
) -> Scene {
    let parts = Parts {
        store,
        sender: Arc::new(sender.clone()),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(seed)),
        sealing: None,
        spans: None,
        settings: Settings::default(),
    };
    let (engine, _) = Engine::start(parts).await.unwrap();
    Scene { engine, sender: sender.clone(), clock: clock.clone() }
}

/// What the audit log says of this action, oldest first.
pub(crate) async fn notes(scene: &Scene, action: AuditAction) -> Vec<AuditNote> {
    let filter = AuditFilter { action: Some(action), ..AuditFilter::default() };
    let page = scene.engine.list_audit(Scope::OPERATOR, filter, PageRequest::LARGEST).await;
    let mut notes: Vec<AuditNote> =
        page.unwrap().items.into_iter().map(|entry| entry.note).collect();
    notes.reverse();
    notes
}

pub(crate) async fn status(scene: &Scene, endpoint: &Endpoint) -> EndpointStatus {
    scene.engine.endpoint(Scope::OPERATOR, endpoint.id).await.unwrap().status
}

pub(crate) async fn enable(scene: &Scene, endpoint: &Endpoint) -> Endpoint {
    let edit = EndpointEdit { is_disabled: Some(false), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap()
}

/// An endpoint to which each event is attempted once.
pub(crate) async fn one_try(scene: &Scene, account: &Account, url: &str) -> Endpoint {
    let new = NewEndpoint {
        url: url.to_owned(),
        retry_schedule: Some(vec![0]),
        ..NewEndpoint::default()
    };
    scene.engine.create_endpoint(Scope::OPERATOR, account.id, new).await.unwrap()
}

/// Publishes an event an hour until then.
pub(crate) async fn publish_hourly(scene: &Scene, account: &Account, until: Timestamp) {
    while scene.clock.now() < until {
        scene.publish(account).await;
        let left = until.since(scene.clock.now());
        scene.pass(left.min(HOUR)).await;
    }
}

async fn pass_until(scene: &Scene, at: Timestamp) {
    scene.pass(at.since(scene.clock.now())).await;
}

/// The streak, once the first attempt failed.
async fn begun(scene: &Scene, endpoint: &Endpoint) -> Streak {
    scene.pass(LATE).await;
    scene.engine.streak(endpoint).unwrap()
}

fn assert_exactly(at: Timestamp, expected: Timestamp) {
    assert!(at >= expected && at <= expected.plus(LATE), "{at:?} for {expected:?}");
}

fn just_before(at: Timestamp) -> Timestamp {
    at.minus(Duration::from_millis(1))
}

const FAILING: EndpointStatus = EndpointStatus::Disabled(DisabledReason::Failing);

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_warned_at_24_and_72_hours_and_disabled_at_120_and_not_before() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(500));
    scene.publish(&account).await;
    let Streak { since, .. } = begun(&scene, &endpoint).await;
    let after = |hours| since.plus(HOUR * hours);
    for (hours, warned) in [(24, 1), (72, 2)] {
        publish_hourly(&scene, &account, just_before(after(hours))).await;
        assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), warned - 1);
        pass_until(&scene, after(hours).plus(LATE)).await;
        assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), warned);
    }
    publish_hourly(&scene, &account, just_before(after(120))).await;
    assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    assert!(notes(&scene, AuditAction::EndpointDisabled).await.is_empty());
    pass_until(&scene, after(120).plus(LATE)).await;
    assert_eq!(status(&scene, &endpoint).await, FAILING);

    let mut noted = notes(&scene, AuditAction::EndpointWarned).await;
    noted.extend(notes(&scene, AuditAction::EndpointDisabled).await);
    for (note, hours) in noted.iter().zip([24, 72, 120]) {
        assert_exactly(note.at, after(hours));
        assert_eq!(note.actor, Actor::System);
        assert_eq!(note.account, Some(account.id));
        assert_eq!(note.subject, endpoint.id.to_string());
        let details: Value = serde_json::from_str(&note.details).unwrap();
        assert_eq!(details["since"], since.to_rfc3339_millis());
        assert_eq!(details["url"], URL);
        assert!(details["failures"].as_u64().unwrap() >= 20);
        match note.action {
            AuditAction::EndpointWarned => {
                assert_eq!(details["hours"], hours);
                let earliest = after(120).to_rfc3339_millis();
                assert_eq!(details["disabled_at_earliest"], earliest);
            }
            _ => assert_eq!(details["reason"], "failing"),
        }
    }
    assert_eq!(noted.len(), 3);
    assert!(notes(&scene, AuditAction::EndpointChanged).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn few_failures_disable_nothing_until_the_twentieth() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = one_try(&scene, &account, URL).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..19 {
        scene.publish(&account).await;
        scene.pass(HOUR * 7).await;
    }
    assert_eq!(scene.engine.streak(&endpoint).unwrap().failures, 19);
    assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), 2);
    scene.publish(&account).await;
    scene.pass(HOUR).await;
    assert_eq!(status(&scene, &endpoint).await, FAILING);
}

#[tokio::test(start_paused = true)]
async fn many_failures_of_one_hour_disable_nothing_until_another_days_later() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = one_try(&scene, &account, URL).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..30 {
        scene.publish(&account).await;
    }
    scene.pass(HOUR * 122).await;
    let streak = scene.engine.streak(&endpoint).unwrap();
    assert_eq!(streak.failures, 30);
    assert!(streak.last_at.since(streak.since) < HOUR * 12);
    assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    scene.publish(&account).await;
    scene.pass(HOUR).await;
    assert_eq!(status(&scene, &endpoint).await, FAILING);
}

#[tokio::test(start_paused = true)]
async fn a_success_in_between_starts_anew() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(500));
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 25)).await;
    assert_eq!(scene.engine.streak(&endpoint).unwrap().warnings, 1);
    assert_eq!(scene.engine.failing_endpoints(), 1);
    scene.sender.always(URL, Reply::status(200));
    scene.publish(&account).await;
    scene.drain().await;
    assert_eq!(scene.engine.streak(&endpoint), None);
    assert_eq!(scene.engine.failing_endpoints(), 0);

    scene.sender.always(URL, Reply::status(500));
    scene.publish(&account).await;
    let Streak { since, failures, warnings, .. } = begun(&scene, &endpoint).await;
    assert_eq!((failures, warnings), (1, 0));
    publish_hourly(&scene, &account, just_before(since.plus(HOUR * 24))).await;
    assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), 1);
    scene.pass(LATE * 2).await;
    assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_answers_429_is_neither_failing_nor_well() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(429));
    scene.publish(&account).await;
    scene.pass(HOUR).await;
    assert_eq!(scene.engine.streak(&endpoint), None);
    scene.sender.script(URL, [Reply::status(500)]);
    scene.publish(&account).await;
    scene.pass(HOUR * 100).await;
    let streak = scene.engine.streak(&endpoint).unwrap();
    assert_eq!(streak.failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_streak_however_the_process_ended() {
    let store = Arc::new(MemoryStore::new());
    let clock = Arc::new(TestClock::starting_at(TEST_START));
    let sender = ScriptedSender::new();
    let scene = start_at(&clock, store.clone(), &sender, 7).await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    sender.always(URL, Reply::status(500));
    scene.publish(&account).await;
    let Streak { since, .. } = begun(&scene, &endpoint).await;
    publish_hourly(&scene, &account, since.plus(HOUR * 30)).await;
    scene.engine.stop(Duration::from_secs(20)).await.unwrap();
    let stopped = scene.engine.streak(&endpoint);

    let store = Arc::new(store.reopen());
    let scene = start_at(&clock, store.clone(), &sender, 8).await;
    assert_eq!(scene.engine.streak(&endpoint), stopped);
    publish_hourly(&scene, &account, since.plus(HOUR * 60)).await;
    // Changes are written down some seconds after they happen.
    scene.pass(Duration::from_mins(1)).await;
    scene.engine.abandon();
    let killed = scene.engine.streak(&endpoint);

    let scene = start_at(&clock, Arc::new(store.reopen()), &sender, 9).await;
    assert_eq!(scene.engine.streak(&endpoint), killed);
    publish_hourly(&scene, &account, just_before(since.plus(HOUR * 120))).await;
    assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    scene.pass(LATE * 2).await;
    assert_eq!(status(&scene, &endpoint).await, FAILING);
    assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), 2, "each warning once");
}

#[tokio::test(start_paused = true)]
async fn after_days_without_a_process_an_endpoint_gets_one_more_try() {
    for (status_then, expected) in [(200, EndpointStatus::Enabled), (500, FAILING)] {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(TestClock::starting_at(TEST_START));
        let sender = ScriptedSender::new();
        let scene = start_at(&clock, store.clone(), &sender, 7).await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        sender.always(URL, Reply::status(500));
        publish_hourly(&scene, &account, TEST_START.plus(HOUR * 14)).await;
        assert_eq!(scene.engine.stop(Duration::from_secs(20)).await.unwrap(), 0);
        scene.pass(HOUR * 300).await;

        sender.always(URL, Reply::status(status_then));
        let scene = start_at(&clock, Arc::new(store.reopen()), &sender, 8).await;
        assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
        scene.publish(&account).await;
        scene.pass(HOUR).await;
        assert_eq!(status(&scene, &endpoint).await, expected, "{status_then}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_enabled_again_or_goes_elsewhere_starts_anew_even_after_a_crash() {
    let elsewhere = Some("https://hooks.customer.com/b".to_owned());
    let edits = [
        EndpointEdit { is_disabled: Some(false), ..EndpointEdit::default() },
        EndpointEdit { url: elsewhere, is_disabled: Some(false), ..EndpointEdit::default() },
    ];
    for edit in edits {
        let store = Arc::new(MemoryStore::new());
        let clock = Arc::new(TestClock::starting_at(TEST_START));
        let sender = ScriptedSender::new();
        let scene = start_at(&clock, store.clone(), &sender, 7).await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let asks = Reply::status(500).with_control(ReceiverControl::Disable);
        sender.script(URL, [Reply::status(500), Reply::status(500), asks]);
        scene.publish(&account).await;
        scene.pass(HOUR).await;
        assert_ne!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
        let streak = scene.engine.streak(&endpoint);
        assert_eq!(streak.unwrap().failures, 3, "it shows why");
        sender.otherwise(Reply::status(500));
        scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
        scene.engine.abandon();

        let scene = start_at(&clock, Arc::new(store.reopen()), &sender, 8).await;
        assert_eq!(scene.engine.streak(&endpoint), None);
        let enabled_at = scene.clock.now();
        scene.pass(HOUR).await;
        assert!(scene.engine.streak(&endpoint).unwrap().since >= enabled_at);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_person_disabled_or_deleted_is_neither_warned_of_nor_disabled_again() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let deleted = scene.endpoint(&account, "https://hooks.customer.com/b").await;
    scene.sender.otherwise(Reply::status(500));
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 20)).await;
    let edit = EndpointEdit { is_disabled: Some(true), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.engine.delete_endpoint(Scope::OPERATOR, deleted.id).await.unwrap();
    assert_eq!(scene.engine.streak(&deleted), None);
    scene.pass(HOUR * 6).await;
    assert!(notes(&scene, AuditAction::EndpointWarned).await.is_empty());
    let requested = EndpointStatus::Disabled(DisabledReason::Requested);
    assert_eq!(status(&scene, &endpoint).await, requested);
}

#[tokio::test(start_paused = true)]
async fn a_judgement_that_storage_cannot_take_is_carried_out_when_it_can() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(500));
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 23)).await;
    faults.fail(Method::Note, Fault::Before);
    let calls = faults.calls(Method::Note);
    publish_hourly(&scene, &account, TEST_START.plus(HOUR * 25)).await;
    assert!(notes(&scene, AuditAction::EndpointWarned).await.is_empty());
    // An hour of looks, each some seconds after the one before, and one at each failure.
    assert!(faults.calls(Method::Note) - calls < 600);
    faults.heal();
    scene.pass(Duration::from_secs(11)).await;
    assert_eq!(notes(&scene, AuditAction::EndpointWarned).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_many_attempts_that_hear_gone_at_once_one_disables() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    scene.sender.always(URL, Reply::status(410).after(Duration::from_secs(1)));
    for _ in 0..32 {
        scene.publish(&account).await;
    }
    scene.sender.wait_for_replies(2).await;
    scene.pass(Duration::from_secs(5)).await;
    let gone = EndpointStatus::Disabled(DisabledReason::Gone);
    assert_eq!(status(&scene, &endpoint).await, gone);
    let noted = notes(&scene, AuditAction::EndpointDisabled).await;
    let [note] = noted.as_slice() else { panic!("{noted:?}") };
    assert!(note.details.contains(r#""reason":"gone""#), "{}", note.details);
    assert!(notes(&scene, AuditAction::EndpointChanged).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deliveries_that_are_given_up_are_noted_once_an_hour_for_each_endpoint() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = one_try(&scene, &account, URL).await;
    let other = one_try(&scene, &account, "https://hooks.customer.com/b").await;
    scene.sender.otherwise(Reply::status(500));
    for _ in 0..12 {
        scene.publish(&account).await;
        scene.pass(Duration::from_mins(15)).await;
    }
    let noted = notes(&scene, AuditAction::EndpointExhausting).await;
    for endpoint in [&endpoint, &other] {
        let of_it: Vec<&AuditNote> =
            noted.iter().filter(|note| note.subject == endpoint.id.to_string()).collect();
        assert!((2..=3).contains(&of_it.len()), "{of_it:?}");
        for pair in of_it.windows(2) {
            assert!(pair[1].at.since(pair[0].at) >= HOUR);
        }
        let details: Value = serde_json::from_str(&of_it[0].details).unwrap();
        assert_eq!(details["reason"], "attempts_used_up");
        for member in ["event", "delivery", "url", "since", "failures"] {
            assert!(!details[member].is_null(), "{member}: {details}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn streaks_are_written_down_together_and_not_at_all_while_everything_succeeds() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let (account, _) = scene.subscriber("john", URL).await;
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    scene.pass(HOUR).await;
    assert_eq!(faults.calls(Method::WriteStreaks), 0);
    scene.sender.script(URL, vec![Reply::status(500); 9]);
    for _ in 0..9 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_secs(6)).await;
    assert_eq!(faults.calls(Method::WriteStreaks), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_given_up_that_storage_could_not_note_lets_the_next_be_noted() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let account = scene.account(Contract::Standard, "john").await;
    one_try(&scene, &account, URL).await;
    scene.sender.always(URL, Reply::status(500));
    faults.script(Method::Note, [Some(Fault::Before)]);
    for noted in [0, 1, 1] {
        scene.publish(&account).await;
        scene.drain().await;
        assert_eq!(notes(&scene, AuditAction::EndpointExhausting).await.len(), noted);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_not_disabled_once_a_change_of_it_got_ahead_in_storage() {
    let elsewhere = || Some("https://hooks.customer.com/c".to_owned());
    let changes_it = EndpointEdit { url: elsewhere(), ..EndpointEdit::default() };
    let gone = EndpointStatus::Disabled(DisabledReason::Gone);
    for (is_it, expected) in [(true, EndpointStatus::Enabled), (false, gone)] {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
        let (account, endpoint) = scene.subscriber("john", URL).await;
        let neighbour = scene.endpoint(&account, "https://hooks.customer.com/b").await;
        scene.sender.always(URL, Reply::status(410));
        let mut disabling = faults.stall(Method::ChangeEndpoint);
        scene.publish(&account).await;
        disabling.reached_by(1).await;
        faults.stall(Method::ChangeEndpoint).release();
        let changed = if is_it { endpoint.id } else { neighbour.id };
        scene.engine.change_endpoint(Scope::OPERATOR, changed, changes_it.clone()).await.unwrap();
        disabling.release();
        scene.pass(Duration::from_secs(1)).await;
        assert_eq!(status(&scene, &endpoint).await, expected);
        let disabled = notes(&scene, AuditAction::EndpointDisabled).await.len();
        assert_eq!(disabled, usize::from(!is_it));
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_succeeds_while_it_is_about_to_be_disabled_stays() {
    let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let scene = Scene::on(faults.clone(), ScriptedSender::new()).await;
    let account = scene.account(Contract::Standard, "john").await;
    let endpoint = one_try(&scene, &account, URL).await;
    let (jane, _) = scene.subscriber("jane", "https://hooks.customer.com/b").await;
    scene.sender.otherwise(Reply::status(410));
    scene.sender.always(URL, Reply::status(500));
    scene.publish(&account).await;
    let Streak { since, .. } = begun(&scene, &endpoint).await;
    publish_hourly(&scene, &account, just_before(since.plus(HOUR * 120))).await;
    let mut disabling = faults.stall(Method::ChangeEndpoint);
    scene.publish(&jane).await;
    disabling.reached_by(1).await;
    // Its time comes, and it has to wait for the other.
    scene.pass(Duration::from_secs(1)).await;
    scene.sender.script(URL, [Reply::status(200), Reply::status(500)]);
    for _ in 0..2 {
        scene.publish(&account).await;
        scene.pass(Duration::from_mins(10)).await;
    }
    assert_eq!(scene.engine.streak(&endpoint).unwrap().failures, 1);
    disabling.release();
    scene.pass(HOUR).await;
    assert_eq!(status(&scene, &endpoint).await, EndpointStatus::Enabled);
    let noted = notes(&scene, AuditAction::EndpointDisabled).await;
    assert_eq!(noted.len(), 1, "the other");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_remembered_of_the_endpoints_of_a_deleted_account() {
    let scene = Scene::new().await;
    let (john, _) = scene.subscriber("john", URL).await;
    scene.endpoint(&john, "https://hooks.customer.com/b").await;
    let (jane, hers) = scene.subscriber("jane", "https://hooks.customer.com/c").await;
    scene.sender.otherwise(Reply::status(500));
    for account in [&john, &jane] {
        scene.publish(account).await;
    }
    scene.pass(LATE).await;
    assert_eq!(scene.engine.failing_endpoints(), 3);
    scene.engine.delete_account(Scope::OPERATOR, john.id).await.unwrap();
    assert_eq!(scene.engine.failing_endpoints(), 1);
    assert!(scene.engine.streak(&hers).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_an_endpoint_writes_down_its_own_streak_alone() {
    let store = Arc::new(MemoryStore::new());
    let scene = Scene::on(store.clone(), ScriptedSender::new()).await;
    scene.sender.otherwise(Reply::status(500));
    let (john, his) = scene.subscriber("john", URL).await;
    let (jane, hers) = scene.subscriber("jane", "https://hooks.customer.com/b").await;
    let failures = async || {
        let streaks = store.read_streaks(None, 10).await.unwrap();
        let of = |endpoint: &Endpoint| streaks.iter().find(|(id, _)| *id == endpoint.id);
        [of(&his), of(&hers)].map(|found| found.map_or(0, |(_, streak)| streak.failures))
    };
    for account in [&john, &jane] {
        scene.publish(account).await;
    }
    scene.pass(Duration::from_secs(6)).await;
    let [written_of_his, written_of_hers] = failures().await;
    assert!(written_of_his > 0 && written_of_hers > 0);
    scene.publish(&jane).await;
    scene.pass(LATE).await;
    assert!(scene.engine.streak(&hers).unwrap().failures > written_of_hers);
    let url = Some("https://hooks.customer.com/c".to_owned());
    let edit = EndpointEdit { url, ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, his.id, edit).await.unwrap();
    assert_eq!(failures().await, [0, written_of_hers]);
}
