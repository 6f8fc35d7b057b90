//! Whether the write-ahead log is all there, before SQLite reads it.
//!
//! SQLite takes the longest prefix of the log that is whole for all of it, without a word: right
//! after a crash, when the rest was never synced, and wrong if what follows was damaged later.
//! Promise of [`check`]: a log is refused of which something is missing that had been synced, as far
//! as anything that is left says so; a log that a crash or a power loss left is never refused. Two
//! things tell. A transaction begins only when the one before it is synced: so frames that carry on
//! behind a commit prove all that is before them. And the log's index (`-shm`) counts a transaction
//! only once it is synced: so there were never fewer frames than it counts. Neither sees a log and
//! index cut at the same place. The formats are SQLite's (its "WAL-mode File Format").

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::statistics::PAGE_BYTES;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES as usize;

/// The first word of a log, but for its last bit: whether its checksums take words as big-endian.
const MAGIC: u32 = 0x377f_0682;

/// One copy of the index's header; there are two, and then how far the log was copied into the
/// database file.
const INDEX_HEADER_BYTES: usize = 48;

/// What is missing in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    /// The first frame that is not whole, or not there, from 1 on.
    pub(crate) frame: u32,
    /// To which length the log can be cut so that the database is as it once was; `None` if that is not
    /// known, or nowhere: a log that is shorter than what was copied from it spoils the database.
    pub(crate) usable_bytes: Option<u64>,
}

/// What is missing in the log, if anything is known to be. Syncs the log first: what SQLite is going
/// to read in it may be what a process wrote that died before it synced, and is built upon from now on.
pub(crate) fn check(log: &Path, index: &Path) -> io::Result<Option<Gap>> {
    let index = match std::fs::read(index) {
        Ok(bytes) => Index::read(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let log = match File::open(log) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(missing_altogether(index));
        }
        Err(error) => return Err(error),
    };
    log.sync_data()?;
    check_frames(&mut BufReader::with_capacity(FRAME_BYTES * 16, log), index)
}

fn check_frames(log: &mut impl Read, index: Option<Index>) -> io::Result<Option<Gap>> {
    let mut header = [0; HEADER_BYTES];
    if !read_all(log, &mut header)? || header == [0; HEADER_BYTES] {
        return Ok(missing_altogether(index));
    }
    let mut frame = vec![0; FRAME_BYTES];
    let Some(begin) = Begin::read(&header) else {
        // A power loss may spoil a header that begins the log anew; the frames are older ones then.
        let is_live = read_all(log, &mut frame)? && Begin::may_have_begun(&header, &frame);
        return Ok(is_live.then(|| gap(0, index)));
    };
    let (mut sum, mut read, mut whole) = (begin.sum, 0, 0);
    while read_all(log, &mut frame)? {
        read += 1;
        let Some(next) = begin.proves(sum, &frame) else {
            let proven = goes_on(&begin, log, sum, &mut frame)?;
            let index = index.filter(|index| index.salts == begin.salts);
            let is_counted = index.is_some_and(|index| index.frames > whole);
            return Ok((proven || is_counted).then(|| gap(whole, index)));
        };
        sum = next;
        if is_commit(&frame) {
            whole = read;
        }
    }
    let index = index.filter(|index| index.salts == begin.salts && index.frames > whole);
    Ok(index.is_some().then(|| gap(whole, index)))
}

/// Whether there is a transaction behind `frame`, which is not whole, that began when the one of
/// `frame` was synced: frames that follow from one another, and among them one after a commit.
/// `sum` is what comes before `frame`.
fn goes_on(begin: &Begin, log: &mut impl Read, sum: Sum, frame: &mut [u8]) -> io::Result<bool> {
    // What is damaged in it may be its own checksum.
    let mut before = [stored_sum(frame), begin.sum_of(sum, frame)];
    let mut is_behind_commit = is_commit(frame);
    while read_all(log, frame)? {
        match before.iter().find_map(|sum| begin.proves(*sum, frame)) {
            Some(_) if is_behind_commit => return Ok(true),
            Some(_) => is_behind_commit = is_commit(frame),
            // What follows from this one may have been written apart from what was before.
            None => is_behind_commit = false,
        }
        before = [stored_sum(frame); 2];
    }
    Ok(false)
}

/// A log without a header has nothing to compare an index with. It is one that was emptied in good
/// order, before which all of it was copied, or one that is gone.
fn missing_altogether(index: Option<Index>) -> Option<Gap> {
    let is_owed = index.is_some_and(|index| index.frames > index.copied);
    is_owed.then(|| gap(0, index))
}

fn gap(whole: u32, index: Option<Index>) -> Gap {
    let bytes = match whole {
        0 => 0,
        _ => HEADER_BYTES as u64 + u64::from(whole) * FRAME_BYTES as u64,
    };
    let usable_bytes =
        index.and_then(|Index { frames, copied, copied_at_most, .. }| match copied {
            _ if copied_at_most <= whole => Some(bytes),
            _ if copied == frames => Some(0),
            _ => None,
        });
    Gap { frame: whole + 1, usable_bytes }
}

/// A running checksum.
type Sum = (u32, u32);

/// What the frames of a log have in common.
#[derive(Clone, Copy)]
struct Begin {
    is_big_endian: bool,
    salts: [u8; 8],
    /// From which the first frame's checksum goes on.
    sum: Sum,
}

impl Begin {
    /// The header of a log, if it is whole.
    fn read(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let [begin, ..] = Self::guesses(header);
        let is_whole = big(header, 0) & !1 == MAGIC && begin.sum == stored(header, 24);
        is_whole.then_some(begin)
    }

    /// Whether the frame is the first of a log whose header this was before something in it was altered.
    fn may_have_begun(header: &[u8; HEADER_BYTES], frame: &[u8]) -> bool {
        let salts = frame[8..16].try_into().expect("8 bytes are 8 bytes");
        let mut guesses = Self::guesses(header).into_iter().map(|begin| Self { salts, ..begin });
        guesses.any(|begin| begin.proves(begin.sum, frame).is_some())
    }

    /// What a header may mean: first what it does say, with the checksum that it should have.
    fn guesses(header: &[u8; HEADER_BYTES]) -> [Self; 4] {
        let salts = header[16..24].try_into().expect("8 bytes are 8 bytes");
        let is_big_endian = big(header, 0) & 1 == 1;
        let computed = |is_big_endian| Self {
            is_big_endian,
            salts,
            sum: add(is_big_endian, (0, 0), &header[..24]),
        };
        let stored = |is_big_endian| Self { is_big_endian, salts, sum: stored(header, 24) };
        [
            computed(is_big_endian),
            stored(is_big_endian),
            computed(!is_big_endian),
            stored(!is_big_endian),
        ]
    }

    /// The checksum up to and with this frame, if it is of this log and follows from `before`.
    fn proves(&self, before: Sum, frame: &[u8]) -> Option<Sum> {
        if frame[8..16] != self.salts || big(frame, 0) == 0 {
            return None;
        }
        let sum = self.sum_of(before, frame);
        (sum == stored_sum(frame)).then_some(sum)
    }

    fn sum_of(&self, before: Sum, frame: &[u8]) -> Sum {
        let sum = add(self.is_big_endian, before, &frame[..8]);
        add(self.is_big_endian, sum, &frame[FRAME_HEADER_BYTES..])
    }
}

/// Whether the frame says that it ends a transaction: how large the database is then.
fn is_commit(frame: &[u8]) -> bool {
    big(frame, 4) != 0
}

fn stored_sum(frame: &[u8]) -> Sum {
    stored(frame, 16)
}

fn stored(bytes: &[u8], at: usize) -> Sum {
    (big(bytes, at), big(bytes, at + 4))
}

fn big(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes are 4 bytes"))
}

fn native(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes are 4 bytes"))
}

fn add(is_big_endian: bool, sum: Sum, bytes: &[u8]) -> Sum {
    let word = if is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let (pairs, _) = bytes.as_chunks::<8>();
    pairs.iter().fold(sum, |(one, two), [a, b, c, d, e, f, g, h]| {
        let one = one.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(two);
        let two = two.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(one);
        (one, two)
    })
}

/// What the index says of the log.
#[derive(Clone, Copy)]
struct Index {
    /// How many frames were synced.
    frames: u32,
    /// How many of them were copied into the database file, and synced there.
    copied: u32,
    /// How many may stand there, if a copying was broken off; all of them once a log was found that a
    /// crash left, when nobody knows.
    copied_at_most: u32,
    salts: [u8; 8],
}

impl Index {
    /// `None` if it is not whole, or was never used.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_at_checked(INDEX_HEADER_BYTES)?;
        let (second, rest) = rest.split_at_checked(INDEX_HEADER_BYTES)?;
        let copied = rest.first_chunk::<4>()?;
        // The marks and locks of readers are between them.
        let copied_at_most = rest.get(32..)?.first_chunk::<4>()?;
        let sum = add(cfg!(target_endian = "big"), (0, 0), &first[..40]);
        let is_whole = first == second && sum == (native(first, 40), native(first, 44));
        let is_used = first[12] != 0;
        (is_whole && is_used).then(|| Self {
            frames: native(first, 16),
            copied: u32::from_ne_bytes(*copied),
            copied_at_most: u32::from_ne_bytes(*copied_at_most),
            salts: first[32..40].try_into().expect("8 bytes are 8 bytes"),
        })
    }
}

/// Fills the buffer; `false` if there is not as much left.
fn read_all(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
