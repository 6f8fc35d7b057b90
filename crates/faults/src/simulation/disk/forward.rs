//! Every method of the port, in the words of the port, on its slow way.

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
use store::StoreError;
use store::audit::{Audit, AuditFilter};
use store::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, EventTypePut, KeyRecord, Roster,
    SecretRotated,
};
use store::history::{
    Counts, DeliveryFilter, EventDetail, EventFilter, EventWithData, Followed, History,
};
use store::queue::{
    Accepted, Added, AttemptRecord, Cancelled, Cleaned, Extended, GivenBack, LaneClaim, LaneRoom,
    Lease, NewDelivery, NewEvent, Queue, Recorded, SessionId, WaitingLane,
};
use store::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

use super::Disk;

/// Hands calls on to the store, or to a method here that notes what they did.
macro_rules! on_the_slow_way {
    ($port:ident { $($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty $(=> $noted:ident)?;)* }) => {
        #[async_trait]
        impl $port for Disk {
            $(async fn $name(&self, $($argument: $kind),*) -> Result<$answer, StoreError> {
                self.slowly(on_the_slow_way!(@ self, $name($($argument),*) $($noted)?)).await
            })*
        }
    };
    (@ $disk:ident, $name:ident($($argument:ident),*)) => { $disk.store.$name($($argument),*) };
    (@ $disk:ident, $name:ident($($argument:ident),*) $noted:ident) => { $disk.$noted($($argument),*) };
}

on_the_slow_way!(Catalogue {
    read_or_create_pepper(candidate: [u8; 32]) -> [u8; 32];
    create_account(account: Account, first_key: KeyRecord, note: AuditNote) -> AccountCreated;
    read_account(id: AccountId) -> Option<Account>;
    find_account(username: &str) -> Option<AccountId>;
    list_accounts(page: PageRequest) -> Page<Account>;
    change_account(id: AccountId, change: AccountChange, note: AuditNote) -> Option<Account>;
    delete_account(id: AccountId, note: AuditNote) -> bool;
    read_roster(id: AccountId) -> Option<Roster>;
    create_key(key: KeyRecord, note: AuditNote) -> bool;
    find_key(public_part: &str) -> Option<KeyRecord>;
    list_keys(account: Option<AccountId>, page: PageRequest) -> Page<KeyRecord>;
    delete_key(account: Option<AccountId>, id: KeyId, note: AuditNote) -> Option<String>;
    note_key_uses(uses: Vec<(KeyId, Timestamp)>) -> ();
    create_endpoint(endpoint: Endpoint, endpoints_max: usize, note: AuditNote) -> EndpointCreated;
    find_endpoint(id: EndpointId) -> Option<Endpoint>;
    list_endpoints(account: AccountId, page: PageRequest) -> Page<Endpoint>;
    change_endpoint(account: AccountId, id: EndpointId, expected: Option<u64>, change: EndpointChange, note: AuditNote) -> Option<Endpoint>;
    delete_endpoint(account: AccountId, id: EndpointId, history: DeletedHistory, note: AuditNote) -> bool;
    rotate_secret(account: AccountId, id: EndpointId, new: SigningSecret, overlap: Duration, note: AuditNote) -> SecretRotated;
    sealing_keys() -> Vec<(SealingKeyId, u64)>;
    reseal(rows_max: usize) -> usize;
    find_operations_account() -> Option<AccountId>;
    create_operations_account(account: Account, note: AuditNote) -> AccountCreated;
    put_event_type(registered: RegisteredType, note: AuditNote) -> EventTypePut;
    list_event_types(contract: Contract) -> Vec<RegisteredType>;
    delete_event_type(contract: Contract, name: &EventType, note: AuditNote) -> bool;
    read_streaks(after: Option<EndpointId>, limit: usize) -> Vec<(EndpointId, Streak)>;
    write_streaks(streaks: Vec<(EndpointId, Option<Streak>)>) -> ();
});

on_the_slow_way!(Queue {
    begin_session(until: Timestamp) -> SessionId;
    extend_session(session: SessionId, until: Timestamp) -> Extended => extend_noted;
    release_expired(now: Timestamp) -> usize => release_noted;
    accept(session: SessionId, events: Vec<NewEvent>) -> Vec<Accepted> => accept_noted;
    add_delivery(session: SessionId, account: AccountId, event: EventId, delivery: NewDelivery, note: AuditNote) -> Added => add_noted;
    claim_due(session: SessionId, now: Timestamp, lanes: Vec<LaneRoom>) -> Vec<LaneClaim> => claim_noted;
    give_back(leases: Vec<Lease>, why: GivenBack) -> Vec<Recorded>;
    begin_trial(lease: Lease) -> Recorded => trial_noted;
    set_aside(leases: Vec<Lease>, at: Timestamp) -> Vec<Recorded>;
    record(attempts: Vec<AttemptRecord>) -> Vec<Recorded> => record_noted;
    waiting_lanes(after: Option<EndpointId>, limit: usize) -> Vec<WaitingLane>;
    cancel_event(account: AccountId, event: EventId, note: AuditNote) -> Cancelled;
    cancel_delivery(account: AccountId, delivery: DeliveryId, note: AuditNote) -> Cancelled;
    erase_event(account: AccountId, event: EventId, note: AuditNote) -> Cancelled;
    clean(now: Timestamp, retention: &Retention, rows_max: usize) -> Cleaned;
    close() -> ();
});

on_the_slow_way!(History {
    list_events(filter: EventFilter, page: PageRequest) -> Page<EventWithData>;
    follow_events(account: AccountId, after: Option<EventId>, before: EventId, undelivered: bool, limit: usize) -> Followed;
    read_event(id: EventId) -> Option<EventDetail>;
    list_deliveries(filter: DeliveryFilter, page: PageRequest) -> Page<Delivery>;
    read_delivery(id: DeliveryId) -> Option<Delivery>;
    list_attempts(delivery: DeliveryId) -> Vec<Attempt>;
    counts() -> Counts;
    check() -> ();
});

on_the_slow_way!(Audit {
    note(notes: Vec<AuditNote>) -> ();
    list_audit(filter: AuditFilter, page: PageRequest) -> Page<AuditEntry>;
    read_audit(after: u64, limit: usize) -> Vec<AuditEntry>;
    read_announced() -> u64;
    note_announced(number: u64) -> ();
});

on_the_slow_way!(Replays {
    create_replay(replay: Replay, note: AuditNote) -> ReplayCreated;
    read_replay(id: ReplayId) -> Option<Replay>;
    list_replays(account: Option<AccountId>, endpoint: Option<EndpointId>, page: PageRequest) -> Page<Replay>;
    running_replays(after: Option<ReplayId>, limit: usize) -> Vec<Replay>;
    step_replay(id: ReplayId, deliveries: Vec<DeliveryId>, rows_max: usize, now: Timestamp) -> Option<ReplayStep>;
    cancel_replay(id: ReplayId, note: AuditNote) -> Option<Replay>;
    count_replay(account: AccountId, endpoint: EndpointId, selection: ReplaySelection, rows_max: usize) -> ReplayCount;
});
