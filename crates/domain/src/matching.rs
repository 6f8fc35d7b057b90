//! Which endpoints an event is owed to, and why the others get nothing.

use std::collections::HashMap;

use crate::endpoint::{Endpoint, EndpointStatus};
use crate::event::{EntityId, EventType};
use crate::filter::FilterText;
use crate::subscription::{EventPattern, Subscription};

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

/// Whether the event is owed to the endpoint. `filter` says whether a filter lets it pass, and is
/// asked only when all else but the endpoint's status speaks for it.
///
/// "Disabled" is said only of an endpoint that would have got the event otherwise, so that a
/// replay of what was missed can go by it.
pub fn match_endpoint<'a>(
    event: Matchable<'_>,
    endpoint: &'a Endpoint,
    filter: impl FnOnce(&'a FilterText) -> Result<(), NoDelivery>,
) -> Result<(), NoDelivery> {
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
    if let Some(text) = &endpoint.filter {
        filter(text)?;
    }
    match endpoint.status {
        EndpointStatus::Enabled => Ok(()),
        EndpointStatus::Disabled(_) => Err(NoDelivery::Disabled),
    }
}

/// Which of an account's endpoints may want an event type, found without asking each of them.
///
/// Promise: what it leaves out does not subscribe to the type; what it names, [`match_endpoint`]
/// decides. So an event costs no more beside a thousand endpoints that it does not concern.
#[derive(Clone, Debug, Default)]
pub struct Subscribers {
    /// The places of those that list the type by its name; in order.
    by_type: HashMap<EventType, Vec<u32>>,
    /// The places of those that want all, or name types by their beginning; in order.
    others: Vec<u32>,
}

impl Subscribers {
    /// Those of these endpoints, by their places in the list.
    pub fn of(endpoints: &[Endpoint]) -> Self {
        let mut found = Self::default();
        for (place, endpoint) in (0..).zip(endpoints) {
            let exact: Option<Vec<&EventType>> = match &endpoint.subscription {
                Subscription::All => None,
                Subscription::Listed(patterns) => patterns
                    .iter()
                    .map(|pattern| match pattern {
                        EventPattern::Exact(event_type) => Some(event_type),
                        EventPattern::Beginning(_) => None,
                    })
                    .collect(),
            };
            match exact {
                Some(types) => {
                    for event_type in types {
                        found.by_type.entry(event_type.clone()).or_default().push(place);
                    }
                }
                None => found.others.push(place),
            }
        }
        found
    }

    /// The places of those that may want the type, in order.
    pub fn of_type(&self, event_type: &EventType) -> impl Iterator<Item = usize> {
        let named = self.by_type.get(event_type).map_or(&[][..], Vec::as_slice);
        let (mut named, mut others) = (named.iter().peekable(), self.others.iter().peekable());
        std::iter::from_fn(move || {
            let is_named_first = match (named.peek(), others.peek()) {
                (Some(named), Some(other)) => named < other,
                (Some(_), None) => true,
                (None, _) => false,
            };
            let next = if is_named_first { named.next() } else { others.next() };
            next.map(|place| *place as usize)
        })
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
            assert_eq!(match_endpoint(event, &endpoint, |_| panic!("no filter")), expected);
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
        assert_eq!(match_endpoint(event, &endpoint, |_| panic!("no filter")), Ok(()));
    }

    #[test]
    fn a_filter_is_asked_last_but_before_disabled_is_said() {
        let account = an_account(Contract::KonproV1, 1);
        let created = EventType::parse("video.created").unwrap();
        let mut endpoint = an_endpoint(&account, 2);
        endpoint.filter = Some(FilterText::from_stored("data.duration > 60"));
        let event = Matchable { event_type: &created, entity_ids: &[], data_ids: &[] };
        let says = |endpoint: &Endpoint, verdict| {
            match_endpoint(event, endpoint, |text| {
                assert_eq!(text.as_str(), "data.duration > 60");
                verdict
            })
        };
        assert_eq!(says(&endpoint, Ok(())), Ok(()));
        for no in [NoDelivery::Filter, NoDelivery::FilterFailed] {
            assert_eq!(says(&endpoint, Err(no)), Err(no));
        }
        endpoint.status = EndpointStatus::Disabled(DisabledReason::Requested);
        assert_eq!(says(&endpoint, Ok(())), Err(NoDelivery::Disabled));
        assert_eq!(says(&endpoint, Err(NoDelivery::Filter)), Err(NoDelivery::Filter));
        endpoint.entity_id = Some(EntityId::parse("project123").unwrap());
        let unasked = match_endpoint(event, &endpoint, |_| panic!("another entity"));
        assert_eq!(unasked, Err(NoDelivery::Entity));
    }

    #[test]
    fn subscribers_are_those_that_want_the_type_and_those_that_must_be_asked_in_order() {
        let account = an_account(Contract::Standard, 1);
        let pattern = |text: &str| EventPattern::parse(text).unwrap();
        let listed = |texts: &[&str]| Subscription::listed(texts.iter().copied().map(pattern));
        let subscriptions = [
            listed(&["a.b"]),
            Subscription::All,
            listed(&["a.c"]),
            listed(&["a.*"]),
            listed(&["a.c", "a.b"]),
            listed(&["x.*", "a.c"]),
            listed(&["a.b", "a.b"]),
        ];
        let endpoints: Vec<_> = (2..)
            .zip(subscriptions)
            .map(|(number, subscription)| Endpoint {
                subscription,
                ..an_endpoint(&account, number)
            })
            .collect();
        let found = Subscribers::of(&endpoints);
        for (name, places) in
            [("a.b", &[0, 1, 3, 4, 5, 6][..]), ("a.c", &[1, 2, 3, 4, 5]), ("other", &[1, 3, 5])]
        {
            let event_type = EventType::parse(name).unwrap();
            assert_eq!(found.of_type(&event_type).collect::<Vec<_>>(), places, "{name}");
            let wanting = (0..endpoints.len())
                .filter(|place| endpoints[*place].subscription.wants(&event_type));
            for place in wanting {
                assert!(places.contains(&place), "{name} {place}");
            }
        }
    }
}
