//! An endpoint: a URL that wants events, with its settings.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::account::Account;
use crate::contract::Contract;
use crate::credentials::{ClientCredentials, ClientIdentity};
use crate::custom_headers::CustomHeaders;
use crate::event::EntityId;
use crate::filter::FilterText;
use crate::id::{AccountId, EndpointId};
use crate::limits::{
    ATTEMPT_TIMEOUT_MAX, ATTEMPT_TIMEOUT_MIN, IN_FLIGHT_PER_ENDPOINT_MAX, METADATA_ENTRIES_MAX,
    METADATA_KEY_BYTES_MAX, METADATA_VALUE_BYTES_MAX, RATE_PER_SECOND_MAX, RETRY_ATTEMPTS_MAX,
};
use crate::ordering::DeliveryOrder;
use crate::secret::SigningSecret;
use crate::subscription::Subscription;
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
    /// A condition on `data` that its events must meet.
    pub filter: Option<FilterText>,
    /// In what order it gets its deliveries.
    pub order: DeliveryOrder,
    /// Most attempts to begin in a second.
    pub rate: Option<RatePerSecond>,
    /// A time limit of its own for one attempt.
    pub timeout: Option<AttemptTimeout>,
    /// What its owner wants to remember about it; never sent.
    pub metadata: Metadata,
    /// The client certificate it demands.
    pub client_identity: Option<ClientIdentity>,
    /// The tokens it demands.
    pub client_credentials: Option<ClientCredentials>,
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
    /// An enabled endpoint that wants everything, with every setting at its default.
    pub fn new(
        id: EndpointId,
        account: &Account,
        url: TargetUrl,
        secret: SigningSecret,
        created_at: Timestamp,
    ) -> Self {
        Self {
            id,
            account: account.id,
            contract: account.contract,
            url,
            secret,
            previous_secret: None,
            status: EndpointStatus::Enabled,
            subscription: Subscription::All,
            entity_id: None,
            description: None,
            headers: CustomHeaders::default(),
            max_in_flight: None,
            retry_schedule: None,
            filter: None,
            order: DeliveryOrder::Any,
            rate: None,
            timeout: None,
            metadata: Metadata::default(),
            client_identity: None,
            client_credentials: None,
            created_at,
            updated_at: created_at,
        }
    }

    /// The secret that signs beside the present one in an attempt made at `at`.
    pub fn previous_secret_at(&self, at: Timestamp) -> Option<&SigningSecret> {
        let previous = self.previous_secret.as_ref()?;
        (at < previous.signs_until).then_some(&previous.secret)
    }

    /// The time limit of one attempt.
    pub fn attempt_timeout(&self) -> Duration {
        self.timeout.map_or(self.contract.attempt_timeout(), AttemptTimeout::get)
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
    /// New filter; `Some(None)` removes it.
    pub filter: Option<Option<FilterText>>,
    /// New order.
    pub order: Option<DeliveryOrder>,
    /// New rate; `Some(None)` means no limit.
    pub rate: Option<Option<RatePerSecond>>,
    /// New time limit; `Some(None)` means the contract's.
    pub timeout: Option<Option<AttemptTimeout>>,
    /// New metadata, replacing all.
    pub metadata: Option<Metadata>,
    /// New client certificate; `Some(None)` removes it.
    pub client_identity: Option<Option<ClientIdentity>>,
    /// New client credentials; `Some(None)` removes them.
    pub client_credentials: Option<Option<ClientCredentials>>,
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
        set(&mut endpoint.filter, self.filter);
        set(&mut endpoint.order, self.order);
        set(&mut endpoint.rate, self.rate);
        set(&mut endpoint.timeout, self.timeout);
        set(&mut endpoint.metadata, self.metadata);
        set(&mut endpoint.client_identity, self.client_identity);
        set(&mut endpoint.client_credentials, self.client_credentials);
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
    /// Nothing succeeded for days.
    Failing,
    /// A receiver asked for it with a header of its answer.
    ReceiverAsked,
}

impl DisabledReason {
    /// Every reason.
    pub const ALL: [Self; 4] = [Self::Requested, Self::Gone, Self::Failing, Self::ReceiverAsked];

    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Gone => "gone",
            Self::Failing => "failing",
            Self::ReceiverAsked => "receiver_asked",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
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

/// Attempts begun in a second, at most: 1 to [`RATE_PER_SECOND_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePerSecond(u32);

/// A number that is not a rate an endpoint may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be 1 to {RATE_PER_SECOND_MAX}")]
pub struct RatePerSecondError;

impl RatePerSecond {
    /// Reads the number.
    pub const fn new(number: u64) -> Result<Self, RatePerSecondError> {
        if number >= 1 && number <= RATE_PER_SECOND_MAX as u64 {
            Ok(Self(number as u32))
        } else {
            Err(RatePerSecondError)
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The time limit of one attempt: [`ATTEMPT_TIMEOUT_MIN`] to [`ATTEMPT_TIMEOUT_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptTimeout(Duration);

/// A number of seconds that is not a time limit an endpoint may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "must be {} to {} seconds",
    ATTEMPT_TIMEOUT_MIN.as_secs(),
    ATTEMPT_TIMEOUT_MAX.as_secs()
)]
pub struct AttemptTimeoutError;

impl AttemptTimeout {
    /// Reads whole seconds.
    pub const fn from_seconds(seconds: u64) -> Result<Self, AttemptTimeoutError> {
        if seconds >= ATTEMPT_TIMEOUT_MIN.as_secs() && seconds <= ATTEMPT_TIMEOUT_MAX.as_secs() {
            Ok(Self(Duration::from_secs(seconds)))
        } else {
            Err(AttemptTimeoutError)
        }
    }

    /// The limit.
    pub const fn get(self) -> Duration {
        self.0
    }
}

/// What an endpoint's owner wants to remember about it: short texts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(BTreeMap<String, String>);

/// Texts that cannot be kept with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "has at most {METADATA_ENTRIES_MAX} entries, with names of 1 to {METADATA_KEY_BYTES_MAX} bytes \
     and texts of at most {METADATA_VALUE_BYTES_MAX} bytes"
)]
pub struct MetadataError;

impl Metadata {
    /// Reads the entries.
    pub fn new(entries: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        let fits = |(key, value): (&String, &String)| {
            (1..=METADATA_KEY_BYTES_MAX).contains(&key.len())
                && value.len() <= METADATA_VALUE_BYTES_MAX
        };
        if entries.len() > METADATA_ENTRIES_MAX || !entries.iter().all(fits) {
            return Err(MetadataError);
        }
        Ok(Self(entries))
    }

    /// The entries, by name.
    pub const fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
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
}
