//! Replays.

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EndpointId, ReplayId};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplaySelection};
use domain::time::Timestamp;
use store::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

use crate::{Answer, SqliteStore};

#[async_trait]
impl Replays for SqliteStore {
    async fn create_replay(&self, _replay: Replay, _note: AuditNote) -> Answer<ReplayCreated> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn read_replay(&self, _id: ReplayId) -> Answer<Option<Replay>> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn list_replays(
        &self,
        _account: Option<AccountId>,
        _endpoint: Option<EndpointId>,
        _page: PageRequest,
    ) -> Answer<Page<Replay>> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn running_replays(
        &self,
        _after: Option<ReplayId>,
        _limit: usize,
    ) -> Answer<Vec<Replay>> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn step_replay(
        &self,
        _id: ReplayId,
        _deliveries: Vec<DeliveryId>,
        _rows_max: usize,
        _now: Timestamp,
    ) -> Answer<Option<ReplayStep>> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn cancel_replay(&self, _id: ReplayId, _note: AuditNote) -> Answer<Option<Replay>> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }

    async fn count_replay(
        &self,
        _account: AccountId,
        _endpoint: EndpointId,
        _selection: ReplaySelection,
        _rows_max: usize,
    ) -> Answer<ReplayCount> {
        Err(store::StoreError::Unavailable("not there yet".to_owned()))
    }
}
