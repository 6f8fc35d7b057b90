//! The conformance suite on the in-memory store.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use store::SharedStore;
use store::conformance::Harness;
use store::memory::MemoryStore;

/// The in-memory store of the process that runs now.
#[derive(Default)]
struct InMemory {
    current: Mutex<Arc<MemoryStore>>,
}

impl InMemory {
    fn put(&self, store: MemoryStore) -> SharedStore {
        let store = Arc::new(store);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&store);
        store
    }
}

#[async_trait]
impl Harness for InMemory {
    async fn open(&self) -> SharedStore {
        self.put(MemoryStore::new())
    }

    async fn reopen(&self, _dead: SharedStore) -> SharedStore {
        let current =
            Arc::clone(&*self.current.lock().unwrap_or_else(PoisonError::into_inner));
        self.put(current.reopen())
    }
}

store::store_conformance!(InMemory::default());
