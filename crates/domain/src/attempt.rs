//! An attempt: one HTTP request for a delivery, and what came of it.
//!
//! Promise: a failed attempt is data. Nothing a receiver does is an `Err` anywhere.

use std::time::Duration;

use crate::time::Timestamp;

/// What came of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered with a status line.
    Answered {
        /// The status, 200–599 in practice; informational ones never end an exchange.
        status: u16,
        /// How long the receiver asked us to wait (`Retry-After`, RFC 9110 section 10.2.3).
        retry_after: Option<Duration>,
    },
    /// There was no answer.
    Failed(Failure),
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The name could not be resolved.
    Dns,
    /// Its address may not be called.
    Blocked,
    /// No connection came about.
    Connect,
    /// TLS could not be agreed on, or the certificate is not good for the name.
    Tls,
    /// The time limit passed.
    Timeout,
    /// The connection broke before the answer was there.
    Reset,
    /// What came back is not HTTP, or beyond the limits for a response head.
    Protocol,
    /// The endpoint demands a token and none could be had, or its client certificate cannot be used.
    Credentials,
}

/// What a receiver asks for with the header `webhook-delivery` of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverControl {
    /// `abort-message`: no further attempt of this delivery, please.
    Abort,
    /// `disable`: no further delivery to this endpoint, please.
    Disable,
}

impl ReceiverControl {
    /// The name of the header.
    pub const HEADER: &'static str = "webhook-delivery";

    /// Reads the header's value; anything else asks for nothing.
    pub fn parse(value: &str) -> Option<Self> {
        match value.trim() {
            "abort-message" => Some(Self::Abort),
            "disable" => Some(Self::Disable),
            _ => None,
        }
    }
}

impl Failure {
    /// Every failure.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Blocked,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Protocol,
        Self::Credentials,
    ];

    /// The word used in JSON, storage and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Blocked => "blocked",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Credentials => "credentials",
        }
    }

    /// The failure of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.name() == name)
    }
}

impl Outcome {
    /// Whether the delivery is done: any 2xx, decided by the status line.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Answered { status: 200..=299, .. })
    }

    /// The word used in JSON and metrics: `success`, `status`, or the failure's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered { .. } if self.is_success() => "success",
            Self::Answered { .. } => "status",
            Self::Failed(failure) => failure.name(),
        }
    }

    /// The status, if there was an answer.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(status),
            Self::Failed(_) => None,
        }
    }
}

/// Where the time of an attempt went. A reused connection has no DNS, connect and TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Looking up the name.
    pub dns: Duration,
    /// Opening the connection.
    pub connect: Duration,
    /// Agreeing on TLS.
    pub tls: Duration,
    /// From the request's first byte to the answer's first byte.
    pub first_byte: Duration,
}

/// One HTTP request for a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// What came of it.
    pub outcome: Outcome,
    /// The request's line and headers as sent, one a line.
    pub request_head: String,
    /// The beginning of the answer's body, at most
    /// [`crate::limits::RESPONSE_EXCERPT_BYTES_MAX`] bytes.
    pub response_excerpt: Vec<u8>,
    /// When the next attempt is due, if there is one.
    pub next_at: Option<Timestamp>,
}

impl Attempt {
    /// The attempt as the endpoint's owner may see it: an address that may not be called, one that
    /// refuses connections and one that swallows them look the same, in word and in time, so that
    /// nobody learns from us what is behind an address. The same holds for every way not to get a
    /// token from the address that gives them out.
    #[must_use]
    pub fn for_its_owner(mut self) -> Self {
        let never_connected = match self.outcome {
            Outcome::Failed(Failure::Blocked | Failure::Connect) => true,
            Outcome::Failed(Failure::Timeout) => {
                !self.phases.connect.is_zero()
                    && self.phases.tls.is_zero()
                    && self.phases.first_byte.is_zero()
            }
            Outcome::Failed(_) | Outcome::Answered { .. } => false,
        };
        if never_connected {
            self.outcome = Outcome::Failed(Failure::Connect);
        }
        if never_connected || self.outcome == Outcome::Failed(Failure::Credentials) {
            self.phases = Phases::default();
            self.duration = Duration::ZERO;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(outcome: Outcome, connect_ms: u64, first_byte_ms: u64) -> Attempt {
        let phases = Phases {
            dns: Duration::from_millis(3),
            connect: Duration::from_millis(connect_ms),
            first_byte: Duration::from_millis(first_byte_ms),
            ..Phases::default()
        };
        Attempt {
            number: 1,
            at: Timestamp::from_seconds(0),
            duration: Duration::from_millis(3 + connect_ms + first_byte_ms),
            phases,
            outcome,
            request_head: String::new(),
            response_excerpt: Vec::new(),
            next_at: None,
        }
    }

    #[test]
    fn to_its_owner_a_blocked_a_refused_and_a_filtered_address_look_the_same() {
        let [blocked, refused, filtered] = [
            attempt(Outcome::Failed(Failure::Blocked), 0, 0),
            attempt(Outcome::Failed(Failure::Connect), 1, 0),
            attempt(Outcome::Failed(Failure::Timeout), 5_000, 0),
        ]
        .map(Attempt::for_its_owner);
        assert_eq!(blocked.outcome, Outcome::Failed(Failure::Connect));
        assert_eq!(blocked, refused);
        assert_eq!(blocked, filtered);
    }

    #[test]
    fn to_its_owner_every_way_not_to_get_a_token_looks_the_same() {
        let at_once = attempt(Outcome::Failed(Failure::Credentials), 0, 0).for_its_owner();
        let late = attempt(Outcome::Failed(Failure::Credentials), 0, 5_000).for_its_owner();
        assert_eq!(late, at_once);
        assert_eq!(at_once.outcome, Outcome::Failed(Failure::Credentials));
    }

    #[test]
    fn what_a_receiver_did_is_shown_to_its_owner_as_it_was() {
        let heard = [
            attempt(Outcome::Answered { status: 500, retry_after: None }, 1, 20),
            attempt(Outcome::Failed(Failure::Timeout), 1, 5_000),
            attempt(Outcome::Failed(Failure::Timeout), 0, 5_000),
            attempt(Outcome::Failed(Failure::Reset), 1, 20),
            attempt(Outcome::Failed(Failure::Dns), 0, 0),
        ];
        for attempt in heard {
            assert_eq!(attempt.clone().for_its_owner(), attempt);
        }
    }
}
