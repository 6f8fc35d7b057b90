//! Delivering an event again, as a new delivery beside the old one; history stays as it was.

use domain::delivery::Delivery;
use domain::id::DeliveryId;
use store::queue::{Added, NewDelivery};

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::registry::endpoint_of;
use crate::scope::Scope;

impl Engine {
    /// Delivers the event of a delivery again, to the same endpoint, now. Answers the new
    /// delivery.
    pub async fn replay_delivery(
        &self,
        scope: Scope,
        id: DeliveryId,
    ) -> Result<Delivery, EngineError> {
        let old = self.delivery(scope, id).await?;
        let now = self.clock().now();
        let roster = self.registry().roster(old.account).await?;
        let endpoint = roster.as_deref().and_then(|roster| endpoint_of(roster, old.endpoint));
        let place = endpoint.and_then(|endpoint| self.dispatch().reserve(endpoint, 0));
        let new = NewDelivery {
            id: DeliveryId::from_u128(self.dice().id(now)),
            endpoint: old.endpoint,
            leased: place.is_some(),
        };
        match self.store().add_delivery(self.session(), old.account, old.event, new, now).await? {
            Added::Created(claimed) => match place {
                Some(place) => {
                    self.dispatch().offer(vec![(claimed, place)]);
                    self.start_ready();
                }
                None => self.dispatch().note_stored(old.endpoint, old.account, now),
            },
            Added::NoEvent => {
                return Err(EngineError::new(
                    ErrorCode::Conflict,
                    "the event's payload is no longer kept, so it cannot be delivered again",
                ));
            }
            Added::NoEndpoint => {
                return Err(EngineError::new(
                    ErrorCode::Conflict,
                    "the endpoint was deleted, so there is nowhere to deliver to",
                ));
            }
        }
        self.delivery(scope, new.id).await
    }
}
