//! What happened, line by line, and how often what.
//!
//! Promise: two runs of one seed give the same lines. Only what the seed decides is written: no
//! payloads, no signatures, no real time.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// The lines of one run.
#[derive(Default)]
pub(super) struct Trace {
    hash: Sha256,
    lines: u64,
    /// Kept only if somebody wants to read them.
    kept: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { kept: keep.then(Vec::new), ..Self::default() }
    }

    /// Writes a line.
    pub(super) fn line(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>11.3} {what}\n", at.as_secs_f64());
        self.hash.update(line.as_bytes());
        self.lines += 1;
        if let Some(kept) = &mut self.kept {
            kept.push(line);
        }
    }

    /// The digest of all lines, their number, and the lines if they were kept.
    pub(super) fn end(&mut self) -> (String, u64, Vec<String>) {
        let digest = std::mem::take(&mut self.hash).finalize();
        let hex = digest.iter().take(12).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        (hex, self.lines, self.kept.take().unwrap_or_default())
    }
}

/// What must happen now and then, if the simulation is to prove anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sometimes {
    EngineCrashed,
    CrashMetWorkInFlight,
    EngineRestarted,
    MachineWasOff,
    ClockSetForward,
    ClockSetBack,
    ReceiverCrashed,
    LinkPartitioned,
    LinkHeld,
    LinkOneWay,
    LinkSlow,
    AddressChanged,
    NameFailed,
    NameForbidden,
    StoreRefused,
    StoreAnswerLost,
    StoreStalled,
    StoreBroken,
    SessionLost,
    StaleCompletionRefused,
    BreakerOpened,
    AnsweredServerError,
    AnsweredTooMany,
    AnsweredGone,
    LeftHanging,
    ConnectionReset,
    AnswerCutOff,
    ConnectionForgotten,
    TimeLimitPassed,
    PublishUnknown,
    PublishGivenUp,
    PublishRepeated,
    PublishedTwiceAtOnce,
    KeyReused,
    BatchPublished,
    EndpointCreated,
    EndpointDisabled,
    EndpointEnabled,
    EndpointMoved,
    EndpointDeleted,
    SecretRotated,
    EventCancelled,
    DeliveryReplayed,
    ManyReplayed,
    DeliveryDelivered,
    DeliveryRetried,
    DeliveryExhausted,
    DeliveryCancelled,
    DeliveryWaitedInLine,
    DeliveryMissedByDisabled,
    DuplicateExcused,
    TrialBegun,
}

impl Sometimes {
    /// Everything that must happen in a run of some hundred seeds.
    pub(crate) const ALL: [Self; 52] = [
        Self::EngineCrashed,
        Self::CrashMetWorkInFlight,
        Self::EngineRestarted,
        Self::MachineWasOff,
        Self::ClockSetForward,
        Self::ClockSetBack,
        Self::ReceiverCrashed,
        Self::LinkPartitioned,
        Self::LinkHeld,
        Self::LinkOneWay,
        Self::LinkSlow,
        Self::AddressChanged,
        Self::NameFailed,
        Self::NameForbidden,
        Self::StoreRefused,
        Self::StoreAnswerLost,
        Self::StoreStalled,
        Self::StoreBroken,
        Self::SessionLost,
        Self::StaleCompletionRefused,
        Self::BreakerOpened,
        Self::AnsweredServerError,
        Self::AnsweredTooMany,
        Self::AnsweredGone,
        Self::LeftHanging,
        Self::ConnectionReset,
        Self::AnswerCutOff,
        Self::ConnectionForgotten,
        Self::TimeLimitPassed,
        Self::PublishUnknown,
        Self::PublishGivenUp,
        Self::PublishRepeated,
        Self::PublishedTwiceAtOnce,
        Self::KeyReused,
        Self::BatchPublished,
        Self::EndpointCreated,
        Self::EndpointDisabled,
        Self::EndpointEnabled,
        Self::EndpointMoved,
        Self::EndpointDeleted,
        Self::SecretRotated,
        Self::EventCancelled,
        Self::DeliveryReplayed,
        Self::ManyReplayed,
        Self::DeliveryDelivered,
        Self::DeliveryRetried,
        Self::DeliveryExhausted,
        Self::DeliveryCancelled,
        Self::DeliveryWaitedInLine,
        Self::DeliveryMissedByDisabled,
        Self::DuplicateExcused,
        Self::TrialBegun,
    ];
}

impl Sometimes {
    /// Whether it is something that was broken on purpose.
    pub(crate) const fn is_fault(self) -> bool {
        matches!(
            self,
            Self::EngineCrashed
                | Self::MachineWasOff
                | Self::ClockSetForward
                | Self::ClockSetBack
                | Self::ReceiverCrashed
                | Self::LinkPartitioned
                | Self::LinkHeld
                | Self::LinkOneWay
                | Self::LinkSlow
                | Self::AddressChanged
                | Self::NameFailed
                | Self::NameForbidden
                | Self::StoreRefused
                | Self::StoreAnswerLost
                | Self::StoreStalled
                | Self::StoreBroken
                | Self::AnsweredServerError
                | Self::AnsweredTooMany
                | Self::AnsweredGone
                | Self::LeftHanging
                | Self::ConnectionReset
                | Self::AnswerCutOff
                | Self::ConnectionForgotten
        )
    }
}

/// How often each happened.
pub(crate) type Counters = BTreeMap<Sometimes, u64>;
