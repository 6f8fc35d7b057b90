//! The counts that are kept in the repository, and what is held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::path::LOADS;
use super::profile::Profile;

/// How much dearer an event may be than the counts that are kept. Two runs of one program differ by
/// a tenth of this.
const TOLERANCE: f64 = 0.02;

/// Parts that take less, in instructions per event of every load, are not told apart.
const PART_MIN: f64 = 500.0;

/// The part that is not judged: valgrind's processor has no SHA instructions, so hashing is counted
/// at many times what it takes.
pub(super) const HASHING: &str = "hashing (not in the sum)";

/// The part that is the measurement's own.
const OURS: &str = "bench";

/// What counts can be compared between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Toolchain {
    /// The commit of the compiler.
    pub(super) compiler: String,
    /// The folder of `target` that the program was built into, which is named like its profile.
    pub(super) profile: String,
    /// Which valgrind.
    pub(super) valgrind: String,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {}, profile {}, {}", self.compiler, self.profile, self.valgrind)
    }
}

/// Instructions per event, by load and part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Counts {
    /// What they were made with.
    pub(super) toolchain: Toolchain,
    loads: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Counts {
    /// Of these loads.
    pub(super) fn of(toolchain: Toolchain, profiles: &[Profile]) -> Self {
        let largest = |part: &str| {
            let counts = profiles.iter().flat_map(Profile::parts);
            counts.filter(|(other, _)| *other == part).map(|(_, count)| count).fold(0.0, f64::max)
        };
        let whole = |profile: &Profile| {
            let mut parts: BTreeMap<String, f64> = BTreeMap::new();
            for (part, count) in profile.parts() {
                let part = if largest(part) < PART_MIN { "other" } else { part };
                *parts.entry(part.to_owned()).or_default() += count;
            }
            for count in parts.values_mut() {
                *count = count.round();
            }
            parts
        };
        let loads = LOADS.iter().zip(profiles);
        Self {
            toolchain,
            loads: loads.map(|(load, profile)| (load.name.to_owned(), whole(profile))).collect(),
        }
    }

    /// Those kept in a file, if it is there.
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        if !file.exists() {
            return Ok(None);
        }
        let shown = file.display();
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {shown}"))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("reading {shown}"))
    }

    /// Keeps them.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// What is judged: every part but hashing and the measurement itself.
    fn sum(&self, load: &str) -> f64 {
        let parts = self.loads.get(load).into_iter().flatten();
        parts.filter(|(part, _)| ![HASHING, OURS].contains(&part.as_str())).map(|(_, it)| it).sum()
    }

    fn part(&self, load: &str, part: &str) -> f64 {
        self.loads.get(load).and_then(|parts| parts.get(part)).copied().unwrap_or(0.0)
    }

    /// A line for each load that is dearer than the tolerance allows, or was never counted.
    pub(super) fn dearer_than(&self, kept: &Self) -> Vec<String> {
        let loads = LOADS.iter().map(|load| load.name);
        loads
            .filter_map(|load| {
                let (was, is) = (kept.sum(load), self.sum(load));
                (is > was * (1.0 + TOLERANCE)).then(|| {
                    format!(
                        "DEARER: {load}: {is:.0} instructions per event, {was:.0} are kept, {:+.1} % \
                         (allowed: {:.0} %). If it must be: bench instructions --accept",
                        100.0 * (is / was - 1.0),
                        100.0 * TOLERANCE
                    )
                })
            })
            .collect()
    }

    /// As a table in Markdown, beside those kept.
    pub(super) fn table(&self, kept: Option<&Self>) -> Result<String> {
        let mut text = format!("Instructions per event ({})\n\n| part |", self.toolchain);
        for load in &LOADS {
            write!(text, " {} |", load.name)?;
        }
        write!(text, "\n| --- |{}", " --- |".repeat(LOADS.len()))?;
        let mut parts: Vec<_> = self
            .loads
            .values()
            .flat_map(BTreeMap::keys)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let dearest =
            |part: &str| LOADS.iter().map(|load| self.part(load.name, part)).fold(0.0, f64::max);
        parts.sort_by(|one, other| dearest(other).total_cmp(&dearest(one)));
        let cell = |text: &mut String, is: f64, was: Option<f64>| match was {
            Some(was) if was > 0.0 => {
                write!(text, " {is:.0} ({:+.1} %) |", 100.0 * (is / was - 1.0))
            }
            _ => write!(text, " {is:.0} |"),
        };
        for part in parts {
            write!(text, "\n| {part} |")?;
            for load in &LOADS {
                let was = kept.map(|kept| kept.part(load.name, part));
                cell(&mut text, self.part(load.name, part), was)?;
            }
        }
        write!(text, "\n| **sum** |")?;
        for load in &LOADS {
            cell(&mut text, self.sum(load.name), kept.map(|kept| kept.sum(load.name)))?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(engine: f64, hashing: f64) -> Counts {
        let parts = BTreeMap::from([
            ("engine".to_owned(), engine),
            (HASHING.to_owned(), hashing),
            (OURS.to_owned(), 7.0),
        ]);
        let loads = LOADS.iter().map(|load| (load.name.to_owned(), parts.clone())).collect();
        Counts { toolchain: Toolchain::default(), loads }
    }

    #[test]
    fn an_event_that_costs_more_than_the_tolerance_allows_is_told() {
        let kept = counts(100_000.0, 50_000.0);
        assert!(counts(101_900.0, 50_000.0).dearer_than(&kept).is_empty());
        assert_eq!(counts(102_100.0, 50_000.0).dearer_than(&kept).len(), LOADS.len());
        assert!(counts(100_000.0, 90_000.0).dearer_than(&kept).is_empty(), "hashing is not judged");
    }
}
