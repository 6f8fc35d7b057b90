//! The benchmark: what the bare parts cost (the floor) and what the real thing costs, in one run on
//! one machine.
//!
//! ```text
//! cargo build --release --workspace
//! cargo run --release -p bench -- all
//! ```
//!
//! Promise: every figure is of the process it names (from `/proc`, so Linux only), every event is
//! checked to have come exactly once, latencies count from when an event was to be published, and
//! the machine's own `fdatasync` time of the same run stands beside them.

mod clock;
mod drive;
mod floor;
mod fsync;
mod full_speed;
mod instructions;
mod load;
mod misbehaving;
mod neighbours;
mod percentiles;
mod policy;
mod process;
mod publisher;
mod receiver;
mod report;
mod service;
mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};

use crate::floor::{Floor, Protection};
use crate::load::Load;
use crate::policy::Sizes;
use crate::process::say;
use crate::report::Report;

#[derive(Debug, Parser)]
#[command(about = "Measures Postrider against the sum of its bare parts")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure the bare parts.
    Floor(Scale),
    /// Measure what protection costs, alone.
    Protection(Scale),
    /// Measure `postrider serve`.
    Run {
        #[command(flatten)]
        scale: Scale,
        #[command(flatten)]
        choice: Choice,
    },
    /// Measure both, hold them against the goals, write target/bench.json.
    All {
        #[command(flatten)]
        scale: Scale,
        #[command(flatten)]
        choice: Choice,
    },
    /// Count instructions per event under callgrind and hold them against those kept.
    Instructions {
        /// Folder for a store, made and removed.
        #[arg(long, default_value = "target")]
        folder: PathBuf,
        #[command(flatten)]
        choice: instructions::Choice,
    },
    /// Measure any sender of webhooks through its own API.
    Drive(drive::Choice),
    #[command(hide = true)]
    Receiver,
    #[command(hide = true)]
    Misbehaving {
        #[arg(long)]
        silent: bool,
    },
    #[command(hide = true)]
    InstructionsPath { folder: PathBuf },
    #[command(hide = true)]
    FloorIntake,
    #[command(hide = true)]
    FloorStorage { file: PathBuf, deliveries: usize },
    #[command(hide = true)]
    FloorSending { address: SocketAddr },
}

#[derive(Debug, Args)]
struct Scale {
    /// Events of a load at full speed.
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Folder on the disk to measure; stores are made in it and removed.
    #[arg(long, default_value = "target")]
    folder: PathBuf,
}

#[derive(Debug, Args)]
struct Choice {
    /// Run only these loads.
    #[arg(long = "load")]
    loads: Vec<Load>,
    /// Events per second to each account of the load with bad neighbours.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    rate: u64,
    /// Deliveries of the backlog.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Endpoints of the load with very many.
    #[arg(long, default_value_t = 100_000)]
    endpoints: usize,
    /// The service's program; the one beside this one unless said.
    #[arg(long)]
    postrider: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let done = match Arguments::parse().command {
        Task::Floor(scale) => finish(&scale, |report| measure_floor(report, &scale)),
        Task::Protection(scale) => finish(&scale, measure_protection),
        Task::Run { scale, choice } => finish(&scale, |report| run_loads(report, &scale, choice)),
        Task::All { scale, choice } => finish(&scale, |report| {
            measure_floor(report, &scale)?;
            run_loads(report, &scale, choice)?;
            report.write_json(Path::new("target/bench.json"))
        }),
        Task::Instructions { folder, choice } => {
            std::fs::create_dir_all(&folder).context("making the folder")?;
            if !instructions::run(&choice, &folder)? {
                return Ok(ExitCode::FAILURE);
            }
            Ok(())
        }
        Task::InstructionsPath { folder } => instructions::run_path(&folder),
        Task::Drive(choice) => drive::run(&choice),
        Task::Receiver => receiver::run(),
        Task::Misbehaving { silent } => misbehaving::run(silent),
        Task::FloorIntake => floor::run_intake(),
        Task::FloorStorage { file, deliveries } => floor::run_storage(&file, deliveries),
        Task::FloorSending { address } => floor::run_sending(address),
    };
    done.map(|()| ExitCode::SUCCESS)
}

fn finish(scale: &Scale, work: impl FnOnce(&mut Report) -> Result<()>) -> Result<()> {
    std::fs::create_dir_all(&scale.folder).context("making the folder")?;
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report { processors, ..Report::default() };
    let worked = work(&mut report);
    // What was measured before something went wrong is worth seeing.
    say(report.tables()?);
    worked
}

fn measure_floor(report: &mut Report, scale: &Scale) -> Result<()> {
    report.floor = Some(Floor::measure(scale.events, &scale.folder)?);
    measure_protection(report)
}

fn measure_protection(report: &mut Report) -> Result<()> {
    report.protection = Some(Protection::measure()?);
    Ok(())
}

fn run_loads(report: &mut Report, scale: &Scale, choice: Choice) -> Result<()> {
    let program = service::program(choice.postrider)?;
    let sizes = Sizes { backlog: choice.backlog, endpoints: choice.endpoints };
    let loads = if choice.loads.is_empty() { Load::ALL.to_vec() } else { choice.loads };
    for load in loads {
        report.add(load::run(load, scale.events, choice.rate, sizes, &program, &scale.folder)?);
    }
    Ok(())
}
