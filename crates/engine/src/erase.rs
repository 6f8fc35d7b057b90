//! Erasing what an event carried, for good: its payload, its entity ids, what was sent and answered.
//!
//! Promise: that the event was, and what became of it, stays; what is pending of it is not sent any
//! more. A second time changes nothing. An account's whole past goes with the account.

use domain::id::EventId;
use store::queue::Cancelled;

use crate::Engine;
use crate::error::EngineError;
use crate::scope::Scope;

impl Engine {
    /// Erases an event's payload; answers how many of its deliveries were pending and are
    /// cancelled.
    pub async fn erase_event(&self, scope: Scope, id: EventId) -> Result<u64, EngineError> {
        let detail = self.event_detail(scope, id).await?;
        let event = &detail.event.event;
        let note = self.deed(scope).event_erased(event);
        match self.store().erase_event(event.account, id, note).await? {
            Cancelled::Deliveries(count) => {
                self.withdraw_event(&detail).await;
                Ok(count)
            }
            Cancelled::Nothing => Ok(0),
            Cancelled::NotFound => Err(EngineError::not_found("event")),
        }
    }
}
