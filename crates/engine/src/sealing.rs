//! The keys that seal secrets in storage: which are in use, and taking a new one into use while
//! everything goes on.
//!
//! Promise: a ring is taken into use only if it opens whatever is sealed, so that no secret is lost
//! by a slip of the pen; every secret is sealed again under the active key, in small steps.
//! Neighbours: [`SealingKeys`] is implemented by `server`, which knows the key file; stores do the
//! sealing.

use std::sync::Arc;

use domain::audit::Actor;
use domain::sealing::{KeyRing, SealingKeyId};

use crate::Engine;
use crate::audit::note::Deed;
use crate::error::{EngineError, ErrorCode};
use crate::scope::Scope;

/// Rows sealed again in one step: a millisecond or two, so that nothing else waits long.
const RESEALED_ROWS_MAX: usize = 500;

/// The key ring's keeper.
pub trait SealingKeys: Send + Sync {
    /// The ring as it is kept outside just now; an error says what is wrong with it, without the
    /// keys.
    fn read(&self) -> Result<KeyRing, String>;

    /// The ring in use.
    fn in_use(&self) -> Arc<KeyRing>;

    /// Takes a ring into use.
    fn replace(&self, ring: KeyRing);
}

/// The keeper, shared.
pub type SharedSealingKeys = Arc<dyn SealingKeys>;

/// Which keys seal what is in storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingState {
    /// The key that seals from now on.
    pub active: SealingKeyId,
    /// How many secrets are sealed under each key of the ring, the active one first.
    pub keys: Vec<(SealingKeyId, u64)>,
    /// How many were sealed again by the call that answers this.
    pub resealed: u64,
}

impl Engine {
    /// Which keys seal what is in storage. Operator only.
    pub async fn sealing_keys(&self, scope: Scope) -> Result<SealingState, EngineError> {
        scope.operator_only("page")?;
        self.sealing_state(self.sealing()?, 0).await
    }

    /// Reads the ring anew, takes it into use and seals everything again under its active key;
    /// answers once that is done. One call at a time. Operator only.
    ///
    /// Errors with [`ErrorCode::Conflict`] when the ring cannot be read, or lacks or alters a key
    /// that is in use; then the ring in use stays.
    pub async fn reload_sealing_keys(&self, scope: Scope) -> Result<SealingState, EngineError> {
        scope.operator_only("page")?;
        let sealing = self.sealing()?;
        let _one_at_a_time = self.shared.reloading.lock().await;
        let ring = self.read_ring(sealing).await?;
        let active = ring.active().id();
        let was_active = sealing.in_use().active().id();
        if active != was_active {
            // First, so that no key is ever in use that the log does not know.
            self.note_active_key(scope.actor(), active, was_active).await?;
        }
        sealing.replace(ring);
        let resealed = self.reseal().await?;
        self.sealing_state(sealing, resealed).await
    }

    /// The ring outside, if it holds every key that is needed, unaltered.
    async fn read_ring(&self, sealing: &SharedSealingKeys) -> Result<KeyRing, EngineError> {
        let conflict = |why: String| EngineError::new(ErrorCode::Conflict, why);
        let keeper = Arc::clone(sealing);
        let ring = tokio::task::spawn_blocking(move || keeper.read())
            .await
            .map_err(|error| conflict(format!("reading the key file broke off: {error}")))?
            .map_err(conflict)?;
        let in_use = sealing.in_use();
        for known in in_use.keys() {
            // A key of the same id but other bytes would shut everything.
            if ring.keys().iter().any(|key| key.id() == known.id() && key != known) {
                return Err(conflict(format!(
                    "the key {} differs from the one in use",
                    known.id()
                )));
            }
        }
        let sealed = self.store().sealing_keys().await?;
        let needed = sealed.iter().map(|(id, _)| *id).chain([in_use.active().id()]);
        for id in needed {
            let is_known = in_use.keys().iter().any(|key| key.id() == id);
            if is_known && !ring.keys().iter().any(|key| key.id() == id) {
                return Err(conflict(format!(
                    "the key {id} is in use and is not in the key file; put its line back"
                )));
            }
        }
        Ok(ring)
    }

    async fn note_active_key(
        &self,
        actor: Actor,
        active: SealingKeyId,
        previous: SealingKeyId,
    ) -> Result<(), EngineError> {
        let deed = Deed { at: self.clock().now(), actor };
        Ok(self.store().note(vec![deed.sealing_key_activated(active, previous)]).await?)
    }

    /// Seals again what is not under the active key; answers how much that was.
    async fn reseal(&self) -> Result<u64, EngineError> {
        let mut resealed = 0;
        loop {
            match self.store().reseal(RESEALED_ROWS_MAX).await? {
                0 => return Ok(resealed),
                rows => resealed += rows as u64,
            }
            tokio::task::yield_now().await;
        }
    }

    /// Seals again at the start, for whoever changed the ring while nothing ran. A text that cannot
    /// be sealed again hurts its own account only, so the start goes on.
    pub(crate) async fn reseal_at_start(&self) -> Result<(), EngineError> {
        let Some(sealing) = self.sealing_if_any() else { return Ok(()) };
        let active = sealing.in_use().active().id();
        let sealed = self.store().sealing_keys().await?;
        if let Some((previous, _)) = sealed.iter().find(|(id, _)| *id != active) {
            self.note_active_key(Actor::System, active, *previous).await?;
            match self.reseal().await {
                Ok(secrets) => {
                    tracing::info!(secrets, key = %active, "sealed again under the active key");
                }
                Err(error) => {
                    let cause = error.cause().map(|cause| &**cause);
                    tracing::error!(%error, cause, "not all could be sealed again");
                }
            }
        }
        Ok(())
    }

    fn sealing(&self) -> Result<&SharedSealingKeys, EngineError> {
        self.sealing_if_any().ok_or_else(|| EngineError::not_found("page"))
    }

    async fn sealing_state(
        &self,
        sealing: &SharedSealingKeys,
        resealed: u64,
    ) -> Result<SealingState, EngineError> {
        let sealed = self.store().sealing_keys().await?;
        let ring = sealing.in_use();
        let count =
            |id| sealed.iter().find(|(known, _)| *known == id).map_or(0, |(_, count)| *count);
        let keys = ring.keys().iter().map(|key| (key.id(), count(key.id()))).collect();
        Ok(SealingState { active: ring.active().id(), keys, resealed })
    }
}
