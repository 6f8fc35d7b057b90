//! What the writer and the checkpointer tell about themselves, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Size of a page of the database, in bytes; SQLite's default, which we do not change.
pub(crate) const PAGE_BYTES: u64 = 4_096;

/// Upper bounds in microseconds of the ranges in which commits are counted: from a cached disk to
/// one that makes publishers wait until they are turned away.
pub const COMMIT_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 5_000_000,
];

/// Upper bounds of the ranges in which groups are counted, in requests; the last is the largest
/// group there is.
pub const GROUP_REQUESTS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

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
    /// How many commits took as long as each of [`COMMIT_MICROS`] at most, and longer than the one
    /// before. Those that took longer than all are in `commits` only.
    pub commits_by_duration: [u64; COMMIT_MICROS.len()],
    /// How many transactions carried as many requests as each of [`GROUP_REQUESTS`] at most, and
    /// more than the one before.
    pub commits_by_requests: [u64; GROUP_REQUESTS.len()],
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
    commits_by_duration: [AtomicU64; COMMIT_MICROS.len()],
    commits_by_requests: [AtomicU64; GROUP_REQUESTS.len()],
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
        count(&self.commits_by_duration, &COMMIT_MICROS, took_ns.div_ceil(1_000));
        count(&self.commits_by_requests, &GROUP_REQUESTS, requests as u64);
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
            commits_by_duration: self.commits_by_duration.each_ref().map(read),
            commits_by_requests: self.commits_by_requests.each_ref().map(read),
            wal_bytes: self.wal_bytes(),
            checkpoints: read(&self.checkpoints),
        }
    }
}

/// Counts a value in the first range whose upper bound it does not exceed, if there is one.
fn count(ranges: &[AtomicU64], bounds: &[u64], value: u64) {
    let range = bounds.partition_point(|bound| *bound < value);
    if let Some(range) = ranges.get(range) {
        range.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_counted_in_the_range_that_ends_with_it_or_after_it() {
        let gauges = Gauges::default();
        gauges.note_commit(1, Duration::from_micros(100));
        gauges.note_commit(3, Duration::from_nanos(100_001));
        gauges.note_commit(1_024, Duration::from_mins(1));
        let seen = gauges.read();
        assert_eq!(seen.commits_by_duration[..3], [1, 1, 0]);
        assert_eq!(seen.commits_by_duration.iter().sum::<u64>(), 2, "one took longer than all");
        assert_eq!(seen.commits_by_requests[..3], [1, 0, 1]);
        assert_eq!(seen.commits_by_requests[10], 1);
        assert_eq!(seen.commits_by_requests.iter().sum::<u64>(), seen.commits);
    }
}
