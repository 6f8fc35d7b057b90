//! One file: what programs read in it, and what a power cut leaves of it.
//!
//! Promise: what was written before a sync that went well survives; of what was written after it,
//! only what [`Survival`] grants does, and nothing else is ever in the file. Neighbours: `contents`
//! has the files of a disk.

use crate::disk::chance::Chance;

/// What a disk writes whole or not at all, in bytes: the smallest sector there is.
const SECTOR_BYTES: usize = 512;

/// What a power cut leaves of what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    /// Nothing.
    Nothing,
    /// What was written first, up to some point.
    InOrder,
    /// Some writes and not others, whichever came first.
    Reordered,
    /// As before, and of some writes only some sectors.
    Torn,
}

impl Survival {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::InOrder, Self::Reordered, Self::Torn];
}

/// Something done to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Write { offset: usize, data: Box<[u8]> },
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write { offset, data } => put(bytes, *offset, data),
            Self::Length(length) => bytes.resize(*length, 0),
        }
    }

    /// Applies some of the sectors that are written.
    fn tear(&self, bytes: &mut Vec<u8>, chance: &mut Chance) {
        let Self::Write { offset, data } = self else { return self.apply(bytes) };
        let mut done = 0;
        while done < data.len() {
            let sector_end = SECTOR_BYTES - (offset + done) % SECTOR_BYTES;
            let end = data.len().min(done + sector_end);
            if chance.one_in(2) {
                put(bytes, offset + done, &data[done..end]);
            }
            done = end;
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

/// A file's content.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// What makes the current content of the durable one, oldest first.
    pending: Vec<Change>,
}

impl File {
    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.current.len()
    }

    /// Up to `size` bytes from `offset` on.
    pub(crate) fn read(&self, offset: usize, size: usize) -> &[u8] {
        let start = offset.min(self.current.len());
        let end = offset.saturating_add(size).min(self.current.len());
        &self.current[start..end]
    }

    /// Writes.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        self.change(Change::Write { offset, data: data.into() });
    }

    /// Cuts it off or fills it up with zeros.
    pub(crate) fn set_length(&mut self, length: usize) {
        if length != self.current.len() {
            self.change(Change::Length(length));
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// How many changes are not synced.
    pub(crate) fn unsynced(&self) -> usize {
        self.pending.len()
    }

    /// Whether the file's first byte was written since the last sync.
    pub(crate) fn has_new_head(&self) -> bool {
        self.pending.iter().any(|change| matches!(change, Change::Write { offset: 0, .. }))
    }

    /// Makes the oldest `count` changes durable.
    pub(crate) fn sync(&mut self, count: usize) {
        for change in self.pending.drain(..count.min(self.pending.len())) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails as Linux lets it fail: some of what was to be synced is on the disk, the
    /// rest never will be, and the next sync has nothing to do; programs go on reading all of it.
    pub(crate) fn fail_sync(&mut self, chance: &mut Chance) {
        for change in self.pending.drain(..) {
            if chance.one_in(2) {
                change.apply(&mut self.durable);
            }
        }
    }

    /// Leaves what a power cut leaves; answers how many changes were lost, whole or in part.
    pub(crate) fn cut_power(&mut self, survival: Survival, chance: &mut Chance) -> usize {
        let mut lost = 0;
        let pending = std::mem::take(&mut self.pending);
        let in_order = match survival {
            Survival::InOrder => chance.below(pending.len() as u64 + 1) as usize,
            _ => 0,
        };
        for (number, change) in pending.iter().enumerate() {
            let fate = match survival {
                Survival::InOrder if number < in_order => Fate::Whole,
                Survival::Reordered if chance.one_in(2) => Fate::Whole,
                Survival::Torn => [Fate::Whole, Fate::Torn, Fate::Lost][chance.below(3) as usize],
                Survival::Nothing | Survival::InOrder | Survival::Reordered => Fate::Lost,
            };
            match fate {
                Fate::Whole => change.apply(&mut self.durable),
                Fate::Torn => change.tear(&mut self.durable, chance),
                Fate::Lost => {}
            }
            lost += usize::from(fate != Fate::Whole);
        }
        self.current.clone_from(&self.durable);
        lost
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    Torn,
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: std::ops::Range<u64> = 0..200;

    /// A file of three synced sectors of `s` and three writes of a sector each, not synced.
    fn three_unsynced() -> File {
        let mut file = File::default();
        file.write(0, &[b's'; 3 * SECTOR_BYTES]);
        file.sync(file.unsynced());
        for (number, letter) in [b'a', b'b', b'c'].into_iter().enumerate() {
            file.write(number * SECTOR_BYTES, &[letter; SECTOR_BYTES]);
        }
        file
    }

    /// The first letters of the three sectors after a power cut, for every seed, sorted.
    fn outcomes(survival: Survival) -> Vec<String> {
        let mut outcomes: Vec<String> = SEEDS
            .map(|seed| {
                let mut file = three_unsynced();
                file.cut_power(survival, &mut Chance::new(seed));
                let letter = |sector: usize| char::from(file.read(sector * SECTOR_BYTES, 1)[0]);
                [0, 1, 2].map(letter).iter().collect()
            })
            .collect();
        outcomes.sort();
        outcomes.dedup();
        outcomes
    }

    #[test]
    fn a_power_cut_leaves_what_was_synced_and_of_the_rest_what_the_survival_grants() {
        assert_eq!(outcomes(Survival::Nothing), ["sss"]);
        assert_eq!(outcomes(Survival::InOrder), ["abc", "abs", "ass", "sss"]);
        let any = ["abc", "abs", "asc", "ass", "sbc", "sbs", "ssc", "sss"];
        assert_eq!(outcomes(Survival::Reordered), any);
        assert_eq!(outcomes(Survival::Torn), any);
    }

    #[test]
    fn a_synced_write_survives_every_power_cut() {
        for survival in Survival::ALL {
            for seed in SEEDS {
                let mut file = three_unsynced();
                file.sync(file.unsynced());
                let before = file.read(0, usize::MAX).to_vec();
                assert_eq!(file.cut_power(survival, &mut Chance::new(seed)), 0);
                assert_eq!(file.read(0, usize::MAX), before);
            }
        }
    }

    #[test]
    fn a_sync_makes_durable_what_was_written_before_it_began() {
        let mut file = File::default();
        file.write(0, b"before");
        let begun = file.unsynced();
        file.write(6, b"after");
        file.sync(begun);
        file.cut_power(Survival::Nothing, &mut Chance::new(1));
        assert_eq!(file.read(0, 100), b"before");
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_of_old_or_new() {
        let mut seen_torn = false;
        for seed in SEEDS {
            let mut file = File::default();
            file.write(0, &[b'o'; 4 * SECTOR_BYTES]);
            file.sync(file.unsynced());
            // Not aligned: its first and last sectors are written in part.
            file.write(100, &[b'n'; 3 * SECTOR_BYTES]);
            file.cut_power(Survival::Torn, &mut Chance::new(seed));
            let bytes = file.read(0, usize::MAX);
            let pieces =
                [100..512, 512..1_024, 1_024..1_536, 1_536..1_636].map(|piece| &bytes[piece]);
            assert!(pieces.iter().all(|piece| piece.iter().all(|byte| *byte == piece[0])));
            assert!(bytes[..100].iter().chain(&bytes[1_636..]).all(|byte| *byte == b'o'));
            seen_torn |= pieces.iter().any(|piece| piece[0] != pieces[0][0]);
        }
        assert!(seen_torn);
    }

    #[test]
    fn what_a_failed_sync_dropped_is_read_until_the_power_goes_and_no_later_sync_saves_it() {
        let mut lost = 0;
        for seed in SEEDS {
            let mut file = three_unsynced();
            let chance = &mut Chance::new(seed);
            file.fail_sync(chance);
            assert_eq!(file.read(0, 1), b"a");
            assert_eq!(file.unsynced(), 0, "the next sync has nothing to do");
            file.sync(file.unsynced());
            file.cut_power(Survival::Nothing, chance);
            lost += usize::from(file.read(0, 1) == b"s");
        }
        assert!((50..150).contains(&lost), "about half: {lost}");
    }

    #[test]
    fn a_file_that_was_cut_off_or_grew_without_a_sync_has_its_old_length() {
        let mut file = File::default();
        file.write(0, b"synced");
        file.sync(file.unsynced());
        file.set_length(2);
        assert_eq!(file.read(0, 100), b"sy");
        file.write(4_000, b"far");
        assert_eq!(file.length(), 4_003);
        file.cut_power(Survival::Nothing, &mut Chance::new(3));
        assert_eq!(file.read(0, 100), b"synced");
    }

    #[test]
    fn the_same_seed_leaves_the_same() {
        for survival in Survival::ALL {
            let leave = |seed| {
                let mut file = three_unsynced();
                file.cut_power(survival, &mut Chance::new(seed));
                file.current
            };
            assert_eq!(leave(42), leave(42));
        }
    }
}
