//! What a sequence is made of, and how it is drawn.

use std::ops::Range;

use domain::audit::AuditAction;
use domain::delivery::{EndReason, StateName};
use domain::replay::ReplayFate;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::queue::GivenBack;

/// How many steps a sequence has after its beginning.
const STEPS: Range<usize> = 20..60;

/// Which of the things of a kind: 0 is the one made last.
pub(super) type Recent = usize;

/// One step. Bounds are small, so that steps meet.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Noted(NotedStep),
    NoteKeyUse { key: Recent },
    BeginSession { life_seconds: u64 },
    ExtendSession { session: Recent, life_seconds: u64 },
    ReleaseExpired,
    Accept { session: Recent, account: Recent, events: Vec<EventStep> },
    AddDelivery { session: Recent, event: Recent, endpoint: Recent, leased: bool },
    ClaimDue { session: Recent, lanes: Vec<(Recent, usize)> },
    GiveBack { leases: Vec<Recent>, why: GivenBack },
    LoseClaims { session: Recent, endpoint: Recent, on_trial: Vec<bool> },
    BeginTrial { lease: Recent },
    SetAside { leases: Vec<Recent> },
    RunReplay { replay: Recent, room: usize, rows_max: usize },
    WriteStreak { endpoint: Recent, failures: Option<u32> },
    Record { leases: Vec<(Recent, Ending)> },
    WaitingLanes { after: Option<Recent>, limit: usize },
    ListEvents { filter: FilterStep, undelivered: bool, limit: usize },
    ListDeliveries { filter: FilterStep, state: Option<StateName>, limit: usize },
    ListAudit { filter: FilterStep, action: Option<AuditAction>, limit: usize },
    FollowEvents { account: Recent, after: Option<Recent>, undelivered: bool, limit: usize },
    CountReplay { endpoint: Recent, fate: ReplayFate },
    Clean { soon: bool },
    Pass { milliseconds: u64 },
    Crash,
}

/// A step that a note is written with. What belongs to an account is changed for that account unless
/// an owner is named.
#[derive(Clone, Copy, Debug)]
pub(super) enum NotedStep {
    CreateAccount { username: u8 },
    ChangeAccount { account: Recent, credits: i64 },
    DeleteAccount { account: Recent },
    CreateKey { account: Option<Recent> },
    DeleteKey { account: Option<Recent>, key: Recent },
    CreateEndpoint { account: Recent, endpoints_max: usize },
    ChangeEndpoint { endpoint: Recent, disabled: bool },
    DeleteEndpoint { endpoint: Recent, remove: bool },
    RotateSecret { endpoint: Recent, owner: Option<Recent>, overlap_seconds: u64 },
    CancelEvent { event: Recent, owner: Option<Recent> },
    CancelDelivery { delivery: Recent, owner: Option<Recent> },
    EraseEvent { event: Recent, owner: Option<Recent> },
    CreateReplay { endpoint: Recent, owner: Option<Recent>, fate: ReplayFate },
    CancelReplay { replay: Recent },
    Nothing { account: Option<Recent> },
}

/// An event of the account that the step names.
#[derive(Clone, Debug)]
pub(super) struct EventStep {
    pub(super) event_type: u8,
    /// Which of the endpoints in the roster, and which of those born leased, as bits; of the others,
    /// which miss it because they are disabled.
    pub(super) endpoints: u8,
    pub(super) leased: u8,
    pub(super) ordering_key: Option<u8>,
    /// Seconds ahead.
    pub(super) scheduled: Option<u64>,
    /// Key and request.
    pub(super) idempotency: Option<(u8, u8)>,
    pub(super) stale: bool,
}

/// What an attempt does.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Delivered,
    RetryIn { milliseconds: u64 },
    Exhausted(EndReason),
}

/// What a list is filtered by.
#[derive(Clone, Debug)]
pub(super) struct FilterStep {
    pub(super) account: Option<Recent>,
    pub(super) endpoint: Option<Recent>,
    pub(super) event: Option<Recent>,
    pub(super) event_type: Option<u8>,
    /// Seconds before now.
    pub(super) since: Option<u64>,
    pub(super) until: Option<u64>,
}

fn recent() -> impl Strategy<Value = Recent> + Clone {
    0..4_usize
}

/// Sometimes somebody else.
fn stranger() -> impl Strategy<Value = Option<Recent>> {
    option::weighted(0.2, recent())
}

fn fate() -> impl Strategy<Value = ReplayFate> {
    select(ReplayFate::ALL.to_vec())
}

fn life_seconds() -> impl Strategy<Value = u64> {
    select(vec![0, 5, 3_600])
}

fn event() -> impl Strategy<Value = EventStep> {
    let idempotency = option::weighted(0.3, (0..2_u8, 0..2_u8));
    let stale = prop::bool::weighted(0.1);
    let ordering_key = option::weighted(0.4, 0..2_u8);
    let scheduled = option::weighted(0.15, select(vec![0, 1, 5]));
    let what = (0..2_u8, any::<u8>(), any::<u8>(), ordering_key, scheduled);
    (what, idempotency, stale).prop_map(|(what, idempotency, stale)| {
        let (event_type, endpoints, leased, ordering_key, scheduled) = what;
        EventStep { event_type, endpoints, leased, ordering_key, scheduled, idempotency, stale }
    })
}

fn ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        2 => Just(Ending::Delivered),
        3 => (0..5_000_u64).prop_map(|milliseconds| Ending::RetryIn { milliseconds }),
        1 => select(vec![EndReason::AttemptsUsedUp, EndReason::TooOld, EndReason::SetAside])
            .prop_map(Ending::Exhausted),
    ]
}

fn filter() -> impl Strategy<Value = FilterStep> {
    let some = || option::weighted(0.25, recent());
    let seconds = || option::weighted(0.25, 0..10_u64);
    let event_type = option::weighted(0.25, 0..2_u8);
    (some(), some(), some(), event_type, seconds(), seconds()).prop_map(
        |(account, endpoint, event, event_type, since, until)| FilterStep {
            account,
            endpoint,
            event,
            event_type,
            since,
            until,
        },
    )
}

/// A sequence: two accounts with endpoints to begin with, and then anything.
pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    vec(any_step(), STEPS).prop_map(|steps| {
        let endpoint = NotedStep::CreateEndpoint { account: 0, endpoints_max: 3 };
        let create_endpoint = Step::Noted(endpoint);
        let mut all = Vec::new();
        for username in 0..2 {
            all.push(Step::Noted(NotedStep::CreateAccount { username }));
            all.extend([create_endpoint.clone(), create_endpoint.clone()]);
        }
        all.extend(steps);
        all
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => noted_step().prop_map(Step::Noted),
        10 => queue_step(),
        2 => session_step(),
        2 => reading_step(),
        2 => prop_oneof![
            6 => select(vec![1, 1_000, 5_000, 36 * 3_600_000])
                .prop_map(|milliseconds| Step::Pass { milliseconds }),
            3 => any::<bool>().prop_map(|soon| Step::Clean { soon }),
            1 => (recent(), option::of(0..9_u32))
                .prop_map(|(endpoint, failures)| Step::WriteStreak { endpoint, failures }),
            2 => recent().prop_map(|key| Step::NoteKeyUse { key }),
            1 => Just(Step::Crash),
        ],
    ]
}

fn noted_step() -> impl Strategy<Value = NotedStep> {
    let owner = || option::of(recent());
    prop_oneof![
        2 => (0..3_u8).prop_map(|username| NotedStep::CreateAccount { username }),
        1 => (recent(), -1..2_i64)
            .prop_map(|(account, credits)| NotedStep::ChangeAccount { account, credits }),
        1 => recent().prop_map(|account| NotedStep::DeleteAccount { account }),
        1 => owner().prop_map(|account| NotedStep::CreateKey { account }),
        1 => (owner(), recent()).prop_map(|(account, key)| NotedStep::DeleteKey { account, key }),
        3 => (recent(), 1..4_usize).prop_map(|(account, endpoints_max)| {
            NotedStep::CreateEndpoint { account, endpoints_max }
        }),
        2 => (recent(), any::<bool>())
            .prop_map(|(endpoint, disabled)| NotedStep::ChangeEndpoint { endpoint, disabled }),
        2 => (recent(), any::<bool>())
            .prop_map(|(endpoint, remove)| NotedStep::DeleteEndpoint { endpoint, remove }),
        4 => (recent(), stranger(), select(vec![0, 3, 86_400])).prop_map(
            |(endpoint, owner, overlap_seconds)| {
                NotedStep::RotateSecret { endpoint, owner, overlap_seconds }
            },
        ),
        6 => cancelling_step(),
        8 => (recent(), stranger(), fate())
            .prop_map(|(endpoint, owner, fate)| NotedStep::CreateReplay { endpoint, owner, fate }),
        1 => recent().prop_map(|replay| NotedStep::CancelReplay { replay }),
        1 => owner().prop_map(|account| NotedStep::Nothing { account }),
    ]
}

fn cancelling_step() -> impl Strategy<Value = NotedStep> {
    prop_oneof![
        2 => (recent(), stranger())
            .prop_map(|(event, owner)| NotedStep::CancelEvent { event, owner }),
        2 => (recent(), stranger())
            .prop_map(|(delivery, owner)| NotedStep::CancelDelivery { delivery, owner }),
        1 => (recent(), stranger())
            .prop_map(|(event, owner)| NotedStep::EraseEvent { event, owner }),
    ]
}

fn queue_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (recent(), recent(), vec(event(), 1..4))
            .prop_map(|(session, account, events)| Step::Accept { session, account, events }),
        1 => (recent(), recent(), recent(), any::<bool>()).prop_map(
            |(session, event, endpoint, leased)| {
                Step::AddDelivery { session, event, endpoint, leased }
            },
        ),
        3 => (recent(), vec((recent(), 1..4_usize), 1..4))
            .prop_map(|(session, lanes)| Step::ClaimDue { session, lanes }),
        3 => (vec(recent(), 1..3), any::<bool>()).prop_map(|(leases, unused)| {
            let why = if unused { GivenBack::Unused } else { GivenBack::Unanswered };
            Step::GiveBack { leases, why }
        }),
        2 => (recent(), recent(), vec(any::<bool>(), 1..4)).prop_map(
            |(session, endpoint, on_trial)| Step::LoseClaims { session, endpoint, on_trial },
        ),
        2 => recent().prop_map(|lease| Step::BeginTrial { lease }),
        1 => vec(recent(), 1..3).prop_map(|leases| Step::SetAside { leases }),
        4 => vec((recent(), ending()), 1..4).prop_map(|leases| Step::Record { leases }),
        3 => (recent(), 1..4_usize, 1..4_usize)
            .prop_map(|(replay, room, rows_max)| Step::RunReplay { replay, room, rows_max }),
    ]
}

fn session_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => life_seconds().prop_map(|life_seconds| Step::BeginSession { life_seconds }),
        1 => (recent(), life_seconds())
            .prop_map(|(session, life_seconds)| Step::ExtendSession { session, life_seconds }),
        1 => Just(Step::ReleaseExpired),
    ]
}

fn reading_step() -> impl Strategy<Value = Step> {
    let limit = || 1..4_usize;
    let state = option::weighted(0.25, select(StateName::ALL.to_vec()));
    let action = option::weighted(0.25, select(AuditAction::ALL.to_vec()));
    prop_oneof![
        1 => (option::of(recent()), limit())
            .prop_map(|(after, limit)| Step::WaitingLanes { after, limit }),
        2 => (filter(), any::<bool>(), limit()).prop_map(|(filter, undelivered, limit)| {
            Step::ListEvents { filter, undelivered, limit }
        }),
        2 => (filter(), state, limit())
            .prop_map(|(filter, state, limit)| Step::ListDeliveries { filter, state, limit }),
        2 => (filter(), action, limit())
            .prop_map(|(filter, action, limit)| Step::ListAudit { filter, action, limit }),
        2 => (recent(), option::of(recent()), any::<bool>(), limit()).prop_map(
            |(account, after, undelivered, limit)| {
                Step::FollowEvents { account, after, undelivered, limit }
            },
        ),
        1 => (recent(), fate())
            .prop_map(|(endpoint, fate)| Step::CountReplay { endpoint, fate }),
    ]
}
