//! Whether the disk has room for more events.
//!
//! Promise: events, and replays of them, are refused while there is still space to write down what becomes of those that
//! were accepted, so that a disk that fills up stops intake and not deliveries; and they are
//! accepted again as soon as there is space. Neighbours: `accept` asks before it writes, `ledger`
//! has the one [`Room`].

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::checkpoint::WAL_BYTES_MAX;
use crate::failure::{Failure, Result};
use crate::open::log_of;

/// Space that no event gets, in bytes, beside as much as the log has: the log may grow to its largest
/// by what is written down about deliveries, and each page in it may be a new one of the file.
const RESERVE_BYTES: u64 = WAL_BYTES_MAX;

/// What an event takes for each of its bytes: in the log, and in the file.
const TAKEN_PER_BYTE: u64 = 2;

/// At most this part of the disk is the reserve: a small one is for events too.
const RESERVE_PART_MAX: u64 = 4;

/// Once there was no room, so much more of the reserve must be free as this part of it before there
/// is some again: else what the log has not yet brought into the file is given out many times.
const RESERVE_PART_MORE: u64 = 8;

/// How long what was seen holds. What we write meanwhile is counted; what others write in so short
/// a time is little beside the reserve.
const SEEN_FOR: Duration = Duration::from_millis(20);

/// What a disk has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free: u64,
    total: u64,
    /// Taken by the log.
    log: u64,
}

impl Space {
    /// What events may take, if there was room for them, or if there was none.
    fn for_events(self, was_lacking: bool) -> u64 {
        let reserve = RESERVE_BYTES.min(self.total / RESERVE_PART_MAX);
        let more = if was_lacking { reserve / RESERVE_PART_MORE } else { 0 };
        self.free.saturating_sub(reserve + more + self.log)
    }
}

/// The room that events have.
pub(crate) struct Room {
    look: Box<dyn Fn() -> Option<Space>>,
    seen_at: Option<Instant>,
    /// What events may take until we look again.
    left: u64,
    is_lacking: bool,
}

impl Room {
    /// On the disk of this database.
    pub(crate) fn of(connection: &Connection) -> Self {
        let path = connection.path().map(PathBuf::from);
        Self::new(move || path.as_deref().and_then(space_of_disk))
    }

    /// On a disk of a terabyte with so much left.
    #[cfg(test)]
    pub(crate) fn with_free(free: u64) -> Self {
        Self::new(move || Some(Space { free, total: 1 << 40, log: 0 }))
    }

    fn new(look: impl Fn() -> Option<Space> + 'static) -> Self {
        Self { look: Box::new(look), seen_at: None, left: 0, is_lacking: false }
    }

    /// Takes room for events with so many bytes, or says that there is none.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<()> {
        let now = now();
        if self.seen_at.is_none_or(|seen_at| now.duration_since(seen_at) >= SEEN_FOR) {
            self.seen_at = Some(now);
            // Where nobody can say, SQLite will.
            let seen = (self.look)();
            self.left = seen.map_or(u64::MAX, |space| space.for_events(self.is_lacking));
        }
        let left = self.left.checked_sub(bytes.max(1) * TAKEN_PER_BYTE);
        self.left = left.unwrap_or(0);
        self.note(left.is_none());
        left.map(drop).ok_or(Failure::NoRoom)
    }

    fn note(&mut self, is_lacking: bool) {
        if is_lacking && !self.is_lacking {
            tracing::error!("the disk is nearly full: no events are accepted, deliveries go on");
        } else if !is_lacking && self.is_lacking {
            tracing::info!("the disk has space again: events are accepted");
        }
        self.is_lacking = is_lacking;
    }
}

#[cfg(unix)]
fn space_of_disk(path: &std::path::Path) -> Option<Space> {
    let disk = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
    let log = std::fs::metadata(log_of(path)).map_or(0, |log| log.len());
    Some(Space { free: bytes(disk.f_bavail), total: bytes(disk.f_blocks), log })
}

#[cfg(not(unix))]
fn space_of_disk(_: &std::path::Path) -> Option<Space> {
    None
}

#[expect(
    clippy::disallowed_methods,
    reason = "how old what was seen is decides only to look again"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn events_get_what_is_beyond_the_reserve_and_of_a_small_disk_three_quarters() {
        let space =
            |free, total, log| Space { free: free * MIB, total: total * MIB, log: log * MIB };
        let cases = [
            (space(1_000, 10_000, 0), 936, 928),
            (space(1_000, 10_000, 64), 872, 864),
            (space(128, 10_000, 64), 0, 0),
            (space(66, 10_000, 0), 2, 0),
            (space(0, 10_000, 0), 0, 0),
            (space(64, 64, 0), 48, 46),
            (space(64, 64, 16), 32, 30),
            (space(10, 64, 0), 0, 0),
        ];
        for (space, if_had, if_lacked) in cases {
            assert_eq!(space.for_events(false) / MIB, if_had, "{space:?}");
            assert_eq!(space.for_events(true) / MIB, if_lacked, "{space:?}");
        }
    }

    #[test]
    fn what_was_accepted_since_the_last_look_counts_and_space_given_back_is_seen() {
        let free = Rc::new(Cell::new(66 * MIB));
        let seen = Rc::clone(&free);
        let mut room =
            Room::new(move || Some(Space { free: seen.get(), total: 10_000 * MIB, log: 0 }));
        room.take(MIB / 2).unwrap();
        // What was seen holds until long after this test.
        room.seen_at = Some(now() + Duration::from_hours(1));
        room.take(MIB / 2).unwrap();
        assert!(matches!(room.take(1), Err(Failure::NoRoom)));
        room.seen_at = None;
        assert!(matches!(room.take(1), Err(Failure::NoRoom)), "what was there is spoken for");
        free.set(1_000 * MIB);
        room.seen_at = None;
        room.take(1).unwrap();
    }

    #[test]
    fn where_nobody_can_say_how_much_space_there_is_events_are_accepted() {
        let mut room = Room::new(|| None);
        room.take(1_000 * MIB).unwrap();
    }
}
