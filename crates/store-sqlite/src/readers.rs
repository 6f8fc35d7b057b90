//! A few read-only connections.
//!
//! Promise: a reader sees one committed state from its first row to its last, waits for no writer
//! and keeps none waiting (write-ahead log); no more than [`READERS`] read at once, the others
//! queue. A reader that panics gives its connection back. Whoever meets damage stops the writer: what
//! else is on a disk that cannot be read is not known.

use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;
use store::StoreError;
use tokio::sync::Semaphore;

use crate::condition::Condition;
use crate::failure::{Failure, Result};
use crate::lock::FileLock;

/// How many read at once. Reads are short and come from the system's cache: more than the cores
/// of a small machine would only queue there.
pub(crate) const READERS: usize = 4;

/// The connections, shared by all who read.
pub(crate) struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    condition: Arc<Condition>,
    /// Held until the last read is done.
    _lock: Arc<FileLock>,
}

impl Readers {
    pub(crate) fn new(
        connections: Vec<Connection>,
        condition: Arc<Condition>,
        lock: Arc<FileLock>,
    ) -> Arc<Self> {
        let turns = Arc::new(Semaphore::new(connections.len()));
        Arc::new(Self { idle: Mutex::new(connections), turns, condition, _lock: lock })
    }

    /// Does `work` on one committed state.
    pub(crate) async fn read<T, Work>(
        self: &Arc<Self>,
        work: Work,
    ) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        Work: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let turns = Arc::clone(&self.turns);
        let turn = turns.acquire_owned().await.expect("the semaphore is never closed");
        let readers = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let reader = Borrowed::from(&readers);
            let connection = reader.connection();
            let outcome = connection
                .unchecked_transaction()
                .map_err(Failure::from)
                .and_then(|_snapshot| work(connection));
            if let Err(failure) = &outcome
                && failure.is_fatal()
            {
                readers.condition.set_broken(failure.to_string());
            }
            drop(reader);
            drop(turn);
            outcome
        });
        match reading.await {
            Ok(outcome) => outcome.map_err(StoreError::from),
            Err(stopped) if stopped.is_panic() => {
                Err(StoreError::Unavailable("a reader panicked".to_owned()))
            }
            Err(_) => Err(StoreError::Unavailable("the process is stopping".to_owned())),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().expect("nothing panics under this lock")
    }
}

/// A connection that goes back when dropped.
struct Borrowed<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
}

impl<'r> Borrowed<'r> {
    fn from(readers: &'r Readers) -> Self {
        let connection = readers.idle().pop();
        Self { readers, connection }
    }

    fn connection(&self) -> &Connection {
        self.connection.as_ref().expect("there are as many connections as turns")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.idle().push(connection);
        }
    }
}
