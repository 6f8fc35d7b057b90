//! Beginning, keeping alive and ending an engine.
//!
//! Promise: [`Engine::stop`] ends no attempt that can end by itself in the time given, records all
//! of them, and leaves nothing leased behind.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::audit::Actor;
use store::StoreError;
use store::queue::{Cleaned, Extended, SessionId};
use tokio::time::Instant;

use crate::audit::note::Deed;
use crate::error::EngineError;
use crate::keys::ApiKey;
use crate::record::Recorder;
use crate::{Engine, Parts};

/// How long a session lives without word from its engine. A lease taken just before the session
/// failed to be extended must outlast the time until the next try (15 s), the longest attempt (30 s
/// and 2 s for the answer's body), and 10 s to record it on a busy disk: 57 s. So a living engine
/// never loses a lease.
const SESSION_LIVES_FOR: Duration = Duration::from_mins(1);

/// How often a session is extended: two may fail before it runs out.
const SESSION_EXTENDED_EVERY: Duration = Duration::from_secs(15);

/// How long stopping waits for the last attempts to be recorded: many commits, even on a busy disk.
const FLUSHED_WITHIN: Duration = Duration::from_secs(5);

/// How long stopping waits for claims and publishes under way: as long as a busy disk may take.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How often the last uses of keys are written down.
const KEY_USES_NOTED_EVERY: Duration = Duration::from_mins(1);

/// How often storage is asked to clean up when nobody woke the cleaner.
const CLEANED_EVERY: Duration = Duration::from_mins(10);

/// How long the cleaner rests after a step, in lengths of that step: storage belongs to publishers
/// and deliveries, however much there is to clean.
const CLEANING_RESTS: u32 = 3;

/// Rows cleaned in one step: some milliseconds, so that nothing else waits long.
const CLEANED_ROWS_MAX: usize = 500;

impl Engine {
    /// Starts an engine on its parts. Answers it, and the first operator key if it had to make
    /// one: shown this once.
    ///
    /// Errors when storage cannot be read or written.
    pub async fn start(parts: Parts) -> Result<(Self, Option<ApiKey>), EngineError> {
        let now = parts.clock.now();
        let (recorder, queue) = Recorder::new();
        let candidate = {
            let mut bytes = [0; 32];
            parts.entropy.fill(&mut bytes);
            bytes
        };
        let pepper = parts.store.read_or_create_pepper(candidate).await?;
        let session = parts.store.begin_session(now.plus(SESSION_LIVES_FOR)).await?;
        let engine = Self::assemble(parts, recorder, pepper, session);
        engine.note_start().await?;
        engine.go_on_after_newest_event().await;
        engine.reseal_at_start().await?;
        engine.load_streaks().await?;
        let first_key = engine.make_first_operator_key().await?;
        engine.run("recorder", engine.clone().run_recorder(queue));
        engine.run("claimer", engine.clone().run_claimer());
        engine.run("pacer", engine.clone().run_pacer());
        engine.run("looker", engine.clone().run_looker());
        engine.run("session", engine.clone().run_session());
        engine.run("cleaner", engine.clone().run_cleaner());
        engine.run("key notes", engine.clone().run_key_notes());
        engine.run("judge", engine.clone().run_judge());
        engine.run("streak writer", engine.clone().run_streak_writer());
        engine.run("announcer", engine.clone().run_announcer());
        engine.run("replays", engine.clone().run_replays());
        Ok((engine, first_key))
    }

    /// Stops: nothing new starts, what is on its way may end within `grace`, everything is
    /// recorded, and storage is closed. Answers how many attempts were cut off; they will be made
    /// again by whoever starts next.
    ///
    /// Errors when storage cannot be closed in good order; what is leased then will be attempted
    /// again.
    pub async fn stop(&self, grace: Duration) -> Result<usize, EngineError> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.dispatch().lanes().halt();
        let ended = tokio::time::timeout(grace, self.dispatch().wait_idle()).await;
        let cut_off = if ended.is_ok() { 0 } else { self.dispatch().lanes().in_flight() };
        let flushed = tokio::time::timeout(FLUSHED_WITHIN, self.recorder().flushed()).await;
        if flushed.is_err() {
            tracing::error!("storage takes no attempts; what is unrecorded will be made again");
        }
        if let Err(error) = self.give_back_ready().await {
            tracing::warn!(%error, "could not give waiting deliveries back");
        }
        // A claim or a publish under way brings leases yet.
        let settled = tokio::time::timeout(SETTLED_WITHIN, self.dispatch().wait_settled()).await;
        if settled.is_err() {
            tracing::warn!("storage does not answer; what it leases now will be attempted later");
        }
        if let Err(error) = self.give_back_orphans().await {
            tracing::warn!(%error, "could not give orphaned deliveries back");
        }
        if let Err(error) = self.note_key_uses().await {
            tracing::warn!(%error, "could not note when keys were used");
        }
        if let Err(error) = self.write_streaks().await {
            tracing::warn!(%error, "could not write down who is failing");
        }
        let closed = self.store().close().await;
        self.tasks().abort_all();
        closed?;
        Ok(cut_off)
    }

    /// Notes in the audit log that an engine began, and which addresses its rules open beyond the
    /// public ones.
    async fn note_start(&self) -> Result<(), StoreError> {
        let deed = Deed { at: self.clock().now(), actor: Actor::System };
        let note = deed.service_started(&self.settings().urls);
        self.store().note(vec![note]).await
    }

    /// Runs a task that must live as long as the engine; its death is noticed.
    fn run(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let watch = Watch { engine: self.clone(), name };
        self.tasks().spawn(async move {
            let _watch = watch;
            task.await;
        });
    }

    /// Ends everything at once without recording anything, as a killed process would. For tests
    /// of recovery; whoever runs an engine stops it.
    pub fn abandon(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.dispatch().lanes().halt();
        self.tasks().abort_all();
    }

    /// Whether [`Self::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Keeps the session alive and frees what dead sessions left.
    async fn run_session(self) {
        loop {
            tokio::time::sleep(SESSION_EXTENDED_EVERY).await;
            if let Err(error) = self.extend_session().await {
                tracing::warn!(%error, "could not extend the session");
            }
        }
    }

    async fn extend_session(&self) -> Result<(), StoreError> {
        let now = self.clock().now();
        let until = now.plus(SESSION_LIVES_FOR);
        if self.store().extend_session(self.session(), until).await? == Extended::SessionLost {
            // Others have our deliveries: forget what waits here and begin anew.
            tracing::warn!("the session ran out; its deliveries were given to others");
            drop(self.dispatch().lanes().take_ready());
            let session = self.store().begin_session(until).await?;
            self.shared.session.store(session.0, Ordering::SeqCst);
        }
        let freed = self.store().release_expired(now).await?;
        if freed > 0 {
            tracing::info!(deliveries = freed, "took over from a session that ran out");
        }
        Ok(())
    }

    /// Cleans storage in small steps, when woken and now and then.
    async fn run_cleaner(self) {
        let mut round = Cleaned::default();
        loop {
            let began = Instant::now();
            let now = self.clock().now();
            match self.store().clean(now, &self.settings().retention, CLEANED_ROWS_MAX).await {
                Ok(cleaned) => {
                    self.metrics().cleaned(&cleaned);
                    round.payloads += cleaned.payloads;
                    round.events += cleaned.events;
                    round.expired += cleaned.expired;
                    round.freed_bytes += cleaned.freed_bytes;
                    if cleaned.has_more {
                        tokio::time::sleep(began.elapsed() * CLEANING_RESTS).await;
                        continue;
                    }
                }
                Err(error) => tracing::warn!(%error, "could not clean storage"),
            }
            say_cleaned(std::mem::take(&mut round));
            tokio::select! {
                biased;
                () = self.shared.cleanable.notified() => {}
                () = tokio::time::sleep(CLEANED_EVERY) => {}
            }
        }
    }

    async fn run_key_notes(self) {
        loop {
            tokio::time::sleep(KEY_USES_NOTED_EVERY).await;
            if let Err(error) = self.note_key_uses().await {
                tracing::warn!(%error, "could not note when keys were used");
            }
        }
    }

    async fn note_key_uses(&self) -> Result<(), StoreError> {
        let uses = self.key_uses().take();
        if uses.is_empty() { Ok(()) } else { self.store().note_key_uses(uses).await }
    }

    pub(crate) fn session(&self) -> SessionId {
        SessionId(self.shared.session.load(Ordering::SeqCst))
    }

    pub(crate) fn wake_cleaner(&self) {
        self.shared.cleanable.notify_one();
    }
}

/// Tells the operator what was removed because it was kept long enough, if anything was.
fn say_cleaned(round: Cleaned) {
    let Cleaned { payloads, events, expired, freed_bytes, .. } = round;
    if payloads + events + expired + freed_bytes > 0 {
        tracing::info!(payloads, events, expired, freed_bytes, "removed what was kept long enough");
    }
}

/// Notices when a task ends that must not.
struct Watch {
    engine: Engine,
    name: &'static str,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.engine.is_stopping() {
            tracing::error!(task = self.name, "a task of the engine died; restart the process");
            self.engine.shared.failed.store(true, Ordering::SeqCst);
        }
    }
}
