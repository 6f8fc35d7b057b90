//! Lists, details and counts from memory.

use async_trait::async_trait;
use domain::attempt::Attempt;
use domain::delivery::{Delivery, DeliveryState};
use domain::id::{AccountId, DeliveryId, EventId};
use domain::limits::{PAGE_ROWS_SCANNED_MAX, RETRY_ATTEMPTS_MAX};
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
        let data = self.payload.body.slice(self.data.clone());
        EventWithData { event: self.event.clone(), data: Some(data) }
    }
}

impl State {
    fn deliveries_of(&self, event: EventId) -> impl Iterator<Item = &Delivery> {
        let deliveries = self.deliveries.values().map(|entry| &entry.delivery);
        deliveries.filter(move |delivery| delivery.event == event)
    }

    fn event_passes(&self, entry: &EventEntry, filter: &EventFilter) -> bool {
        let EventFilter { account, event_type, since, until, undelivered } = filter;
        let event = &entry.event;
        allows(account.as_ref(), &event.account)
            && allows(event_type.as_ref(), &event.event_type)
            && is_within(event.accepted_at, *since, *until)
            && (!undelivered
                || self.deliveries_of(event.id).any(|it| it.state != DeliveryState::Delivered))
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
            state.event_passes(entry, &filter).then(|| (entry.with_data(), entry.data.len()))
        };
        Ok(page_of(&state.events, page, EventId::as_u128, bounds, pick))
    }

    async fn read_event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError> {
        let state = self.look();
        Ok(state.events.get(&id).map(|entry| EventDetail {
            event: entry.with_data(),
            deliveries: state.deliveries_of(id).cloned().collect(),
            not_made: entry.not_made.clone(),
        }))
    }

    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        let bounds = PageBounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: usize::MAX };
        let pick = |entry: &DeliveryEntry| {
            let delivery = &entry.delivery;
            delivery_passes(delivery, &filter).then(|| (delivery.clone(), 0))
        };
        Ok(page_of(&self.look().deliveries, page, DeliveryId::as_u128, bounds, pick))
    }

    async fn read_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        Ok(self.look().deliveries.get(&id).map(|entry| entry.delivery.clone()))
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

    async fn follow_events(
        &self,
        _account: AccountId,
        _after: Option<EventId>,
        _before: EventId,
        _undelivered: bool,
        _limit: usize,
    ) -> Result<Followed, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }
}
