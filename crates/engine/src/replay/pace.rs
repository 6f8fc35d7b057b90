//! The task that carries replays of many events on, each at its pace.
//!
//! Promise: a replay makes its deliveries evenly and never faster than it may or than its endpoint
//! takes them, a pause is never caught up on, and none waits for another. Storage knows how far each has got, so a restart
//! repeats and loses nothing. Neighbours: [`super::many`] begins and ends replays;
//! [`crate::dispatch`] sends what was made, after whatever is fresh.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::endpoint::EndpointStatus;
use domain::id::{DeliveryId, ReplayId};
use domain::replay::{Replay, ReplayState};
use store::StoreError;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Engine;
use crate::registry::endpoint_of;

/// Steps of one replay in a second, each of which makes its part: enough to be even, few enough to
/// share their commits with whatever else is written.
const STEPS_PER_SECOND: u32 = 8;

/// Rows looked at in one step, of events and of deliveries: some milliseconds of storage.
const LOOKED_AT_MAX: usize = 500;

/// How long a replay rests after a step at least, in lengths of that step: storage belongs to
/// publishers and deliveries, however much there is to look at.
const STEP_RESTS: u32 = 3;

/// How long a replay waits until its endpoint is asked again whether it takes more: one step.
const ROOM_AGAIN_AFTER: Duration = Duration::from_millis(1_000 / STEPS_PER_SECOND as u64);

/// How long a replay rests that found nothing to deliver among those: others have their turn.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Replays that make a step at once, so that they share a commit.
const STEPS_AT_ONCE_MAX: usize = 32;

/// How long a replay waits whose endpoint is disabled, or whose step storage refused.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How often storage is asked which replays run when nobody says that one began.
const LISTED_EVERY: Duration = Duration::from_mins(1);

/// Running replays read at once.
const LISTED_MAX: usize = 500;

/// A running replay and when it goes on.
struct Running {
    replay: Replay,
    next_at: Instant,
}

/// What the task knows. All of it is in storage too.
struct Paces {
    running: BTreeMap<ReplayId, Running>,
    listed_next_at: Instant,
}

/// What came of one step.
enum Stepped {
    /// It goes on after so long.
    GoesOn(Replay, Duration),
    /// It runs no more.
    Ended(ReplayId),
}

impl Engine {
    /// Carries all running replays on, for ever.
    pub(crate) async fn run_replays(self) {
        let mut paces = Paces { running: BTreeMap::new(), listed_next_at: Instant::now() };
        while !self.is_stopping() {
            if paces.listed_next_at <= Instant::now() {
                self.list_running(&mut paces).await;
            }
            self.metrics().replays_running(paces.running.len());
            let due = paces.due(Instant::now());
            if due.is_empty() {
                tokio::select! {
                    biased;
                    () = self.replayable().notified() => paces.listed_next_at = Instant::now(),
                    () = tokio::time::sleep_until(paces.next_at()) => {}
                }
                continue;
            }
            let mut steps = JoinSet::new();
            for replay in due {
                steps.spawn(self.clone().step_replay(replay));
            }
            for stepped in steps.join_all().await {
                if matches!(stepped, Stepped::Ended(_)) {
                    // There is an entry in the audit log.
                    self.wake_announcer();
                }
                paces.take_in(stepped);
            }
        }
    }

    /// Learns which replays run; those known already keep their pace.
    async fn list_running(&self, paces: &mut Paces) {
        let now = Instant::now();
        paces.listed_next_at = now + LISTED_EVERY;
        match self.read_running().await {
            Ok(replays) => {
                for replay in replays {
                    let new = Running { replay, next_at: now };
                    paces.running.entry(new.replay.id).or_insert(new);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "could not read which replays run");
                paces.listed_next_at = now + AGAIN_AFTER;
            }
        }
    }

    async fn read_running(&self) -> Result<Vec<Replay>, StoreError> {
        let mut running: Vec<Replay> = Vec::new();
        loop {
            let after = running.last().map(|replay| replay.id);
            let more = self.store().running_replays(after, LISTED_MAX).await?;
            let is_last = more.len() < LISTED_MAX;
            running.extend(more);
            if is_last {
                return Ok(running);
            }
        }
    }

    /// One step of one replay.
    async fn step_replay(self, replay: Replay) -> Stepped {
        let roster = match self.registry().roster(replay.account).await {
            Ok(roster) => roster,
            Err(error) => {
                tracing::warn!(%error, replay = %replay.id, "could not read a replay's endpoint");
                return Stepped::GoesOn(replay, AGAIN_AFTER);
            }
        };
        let endpoint = roster.as_deref().and_then(|roster| endpoint_of(roster, replay.endpoint));
        // Of one that is gone storage knows what becomes of its replay.
        if endpoint.is_some_and(|endpoint| endpoint.status != EndpointStatus::Enabled) {
            return Stepped::GoesOn(replay, AGAIN_AFTER);
        }
        let now = self.clock().now();
        let room = self.dispatch().lanes().room_for_replays(replay.endpoint, now);
        if room == 0 && endpoint.is_some() {
            return Stepped::GoesOn(replay, ROOM_AGAIN_AFTER);
        }
        let made_max = (replay.per_second / STEPS_PER_SECOND).max(1) as usize;
        let made_max = made_max.min(room.max(1));
        let began_at = Instant::now();
        let ids = (0..made_max).map(|_| DeliveryId::from_u128(self.dice().id(now))).collect();
        match self.store().step_replay(replay.id, ids, LOOKED_AT_MAX, now).await {
            Ok(Some(step)) => {
                self.metrics().replayed(step.created);
                if step.created > 0 {
                    self.dispatch().note_stored(replay.endpoint, replay.account, now);
                }
                if step.replay.state == ReplayState::Running {
                    let rest = rest_after(step.created, step.replay.per_second);
                    let rest = rest.max(began_at.elapsed() * STEP_RESTS);
                    Stepped::GoesOn(step.replay, rest)
                } else {
                    Stepped::Ended(replay.id)
                }
            }
            // Somebody ended it, or we did and the answer was lost.
            Ok(None) => Stepped::Ended(replay.id),
            Err(error) => {
                tracing::warn!(%error, replay = %replay.id, "could not carry a replay on; will try again");
                Stepped::GoesOn(replay, AGAIN_AFTER)
            }
        }
    }
}

impl Paces {
    /// The replays that go on now, those that waited longest first.
    fn due(&self, now: Instant) -> Vec<Replay> {
        let mut due: Vec<_> = self.running.values().filter(|it| it.next_at <= now).collect();
        due.sort_by_key(|running| running.next_at);
        due.truncate(STEPS_AT_ONCE_MAX);
        due.into_iter().map(|running| running.replay.clone()).collect()
    }

    /// When there is something to do again.
    fn next_at(&self) -> Instant {
        let steps = self.running.values().map(|running| running.next_at);
        steps.chain([self.listed_next_at]).min().expect("the list is always read again")
    }

    fn take_in(&mut self, stepped: Stepped) {
        match stepped {
            Stepped::GoesOn(replay, rest) => {
                let running = Running { replay, next_at: Instant::now() + rest };
                self.running.insert(running.replay.id, running);
            }
            Stepped::Ended(id) => drop(self.running.remove(&id)),
        }
    }
}

/// How long a replay rests that has just made `created` deliveries.
fn rest_after(created: usize, per_second: u32) -> Duration {
    let created = u32::try_from(created).unwrap_or(u32::MAX);
    (Duration::from_secs(1) * created / per_second.max(1)).max(LOOK_PAUSE)
}

#[cfg(test)]
mod tests {
    use domain::limits::REPLAY_PER_SECOND_MAX;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_pace_is_faster_than_asked_or_slower_by_more_than_rounding(
            per_second in 1..=REPLAY_PER_SECOND_MAX,
        ) {
            let made = (per_second / STEPS_PER_SECOND).max(1);
            let rest = rest_after(made as usize, per_second);
            let exact = f64::from(made) / f64::from(per_second);
            prop_assert!(rest.as_secs_f64() >= exact - 1e-9);
            prop_assert!(rest.as_secs_f64() <= exact + 1e-9 || rest == LOOK_PAUSE);
        }
    }

    #[test]
    fn looking_without_finding_rests_shortly() {
        assert_eq!(rest_after(0, 1), LOOK_PAUSE);
    }
}
