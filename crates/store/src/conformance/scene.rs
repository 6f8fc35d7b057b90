//! What the cases play on: an open store, a session, a clock, and short ways to say things.
//!
//! Numbers only grow, so what is made later has the higher id, as in the product. The clock stands
//! still unless a case moves it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::account::Account;
use domain::attempt::{Attempt, Failure, Outcome, Phases};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::contract::Contract;
use domain::delivery::{Delivery, EndReason, Transition};
use domain::endpoint::Endpoint;
use domain::event::{EntityId, Event, EventType, IdempotencyKey};
use domain::id::{DeliveryId, EndpointId, EventId, KeyId};
use domain::ordering::OrderingKey;
use domain::retention::Retention;
use domain::testing::{TEST_START, an_account, an_endpoint};
use domain::time::Timestamp;

use super::Harness;
use super::audit::audit;
use crate::SharedStore;
use crate::catalogue::{AccountCreated, DeletedHistory, EndpointCreated, KeyRecord};
use crate::history::EventDetail;
use crate::memory::MemoryStore;
use crate::queue::{
    Accepted, Added, AttemptRecord, Claimed, Cleaned, Extended, GivenBack, Idempotency, LaneClaim,
    LaneRoom, Lease, NewDelivery, NewEvent, Recorded, SessionId,
};

/// How long the session of a scene lives, from the scene's first instant.
pub const SESSION_LIFE: Duration = Duration::from_hours(1);

/// An open store and what a case needs to use it.
pub struct Scene {
    harness: Box<dyn Harness>,
    /// The store.
    pub store: SharedStore,
    /// A session that lives for [`SESSION_LIFE`].
    pub session: SessionId,
    /// The scene's clock.
    pub now: Timestamp,
    last_number: u64,
}

/// An event that was accepted, and the ids of its deliveries.
#[derive(Clone, Debug)]
pub struct Published {
    pub event: EventId,
    pub deliveries: Vec<DeliveryId>,
}

impl Published {
    /// Its only delivery.
    pub fn only(&self) -> DeliveryId {
        assert_eq!(self.deliveries.len(), 1, "the case means an event with one delivery");
        self.deliveries[0]
    }
}

impl Scene {
    /// Opens the store and begins a session.
    pub async fn open(harness: impl Harness + 'static) -> Self {
        let store = harness.open().await;
        let session = store.begin_session(TEST_START.plus(SESSION_LIFE)).await.unwrap();
        Self { harness: Box::new(harness), store, session, now: TEST_START, last_number: 0 }
    }

    /// Ends the case: the audit of all that the store says.
    pub async fn close(self) {
        audit(&*self.store).await;
    }

    /// The process dies, the next one opens the store and begins a session.
    pub async fn crash(&mut self) {
        let left = std::mem::replace(&mut self.store, Arc::new(MemoryStore::new()));
        self.store = self.harness.reopen(left).await;
        self.session = self.store.begin_session(self.now.plus(SESSION_LIFE)).await.unwrap();
    }

    /// A number higher than all before.
    pub fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// Moves the clock.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now.plus(time);
    }

    /// A note for a change made now, where it does not matter what it says.
    pub fn note(&self) -> AuditNote {
        note_at(self.now)
    }

    /// A key record for the account, or for the operator.
    pub fn new_key(&mut self, account: Option<&Account>) -> KeyRecord {
        let number = self.next_number();
        KeyRecord {
            id: KeyId::from_u128(u128::from(number)),
            account: account.map(|account| account.id),
            public_part: format!("public{number}"),
            hash: [number as u8; 32],
            created_at: self.now,
            last_used_at: None,
        }
    }

    /// An account that is not stored yet.
    pub fn new_account(&mut self) -> Account {
        an_account(Contract::Standard, self.next_number())
    }

    /// Creates an account.
    pub async fn account(&mut self) -> Account {
        let account = self.new_account();
        let key = self.new_key(Some(&account));
        let created = self.store.create_account(account.clone(), key, self.note()).await.unwrap();
        assert_eq!(created, AccountCreated::Created);
        account
    }

    /// An endpoint of the account that is not stored yet.
    pub fn new_endpoint(&mut self, account: &Account) -> Endpoint {
        an_endpoint(account, self.next_number())
    }

    /// Creates an endpoint.
    pub async fn endpoint(&mut self, account: &Account) -> Endpoint {
        let endpoint = self.new_endpoint(account);
        let created =
            self.store.create_endpoint(endpoint.clone(), 1_000, self.note()).await.unwrap();
        assert_eq!(created, EndpointCreated::Created);
        endpoint
    }

    /// Creates an account with one endpoint.
    pub async fn account_with_endpoint(&mut self) -> (Account, Endpoint) {
        let account = self.account().await;
        let endpoint = self.endpoint(&account).await;
        (account, endpoint)
    }

    /// A delivery to create, not born leased.
    pub fn new_delivery(&mut self, endpoint: EndpointId) -> NewDelivery {
        let id = DeliveryId::from_u128(u128::from(self.next_number()));
        NewDelivery { id, endpoint, leased: false, ordering_key: None }
    }

    /// An event that owes deliveries to the endpoints, matched against the current roster.
    pub async fn new_event(&mut self, account: &Account, endpoints: &[&Endpoint]) -> NewEvent {
        let roster = self.store.read_roster(account.id).await.unwrap();
        let number = self.next_number();
        let mut body = format!(r#"{{"id":"{number}","data":"#);
        let data_start = body.len();
        write!(body, r#"{{"number":{number}}}"#).expect("a string takes any text");
        let data = data_start..body.len();
        body.push('}');
        NewEvent {
            event: Event {
                id: EventId::from_u128(u128::from(number)),
                account: account.id,
                event_type: event_type("video.created"),
                timestamp: Timestamp::from_seconds(self.now.as_seconds()),
                entity_ids: vec![EntityId::parse("video_123456").unwrap()],
                accepted_at: self.now,
                deliver_at: None,
                ordering_key: None,
                trace: None,
            },
            body: Bytes::from(body),
            data,
            deliveries: endpoints.iter().map(|it| self.new_delivery(it.id)).collect(),
            not_made: Vec::new(),
            roster_version: roster.map_or(0, |roster| roster.version),
            idempotency: None,
        }
    }

    /// An event like the other, with an id of its own and one delivery per endpoint.
    pub fn another(&mut self, like: &NewEvent, endpoints: &[&Endpoint]) -> NewEvent {
        let mut new = like.clone();
        new.event.id = EventId::from_u128(u128::from(self.next_number()));
        new.deliveries = endpoints.iter().map(|it| self.new_delivery(it.id)).collect();
        new
    }

    /// Accepts one event.
    pub async fn accept(&self, new: NewEvent) -> Accepted {
        let mut answers = self.store.accept(self.session, vec![new]).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer per event");
        answers.remove(0)
    }

    /// Accepts an event with one claimable delivery per endpoint.
    pub async fn publish(&mut self, account: &Account, endpoints: &[&Endpoint]) -> Published {
        let new = self.new_event(account, endpoints).await;
        self.accept_new(new).await
    }

    /// Accepts an event with one delivery, born leased.
    pub async fn publish_leased(&mut self, account: &Account, endpoint: &Endpoint) -> Lease {
        let mut new = self.new_event(account, &[endpoint]).await;
        new.deliveries[0].leased = true;
        let delivery = self.accept_new(new).await.only();
        Lease { session: self.session, delivery, fence: 1 }
    }

    /// Accepts an event that must be new.
    pub async fn accept_new(&mut self, new: NewEvent) -> Published {
        let event = new.event.id;
        let deliveries = new.deliveries.iter().map(|delivery| delivery.id).collect();
        assert_eq!(self.accept(new).await, Accepted::New);
        Published { event, deliveries }
    }

    /// Accepts an event with one delivery that has an ordering key.
    pub async fn publish_in_line(
        &mut self,
        account: &Account,
        endpoint: &Endpoint,
        key: &str,
    ) -> Published {
        let mut new = self.new_event(account, &[endpoint]).await;
        new.deliveries[0].ordering_key = OrderingKey::from_stored(key);
        self.accept_new(new).await
    }

    /// Replays an event to an endpoint with a delivery that is not born leased.
    pub async fn replay(
        &mut self,
        account: &Account,
        event: EventId,
        endpoint: &Endpoint,
    ) -> DeliveryId {
        let new = self.new_delivery(endpoint.id);
        let (session, note) = (self.session, self.note());
        let added =
            self.store.add_delivery(session, account.id, event, new.clone(), note).await.unwrap();
        assert!(matches!(added, Added::Created(_)), "{added:?}");
        new.id
    }

    /// What the scene's session gets when it claims now from one lane.
    pub async fn claim_lane(&self, endpoint: &Endpoint, room: usize) -> LaneClaim {
        let lanes = vec![LaneRoom { endpoint: endpoint.id, room }];
        let mut claims = self.store.claim_due(self.session, self.now, lanes).await.unwrap();
        assert_eq!(claims.len(), 1, "one answer per lane");
        claims.remove(0)
    }

    /// The deliveries the scene's session gets when it claims now from one lane.
    pub async fn claim(&self, endpoint: &Endpoint, room: usize) -> Vec<Claimed> {
        self.claim_lane(endpoint, room).await.claimed
    }

    /// The lease of the only delivery that can be claimed now from the lane.
    pub async fn claim_only(&self, endpoint: &Endpoint) -> Lease {
        let claimed = self.claim(endpoint, 2).await;
        assert_eq!(claimed.len(), 1, "{claimed:?}");
        claimed[0].lease
    }

    /// A record of an attempt under the lease.
    pub fn attempt(&self, lease: Lease, number: u32, transition: Transition) -> AttemptRecord {
        let outcome = match transition {
            Transition::Delivered => Outcome::Answered { status: 200, retry_after: None },
            Transition::RetryAt(_) | Transition::Exhausted(_) => Outcome::Failed(Failure::Timeout),
        };
        let attempt = Attempt {
            number,
            at: self.now,
            duration: Duration::from_millis(12),
            phases: Phases { first_byte: Duration::from_millis(11), ..Phases::default() },
            outcome,
            request_head: "POST /hook HTTP/1.1\nhost: hooks.customer.com".to_owned(),
            response_excerpt: b"ok".to_vec(),
            next_at: transition.next_at(),
        };
        AttemptRecord { lease, attempt, transition }
    }

    /// Records a first attempt under the lease.
    pub async fn record(&self, lease: Lease, transition: Transition) -> Recorded {
        self.record_attempt(self.attempt(lease, 1, transition)).await
    }

    /// Records an attempt.
    pub async fn record_attempt(&self, attempt: AttemptRecord) -> Recorded {
        let mut answers = self.store.record(vec![attempt]).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer per attempt");
        answers.remove(0)
    }

    /// Claims the only claimable delivery of the lane and records what came of an attempt.
    pub async fn attempt_only(&self, endpoint: &Endpoint, transition: Transition) {
        let lease = self.claim_only(endpoint).await;
        assert_eq!(self.record(lease, transition).await, Recorded::Applied);
    }

    /// Gives one lease back, without an attempt begun.
    pub async fn give_back(&self, lease: Lease) -> Recorded {
        self.give_back_as(lease, GivenBack::Unused).await
    }

    /// Gives one lease back.
    pub async fn give_back_as(&self, lease: Lease, why: GivenBack) -> Recorded {
        let mut answers = self.store.give_back(vec![lease], why).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer per lease");
        answers.remove(0)
    }

    /// Sets one delivery aside.
    pub async fn set_aside(&self, lease: Lease) -> Recorded {
        let mut answers = self.store.set_aside(vec![lease], self.now).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer per lease");
        answers.remove(0)
    }

    /// The delivery, which must be there.
    pub async fn delivery(&self, id: DeliveryId) -> Delivery {
        self.store.read_delivery(id).await.unwrap().expect("the delivery is there")
    }

    /// What became of the event.
    pub async fn detail(&self, id: EventId) -> EventDetail {
        self.store.read_event(id).await.unwrap().expect("the event is there")
    }

    /// Deletes an endpoint that must be there.
    pub async fn delete_endpoint(&self, endpoint: &Endpoint, history: DeletedHistory) {
        let (account, id) = (endpoint.account, endpoint.id);
        assert!(self.store.delete_endpoint(account, id, history, self.note()).await.unwrap());
    }

    /// One step of cleaning.
    pub async fn clean(&self, rows_max: usize) -> Cleaned {
        self.store.clean(self.now, &Retention::default(), rows_max).await.unwrap()
    }

    /// Cleans until there is nothing more to clean.
    pub async fn clean_all(&self) {
        self.clean_by(&Retention::default()).await;
    }

    /// Cleans until there is nothing more that is kept longer than `retention` says. Answers what
    /// all steps did together.
    pub async fn clean_by(&self, retention: &Retention) -> Cleaned {
        const STEPS_MAX: usize = 100_000;
        let mut total = Cleaned::default();
        for _ in 0..STEPS_MAX {
            let step = self.store.clean(self.now, retention, 3).await.unwrap();
            total.payloads += step.payloads;
            total.events += step.events;
            total.expired += step.expired;
            if !step.has_more {
                return total;
            }
        }
        panic!("cleaning does not come to an end");
    }

    /// Ends the scene's session as if its engine had fallen silent, and begins another, which is
    /// the scene's from now on. Answers how many deliveries came free.
    pub async fn lose_session(&mut self) -> usize {
        let (session, past) = (self.session, self.now.minus(Duration::from_millis(1)));
        let extended = self.store.extend_session(session, past).await.unwrap();
        assert_eq!(extended, Extended::Extended);
        let freed = self.store.release_expired(self.now).await.unwrap();
        self.session = self.store.begin_session(self.now.plus(SESSION_LIFE)).await.unwrap();
        freed
    }
}

/// A note for a change made at that instant, where it does not matter what it says.
pub fn note_at(at: Timestamp) -> AuditNote {
    AuditNote {
        at,
        actor: Actor::System,
        action: AuditAction::AccountChanged,
        account: None,
        subject: String::new(),
        details: "{}".to_owned(),
    }
}

/// The event type of that name.
pub fn event_type(name: &str) -> EventType {
    EventType::parse(name).unwrap()
}

/// An idempotency key and a request hash made of one byte.
pub fn idempotency(key: &str, hash: u8) -> Option<Idempotency> {
    let key = IdempotencyKey::parse(key).unwrap();
    Some(Idempotency { key, request_hash: [hash; 32] })
}

/// A transition that ends a delivery without success.
pub const USED_UP: Transition = Transition::Exhausted(EndReason::AttemptsUsedUp);

/// What each task answers, all of them running at once.
pub async fn at_once<Task, T>(tasks: impl IntoIterator<Item = Task>) -> Vec<T>
where
    Task: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let running: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut answers = Vec::with_capacity(running.len());
    for task in running {
        answers.push(task.await.expect("the task does not panic"));
    }
    answers
}
