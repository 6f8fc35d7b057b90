//! An endpoint: a URL that wants events, with its settings.

use std::time::Duration;

use thiserror::Error;

use crate::contract::Contract;
use crate::custom_headers::CustomHeaders;
use crate::event::{EntityId, EventType};
use crate::id::{AccountId, EndpointId};
use crate::limits::{IN_FLIGHT_PER_ENDPOINT_MAX, RETRY_ATTEMPTS_MAX};
use crate::secret::SigningSecret;
use crate::target_url::TargetUrl;
use crate::time::Timestamp;

/// A URL that wants events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id, the same in every API.
    pub id: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// The contract of its account, which fixes its delivery bytes.
    pub contract: Contract,
    /// Where deliveries go.
    pub url: TargetUrl,
    /// What signs its deliveries.
    pub secret: SigningSecret,
    /// What signed them before the last rotation, and still does for a while.
    pub previous_secret: Option<PreviousSecret>,
    /// Whether it takes deliveries.
    pub status: EndpointStatus,
    /// Which event types it wants.
    pub subscription: Subscription,
    /// When set, only events about this entity are wanted.
    pub entity_id: Option<EntityId>,
    /// A note of its owner.
    pub description: Option<String>,
    /// Headers added to each request.
    pub headers: CustomHeaders,
    /// Fewer attempts at once than the node's default.
    pub max_in_flight: Option<MaxInFlight>,
    /// A retry schedule of its own.
    pub retry_schedule: Option<RetrySchedule>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A secret that was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: SigningSecret,
    /// It signs deliveries attempted before this instant.
    pub signs_until: Timestamp,
}

/// Why an endpoint gets no new secret now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the secret before the present one still signs; no third may sign beside them")]
pub struct StillOverlapping {
    /// When the secret before the present one stops signing.
    pub signs_until: Timestamp,
}

impl Endpoint {
    /// The secret that signs beside the present one in an attempt made at `at`.
    pub fn previous_secret_at(&self, at: Timestamp) -> Option<&SigningSecret> {
        let previous = self.previous_secret.as_ref()?;
        (at < previous.signs_until).then_some(&previous.secret)
    }

    /// Gives the endpoint a new secret at `now`; the present one signs beside it for `overlap`.
    /// Without an overlap every earlier secret is void at once, which is what a leak asks for.
    pub fn rotate_secret(
        &mut self,
        new: SigningSecret,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<(), StillOverlapping> {
        if let Some(previous) = &self.previous_secret
            && now < previous.signs_until
            && !overlap.is_zero()
        {
            return Err(StillOverlapping { signs_until: previous.signs_until });
        }
        let secret = std::mem::replace(&mut self.secret, new);
        self.previous_secret =
            (!overlap.is_zero()).then(|| PreviousSecret { secret, signs_until: now.plus(overlap) });
        self.updated_at = now;
        Ok(())
    }
}

/// What may be changed about an endpoint; `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// New URL.
    pub url: Option<TargetUrl>,
    /// New status.
    pub status: Option<EndpointStatus>,
    /// New subscription.
    pub subscription: Option<Subscription>,
    /// New entity; `Some(None)` wants all again.
    pub entity_id: Option<Option<EntityId>>,
    /// New description; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// New headers, replacing all.
    pub headers: Option<CustomHeaders>,
    /// New concurrency; `Some(None)` means the default.
    pub max_in_flight: Option<Option<MaxInFlight>>,
    /// New schedule; `Some(None)` means the default.
    pub retry_schedule: Option<Option<RetrySchedule>>,
}

impl EndpointChange {
    /// Applies the change, made at `now`.
    pub fn apply(self, endpoint: &mut Endpoint, now: Timestamp) {
        fn set<T>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut endpoint.url, self.url);
        set(&mut endpoint.status, self.status);
        set(&mut endpoint.subscription, self.subscription);
        set(&mut endpoint.entity_id, self.entity_id);
        set(&mut endpoint.description, self.description);
        set(&mut endpoint.headers, self.headers);
        set(&mut endpoint.max_in_flight, self.max_in_flight);
        set(&mut endpoint.retry_schedule, self.retry_schedule);
        endpoint.updated_at = now;
    }
}

/// Whether an endpoint takes deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointStatus {
    /// It does.
    Enabled,
    /// It does not; pending deliveries wait.
    Disabled(DisabledReason),
}

impl EndpointStatus {
    /// The word of the contracts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled(_) => "disabled",
        }
    }

    /// Why it is disabled, if it is.
    pub const fn disabled_reason(self) -> Option<DisabledReason> {
        match self {
            Self::Enabled => None,
            Self::Disabled(reason) => Some(reason),
        }
    }
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisabledReason {
    /// Its owner or the platform asked for it.
    Requested,
    /// It answered `410 Gone`.
    Gone,
}

impl DisabledReason {
    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Gone => "gone",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Requested, Self::Gone].into_iter().find(|reason| reason.name() == name)
    }
}

/// Which event types an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every one.
    All,
    /// These; duplicates folded, first occurrence kept.
    Listed(Vec<EventType>),
}

impl Subscription {
    /// A subscription to these types, duplicates folded, first occurrence kept.
    pub fn listed(types: impl IntoIterator<Item = EventType>) -> Self {
        let mut kept: Vec<EventType> = Vec::new();
        for event_type in types {
            if !kept.contains(&event_type) {
                kept.push(event_type);
            }
        }
        Self::Listed(kept)
    }

    /// Whether events of this type are wanted.
    pub fn wants(&self, event_type: &EventType) -> bool {
        match self {
            Self::All => true,
            Self::Listed(types) => types.contains(event_type),
        }
    }
}

/// Attempts on their way at once to one endpoint: 1 to [`IN_FLIGHT_PER_ENDPOINT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxInFlight(usize);

/// A number that is not a concurrency an endpoint may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be 1 to {IN_FLIGHT_PER_ENDPOINT_MAX}")]
pub struct MaxInFlightError;

impl MaxInFlight {
    /// Reads the number.
    pub const fn new(number: u64) -> Result<Self, MaxInFlightError> {
        if number >= 1 && number <= IN_FLIGHT_PER_ENDPOINT_MAX as u64 {
            Ok(Self(number as usize))
        } else {
            Err(MaxInFlightError)
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// How long to wait before each attempt: the first entry before the first attempt, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySchedule(Vec<Duration>);

/// Why a list of waits is not a retry schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RetryScheduleError {
    /// Nothing there, or too much.
    #[error("must have 1 to {RETRY_ATTEMPTS_MAX} entries")]
    Length,
    /// The first attempt is always at once.
    #[error("must begin with 0, since the first attempt is made at once")]
    First,
    /// A wait over 7 days, after which payloads may be gone.
    #[error("each entry must be at most 604800 seconds (7 days)")]
    TooLong,
}

impl RetrySchedule {
    /// Reads a schedule.
    pub fn new(waits: Vec<Duration>) -> Result<Self, RetryScheduleError> {
        if waits.is_empty() || waits.len() > RETRY_ATTEMPTS_MAX {
            return Err(RetryScheduleError::Length);
        }
        if waits.first() != Some(&Duration::ZERO) {
            return Err(RetryScheduleError::First);
        }
        if waits.iter().any(|wait| *wait > Duration::from_hours(7 * 24)) {
            return Err(RetryScheduleError::TooLong);
        }
        Ok(Self(waits))
    }

    /// The waits.
    pub fn waits(&self) -> &[Duration] {
        &self.0
    }
}

impl Default for RetrySchedule {
    /// 12 attempts over 70 h 43 min: dense while a restart or a deploy is likely, then sparse until
    /// the third day is over, as Stripe and Standard Webhooks recommend.
    fn default() -> Self {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 3600;
        let seconds = [
            0,
            5,
            30,
            2 * MINUTE,
            10 * MINUTE,
            30 * MINUTE,
            HOUR,
            3 * HOUR,
            6 * HOUR,
            12 * HOUR,
            24 * HOUR,
            24 * HOUR,
        ];
        Self(seconds.map(Duration::from_secs).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_schedule_is_12_attempts_over_70_hours_and_43_minutes() {
        let waits = RetrySchedule::default();
        assert_eq!(waits.waits().len(), 12);
        let total: Duration = waits.waits().iter().sum();
        assert_eq!(total.as_secs(), 70 * 3600 + 42 * 60 + 35);
        assert_eq!(RetrySchedule::new(waits.waits().to_vec()), Ok(waits));
    }

    #[test]
    fn duplicate_event_types_are_folded_and_the_first_kept() {
        let types = ["b", "a", "b"].map(|name| EventType::parse(name).unwrap());
        assert_eq!(Subscription::listed(types.clone()), Subscription::Listed(types[..2].to_vec()));
    }
}
