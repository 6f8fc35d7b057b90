//! What a caller says of an endpoint, read field by field.
//!
//! Promise: every wrong field is named, not only the first.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use domain::catalogue;
use domain::contract::Contract;
use domain::custom_headers::CustomHeaders;
use domain::endpoint::{
    AttemptTimeout, DisabledReason, Endpoint, EndpointChange, EndpointStatus, MaxInFlight,
    Metadata, RatePerSecond, RetrySchedule,
};
use domain::event::{EntityId, EventType};
use domain::limits::{DESCRIPTION_BYTES_MAX, SUBSCRIPTION_TYPES_MAX};
use domain::ordering::DeliveryOrder;
use domain::subscription::{EventPattern, Subscription};
use domain::target_url::UrlPolicy;

use super::credential_fields::{OAuth2Text, SecretText, read_credentials, read_identity};
use super::shorten;
use crate::error::{EngineError, Violation};
use crate::event_types::RegisteredTypes;
use crate::sender::Sender;

/// What a caller says of a new endpoint, each field as sent.
#[derive(Clone, Default)]
pub struct NewEndpoint {
    /// Where deliveries go.
    pub url: String,
    /// Whether it begins disabled.
    pub is_disabled: bool,
    /// Which event types it wants.
    pub events: Events,
    /// The only entity it wants.
    pub entity_id: Option<String>,
    /// A note.
    pub description: Option<String>,
    /// Headers to add.
    pub headers: Vec<(String, String)>,
    /// Concurrency.
    pub max_in_flight: Option<u64>,
    /// Waits before each attempt, in seconds.
    pub retry_schedule: Option<Vec<u64>>,
    /// A condition on `data`.
    pub filter: Option<String>,
    /// The name of an order.
    pub ordering: Option<String>,
    /// Attempts a second.
    pub rate_limit: Option<u64>,
    /// The time limit of one attempt.
    pub timeout_seconds: Option<u64>,
    /// What to remember about it.
    pub metadata: BTreeMap<String, String>,
    /// A chain of certificates in PEM.
    pub client_certificate: Option<String>,
    /// Its private key in PEM.
    pub client_key: Option<SecretText>,
    /// How to get tokens.
    pub oauth2: Option<OAuth2Text>,
}

impl fmt::Debug for NewEndpoint {
    /// Next to nothing: URL and headers hold secrets often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEndpoint").field("events", &self.events).finish_non_exhaustive()
    }
}

impl fmt::Debug for EndpointEdit {
    /// Next to nothing: URL and headers hold secrets often.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointEdit").field("events", &self.events).finish_non_exhaustive()
    }
}

impl From<NewEndpoint> for EndpointEdit {
    /// Everything said, so that whatever is wrong with a default would be found too.
    fn from(new: NewEndpoint) -> Self {
        Self {
            url: Some(new.url),
            is_disabled: Some(new.is_disabled),
            events: Some(new.events),
            entity_id: Some(new.entity_id),
            description: Some(new.description),
            headers: Some(new.headers),
            max_in_flight: Some(new.max_in_flight),
            retry_schedule: Some(new.retry_schedule),
            filter: Some(new.filter),
            ordering: Some(new.ordering),
            rate_limit: Some(new.rate_limit),
            timeout_seconds: Some(new.timeout_seconds),
            metadata: Some(new.metadata),
            client_certificate: Some(new.client_certificate),
            client_key: Some(new.client_key),
            oauth2: Some(new.oauth2),
        }
    }
}

/// What a caller says of the event types an endpoint wants.
#[derive(Clone, Debug, Default)]
pub enum Events {
    /// Every one.
    #[default]
    All,
    /// These; must not be empty. For `standard` endpoints the beginning of names and a `*`, too.
    Listed(Vec<String>),
}

/// What a caller changes about an endpoint; `None` leaves a field as it is, `Some(None)` takes it
/// back to its default.
#[derive(Clone, Default)]
pub struct EndpointEdit {
    /// New URL.
    pub url: Option<String>,
    /// Whether it is disabled.
    pub is_disabled: Option<bool>,
    /// New event types.
    pub events: Option<Events>,
    /// New entity.
    pub entity_id: Option<Option<String>>,
    /// New note.
    pub description: Option<Option<String>>,
    /// New headers, replacing all.
    pub headers: Option<Vec<(String, String)>>,
    /// New concurrency.
    pub max_in_flight: Option<Option<u64>>,
    /// New waits, in seconds.
    pub retry_schedule: Option<Option<Vec<u64>>>,
    /// New condition on `data`.
    pub filter: Option<Option<String>>,
    /// The name of the new order.
    pub ordering: Option<Option<String>>,
    /// New attempts a second.
    pub rate_limit: Option<Option<u64>>,
    /// New time limit of one attempt.
    pub timeout_seconds: Option<Option<u64>>,
    /// New metadata, replacing all.
    pub metadata: Option<BTreeMap<String, String>>,
    /// A new chain of certificates in PEM; with a new key.
    pub client_certificate: Option<Option<String>>,
    /// Its private key in PEM.
    pub client_key: Option<Option<SecretText>>,
    /// A new way to get tokens.
    pub oauth2: Option<Option<OAuth2Text>>,
}

/// What fields are read by.
pub(super) struct Reading<'a> {
    /// Which URLs endpoints may have.
    pub(super) urls: &'a UrlPolicy,
    /// Who will show client certificates.
    pub(super) sender: &'a dyn Sender,
    /// The contract of the account.
    pub(super) contract: Contract,
    /// Event types that the operator has added to those of the contract; `None` if nothing asks for
    /// them ([`asks_for_registered`]).
    pub(super) registered: Option<&'a RegisteredTypes>,
    /// The endpoint as it is, unless it is new.
    pub(super) before: Option<&'a Endpoint>,
}

/// Reads every field and names every wrong one.
pub(super) fn read_fields(
    reading: &Reading<'_>,
    edit: EndpointEdit,
) -> Result<EndpointChange, EngineError> {
    let mut wrong = Vec::new();
    let mut change = EndpointChange {
        url: edit.url.and_then(|url| check(&mut wrong, "url", reading.urls.parse(&url))),
        status: edit.is_disabled.map(|is_disabled| {
            if is_disabled {
                EndpointStatus::Disabled(DisabledReason::Requested)
            } else {
                EndpointStatus::Enabled
            }
        }),
        subscription: edit
            .events
            .and_then(|events| check(&mut wrong, "events", read_events(reading, events))),
        entity_id: edit.entity_id.and_then(|id| {
            let id = id.as_deref().map(EntityId::parse).transpose();
            check(&mut wrong, "entity_id", id)
        }),
        description: edit
            .description
            .and_then(|text| check(&mut wrong, "description", read_description(text))),
        headers: edit
            .headers
            .and_then(|headers| check(&mut wrong, "headers", CustomHeaders::new(headers))),
        max_in_flight: edit.max_in_flight.and_then(|number| {
            check(&mut wrong, "max_in_flight", number.map(MaxInFlight::new).transpose())
        }),
        retry_schedule: edit.retry_schedule.and_then(|waits| {
            let schedule = waits.map(|waits| {
                RetrySchedule::new(waits.into_iter().map(Duration::from_secs).collect())
            });
            check(&mut wrong, "retry_schedule", schedule.transpose())
        }),
        filter: edit.filter.and_then(|text| {
            let filter = text.as_deref().map(crate::filter::read).transpose();
            check(&mut wrong, "filter", filter)
        }),
        order: edit
            .ordering
            .and_then(|name| check(&mut wrong, "ordering", read_order(name.as_deref()))),
        rate: edit.rate_limit.and_then(|number| {
            check(&mut wrong, "rate_limit", number.map(RatePerSecond::new).transpose())
        }),
        timeout: edit.timeout_seconds.and_then(|seconds| {
            let timeout = seconds.map(AttemptTimeout::from_seconds).transpose();
            check(&mut wrong, "timeout_seconds", timeout)
        }),
        metadata: edit
            .metadata
            .and_then(|entries| check(&mut wrong, "metadata", Metadata::new(entries))),
        client_identity: None,
        client_credentials: None,
    };
    change.client_identity =
        read_identity(reading.sender, edit.client_certificate, edit.client_key, &mut wrong);
    change.client_credentials = edit.oauth2.and_then(|text| match text {
        None => Some(None),
        Some(text) => read_credentials(reading.urls, text, &mut wrong).map(Some),
    });
    check_authorization(reading, &change, &mut wrong);
    if wrong.is_empty() { Ok(change) } else { Err(EngineError::all_invalid(wrong)) }
}

/// A token has its place in the header `authorization`, where nothing else may stand then.
fn check_authorization(reading: &Reading<'_>, change: &EndpointChange, wrong: &mut Vec<Violation>) {
    let headers = change.headers.as_ref().or(reading.before.map(|before| &before.headers));
    let has_header = headers.is_some_and(|headers| {
        headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    });
    let is_present = reading.before.is_some_and(|before| before.client_credentials.is_some());
    let gets_token = change.client_credentials.as_ref().map_or(is_present, Option::is_some);
    if has_header && gets_token {
        let (field, reason) = if change.headers.is_some() {
            ("headers", "must not hold `authorization`: the token of oauth2 goes there")
        } else {
            ("oauth2", "must not be set while `headers` holds `authorization`")
        };
        wrong.push(Violation { field: field.to_owned(), reason: reason.to_owned() });
    }
}

fn check<T, E: fmt::Display>(
    wrong: &mut Vec<Violation>,
    field: &str,
    read: Result<T, E>,
) -> Option<T> {
    read.map_err(|error| {
        wrong.push(Violation { field: field.to_owned(), reason: error.to_string() });
    })
    .ok()
}

fn read_description(text: Option<String>) -> Result<Option<String>, String> {
    match text {
        Some(text) if text.len() > DESCRIPTION_BYTES_MAX => {
            Err(format!("must have at most {DESCRIPTION_BYTES_MAX} bytes"))
        }
        text => Ok(text),
    }
}

fn read_order(name: Option<&str>) -> Result<DeliveryOrder, &'static str> {
    match name.map(DeliveryOrder::from_name) {
        None => Ok(DeliveryOrder::Any),
        Some(Some(order)) if order != DeliveryOrder::Any => Ok(order),
        Some(_) => Err("must be `fifo`, `fifo_by_key` or null"),
    }
}

/// `jogg_v2` names must be in the catalogue or registered; elsewhere any well-formed name is
/// accepted, because the KonPro v1 documents' own samples subscribe to names outside their
/// catalogue. The documents of both know names only, so that patterns are for `standard`.
fn read_events(reading: &Reading<'_>, events: Events) -> Result<Subscription, String> {
    let names = match events {
        Events::All => return Ok(Subscription::All),
        Events::Listed(names) => names,
    };
    if names.is_empty() {
        return Err("must name at least one event type".to_owned());
    }
    if names.len() > SUBSCRIPTION_TYPES_MAX {
        return Err(format!("must name at most {SUBSCRIPTION_TYPES_MAX} event types"));
    }
    let contract = reading.contract;
    let mut patterns = Vec::with_capacity(names.len());
    for name in names {
        if contract == Contract::JoggV2 && !is_known(reading, &name) {
            let documented = catalogue::event_types(contract).iter().map(|entry| entry.name);
            let registered = reading.registered.into_iter().flat_map(RegisteredTypes::iter);
            let registered = registered.map(|registered| registered.name.as_str());
            let nearest = catalogue::nearest_of(documented.chain(registered), &name).join("`, `");
            return Err(format!(
                "contains the unknown event `{}`; did you mean `{nearest}`?",
                shorten(&name)
            ));
        }
        let pattern = match contract {
            Contract::Standard => EventPattern::parse(&name).map_err(|error| error.to_string()),
            Contract::JoggV2 | Contract::KonproV1 => {
                EventType::parse(&name).map(EventPattern::Exact).map_err(|error| error.to_string())
            }
        };
        let pattern = pattern.map_err(|error| format!("contains `{}`: {error}", shorten(&name)))?;
        patterns.push(pattern);
    }
    Ok(Subscription::listed(patterns))
}

fn is_known(reading: &Reading<'_>, name: &str) -> bool {
    catalogue::find(reading.contract, name).is_some()
        || reading.registered.is_some_and(|registered| registered.find(name).is_some())
}

/// Whether reading takes the event types that the operator has registered.
pub(super) fn asks_for_registered(contract: Contract, events: Option<&Events>) -> bool {
    match events {
        Some(Events::Listed(names)) if contract == Contract::JoggV2 => {
            names.iter().any(|name| catalogue::find(contract, name).is_none())
        }
        _ => false,
    }
}
