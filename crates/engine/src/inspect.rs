//! What people may ask: events, deliveries, attempts, and why there is no delivery.
//!
//! Promise: reads only, within the caller's scope, always bounded pages.

use domain::attempt::Attempt;
use domain::delivery::Delivery;
use domain::endpoint::Endpoint;
use domain::id::{DeliveryId, EndpointId, EventId};
use domain::matching::NoDelivery;
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;
use store::history::{Counts, DeliveryFilter, EventFilter, EventWithData};

use crate::Engine;
use crate::error::EngineError;
use crate::filter::Subject;
use crate::registry::endpoint_of;
use crate::scope::Scope;

/// What became of an event at one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Its delivery, or why there is none.
    pub delivery: Result<Delivery, NoDelivery>,
    /// What its filter says of the event, if that is why there is none, the filter is still the one
    /// that said so, and the payload is still kept.
    pub detail: Option<String>,
}

/// An event, and what became of it at every endpoint of its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventStory {
    /// The event and its payload.
    pub event: EventWithData,
    /// Its fates: deliveries first (replays included, oldest first), then the endpoints without.
    pub fates: Vec<Fate>,
}

impl Engine {
    /// Events the caller may see, newest first.
    pub async fn list_events(
        &self,
        scope: Scope,
        mut filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<EventWithData>, EngineError> {
        if let Some(own) = scope.account() {
            if filter.account.is_some_and(|account| account != own) {
                return Err(EngineError::not_found("account"));
            }
            filter.account = Some(own);
        }
        Ok(self.store().list_events(filter, page).await?)
    }

    /// The event, and what became of it at every endpoint of its account.
    pub async fn event(&self, scope: Scope, id: EventId) -> Result<EventStory, EngineError> {
        let detail =
            self.store().read_event(id).await?.ok_or_else(|| EngineError::not_found("event"))?;
        let account = detail.event.event.account;
        scope.check(account, "event")?;
        let accepted_at = detail.event.event.accepted_at;
        let mut fates: Vec<Fate> = detail
            .deliveries
            .into_iter()
            .map(|delivery| Fate {
                endpoint: delivery.endpoint,
                delivery: Ok(delivery),
                detail: None,
            })
            .collect();
        let roster = self.registry().roster(account).await?;
        let data = detail.event.data.as_deref();
        let subject = data.map(|data| Subject::of(&detail.event.event, data));
        for (endpoint, reason) in detail.not_made {
            let said = subject.as_ref().zip(roster.as_deref()).and_then(|(subject, roster)| {
                self.explain_filter(subject, endpoint_of(roster, endpoint)?, reason, accepted_at)
            });
            fates.push(Fate { endpoint, delivery: Err(reason), detail: said });
        }
        let endpoints = roster.iter().flat_map(|roster| &roster.endpoints);
        // An endpoint created after the event has no part in its story.
        for endpoint in endpoints.filter(|endpoint| endpoint.created_at <= accepted_at) {
            if !fates.iter().any(|fate| fate.endpoint == endpoint.id) {
                let delivery = Err(NoDelivery::NotSubscribed);
                fates.push(Fate { endpoint: endpoint.id, delivery, detail: None });
            }
        }
        Ok(EventStory { event: detail.event, fates })
    }

    /// Why the endpoint's filter stood in the way, if it is the filter that did.
    fn explain_filter(
        &self,
        subject: &Subject<'_>,
        endpoint: &Endpoint,
        reason: NoDelivery,
        accepted_at: Timestamp,
    ) -> Option<String> {
        let was_filter = matches!(reason, NoDelivery::Filter | NoDelivery::FilterFailed);
        if !was_filter || endpoint.updated_at > accepted_at {
            return None;
        }
        let filter = self.registry().filters().filter(endpoint.filter.as_ref()?).ok()?;
        Some(filter.explain(subject).sentence)
    }

    /// Deliveries the caller may see, newest first.
    pub async fn list_deliveries(
        &self,
        scope: Scope,
        mut filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, EngineError> {
        if let Some(own) = scope.account() {
            if filter.account.is_some_and(|account| account != own) {
                return Err(EngineError::not_found("account"));
            }
            filter.account = Some(own);
        }
        Ok(self.store().list_deliveries(filter, page).await?)
    }

    /// The delivery.
    pub async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Delivery, EngineError> {
        let delivery = self
            .store()
            .read_delivery(id)
            .await?
            .ok_or_else(|| EngineError::not_found("delivery"))?;
        scope.check(delivery.account, "delivery")?;
        Ok(delivery)
    }

    /// The delivery's attempts, first one first. Bounded by the longest retry schedule.
    pub async fn attempts(
        &self,
        scope: Scope,
        delivery: DeliveryId,
    ) -> Result<Vec<Attempt>, EngineError> {
        self.delivery(scope, delivery).await?;
        Ok(self.store().list_attempts(delivery).await?)
    }

    /// Counts since the store was made. Operator only.
    pub async fn counts(&self, scope: Scope) -> Result<Counts, EngineError> {
        scope.operator_only("page")?;
        Ok(self.store().counts().await?)
    }

    /// Answers if events can be accepted and delivered now.
    pub async fn check_ready(&self) -> Result<(), EngineError> {
        if self.is_stopping() {
            return Err(EngineError::unavailable("shutting down"));
        }
        if self.has_failed() {
            return Err(EngineError::unavailable("a part of the engine died; restart the process"));
        }
        Ok(self.store().check().await?)
    }
}
