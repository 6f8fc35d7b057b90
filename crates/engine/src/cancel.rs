//! Cancelling what is pending.
//!
//! Promise: what was cancelled is not attempted any more once this answers, unless an attempt is on
//! its way. Storage ends the deliveries; those that wait in memory are remembered here until
//! [`crate::deliver`] meets them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use domain::delivery::{Delivery, DeliveryState};
use domain::id::{DeliveryId, EventId};
use store::history::EventDetail;
use store::queue::Cancelled;

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::scope::Scope;

/// Deliveries that are remembered as cancelled: four times what is in memory at once. What is
/// forgotten too early costs one attempt more, nothing else.
const WITHDRAWN_MAX: usize = 65_536;

/// Deliveries that were cancelled and may still wait in memory.
#[derive(Default)]
pub(crate) struct Withdrawn(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    deliveries: HashSet<DeliveryId>,
    oldest_first: VecDeque<DeliveryId>,
}

impl Withdrawn {
    /// Remembers a delivery.
    fn note(&self, id: DeliveryId) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !remembered.deliveries.insert(id) {
            return;
        }
        remembered.oldest_first.push_back(id);
        if remembered.oldest_first.len() > WITHDRAWN_MAX
            && let Some(oldest) = remembered.oldest_first.pop_front()
        {
            remembered.deliveries.remove(&oldest);
        }
    }

    /// Whether the delivery was cancelled.
    pub(crate) fn has(&self, id: DeliveryId) -> bool {
        let remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !remembered.deliveries.is_empty() && remembered.deliveries.contains(&id)
    }
}

impl Engine {
    /// Cancels what is pending of an event; answers how many deliveries that were.
    ///
    /// Errors with [`ErrorCode::Conflict`] if nothing is pending.
    pub async fn cancel_event(&self, scope: Scope, id: EventId) -> Result<u64, EngineError> {
        let detail = self.event_detail(scope, id).await?;
        let event = &detail.event.event;
        let note = self.deed(scope).event_cancelled(event);
        match self.store().cancel_event(event.account, id, note).await? {
            Cancelled::Deliveries(count) => {
                self.withdraw_event(&detail).await;
                Ok(count)
            }
            Cancelled::Nothing => Err(EngineError::new(
                ErrorCode::Conflict,
                "nothing is pending of the event: its deliveries have ended, or it has none",
            )),
            Cancelled::NotFound => Err(EngineError::not_found("event")),
        }
    }

    /// Cancels a delivery; answers it as it is then.
    ///
    /// Errors with [`ErrorCode::Conflict`] if it has ended.
    pub async fn cancel_delivery(
        &self,
        scope: Scope,
        id: DeliveryId,
    ) -> Result<Delivery, EngineError> {
        let delivery = self.delivery(scope, id).await?;
        let note = self.deed(scope).delivery_cancelled(&delivery);
        match self.store().cancel_delivery(delivery.account, id, note).await? {
            Cancelled::Deliveries(_) => {
                self.withdraw(std::slice::from_ref(&delivery));
                self.delivery(scope, id).await
            }
            Cancelled::Nothing => Err(EngineError::new(
                ErrorCode::Conflict,
                "the delivery has ended; there is nothing to cancel",
            )),
            Cancelled::NotFound => Err(EngineError::not_found("delivery")),
        }
    }

    /// The event with all that became of it.
    pub(crate) async fn event_detail(
        &self,
        scope: Scope,
        id: EventId,
    ) -> Result<EventDetail, EngineError> {
        let detail =
            self.store().read_event(id).await?.ok_or_else(|| EngineError::not_found("event"))?;
        scope.check(detail.event.event.account, "event")?;
        Ok(detail)
    }

    /// Takes the deliveries of a cancelled event out of memory: those it has now, since a replay may
    /// have added one after it was read.
    pub(crate) async fn withdraw_event(&self, read_before: &EventDetail) {
        let id = read_before.event.event.id;
        match self.store().read_event(id).await {
            Ok(Some(detail)) => self.withdraw(&detail.deliveries),
            Ok(None) => self.withdraw(&read_before.deliveries),
            Err(error) => {
                tracing::warn!(%error, event = %id, "could not read what was cancelled");
                self.withdraw(&read_before.deliveries);
            }
        }
    }

    /// Takes deliveries that are cancelled, or were pending before that, out of memory, and lets
    /// those go on that waited behind them.
    fn withdraw(&self, deliveries: &[Delivery]) {
        let now = self.clock().now();
        let may_wait = |delivery: &&Delivery| {
            matches!(delivery.state, DeliveryState::Pending | DeliveryState::Cancelled(_))
        };
        for delivery in deliveries.iter().filter(may_wait) {
            self.withdrawn().note(delivery.id);
            self.dispatch().note_stored(delivery.endpoint, delivery.account, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_as_cancelled_is_bounded_and_the_oldest_is_forgotten() {
        let withdrawn = Withdrawn::default();
        for bits in 0..=WITHDRAWN_MAX as u128 {
            withdrawn.note(DeliveryId::from_u128(bits));
            withdrawn.note(DeliveryId::from_u128(bits));
        }
        assert!(!withdrawn.has(DeliveryId::from_u128(0)));
        assert!(withdrawn.has(DeliveryId::from_u128(1)));
        assert!(withdrawn.has(DeliveryId::from_u128(WITHDRAWN_MAX as u128)));
    }
}
