//! The disk behind the file system: its contents, its power, and what goes wrong with it.
//!
//! Promise: nothing goes wrong that was not asked for, and each time something does, it is counted.
//! Neighbours: `contents` is what lies on it, `mounted` hands over what programs do, `disk` what the
//! scenario wants.

use std::ffi::OsStr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fuser::Errno;

use crate::disk::chance::Chance;
use crate::disk::contents::{BLOCK_BYTES, Contents, FOLDER, LOG_INDEX, blocks_of};
use crate::disk::file::Survival;

/// How SQLite names its write-ahead log: the database's name and this.
const LOG: &[u8] = b"-wal";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A write fails: EIO.
    WriteFails,
    /// A write fails for want of space: ENOSPC.
    WriteFindsNoSpace,
    /// Half of a write is done, and the answer says so.
    WriteIsShort,
    /// A sync fails: EIO. Some of what was to be synced never will be; the next sync is well.
    SyncFails,
}

impl Wrong {
    fn is_of_writes(self) -> bool {
        self != Self::SyncFails
    }
}

/// Something that will go wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// What.
    pub(crate) wrong: Wrong,
    /// How many writes or syncs go well first.
    pub(crate) after: u64,
    /// How many go wrong then.
    pub(crate) times: u64,
}

/// What the disk makes of syncs of the write-ahead log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Syncs {
    /// It carries them out.
    #[default]
    Honest,
    /// It says that they are done, and carries them out once another file is written, or at once
    /// when the log begins anew: what `synchronous=NORMAL` does, seen from the disk.
    Late,
}

/// Whether the disk works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// It goes when so many changes more were made.
    Failing(u64),
    /// Gone: whoever asks waits.
    Cut,
    /// Gone, and whoever asks gets an error.
    Off,
}

/// How much was done, and how much went wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Writes that were done, those into the index of the log not counted.
    pub(crate) writes: u64,
    /// Syncs that were answered well.
    pub(crate) syncs: u64,
    /// Writes and syncs that went wrong or were not carried out.
    pub(crate) wrong: u64,
}

/// A disk that several may ask at once.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    power_changed: Condvar,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) contents: Contents,
    pub(crate) chance: Chance,
    power: Power,
    /// What will go wrong next.
    pub(crate) fault: Option<Fault>,
    /// What it makes of syncs.
    pub(crate) syncs: Syncs,
    /// The log, and how many of its changes were said to be synced.
    owed: Option<(u64, usize)>,
    /// How long a sync takes.
    pub(crate) sync_takes: Duration,
    /// How much fits on it.
    pub(crate) capacity_bytes: u64,
    /// Nothing can be changed.
    pub(crate) is_read_only: bool,
    /// What was done.
    pub(crate) counts: Counts,
}

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To know something.
    Look,
    /// To change something, or to have it synced.
    Change,
}

impl Shared {
    /// An empty disk that works.
    pub(crate) fn new(chance: Chance, capacity_bytes: u64) -> Self {
        let state = State::new(chance, capacity_bytes);
        Self { state: Mutex::new(state), power_changed: Condvar::new() }
    }

    /// The disk, for the scenario: whether it has power or not.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, for a program: waits while the power is cut.
    pub(crate) fn enter(&self, wish: Wish) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.state();
        if wish == Wish::Change {
            state.power = match state.power {
                Power::Failing(0) => Power::Cut,
                Power::Failing(after) => Power::Failing(after - 1),
                other => other,
            };
        }
        self.with_power(state)
    }

    fn with_power<'a>(&self, state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>, Errno> {
        let waited = self.power_changed.wait_while(state, |state| state.power == Power::Cut);
        let state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.power == Power::Off { Err(Errno::EIO) } else { Ok(state) }
    }

    fn set_power(&self, power: Power) {
        self.state().power = power;
        self.power_changed.notify_all();
    }

    /// From now on nothing is done and nobody is answered.
    pub(crate) fn cut(&self) {
        self.set_power(Power::Cut);
    }

    /// The same, once so many changes more were made.
    pub(crate) fn cut_after(&self, changes: u64) {
        self.set_power(Power::Failing(changes));
    }

    /// Whether the power is gone.
    pub(crate) fn is_cut(&self) -> bool {
        self.state().power == Power::Cut
    }

    /// Whoever waits gets an error.
    pub(crate) fn give_up(&self) {
        self.set_power(Power::Off);
    }

    /// A disk that works, with what a power cut leaves of this one, and how many changes were lost.
    /// This one is empty and without power afterwards.
    pub(crate) fn next_life(&self, survival: Survival) -> (Self, usize) {
        let mut old = self.state();
        let empty = State::new(old.chance.clone(), old.capacity_bytes);
        let mut state = std::mem::replace(&mut *old, State { power: Power::Off, ..empty });
        state.power = Power::On;
        state.owed = None;
        let State { contents, chance, .. } = &mut state;
        let lost = contents.cut_power(survival, chance);
        (Self { state: Mutex::new(state), power_changed: Condvar::new() }, lost)
    }

    /// Syncs a file: what was written before is durable at the end.
    pub(crate) fn sync(&self, inode: u64) -> Result<(), Errno> {
        let mut state = self.enter(Wish::Change)?;
        let is_log = state.is_named(inode, LOG);
        if state.goes_wrong(inode, false).is_some() {
            let State { contents, chance, .. } = &mut *state;
            if let Some(inode) = contents.inode_mut(inode) {
                inode.file.fail_sync(chance);
            }
            return Err(Errno::EIO);
        }
        let file = &state.contents.inode(inode).ok_or(Errno::ENOENT)?.file;
        let (unsynced, begins_anew) = (file.unsynced(), file.has_new_head());
        state.counts.syncs += 1;
        if is_log && state.syncs == Syncs::Late && !begins_anew {
            state.counts.wrong += 1;
            state.owed = Some((inode, unsynced));
            return Ok(());
        }
        state.settle_debt(inode);
        let takes = state.sync_takes;
        let is_on = |state: &mut State| matches!(state.power, Power::On | Power::Failing(_));
        let waited = self.power_changed.wait_timeout_while(state, takes, is_on);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut state = self.with_power(state)?;
        if let Some(inode) = state.contents.inode_mut(inode) {
            inode.file.sync(unsynced);
        }
        Ok(())
    }
}

impl State {
    fn new(chance: Chance, capacity_bytes: u64) -> Self {
        Self {
            contents: Contents::new(),
            chance,
            power: Power::On,
            fault: None,
            syncs: Syncs::Honest,
            owed: None,
            sync_takes: Duration::ZERO,
            capacity_bytes,
            is_read_only: false,
            counts: Counts::default(),
        }
    }

    /// Space that is left, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.contents.used_bytes())
    }

    /// Writes; answers how much of it.
    pub(crate) fn write(&mut self, inode: u64, offset: usize, data: &[u8]) -> Result<usize, Errno> {
        self.check_writable()?;
        let mut data = data;
        match self.goes_wrong(inode, true) {
            None | Some(Wrong::SyncFails) => {}
            Some(Wrong::WriteFails) => return Err(Errno::EIO),
            Some(Wrong::WriteFindsNoSpace) => return Err(Errno::ENOSPC),
            Some(Wrong::WriteIsShort) => data = &data[..data.len() / 2],
        }
        let length = self.contents.inode(inode).ok_or(Errno::ENOENT)?.file.length();
        let fits = (blocks_of(length) + self.free_bytes() / BLOCK_BYTES) * BLOCK_BYTES;
        let room = usize::try_from(fits).unwrap_or(usize::MAX).saturating_sub(offset);
        if room < data.len() {
            self.counts.wrong += 1;
            if room == 0 {
                return Err(Errno::ENOSPC);
            }
            data = &data[..room];
        }
        if self.syncs == Syncs::Late && !self.is_named(inode, LOG_INDEX) {
            self.settle_debt(inode);
        }
        if !self.is_named(inode, LOG_INDEX) {
            self.counts.writes += 1;
        }
        let inode = self.contents.inode_mut(inode).ok_or(Errno::ENOENT)?;
        inode.file.write(offset, data);
        Ok(data.len())
    }

    /// Changes a file's length.
    pub(crate) fn set_length(&mut self, inode: u64, length: usize) -> Result<(), Errno> {
        self.check_writable()?;
        let free = self.free_bytes() / BLOCK_BYTES;
        let file = &mut self.contents.inode_mut(inode).ok_or(Errno::ENOENT)?.file;
        if blocks_of(length) > blocks_of(file.length()) + free {
            self.counts.wrong += 1;
            return Err(Errno::ENOSPC);
        }
        file.set_length(length);
        Ok(())
    }

    /// Syncs the names.
    pub(crate) fn sync_names(&mut self) {
        self.counts.syncs += 1;
        self.contents.sync_names();
    }

    /// An error if the disk is read-only.
    pub(crate) fn check_writable(&mut self) -> Result<(), Errno> {
        if !self.is_read_only {
            return Ok(());
        }
        self.counts.wrong += 1;
        Err(Errno::EROFS)
    }

    fn is_named(&self, inode: u64, ending: &[u8]) -> bool {
        let name = self.contents.name_of(inode).map(OsStr::as_encoded_bytes);
        name.is_some_and(|name| name.ends_with(ending))
    }

    /// Carries out what was said to be synced, unless it is this file's.
    fn settle_debt(&mut self, but: u64) {
        if self.syncs == Syncs::Late
            && let Some((log, changes)) = self.owed.take_if(|(log, _)| *log != but)
            && let Some(log) = self.contents.inode_mut(log)
        {
            log.file.sync(changes);
        }
    }

    /// Whether this write or sync goes wrong, and how.
    fn goes_wrong(&mut self, inode: u64, is_write: bool) -> Option<Wrong> {
        if inode == FOLDER || self.is_named(inode, LOG_INDEX) {
            return None;
        }
        let fault = self.fault.as_mut().filter(|fault| fault.wrong.is_of_writes() == is_write)?;
        if fault.after > 0 {
            fault.after -= 1;
            return None;
        }
        fault.times = fault.times.checked_sub(1)?;
        self.counts.wrong += 1;
        Some(fault.wrong)
    }
}
