//! Every method of the port, as a call that may be struck.

use std::time::Duration;

use async_trait::async_trait;
use domain::account::{Account, AccountChange};
use domain::attempt::Attempt;
use domain::audit::{AuditEntry, AuditNote};
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::delivery::Delivery;
use domain::endpoint::{Endpoint, EndpointChange};
use domain::event::EventType;
use domain::health::Streak;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId, ReplayId};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplaySelection};
use domain::retention::Retention;
use domain::sealing::SealingKeyId;
use domain::secret::SigningSecret;
use domain::time::Timestamp;

use super::{FaultStore, Method};
use crate::StoreError;
use crate::audit::{Audit, AuditFilter};
use crate::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, EventTypePut, KeyRecord, Roster,
    SecretRotated,
};
use crate::history::{
    Counts, DeliveryFilter, EventDetail, EventFilter, EventWithData, Followed, History,
};
use crate::queue::{
    Accepted, Added, AttemptRecord, Cancelled, Cleaned, Extended, GivenBack, LaneClaim, LaneRoom,
    Lease, NewDelivery, NewEvent, Queue, Recorded, SessionId, WaitingLane,
};

use crate::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

#[async_trait]
impl Catalogue for FaultStore {
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.call(Method::ReadOrCreatePepper, self.store.read_or_create_pepper(candidate)).await
    }

    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError> {
        self.call(Method::CreateAccount, self.store.create_account(account, first_key, note)).await
    }

    async fn read_account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.call(Method::ReadAccount, self.store.read_account(id)).await
    }

    async fn find_account(&self, username: &str) -> Result<Option<AccountId>, StoreError> {
        self.call(Method::FindAccount, self.store.find_account(username)).await
    }

    async fn list_accounts(&self, page: PageRequest) -> Result<Page<Account>, StoreError> {
        self.call(Method::ListAccounts, self.store.list_accounts(page)).await
    }

    async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
        note: AuditNote,
    ) -> Result<Option<Account>, StoreError> {
        self.call(Method::ChangeAccount, self.store.change_account(id, change, note)).await
    }

    async fn delete_account(&self, id: AccountId, note: AuditNote) -> Result<bool, StoreError> {
        self.call(Method::DeleteAccount, self.store.delete_account(id, note)).await
    }

    async fn read_roster(&self, id: AccountId) -> Result<Option<Roster>, StoreError> {
        self.call(Method::ReadRoster, self.store.read_roster(id)).await
    }

    async fn create_key(&self, key: KeyRecord, note: AuditNote) -> Result<bool, StoreError> {
        self.call(Method::CreateKey, self.store.create_key(key, note)).await
    }

    async fn find_key(&self, public_part: &str) -> Result<Option<KeyRecord>, StoreError> {
        self.call(Method::FindKey, self.store.find_key(public_part)).await
    }

    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, StoreError> {
        self.call(Method::ListKeys, self.store.list_keys(account, page)).await
    }

    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
        note: AuditNote,
    ) -> Result<Option<String>, StoreError> {
        self.call(Method::DeleteKey, self.store.delete_key(account, id, note)).await
    }

    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        self.call(Method::NoteKeyUses, self.store.note_key_uses(uses)).await
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
        note: AuditNote,
    ) -> Result<EndpointCreated, StoreError> {
        self.call(Method::CreateEndpoint, self.store.create_endpoint(endpoint, endpoints_max, note))
            .await
    }

    async fn find_endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        self.call(Method::FindEndpoint, self.store.find_endpoint(id)).await
    }

    async fn list_endpoints(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, StoreError> {
        self.call(Method::ListEndpoints, self.store.list_endpoints(account, page)).await
    }

    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        expected: Option<u64>,
        change: EndpointChange,
        note: AuditNote,
    ) -> Result<Option<Endpoint>, StoreError> {
        let work = self.store.change_endpoint(account, id, expected, change, note);
        self.call(Method::ChangeEndpoint, work).await
    }

    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        note: AuditNote,
    ) -> Result<bool, StoreError> {
        self.call(Method::DeleteEndpoint, self.store.delete_endpoint(account, id, history, note))
            .await
    }

    async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        new: SigningSecret,
        overlap: Duration,
        note: AuditNote,
    ) -> Result<SecretRotated, StoreError> {
        self.call(Method::RotateSecret, self.store.rotate_secret(account, id, new, overlap, note))
            .await
    }

    async fn sealing_keys(&self) -> Result<Vec<(SealingKeyId, u64)>, StoreError> {
        self.call(Method::SealingKeys, self.store.sealing_keys()).await
    }

    async fn reseal(&self, rows_max: usize) -> Result<usize, StoreError> {
        self.call(Method::Reseal, self.store.reseal(rows_max)).await
    }

    async fn find_operations_account(&self) -> Result<Option<AccountId>, StoreError> {
        self.call(Method::FindOperationsAccount, self.store.find_operations_account()).await
    }

    async fn create_operations_account(
        &self,
        account: Account,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError> {
        self.call(
            Method::CreateOperationsAccount,
            self.store.create_operations_account(account, note),
        )
        .await
    }

    async fn put_event_type(
        &self,
        registered: RegisteredType,
        note: AuditNote,
    ) -> Result<EventTypePut, StoreError> {
        self.call(Method::PutEventType, self.store.put_event_type(registered, note)).await
    }

    async fn list_event_types(
        &self,
        contract: Contract,
    ) -> Result<Vec<RegisteredType>, StoreError> {
        self.call(Method::ListEventTypes, self.store.list_event_types(contract)).await
    }

    async fn delete_event_type(
        &self,
        contract: Contract,
        name: &EventType,
        note: AuditNote,
    ) -> Result<bool, StoreError> {
        self.call(Method::DeleteEventType, self.store.delete_event_type(contract, name, note)).await
    }

    async fn read_streaks(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<(EndpointId, Streak)>, StoreError> {
        self.call(Method::ReadStreaks, self.store.read_streaks(after, limit)).await
    }

    async fn write_streaks(
        &self,
        streaks: Vec<(EndpointId, Option<Streak>)>,
    ) -> Result<(), StoreError> {
        self.call(Method::WriteStreaks, self.store.write_streaks(streaks)).await
    }
}

#[async_trait]
impl Queue for FaultStore {
    async fn begin_session(&self, until: Timestamp) -> Result<SessionId, StoreError> {
        self.call(Method::BeginSession, self.store.begin_session(until)).await
    }

    async fn extend_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Extended, StoreError> {
        self.call(Method::ExtendSession, self.store.extend_session(session, until)).await
    }

    async fn release_expired(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.call(Method::ReleaseExpired, self.store.release_expired(now)).await
    }

    async fn accept(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>, StoreError> {
        self.call(Method::Accept, self.store.accept(session, events)).await
    }

    async fn add_delivery(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        note: AuditNote,
    ) -> Result<Added, StoreError> {
        self.call(
            Method::AddDelivery,
            self.store.add_delivery(session, account, event, delivery, note),
        )
        .await
    }

    async fn claim_due(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Result<Vec<LaneClaim>, StoreError> {
        self.call(Method::ClaimDue, self.store.claim_due(session, now, lanes)).await
    }

    async fn give_back(
        &self,
        leases: Vec<Lease>,
        why: GivenBack,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.call(Method::GiveBack, self.store.give_back(leases, why)).await
    }

    async fn begin_trial(&self, lease: Lease) -> Result<Recorded, StoreError> {
        self.call(Method::BeginTrial, self.store.begin_trial(lease)).await
    }

    async fn set_aside(
        &self,
        leases: Vec<Lease>,
        at: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.call(Method::SetAside, self.store.set_aside(leases, at)).await
    }

    async fn record(&self, attempts: Vec<AttemptRecord>) -> Result<Vec<Recorded>, StoreError> {
        self.call(Method::Record, self.store.record(attempts)).await
    }

    async fn waiting_lanes(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<WaitingLane>, StoreError> {
        self.call(Method::WaitingLanes, self.store.waiting_lanes(after, limit)).await
    }

    async fn clean(
        &self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Result<Cleaned, StoreError> {
        self.call(Method::Clean, self.store.clean(now, retention, rows_max)).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.call(Method::Close, self.store.close()).await
    }

    async fn cancel_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        self.call(Method::CancelEvent, self.store.cancel_event(account, event, note)).await
    }

    async fn cancel_delivery(
        &self,
        account: AccountId,
        delivery: DeliveryId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        self.call(Method::CancelDelivery, self.store.cancel_delivery(account, delivery, note)).await
    }

    async fn erase_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        self.call(Method::EraseEvent, self.store.erase_event(account, event, note)).await
    }
}

#[async_trait]
impl History for FaultStore {
    async fn list_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Result<Page<EventWithData>, StoreError> {
        self.call(Method::ListEvents, self.store.list_events(filter, page)).await
    }

    async fn read_event(&self, id: EventId) -> Result<Option<EventDetail>, StoreError> {
        self.call(Method::ReadEvent, self.store.read_event(id)).await
    }

    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Result<Page<Delivery>, StoreError> {
        self.call(Method::ListDeliveries, self.store.list_deliveries(filter, page)).await
    }

    async fn read_delivery(&self, id: DeliveryId) -> Result<Option<Delivery>, StoreError> {
        self.call(Method::ReadDelivery, self.store.read_delivery(id)).await
    }

    async fn list_attempts(&self, delivery: DeliveryId) -> Result<Vec<Attempt>, StoreError> {
        self.call(Method::ListAttempts, self.store.list_attempts(delivery)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Method::Counts, self.store.counts()).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call(Method::Check, self.store.check()).await
    }

    async fn follow_events(
        &self,
        account: AccountId,
        after: Option<EventId>,
        before: EventId,
        undelivered: bool,
        limit: usize,
    ) -> Result<Followed, StoreError> {
        self.call(
            Method::FollowEvents,
            self.store.follow_events(account, after, before, undelivered, limit),
        )
        .await
    }
}

#[async_trait]
impl Audit for FaultStore {
    async fn note(&self, notes: Vec<AuditNote>) -> Result<(), StoreError> {
        self.call(Method::Note, self.store.note(notes)).await
    }

    async fn list_audit(
        &self,
        filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<AuditEntry>, StoreError> {
        self.call(Method::ListAudit, self.store.list_audit(filter, page)).await
    }

    async fn read_audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.call(Method::ReadAudit, self.store.read_audit(after, limit)).await
    }

    async fn read_announced(&self) -> Result<u64, StoreError> {
        self.call(Method::ReadAnnounced, self.store.read_announced()).await
    }

    async fn note_announced(&self, number: u64) -> Result<(), StoreError> {
        self.call(Method::NoteAnnounced, self.store.note_announced(number)).await
    }
}

#[async_trait]
impl Replays for FaultStore {
    async fn create_replay(
        &self,
        replay: Replay,
        note: AuditNote,
    ) -> Result<ReplayCreated, StoreError> {
        self.call(Method::CreateReplay, self.store.create_replay(replay, note)).await
    }

    async fn read_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        self.call(Method::ReadReplay, self.store.read_replay(id)).await
    }

    async fn list_replays(
        &self,
        account: Option<AccountId>,
        endpoint: Option<EndpointId>,
        page: PageRequest,
    ) -> Result<Page<Replay>, StoreError> {
        self.call(Method::ListReplays, self.store.list_replays(account, endpoint, page)).await
    }

    async fn running_replays(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError> {
        self.call(Method::RunningReplays, self.store.running_replays(after, limit)).await
    }

    async fn step_replay(
        &self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Result<Option<ReplayStep>, StoreError> {
        self.call(Method::StepReplay, self.store.step_replay(id, deliveries, rows_max, now)).await
    }

    async fn cancel_replay(
        &self,
        id: ReplayId,
        note: AuditNote,
    ) -> Result<Option<Replay>, StoreError> {
        self.call(Method::CancelReplay, self.store.cancel_replay(id, note)).await
    }

    async fn count_replay(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        selection: ReplaySelection,
        rows_max: usize,
    ) -> Result<ReplayCount, StoreError> {
        self.call(
            Method::CountReplay,
            self.store.count_replay(account, endpoint, selection, rows_max),
        )
        .await
    }
}
