//! Accounts, their endpoints and keys, filters and event types, kept at hand.
//!
//! Promise: once a change has answered, nobody reads the state before it from here. Every change
//! ends in a `forget…`, and what was read from storage while a change happened is not kept.
//! Bounded: what is used least is dropped and read again. Neighbours: `publish` and `deliver` read
//! it on every event; `administer` makes it forget.

use std::future::Future;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use domain::account::Account;
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::EventType;
use domain::id::{AccountId, EndpointId};
use domain::matching::Subscribers;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use store::catalogue::{KeyRecord, Roster};
use store::{SharedStore, StoreError};

use crate::event_types::RegisteredTypes;
use crate::filter::FiltersAtHand;

/// Most usernames, and most keys, kept at hand: some 10 MiB.
const KEPT_MAX: usize = 50_000;

/// Most accounts and endpoints kept at hand, together: some 100 MiB.
const ROSTERS_WEIGHT_MAX: u64 = 150_000;

/// How often something is read again because it changed meanwhile, before we say that it changes too
/// fast.
const READS_MAX: usize = 64;

/// Counts of changes. Things share one by chance, so that one which changes all the time makes few
/// others be read again.
const CHANGE_COUNTS: usize = 256;

/// An account weighs as much as an endpoint.
#[derive(Clone)]
struct RosterWeight;

impl Weighter<AccountId, Arc<RosterAtHand>> for RosterWeight {
    fn weight(&self, _: &AccountId, roster: &Arc<RosterAtHand>) -> u64 {
        1 + roster.endpoints.len() as u64
    }
}

/// A roster, and what is worked out once when it is read.
#[derive(Debug)]
pub struct RosterAtHand {
    roster: Roster,
    subscribers: Subscribers,
    /// Whether any endpoint wants only what is about an entity.
    pub(crate) wants_entities: bool,
}

impl RosterAtHand {
    fn new(roster: Roster) -> Self {
        let subscribers = Subscribers::of(&roster.endpoints);
        let wants_entities = roster.endpoints.iter().any(|endpoint| endpoint.entity_id.is_some());
        Self { roster, subscribers, wants_entities }
    }

    /// The endpoints that may want the type, oldest first; whoever is left out does not.
    pub(crate) fn subscribers(&self, event_type: &EventType) -> impl Iterator<Item = &Endpoint> {
        self.subscribers.of_type(event_type).map(|place| &self.roster.endpoints[place])
    }
}

impl Deref for RosterAtHand {
    type Target = Roster;

    fn deref(&self) -> &Roster {
        &self.roster
    }
}

/// Accounts, their endpoints and keys, kept at hand.
pub(crate) struct Registry {
    store: SharedStore,
    rosters: Cache<AccountId, Arc<RosterAtHand>, RosterWeight>,
    usernames: Cache<String, AccountId>,
    keys: Cache<String, Arc<KeyRecord>>,
    filters: FiltersAtHand,
    event_types: Cache<Contract, Arc<RegisteredTypes>>,
    /// Held while event types are read: a list may have many MiB, which one reads for all.
    reading_event_types: tokio::sync::Mutex<()>,
    changes: Changes,
    /// Those of event types have a count of their own: there are few, and reading them takes so long
    /// that among many others of endpoints no list would ever be kept.
    event_type_changes: Changes,
}

/// Counts changes; held for reading while something is put in, for writing while it is taken out,
/// so that what was read before a change is never put in after it.
struct Changes {
    counts: Vec<RwLock<u64>>,
}

impl Changes {
    fn of(&self, key: &(impl Hash + ?Sized)) -> &RwLock<u64> {
        let hashing = BuildHasherDefault::<DefaultHasher>::default();
        let place = hashing.hash_one(key) as usize % self.counts.len();
        &self.counts[place]
    }

    fn count(&self, key: &(impl Hash + ?Sized)) -> RwLockReadGuard<'_, u64> {
        self.of(key).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, key: &(impl Hash + ?Sized), take_out: impl FnOnce()) {
        let mut changes = self.of(key).write().unwrap_or_else(PoisonError::into_inner);
        *changes += 1;
        take_out();
    }
}

impl Default for Changes {
    fn default() -> Self {
        Self { counts: std::iter::repeat_with(RwLock::default).take(CHANGE_COUNTS).collect() }
    }
}

impl Registry {
    pub(crate) fn new(store: SharedStore) -> Self {
        Self {
            store,
            rosters: Cache::with_weighter(KEPT_MAX, ROSTERS_WEIGHT_MAX, RosterWeight),
            usernames: Cache::new(KEPT_MAX),
            keys: Cache::new(KEPT_MAX),
            filters: FiltersAtHand::default(),
            event_types: Cache::new(Contract::ALL.len()),
            reading_event_types: tokio::sync::Mutex::default(),
            changes: Changes::default(),
            event_type_changes: Changes::default(),
        }
    }

    /// Filters that were read. They go by their texts, so that none is ever out of date.
    pub(crate) fn filters(&self) -> &FiltersAtHand {
        &self.filters
    }

    /// The account, for which its endpoints are not read.
    pub(crate) async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        match self.rosters.get(&id) {
            Some(roster) => Ok(Some(roster.account.clone())),
            None => self.store.read_account(id).await,
        }
    }

    /// The account with its endpoints.
    pub(crate) async fn roster(
        &self,
        id: AccountId,
    ) -> Result<Option<Arc<RosterAtHand>>, StoreError> {
        let read = || async {
            let roster = self.store.read_roster(id).await?;
            Ok(roster.map(|roster| Arc::new(RosterAtHand::new(roster))))
        };
        self.kept_or_read(&self.rosters, &self.changes, &id, read).await
    }

    /// The account with that username.
    pub(crate) async fn account_named(
        &self,
        username: &str,
    ) -> Result<Option<AccountId>, StoreError> {
        if let Some(id) = self.usernames.get(username) {
            return Ok(Some(id));
        }
        let read = || self.store.find_account(username);
        self.kept_or_read(&self.usernames, &self.changes, &username.to_owned(), read).await
    }

    /// The key with that public part, if it is kept.
    pub(crate) fn key_at_hand(&self, public_part: &str) -> Option<Arc<KeyRecord>> {
        self.keys.get(public_part)
    }

    /// The key with that public part.
    pub(crate) async fn key(
        &self,
        public_part: &str,
    ) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        let read = || async { Ok(self.store.find_key(public_part).await?.map(Arc::new)) };
        self.kept_or_read(&self.keys, &self.changes, &public_part.to_owned(), read).await
    }

    /// The registered event types of the contract.
    pub(crate) async fn event_types(
        &self,
        contract: Contract,
    ) -> Result<Arc<RegisteredTypes>, StoreError> {
        if let Some(types) = self.event_types.get(&contract) {
            return Ok(types);
        }
        let _reading = self.reading_event_types.lock().await;
        let read = || async {
            let types = self.store.list_event_types(contract).await?;
            Ok(Some(Arc::new(RegisteredTypes::new(types))))
        };
        let changes = &self.event_type_changes;
        let types = self.kept_or_read(&self.event_types, changes, &contract, read).await?;
        Ok(types.expect("every contract has a list, if an empty one"))
    }

    /// Forgets the registered event types of the contract, after a change to one.
    pub(crate) fn forget_event_types(&self, contract: Contract) {
        self.event_type_changes.change(&contract, || drop(self.event_types.remove(&contract)));
    }

    /// Forgets the account's roster, after a change to it or to one of its endpoints.
    pub(crate) fn forget(&self, id: AccountId) {
        self.changes.change(&id, || drop(self.rosters.remove(&id)));
    }

    /// Forgets a deleted account. Its keys need not be forgotten: a key is good only together with
    /// its roster.
    pub(crate) fn forget_account(&self, id: AccountId, username: &str) {
        self.changes.change(username, || drop(self.usernames.remove(username)));
        self.forget(id);
    }

    /// Forgets a deleted key.
    pub(crate) fn forget_key(&self, public_part: &str) {
        self.changes.change(public_part, || drop(self.keys.remove(public_part)));
    }

    async fn kept_or_read<K, V, W, F>(
        &self,
        kept: &Cache<K, V, W>,
        changes: &Changes,
        key: &K,
        read: impl Fn() -> F,
    ) -> Result<Option<V>, StoreError>
    where
        K: Hash + Eq + Clone,
        V: Clone,
        W: Weighter<K, V> + Clone,
        F: Future<Output = Result<Option<V>, StoreError>>,
    {
        if let Some(value) = kept.get(key) {
            return Ok(Some(value));
        }
        for _ in 0..READS_MAX {
            let before = *changes.count(key);
            let Some(value) = read().await? else {
                return Ok(None);
            };
            let changes = changes.count(key);
            if *changes == before {
                kept.insert(key.clone(), value.clone());
                return Ok(Some(value));
            }
            // The reading overlapped a change, which may have answered by now: this may be the state
            // before it.
        }
        Err(StoreError::Unavailable("it changes faster than it can be read".to_owned()))
    }
}

/// The roster's endpoint with that id. Rosters list endpoints by age, which is the order of ids.
pub(crate) fn endpoint_of(roster: &Roster, id: EndpointId) -> Option<&Endpoint> {
    let at = roster.endpoints.binary_search_by_key(&id, |endpoint| endpoint.id).ok()?;
    Some(&roster.endpoints[at])
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use store::memory::MemoryStore;

    use super::*;

    #[tokio::test]
    async fn what_a_change_overtook_while_it_was_read_is_read_again() {
        let registry = Registry::new(Arc::new(MemoryStore::new()));
        let (before, after) = (AccountId::from_u128(1), AccountId::from_u128(2));
        let is_changed = AtomicBool::new(false);
        let read = || async {
            if is_changed.swap(true, Ordering::SeqCst) {
                return Ok(Some(after));
            }
            registry.forget_account(before, "john");
            Ok(Some(before))
        };
        let john = "john".to_owned();
        let found = registry.kept_or_read(&registry.usernames, &registry.changes, &john, read);
        assert_eq!(found.await.unwrap(), Some(after));
        assert_eq!(registry.usernames.get("john"), Some(after));
    }
}
