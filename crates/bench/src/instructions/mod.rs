//! Instructions per event, counted by callgrind: repeatable where times are not.
//!
//! Promise: `bench instructions` runs the product's own path ([`path`]) under valgrind, holds the
//! counts against those kept in the repository, and fails when an event has become dearer than the
//! tolerance allows. Counts of another compiler, profile or valgrind cannot be compared: then it
//! reports and does not judge. Neighbours: [`profile`] reads what callgrind wrote, [`counts`] what is
//! kept.

mod counts;
mod path;
mod profile;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::process::say;
use counts::{Counts, Toolchain};
use profile::Profile;

pub(crate) use path::run as run_path;

/// What to do about the counts.
#[derive(Debug, clap::Args)]
pub(crate) struct Choice {
    /// Write the counts into the repository instead of judging by them.
    #[arg(long)]
    accept: bool,
    /// The counts in the repository.
    #[arg(long, default_value = "crates/bench/instructions.json")]
    counts: PathBuf,
    /// Show so many functions of an event with one delivery, those that cost most themselves.
    #[arg(long, default_value_t = 0)]
    functions: usize,
    /// Keep what callgrind wrote in this folder, for `callgrind_annotate`.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// Counts, and judges or accepts. Answers whether all is well.
pub(crate) fn run(choice: &Choice, folder: &Path) -> Result<bool> {
    let place = tempfile::tempdir_in(folder).context("making a folder for the counts")?;
    let written = choice.keep.as_deref().unwrap_or(place.path());
    std::fs::create_dir_all(written).context("making the folder to keep")?;
    let profiles = count(place.path(), written)?;
    if choice.functions > 0 {
        say(functions(&profiles, choice.functions)?);
    }
    let now = Counts::of(toolchain(&profiles)?, &profiles);
    let kept = Counts::read(&choice.counts)?;
    say(now.table(kept.as_ref())?);
    if choice.accept {
        now.write(&choice.counts)?;
        say(format_args!("accepted: {}", choice.counts.display()));
        return Ok(true);
    }
    let Some(kept) = kept else {
        bail!("{} is not there; --accept writes it", choice.counts.display());
    };
    if kept.toolchain != now.toolchain {
        say(format_args!("Not judged: kept are counts of {}.", kept.toolchain));
        return Ok(true);
    }
    let dearer = now.dearer_than(&kept);
    dearer.iter().for_each(say);
    Ok(dearer.is_empty())
}

/// Runs the path under callgrind; answers what each load of [`path::LOADS`] did.
fn count(place: &Path, written: &Path) -> Result<Vec<Profile>> {
    let output = written.join("callgrind.out");
    let program = std::env::current_exe().context("finding this program")?;
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--fair-sched=yes"])
        .arg(format!("--dump-before=*{}*", path::MARK))
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(program)
        .arg("instructions-path")
        .arg(place)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .status()
        .context("starting valgrind; on Debian or Ubuntu: apt-get install valgrind")?;
    ensure!(status.success(), "the path ended with {status} under valgrind");
    // The first dump is of what was before the first mark.
    let loads = path::LOADS.iter().zip(2..);
    loads
        .map(|(load, dump)| {
            let file = format!("{}.{dump}", output.display());
            let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
            Profile::read(&text, load.events()).with_context(|| format!("reading {file}"))
        })
        .collect()
}

fn toolchain(profiles: &[Profile]) -> Result<Toolchain> {
    let valgrind = Command::new("valgrind").arg("--version").output().context("asking valgrind")?;
    let program = std::env::current_exe().context("finding this program")?;
    let profile = program.parent().and_then(Path::file_name).unwrap_or_default();
    Ok(Toolchain {
        compiler: profiles.iter().find_map(Profile::compiler).unwrap_or_default().to_owned(),
        profile: profile.to_string_lossy().into_owned(),
        valgrind: String::from_utf8_lossy(&valgrind.stdout).trim().to_owned(),
    })
}

/// The functions that cost most themselves, per event of each load.
fn functions(profiles: &[Profile], most: usize) -> Result<String> {
    let mut text = String::new();
    for (load, profile) in path::LOADS.iter().zip(profiles) {
        writeln!(
            text,
            "\n| {}: function | instructions per event itself |\n| --- | --- |",
            load.name
        )?;
        for (function, instructions) in profile.functions().into_iter().take(most) {
            writeln!(text, "| {function} | {instructions:.0} |")?;
        }
    }
    Ok(text)
}
