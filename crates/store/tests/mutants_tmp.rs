
#[path = "mutated/memory/mod_memory.rs"]
mod memory;
use std::sync::{Arc, Mutex, OnceLock};
use async_trait::async_trait;
use store::SharedStore;
use store::conformance::Harness;
pub fn m(n: usize) -> bool {
    static M: OnceLock<usize> = OnceLock::new();
    *M.get_or_init(|| std::env::var("MUTANT").map(|v| v.parse().unwrap()).unwrap_or(9999)) == n
}
#[derive(Default)]
pub struct Mem(Mutex<Arc<memory::MemoryStore>>);
#[async_trait]
impl Harness for Mem {
    async fn open(&self) -> SharedStore { let s = Arc::new(memory::MemoryStore::new()); *self.0.lock().unwrap() = s.clone(); s }
    async fn reopen(&self, _d: SharedStore) -> SharedStore { let s = Arc::new(self.0.lock().unwrap().reopen()); *self.0.lock().unwrap() = s.clone(); s }
}
store::store_conformance!(Mem::default());
