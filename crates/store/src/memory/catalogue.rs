//! Accounts, keys and endpoints in memory.

use std::time::Duration;

use async_trait::async_trait;
use domain::account::{Account, AccountChange, Username};
use domain::audit::AuditNote;
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::endpoint::{Endpoint, EndpointChange};
use domain::event::EventType;
use domain::health::Streak;
use domain::id::{AccountId, EndpointId, KeyId};
use domain::limits::EVENT_TYPES_PER_CONTRACT_MAX;
use domain::page::{Page, PageRequest};
use domain::sealing::SealingKeyId;
use domain::secret::SigningSecret;
use domain::time::Timestamp;

use super::{AccountEntry, MemoryStore, PageBounds, State, page_of};
use crate::StoreError;
use crate::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, EventTypePut, KeyRecord, Roster,
    SecretRotated,
};

impl State {
    fn endpoint_of(&mut self, account: AccountId, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&id).filter(|endpoint| endpoint.account == account)
    }

    fn endpoint_ids(&self, account: AccountId) -> Vec<EndpointId> {
        let owned = self.endpoints.values().filter(|endpoint| endpoint.account == account);
        owned.map(|endpoint| endpoint.id).collect()
    }

    fn has_username(&self, username: &Username) -> bool {
        self.accounts.values().any(|entry| entry.account.username == *username)
    }

    /// The registered event types of a contract, in the order of their names.
    fn event_types_of(&self, contract: Contract) -> impl Iterator<Item = &RegisteredType> {
        self.event_types.values().filter(move |registered| registered.contract == contract)
    }

    /// Takes an endpoint out, with what is known of it alone; nothing is owed to it any more.
    fn remove_endpoint(&mut self, id: EndpointId, at: Timestamp) {
        self.endpoints.remove(&id);
        self.streaks.remove(&id);
        self.cancel_deliveries_to(id, at);
    }
}

#[async_trait]
impl Catalogue for MemoryStore {
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32], StoreError> {
        Ok(*self.change()?.pepper.get_or_insert(candidate))
    }

    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError> {
        let mut state = self.change()?;
        if state.has_username(&account.username) {
            return Ok(AccountCreated::UsernameTaken);
        }
        state.accounts.insert(account.id, AccountEntry { account, version: 1 });
        state.keys.insert(first_key.id, first_key);
        state.write_down(note);
        Ok(AccountCreated::Created)
    }

    async fn read_account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.look().accounts.get(&id).map(|entry| entry.account.clone()))
    }

    async fn find_account(&self, username: &str) -> Result<Option<AccountId>, StoreError> {
        let state = self.look();
        let mut accounts = state.accounts.values().map(|entry| &entry.account);
        let found = accounts.find(|account| account.username.as_str() == username);
        Ok(found.map(|account| account.id))
    }

    async fn list_accounts(&self, page: PageRequest) -> Result<Page<Account>, StoreError> {
        let pick = |entry: &AccountEntry| Some((entry.account.clone(), 0));
        let accounts = &self.look().accounts;
        Ok(page_of(accounts, page, AccountId::as_u128, PageBounds::NONE, pick))
    }

    async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
        note: AuditNote,
    ) -> Result<Option<Account>, StoreError> {
        let mut state = self.change()?;
        let Some(entry) = state.accounts.get_mut(&id) else { return Ok(None) };
        change.apply(&mut entry.account);
        let changed = entry.account.clone();
        state.bump_roster(id);
        state.write_down(note);
        Ok(Some(changed))
    }

    async fn delete_account(&self, id: AccountId, note: AuditNote) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if state.accounts.remove(&id).is_none() {
            return Ok(false);
        }
        state.keys.retain(|_, key| key.account != Some(id));
        for endpoint in state.endpoint_ids(id) {
            state.remove_endpoint(endpoint, note.at);
        }
        state.replays.retain(|_, replay| replay.account != id);
        state.operations = state.operations.filter(|operations| *operations != id);
        state.events.retain(|_, entry| entry.event.account != id);
        state.deliveries.retain(|_, entry| entry.delivery.account != id);
        state.idempotency.retain(|(account, _), _| *account != id);
        state.write_down(note);
        Ok(true)
    }

    async fn read_roster(&self, id: AccountId) -> Result<Option<Roster>, StoreError> {
        let state = self.look();
        let endpoints = state.endpoints.values().filter(|endpoint| endpoint.account == id);
        Ok(state.accounts.get(&id).map(|entry| Roster {
            account: entry.account.clone(),
            version: entry.version,
            endpoints: endpoints.cloned().collect(),
        }))
    }

    async fn create_key(&self, key: KeyRecord, note: AuditNote) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if key.account.is_some_and(|account| !state.accounts.contains_key(&account)) {
            return Ok(false);
        }
        state.keys.insert(key.id, key);
        state.write_down(note);
        Ok(true)
    }

    async fn find_key(&self, public_part: &str) -> Result<Option<KeyRecord>, StoreError> {
        let state = self.look();
        Ok(state.keys.values().find(|key| key.public_part == public_part).cloned())
    }

    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, StoreError> {
        let pick = |key: &KeyRecord| (key.account == account).then(|| (key.clone(), 0));
        Ok(page_of(&self.look().keys, page, KeyId::as_u128, PageBounds::NONE, pick))
    }

    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
        note: AuditNote,
    ) -> Result<Option<String>, StoreError> {
        let mut state = self.change()?;
        if state.keys.get(&id).is_none_or(|key| key.account != account) {
            return Ok(None);
        }
        state.write_down(note);
        Ok(state.keys.remove(&id).map(|key| key.public_part))
    }

    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        let mut state = self.change()?;
        for (id, used_at) in uses {
            if let Some(key) = state.keys.get_mut(&id) {
                key.last_used_at = Some(used_at);
            }
        }
        Ok(())
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
        note: AuditNote,
    ) -> Result<EndpointCreated, StoreError> {
        let mut state = self.change()?;
        let account = endpoint.account;
        if !state.accounts.contains_key(&account) {
            return Ok(EndpointCreated::NoAccount);
        }
        if state.endpoint_ids(account).len() >= endpoints_max {
            return Ok(EndpointCreated::LimitReached);
        }
        state.endpoints.insert(endpoint.id, endpoint);
        state.bump_roster(account);
        state.write_down(note);
        Ok(EndpointCreated::Created)
    }

    async fn find_endpoint(&self, id: EndpointId) -> Result<Option<Endpoint>, StoreError> {
        Ok(self.look().endpoints.get(&id).cloned())
    }

    async fn list_endpoints(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Result<Page<Endpoint>, StoreError> {
        let pick = |it: &Endpoint| (it.account == account).then(|| (it.clone(), 0));
        Ok(page_of(&self.look().endpoints, page, EndpointId::as_u128, PageBounds::NONE, pick))
    }

    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        expected: Option<u64>,
        change: EndpointChange,
        note: AuditNote,
    ) -> Result<Option<Endpoint>, StoreError> {
        let mut state = self.change()?;
        let version = state.accounts.get(&account).map(|entry| entry.version);
        if expected.is_some() && expected != version {
            return Ok(None);
        }
        let Some(endpoint) = state.endpoint_of(account, id) else { return Ok(None) };
        change.apply(endpoint, note.at);
        let changed = endpoint.clone();
        state.bump_roster(account);
        state.write_down(note);
        Ok(Some(changed))
    }

    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        note: AuditNote,
    ) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if state.endpoint_of(account, id).is_none() {
            return Ok(false);
        }
        state.remove_endpoint(id, note.at);
        if history == DeletedHistory::Remove {
            state.deliveries.retain(|_, entry| entry.delivery.endpoint != id);
        }
        state.bump_roster(account);
        state.write_down(note);
        Ok(true)
    }

    async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        new: SigningSecret,
        overlap: Duration,
        note: AuditNote,
    ) -> Result<SecretRotated, StoreError> {
        let mut state = self.change()?;
        let Some(endpoint) = state.endpoint_of(account, id) else {
            return Ok(SecretRotated::NoEndpoint);
        };
        if let Err(still) = endpoint.rotate_secret(new, overlap, note.at) {
            return Ok(SecretRotated::StillOverlapping(still));
        }
        let rotated = Box::new(endpoint.clone());
        state.bump_roster(account);
        state.write_down(note);
        Ok(SecretRotated::Rotated(rotated))
    }

    async fn sealing_keys(&self) -> Result<Vec<(SealingKeyId, u64)>, StoreError> {
        Ok(Vec::new())
    }

    async fn reseal(&self, _rows_max: usize) -> Result<usize, StoreError> {
        self.change().map(|_| 0)
    }

    async fn find_operations_account(&self) -> Result<Option<AccountId>, StoreError> {
        Ok(self.look().operations)
    }

    async fn create_operations_account(
        &self,
        account: Account,
        note: AuditNote,
    ) -> Result<AccountCreated, StoreError> {
        let mut state = self.change()?;
        if state.operations.is_some() || state.has_username(&account.username) {
            return Ok(AccountCreated::UsernameTaken);
        }
        state.operations = Some(account.id);
        state.accounts.insert(account.id, AccountEntry { account, version: 1 });
        state.write_down(note);
        Ok(AccountCreated::Created)
    }

    async fn put_event_type(
        &self,
        registered: RegisteredType,
        note: AuditNote,
    ) -> Result<EventTypePut, StoreError> {
        let mut state = self.change()?;
        let place = (registered.contract, registered.name.clone());
        let put = if let Some(present) = state.event_types.get_mut(&place) {
            *present = RegisteredType { created_at: present.created_at, ..registered };
            EventTypePut::Changed
        } else if state.event_types_of(registered.contract).count() >= EVENT_TYPES_PER_CONTRACT_MAX
        {
            return Ok(EventTypePut::LimitReached);
        } else {
            state.event_types.insert(place, registered);
            EventTypePut::Created
        };
        state.write_down(note);
        Ok(put)
    }

    async fn list_event_types(
        &self,
        contract: Contract,
    ) -> Result<Vec<RegisteredType>, StoreError> {
        Ok(self.look().event_types_of(contract).cloned().collect())
    }

    async fn delete_event_type(
        &self,
        contract: Contract,
        name: &EventType,
        note: AuditNote,
    ) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if state.event_types.remove(&(contract, name.clone())).is_none() {
            return Ok(false);
        }
        state.write_down(note);
        Ok(true)
    }

    async fn read_streaks(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<(EndpointId, Streak)>, StoreError> {
        let state = self.look();
        let beyond = state.streaks.iter().filter(|(id, _)| after.is_none_or(|after| **id > after));
        Ok(beyond.take(limit).map(|(id, streak)| (*id, *streak)).collect())
    }

    async fn write_streaks(
        &self,
        streaks: Vec<(EndpointId, Option<Streak>)>,
    ) -> Result<(), StoreError> {
        let mut state = self.change()?;
        for (endpoint, streak) in streaks {
            match streak.filter(|_| state.endpoints.contains_key(&endpoint)) {
                Some(streak) => state.streaks.insert(endpoint, streak),
                None => state.streaks.remove(&endpoint),
            };
        }
        Ok(())
    }
}
