//! The fault suite: breaks what a service depends on, and holds it to its promises.
//!
//! ```text
//! cargo build -p server -p faults
//! target/debug/postrider-faults all
//! ```
//!
//! Promise: exit code 0 means that every scenario asked for made faults, met work with them, and
//! found no promise broken. The seed printed repeats the decisions of a run.

mod client;
mod disk;
mod needs;
mod oracle;
mod plan;
mod producer;
mod receiver;
mod records;
mod report;
mod scenario;
mod service;
mod simulation;
mod stage;

use std::hash::{BuildHasher as _, RandomState};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use clap::builder::PossibleValuesParser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::needs::Need;
use crate::plan::{Form, Plan};
use crate::report::Report;
use crate::scenario::{SCENARIOS, Scenario};

/// Where the reports go.
const REPORTS: &str = "target/faults.json";

/// How long what goes on beside a scenario may take to end, once asked to.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

/// Breaks what Postrider depends on, and holds it to its promises.
#[derive(Debug, Parser)]
#[command(name = "postrider-faults", after_help = described())]
struct Arguments {
    /// A scenario; `all` of them; or `check` whether this machine has what they need.
    #[arg(value_parser = PossibleValuesParser::new(names()))]
    scenario: String,
    /// Repeats the decisions of the run with this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// How often to break something, instead of what the form has.
    #[arg(long)]
    cycles: Option<u64>,
    /// How many minutes to go on, instead of what the form has: for soak.
    #[arg(long)]
    minutes: Option<u64>,
    /// Events a second, instead of what the form has: for soak.
    #[arg(long)]
    rate: Option<f64>,
    /// The program under test; the one beside this one unless said.
    #[arg(long)]
    postrider: Option<PathBuf>,
    /// Where the folders of stores are made.
    #[arg(long, default_value = "target/faults")]
    folder: PathBuf,
    /// Seconds for each scenario: the default.
    #[arg(long, conflicts_with = "long")]
    short: bool,
    /// Minutes to hours for each scenario.
    #[arg(long)]
    long: bool,
}

fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|scenario| scenario.name).chain(["all", "check"]).collect()
}

fn described() -> String {
    let line = |scenario: &Scenario| format!("  {:<18} {}\n", scenario.name, scenario.about);
    format!("Scenarios:\n{}", SCENARIOS.iter().map(line).collect::<String>())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("postrider-faults: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all is well.
fn run(arguments: Arguments) -> Result<bool> {
    if arguments.scenario == "check" {
        return Ok(check());
    }
    let chosen: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| ["all", scenario.name].contains(&arguments.scenario.as_str()))
        .collect();
    let plan = plan(arguments)?;
    say(&format!("seed {}", plan.seed));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let reports = runtime.block_on(async {
        let running = async {
            let mut reports = Vec::new();
            for scenario in chosen {
                say(&format!("{}: {}", scenario.name, scenario.about));
                reports.push(run_one(scenario, &plan).await);
            }
            reports
        };
        // Whoever is dropped takes the processes and mounts along.
        tokio::select! {
            reports = running => Ok(reports),
            signal = asked_to_stop() => Err(signal),
        }
    });
    let reports = match reports {
        Ok(reports) => {
            runtime.shutdown_background();
            reports
        }
        Err(signal) => {
            // The tasks have processes and mounts too.
            runtime.shutdown_timeout(STOPPED_WITHIN);
            bail!("stopped by {}", signal?);
        }
    };
    say(&report::table(&reports)?);
    report::write_json(&reports, Path::new(REPORTS))?;
    Ok(reports.iter().all(Report::passed))
}

/// Waits until somebody asks this program to stop; answers how.
async fn asked_to_stop() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// A scenario that cannot be run, or does not come to its end, has not passed.
async fn run_one(scenario: &Scenario, plan: &Plan) -> Report {
    let begun_at = Instant::now();
    let missing = needs::missing(scenario.needs);
    let ran = if missing.is_empty() {
        (scenario.run)(plan).await
    } else {
        let remedies = missing.iter().map(|need| format!("{}: {}", need.name(), need.remedy()));
        Err(anyhow::anyhow!("this machine lacks {}", remedies.collect::<Vec<_>>().join("; ")))
    };
    let mut report = ran.unwrap_or_else(|error| {
        let mut report = Report::new(scenario.name, plan);
        report.broken(format!("it did not come to its end: {error:#}"));
        report
    });
    report.took = begun_at.elapsed();
    report
}

fn plan(arguments: Arguments) -> Result<Plan> {
    let program = match arguments.postrider {
        Some(program) => program,
        None => {
            std::env::current_exe().context("finding this program")?.with_file_name("postrider")
        }
    };
    ensure!(program.exists(), "{} is not there: cargo build -p server", program.display());
    // Wrappers may change the folder they run in.
    let program = program.canonicalize().context("finding the program under test")?;
    std::fs::create_dir_all(&arguments.folder).context("making the folder")?;
    Ok(Plan {
        seed: arguments.seed.unwrap_or_else(any_seed),
        cycles: arguments.cycles,
        minutes: arguments.minutes,
        rate: arguments.rate,
        program,
        folder: arguments.folder.canonicalize().context("finding the folder")?,
        form: if arguments.long { Form::Long } else { Form::Short },
    })
}

/// A seed nobody chose, short enough to be typed.
fn any_seed() -> u64 {
    RandomState::new().hash_one("seed") % 1_000_000_000
}

/// Says what this machine lacks, for which scenario, and how to get it.
fn check() -> bool {
    for need in Need::ALL {
        let users = SCENARIOS.iter().filter(|scenario| scenario.needs.contains(&need));
        let users: Vec<_> = users.map(|scenario| scenario.name).collect();
        let state = if need.is_met() {
            "is here".to_owned()
        } else {
            format!("is MISSING: {}", need.remedy())
        };
        if !users.is_empty() {
            say(&format!("{} {state} (for {})", need.name(), users.join(", ")));
        }
    }
    SCENARIOS.iter().all(|scenario| needs::missing(scenario.needs).is_empty())
}

fn say(line: &str) {
    // Nobody is left to tell if standard output is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}
