//! From steps to calls: which ids a step means, and which it makes.

use std::time::Duration;

use bytes::Bytes;
use domain::account::{Account, AccountChange, Username};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::contract::Contract;
use domain::delivery::Transition;
use domain::endpoint::{DisabledReason, Endpoint, EndpointChange, EndpointStatus};
use domain::event::{EntityId, Event};
use domain::health::Streak;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId, ReplayId};
use domain::matching::NoDelivery;
use domain::ordering::OrderingKey;
use domain::replay::{Replay, ReplayFate, ReplaySelection};
use domain::retention::Retention;
use domain::secret::{SECRET_BYTES, SigningSecret};
use domain::testing::{TEST_START, an_account, an_endpoint};
use domain::time::Timestamp;
use domain::trace::TraceContext;

use super::step::{Ending, EventStep, FilterStep, NotedStep, Recent, Step};
use crate::audit::AuditFilter;
use crate::catalogue::{DeletedHistory, KeyRecord, Roster};
use crate::conformance::scene::{event_type, idempotency};
use crate::history::{DeliveryFilter, EventFilter};
use crate::queue::{GivenBack, NewDelivery, NewEvent};

/// More deliveries than a replay makes in any sequence.
const REPLAYED_MAX: u64 = 1_000;

/// A retention of which sequences see the end.
const SHORT_RETENTION: Retention = Retention {
    delivered_payloads_kept_for: Duration::from_secs(2),
    records_kept_for: Duration::from_secs(9),
};

/// A trace that is recorded.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A call with its arguments, except for what each store names by itself: a session or a lease is
/// named by how recent it is.
#[derive(Clone, Debug)]
pub(super) enum Call {
    Noted(Box<Noted>, AuditNote),
    NoteKeyUse(KeyId, Timestamp),
    BeginSession(Timestamp),
    ExtendSession(Recent, Timestamp),
    ReleaseExpired(Timestamp),
    /// Each event with whether it was matched against an older roster.
    Accept(Recent, Vec<(NewEvent, bool)>),
    AddDelivery(Recent, AccountId, EventId, NewDelivery, AuditNote),
    ClaimDue(Recent, Timestamp, Vec<(EndpointId, usize)>),
    GiveBack(Vec<Recent>, GivenBack),
    /// Claims what is due first in the lane and loses it again, on trial or not, once for each.
    LoseClaims(Recent, Timestamp, EndpointId, Vec<bool>),
    BeginTrial(Recent),
    SetAside(Vec<Recent>, Timestamp),
    /// Steps of the replay until it ends: so many deliveries at most and so many events looked at in
    /// each, with ids counted on from the number.
    RunReplay(ReplayId, u64, usize, usize, Timestamp),
    WriteStreak(EndpointId, Option<Streak>),
    Record(Vec<(Recent, Transition)>, Timestamp),
    WaitingLanes(Option<EndpointId>, usize),
    ListEvents(EventFilter, usize),
    ListDeliveries(DeliveryFilter, usize),
    ListAudit(AuditFilter, usize),
    FollowEvents(AccountId, Option<EventId>, bool, usize),
    CountReplay(AccountId, EndpointId, ReplaySelection),
    Clean(Timestamp, Retention),
    Nothing,
    /// With the instant until which the next process's session lives.
    Crash(Timestamp),
}

/// A call that a note is written with.
#[derive(Clone, Debug)]
pub(super) enum Noted {
    CreateAccount(Account, KeyRecord),
    ChangeAccount(AccountId, AccountChange),
    DeleteAccount(AccountId),
    CreateKey(KeyRecord),
    DeleteKey(Option<AccountId>, KeyId),
    CreateEndpoint(Endpoint, usize),
    ChangeEndpoint(AccountId, EndpointId, EndpointChange),
    DeleteEndpoint(AccountId, EndpointId, DeletedHistory),
    RotateSecret(AccountId, EndpointId, SigningSecret, Duration),
    CancelEvent(AccountId, EventId),
    CancelDelivery(AccountId, DeliveryId),
    EraseEvent(AccountId, EventId),
    CreateReplay(Replay),
    CancelReplay(ReplayId),
    Nothing,
}

/// Everything that was ever named in a sequence, and its clock.
pub(super) struct Names {
    accounts: Vec<Account>,
    keys: Vec<KeyId>,
    endpoints: Vec<Endpoint>,
    events: Vec<(EventId, AccountId)>,
    deliveries: Vec<(DeliveryId, AccountId)>,
    replays: Vec<ReplayId>,
    now: Timestamp,
    last_number: u64,
}

impl Default for Names {
    /// One account and one endpoint have a name from the start and are never made, so that there
    /// is always something absent to ask for.
    fn default() -> Self {
        let nobody = an_account(Contract::Standard, 1);
        let nothing = an_endpoint(&nobody, 2);
        Self {
            keys: vec![KeyId::from_u128(3)],
            events: vec![(EventId::from_u128(4), nobody.id)],
            deliveries: vec![(DeliveryId::from_u128(5), nobody.id)],
            replays: vec![ReplayId::from_u128(6)],
            accounts: vec![nobody],
            endpoints: vec![nothing],
            now: TEST_START,
            last_number: 6,
        }
    }
}

/// The thing made that recently, or the first one.
pub(super) fn pick<T>(made: &[T], recent: Recent) -> &T {
    &made[made.len().saturating_sub(recent + 1)]
}

impl Names {
    /// The account whose roster a step is matched against.
    pub(super) fn account_of(&self, step: &Step) -> Option<AccountId> {
        match step {
            Step::Accept { account, .. } => Some(self.account(*account)),
            _ => None,
        }
    }

    /// The call that the step is now. `roster` is that of [`Self::account_of`].
    pub(super) fn call(&mut self, step: &Step, roster: Option<&Roster>) -> Call {
        let now = self.now;
        let after = |seconds: u64| now.plus(Duration::from_secs(seconds));
        match step.clone() {
            Step::Noted(step) => {
                let (noted, action, account) = self.noted(step);
                Call::Noted(Box::new(noted), self.note(action, account))
            }
            Step::NoteKeyUse { key } => Call::NoteKeyUse(*pick(&self.keys, key), now),
            Step::BeginSession { life_seconds } => Call::BeginSession(after(life_seconds)),
            Step::ExtendSession { session, life_seconds } => {
                Call::ExtendSession(session, after(life_seconds))
            }
            Step::ReleaseExpired => Call::ReleaseExpired(now),
            Step::Accept { session, account, events } => {
                let account = self.account(account);
                let new = |event: &EventStep| (self.event(account, event, roster), event.stale);
                Call::Accept(session, events.iter().map(new).collect())
            }
            Step::AddDelivery { session, event, endpoint, leased } => {
                let (event, account) = *pick(&self.events, event);
                let (endpoint, _) = self.endpoint(endpoint);
                let id = self.delivery(account);
                let new = NewDelivery { id, endpoint, leased, ordering_key: None };
                let note = self.note(AuditAction::DeliveryReplayed, Some(account));
                Call::AddDelivery(session, account, event, new, note)
            }
            Step::ClaimDue { session, lanes } => {
                let lane = |(endpoint, room)| (self.endpoint(endpoint).0, room);
                Call::ClaimDue(session, now, lanes.into_iter().map(lane).collect())
            }
            Step::GiveBack { leases, why } => Call::GiveBack(leases, why),
            Step::LoseClaims { session, endpoint, on_trial } => {
                Call::LoseClaims(session, now, self.endpoint(endpoint).0, on_trial)
            }
            Step::BeginTrial { lease } => Call::BeginTrial(lease),
            Step::SetAside { leases } => Call::SetAside(leases, now),
            Step::Record { leases } => {
                let transition = |(lease, ending)| (lease, self.transition(&ending));
                Call::Record(leases.into_iter().map(transition).collect(), now)
            }
            Step::WaitingLanes { after, limit } => {
                Call::WaitingLanes(after.map(|it| self.endpoint(it).0), limit)
            }
            Step::ListEvents { filter, undelivered, limit } => {
                let filter = EventFilter { undelivered, ..self.event_filter(&filter) };
                Call::ListEvents(filter, limit)
            }
            Step::ListDeliveries { filter, state, limit } => {
                let filter = DeliveryFilter { state, ..self.delivery_filter(&filter) };
                Call::ListDeliveries(filter, limit)
            }
            Step::ListAudit { filter, action, limit } => {
                let filter = AuditFilter { action, ..self.audit_filter(&filter) };
                Call::ListAudit(filter, limit)
            }
            Step::FollowEvents { account, after, undelivered, limit } => {
                let after = after.map(|after| pick(&self.events, after).0);
                Call::FollowEvents(self.account(account), after, undelivered, limit)
            }
            Step::CountReplay { endpoint, fate } => {
                let (endpoint, account) = self.endpoint(endpoint);
                Call::CountReplay(account, endpoint, self.selection(fate))
            }
            Step::RunReplay { replay, room, rows_max } => {
                let first = self.last_number + 1;
                self.last_number += REPLAYED_MAX;
                Call::RunReplay(*pick(&self.replays, replay), first, room, rows_max, now)
            }
            Step::WriteStreak { endpoint, failures } => {
                let streak = |failures| Streak { since: now, last_at: now, failures, warnings: 1 };
                Call::WriteStreak(self.endpoint(endpoint).0, failures.map(streak))
            }
            Step::Clean { soon } => {
                Call::Clean(now, if soon { SHORT_RETENTION } else { Retention::default() })
            }
            Step::Pass { milliseconds } => {
                self.now = now.plus(Duration::from_millis(milliseconds));
                Call::Nothing
            }
            Step::Crash => Call::Crash(after(3_600)),
        }
    }

    /// The call that the step is now, its name, and the account that it is about.
    fn noted(&mut self, step: NotedStep) -> (Noted, AuditAction, Option<AccountId>) {
        match step {
            NotedStep::CreateAccount { username } => {
                let mut account = an_account(Contract::KonproV1, self.number());
                account.username = Username::parse(&format!("name{username}")).unwrap();
                let (id, key) = (account.id, self.key(Some(account.id)));
                self.accounts.push(account.clone());
                (Noted::CreateAccount(account, key), AuditAction::AccountCreated, Some(id))
            }
            NotedStep::ChangeAccount { account, credits } => {
                let id = self.account(account);
                let change =
                    AccountChange { credits: Some(Some(credits)), ..AccountChange::default() };
                (Noted::ChangeAccount(id, change), AuditAction::AccountChanged, Some(id))
            }
            NotedStep::DeleteAccount { account } => {
                let id = self.account(account);
                (Noted::DeleteAccount(id), AuditAction::AccountDeleted, Some(id))
            }
            NotedStep::CreateKey { account } => {
                let owner = account.map(|account| self.account(account));
                (Noted::CreateKey(self.key(owner)), AuditAction::KeyCreated, owner)
            }
            NotedStep::DeleteKey { account, key } => {
                let owner = account.map(|account| self.account(account));
                let key = *pick(&self.keys, key);
                (Noted::DeleteKey(owner, key), AuditAction::KeyRevoked, owner)
            }
            NotedStep::CreateEndpoint { account, endpoints_max } => {
                let number = self.number();
                let endpoint = an_endpoint(pick(&self.accounts, account), number);
                let account = Some(endpoint.account);
                self.endpoints.push(endpoint.clone());
                let noted = Noted::CreateEndpoint(endpoint, endpoints_max);
                (noted, AuditAction::EndpointCreated, account)
            }
            NotedStep::ChangeEndpoint { endpoint, disabled } => {
                let (id, account) = self.endpoint(endpoint);
                let status = if disabled {
                    EndpointStatus::Disabled(DisabledReason::Gone)
                } else {
                    EndpointStatus::Enabled
                };
                let change = EndpointChange { status: Some(status), ..EndpointChange::default() };
                let noted = Noted::ChangeEndpoint(account, id, change);
                (noted, AuditAction::EndpointChanged, Some(account))
            }
            NotedStep::DeleteEndpoint { endpoint, remove } => {
                let (id, account) = self.endpoint(endpoint);
                let history = if remove { DeletedHistory::Remove } else { DeletedHistory::Keep };
                let noted = Noted::DeleteEndpoint(account, id, history);
                (noted, AuditAction::EndpointDeleted, Some(account))
            }
            NotedStep::RotateSecret { endpoint, owner, overlap_seconds } => {
                let (id, account) = self.owned(self.endpoint(endpoint), owner);
                let secret = SigningSecret::from_random(&[self.number() as u8; SECRET_BYTES]);
                let overlap = Duration::from_secs(overlap_seconds);
                let noted = Noted::RotateSecret(account, id, secret, overlap);
                (noted, AuditAction::SecretRotated, Some(account))
            }
            NotedStep::CancelEvent { event, owner } => {
                let (event, account) = self.owned(*pick(&self.events, event), owner);
                let noted = Noted::CancelEvent(account, event);
                (noted, AuditAction::EventCancelled, Some(account))
            }
            NotedStep::CancelDelivery { delivery, owner } => {
                let (delivery, account) = self.owned(*pick(&self.deliveries, delivery), owner);
                let noted = Noted::CancelDelivery(account, delivery);
                (noted, AuditAction::DeliveryCancelled, Some(account))
            }
            NotedStep::EraseEvent { event, owner } => {
                let (event, account) = self.owned(*pick(&self.events, event), owner);
                (Noted::EraseEvent(account, event), AuditAction::EventErased, Some(account))
            }
            NotedStep::CreateReplay { endpoint, owner, fate } => {
                let (endpoint, account) = self.owned(self.endpoint(endpoint), owner);
                let id = ReplayId::from_u128(self.number().into());
                self.replays.push(id);
                let selection = self.selection(fate);
                let replay = Replay::begin(id, account, endpoint, selection, self.now);
                (Noted::CreateReplay(replay), AuditAction::ReplayStarted, Some(account))
            }
            NotedStep::CancelReplay { replay } => {
                let noted = Noted::CancelReplay(*pick(&self.replays, replay));
                (noted, AuditAction::ReplayCancelled, None)
            }
            NotedStep::Nothing { account } => {
                let account = account.map(|account| self.account(account));
                (Noted::Nothing, AuditAction::SecretRevealed, account)
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn account(&self, recent: Recent) -> AccountId {
        pick(&self.accounts, recent).id
    }

    /// The endpoint, and whose it is.
    fn endpoint(&self, recent: Recent) -> (EndpointId, AccountId) {
        let endpoint = pick(&self.endpoints, recent);
        (endpoint.id, endpoint.account)
    }

    /// The thing, and for whom it is asked: its own account, unless an owner is named.
    fn owned<Id>(&self, (id, account): (Id, AccountId), owner: Option<Recent>) -> (Id, AccountId) {
        (id, owner.map_or(account, |owner| self.account(owner)))
    }

    /// A delivery that is not made yet.
    fn delivery(&mut self, account: AccountId) -> DeliveryId {
        let id = DeliveryId::from_u128(self.number().into());
        self.deliveries.push((id, account));
        id
    }

    /// Events of some seconds.
    fn selection(&self, fate: ReplayFate) -> ReplaySelection {
        let since = self.now.minus(Duration::from_secs(10));
        ReplaySelection { fate, since, until: self.now.plus(Duration::from_millis(1)) }
    }

    /// A note that no other note is equal to.
    fn note(&mut self, action: AuditAction, account: Option<AccountId>) -> AuditNote {
        let number = self.number();
        AuditNote {
            at: self.now,
            actor: Actor::Key(KeyId::from_u128(number.into())),
            action,
            account,
            subject: number.to_string(),
            details: format!(r#"{{"number":{number}}}"#),
        }
    }

    fn key(&mut self, account: Option<AccountId>) -> KeyRecord {
        let number = self.number();
        let id = KeyId::from_u128(number.into());
        self.keys.push(id);
        KeyRecord {
            id,
            account,
            public_part: number.to_string(),
            hash: [number as u8; 32],
            created_at: self.now,
            last_used_at: None,
        }
    }

    fn event(&mut self, account: AccountId, step: &EventStep, roster: Option<&Roster>) -> NewEvent {
        let id = EventId::from_u128(self.number().into());
        self.events.push((id, account));
        let bit = |bits: u8, at: usize| bits >> at & 1 == 1;
        let ordering_key = step.ordering_key.map(|key| format!("key{key}"));
        let ordering_key = ordering_key.and_then(|key| OrderingKey::parse(&key).ok());
        let (mut deliveries, mut not_made) = (Vec::new(), Vec::new());
        for (at, endpoint) in roster.iter().flat_map(|roster| &roster.endpoints).enumerate() {
            if bit(step.endpoints, at) {
                let id = self.delivery(account);
                let (endpoint, ordering_key) = (endpoint.id, ordering_key.clone());
                let may_be_leased = ordering_key.is_none() && step.scheduled.is_none();
                let leased = may_be_leased && bit(step.leased, at);
                deliveries.push(NewDelivery { id, endpoint, leased, ordering_key });
            } else if bit(step.leased, at) {
                not_made.push((endpoint.id, NoDelivery::Disabled));
            } else {
                not_made.push((endpoint.id, NoDelivery::Entity));
            }
        }
        NewEvent {
            event: Event {
                id,
                account,
                event_type: event_type(&format!("type{}", step.event_type)),
                timestamp: self.now,
                entity_ids: vec![EntityId::parse("video_123456").unwrap()],
                accepted_at: self.now,
                deliver_at: step.scheduled.map(|it| self.now.plus(Duration::from_secs(it))),
                ordering_key,
                trace: TraceContext::parse(TRACE).filter(|_| step.event_type == 0),
            },
            body: Bytes::from(format!("<{id}>")),
            data: 1..5,
            deliveries,
            not_made,
            roster_version: 0,
            idempotency: step
                .idempotency
                .and_then(|(key, hash)| idempotency(&format!("key{key}"), hash)),
        }
    }

    fn transition(&self, ending: &Ending) -> Transition {
        match *ending {
            Ending::Delivered => Transition::Delivered,
            Ending::RetryIn { milliseconds } => {
                Transition::RetryAt(self.now.plus(Duration::from_millis(milliseconds)))
            }
            Ending::Exhausted(reason) => Transition::Exhausted(reason),
        }
    }

    fn before_now(&self, seconds: Option<u64>) -> Option<Timestamp> {
        seconds.map(|seconds| self.now.minus(Duration::from_secs(seconds)))
    }

    fn event_filter(&self, step: &FilterStep) -> EventFilter {
        EventFilter {
            account: step.account.map(|account| self.account(account)),
            event_type: step.event_type.map(|number| event_type(&format!("type{number}"))),
            since: self.before_now(step.since),
            until: self.before_now(step.until),
            undelivered: false,
        }
    }

    fn audit_filter(&self, step: &FilterStep) -> AuditFilter {
        AuditFilter {
            account: step.account.map(|account| self.account(account)),
            action: None,
            since: self.before_now(step.since),
            until: self.before_now(step.until),
        }
    }

    fn delivery_filter(&self, step: &FilterStep) -> DeliveryFilter {
        DeliveryFilter {
            account: step.account.map(|account| self.account(account)),
            endpoint: step.endpoint.map(|endpoint| self.endpoint(endpoint).0),
            event: step.event.map(|event| pick(&self.events, event).0),
            state: None,
            since: self.before_now(step.since),
            until: self.before_now(step.until),
        }
    }
}
