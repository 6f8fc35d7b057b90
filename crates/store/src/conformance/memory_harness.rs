//! The harness of the in-memory store: what the model is opened with, and what its own suite runs
//! on.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::Harness;
use crate::SharedStore;
use crate::memory::MemoryStore;

/// Where an in-memory store outlives its process.
#[derive(Debug, Default)]
pub struct InMemory {
    current: Mutex<Arc<MemoryStore>>,
}

impl InMemory {
    /// Makes this the store of the process that runs now; answers the one before.
    fn exchange(&self, store: &Arc<MemoryStore>) -> Arc<MemoryStore> {
        let mut current = self.current.lock().unwrap();
        std::mem::replace(&mut current, Arc::clone(store))
    }
}

#[async_trait]
impl Harness for InMemory {
    async fn open(&self) -> SharedStore {
        let store = Arc::default();
        self.exchange(&store);
        store
    }

    async fn reopen(&self, _dead: SharedStore) -> SharedStore {
        let dead = Arc::clone(&self.current.lock().unwrap());
        let store = Arc::new(dead.reopen());
        self.exchange(&store);
        store
    }
}
