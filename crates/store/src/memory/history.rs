//! Lists, details and counts from memory.

use std::ops::Bound;

use async_trait::async_trait;
use domain::attempt::Attempt;
use domain::delivery::{Delivery, DeliveryState};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::{PAGE_ROWS_SCANNED_MAX, RETRY_ATTEMPTS_MAX};
use domain::matching::NoDelivery;
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;

use super::{DeliveryEntry, EventEntry, MemoryStore, PageBounds, State, page_of};
use crate::StoreError;
use crate::history::{
    Counts, DeliveryFilter, EventDetail, EventFilter, EventWithData, Followed, History,
    PAGE_DATA_BYTES_MAX,
};

/// Whether a filter that may be absent lets the value pass.
pub(super) fn allows<T: PartialEq>(filter: Option<&T>, value: &T) -> bool {
    filter.is_none_or(|wanted| wanted == value)
}

/// Whether the instant is in the half-open span.
pub(super) fn is_within(at: Timestamp, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.is_none_or(|since| since <= at) && until.is_none_or(|until| at < until)
}

impl EventEntry {
    fn with_data(&self) -> EventWithData {
        let data = self.payload.as_ref().map(|payload| payload.body.slice(self.data.clone()));
        EventWithData { event: self.event.clone(), data }
    }

    /// How many bytes it puts on a page.
    fn size(&self) -> usize {
        if self.payload.is_some() { self.data.len() } else { 0 }
    }

    /// The endpoints that got no delivery when it was accepted, although they wanted one.
    pub(super) fn missed_by(&self) -> impl Iterator<Item = EndpointId> {
        let wanted = |reason| matches!(reason, NoDelivery::Disabled | NoDelivery::FilterFailed);
        self.not_made.iter().filter(move |(_, reason)| wanted(*reason)).map(|(id, _)| *id)
    }
}

impl State {
    /// What is there of an event's deliveries, oldest first.
    pub(super) fn deliveries_of(&self, entry: &EventEntry) -> impl Iterator<Item = &DeliveryEntry> {
        entry.deliveries.iter().filter_map(|id| self.deliveries.get(id))
    }

    fn has_undelivered(&self, entry: &EventEntry) -> bool {
        self.deliveries_of(entry).any(|it| it.delivery.state != DeliveryState::Delivered)
    }

    /// Whether an endpoint that wanted the event has no delivery of it to this day.
    fn is_missing(&self, entry: &EventEntry) -> bool {
        let has_delivery =
            |endpoint| self.deliveries_of(entry).any(|it| it.delivery.endpoint == endpoint);
        entry.missed_by().any(|endpoint| !has_delivery(endpoint))
    }

    fn event_passes(&self, entry: &EventEntry, filter: &EventFilter) -> bool {
        let EventFilter { account, event_type, since, until, undelivered } = filter;
        let event = &entry.event;
        allows(account.as_ref(), &event.account)
            && allows(event_type.as_ref(), &event.event_type)
            && is_within(event.accepted_at, *since, *until)
            && (!undelivered || self.has_undelivered(entry))
    }
}

fn delivery_passes(delivery: &Delivery, filter: &DeliveryFilter) -> bool {
    let DeliveryFilter { account, endpoint, event, state, since, until } = filter;
    allows(account.as_ref(), &delivery.account)
        && allows(endpoint.as_ref(), &delivery.endpoint)
        && allows(event.as_ref(), &delivery.event)
        && allows(state.as_ref(), &delivery.state.name())
        && is_within(delivery.created_at, *since, *until)
}

#[async_trait]
impl History for MemoryStore {
    async fn list_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<EventWithData>, StoreError> {
        let state = self.look();
        let bounds = PageBounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: PAGE_DATA_BYTES_MAX };
        let pick = |entry: &EventEntry| {
            state.event_passes(entry, &filter).then(|| (entry.with_data(), entry.size()))
        };
        Ok(page_of(&state.events, page, EventId::as_u128, bounds, pick))
    }

    async fn follow_events(
        &self,
        account: AccountId,
        after: Option<EventId>,
        before: EventId,
        undelivered: bool,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        let state = self.look();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        if after.is_some_and(|after| after >= before) {
            return Ok(Followed::default());
        }
        let events = state.events.range((from, Bound::Excluded(before)));
        let of_account = events.filter(|(_, entry)| entry.event.account == account);
        let mut followed = Followed::default();
        let mut bytes = 0;
        for (id, entry) in of_account.take(PAGE_ROWS_SCANNED_MAX) {
            if !undelivered || state.has_undelivered(entry) || state.is_missing(entry) {
                bytes += entry.size();
                let full = followed.events.len() == limit;
                if full || (bytes > PAGE_DATA_BYTES_MAX && !followed.events.is_empty()) {
                    break;
                }
                followed.events.push(entry.with_data());
            }
            followed.through = Some(*id);
        }
        Ok(followed)
    }

    async fn read_event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError> {
        let state = self.look();
        Ok(state.events.get(&id).map(|entry| EventDetail {
            event: entry.with_data(),
            deliveries: state.deliveries_of(entry).map(|it| state.shown(it)).collect(),
            not_made: entry.not_made.clone(),
        }))
    }

    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        let bounds = PageBounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: usize::MAX };
        let state = self.look();
        let pick = |entry: &DeliveryEntry| {
            delivery_passes(&entry.delivery, &filter).then(|| (state.shown(entry), 0))
        };
        Ok(page_of(&state.deliveries, page, DeliveryId::as_u128, bounds, pick))
    }

    async fn read_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        let state = self.look();
        Ok(state.deliveries.get(&id).map(|entry| state.shown(entry)))
    }

    async fn list_attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        let state = self.look();
        let attempts = state.deliveries.get(&delivery).map(|entry| entry.attempts.as_slice());
        Ok(attempts.unwrap_or_default().iter().take(RETRY_ATTEMPTS_MAX).cloned().collect())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        Ok(self.look().counts)
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.change().map(drop)
    }
}
