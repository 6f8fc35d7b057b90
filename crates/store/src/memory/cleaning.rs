//! What was kept as long as it is to be kept is removed from memory, a few things in each step.

use domain::delivery::{DeliveryState, EndReason};
use domain::id::{AccountId, EventId, ReplayId};
use domain::retention::Retention;
use domain::time::Timestamp;

use super::{EventEntry, State};
use crate::queue::Cleaned;

/// Something that is kept no longer.
enum Due {
    /// An idempotency key, by its place.
    Key((AccountId, String)),
    /// An event with all its records.
    Event(EventId),
    /// An event's payload.
    Payload(EventId),
    /// A replay of many events.
    Replay(ReplayId),
}

impl State {
    /// What is kept no longer.
    fn due(&self, now: Timestamp, retention: &Retention) -> impl Iterator<Item = Due> {
        let keys = self.idempotency.iter().filter(move |(_, first)| first.kept_until <= now);
        let keys = keys.map(|(place, _)| Due::Key(place.clone()));
        let Retention { delivered_payloads_kept_for, records_kept_for } = *retention;
        let events = self.events.iter().filter_map(move |(id, entry)| {
            let owed_since = entry.event.owed_since();
            if owed_since.plus(records_kept_for) <= now {
                return Some(Due::Event(*id));
            }
            let payload_is_due = entry.payload.is_some()
                && owed_since.plus(delivered_payloads_kept_for) <= now
                && self.is_settled(entry);
            payload_is_due.then_some(Due::Payload(*id))
        });
        let replays = self.replays.values().filter(move |replay| {
            replay.ended_at.is_some_and(|ended_at| ended_at.plus(records_kept_for) <= now)
        });
        keys.chain(events).chain(replays.map(|replay| Due::Replay(replay.id)))
    }

    /// Whether everybody who wanted the event got it, or wants it no more.
    fn is_settled(&self, entry: &EventEntry) -> bool {
        let settled =
            |state| matches!(state, DeliveryState::Delivered | DeliveryState::Cancelled(_));
        let was_made_up_for =
            |missed| self.deliveries_of(entry).any(|it| it.delivery.endpoint == missed);
        self.deliveries_of(entry).all(|it| settled(it.delivery.state))
            && entry.missed_by().all(was_made_up_for)
    }

    pub(super) fn clean(
        &mut self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Cleaned {
        let mut due: Vec<_> = self.due(now, retention).take(rows_max + 1).collect();
        let mut cleaned = Cleaned { has_more: due.len() > rows_max, ..Cleaned::default() };
        due.truncate(rows_max);
        for due in due {
            match due {
                Due::Key(place) => {
                    self.idempotency.remove(&place);
                }
                Due::Event(id) => {
                    let deliveries = self.events[&id].deliveries.clone();
                    cleaned.expired += self.cancel(deliveries, EndReason::Expired, now);
                    self.remove_event(id);
                    cleaned.events += 1;
                }
                Due::Payload(id) => {
                    self.forget_payload(id);
                    cleaned.payloads += 1;
                }
                Due::Replay(id) => {
                    self.replays.remove(&id);
                }
            }
        }
        cleaned
    }

    fn remove_event(&mut self, id: EventId) {
        let removed = self.events.remove(&id);
        for delivery in removed.into_iter().flat_map(|entry| entry.deliveries) {
            self.deliveries.remove(&delivery);
        }
    }
}
