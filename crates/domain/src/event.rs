//! An event: something that happened in the platform, accepted once and never changed.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::id::{AccountId, EventId};
use crate::limits::{ENTITY_ID_BYTES_MAX, EVENT_TYPE_BYTES_MAX, IDEMPOTENCY_KEY_LENGTH_MAX};
use crate::ordering::OrderingKey;
use crate::time::Timestamp;
use crate::trace::TraceContext;

/// The name of a kind of event, such as `avatar_video.success`.
///
/// 1–128 characters of `A–Z a–z 0–9 _ . -`, beginning and ending with a letter or digit: safe in a
/// header, a URL path and a log line.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(Arc<str>);

/// A text that is not a well-formed event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "an event type has 1 to {EVENT_TYPE_BYTES_MAX} letters, digits, `_`, `.` or `-`, \
     and begins and ends with a letter or digit"
)]
pub struct EventTypeError;

impl EventType {
    /// Reads an event type.
    pub fn parse(text: &str) -> Result<Self, EventTypeError> {
        let bytes = text.as_bytes();
        let inside = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        if bytes.len() <= EVENT_TYPE_BYTES_MAX
            && bytes.iter().all(inside)
            && edge(bytes.first())
            && edge(bytes.last())
        {
            Ok(Self(text.into()))
        } else {
            Err(EventTypeError)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The id of something in the platform (a video, a project) that an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EntityId(String);

/// A text that is not an entity id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an entity id has 1 to {ENTITY_ID_BYTES_MAX} bytes and no control characters")]
pub struct EntityIdError;

impl EntityId {
    /// Reads an entity id.
    pub fn parse(text: &str) -> Result<Self, EntityIdError> {
        if text.is_empty() || text.len() > ENTITY_ID_BYTES_MAX || text.chars().any(char::is_control)
        {
            return Err(EntityIdError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a caller sends along to publish the same event at most once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

/// A text that is not an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an idempotency key has 1 to {IDEMPOTENCY_KEY_LENGTH_MAX} printable ASCII characters")]
pub struct IdempotencyKeyError;

impl IdempotencyKey {
    /// Reads an idempotency key.
    pub fn parse(text: &str) -> Result<Self, IdempotencyKeyError> {
        let printable = text.bytes().all(|b| matches!(b, b' '..=b'~'));
        if text.is_empty() || text.len() > IDEMPOTENCY_KEY_LENGTH_MAX || !printable {
            return Err(IdempotencyKeyError);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of an event beside its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id; also the `webhook-id` of every delivery of it.
    pub id: EventId,
    /// Whose it is.
    pub account: AccountId,
    /// What kind it is.
    pub event_type: EventType,
    /// When it happened, as the platform says; whole seconds.
    pub timestamp: Timestamp,
    /// What it is about.
    pub entity_ids: Vec<EntityId>,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When its deliveries are due first, if that is later.
    pub deliver_at: Option<Timestamp>,
    /// What it is to stay in order with, at endpoints that keep one order for each key.
    pub ordering_key: Option<OrderingKey>,
    /// The publisher's trace.
    pub trace: Option<TraceContext>,
}

impl Event {
    /// Since when its deliveries are owed, from which their age counts.
    pub fn owed_since(&self) -> Timestamp {
        self.deliver_at.map_or(self.accepted_at, |deliver_at| deliver_at.max(self.accepted_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_is_safe_in_headers_paths_and_logs() {
        for good in ["a", "video.created", "generated_avatar_video_success", "A-1", "9"] {
            assert!(EventType::parse(good).is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".", "a.", "_a", "a b", "a/b", "a\r\nb", "ä", "*", &long] {
            assert!(EventType::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_idempotency_key_is_1_to_255_printable_characters() {
        assert!(IdempotencyKey::parse("order 42 / paid").is_ok());
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_ok());
        for bad in ["", "a\tb", "ä", &"k".repeat(256)] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad}");
        }
    }
}
