//! What a request with an idempotency key was answered before.
//!
//! Promise: a repetition gets the first answer even if the same event would be refused by now,
//! because its type was taken out meanwhile or its schema became stricter.

use bytes::Bytes;
use domain::event::{Event, EventType};
use domain::id::EventId;
use store::queue::{Accepted, Idempotency, NewEvent};

use super::Published;
use crate::Engine;
use crate::error::EngineError;
use crate::scope::Scope;

/// No roster has this version: whatever was matched against it is never accepted. Storage answers
/// a key that it remembers before it looks at the roster.
const NO_ROSTER: u64 = u64::MAX;

/// A request that may be one of before.
pub(super) struct Repetition {
    account: String,
    event_type: String,
    idempotency: Idempotency,
}

impl Repetition {
    pub(super) fn new(publish: &super::Publish, idempotency: &Idempotency) -> Self {
        Self {
            account: publish.account.clone(),
            event_type: publish.event_type.clone(),
            idempotency: idempotency.clone(),
        }
    }
}

impl Engine {
    /// What the same request with the same key was answered; `None` if it was not accepted before.
    pub(super) async fn first_answer(
        &self,
        scope: Scope,
        repetition: Repetition,
    ) -> Result<Option<Published>, EngineError> {
        let account = self.account_named(scope, &repetition.account).await?;
        let Ok(event_type) = EventType::parse(&repetition.event_type) else { return Ok(None) };
        let now = self.clock().now();
        let event = Event {
            id: EventId::from_u128(self.dice().id(now)),
            account,
            event_type,
            timestamp: now,
            entity_ids: Vec::new(),
            accepted_at: now,
            deliver_at: None,
            ordering_key: None,
            trace: None,
        };
        let question = NewEvent {
            event,
            body: Bytes::new(),
            data: 0..0,
            deliveries: Vec::new(),
            not_made: Vec::new(),
            roster_version: NO_ROSTER,
            idempotency: Some(repetition.idempotency),
        };
        let answers = self.store().accept(self.session(), vec![question]).await?;
        Ok(answers.into_iter().find_map(|answer| match answer {
            Accepted::Repeated { event, deliveries } => Some(Published { id: event, deliveries }),
            _ => None,
        }))
    }
}
