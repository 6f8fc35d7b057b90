//! Which endpoints an event is owed to, and why the others get nothing.

use crate::endpoint::{Endpoint, EndpointStatus};
use crate::event::{EntityId, EventType};

/// Why an endpoint gets no delivery of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoDelivery {
    /// It does not list the event's type.
    NotSubscribed,
    /// It wants another entity's events.
    Entity,
    /// It was disabled when the event was accepted.
    Disabled,
    /// Its filter does not let the event's `data` pass.
    Filter,
    /// Its filter could not be applied to the event's `data`; a replay of what is missing makes the
    /// delivery.
    FilterFailed,
}

impl NoDelivery {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::NotSubscribed, Self::Entity, Self::Disabled, Self::Filter, Self::FilterFailed];

    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSubscribed => "not_subscribed",
            Self::Entity => "entity",
            Self::Disabled => "disabled",
            Self::Filter => "filter",
            Self::FilterFailed => "filter_failed",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// What matching looks at.
#[derive(Clone, Copy, Debug)]
pub struct Matchable<'a> {
    /// The event's type.
    pub event_type: &'a EventType,
    /// The ids the publisher named.
    pub entity_ids: &'a [EntityId],
    /// The values of the top-level members of `data` whose names end in `_id`, as text.
    pub data_ids: &'a [String],
}

/// Whether the event is owed to the endpoint.
///
/// "Disabled" is said only of an endpoint that would have got the event otherwise, so that a
/// replay of what was missed can go by it.
pub fn match_endpoint(event: Matchable<'_>, endpoint: &Endpoint) -> Result<(), NoDelivery> {
    if !endpoint.subscription.wants(event.event_type) {
        return Err(NoDelivery::NotSubscribed);
    }
    if let Some(entity) = &endpoint.entity_id {
        let named = event.entity_ids.contains(entity);
        let inside = event.data_ids.iter().any(|id| id == entity.as_str());
        if !named && !inside {
            return Err(NoDelivery::Entity);
        }
    }
    match endpoint.status {
        EndpointStatus::Enabled => Ok(()),
        EndpointStatus::Disabled(_) => Err(NoDelivery::Disabled),
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::endpoint::DisabledReason;
    use crate::subscription::Subscription;
    use crate::testing::{an_account, an_endpoint};

    #[test]
    fn an_endpoint_gets_what_it_subscribed_to_about_its_entity_while_enabled() {
        let account = an_account(Contract::KonproV1, 1);
        let created = EventType::parse("video.created").unwrap();
        let deleted = EventType::parse("video.deleted").unwrap();
        let entity = EntityId::parse("project123").unwrap();
        let check = |change: &dyn Fn(&mut Endpoint), data_ids: &[String], expected| {
            let mut endpoint = an_endpoint(&account, 2);
            change(&mut endpoint);
            let event = Matchable { event_type: &created, entity_ids: &[], data_ids };
            assert_eq!(match_endpoint(event, &endpoint), expected);
        };
        check(&|_| {}, &[], Ok(()));
        check(&|e| e.subscription = Subscription::listed([created.clone()]), &[], Ok(()));
        check(
            &|e| e.subscription = Subscription::listed([deleted.clone()]),
            &[],
            Err(NoDelivery::NotSubscribed),
        );
        check(&|e| e.entity_id = Some(entity.clone()), &[], Err(NoDelivery::Entity));
        check(&|e| e.entity_id = Some(entity.clone()), &["project123".to_owned()], Ok(()));
        check(
            &|e| e.status = EndpointStatus::Disabled(DisabledReason::Requested),
            &[],
            Err(NoDelivery::Disabled),
        );
        let mut endpoint = an_endpoint(&account, 2);
        endpoint.entity_id = Some(entity.clone());
        let event = Matchable { event_type: &created, entity_ids: &[entity], data_ids: &[] };
        assert_eq!(match_endpoint(event, &endpoint), Ok(()));
    }
}
