//! A look through the whole database after it was opened, beside everything else.
//!
//! SQLite notices damage when it meets it, and some of it never: a row that its index has lost is a
//! delivery that nobody claims. Promise: whatever the structure of the file shows is found once per
//! start, and stops the writer, as does a lease that nobody holds; a row that cannot be right by
//! itself is named in the log, and its neighbours are served. What else is in a row is not judged
//! here: payloads and secrets are sealed, and what else must not be altered unseen is checked where
//! it is used. The look at a table is broken off, which the log says, when it would keep the write-ahead log from beginning anew, and
//! goes on with the next one. Neighbours: `condition` is what it tells.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode};

use crate::checkpoint::WAL_BYTES_MAX;
use crate::condition::Condition;
use crate::failure::{Failure, Result};
use crate::lock::FileLock;
use crate::row::hex;
use crate::statistics::Gauges;

/// Steps of SQLite's machine between two looks at whether to go on; some microseconds.
const STEPS_BETWEEN: i32 = 1_000;

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Soundness {
    is_stopped: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Soundness {
    /// Begins to look, on a reader's connection of its own.
    pub(crate) fn start(
        mut connection: Connection,
        path: &Path,
        gauges: Arc<Gauges>,
        condition: Arc<Condition>,
        lock: Arc<FileLock>,
    ) -> std::io::Result<Self> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let shown = path.display().to_string();
        let thread = std::thread::Builder::new().name("store-check".to_owned()).spawn(move || {
            let is_over = {
                let stopped = Arc::clone(&stopped);
                move || stopped.load(Ordering::Relaxed) || gauges.wal_bytes() > WAL_BYTES_MAX
            };
            match look(&mut connection, is_over, &stopped, &shown, &condition) {
                Ok(()) => tracing::debug!(database = shown, "looked through the database"),
                Err(_) if stopped.load(Ordering::Relaxed) => {}
                Err(failure) if failure.is_fatal() => condition.set_broken(failure.to_string()),
                Err(failure) => {
                    tracing::warn!(database = shown, %failure, "did not look through all of the database");
                }
            }
            drop(connection);
            drop(lock);
        })?;
        Ok(Self { is_stopped, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the look, if it is under way.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }

    /// Waits until all was looked through.
    #[cfg(test)]
    pub(crate) fn wait(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        thread.expect("it was not stopped").join().expect("it does not panic");
    }
}

impl Drop for Soundness {
    fn drop(&mut self) {
        self.stop();
    }
}

fn look(
    connection: &mut Connection,
    is_over: impl FnMut() -> bool + Send + 'static,
    is_stopped: &AtomicBool,
    shown: &str,
    condition: &Condition,
) -> Result<()> {
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    connection.progress_handler(STEPS_BETWEEN, Some(is_over))?;
    let mut looked = Ok(());
    for table in tables {
        // One at a time, so that no state of before is held for long.
        match look_through(connection, &table, shown, condition) {
            // The log may begin anew now, and the next table is looked through.
            Err(failure) if is_interruption(&failure) && !is_stopped.load(Ordering::Relaxed) => {
                tracing::warn!(database = shown, table, "did not look through all of a table");
                looked = Err(failure);
            }
            other => other?,
        }
    }
    looked
}

fn look_through(
    connection: &Connection,
    table: &str,
    shown: &str,
    condition: &Condition,
) -> Result<()> {
    let mut statement =
        connection.prepare(&format!("PRAGMA integrity_check({})", quoted(table)))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let text: String = row.get(0)?;
        if text == "ok" {
        } else if is_of_one_row(&text) {
            tracing::error!(database = shown, table, found = text, "a row is damaged");
        } else {
            condition.set_broken(format!("{table} is damaged: {text}"));
        }
    }
    if table == "deliveries" {
        look_for_unheld(connection, shown, condition)?;
    }
    Ok(())
}

/// A delivery that is leased from birth is in no index: one that no session holds is lost to all.
fn look_for_unheld(connection: &Connection, shown: &str, condition: &Condition) -> Result<()> {
    let mut statement = connection.prepare(
        "SELECT id, event, endpoint FROM deliveries WHERE state = 6 \
         AND (session IS NULL OR session NOT IN (SELECT number FROM sessions))",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let [delivery, endpoint] =
            [0, 2].map(|column| row.get(column).map(|id: [u8; 16]| hex(&id)));
        let (delivery, endpoint) = (delivery?, endpoint?);
        let event: i64 = row.get(1)?;
        tracing::error!(
            database = shown,
            delivery,
            event,
            endpoint,
            "nobody holds a leased delivery"
        );
        condition.set_broken(format!("deliveries is damaged: nobody holds row {delivery}"));
    }
    Ok(())
}

fn is_interruption(failure: &Failure) -> bool {
    let Failure::Sqlite(error) = failure else { return false };
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the finding is about what stands in a row, not about how rows are found.
fn is_of_one_row(finding: &str) -> bool {
    finding.contains(" value in ") || finding.contains("constraint failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_is_broken_off_at_one_table_goes_on_with_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let altered = "PRAGMA writable_schema = ON;
            UPDATE sqlite_schema SET sql = replace(sql, 'x = 7', 'x = 1') WHERE name = 'damaged_x'";
        let made = "CREATE TABLE large (x);
            WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 9999)
            INSERT INTO large SELECT x FROM n;
            CREATE TABLE damaged (x); CREATE INDEX damaged_x ON damaged (x) WHERE x = 7;
            INSERT INTO damaged VALUES (1)";
        for sql in [made, altered] {
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        }
        let mut connection = Connection::open(&path).unwrap();
        let (condition, is_stopped) = (Condition::of(&path), AtomicBool::new(false));
        let mut is_first = true;
        let is_over = move || std::mem::take(&mut is_first);
        let looked = look(&mut connection, is_over, &is_stopped, "a.db", &condition);
        assert!(looked.is_err_and(|failure| is_interruption(&failure)));
        let why = condition.broken().unwrap();
        assert!(why.starts_with("damaged is damaged: "), "{why}");
    }
}
