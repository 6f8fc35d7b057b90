//! A delivery: one event owed to one endpoint, its states, and the one place that decides the next.
//!
//! Promise: a delivery changes state only as [`decide`] and [`handle`] say, or because its endpoint
//! or account went away. Every end has a reason.

use crate::attempt::{Outcome, ReceiverControl};
use crate::endpoint::RetrySchedule;
use crate::event::EventType;
use crate::id::{AccountId, DeliveryId, EndpointId, EventId};
use crate::limits::{
    ALONE_AFTER_LOST_CLAIMS, SET_ASIDE_AFTER_LOST_CLAIMS, TRIAL_AFTER_LOST_CLAIMS,
};
use crate::retry::{Chance, next_attempt_at};
use crate::time::Timestamp;

/// One event owed to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event: EventId,
    /// The event's type.
    pub event_type: EventType,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// Whose both are.
    pub account: AccountId,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were recorded.
    pub attempts: u32,
    /// When the next attempt is due, while it is pending.
    pub due_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it ended, once it has.
    pub ended_at: Option<Timestamp>,
    /// The delivery it waits behind, while it does.
    pub waits_for: Option<DeliveryId>,
}

/// Where a delivery stands. A lease is an aspect of `Pending`: who works on it is the store's
/// business and nobody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// Owed.
    Pending,
    /// A receiver answered 2xx.
    Delivered,
    /// Attempts or age are used up.
    Exhausted(EndReason),
    /// Nobody wants it any more.
    Cancelled(EndReason),
}

/// The states by name, for filters and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateName {
    /// [`DeliveryState::Pending`].
    Pending,
    /// [`DeliveryState::Delivered`].
    Delivered,
    /// [`DeliveryState::Exhausted`].
    Exhausted,
    /// [`DeliveryState::Cancelled`].
    Cancelled,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Delivered, Self::Exhausted, Self::Cancelled];

    /// The word used in JSON and storage.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl DeliveryState {
    /// Its name.
    pub const fn name(self) -> StateName {
        match self {
            Self::Pending => StateName::Pending,
            Self::Delivered => StateName::Delivered,
            Self::Exhausted(_) => StateName::Exhausted,
            Self::Cancelled(_) => StateName::Cancelled,
        }
    }

    /// Why it ended, unless it is pending or delivered.
    pub const fn reason(self) -> Option<EndReason> {
        match self {
            Self::Pending | Self::Delivered => None,
            Self::Exhausted(reason) | Self::Cancelled(reason) => Some(reason),
        }
    }
}

/// Why a delivery ended without a 2xx.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Every attempt of the schedule was made.
    AttemptsUsedUp,
    /// The next attempt would be later than the age limit.
    TooOld,
    /// Its work ended three times without an outcome, the last time alone: it may be what brings
    /// the process down. Or its payload can no longer be read. A replay tries again.
    SetAside,
    /// The endpoint was deleted.
    EndpointDeleted,
    /// The receiver asked for it with a header of its answer.
    ReceiverRefused,
    /// A person or the platform cancelled it.
    Requested,
    /// It was still pending when its payload was no longer kept.
    Expired,
    /// The event's payload was erased.
    Erased,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::AttemptsUsedUp,
        Self::TooOld,
        Self::SetAside,
        Self::EndpointDeleted,
        Self::ReceiverRefused,
        Self::Requested,
        Self::Expired,
        Self::Erased,
    ];

    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttemptsUsedUp => "attempts_used_up",
            Self::TooOld => "too_old",
            Self::SetAside => "set_aside",
            Self::EndpointDeleted => "endpoint_deleted",
            Self::ReceiverRefused => "receiver_refused",
            Self::Requested => "requested",
            Self::Expired => "expired",
            Self::Erased => "erased",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// What an attempt does to its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It is delivered.
    Delivered,
    /// It stays pending; the next attempt is due then.
    RetryAt(Timestamp),
    /// It is exhausted.
    Exhausted(EndReason),
}

impl Transition {
    /// When the next attempt is due, if there is one.
    pub const fn next_at(self) -> Option<Timestamp> {
        match self {
            Self::RetryAt(due_at) => Some(due_at),
            Self::Delivered | Self::Exhausted(_) => None,
        }
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The outcome.
    pub outcome: Outcome,
    /// What the receiver asked for beside it.
    pub asked: Option<ReceiverControl>,
}

impl From<Outcome> for Heard {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, asked: None }
    }
}

/// What attempt `number` does to a delivery owed since `owed_since`.
///
/// The only place where a delivery's next state is decided.
pub fn decide(
    schedule: &RetrySchedule,
    number: u32,
    owed_since: Timestamp,
    heard: Heard,
    now: Timestamp,
    chance: Chance,
) -> Transition {
    let Heard { outcome, asked } = heard;
    if outcome.is_success() {
        return Transition::Delivered;
    }
    if asked == Some(ReceiverControl::Abort) {
        return Transition::Exhausted(EndReason::ReceiverRefused);
    }
    match next_attempt_at(schedule, number, owed_since, outcome, now, chance) {
        Ok(due_at) => Transition::RetryAt(due_at),
        Err(reason) => Transition::Exhausted(reason),
    }
}

/// What to do with a delivery that was claimed, before any attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Attempt it like any other.
    Attempt,
    /// Attempt it after writing down that it is on trial: should the process die now, it is known
    /// that this delivery was on its way.
    Trial,
    /// The same, while no other is attempted so.
    TrialAlone,
    /// Set it aside: it is exhausted, with [`EndReason::SetAside`].
    SetAside,
}

/// What to do with a delivery of which `lost_claims` claims in a row ended without an outcome (the
/// process died, or the task panicked).
///
/// Whatever is in memory when a process dies has lost a claim, so the first one says little. The
/// second counts only for what was on its way, the third only for what was on its way alone. So a
/// bystander is set aside only if it meets three deaths, at the last one as the only suspect.
pub const fn handle(lost_claims: u32) -> Handling {
    match lost_claims {
        0..TRIAL_AFTER_LOST_CLAIMS => Handling::Attempt,
        TRIAL_AFTER_LOST_CLAIMS..ALONE_AFTER_LOST_CLAIMS => Handling::Trial,
        ALONE_AFTER_LOST_CLAIMS..SET_ASIDE_AFTER_LOST_CLAIMS => Handling::TrialAlone,
        _ => Handling::SetAside,
    }
}

/// Whether the receiver says that the endpoint is gone for good (RFC 9110 section 15.5.11), upon
/// which the endpoint is disabled.
pub const fn says_gone(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Answered { status: 410, .. })
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::attempt::Failure;

    #[test]
    fn a_lost_claim_brings_a_trial_two_bring_one_alone_and_three_set_a_delivery_aside() {
        let expected =
            [Handling::Attempt, Handling::Trial, Handling::TrialAlone, Handling::SetAside];
        for (lost_claims, handling) in (0..).zip(expected) {
            assert_eq!(handle(lost_claims), handling);
        }
        assert_eq!(handle(u32::MAX), Handling::SetAside);
    }

    #[test]
    fn the_transition_table_is_the_documented_one() {
        let schedule = RetrySchedule::default();
        let created_at = Timestamp::from_seconds(0);
        let outcomes = [200, 204, 299, 300, 302, 400, 404, 410, 429, 500, 503]
            .map(|status| Outcome::Answered { status, retry_after: None })
            .into_iter()
            .chain(Failure::ALL.map(Outcome::Failed));
        let mut table = String::from("outcome | attempt 1 | attempt 12 | attempt 2 after 96 h\n");
        for outcome in outcomes {
            let label = outcome
                .status()
                .map_or_else(|| outcome.name().to_owned(), |status| status.to_string());
            let cell = |number, hours| {
                let now = created_at.plus(std::time::Duration::from_hours(hours));
                let chance = Chance::from_bits(0);
                match decide(&schedule, number, created_at, outcome.into(), now, chance) {
                    Transition::Delivered => "delivered".to_owned(),
                    Transition::RetryAt(_) => "pending".to_owned(),
                    Transition::Exhausted(reason) => format!("exhausted: {}", reason.name()),
                }
            };
            writeln!(table, "{label} | {} | {} | {}", cell(1, 0), cell(12, 70), cell(2, 96))
                .unwrap();
        }
        insta::assert_snapshot!(table);
    }
}
