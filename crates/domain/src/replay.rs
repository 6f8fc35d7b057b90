//! A replay: many events delivered again to one endpoint, at a pace.

use crate::audit::{Actor, AuditAction, AuditNote};
use crate::id::{AccountId, EndpointId, EventId, ReplayId};
use crate::limits::REPLAY_PER_SECOND_DEFAULT;
use crate::time::Timestamp;

/// A replay of many events to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Whose it is.
    pub account: AccountId,
    /// The endpoint that gets the deliveries.
    pub endpoint: EndpointId,
    /// Which events.
    pub selection: ReplaySelection,
    /// Deliveries to make each second: 1 to [`crate::limits::REPLAY_PER_SECOND_MAX`].
    pub per_second: u32,
    /// Where it stands.
    pub state: ReplayState,
    /// Events looked at so far.
    pub looked_at: u64,
    /// Deliveries made so far.
    pub created: u64,
    /// The last event looked at; the next step goes on after it.
    pub through: Option<EventId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

/// Which events to deliver again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaySelection {
    /// What must have become of an event at the endpoint.
    pub fate: ReplayFate,
    /// Accepted at this instant or later.
    pub since: Timestamp,
    /// Accepted before this instant; never later than when the replay was asked for.
    pub until: Timestamp,
}

/// What must have become of an event at the endpoint for a replay to deliver it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayFate {
    /// Its last delivery there is exhausted.
    Exhausted,
    /// It has a delivery there, and none is pending.
    All,
    /// It has no delivery there although it would have had: the endpoint was disabled, or its
    /// filter failed.
    Missing,
}

impl ReplayFate {
    /// Every fate.
    pub const ALL: [Self; 3] = [Self::Exhausted, Self::All, Self::Missing];

    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::All => "all",
            Self::Missing => "missing",
        }
    }

    /// The fate of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fate| fate.name() == name)
    }
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    /// It goes on.
    Running,
    /// Every event was looked at.
    Done,
    /// Somebody cancelled it, or its endpoint is gone; what it had made stays.
    Cancelled,
}

impl ReplayState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Cancelled];

    /// The word used in JSON and storage.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl Replay {
    /// A replay that begins, at the default pace.
    pub const fn begin(
        id: ReplayId,
        account: AccountId,
        endpoint: EndpointId,
        selection: ReplaySelection,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            account,
            endpoint,
            selection,
            per_second: REPLAY_PER_SECOND_DEFAULT,
            state: ReplayState::Running,
            looked_at: 0,
            created: 0,
            through: None,
            created_at: now,
            ended_at: None,
        }
    }

    /// What the audit log says when it came to its end by itself at `at`: every event was looked
    /// at, or its endpoint is gone.
    pub fn ended_note(&self, at: Timestamp) -> AuditNote {
        let Self { id, account, endpoint, state, looked_at, created, .. } = self;
        let details = format!(
            r#"{{"created":{created},"endpoint":"{endpoint}","looked_at":{looked_at},"state":"{}"}}"#,
            state.name()
        );
        AuditNote {
            at,
            actor: Actor::System,
            action: AuditAction::ReplayEnded,
            account: Some(*account),
            subject: id.to_string(),
            details,
        }
    }
}
