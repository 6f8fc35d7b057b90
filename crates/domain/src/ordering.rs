//! In what order an endpoint gets its deliveries.
//!
//! Promise: deliveries to one endpoint under one key are attempted one after the other, in the
//! order in which their events were accepted; the next waits until the one before it has ended.
//! Neighbours: `store` holds back what waits behind another.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::limits::ENTITY_ID_BYTES_MAX;

/// In what order an endpoint gets its deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryOrder {
    /// As soon as possible: none waits for another.
    #[default]
    Any,
    /// One after the other, over the whole endpoint.
    Fifo,
    /// One after the other for each ordering key; events without a key wait for nothing.
    FifoByKey,
}

impl DeliveryOrder {
    /// Every order.
    pub const ALL: [Self; 3] = [Self::Any, Self::Fifo, Self::FifoByKey];

    /// The word used in JSON and storage; `Any` shows as null in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Fifo => "fifo",
            Self::FifoByKey => "fifo_by_key",
        }
    }

    /// The order of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// What deliveries that wait for one another have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(Arc<str>);

/// A text that is not an ordering key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("an ordering key has 1 to {ENTITY_ID_BYTES_MAX} bytes and no control characters")]
pub struct OrderingKeyError;

impl OrderingKey {
    /// Reads what a publisher says.
    pub fn parse(text: &str) -> Result<Self, OrderingKeyError> {
        if text.is_empty() || text.len() > ENTITY_ID_BYTES_MAX || text.chars().any(char::is_control)
        {
            return Err(OrderingKeyError);
        }
        Ok(Self(text.into()))
    }

    /// Reads a stored key, that of a whole endpoint included.
    pub fn from_stored(text: &str) -> Option<Self> {
        if text.is_empty() { Some(Self::of_whole_endpoint()) } else { Self::parse(text).ok() }
    }

    /// The key that all deliveries of an endpoint have which keeps one order for all. No publisher
    /// can say it.
    pub fn of_whole_endpoint() -> Self {
        Self("".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for OrderingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// What a delivery of the event to the endpoint waits behind, if behind anything: the publisher's
/// ordering key, or else the first entity the event is about.
pub fn ordering_key_of(endpoint: &Endpoint, event: &Event) -> Option<OrderingKey> {
    match endpoint.order {
        DeliveryOrder::Any => None,
        DeliveryOrder::Fifo => Some(OrderingKey::of_whole_endpoint()),
        DeliveryOrder::FifoByKey => event.ordering_key.clone().or_else(|| {
            event.entity_ids.first().and_then(|entity| OrderingKey::parse(entity.as_str()).ok())
        }),
    }
}
