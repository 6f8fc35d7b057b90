//! Beginning, keeping alive and ending an engine.
//!
//! Promise: [`Engine::stop`] ends no attempt that can end by itself in the time given, records all
//! of them, and leaves nothing leased behind.

use std::sync::atomic::Ordering;
use std::time::Duration;

use store::StoreError;
use store::queue::{Extended, SessionId};

use crate::error::EngineError;
use crate::keys::ApiKey;
use crate::record::Recorder;
use crate::{Engine, Parts};

/// How long a session lives without word from its engine. Longer than the longest attempt and its
/// recording, so that a living engine never loses a lease.
const SESSION_LIVES_FOR: Duration = Duration::from_secs(45);

/// How often a session is extended: two may fail before it runs out.
const SESSION_EXTENDED_EVERY: Duration = Duration::from_secs(15);

/// How often the last uses of keys are written down.
const KEY_USES_NOTED_EVERY: Duration = Duration::from_mins(1);

/// How often storage is asked to clean up when nobody woke the cleaner.
const CLEANED_EVERY: Duration = Duration::from_mins(10);

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
        let first_key = engine.make_first_operator_key().await?;
        {
            let mut tasks = engine.tasks();
            tasks.spawn(engine.clone().run_recorder(queue));
            tasks.spawn(engine.clone().run_claimer());
            tasks.spawn(engine.clone().run_looker());
            tasks.spawn(engine.clone().run_session());
            tasks.spawn(engine.clone().run_cleaner());
            tasks.spawn(engine.clone().run_key_notes());
        }
        Ok((engine, first_key))
    }

    /// Stops: nothing new starts, what is on its way may end within `grace`, everything is
    /// recorded, and storage is closed. Answers how many attempts were cut off; they will be made
    /// again by whoever starts next.
    pub async fn stop(&self, grace: Duration) -> Result<usize, EngineError> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let ended = tokio::time::timeout(grace, self.dispatch().wait_idle()).await;
        let cut_off = if ended.is_ok() { 0 } else { self.dispatch().lanes().in_flight() };
        self.recorder().flushed().await;
        self.give_back_ready().await?;
        self.note_key_uses().await?;
        self.store().close().await?;
        self.tasks().abort_all();
        Ok(cut_off)
    }

    /// Ends everything at once without recording anything, as a killed process would. For tests
    /// of recovery; whoever runs an engine stops it.
    pub fn abandon(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
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
        loop {
            match self.store().clean(self.clock().now(), CLEANED_ROWS_MAX).await {
                Ok(true) => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "could not clean storage"),
            }
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
