//! The disk as a file system that any program can use (FUSE).
//!
//! Promise: every write and every sync arrives at the disk as the program made it, in its order:
//! the kernel keeps copies to read from, never writes of its own (but for mapped memory). Locks are
//! the kernel's. One folder, no links, no folders within. Neighbours: `state` is the disk.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::disk::contents::{BLOCK_BYTES, FOLDER, blocks_of};
use crate::disk::state::{Shared, State, Wish};

/// How long the kernel may rely on what it knows: nobody else changes anything.
const KNOWN_FOR: Duration = Duration::from_hours(1);

/// Longest name, in bytes, as on common file systems.
const NAME_BYTES_MAX: u32 = 255;

/// The file system.
pub(crate) struct Mounted {
    /// The disk.
    pub(crate) disk: Arc<Shared>,
    /// Whose the folder is: user and group.
    pub(crate) owner: (u32, u32),
}

impl Mounted {
    fn attributes(&self, state: &State, number: u64) -> Result<FileAttr, Errno> {
        let (kind, perm, (uid, gid), length) = if number == FOLDER {
            (FileType::Directory, 0o700, self.owner, 0)
        } else {
            let inode = state.contents.inode(number).ok_or(Errno::ENOENT)?;
            (FileType::RegularFile, inode.mode, inode.owner, inode.file.length())
        };
        let then = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: INodeNo(number),
            size: length as u64,
            blocks: blocks_of(length) * BLOCK_BYTES / 512,
            atime: then,
            mtime: then,
            ctime: then,
            crtime: then,
            kind,
            perm,
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            blksize: BLOCK_BYTES as u32,
            flags: 0,
        })
    }

    fn look_up(&self, name: &OsStr) -> Result<FileAttr, Errno> {
        let state = self.disk.enter(Wish::Look)?;
        let inode = state.contents.find(name).ok_or(Errno::ENOENT)?;
        self.attributes(&state, inode)
    }

    fn create_file(&self, name: &OsStr, mode: u32, owner: (u32, u32)) -> Result<FileAttr, Errno> {
        let mut state = self.disk.enter(Wish::Change)?;
        state.check_writable()?;
        let inode = state.contents.create(name, (mode & 0o7777) as u16, owner);
        state.contents.open(inode);
        self.attributes(&state, inode)
    }

    fn open_file(&self, inode: u64, flags: OpenFlags) -> Result<(), Errno> {
        let mut state = self.disk.enter(Wish::Look)?;
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            state.check_writable()?;
        }
        state.contents.open(inode);
        Ok(())
    }

    fn set(
        &self,
        inode: u64,
        mode: Option<u32>,
        owner: (Option<u32>, Option<u32>),
        length: Option<u64>,
    ) -> Result<FileAttr, Errno> {
        let mut state = self.disk.enter(Wish::Change)?;
        if let Some(length) = length {
            state.set_length(inode, length as usize)?;
        }
        if let Some(inode) = state.contents.inode_mut(inode) {
            inode.mode = mode.map_or(inode.mode, |mode| (mode & 0o7777) as u16);
            inode.owner = (owner.0.unwrap_or(inode.owner.0), owner.1.unwrap_or(inode.owner.1));
        }
        self.attributes(&state, inode)
    }

    fn remove(&self, name: &OsStr) -> Result<(), Errno> {
        let mut state = self.disk.enter(Wish::Change)?;
        state.check_writable()?;
        state.contents.find(name).ok_or(Errno::ENOENT)?;
        state.contents.remove(name);
        Ok(())
    }

    fn change_name(&self, from: &OsStr, to: &OsStr, flags: RenameFlags) -> Result<(), Errno> {
        let mut state = self.disk.enter(Wish::Change)?;
        state.check_writable()?;
        state.contents.find(from).ok_or(Errno::ENOENT)?;
        if flags == RenameFlags::RENAME_NOREPLACE && state.contents.find(to).is_some() {
            return Err(Errno::EEXIST);
        }
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return Err(Errno::EINVAL);
        }
        state.contents.rename(from, to);
        Ok(())
    }
}

fn answer(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Mounted {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(name) {
            Ok(attributes) => reply.entry(&KNOWN_FOR, &attributes, Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let entered = self.disk.enter(Wish::Look);
        match entered.and_then(|state| self.attributes(&state, inode.0)) {
            Ok(attributes) => reply.attr(&KNOWN_FOR, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.set(inode.0, mode, (user, group), length) {
            Ok(attributes) => reply.attr(&KNOWN_FOR, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        _: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.create_file(name, mode, (request.uid(), request.gid())) {
            Ok(attributes) => {
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&KNOWN_FOR, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.open_file(inode.0, flags) {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(errno) => reply.error(errno),
        }
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        // Also without power: what a program had open is closed with it.
        self.disk.state().contents.close(inode.0);
        reply.ok();
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.disk.enter(Wish::Look) {
            Ok(state) => match state.contents.inode(inode.0) {
                Some(inode) => reply.data(inode.file.read(offset as usize, size as usize)),
                None => reply.error(Errno::ENOENT),
            },
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let entered = self.disk.enter(Wish::Change);
        match entered.and_then(|mut state| state.write(inode.0, offset as usize, data)) {
            Ok(written) => reply.written(written as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(self.disk.sync(inode.0), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = self.disk.enter(Wish::Change).map(|mut state| state.sync_names());
        answer(synced, reply);
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer(self.remove(name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        answer(self.change_name(name, new_name, flags), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let Ok(state) = self.disk.enter(Wish::Look) else { return reply.error(Errno::EIO) };
        let folders = [".", ".."].map(|name| (OsStr::new(name), FOLDER, FileType::Directory));
        let files =
            state.contents.names().map(|(name, inode)| (name, inode, FileType::RegularFile));
        let entries = folders.into_iter().chain(files).zip(1..).skip(offset as usize);
        for ((name, inode, kind), next) in entries {
            if reply.add(INodeNo(inode), next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let Ok(state) = self.disk.enter(Wish::Look) else { return reply.error(Errno::EIO) };
        let (blocks, free) = (state.capacity_bytes / BLOCK_BYTES, state.free_bytes() / BLOCK_BYTES);
        let block = BLOCK_BYTES as u32;
        reply.statfs(blocks, free, free, 1_000_000, 1_000_000, block, NAME_BYTES_MAX, block);
    }
}
