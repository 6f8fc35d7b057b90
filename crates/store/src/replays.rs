//! Replays of many events: begun, made step by step, cancelled, read.
//!
//! What a replay made and how far it looked are written in one step, so that it goes on after a
//! crash without making anything twice.

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EndpointId, ReplayId};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplaySelection};
use domain::time::Timestamp;

use crate::StoreError;

/// What came of asking for a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayCreated {
    /// It begins.
    Created,
    /// There is no such endpoint in the account.
    NoEndpoint,
    /// [`domain::limits::REPLAYS_PER_ENDPOINT_MAX`] are running there.
    LimitReached,
}

/// What one step of a replay brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayStep {
    /// The replay as it stands now.
    pub replay: Replay,
    /// How many deliveries this step made.
    pub created: usize,
}

/// How many events a replay would deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayCount {
    /// Events that it would deliver, of those looked at.
    pub events: u64,
    /// Whether all were looked at. Otherwise there may be more.
    pub is_complete: bool,
}

/// Replays of many events.
#[async_trait]
pub trait Replays: Send + Sync {
    /// Begins a replay.
    async fn create_replay(
        &self,
        replay: Replay,
        note: AuditNote,
    ) -> Result<ReplayCreated, StoreError>;

    /// The replay.
    async fn read_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError>;

    /// Replays of the account, to the endpoint if one is given, newest first.
    async fn list_replays(
        &self,
        account: Option<AccountId>,
        endpoint: Option<EndpointId>,
        page: PageRequest,
    ) -> Result<Page<Replay>, StoreError>;

    /// Every replay that is running, oldest first, beginning after `after`; at most `limit`.
    async fn running_replays(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError>;

    /// One step of a running replay: looks at the account's next events that were accepted in the
    /// selected span and whose ids are less than its own, in the order of their ids, until about
    /// `rows_max` rows, of events and of deliveries, are read, and makes a delivery of each that the
    /// selection wants, pending, not leased, without an ordering key, due at `now`,
    /// with the ids given. When these are used up it looks no further. What was looked at and what
    /// was made are written in one step, so that no event is delivered twice by a replay, or passed
    /// over, whenever the process dies. Events without a payload are looked at and passed over. A
    /// replay that has looked at everything is done at `now`, in this step or in the next; one whose
    /// endpoint is gone is cancelled at `now`; either is noted in the same step
    /// ([`Replay::ended_note`]). `None` if there is no such replay or it is not running.
    async fn step_replay(
        &self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Result<Option<ReplayStep>, StoreError>;

    /// Cancels a running replay; answers it as it is then. `None` if there is no such replay; one
    /// that has ended is answered as it ended, without an entry.
    async fn cancel_replay(
        &self,
        id: ReplayId,
        note: AuditNote,
    ) -> Result<Option<Replay>, StoreError>;

    /// How many events a replay would deliver now, looking at those accepted in the selected span
    /// until about `rows_max` rows, of events and of deliveries, are read.
    async fn count_replay(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        selection: ReplaySelection,
        rows_max: usize,
    ) -> Result<ReplayCount, StoreError>;
}
