//! The keys that seal secrets in storage: which are in use, and taking a new one into use while
//! everything goes on.
//!
//! Promise: a ring is taken into use only if it opens whatever is sealed, so that no secret is lost
//! by a slip of the pen; every secret is sealed again under the active key, in small steps.
//! Neighbours: [`SealingKeys`] is implemented by `server`, which knows the key file; stores do the
//! sealing.

use std::sync::Arc;

use domain::audit::{Actor, AuditAction, AuditNote};
use domain::sealing::{KeyRing, SealingKeyId};

use crate::Engine;
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
    /// answers once that is done. Operator only.
    ///
    /// Errors with [`ErrorCode::Conflict`] when the ring cannot be read or lacks a key that
    /// something is sealed under; then the ring in use stays.
    pub async fn reload_sealing_keys(&self, scope: Scope) -> Result<SealingState, EngineError> {
        scope.operator_only("page")?;
        let sealing = self.sealing()?;
        let conflict = |why: String| EngineError::new(ErrorCode::Conflict, why);
        let ring = sealing.read().map_err(conflict)?;
        for known in sealing.in_use().keys() {
            // A key of the same id but other bytes would shut everything.
            if ring.keys().iter().any(|key| key.id() == known.id() && key != known) {
                return Err(conflict(format!(
                    "the key {} differs from the one in use",
                    known.id()
                )));
            }
        }
        for (id, secrets) in self.store().sealing_keys().await? {
            if !ring.keys().iter().any(|key| key.id() == id) {
                return Err(conflict(format!(
                    "{secrets} secrets are sealed under the key {id}, which is not in the key file"
                )));
            }
        }
        let active = ring.active().id();
        let was_active = sealing.in_use().active().id();
        sealing.replace(ring);
        let resealed = self.reseal().await?;
        if active != was_active || resealed > 0 {
            let note = AuditNote {
                at: self.clock().now(),
                actor: scope.actor(),
                action: AuditAction::SealingKeyActivated,
                account: None,
                subject: active.to_string(),
                details: format!(r#"{{"previous":"{was_active}","resealed":{resealed}}}"#),
            };
            self.store().note(vec![note]).await?;
        }
        self.sealing_state(sealing, resealed).await
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

    /// Seals again at the start, for whoever changed the ring while nothing ran.
    pub(crate) async fn reseal_at_start(&self) -> Result<(), EngineError> {
        let Some(sealing) = self.sealing_if_any() else { return Ok(()) };
        let resealed = self.reseal().await?;
        if resealed > 0 {
            let active = sealing.in_use().active().id();
            tracing::info!(secrets = resealed, key = %active, "sealed again under the active key");
            let note = AuditNote {
                at: self.clock().now(),
                actor: Actor::System,
                action: AuditAction::SealingKeyActivated,
                account: None,
                subject: active.to_string(),
                details: format!(r#"{{"resealed":{resealed}}}"#),
            };
            self.store().note(vec![note]).await?;
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
