//! Asking for a replay of many events, looking at it, ending it.

use domain::endpoint::EndpointStatus;
use domain::id::{AccountId, EndpointId, ReplayId};
use domain::limits::{REPLAY_PER_SECOND_DEFAULT, REPLAY_PER_SECOND_MAX};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplayFate, ReplaySelection};
use domain::time::Timestamp;
use store::replays::{ReplayCount, ReplayCreated};

use crate::Engine;
use crate::error::{EngineError, ErrorCode};
use crate::scope::Scope;

/// Most rows that counting looks at, of events and of deliveries: a small part of a second of reading.
pub const COUNTED_ROWS_MAX: usize = 10_000;

/// A replay to begin, each field as sent.
#[derive(Clone, Copy, Debug)]
pub struct NewReplay {
    /// What must have become of an event.
    pub fate: ReplayFate,
    /// Accepted at this instant or later.
    pub since: Timestamp,
    /// Accepted before this instant; now if not given, or later than that.
    pub until: Option<Timestamp>,
    /// Deliveries to make each second; [`REPLAY_PER_SECOND_DEFAULT`] if not given.
    pub per_second: Option<u32>,
}

impl NewReplay {
    fn selection(&self, now: Timestamp) -> Result<ReplaySelection, EngineError> {
        let until = self.until.map_or(now, |until| until.min(now));
        if self.since >= until {
            let reason = "must be before `until`, and in the past";
            return Err(EngineError::invalid("since", reason));
        }
        Ok(ReplaySelection { fate: self.fate, since: self.since, until })
    }

    fn per_second(&self) -> Result<u32, EngineError> {
        let per_second = self.per_second.unwrap_or(REPLAY_PER_SECOND_DEFAULT);
        if (1..=REPLAY_PER_SECOND_MAX).contains(&per_second) {
            return Ok(per_second);
        }
        let reason = format!("must be a whole number from 1 to {REPLAY_PER_SECOND_MAX}");
        Err(EngineError::invalid("per_second", reason))
    }
}

impl Engine {
    /// Begins to deliver events again to an endpoint; goes on by itself, across restarts too.
    ///
    /// Errors with [`ErrorCode::Conflict`] if the endpoint is disabled, or if a replay is running
    /// there.
    pub async fn start_replay(
        &self,
        scope: Scope,
        endpoint: EndpointId,
        new: NewReplay,
    ) -> Result<Replay, EngineError> {
        let endpoint = self.endpoint(scope, endpoint).await?;
        let deed = self.deed(scope);
        let (selection, per_second) = (new.selection(deed.at)?, new.per_second()?);
        if endpoint.status != EndpointStatus::Enabled {
            let message = "the endpoint is disabled, so nothing would arrive; enable it first";
            return Err(EngineError::new(ErrorCode::Conflict, message));
        }
        let id = ReplayId::from_u128(self.dice().id(deed.at));
        let replay = Replay {
            per_second,
            ..Replay::begin(id, endpoint.account, endpoint.id, selection, deed.at)
        };
        let note = deed.replay_started(&replay);
        match self.store().create_replay(replay.clone(), note).await? {
            ReplayCreated::Created => {
                self.replayable().notify_one();
                Ok(replay)
            }
            ReplayCreated::NoEndpoint => Err(EngineError::not_found("endpoint")),
            ReplayCreated::LimitReached => Err(EngineError::new(
                ErrorCode::Conflict,
                "a replay to this endpoint is running; wait for its end, or cancel it",
            )),
        }
    }

    /// How many events such a replay would deliver now; looks at [`COUNTED_ROWS_MAX`] rows at
    /// most, and says whether those were all.
    pub async fn count_replay(
        &self,
        scope: Scope,
        endpoint: EndpointId,
        new: NewReplay,
    ) -> Result<ReplayCount, EngineError> {
        let endpoint = self.endpoint(scope, endpoint).await?;
        let selection = new.selection(self.clock().now())?;
        new.per_second()?;
        let (account, id) = (endpoint.account, endpoint.id);
        Ok(self.store().count_replay(account, id, selection, COUNTED_ROWS_MAX).await?)
    }

    /// The replay, and how far it got.
    pub async fn replay(&self, scope: Scope, id: ReplayId) -> Result<Replay, EngineError> {
        let replay =
            self.store().read_replay(id).await?.ok_or_else(|| EngineError::not_found("replay"))?;
        scope.check(replay.account, "replay")?;
        Ok(replay)
    }

    /// Replays that the caller may see, newest first.
    pub async fn list_replays(
        &self,
        scope: Scope,
        mut account: Option<AccountId>,
        endpoint: Option<EndpointId>,
        page: PageRequest,
    ) -> Result<Page<Replay>, EngineError> {
        if let Some(own) = scope.account() {
            if account.is_some_and(|account| account != own) {
                return Err(EngineError::not_found("account"));
            }
            account = Some(own);
        }
        Ok(self.store().list_replays(account, endpoint, page).await?)
    }

    /// Ends a replay; what it had made stays. Answers it as it is then; one that has ended stays
    /// as it ended.
    pub async fn cancel_replay(&self, scope: Scope, id: ReplayId) -> Result<Replay, EngineError> {
        let replay = self.replay(scope, id).await?;
        let note = self.deed(scope).replay_cancelled(&replay);
        let cancelled = self.store().cancel_replay(id, note).await?;
        cancelled.ok_or_else(|| EngineError::not_found("replay"))
    }
}
