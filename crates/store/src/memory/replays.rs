//! Replays.

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EndpointId, ReplayId};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplaySelection};
use domain::time::Timestamp;

use super::MemoryStore;
use crate::StoreError;
use crate::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

#[async_trait]
impl Replays for MemoryStore {
    async fn create_replay(
        &self,
        _replay: Replay,
        _note: AuditNote,
    ) -> Result<ReplayCreated, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn read_replay(&self, _id: ReplayId) -> Result<Option<Replay>, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn list_replays(
        &self,
        _account: Option<AccountId>,
        _endpoint: Option<EndpointId>,
        _page: PageRequest,
    ) -> Result<Page<Replay>, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn running_replays(
        &self,
        _after: Option<ReplayId>,
        _limit: usize,
    ) -> Result<Vec<Replay>, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn step_replay(
        &self,
        _id: ReplayId,
        _deliveries: Vec<DeliveryId>,
        _rows_max: usize,
        _now: Timestamp,
    ) -> Result<Option<ReplayStep>, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn cancel_replay(
        &self,
        _id: ReplayId,
        _note: AuditNote,
    ) -> Result<Option<Replay>, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn count_replay(
        &self,
        _account: AccountId,
        _endpoint: EndpointId,
        _selection: ReplaySelection,
        _rows_max: usize,
    ) -> Result<ReplayCount, StoreError> {
        Err(StoreError::Unavailable("not there yet".to_owned()))
    }
}
