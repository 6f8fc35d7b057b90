//! What filters look at: one event.
//!
//! Promise: `data` is read once however many filters look at it, and not at all when none does. All
//! filters of one event together take a bounded number of steps, and yet each has some of its own,
//! so that a costly one does not use up what its neighbours need.

use std::cell::{Cell, OnceCell};

use domain::event::{EntityId, Event, EventType};
use serde_json::Value as Json;

/// Most steps of one filter: half a millisecond or so, and a condition on some thousand elements.
pub const STEPS_MAX: u32 = 100_000;

/// Most steps of all filters of one event, but for those that each is sure of.
const STEPS_OF_AN_EVENT_MAX: u32 = 2_000_000;

/// What a filter may take even when others have used up what the event's filters have together: ten
/// times what filters take that do not look at every element of a list.
const STEPS_SURE: u32 = 1_000;

/// The event as filters see it.
#[derive(Debug)]
pub struct Subject<'a> {
    event_type: &'a EventType,
    ids: &'a [EntityId],
    bytes: &'a [u8],
    data: OnceCell<Option<Json>>,
    entity_ids: OnceCell<Json>,
    steps: Cell<u32>,
}

impl<'a> Subject<'a> {
    /// An event with its `data`.
    pub fn new(event_type: &'a EventType, ids: &'a [EntityId], data: &'a [u8]) -> Self {
        Self {
            event_type,
            ids,
            bytes: data,
            data: OnceCell::new(),
            entity_ids: OnceCell::new(),
            steps: Cell::new(STEPS_OF_AN_EVENT_MAX),
        }
    }

    /// An event with its `data`.
    pub fn of(event: &'a Event, data: &'a [u8]) -> Self {
        Self::new(&event.event_type, &event.entity_ids, data)
    }

    pub(super) fn event_type(&self) -> &str {
        self.event_type.as_str()
    }

    pub(super) fn entity_ids(&self) -> &Json {
        self.entity_ids.get_or_init(|| self.ids.iter().map(EntityId::as_str).collect())
    }

    /// `None` if it is not JSON.
    pub(super) fn data(&self) -> Option<&Json> {
        self.data.get_or_init(|| serde_json::from_slice(self.bytes).ok()).as_ref()
    }

    /// Takes out the steps that the next walk may take.
    pub(super) fn grant_steps(&self) -> u32 {
        let granted = self.steps.get().clamp(STEPS_SURE, STEPS_MAX);
        self.steps.set(self.steps.get().saturating_sub(granted));
        granted
    }

    /// The steps that are left for all filters together.
    #[cfg(test)]
    pub(super) fn steps_left(&self) -> u32 {
        self.steps.get()
    }

    /// Puts back what a walk did not take.
    pub(super) fn give_back(&self, left: u32) {
        self.steps.set(self.steps.get().saturating_add(left).min(STEPS_OF_AN_EVENT_MAX));
    }
}
