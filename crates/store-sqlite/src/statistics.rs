//! What the writer and the checkpointer tell about themselves, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Size of a page of the database, in bytes; SQLite's default, which we do not change.
pub(crate) const PAGE_BYTES: u64 = 4_096;

/// How the store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions committed, each with one sync of the write-ahead log.
    pub commits: u64,
    /// Requests that those transactions carried; divided by `commits`, the size of a group.
    pub requests: u64,
    /// How long the last commit took, its sync included.
    pub commit_last: Duration,
    /// How long all commits took together.
    pub commit_total: Duration,
    /// Bytes in the write-ahead log after the last commit.
    pub wal_bytes: u64,
    /// Checkpoints that brought pages from the log to the database file.
    pub checkpoints: u64,
}

/// The same, as threads share it. Each number is right on its own; together they are a snapshot
/// only while nothing is written.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    commits: AtomicU64,
    requests: AtomicU64,
    commit_last_ns: AtomicU64,
    commit_total_ns: AtomicU64,
    wal_pages: AtomicU64,
    checkpoints: AtomicU64,
}

impl Gauges {
    pub(crate) fn note_commit(&self, requests: usize, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
        self.commit_last_ns.store(took_ns, Ordering::Relaxed);
        self.commit_total_ns.fetch_add(took_ns, Ordering::Relaxed);
    }

    pub(crate) fn note_checkpoint(&self) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_wal_pages(&self, pages: u64) {
        self.wal_pages.store(pages, Ordering::Relaxed);
    }

    pub(crate) fn wal_bytes(&self) -> u64 {
        self.wal_pages.load(Ordering::Relaxed) * PAGE_BYTES
    }

    pub(crate) fn read(&self) -> Statistics {
        let read = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        Statistics {
            commits: read(&self.commits),
            requests: read(&self.requests),
            commit_last: Duration::from_nanos(read(&self.commit_last_ns)),
            commit_total: Duration::from_nanos(read(&self.commit_total_ns)),
            wal_bytes: self.wal_bytes(),
            checkpoints: read(&self.checkpoints),
        }
    }
}
