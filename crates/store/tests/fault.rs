//! The store that fails on purpose: it fails as told, and else it is the store it wraps.

use std::sync::Arc;

use domain::contract::Contract;
use domain::testing::{TEST_START, an_account};
use store::catalogue::KeyRecord;
use store::conformance::scene::note_at;
use store::fault::{Fault, FaultStore, Method, Odds};
use store::memory::MemoryStore;
use store::{Audit as _, Catalogue as _, History as _, Queue as _, StoreError};

mod without_faults {
    use std::sync::Arc;

    use async_trait::async_trait;
    use store::SharedStore;
    use store::conformance::{Harness, InMemory};
    use store::fault::FaultStore;

    #[derive(Default)]
    struct Wrapped(InMemory);

    #[async_trait]
    impl Harness for Wrapped {
        async fn open(&self) -> SharedStore {
            Arc::new(FaultStore::new(self.0.open().await))
        }

        async fn reopen(&self, dead: SharedStore) -> SharedStore {
            Arc::new(FaultStore::new(self.0.reopen(dead).await))
        }
    }

    store::store_conformance!(Wrapped::default());
}

fn a_fault_store() -> Arc<FaultStore> {
    Arc::new(FaultStore::new(Arc::new(MemoryStore::new())))
}

fn is_unavailable<T>(answer: Result<T, StoreError>) -> bool {
    matches!(answer.err(), Some(StoreError::Unavailable(_)))
}

/// Creates an account under the number; the answer is the store's.
async fn create_account(store: &FaultStore, number: u64) -> Result<(), StoreError> {
    let account = an_account(Contract::Standard, number);
    let key = KeyRecord {
        id: domain::id::KeyId::from_u128(number.into()),
        account: Some(account.id),
        public_part: number.to_string(),
        hash: [0; 32],
        created_at: TEST_START,
        last_used_at: None,
    };
    store.create_account(account, key, note_at(TEST_START)).await.map(drop)
}

async fn has_account(store: &FaultStore, number: u64) -> bool {
    store.find_account(&format!("user{number}")).await.is_ok_and(|found| found.is_some())
}

#[tokio::test]
async fn a_call_that_fails_before_changes_nothing() {
    let store = a_fault_store();
    store.script(Method::CreateAccount, [Some(Fault::Before)]);
    assert!(is_unavailable(create_account(&store, 1).await));
    assert!(!has_account(&store, 1).await);
}

#[tokio::test]
async fn a_call_that_fails_after_has_taken_effect() {
    let store = a_fault_store();
    store.script(Method::CreateAccount, [Some(Fault::After)]);
    assert!(is_unavailable(create_account(&store, 1).await));
    assert!(has_account(&store, 1).await);
}

#[tokio::test]
async fn a_change_that_fails_leaves_its_entry_exactly_if_it_has_taken_effect() {
    let store = a_fault_store();
    store.script(Method::CreateAccount, [Some(Fault::Before), Some(Fault::After)]);
    store.script(Method::Note, [Some(Fault::Broken), Some(Fault::After)]);
    for entries in [0, 1] {
        assert!(is_unavailable(create_account(&store, 1).await));
        assert_eq!(store.read_audit(0, 9).await.unwrap().len(), entries);
    }
    for entries in [1, 2] {
        assert!(store.note(vec![note_at(TEST_START)]).await.is_err());
        assert_eq!(store.read_audit(0, 9).await.unwrap().len(), entries);
    }
}

#[tokio::test]
async fn a_script_strikes_the_calls_of_its_method_one_by_one() {
    let store = a_fault_store();
    store.script(Method::CreateAccount, [Some(Fault::Before), None]);
    store.script(Method::CreateAccount, [Some(Fault::Broken)]);
    store.counts().await.unwrap();
    assert!(is_unavailable(create_account(&store, 1).await));
    create_account(&store, 1).await.unwrap();
    assert!(matches!(create_account(&store, 2).await, Err(StoreError::Broken(_))));
    create_account(&store, 2).await.unwrap();
}

#[tokio::test]
async fn a_standing_fault_strikes_until_the_store_is_healed() {
    let store = a_fault_store();
    store.fail(Method::Counts, Fault::Before);
    for _ in 0..3 {
        assert!(is_unavailable(store.counts().await));
    }
    store.heal();
    store.counts().await.unwrap();
    assert_eq!(store.calls(Method::Counts), 4);
    assert_eq!(store.calls(Method::Check), 0);
}

#[tokio::test]
async fn faults_by_chance_follow_their_seed_and_odds() {
    let draw = async |seed, odds| {
        let store = a_fault_store();
        store.fail_by_chance(seed, odds);
        let mut failed = Vec::new();
        for _ in 0..1_000 {
            failed.push(is_unavailable(store.begin_session(TEST_START).await));
        }
        failed
    };
    let odds = Odds { before: 100, after: 100 };
    let failed = draw(1, odds).await;
    let count = failed.iter().filter(|failed| **failed).count();
    assert!((150..250).contains(&count), "{count}");
    assert_eq!(draw(1, odds).await, failed);
    assert_ne!(draw(2, odds).await, failed);
    let never = draw(1, Odds { before: 0, after: 0 }).await;
    assert!(never.iter().all(|failed| !failed));
}

#[tokio::test]
async fn a_stalled_call_takes_effect_once_it_is_released() {
    let store = a_fault_store();
    let mut stall = store.stall(Method::CreateAccount);
    let calls = [1, 2].map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { create_account(&store, number).await })
    });
    stall.reached_by(2).await;
    assert!(!has_account(&store, 1).await);
    stall.release();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(has_account(&store, 1).await && has_account(&store, 2).await);
    create_account(&store, 3).await.unwrap();
}
