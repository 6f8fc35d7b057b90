//! A disk whose power can be cut, that fails, fills up and lies, under control of a scenario.
//!
//! Promise: what a program syncs on an honest disk survives every power cut; what it did not sync
//! survives as far as chance and [`Survival`] let it. Each life is a mount of its own, so that the
//! kernel remembers nothing of the life before. Everything is in memory. Needs `/dev/fuse`, and to
//! be root or to have `fusermount3`. Neighbours: `scenario::{power, storage, space}`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fuser::{BackgroundSession, Config, MountOption};

pub(crate) use crate::disk::chance::Chance;
pub(crate) use crate::disk::file::Survival;
use crate::disk::mounted::Mounted;
pub(crate) use crate::disk::state::{Counts, Fault, Syncs, Wrong};
use crate::disk::state::{Shared, State};

mod chance;
mod contents;
mod file;
mod mounted;
pub(crate) mod scene;
mod state;

/// Threads that serve the file system: while one file is being synced, others are written and read.
const THREADS: usize = 4;

/// How often to look whether a change that was counted down to has been made.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A disk, and where it is mounted.
pub(crate) struct Disk {
    shared: Arc<Shared>,
    folder: PathBuf,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// An empty disk of that size, mounted at `folder`, which is made if it is not there.
    pub(crate) fn mount(folder: &Path, seed: u64, capacity_bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        let shared = Arc::new(Shared::new(Chance::new(seed), capacity_bytes));
        let mut disk = Self { shared, folder: folder.to_owned(), session: None };
        disk.attach()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn attach(&mut self) -> Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::FSName("postrider-faults".to_owned()),
            MountOption::NoAtime,
            MountOption::DefaultPermissions,
        ];
        config.n_threads = Some(THREADS);
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let mounted = Mounted { disk: Arc::clone(&self.shared), owner };
        let session = fuser::spawn_mount(mounted, &self.folder, &config).with_context(|| {
            format!(
                "cannot mount a file system at {}: it needs /dev/fuse, and root or fusermount3 \
                 (Debian: apt install fuse3)",
                self.folder.display()
            )
        })?;
        self.session = Some(session);
        Ok(())
    }

    fn detach(&mut self) -> Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        // Its threads may end by an error where the kernel was quicker than they.
        let ended = session.umount_and_join();
        if self.is_mounted()? {
            // A process that was killed may not be gone yet: it goes when they do.
            Command::new("umount").arg("--lazy").arg(&self.folder).status()?;
        }
        if self.is_mounted()? {
            bail!("cannot unmount {}: {ended:?}", self.folder.display());
        }
        Ok(())
    }

    /// Whether anything is mounted there (proc(5)).
    fn is_mounted(&self) -> Result<bool> {
        let folder = self.folder.canonicalize().unwrap_or_else(|_| self.folder.clone());
        let mounts = std::fs::read_to_string("/proc/self/mounts").context("/proc/self/mounts")?;
        let is_here = |line: &str| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == folder);
        Ok(mounts.lines().any(is_here))
    }

    /// What may be set at any time.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// From now on every sync takes so long.
    pub(crate) fn set_sync_takes(&self, takes: Duration) {
        self.state().sync_takes = takes;
    }

    /// What it makes of syncs from now on.
    pub(crate) fn set_syncs(&self, syncs: Syncs) {
        self.state().syncs = syncs;
    }

    /// What will go wrong next, if anything.
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Gives it another size. What is on it stays, also if it is more.
    pub(crate) fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    /// Its size, in bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.state().capacity_bytes
    }

    /// Space that is left, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.state().free_bytes()
    }

    /// Lets nothing be changed on it, or lets it again.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        self.state().is_read_only = is_read_only;
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }

    /// Cuts the power: from now on nothing is done and nobody is answered. Kill whoever uses it,
    /// then [`give_up`](Self::give_up): only then can they end.
    pub(crate) fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts the power once so many changes and syncs more were done, or after `patience`.
    pub(crate) async fn cut_after(&self, changes: u64, patience: Duration) {
        self.shared.cut_after(changes);
        let cut = async {
            while !self.shared.is_cut() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(patience, cut).await.is_err() {
            self.shared.cut();
        }
    }

    /// Lets those who wait go, with an error.
    pub(crate) fn give_up(&self) {
        self.shared.give_up();
    }

    /// Begins a new life with what `survival` leaves of the old one; answers how many changes were
    /// lost. Whoever still uses the old one gets errors for ever, and can change nothing any more.
    pub(crate) fn power_up(&mut self, survival: Survival) -> Result<usize> {
        self.give_up();
        self.detach()?;
        let (next, lost) = self.shared.next_life(survival);
        self.shared = Arc::new(next);
        self.attach()?;
        Ok(lost)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.give_up();
        // Nobody is left to be told; the mount point stays behind.
        let _ = self.detach();
    }
}
