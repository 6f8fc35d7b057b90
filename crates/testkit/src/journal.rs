//! A list that grows and that tests can wait on.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::watch;

/// What was seen so far, in order. May be written from any thread.
#[derive(Debug)]
pub struct Journal<T>(watch::Sender<Vec<T>>);

impl<T> Default for Journal<T> {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl<T: Clone + Debug> Journal<T> {
    /// Adds an entry and wakes who waits.
    pub fn push(&self, entry: T) {
        self.0.send_modify(|entries| entries.push(entry));
    }

    /// Everything so far.
    pub fn entries(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything so far and answers it.
    pub fn take(&self) -> Vec<T> {
        self.0.send_replace(Vec::new())
    }

    /// Everything so far, once `enough` holds of it.
    ///
    /// # Panics
    ///
    /// When it does not hold within `patience`; the message says `awaited` and what was seen.
    pub async fn wait_until(
        &self,
        awaited: &str,
        patience: Duration,
        enough: impl FnMut(&[T]) -> bool,
    ) -> Vec<T> {
        let mut enough = enough;
        let mut watcher = self.0.subscribe();
        let waited = tokio::time::timeout(patience, watcher.wait_for(|entries| enough(entries)));
        if let Ok(entries) = waited.await {
            return entries.expect("the journal holds its own sender").clone();
        }
        let seen = self.entries();
        panic!("waited {patience:?} for {awaited}; seen {}: {seen:#?}", seen.len())
    }
}
