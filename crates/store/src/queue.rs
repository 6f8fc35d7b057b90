//! Events accepted, deliveries owed, leases held, attempts recorded.
//!
//! A lease is a session and a fence. The session is a running engine's; while it is extended in
//! time, nobody else gets its deliveries. The fence is the delivery's claim count; a record under
//! an older fence changes nothing. Instants decide only when a silent session may be presumed dead.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::Attempt;
use domain::audit::AuditNote;
use domain::delivery::Transition;
use domain::event::{Event, EventType, IdempotencyKey};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::matching::NoDelivery;
use domain::ordering::OrderingKey;
use domain::retention::Retention;
use domain::time::Timestamp;
use domain::trace::TraceContext;

use crate::StoreError;

/// A running engine, as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The right to work on one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// Who holds it.
    pub session: SessionId,
    /// What for.
    pub delivery: DeliveryId,
    /// The how-manieth claim of the delivery this is; 1 when it was born leased.
    pub fence: u32,
}

/// An event to accept, with the deliveries it owes.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The event.
    pub event: Event,
    /// The rendered body of its deliveries.
    pub body: Bytes,
    /// Where the producer's `data` stands in it.
    pub data: Range<usize>,
    /// What it owes, due when [`Event::owed_since`] says.
    pub deliveries: Vec<NewDelivery>,
    /// Endpoints that get no delivery although they subscribed to its type, and why.
    pub not_made: Vec<(EndpointId, NoDelivery)>,
    /// The version of the roster it was matched against.
    pub roster_version: u64,
    /// Accept at most once per key, if there is one.
    pub idempotency: Option<Idempotency>,
}

/// A delivery to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whether it is born leased (with fence 1) to the session that creates it. If that session is
    /// lost, the delivery is born claimable, and the lease of fence 1 is a lost one. Must not be set
    /// for a delivery that has an ordering key or is due later.
    pub leased: bool,
    /// What it waits behind: as long as an earlier delivery to the endpoint with the same key has
    /// not ended, this one is pending but not claimable, and nothing is due. All that wait name the
    /// one that does not ([`domain::delivery::Delivery::waits_for`]). When that one ends, however it
    /// ends, the next in the order in which their events were accepted becomes claimable in the same
    /// step: due at once, which is the instant of the end, or when its event is owed if that is
    /// later. A retry keeps the others waiting. A replay has no key, whatever is said here.
    pub ordering_key: Option<OrderingKey>,
}

/// What makes a publish repeatable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key, unique in the account.
    pub key: IdempotencyKey,
    /// A hash of the request, to tell a repetition from another use of the key.
    pub request_hash: [u8; 32],
}

/// What came of accepting one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The event and its deliveries are on stable storage.
    New,
    /// The key was used for the same request before; this is the first answer.
    Repeated {
        /// The first event.
        event: EventId,
        /// How many deliveries it owed.
        deliveries: u32,
    },
    /// The key was used for another request.
    KeyReused,
    /// The roster has changed since; match again.
    RosterChanged,
    /// The account is gone.
    NoAccount,
}

/// What came of creating a delivery of an existing event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It exists now, due at once. If it was not born leased, the lease has fence 0 and is nobody's.
    Created(Claimed),
    /// The event is gone, or its payload is no longer kept.
    NoEvent,
    /// The endpoint is gone.
    NoEndpoint,
}

/// A lane to claim for: an endpoint, and how many deliveries there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneRoom {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Most deliveries to claim; over 0.
    pub room: usize,
}

/// What a claim brought for one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneClaim {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The deliveries claimed, earliest due first; of those due at once, the oldest first.
    pub claimed: Vec<Claimed>,
    /// When the earliest of the endpoint's other claimable deliveries is due; may be past.
    pub next_due_at: Option<Timestamp>,
}

/// A delivery claimed, with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The right to work on it.
    pub lease: Lease,
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Attempts recorded so far.
    pub attempts: u32,
    /// Claims before this one, since the last recorded attempt, that were lost: they ended with
    /// their session or were given back [`GivenBack::Unanswered`]. A claim lost when there are
    /// already [`domain::limits::TRIAL_AFTER_LOST_CLAIMS`] counts only if the delivery was on trial
    /// ([`Queue::begin_trial`]), so that bystanders of a crash are not counted for ever.
    pub lost_claims: u32,
    /// Since when it is owed, from which its age counts: when the delivery was created, or when its
    /// event was to be delivered, if that is later.
    pub owed_since: Timestamp,
    /// Whether others may wait behind it ([`NewDelivery::ordering_key`]): its end makes another
    /// claimable.
    pub is_ordered: bool,
    /// Whether it is a replay.
    pub is_replay: bool,
    /// What to send.
    pub payload: Arc<Payload>,
}

/// What every delivery of an event sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub event_type: EventType,
    /// The publisher's trace.
    pub trace: Option<TraceContext>,
    /// The rendered body.
    pub body: Bytes,
}

/// An attempt to record. A delivery that it ends, ended when the attempt did: `at` and `duration`.
/// Durations are kept to the millisecond, or better.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// The lease it was made under; given up by recording.
    pub lease: Lease,
    /// The attempt.
    pub attempt: Attempt,
    /// What it does to the delivery.
    pub transition: Transition,
}

/// Why a lease is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    /// No attempt was begun.
    Unused,
    /// An attempt was begun and its outcome will never be known: the claim was lost.
    Unanswered,
}

/// What came of recording an attempt, or of giving up a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is recorded; the delivery moved.
    Applied,
    /// The lease was lost (claimed by another, or the delivery ended); nothing changed.
    LeaseLost,
}

/// What came of cancelling or erasing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is done; this many deliveries were pending and are cancelled now.
    Deliveries(u64),
    /// There was nothing to do: no delivery is pending, or nothing is left to erase.
    Nothing,
    /// There is no such thing in the account.
    NotFound,
}

/// What one step of cleaning did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Whether there is more to do now.
    pub has_more: bool,
    /// Payloads removed because they were kept long enough, of events that stay.
    pub payloads: u64,
    /// Events removed with all their records because they were kept long enough.
    pub events: u64,
    /// Deliveries cancelled because their payload is kept no longer.
    pub expired: u64,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
}

/// An endpoint that has claimable deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingLane {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// When its earliest claimable delivery is due; may be past.
    pub due_at: Timestamp,
}

/// Whether a session still lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It does, until the instant asked for.
    Extended,
    /// It ran out and was released ([`Queue::release_expired`]), or it is of an earlier process;
    /// begin a new one.
    SessionLost,
}

/// Events, deliveries, leases, attempts.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Begins a session that lives until `until` unless extended.
    async fn begin_session(&self, until: Timestamp) -> Result<SessionId, StoreError>;

    /// Lets a session live until `until`. One that ran out and was not yet released lives on: nobody
    /// else got its deliveries.
    async fn extend_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Extended, StoreError>;

    /// Ends the sessions that ran out before `now` (they are lost then) and makes their deliveries
    /// claimable again, due as they were; each of these claims is lost ([`Claimed::lost_claims`]).
    /// A store that only one process can open ends the sessions of earlier processes when it is
    /// opened. Answers how many deliveries came free.
    async fn release_expired(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// Accepts events with their deliveries, each event on its own and entirely; answers in order.
    ///
    /// An answer of [`Accepted::New`] means: event, deliveries, `not_made` and key are on stable
    /// storage. Keys are remembered for [`domain::limits::IDEMPOTENCY_KEPT_FOR`] from
    /// `event.accepted_at`; one that is past its time when the next event is accepted counts as
    /// never used. A repeated or reused key is answered before the roster is looked at, and any
    /// other answer than `New` leaves nothing behind.
    async fn accept(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>, StoreError>;

    /// Creates one more delivery of an existing event of the account (a replay), due at the note's
    /// instant; if leased, the claim carries all that an attempt needs. Whether the endpoint is
    /// subscribed or enabled does not matter; that it exists does. It waits for nothing, and nothing
    /// waits for it.
    async fn add_delivery(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        note: AuditNote,
    ) -> Result<Added, StoreError>;

    /// Leases what is due in the given lanes: pending, not leased, `due_at <= now`, earliest first,
    /// at most `room` each. Answers one [`LaneClaim`] per lane, in order. A lost session is leased
    /// nothing. Whether an endpoint is enabled is its caller's business. A delivery whose payload
    /// the store cannot open is no claim: it is [set aside](Self::set_aside).
    async fn claim_due(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Result<Vec<LaneClaim>, StoreError>;

    /// Gives leases back without an attempt: the deliveries are claimable again, due as they were.
    async fn give_back(
        &self,
        leases: Vec<Lease>,
        why: GivenBack,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// Writes down, before an attempt, that the delivery is on trial while the lease is held.
    async fn begin_trial(&self, lease: Lease) -> Result<Recorded, StoreError>;

    /// Ends deliveries without an attempt: exhausted at `at`, with
    /// [`domain::delivery::EndReason::SetAside`]. The leases end with it.
    async fn set_aside(
        &self,
        leases: Vec<Lease>,
        at: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// Records attempts and moves their deliveries, each only while its lease is current
    /// (otherwise [`Recorded::LeaseLost`]); the lease ends with it. Answers in order.
    async fn record(&self, attempts: Vec<AttemptRecord>) -> Result<Vec<Recorded>, StoreError>;

    /// Endpoints that have claimable deliveries (due or not yet, of disabled endpoints too), in
    /// order of their ids, beginning after `after`; at most `limit`. Costs in proportion to the
    /// endpoints it answers, not to their deliveries.
    async fn waiting_lanes(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<WaitingLane>, StoreError>;

    /// Cancels what is pending of an event of the account, leased or not (whoever works on it finds
    /// the lease lost), at the note's instant, with [`EndReason::Requested`].
    ///
    /// [`EndReason::Requested`]: domain::delivery::EndReason::Requested
    async fn cancel_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError>;

    /// The same for one delivery of the account.
    async fn cancel_delivery(
        &self,
        account: AccountId,
        delivery: DeliveryId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError>;

    /// Erases the payload of an event of the account, its entity ids, its ordering key, and what
    /// was sent and answered in every attempt of it ([`Attempt::request_head`] and
    /// [`Attempt::response_excerpt`]); what is pending of it is cancelled with [`EndReason::Erased`].
    /// That the event was, and what became of it, stays. [`Cancelled::Nothing`] if it has neither
    /// payload nor entity ids nor ordering key any more: an event whose payload was removed because
    /// it was kept long enough can still be erased. When this answers, all is erased; if the process
    /// dies before, either nothing was done, or all but some of what was sent and answered, which
    /// [`Self::clean`] or a repeated call goes on with.
    ///
    /// [`EndReason::Erased`]: domain::delivery::EndReason::Erased
    async fn erase_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError>;

    /// One small step of what may be done later: settling deleted accounts and endpoints,
    /// forgetting idempotency keys that are past their time, removing what was kept as long as
    /// `retention` says, giving space back to the disk. Touches about `rows_max` rows, so that
    /// nothing else waits long. Counts ([`crate::history::Counts`]) stay as they are, but that what
    /// is cancelled is counted as cancelled.
    ///
    /// What retention removes, counted from [`Event::owed_since`]: the payload of an event, and what
    /// was sent and answered in its attempts, when all its deliveries are delivered or cancelled (or
    /// there are none) and no endpoint missed it that no delivery was made to since
    /// ([`NoDelivery::Disabled`], [`NoDelivery::FilterFailed`]: it can be replayed there); later the
    /// event with all its deliveries and attempts, when what is still pending of it, leased or not,
    /// is cancelled with [`EndReason::Expired`] first. Its entity ids and ordering key stay as long
    /// as the event. An event that was accepted while the clock was ahead is kept from then, and
    /// keeps no other. Replays of many events go as long after they ended as records after their
    /// event was owed. Event types, streaks and the audit log stay.
    ///
    /// [`EndReason::Expired`]: domain::delivery::EndReason::Expired
    async fn clean(
        &self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Result<Cleaned, StoreError>;

    /// Answers once everything asked before is on stable storage, and takes no more writes.
    async fn close(&self) -> Result<(), StoreError>;
}
