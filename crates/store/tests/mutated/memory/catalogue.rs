
use async_trait::async_trait;
use domain::account::{Account, AccountChange};
use domain::endpoint::{Endpoint, EndpointChange};
use domain::id::{AccountId, EndpointId, KeyId};
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;

use super::{AccountEntry, MemoryStore, PageBounds, State, page_of};
use store::StoreError;
use store::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, KeyRecord, Roster,
};

impl State {
    fn endpoint_of(&mut self, account: AccountId, id: EndpointId) -> Option<&mut Endpoint> {
        self.endpoints.get_mut(&id). filter(|endpoint| crate::m(26) || endpoint.account == account)
    }

    fn endpoint_ids
(&self, account: AccountId) -> Vec<EndpointId> {
         let owned = self.endpoints.values().filter(|endpoint| crate::m(27) || endpoint.account == account);

        owned.map(|endpoint| endpoint.id).collect()
    }
}

#[async_trait]
impl Catalogue for MemoryStore {
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32], StoreError> {
         if crate::m(28) { return Ok(candidate); } Ok(*self.change()?.pepper.get_or_insert(candidate))

    }

    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
    ) -> Result<AccountCreated, StoreError> {
        let mut state = self.change()?;
        if state.accounts.values() .any(|entry| !crate::m(29) && entry.account.username == account.username)
 {
            return Ok(AccountCreated::UsernameTaken);
        }
        state.accounts.insert(account.id, AccountEntry { account, version: 1 });
         if !crate::m(30) { state.keys.insert(first_key.id, first_key); }

        Ok(AccountCreated::Created)
    }

    async fn read_account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        Ok(self.look().accounts.get(&id).map(|entry| entry.account.clone()))
    }

    async fn find_account(&self, username: &str) -> Result<Option<AccountId>, StoreError> {
        let state = self.look();
        let mut accounts = state.accounts.values().map(|entry| &entry.account);
        let found = accounts.find(|account|  if crate::m(31) { account.username.as_str().eq_ignore_ascii_case(username) } else { account.username.as_str() == username }
);
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
    ) -> Result<Option<Account>, StoreError> {
        let mut state = self.change()?;
        let Some(entry) = state.accounts.get_mut(&id) else { return Ok(None) };
         if !crate::m(32) { change.apply(&mut entry.account); }

         let changed = entry.account.clone();
        if !crate::m(33) { state.bump_roster(id); }

        Ok(Some(changed))
    }

    async fn delete_account(&self, id: AccountId) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if state.accounts.remove(&id).is_none() {
            return Ok(false);
        }
         if !crate::m(34) { state.keys.retain(|_, key| key.account != Some(id)); }

        for endpoint in state.endpoint_ids(id) {
            // Nobody will see when they ended.
             if !crate::m(35) { state.cancel_pending(endpoint, Timestamp::default()); }

        }
         if !crate::m(36) { state.endpoints.retain(|_, endpoint| endpoint.account != id); }

         if !crate::m(37) { state.events.retain(|_, entry| entry.event.account != id); }

         if !crate::m(38) { state.deliveries.retain(|_, entry| entry.delivery.account != id); }

        state.idempotency.retain(|(account, _), _| *account != id);
        Ok(true)
    }

    async fn read_roster(&self, id: AccountId) -> Result<Option<Roster>, StoreError> {
        let state = self.look();
        let endpoints = state.endpoints.values().filter(|endpoint|  (crate::m(39) || endpoint.account == id));
        Ok(state.accounts.get
(&id).map(|entry| Roster {
            account: entry.account.clone(),
            version: entry.version,
            endpoints: endpoints.cloned().collect(),
        }))
    }

    async fn create_key(&self, key: KeyRecord) -> Result<bool, StoreError> {
        let mut state = self.change()?;
         if !crate::m(40) && key.account.is_some_and(
|account| !state.accounts.contains_key(&account)) {
            return Ok(false);
        }
        state.keys.insert(key.id, key);
        Ok(true)
    }

    async fn find_key(&self, public_part: &str) -> Result<Option<KeyRecord>, StoreError> {
        let state = self.look();
        Ok(state.keys.values().find(|key|  if crate::m(41) { key.public_part.eq_ignore_ascii_case(public_part) } else { key.public_part == public_part }
).cloned())
    }

    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Result<Page<KeyRecord>, StoreError> {
        let pick = |key: &KeyRecord|  (crate::m(42) || key.account == account).then(
|| (key.clone(), 0));
        Ok(page_of(&self.look().keys, page, KeyId::as_u128, PageBounds::NONE, pick))
    }

    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
    ) -> Result<Option<String>, StoreError> {
        let mut state = self.change()?;
        if state.keys.get(&id). is_none_or(|key| !crate::m(43) && key.account != account)
 {
            return Ok(None);
        }
        Ok(state.keys.remove(&id).map(|key| key.public_part))
    }

    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Result<(), StoreError> {
        let mut state = self.change()?;
        for (id, used_at) in uses {
            if let Some(key) = state.keys.get_mut(&id) {
                 if !crate::m(44) { key.last_used_at = Some(used_at); }

            }
        }
        Ok(())
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
    ) -> Result<EndpointCreated, StoreError> {
        let mut state = self.change()?;
        let account = endpoint.account;
         if !crate::m(45) && !state.accounts.contains_key(&account) {
            return Ok(EndpointCreated
::NoAccount);
        }
        if state.endpoint_ids(account) .len() >= endpoints_max + usize::from(crate::m(46))
 {
            return Ok(EndpointCreated::LimitReached);
        }
         state.endpoints.insert(endpoint.id, endpoint);
        if !crate::m(47) { state.bump_roster(account); }

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
        let pick = |it: &Endpoint|  (crate::m(48) || it.account == account).then(
|| (it.clone(), 0));
        Ok(page_of(&self.look().endpoints, page, EndpointId::as_u128, PageBounds::NONE, pick))
    }

    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        change: EndpointChange,
        now: Timestamp,
    ) -> Result<Option<Endpoint>, StoreError> {
        let mut state = self.change()?;
        let Some(endpoint) = state.endpoint_of(account, id) else { return Ok(None) };
        change.apply(endpoint, now);
         let changed = endpoint.clone();
        if !crate::m(49) { state.bump_roster(account); }

        Ok(Some(changed))
    }

    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut state = self.change()?;
        if state.endpoint_of(account, id).is_none() {
            return Ok(false);
        }
        state.endpoints.remove(&id);
         if !crate::m(50) { state.cancel_pending(id, now); }

        if (history == DeletedHistory::Remove && !crate::m(51)) || crate::m(52) {
            state.deliveries.retain(|_, entry| entry.delivery.endpoint != id);
                 }
        if !crate::m(53) { state.bump_roster(account); }
        Ok(true)

    }
}
