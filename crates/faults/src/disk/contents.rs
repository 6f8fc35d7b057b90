//! What is on a disk: one folder, its names and its files.
//!
//! Promise: a name that was given, changed or taken away is durable only once the folder was
//! synced; of what was done to names since, a power cut leaves what came first, as file systems
//! with a journal do. Owner and permissions are durable at once. Neighbours: `file` is one file's
//! content, `mounted` makes a file system of this.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use crate::disk::chance::Chance;
use crate::disk::file::{File, Survival};

/// What space is given out by, in bytes.
pub(crate) const BLOCK_BYTES: u64 = 4_096;

/// How the name of a log's index ends, which lies in memory as far as SQLite cares: it is never synced.
pub(crate) const LOG_INDEX: &[u8] = b"-shm";

/// The number of the folder itself.
pub(crate) const FOLDER: u64 = 1;

/// A file and what the system keeps about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    /// Its content.
    pub(crate) file: File,
    /// Permissions.
    pub(crate) mode: u16,
    /// Who owns it: user and group.
    pub(crate) owner: (u32, u32),
    /// How often it is open.
    opened: usize,
}

/// Something done to a name.
#[derive(Clone, Debug)]
enum NameChange {
    Given(OsString, u64),
    Taken(OsString),
    Changed(OsString, OsString),
}

type Names = BTreeMap<OsString, u64>;

impl NameChange {
    /// Whether anything is missing without it.
    fn matters(&self) -> bool {
        match self {
            Self::Given(name, _) | Self::Taken(name) => !is_log_index(name),
            Self::Changed(..) => true,
        }
    }

    fn apply(&self, names: &mut Names) {
        match self {
            Self::Given(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Taken(name) => {
                names.remove(name);
            }
            Self::Changed(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }
}

/// All that is on a disk.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable_names: Names,
    /// What makes the present names of the durable ones, oldest first.
    pending: Vec<NameChange>,
    last_inode: u64,
}

impl Contents {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: Names::new(),
            durable_names: Names::new(),
            pending: Vec::new(),
            last_inode: FOLDER,
        }
    }

    /// The file of that name.
    pub(crate) fn find(&self, name: &OsStr) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// A name of the file.
    pub(crate) fn name_of(&self, inode: u64) -> Option<&OsStr> {
        let named = self.names.iter().find(|(_, named)| **named == inode);
        named.map(|(name, _)| name.as_os_str())
    }

    /// The file.
    pub(crate) fn inode(&self, inode: u64) -> Option<&Inode> {
        self.inodes.get(&inode)
    }

    /// The file, to be changed.
    pub(crate) fn inode_mut(&mut self, inode: u64) -> Option<&mut Inode> {
        self.inodes.get_mut(&inode)
    }

    /// Names and files, in the order of the names.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&OsStr, u64)> {
        self.names.iter().map(|(name, inode)| (name.as_os_str(), *inode))
    }

    /// Makes an empty file.
    pub(crate) fn create(&mut self, name: &OsStr, mode: u16, owner: (u32, u32)) -> u64 {
        self.last_inode += 1;
        let inode = Inode { mode, owner, ..Inode::default() };
        self.inodes.insert(self.last_inode, inode);
        self.change(NameChange::Given(name.to_owned(), self.last_inode));
        self.last_inode
    }

    /// Takes a name away.
    pub(crate) fn remove(&mut self, name: &OsStr) {
        self.change(NameChange::Taken(name.to_owned()));
    }

    /// Gives a file another name; whoever had that loses it.
    pub(crate) fn rename(&mut self, from: &OsStr, to: &OsStr) {
        self.change(NameChange::Changed(from.to_owned(), to.to_owned()));
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending.push(change);
        self.forget_unreachable();
    }

    /// Makes the present names durable.
    pub(crate) fn sync_names(&mut self) {
        self.pending.clear();
        self.durable_names.clone_from(&self.names);
        self.forget_unreachable();
    }

    /// The file is open once more.
    pub(crate) fn open(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.opened += 1;
        }
    }

    /// The file is open once less.
    pub(crate) fn close(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode) {
            inode.opened = inode.opened.saturating_sub(1);
        }
        self.forget_unreachable();
    }

    /// Space taken by what programs can reach, in bytes.
    pub(crate) fn used_bytes(&self) -> u64 {
        let taken = |(number, inode): (&u64, &Inode)| {
            let is_there = inode.opened > 0 || self.names.values().any(|named| named == number);
            if is_there { blocks_of(inode.file.length()) * BLOCK_BYTES } else { 0 }
        };
        self.inodes.iter().map(taken).sum()
    }

    /// Leaves what a power cut leaves; answers how many changes of files were lost, those
    /// of the log's index aside: nobody syncs it, and it is made anew.
    pub(crate) fn cut_power(&mut self, survival: Survival, chance: &mut Chance) -> usize {
        let named = |(name, inode): (&OsString, &u64)| is_log_index(name).then_some(*inode);
        let indices: BTreeSet<_> =
            self.names.iter().chain(&self.durable_names).filter_map(named).collect();
        let pending = std::mem::take(&mut self.pending);
        let survive = match survival {
            Survival::Nothing => 0,
            _ => chance.below(pending.len() as u64 + 1) as usize,
        };
        for change in &pending[..survive] {
            change.apply(&mut self.durable_names);
        }
        self.names.clone_from(&self.durable_names);
        let mut lost = pending[survive..].iter().filter(|change| change.matters()).count();
        let Self { inodes, .. } = self;
        for (number, inode) in inodes {
            inode.opened = 0;
            let lost_of_file = inode.file.cut_power(survival, chance);
            lost += if indices.contains(number) { 0 } else { lost_of_file };
        }
        self.forget_unreachable();
        lost
    }

    /// Forgets files without a name that nobody has open and no power cut would bring back.
    fn forget_unreachable(&mut self) {
        let Self { inodes, names, durable_names, pending, .. } = self;
        let given = |change: &NameChange, number: u64| matches!(change, NameChange::Given(_, inode) if *inode == number);
        inodes.retain(|number, inode| {
            inode.opened > 0
                || names.values().chain(durable_names.values()).any(|named| named == number)
                || pending.iter().any(|change| given(change, *number))
        });
    }
}

fn is_log_index(name: &OsStr) -> bool {
    name.as_encoded_bytes().ends_with(LOG_INDEX)
}

/// How many blocks a file of that length takes.
pub(crate) fn blocks_of(length: usize) -> u64 {
    (length as u64).div_ceil(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(contents: &mut Contents, name: &str, text: &str) -> u64 {
        let inode = contents.create(name.as_ref(), 0o600, (0, 0));
        contents.inode_mut(inode).unwrap().file.write(0, text.as_bytes());
        inode
    }

    fn sync_file(contents: &mut Contents, inode: u64) {
        let file = &mut contents.inode_mut(inode).unwrap().file;
        file.sync(file.unsynced());
    }

    fn shown(contents: &Contents) -> Vec<(String, String)> {
        let show = |(name, inode): (&OsStr, u64)| {
            let bytes = contents.inode(inode).unwrap().file.read(0, usize::MAX);
            (name.to_str().unwrap().to_owned(), String::from_utf8(bytes.to_vec()).unwrap())
        };
        contents.names().map(show).collect()
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn a_file_survives_only_if_its_name_was_synced_too() {
        let mut contents = Contents::new();
        let kept = create(&mut contents, "kept", "a");
        contents.sync_names();
        let nameless = create(&mut contents, "nameless", "b");
        sync_file(&mut contents, kept);
        sync_file(&mut contents, nameless);
        contents.cut_power(Survival::Nothing, &mut Chance::new(1));
        assert_eq!(shown(&contents), [pair("kept", "a")]);
    }

    #[test]
    fn a_file_written_aside_and_renamed_is_the_old_one_or_the_new_one() {
        let mut outcomes = Vec::new();
        for seed in 0..100 {
            let mut contents = Contents::new();
            let old = create(&mut contents, "file", "old");
            sync_file(&mut contents, old);
            contents.sync_names();
            let new = create(&mut contents, "file.next", "new");
            sync_file(&mut contents, new);
            contents.rename("file.next".as_ref(), "file".as_ref());
            contents.cut_power(Survival::Reordered, &mut Chance::new(seed));
            let inode = contents.find("file".as_ref()).expect("one of both");
            let text = contents.inode(inode).unwrap().file.read(0, 10).to_vec();
            outcomes.push(String::from_utf8(text).unwrap());
        }
        outcomes.sort();
        outcomes.dedup();
        assert_eq!(outcomes, ["new", "old"]);
    }

    #[test]
    fn a_file_removed_without_a_sync_is_there_again() {
        let mut contents = Contents::new();
        let file = create(&mut contents, "journal", "a");
        sync_file(&mut contents, file);
        contents.sync_names();
        contents.remove("journal".as_ref());
        assert_eq!(contents.find("journal".as_ref()), None);
        contents.cut_power(Survival::Nothing, &mut Chance::new(1));
        assert_eq!(shown(&contents), [pair("journal", "a")]);
        contents.remove("journal".as_ref());
        contents.sync_names();
        contents.cut_power(Survival::Nothing, &mut Chance::new(1));
        assert_eq!(shown(&contents), []);
        assert_eq!(contents.inodes.len(), 0);
    }

    #[test]
    fn an_open_file_takes_space_until_it_is_closed() {
        let mut contents = Contents::new();
        let file = create(&mut contents, "file", "a");
        contents.open(file);
        contents.remove("file".as_ref());
        contents.sync_names();
        assert_eq!(contents.used_bytes(), BLOCK_BYTES);
        contents.close(file);
        assert_eq!(contents.used_bytes(), 0);
    }
}
