//! One of the two stores, and what it answers, as text.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

use domain::attempt::{Attempt, Outcome, Phases};
use domain::audit::AuditNote;
use domain::delivery::Transition;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, ReplayId};
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use domain::page::PageRequest;
use domain::replay::{Replay, ReplayState};
use domain::testing::TEST_START;
use domain::time::Timestamp;

use super::call::{Call, Noted, pick};
use super::step::Recent;
use crate::audit::AuditFilter;
use crate::catalogue::{AccountCreated, EndpointCreated, Roster, SecretRotated};
use crate::conformance::Harness;
use crate::conformance::audit::{
    all_deliveries, all_entries, all_events, all_lanes, audit, paged_deliveries, paged_entries,
    paged_events,
};
use crate::history::{DeliveryFilter, EventFilter, EventWithData};
use crate::memory::MemoryStore;
use crate::queue::{
    Added, AttemptRecord, Cancelled, Claimed, GivenBack, LaneRoom, Lease, NewEvent, Recorded,
    SessionId,
};
use crate::replays::ReplayCreated;
use crate::{SharedStore, Store};

/// A store, and what it named by itself.
pub(super) struct Side<'a> {
    harness: &'a dyn Harness,
    store: SharedStore,
    sessions: Vec<SessionId>,
    leases: Vec<Lease>,
    /// The notes of every change that was made, in order.
    noted: Vec<AuditNote>,
}

fn text(answer: impl Debug) -> String {
    format!("{answer:?}")
}

/// The events that following step by step answers.
async fn follow(
    store: &dyn Store,
    account: AccountId,
    after: Option<EventId>,
    undelivered: bool,
    limit: usize,
) -> Vec<EventWithData> {
    let before = EventId::from_u128(u128::MAX);
    let (mut place, mut events) = (after, Vec::new());
    loop {
        let followed =
            store.follow_events(account, place, before, undelivered, limit).await.unwrap();
        events.extend(followed.events);
        let Some(through) = followed.through else { return events };
        assert!(place < Some(through), "it goes on");
        place = Some(through);
    }
}

/// The replay as it ended after as many steps as it took; how far it looked in each is the store's
/// choice. Nothing if it did not run.
async fn run_replay(
    store: &dyn Store,
    id: ReplayId,
    first: u64,
    (room, rows_max): (usize, usize),
    now: Timestamp,
) -> Option<Replay> {
    let mut next = first;
    loop {
        let ids = (next..).take(room).map(|id| DeliveryId::from_u128(id.into())).collect();
        let step = store.step_replay(id, ids, rows_max, now).await.unwrap()?;
        next += step.created as u64;
        if step.replay.state != ReplayState::Running {
            return Some(Replay { through: None, ..step.replay });
        }
    }
}

impl<'a> Side<'a> {
    pub(super) async fn open(harness: &'a dyn Harness) -> Self {
        let store = harness.open().await;
        let (sessions, leases, noted) = (Vec::new(), Vec::new(), Vec::new());
        let mut side = Self { harness, store, sessions, leases, noted };
        side.begin_session(TEST_START.plus(Duration::from_hours(1))).await;
        side
    }

    pub(super) async fn roster(&self, account: Option<AccountId>) -> Option<Roster> {
        self.store.read_roster(account?).await.unwrap()
    }

    async fn begin_session(&mut self, until: Timestamp) {
        self.sessions.push(self.store.begin_session(until).await.unwrap());
    }

    fn session(&self, recent: Recent) -> SessionId {
        *pick(&self.sessions, recent)
    }

    /// The lease, with the session named by its order.
    fn normal(&self, lease: Lease) -> Lease {
        let order = self.sessions.iter().position(|session| *session == lease.session);
        let order = order.expect("a store leases to sessions that it began");
        Lease { session: SessionId(order as u64), ..lease }
    }

    fn take(&mut self, claimed: Claimed) -> Claimed {
        self.leases.push(claimed.lease);
        Claimed { lease: self.normal(claimed.lease), ..claimed }
    }

    /// The lease, or one of no delivery while there is none.
    fn lease(&self, recent: Recent) -> Lease {
        let delivery = DeliveryId::from_u128(0);
        let none = [Lease { session: self.sessions[0], delivery, fence: 1 }];
        *pick(if self.leases.is_empty() { &none } else { &self.leases }, recent)
    }

    /// The lease of [`Self::lease`], which is the last to be picked from now on.
    fn use_lease(&mut self, recent: Recent) -> Lease {
        let lease = self.lease(recent);
        if let Some(place) = self.leases.iter().position(|other| *other == lease) {
            self.leases[..=place].rotate_right(1);
        }
        lease
    }

    /// The answer as text; remembers the note if the answer says that something changed.
    fn noted(&mut self, note: AuditNote, changed: bool, answer: impl Debug) -> String {
        if changed {
            self.noted.push(note);
        }
        text(answer)
    }

    /// Makes the call of the store; its answer as text.
    #[expect(clippy::too_many_lines, reason = "a few lines for each call")]
    pub(super) async fn make(&mut self, call: &Call) -> String {
        let store = Arc::clone(&self.store);
        match call.clone() {
            Call::Noted(noted, note) => self.make_noted(*noted, note).await,
            Call::NoteKeyUse(key, at) => {
                store.note_key_uses(vec![(key, at)]).await.unwrap();
                String::new()
            }
            Call::BeginSession(until) => {
                self.begin_session(until).await;
                String::new()
            }
            Call::ExtendSession(session, until) => {
                text(store.extend_session(self.session(session), until).await.unwrap())
            }
            Call::ReleaseExpired(now) => text(store.release_expired(now).await.unwrap()),
            Call::Accept(session, events) => self.accept(session, events).await,
            Call::AddDelivery(session, account, event, new, note) => {
                let session = self.session(session);
                let added = store.add_delivery(session, account, event, new, note.clone());
                let added = match added.await.unwrap() {
                    Added::Created(claimed) => Added::Created(self.take(claimed)),
                    other => other,
                };
                self.noted(note, matches!(added, Added::Created(_)), added)
            }
            Call::ClaimDue(session, now, lanes) => {
                let lanes: Vec<_> =
                    lanes.into_iter().map(|(endpoint, room)| LaneRoom { endpoint, room }).collect();
                let claims = store.claim_due(self.session(session), now, lanes).await.unwrap();
                let mut answer = String::new();
                for claim in claims {
                    let (endpoint, next_due_at) = (claim.endpoint, claim.next_due_at);
                    let claimed: Vec<_> =
                        claim.claimed.into_iter().map(|it| self.take(it)).collect();
                    write!(answer, "{endpoint} {claimed:?} {next_due_at:?} ").unwrap();
                }
                answer
            }
            Call::GiveBack(leases, why) => {
                let leases = leases.into_iter().map(|lease| self.use_lease(lease)).collect();
                text(store.give_back(leases, why).await.unwrap())
            }
            Call::LoseClaims(session, now, endpoint, on_trial) => {
                self.lose_claims(self.session(session), now, endpoint, &on_trial).await
            }
            Call::BeginTrial(lease) => text(store.begin_trial(self.lease(lease)).await.unwrap()),
            Call::SetAside(leases, now) => {
                let leases = leases.into_iter().map(|lease| self.use_lease(lease)).collect();
                text(store.set_aside(leases, now).await.unwrap())
            }
            Call::Record(leases, now) => self.record(leases, now).await,
            Call::WaitingLanes(after, limit) => {
                text(store.waiting_lanes(after, limit).await.unwrap())
            }
            Call::ListEvents(filter, page_size) => {
                text(paged_events(&*store, &filter, page_size).await)
            }
            Call::ListDeliveries(filter, page_size) => {
                text(paged_deliveries(&*store, &filter, page_size).await)
            }
            Call::ListAudit(filter, page_size) => {
                text(paged_entries(&*store, &filter, page_size).await)
            }
            Call::FollowEvents(account, after, undelivered, limit) => {
                text(follow(&*store, account, after, undelivered, limit).await)
            }
            Call::CountReplay(account, endpoint, selection) => {
                let rows_max = PAGE_ROWS_SCANNED_MAX;
                text(store.count_replay(account, endpoint, selection, rows_max).await.unwrap())
            }
            Call::RunReplay(id, first, room, rows_max, now) => {
                let ended = run_replay(&*store, id, first, (room, rows_max), now).await;
                self.noted.extend(ended.as_ref().map(|replay| replay.ended_note(now)));
                text(ended)
            }
            Call::WriteStreak(endpoint, streak) => {
                store.write_streaks(vec![(endpoint, streak)]).await.unwrap();
                String::new()
            }
            Call::Clean(now, retention) => {
                let (mut events, mut expired) = (0, 0);
                loop {
                    let cleaned = store.clean(now, &retention, 2).await.unwrap();
                    events += cleaned.events;
                    expired += cleaned.expired;
                    if !cleaned.has_more {
                        return text((events, expired));
                    }
                }
            }
            Call::Nothing => String::new(),
            Call::Crash(until) => {
                drop(store);
                let left = std::mem::replace(&mut self.store, Arc::new(MemoryStore::new()));
                self.store = self.harness.reopen(left).await;
                self.begin_session(until).await;
                String::new()
            }
        }
    }

    async fn make_noted(&mut self, call: Noted, note: AuditNote) -> String {
        let (store, written) = (Arc::clone(&self.store), note.clone());
        match call {
            Noted::CreateAccount(account, key) => {
                let created = store.create_account(account, key, written).await.unwrap();
                self.noted(note, created == AccountCreated::Created, created)
            }
            Noted::ChangeAccount(account, change) => {
                let changed = store.change_account(account, change, written).await.unwrap();
                self.noted(note, changed.is_some(), changed)
            }
            Noted::DeleteAccount(account) => {
                let deleted = store.delete_account(account, written).await.unwrap();
                self.noted(note, deleted, deleted)
            }
            Noted::CreateKey(key) => {
                let created = store.create_key(key, written).await.unwrap();
                self.noted(note, created, created)
            }
            Noted::DeleteKey(account, key) => {
                let deleted = store.delete_key(account, key, written).await.unwrap();
                self.noted(note, deleted.is_some(), deleted)
            }
            Noted::CreateEndpoint(endpoint, endpoints_max) => {
                let created = store.create_endpoint(endpoint, endpoints_max, written);
                let created = created.await.unwrap();
                self.noted(note, created == EndpointCreated::Created, created)
            }
            Noted::ChangeEndpoint(account, id, change) => {
                let changed =
                    store.change_endpoint(account, id, None, change, written).await.unwrap();
                self.noted(note, changed.is_some(), changed)
            }
            Noted::DeleteEndpoint(account, id, history) => {
                let deleted = store.delete_endpoint(account, id, history, written).await.unwrap();
                self.noted(note, deleted, deleted)
            }
            Noted::RotateSecret(account, id, new, overlap) => {
                let rotated = store.rotate_secret(account, id, new, overlap, written);
                let rotated = rotated.await.unwrap();
                self.noted(note, matches!(rotated, SecretRotated::Rotated(_)), rotated)
            }
            Noted::CancelEvent(account, event) => {
                let cancelled = store.cancel_event(account, event, written).await.unwrap();
                self.noted(note, matches!(cancelled, Cancelled::Deliveries(_)), cancelled)
            }
            Noted::CancelDelivery(account, delivery) => {
                let cancelled = store.cancel_delivery(account, delivery, written).await.unwrap();
                self.noted(note, matches!(cancelled, Cancelled::Deliveries(_)), cancelled)
            }
            Noted::EraseEvent(account, event) => {
                let erased = store.erase_event(account, event, written).await.unwrap();
                self.noted(note, matches!(erased, Cancelled::Deliveries(_)), erased)
            }
            Noted::CreateReplay(replay) => {
                let created = store.create_replay(replay, written).await.unwrap();
                self.noted(note, created == ReplayCreated::Created, created)
            }
            Noted::CancelReplay(id) => {
                let before = store.read_replay(id).await.unwrap();
                let cancelled = store.cancel_replay(id, written).await.unwrap();
                let was_running = before.is_some_and(|it| it.state == ReplayState::Running);
                self.noted(note, was_running, cancelled)
            }
            Noted::Nothing => {
                store.note(vec![written]).await.unwrap();
                self.noted(note, true, ())
            }
        }
    }

    async fn lose_claims(
        &mut self,
        session: SessionId,
        now: Timestamp,
        endpoint: EndpointId,
        on_trial: &[bool],
    ) -> String {
        let store = Arc::clone(&self.store);
        let mut answer = String::new();
        for on_trial in on_trial {
            let lanes = vec![LaneRoom { endpoint, room: 1 }];
            for claim in store.claim_due(session, now, lanes).await.unwrap() {
                for claimed in claim.claimed {
                    let lease = claimed.lease;
                    write!(answer, "{:?} ", self.take(claimed)).unwrap();
                    if *on_trial {
                        assert_eq!(store.begin_trial(lease).await.unwrap(), Recorded::Applied);
                    }
                    let lost = store.give_back(vec![lease], GivenBack::Unanswered).await.unwrap();
                    assert_eq!(lost, [Recorded::Applied]);
                }
            }
        }
        answer
    }

    async fn accept(&mut self, session: Recent, events: Vec<(NewEvent, bool)>) -> String {
        let session = self.session(session);
        let mut matched = Vec::new();
        for (mut new, stale) in events {
            let roster = self.roster(Some(new.event.account)).await;
            let version = roster.map_or(1, |roster| roster.version);
            new.roster_version = if stale { version.saturating_sub(1) } else { version };
            for delivery in new.deliveries.iter().filter(|delivery| delivery.leased) {
                self.leases.push(Lease { session, delivery: delivery.id, fence: 1 });
            }
            matched.push(new);
        }
        text(self.store.accept(session, matched).await.unwrap())
    }

    async fn record(&mut self, leases: Vec<(Recent, Transition)>, now: Timestamp) -> String {
        let mut attempts = Vec::new();
        for (lease, transition) in leases {
            let lease = self.use_lease(lease);
            let delivery = self.store.read_delivery(lease.delivery).await.unwrap();
            let attempt = Attempt {
                number: delivery.map_or(0, |delivery| delivery.attempts) + 1,
                at: now,
                duration: Duration::from_millis(30),
                phases: Phases::default(),
                outcome: Outcome::Answered { status: 500, retry_after: None },
                request_head: String::new(),
                response_excerpt: Vec::new(),
                next_at: transition.next_at(),
            };
            attempts.push(AttemptRecord { lease, attempt, transition });
        }
        text(self.store.record(attempts).await.unwrap())
    }

    /// Everything that can be seen, a thing per line.
    pub(super) async fn everything(&self) -> String {
        let store = &*self.store;
        audit(store).await;
        let entries = all_entries(store).await;
        let notes: Vec<_> = entries.into_iter().map(|entry| entry.note).collect();
        assert_eq!(notes, self.noted, "the log has the note of every change, and no other");
        let mut seen = String::new();
        let mut see = |thing: &dyn Debug| writeln!(seen, "{thing:?}").unwrap();
        see(&store.counts().await.unwrap());
        see(&store.list_keys(None, PageRequest::LARGEST).await.unwrap());
        for account in store.list_accounts(PageRequest::LARGEST).await.unwrap().items {
            let roster = store.read_roster(account.id).await.unwrap();
            see(&roster.map(|roster| (roster.account, roster.endpoints)));
            see(&store.list_keys(Some(account.id), PageRequest::LARGEST).await.unwrap());
        }
        for event in all_events(store, &EventFilter::default()).await {
            see(&store.read_event(event.event.id).await.unwrap());
        }
        for delivery in all_deliveries(store, &DeliveryFilter::default()).await {
            see(&delivery);
            see(&store.list_attempts(delivery.id).await.unwrap());
        }
        for replay in store.list_replays(None, None, PageRequest::LARGEST).await.unwrap().items {
            see(&Replay { through: None, ..replay });
        }
        for replay in store.running_replays(None, PAGE_ROWS_SCANNED_MAX).await.unwrap() {
            see(&replay.id);
        }
        see(&store.read_streaks(None, PAGE_ROWS_SCANNED_MAX).await.unwrap());
        for lane in all_lanes(store).await {
            see(&lane);
        }
        for entry in paged_entries(store, &AuditFilter::default(), 5).await {
            see(&entry);
        }
        seen
    }
}
