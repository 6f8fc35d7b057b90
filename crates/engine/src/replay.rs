//! Delivering again: one event as a new delivery beside the old one, or many at a pace ([`many`]).
//! History stays as it was, and the `webhook-id` is the event's as ever.

use domain::delivery::{Delivery, DeliveryState};
use domain::id::DeliveryId;
use store::queue::{Added, Lease, NewDelivery};

use crate::Engine;
use crate::dispatch::Place;
use crate::error::{EngineError, ErrorCode};
use crate::registry::endpoint_of;
use crate::scope::Scope;

pub mod many;
mod pace;

impl Engine {
    /// Delivers the event of a delivery again, to the same endpoint, now. Answers the new
    /// delivery.
    pub async fn replay_delivery(
        &self,
        scope: Scope,
        id: DeliveryId,
    ) -> Result<Delivery, EngineError> {
        let old = self.delivery(scope, id).await?;
        if old.state == DeliveryState::Pending {
            let message = "the delivery is still pending; it is attempted again by itself";
            return Err(EngineError::new(ErrorCode::Conflict, message));
        }
        if self.is_stopping() {
            return Err(EngineError::unavailable("shutting down"));
        }
        let deed = self.deed(scope);
        let now = deed.at;
        let (session, id) = (self.session(), DeliveryId::from_u128(self.dice().id(now)));
        let lease = Lease { session, delivery: id, fence: 1 };
        let roster = self.registry().roster(old.account).await?;
        let endpoint = roster.as_deref().and_then(|roster| endpoint_of(roster, old.endpoint));
        let place = endpoint.and_then(|endpoint| self.dispatch().reserve(endpoint, 0, lease));
        let new =
            NewDelivery { id, endpoint: old.endpoint, leased: place.is_some(), ordering_key: None };
        let note = deed.delivery_replayed(&old, id);
        let refusal =
            match self.store().add_delivery(session, old.account, old.event, new, note).await? {
                Added::Created(claimed) => {
                    self.metrics().replayed(1);
                    match place {
                        Some(place) if claimed.lease == lease => {
                            self.dispatch().offer([(claimed, place)]);
                            self.start_ready();
                        }
                        place => {
                            refuse(place);
                            self.dispatch().note_stored(old.endpoint, old.account, now);
                        }
                    }
                    return self.delivery(scope, id).await;
                }
                Added::NoEvent => {
                    "the event's payload is no longer kept, so it cannot be delivered again"
                }
                Added::NoEndpoint => "the endpoint was deleted, so there is nowhere to deliver to",
            };
        refuse(place);
        Err(EngineError::new(ErrorCode::Conflict, refusal))
    }
}

/// Gives a place back whose delivery was not made.
fn refuse(place: Option<Place>) {
    if let Some(place) = place {
        place.refused();
    }
}
