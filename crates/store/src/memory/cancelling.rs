//! Deliveries cancelled by request, and events erased, in memory.

use domain::audit::AuditNote;
use domain::delivery::EndReason;
use domain::id::{AccountId, DeliveryId, EventId};

use super::{EventEntry, State};
use crate::queue::Cancelled;

impl State {
    fn event_of(&mut self, account: AccountId, id: EventId) -> Option<&mut EventEntry> {
        self.events.get_mut(&id).filter(|entry| entry.event.account == account)
    }

    pub(super) fn cancel_event(
        &mut self,
        account: AccountId,
        id: EventId,
        note: AuditNote,
    ) -> Cancelled {
        let Some(entry) = self.event_of(account, id) else { return Cancelled::NotFound };
        let deliveries = entry.deliveries.clone();
        self.cancel_by_request(deliveries, note)
    }

    pub(super) fn cancel_delivery(
        &mut self,
        account: AccountId,
        id: DeliveryId,
        note: AuditNote,
    ) -> Cancelled {
        match self.deliveries.get(&id) {
            Some(entry) if entry.delivery.account == account => self.cancel_by_request([id], note),
            _ => Cancelled::NotFound,
        }
    }

    fn cancel_by_request(
        &mut self,
        deliveries: impl IntoIterator<Item = DeliveryId>,
        note: AuditNote,
    ) -> Cancelled {
        match self.cancel(deliveries, EndReason::Requested, note.at) {
            0 => Cancelled::Nothing,
            cancelled => {
                self.write_down(note);
                Cancelled::Deliveries(cancelled)
            }
        }
    }

    pub(super) fn erase_event(
        &mut self,
        account: AccountId,
        id: EventId,
        note: AuditNote,
    ) -> Cancelled {
        let Some(entry) = self.event_of(account, id) else { return Cancelled::NotFound };
        let event = &mut entry.event;
        let names_something = !event.entity_ids.is_empty() || event.ordering_key.is_some();
        if entry.payload.is_none() && !names_something {
            return Cancelled::Nothing;
        }
        event.entity_ids.clear();
        event.ordering_key = None;
        let deliveries = entry.deliveries.clone();
        let cancelled = self.cancel(deliveries, EndReason::Erased, note.at);
        self.forget_payload(id);
        self.write_down(note);
        Cancelled::Deliveries(cancelled)
    }

    /// Forgets what an event's deliveries sent and what was answered.
    pub(super) fn forget_payload(&mut self, id: EventId) {
        let entry =
            self.events.get_mut(&id).expect("only the payload of what is there is forgotten");
        entry.payload = None;
        for delivery in &entry.deliveries {
            let attempts = self.deliveries.get_mut(delivery).map(|it| &mut it.attempts);
            for attempt in attempts.into_iter().flatten() {
                attempt.request_head.clear();
                attempt.response_excerpt.clear();
            }
        }
    }
}
