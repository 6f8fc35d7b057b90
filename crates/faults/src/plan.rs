//! What to run, and how: everything a scenario decides by.
//!
//! Promise: two runs of one plan decide alike: the chance of every decision comes from the seed.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::disk::Chance;

/// How much of a scenario to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Seconds: for every change.
    Short,
    /// Minutes to hours: for every release.
    Long,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Decides everything that is left to chance.
    pub(crate) seed: u64,
    /// How often to break something, if it was said.
    pub(crate) cycles: Option<u64>,
    /// How many minutes to go on, if it was said; of scenarios that go by time.
    pub(crate) minutes: Option<u64>,
    /// Events a second, if it was said; of the same.
    pub(crate) rate: Option<f64>,
    /// The program under test.
    pub(crate) program: PathBuf,
    /// Where the folders of stores are made.
    pub(crate) folder: PathBuf,
    /// How much to run.
    pub(crate) form: Form,
}

impl Plan {
    /// How often to break something: as often as was said, or as the form has it.
    pub(crate) fn cycles(&self, short: u64, long: u64) -> u64 {
        self.cycles.unwrap_or(self.by_form(short, long))
    }

    /// The one of the short form, or of the long.
    pub(crate) fn by_form<T>(&self, short: T, long: T) -> T {
        match self.form {
            Form::Short => short,
            Form::Long => long,
        }
    }

    /// The chance of the part of a scenario with this number, apart from every other part's.
    pub(crate) fn chance(&self, part: u64) -> Chance {
        let mut seeds = Chance::new(self.seed);
        Chance::new(seeds.next() ^ Chance::new(part).next())
    }

    /// A new folder, removed when dropped.
    pub(crate) fn new_folder(&self, name: &str) -> Result<tempfile::TempDir> {
        std::fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .tempdir_in(&self.folder)
            .with_context(|| format!("cannot make a folder in {}", self.folder.display()))
    }
}
