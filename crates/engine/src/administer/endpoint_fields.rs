//! What a caller says of an endpoint, read field by field.
//!
//! Promise: every wrong field is named, not only the first.

use std::time::Duration;

use domain::catalogue;
use domain::contract::Contract;
use domain::custom_headers::CustomHeaders;
use domain::endpoint::{
    DisabledReason, EndpointChange, EndpointStatus, MaxInFlight, RetrySchedule,
};
use domain::event::{EntityId, EventType};
use domain::limits::{DESCRIPTION_BYTES_MAX, SUBSCRIPTION_TYPES_MAX};
use domain::subscription::Subscription;
use domain::target_url::UrlPolicy;

use super::shorten;
use crate::error::{EngineError, Violation};

/// What a caller says of a new endpoint, each field as sent.
#[derive(Clone, Debug, Default)]
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
}

/// What a caller says of the event types an endpoint wants.
#[derive(Clone, Debug, Default)]
pub enum Events {
    /// Every one.
    #[default]
    All,
    /// These; must not be empty.
    Listed(Vec<String>),
}

/// What a caller changes about an endpoint; `None` leaves a field as it is, `Some(None)` takes it
/// back to its default.
#[derive(Clone, Debug, Default)]
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
}

/// Reads every field and names every wrong one.
pub(super) fn read_fields(
    urls: &UrlPolicy,
    contract: Contract,
    edit: EndpointEdit,
) -> Result<EndpointChange, EngineError> {
    let mut wrong = Vec::new();
    let change = EndpointChange {
        url: edit.url.and_then(|url| check(&mut wrong, "url", urls.parse(&url))),
        status: edit.is_disabled.map(|is_disabled| {
            if is_disabled {
                EndpointStatus::Disabled(DisabledReason::Requested)
            } else {
                EndpointStatus::Enabled
            }
        }),
        subscription: edit
            .events
            .and_then(|events| check(&mut wrong, "events", read_events(contract, events))),
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
        ..EndpointChange::default()
    };
    if wrong.is_empty() { Ok(change) } else { Err(EngineError::all_invalid(wrong)) }
}

fn check<T, E: std::fmt::Display>(
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

/// `jogg_v2` names must be in the catalogue; elsewhere any well-formed name is accepted, because
/// the KonPro v1 documents' own samples subscribe to names outside their catalogue.
fn read_events(contract: Contract, events: Events) -> Result<Subscription, String> {
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
    let mut types = Vec::with_capacity(names.len());
    for name in names {
        if contract == Contract::JoggV2 && catalogue::find(contract, &name).is_none() {
            let nearest = catalogue::nearest(contract, &name).join("`, `");
            return Err(format!(
                "contains the unknown event `{}`; did you mean `{nearest}`?",
                shorten(&name)
            ));
        }
        let event_type = EventType::parse(&name)
            .map_err(|error| format!("contains `{}`: {error}", shorten(&name)))?;
        types.push(event_type);
    }
    Ok(Subscription::listed(types))
}
