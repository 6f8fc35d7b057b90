//! What notes tell of an account and of an endpoint.
//!
//! Promise: every field that can be changed stands in a table here, and none shows a secret.
//! Neighbour: `note` writes them down, before and after.

use std::time::Duration;

use domain::account::Account;
use domain::catalogue::RegisteredType;
use domain::credentials::{ClientCredentials, ClientIdentity};
use domain::endpoint::{DisabledReason, Endpoint, MaxInFlight, RatePerSecond};
use domain::event::EntityId;
use domain::filter::FilterText;
use domain::ordering::DeliveryOrder;
use domain::subscription::Subscription;
use serde_json::{Map, Value, json};

/// Most event types of an endpoint that a note lists, so that a note stays small; the number of the
/// others follows.
const EVENTS_SHOWN_MAX: usize = 50;

/// A field that a note may tell of.
pub(super) struct Field<T> {
    name: &'static str,
    /// What the note says; null for what goes without saying.
    show: fn(&T) -> Value,
    /// Whether it differs, which what is shown need not tell.
    differs: fn(&T, &T) -> bool,
}

pub(super) const ACCOUNT_FIELDS: &[Field<Account>] = &[
    Field { name: "plan", show: |it| json!(it.plan), differs: |a, b| a.plan != b.plan },
    Field { name: "credits", show: |it| json!(it.credits), differs: |a, b| a.credits != b.credits },
    Field {
        name: "api_access",
        show: |it| it.api_access.into(),
        differs: |a, b| a.api_access != b.api_access,
    },
];

pub(super) const ENDPOINT_FIELDS: &[Field<Endpoint>] = &[
    Field { name: "url", show: |it| it.url.as_str().into(), differs: |a, b| a.url != b.url },
    Field {
        name: "status",
        show: |it| it.status.name().into(),
        differs: |a, b| a.status.name() != b.status.name(),
    },
    Field {
        name: "disabled_reason",
        show: |it| json!(it.status.disabled_reason().map(DisabledReason::name)),
        differs: |a, b| a.status.disabled_reason() != b.status.disabled_reason(),
    },
    Field {
        name: "events",
        show: |it| show_events(&it.subscription),
        differs: |a, b| a.subscription != b.subscription,
    },
    Field {
        name: "entity_id",
        show: |it| json!(it.entity_id.as_ref().map(EntityId::as_str)),
        differs: |a, b| a.entity_id != b.entity_id,
    },
    Field {
        name: "description_bytes",
        show: |it| json!(it.description.as_ref().map(String::len)),
        differs: |a, b| a.description != b.description,
    },
    Field {
        name: "header_names",
        show: |it| it.headers.iter().map(|(name, _)| name).collect(),
        differs: |a, b| a.headers != b.headers,
    },
    Field {
        name: "max_in_flight",
        show: |it| json!(it.max_in_flight.map(MaxInFlight::get)),
        differs: |a, b| a.max_in_flight != b.max_in_flight,
    },
    Field {
        name: "retry_schedule",
        show: |it| {
            let seconds = |waits: &[Duration]| waits.iter().map(Duration::as_secs).collect();
            it.retry_schedule.as_ref().map_or(Value::Null, |schedule| seconds(schedule.waits()))
        },
        differs: |a, b| a.retry_schedule != b.retry_schedule,
    },
    Field {
        name: "filter",
        show: |it| json!(it.filter.as_ref().map(FilterText::as_str)),
        differs: |a, b| a.filter != b.filter,
    },
    Field {
        name: "ordering",
        show: |it| match it.order {
            DeliveryOrder::Any => Value::Null,
            order => order.name().into(),
        },
        differs: |a, b| a.order != b.order,
    },
    Field {
        name: "rate_limit",
        show: |it| json!(it.rate.map(RatePerSecond::get)),
        differs: |a, b| a.rate != b.rate,
    },
    Field {
        name: "timeout_seconds",
        show: |it| json!(it.timeout.map(|timeout| timeout.get().as_secs())),
        differs: |a, b| a.timeout != b.timeout,
    },
    Field {
        name: "metadata_names",
        show: |it| match it.metadata.entries() {
            none if none.is_empty() => Value::Null,
            entries => entries.keys().map(String::as_str).collect(),
        },
        differs: |a, b| a.metadata != b.metadata,
    },
    Field {
        name: "client_certificate_sha256",
        show: |it| json!(it.client_identity.as_ref().and_then(ClientIdentity::certificate_sha256)),
        differs: |a, b| a.client_identity != b.client_identity,
    },
    Field {
        name: "oauth2",
        show: |it| json!(it.client_credentials.as_ref().map(show_credentials)),
        differs: |a, b| a.client_credentials != b.client_credentials,
    },
];

fn show_credentials(credentials: &ClientCredentials) -> Value {
    let request = credentials.request();
    json!({"token_url": request.token_url.as_str(), "client_id": request.client_id})
}

/// Schemas and samples are the operator's affair and may be long: their lengths tell that they
/// changed.
pub(super) const EVENT_TYPE_FIELDS: &[Field<RegisteredType>] = &[
    Field {
        name: "description_bytes",
        show: |it| json!(it.description.as_ref().map(String::len)),
        differs: |a, b| a.description != b.description,
    },
    Field {
        name: "schema_bytes",
        show: |it| json!(it.schema.as_ref().map(String::len)),
        differs: |a, b| a.schema != b.schema,
    },
    Field {
        name: "sample_bytes",
        show: |it| json!(it.sample.as_ref().map(String::len)),
        differs: |a, b| a.sample != b.sample,
    },
];

fn show_events(subscription: &Subscription) -> Value {
    let Subscription::Listed(types) = subscription else { return "all".into() };
    let mut shown: Vec<Value> =
        types.iter().take(EVENTS_SHOWN_MAX).map(|pattern| pattern.to_string().into()).collect();
    if types.len() > EVENTS_SHOWN_MAX {
        shown.push(format!("… and {} more", types.len() - EVENTS_SHOWN_MAX).into());
    }
    shown.into()
}

/// Every field that says something.
pub(super) fn all<T>(fields: &[Field<T>], of: &T) -> Map<String, Value> {
    let shown = fields.iter().map(|field| (field.name.to_owned(), (field.show)(of)));
    shown.filter(|(_, value)| !value.is_null()).collect()
}

/// Every field that differs, before and after.
pub(super) fn changed<T>(fields: &[Field<T>], before: &T, after: &T) -> Map<String, Value> {
    let differing = fields.iter().filter(|field| (field.differs)(before, after));
    differing
        .map(|field| {
            let both = json!({"before": (field.show)(before), "after": (field.show)(after)});
            (field.name.to_owned(), both)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use domain::event::EventType;

    use super::*;

    fn listed(count: usize) -> Subscription {
        Subscription::listed((0..count).map(|n| EventType::parse(&format!("a.{n}")).unwrap()))
    }

    #[test]
    fn a_long_list_of_events_is_cut() {
        let shown = show_events(&listed(60));
        let shown = shown.as_array().unwrap();
        assert_eq!(shown.len(), 51);
        assert_eq!(shown[50], "… and 10 more");
        assert_eq!(show_events(&listed(50)).as_array().unwrap().len(), 50);
    }
}
