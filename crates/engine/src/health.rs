//! Endpoints at which nothing succeeds for days: warned of, then disabled; and those that say
//! themselves that they want nothing more.
//!
//! Promise: an endpoint is disabled by itself only for what it did as it stands now, never for
//! what it was before somebody changed it, and every disabling and warning is in the audit log. A
//! success costs one look at a number, and one look-up while anything fails. Bounded: streaks are
//! kept of at most [`FAILING_MAX`] endpoints. Neighbours: [`domain::health`] has the rules,
//! [`crate::deliver`] tells what happens, [`crate::notices`] announces what is noted here.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::attempt::Outcome;
use domain::audit::{Actor, AuditNote};
use domain::delivery::EndReason;
use domain::endpoint::{DisabledReason, Endpoint, EndpointChange, EndpointStatus};
use domain::health::{Judgement, Sign, Streak, judge, sign_of};
use domain::id::EndpointId;
use domain::time::Timestamp;
use store::StoreError;
use store::queue::Claimed;
use tokio::sync::Notify;

use crate::Engine;
use crate::audit::note::Deed;
use crate::health::streaks::Streaks;
use crate::hourly::Hourly;
use crate::registry::endpoint_of;

mod streaks;

/// Most endpoints of which streaks are kept: some 20 MiB. Beyond it no new streak begins until
/// others end, so that an endpoint may fail for longer before it is warned of, and none is disabled
/// that should not be.
const FAILING_MAX: usize = 100_000;

/// How long changed streaks wait to be written down together. A crash loses as much of them: a
/// failure not counted, or a success that ends the streak only when the next one comes.
const WRITTEN_AFTER: Duration = Duration::from_secs(5);

/// Streaks read or written in one step: some milliseconds of storage.
const STREAKS_AT_ONCE: usize = 500;

/// Endpoints judged in one step.
const JUDGED_AT_ONCE: usize = 100;

/// How often the clock is looked at when nobody is to be judged: it may have been set.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// How often it is looked again whether an endpoint is still as it was seen, because its account
/// changed meanwhile, before disabling it is left to the next time.
const LOOKS_MAX: usize = 8;

/// How long a judgement waits that storage could not take.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// The streaks of failing endpoints, and the wake-ups of who judges them and who writes them down.
#[derive(Default)]
pub(crate) struct Health {
    streaks: Mutex<Streaks>,
    /// How many streaks there are, to be read without the lock.
    failing: AtomicUsize,
    /// Somebody is to be judged earlier than the judge thinks.
    sooner: Notify,
    /// There is something to be written down.
    changed: Notify,
    /// Held while some streaks are written down, so that none is overwritten by what it was before.
    writing: tokio::sync::Mutex<()>,
    /// Held while an endpoint is disabled, so that of many attempts that say so one does it.
    disabling: tokio::sync::Mutex<()>,
    /// Endpoints of which it was noted that deliveries to them are given up.
    exhausting: Mutex<Hourly<EndpointId>>,
}

impl Health {
    fn streaks(&self) -> MutexGuard<'_, Streaks> {
        self.streaks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn exhausting(&self) -> MutexGuard<'_, Hourly<EndpointId>> {
        self.exhausting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the streaks, and wakes whom that concerns.
    fn change<T>(&self, change: impl FnOnce(&mut Streaks) -> T) -> T {
        let mut streaks = self.streaks();
        let (next_before, had_unwritten) = (streaks.next_judged_at(), streaks.has_unwritten());
        let answer = change(&mut streaks);
        self.failing.store(streaks.len(), Ordering::Relaxed);
        let next = streaks.next_judged_at();
        let is_sooner = next.is_some_and(|next| next_before.is_none_or(|before| next < before));
        let is_new = !had_unwritten && streaks.has_unwritten();
        drop(streaks);
        if is_sooner {
            self.sooner.notify_one();
        }
        if is_new {
            self.changed.notify_one();
        }
        answer
    }

    /// Takes note of how an attempt ended, at `now`.
    pub(crate) fn heed(&self, endpoint: EndpointId, outcome: Outcome, now: Timestamp) {
        match sign_of(outcome) {
            Sign::Neither => {}
            Sign::Success => self.end(endpoint),
            Sign::Failure => self.change(|streaks| streaks.fail(endpoint, now)),
        }
    }

    fn end(&self, endpoint: EndpointId) {
        if self.failing.load(Ordering::Relaxed) > 0 && self.streaks().get(endpoint).is_some() {
            self.change(|streaks| streaks.end(endpoint));
        }
    }
}

impl Engine {
    /// Since when nothing succeeds at the endpoint, if that is so.
    pub fn streak(&self, endpoint: &Endpoint) -> Option<Streak> {
        self.health().streaks().get(endpoint.id)
    }

    /// At how many endpoints something failed since it last succeeded.
    pub fn failing_endpoints(&self) -> usize {
        self.health().failing.load(Ordering::Relaxed)
    }

    /// Reads the streaks that were written down.
    pub(crate) async fn load_streaks(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        let mut after = None;
        loop {
            let read = self.store().read_streaks(after, STREAKS_AT_ONCE).await?;
            let Some((last, _)) = read.last() else { return Ok(()) };
            after = Some(*last);
            let is_last_page = read.len() < STREAKS_AT_ONCE;
            self.health().change(|streaks| {
                for (endpoint, streak) in read {
                    streaks.load(endpoint, streak, now);
                }
            });
            if is_last_page {
                return Ok(());
            }
        }
    }

    /// Writes changed streaks down, some seconds after the first of them changed, for ever.
    pub(crate) async fn run_streak_writer(self) {
        loop {
            self.health().changed.notified().await;
            loop {
                tokio::time::sleep(WRITTEN_AFTER).await;
                match self.write_streaks().await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(%error, "could not write down who is failing"),
                }
            }
        }
    }

    /// Writes down every streak that changed.
    pub(crate) async fn write_streaks(&self) -> Result<(), StoreError> {
        while self.write_taken(|streaks| streaks.take_unwritten(STREAKS_AT_ONCE)).await? {}
        Ok(())
    }

    /// Writes down the streak of this endpoint, if it changed.
    async fn write_streak_of(&self, endpoint: EndpointId) -> Result<(), StoreError> {
        self.write_taken(|streaks| streaks.take_unwritten_of(endpoint)).await.map(drop)
    }

    /// Writes down some streaks that changed, as they are once others are written; whether there
    /// were any.
    async fn write_taken(
        &self,
        take: impl FnOnce(&mut Streaks) -> Vec<(EndpointId, Option<Streak>)>,
    ) -> Result<bool, StoreError> {
        let _writing = self.health().writing.lock().await;
        let some = take(&mut self.health().streaks());
        if some.is_empty() {
            return Ok(false);
        }
        let endpoints: Vec<EndpointId> = some.iter().map(|(endpoint, _)| *endpoint).collect();
        match self.store().write_streaks(some).await {
            Ok(()) => Ok(true),
            Err(error) => {
                self.health().change(|streaks| streaks.put_unwritten(endpoints));
                Err(error)
            }
        }
    }

    /// Takes up a change of an endpoint by a person: once it is enabled again or goes elsewhere,
    /// what failed before says nothing any more.
    pub(crate) async fn health_changed(&self, before: &Endpoint, after: &Endpoint) {
        let is_enabled_again =
            before.status != after.status && after.status == EndpointStatus::Enabled;
        if is_enabled_again || before.url != after.url {
            self.health().end(after.id);
            // It must not be disabled again for the same after a crash.
            if let Err(error) = self.write_streak_of(after.id).await {
                tracing::warn!(%error, "could not write down who is failing");
            }
        }
    }

    /// Takes up that an endpoint was deleted.
    pub(crate) fn health_gone(&self, endpoint: EndpointId) {
        self.health().end(endpoint);
    }

    /// Judges endpoints when their time comes, for ever.
    pub(crate) async fn run_judge(self) {
        loop {
            let now = self.clock().now();
            let due = self.health().streaks().take_due(now, JUDGED_AT_ONCE);
            for endpoint in &due {
                if let Err(error) = self.judge_endpoint(*endpoint).await {
                    tracing::warn!(%error, %endpoint, "could not judge; will try again");
                    let again_at = self.clock().now().plus(AGAIN_AFTER);
                    self.health().streaks().judge_at(*endpoint, Some(again_at));
                }
            }
            if due.is_empty() {
                let next_at = self.health().streaks().next_judged_at();
                let wait = next_at.map_or(LOOK_EVERY, |at| at.since(now).min(LOOK_EVERY));
                let _ = tokio::time::timeout(wait, self.health().sooner.notified()).await;
            }
        }
    }

    async fn judge_endpoint(&self, id: EndpointId) -> Result<(), StoreError> {
        let Some(endpoint) = self.store().find_endpoint(id).await? else {
            self.health_gone(id);
            return Ok(());
        };
        let streak = self.health().streaks().get(id);
        let Some(streak) = streak.filter(|_| endpoint.status == EndpointStatus::Enabled) else {
            return Ok(());
        };
        let now = self.clock().now();
        match judge(&streak, now) {
            Judgement::Wait => Ok(()),
            Judgement::Warn { warnings } => {
                let warned = Streak { warnings, ..streak };
                let note = Deed { at: now, actor: Actor::System };
                self.note_for_notice(note.endpoint_warned(&endpoint, &warned)).await?;
                tracing::warn!(
                    endpoint = %id,
                    failures = streak.failures,
                    since = streak.since.to_rfc3339_millis(),
                    "nothing succeeds at an endpoint"
                );
                self.health().change(|streaks| streaks.warned(id, &warned));
                // A crash right after this is the one way to be warned twice.
                self.write_streak_of(id).await
            }
            Judgement::Disable => self.disable(&endpoint, DisabledReason::Failing).await,
        }
    }

    /// Disables an endpoint for what it did as it was `seen`, unless it was changed since: then it
    /// was another that did it. Storage compares once more, for changes that were on their way.
    pub(crate) async fn disable(
        &self,
        seen: &Endpoint,
        reason: DisabledReason,
    ) -> Result<(), StoreError> {
        let _disabling = self.health().disabling.lock().await;
        for _ in 0..LOOKS_MAX {
            let Some(roster) = self.registry().roster(seen.account).await? else { return Ok(()) };
            let deed = Deed { at: self.clock().now(), actor: Actor::System };
            let streak = self.streak(seen);
            let is_due = |streak: &Streak| judge(streak, deed.at) == Judgement::Disable;
            let has_recovered =
                reason == DisabledReason::Failing && !streak.as_ref().is_some_and(is_due);
            if endpoint_of(&roster, seen.id) != Some(seen) || has_recovered {
                return Ok(());
            }
            let change = EndpointChange {
                status: Some(EndpointStatus::Disabled(reason)),
                ..EndpointChange::default()
            };
            let note = deed.endpoint_disabled(seen, reason, streak.as_ref());
            let (account, expected) = (seen.account, Some(roster.version));
            let changed =
                self.store().change_endpoint(account, seen.id, expected, change, note).await;
            self.registry().forget(account);
            if changed?.is_some() {
                self.metrics().endpoint_disabled(reason);
                self.wake_announcer();
                tracing::warn!(endpoint = %seen.id, reason = reason.name(), "disabled an endpoint");
                return Ok(());
            }
        }
        Err(StoreError::Unavailable("the account changes too fast just now".to_owned()))
    }

    /// What is to be noted of a delivery to the endpoint that is given up.
    pub(crate) fn note_of_exhausting(
        &self,
        endpoint: &Endpoint,
        claimed: &Claimed,
        reason: EndReason,
    ) -> AuditNote {
        let deed = Deed { at: self.clock().now(), actor: Actor::System };
        let streak = self.streak(endpoint);
        deed.endpoint_exhausting(endpoint, claimed, reason, streak.as_ref())
    }

    /// Notes what was given up at these endpoints, in one step; once an hour for each.
    pub(crate) async fn note_exhausting(&self, given_up: Vec<(EndpointId, &AuditNote)>) {
        let now = self.clock().now();
        let (endpoints, notes): (Vec<_>, Vec<_>) = given_up
            .into_iter()
            .filter(|(endpoint, _)| self.health().exhausting().begin(*endpoint, now))
            .map(|(endpoint, note)| (endpoint, note.clone()))
            .unzip();
        if notes.is_empty() {
            return;
        }
        match self.store().note(notes).await {
            Ok(()) => self.wake_announcer(),
            Err(error) => {
                tracing::warn!(%error, "could not note deliveries given up");
                for endpoint in endpoints {
                    self.health().exhausting().forget(&endpoint);
                }
            }
        }
    }

    async fn note_for_notice(&self, note: AuditNote) -> Result<(), StoreError> {
        self.store().note(vec![note]).await?;
        self.wake_announcer();
        Ok(())
    }
}
