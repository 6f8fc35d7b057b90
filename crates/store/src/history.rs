//! What people may ask: lists, details, counts. Readers never wait for writers.

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::Attempt;
use domain::delivery::{Delivery, StateName};
use domain::event::{Event, EventType};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::matching::NoDelivery;
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;

use crate::StoreError;

/// Most payload bytes on one page of events; a page is cut short rather than grow beyond it.
/// Sixteen events of the largest size, so that a page is a bounded piece of memory.
pub const PAGE_DATA_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Which events to list; `None` does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this account.
    pub account: Option<AccountId>,
    /// Of this type.
    pub event_type: Option<EventType>,
    /// Accepted at this instant or later.
    pub since: Option<Timestamp>,
    /// Accepted before this instant.
    pub until: Option<Timestamp>,
    /// Only events that have a delivery in another state than delivered.
    pub undelivered: bool,
}

/// Which deliveries to list; `None` does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this account.
    pub account: Option<AccountId>,
    /// To this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Of this event.
    pub event: Option<EventId>,
    /// In this state.
    pub state: Option<StateName>,
    /// Created at this instant or later.
    pub since: Option<Timestamp>,
    /// Created before this instant.
    pub until: Option<Timestamp>,
}

/// An event with its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventWithData {
    /// The event.
    pub event: Event,
    /// The producer's `data`, byte for byte; `None` once the payload is no longer kept.
    pub data: Option<Bytes>,
}

/// An event with all that became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventDetail {
    /// The event and its payload.
    pub event: EventWithData,
    /// Its deliveries, replays included, oldest first.
    pub deliveries: Vec<Delivery>,
    /// Endpoints that subscribed to its type and got no delivery, and why.
    pub not_made: Vec<(EndpointId, NoDelivery)>,
}

/// Events in the order of their birth, and how far was looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// The events, oldest first.
    pub events: Vec<EventWithData>,
    /// The last event looked at.
    pub through: Option<EventId>,
}

/// Deliveries since the store was made: created = pending + delivered + exhausted + cancelled,
/// always, removed rows included under the state they ended in. Each number is counted on its own,
/// so that the balance can be checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events accepted.
    pub events: u64,
    /// Deliveries created.
    pub created: u64,
    /// Pending now, leased ones included.
    pub pending: u64,
    /// Delivered.
    pub delivered: u64,
    /// Exhausted.
    pub exhausted: u64,
    /// Cancelled.
    pub cancelled: u64,
}

/// Lists, details, counts.
#[async_trait]
pub trait History: Send + Sync {
    /// Events that pass the filter, newest first. Reads at most
    /// [`domain::limits::PAGE_ROWS_SCANNED_MAX`] rows and [`PAGE_DATA_BYTES_MAX`] bytes: a page may
    /// be short and still name a next one.
    async fn list_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<EventWithData>, StoreError>;

    /// Events of the account from the oldest to the newest, for whoever follows along: those with
    /// an id above `after` and below `before`, at most `limit`. If `undelivered` says so, only those
    /// that have a delivery in another state than delivered, or an endpoint that has none although
    /// it would have had one ([`EventDetail::not_made`] because of `Disabled` or `FilterFailed`).
    /// Bounded like [`Self::list_events`]; also answers the id of the last event looked at, after
    /// which to go on, and none if there is nothing more to look at.
    async fn follow_events(
        &self,
        account: AccountId,
        after: Option<EventId>,
        before: EventId,
        undelivered: bool,
        limit: usize,
    ) -> Result<Followed, StoreError>;

    /// The event with all that became of it.
    async fn read_event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError>;

    /// Deliveries that pass the filter, newest first; bounded like [`Self::list_events`].
    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError>;

    /// The delivery.
    async fn read_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError>;

    /// The delivery's attempts, first one first; at most
    /// [`domain::limits::RETRY_ATTEMPTS_MAX`] of them.
    async fn list_attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError>;

    /// The counts.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// Answers if the store can take a write now; an error says why not.
    async fn check(&self) -> Result<(), StoreError>;
}
