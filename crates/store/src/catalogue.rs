//! Accounts, keys and endpoints: created, read, changed, deleted.
//!
//! Whatever takes a note writes it into the audit log in the same step, if it changes anything.

use std::time::Duration;

use async_trait::async_trait;
use domain::account::{Account, AccountChange};
use domain::audit::AuditNote;
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::endpoint::{Endpoint, EndpointChange, StillOverlapping};
use domain::event::EventType;
use domain::health::Streak;
use domain::id::{AccountId, EndpointId, KeyId};
use domain::page::{Page, PageRequest};
use domain::sealing::SealingKeyId;
use domain::secret::SigningSecret;
use domain::time::Timestamp;

use crate::StoreError;

/// An account and its endpoints as they stood at one version.
///
/// The version grows with every change of the account or of one of its endpoints; an event that
/// was matched against an older roster is not accepted ([`crate::queue::Accepted::RosterChanged`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The account.
    pub account: Account,
    /// The version.
    pub version: u64,
    /// Its endpoints, oldest first, disabled ones included.
    pub endpoints: Vec<Endpoint>,
}

/// A key as it is stored: never the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Its id.
    pub id: KeyId,
    /// The account it opens; `None` for an operator key.
    pub account: Option<AccountId>,
    /// The part of the key that names it, unique in the installation.
    pub public_part: String,
    /// The keyed hash of the whole key.
    pub hash: [u8; 32],
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it was last used, give or take a minute.
    pub last_used_at: Option<Timestamp>,
}

/// What came of creating an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountCreated {
    /// It exists now, and so does its first key.
    Created,
    /// Another account has the username.
    UsernameTaken,
}

/// What came of creating an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointCreated {
    /// It exists now.
    Created,
    /// The account has as many as it may.
    LimitReached,
    /// There is no such account.
    NoAccount,
}

/// What came of giving an endpoint a new secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRotated {
    /// It has it; the endpoint as it is now.
    Rotated(Box<Endpoint>),
    /// The secret before the present one still signs.
    StillOverlapping(StillOverlapping),
    /// There is no such endpoint.
    NoEndpoint,
}

/// What came of registering an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTypePut {
    /// It was new.
    Created,
    /// It was there and is changed.
    Changed,
    /// It is new, and there are as many as there may be.
    LimitReached,
}

/// What becomes of the deliveries of a deleted endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedHistory {
    /// Ended ones stay to be read; pending ones are cancelled.
    Keep,
    /// All are removed with their attempts (KonPro v1: "history will be permanently removed").
    Remove,
}

/// Accounts, keys and endpoints.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// The installation's pepper for key hashes; `candidate` becomes it if there is none yet.
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32], StoreError>;

    /// Creates an account with its first key, or neither.
    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError>;

    /// The account, if there is one.
    async fn read_account(&self, id: AccountId) -> Result<Option<Account>, StoreError>;

    /// The id of the account with that username.
    async fn find_account(&self, username: &str) -> Result<Option<AccountId>, StoreError>;

    /// Accounts, newest first.
    async fn list_accounts(&self, page: PageRequest) -> Result<Page<Account>, StoreError>;

    /// Changes an account and answers it as it is then; `None` if there is none.
    async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
        note: AuditNote,
    ) -> Result<Option<Account>, StoreError>;

    /// Deletes an account with its keys and endpoints at once; its events, deliveries, attempts and
    /// replays are out of sight at once and out of storage as [`crate::Queue::clean`] goes along. Pending
    /// and leased deliveries count as cancelled at once. `false` if there is none.
    async fn delete_account(&self, id: AccountId, note: AuditNote) -> Result<bool, StoreError>;

    /// The account with its endpoints at its current version.
    async fn read_roster(&self, id: AccountId) -> Result<Option<Roster>, StoreError>;

    /// Stores a key. `false` if its account does not exist.
    async fn create_key(&self, key: KeyRecord, note: AuditNote) -> Result<bool, StoreError>;

    /// The key with that public part.
    async fn find_key(&self, public_part: &str) -> Result<Option<KeyRecord>, StoreError>;

    /// Keys of the account (of the operator for `None`), newest first.
    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, StoreError>;

    /// Deletes a key of the account; it opens nothing any more once this answers. `None` if there
    /// is no such key; otherwise its public part.
    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
        note: AuditNote,
    ) -> Result<Option<String>, StoreError>;

    /// Notes when keys were last used; unknown keys are passed over.
    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError>;

    /// Creates an endpoint unless its account already has `endpoints_max` of them; counted and
    /// created in one step, so that any number of calls at once leaves exactly that many.
    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
        note: AuditNote,
    ) -> Result<EndpointCreated, StoreError>;

    /// The endpoint, whoever's it is.
    async fn find_endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError>;

    /// Endpoints of the account, newest first.
    async fn list_endpoints(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, StoreError>;

    /// Changes an endpoint of the account and answers it as it is then; `None` if there is none, or
    /// if the account's roster is not at the `expected` version any more, if one is given: then what
    /// the change was decided on may have changed, and nothing does.
    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        expected: Option<u64>,
        change: EndpointChange,
        note: AuditNote,
    ) -> Result<Option<Endpoint>, StoreError>;

    /// Deletes an endpoint of the account: it gets no delivery any more, its pending and leased
    /// deliveries count as cancelled (`endpoint_deleted`) at once, and `history` says what becomes
    /// of the ended ones. Rows beyond a bounded first step are settled by [`crate::Queue::clean`],
    /// but every reader sees the final state at once. `false` if there is none.
    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        note: AuditNote,
    ) -> Result<bool, StoreError>;

    /// Gives an endpoint of the account a new secret, as [`Endpoint::rotate_secret`] says, at the
    /// note's instant.
    async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        new: SigningSecret,
        overlap: Duration,
        note: AuditNote,
    ) -> Result<SecretRotated, StoreError>;

    /// How many secrets are sealed under which master key, for keys that seal any. Empty for a
    /// store that seals nothing.
    async fn sealing_keys(&self) -> Result<Vec<(SealingKeyId, u64)>, StoreError>;

    /// One small step of sealing again, under the master ring's active key, what is sealed under
    /// another; at most `rows_max` rows. A step that finds data keys under another master key also
    /// takes a new data key into use. Answers how many rows it sealed: 0 when nothing is left.
    async fn reseal(&self, rows_max: usize) -> Result<usize, StoreError>;

    /// The account that gets operational events, if there is one.
    async fn find_operations_account(&self) -> Result<Option<AccountId>, StoreError>;

    /// Creates the account that gets operational events, without a key. If there is one already,
    /// nothing changes, and the answer is [`AccountCreated::UsernameTaken`], whatever the usernames.
    /// Deleting it is deleting an account; then there is none.
    async fn create_operations_account(
        &self,
        account: Account,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError>;

    /// Registers an event type, or changes the one of that name (its `created_at` stays), also when
    /// there are already as many as there may be.
    async fn put_event_type(
        &self,
        registered: RegisteredType,
        note: AuditNote,
    ) -> Result<EventTypePut, StoreError>;

    /// The registered event types of a contract in the order of their names; bounded by
    /// [`domain::limits::EVENT_TYPES_PER_CONTRACT_MAX`].
    async fn list_event_types(&self, contract: Contract)
    -> Result<Vec<RegisteredType>, StoreError>;

    /// Takes a registered event type out. `false` if there is none of that name.
    async fn delete_event_type(
        &self,
        contract: Contract,
        name: &EventType,
        note: AuditNote,
    ) -> Result<bool, StoreError>;

    /// Failure streaks that were written down, in order of their endpoints' ids, beginning after
    /// `after`; at most `limit`.
    async fn read_streaks(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<(EndpointId, Streak)>, StoreError>;

    /// Writes down how endpoints stand; `None` takes a streak out. Endpoints that are gone are
    /// passed over, and a deleted endpoint's streak goes with it.
    async fn write_streaks(
        &self,
        streaks: Vec<(EndpointId, Option<Streak>)>,
    ) -> Result<(), StoreError>;
}
