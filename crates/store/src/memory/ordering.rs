//! Deliveries that wait for one another, in memory.
//!
//! A line has what is pending of one ordering key at one endpoint, in order of acceptance. Its first
//! delivery, the head, is claimable or leased; the others have no due instant and wait for it.

use domain::delivery::Delivery;
use domain::id::DeliveryId;
use domain::time::Timestamp;

use super::{DeliveryEntry, Line, State};

impl State {
    /// Puts a new delivery at the end of its line. Answers whether it waits for another.
    pub(super) fn stand_in_line(&mut self, line: Line, id: DeliveryId) -> bool {
        let waiting = self.lines.entry(line).or_default();
        waiting.push_back(id);
        waiting.len() > 1
    }

    /// Takes a delivery that ended `at` out of its line; if it was the head, the next one is due.
    pub(super) fn leave_line(&mut self, line: &Line, id: DeliveryId, at: Timestamp) {
        let waiting = self.lines.get_mut(line).expect("what is pending and has a key is in line");
        if waiting.front() != Some(&id) {
            waiting.retain(|other| *other != id);
            return;
        }
        waiting.pop_front();
        let Some(head) = waiting.front().copied() else {
            self.lines.remove(line);
            return;
        };
        let entry = self.deliveries.get_mut(&head).expect("what is in line is there");
        let owed_since = self.events[&entry.delivery.event].event.owed_since();
        entry.delivery.due_at = Some(at.max(owed_since));
        self.free(head);
    }

    /// The delivery as it is shown: with what it waits for.
    pub(super) fn shown(&self, entry: &DeliveryEntry) -> Delivery {
        let delivery = &entry.delivery;
        let line = entry.ordering_key.clone().map(|key| (delivery.endpoint, key));
        let head = line.and_then(|line| self.lines[&line].front().copied());
        Delivery { waits_for: head.filter(|head| *head != delivery.id), ..delivery.clone() }
    }
}
