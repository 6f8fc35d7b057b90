//! Engine, sender and store in a simulated world, by seed.
//!
//! `--cycles` says how many seeds, `--seed` the first of them: 200 in the short form, 10,000 in the
//! long one. `--cycles 1` runs that seed only and writes its trace, line by line, into the folder.
//! Beside them run the seeds that once found something, some twice (the traces must be the same),
//! and some with one protection switched off, which must be found.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};

use crate::plan::Plan;
use crate::report::Report;
use crate::simulation::{Counters, Ran, Sabotage, Sometimes, has_two_engines, run as run_seed};

/// Seeds that once found something.
const KEPT: &str = include_str!("../../seeds/simulation.txt");

/// From so many seeds on, everything that must happen sometimes must have happened.
const TELLING_SEEDS: u64 = 100;

/// One seed in so many is run twice.
const TWICE_ONE_IN: usize = 20;

/// Within so many seeds a missing protection must be found.
const FOUND_WITHIN: u64 = 60;

/// Runs the simulation.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let plan = plan.clone();
    // It fills its threads, with runtimes of its own.
    tokio::task::spawn_blocking(move || run_all(&plan)).await.context("the simulation panicked")?
}

fn run_all(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("simulate", plan);
    let cycles = plan.cycles(200, 10_000);
    if cycles == 1 {
        run_one(plan, &mut report)?;
        return Ok(report);
    }
    let mut seeds = kept_seeds()?;
    report.note(format!("{} kept seeds", seeds.len()));
    seeds.extend((0..cycles).map(|number| plan.seed.wrapping_add(number)));
    let mut counters = Counters::new();
    let mut hours = 0.0;
    for ran in on_all_cores(&seeds, |seed| run_seed(seed, None, false)) {
        report.cycles += 1;
        hours += ran.simulated.as_secs_f64() / 3_600.0;
        add(&mut report, &ran, &mut counters);
        if !ran.violations.is_empty() {
            let file = write_trace(plan, &run_seed(ran.seed, None, true))?;
            report.note(format!("the trace of seed {} is in {}", ran.seed, file.display()));
        }
    }
    report.note(format!("{hours:.1} hours simulated"));
    check_sometimes(&mut report, &counters, cycles);
    check_twice(&mut report, plan, &seeds)?;
    let controls: Vec<u64> = (0..Sabotage::ALL.len() as u64).collect();
    let control = |number| find_missing(plan.seed, Sabotage::ALL[number as usize]);
    for found in on_all_cores(&controls, control) {
        match found {
            Ok(note) => report.note(note),
            Err(violation) => report.broken(violation),
        }
    }
    Ok(report)
}

/// Runs the one seed and writes its trace.
fn run_one(plan: &Plan, report: &mut Report) -> Result<()> {
    let ran = run_seed(plan.seed, None, true);
    report.cycles = 1;
    add(report, &ran, &mut Counters::new());
    // A calm run has moody receivers only.
    report.injected = report.injected.max(1);
    let file = write_trace(plan, &ran)?;
    report.note(format!("{} lines, {}, in {}", ran.lines, ran.digest, file.display()));
    Ok(())
}

fn kept_seeds() -> Result<Vec<u64>> {
    let lines = KEPT.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let numbers = lines.filter(|line| !line.is_empty()).map(str::parse);
    numbers.collect::<Result<_, _>>().context("reading the kept seeds")
}

/// Runs all seeds, each on one core; answers in their order.
fn on_all_cores<T: Send>(seeds: &[u64], run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let next = AtomicU64::new(0);
    let done = Mutex::new(Vec::with_capacity(seeds.len()));
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(seed) = seeds.get(place) else { return };
                    let ran = run(*seed);
                    done.lock().expect("nobody panics under the lock").push((place, ran));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics under the lock");
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, ran)| ran).collect()
}

fn add(report: &mut Report, ran: &Ran, counters: &mut Counters) {
    report.tally += ran.tally;
    for violation in &ran.violations {
        report.broken(format!("seed {}: {violation}", ran.seed));
    }
    for (what, times) in &ran.counters {
        *counters.entry(*what).or_default() += times;
        if what.is_fault() {
            report.injected += times;
        }
    }
}

fn check_sometimes(report: &mut Report, counters: &Counters, cycles: u64) {
    let times = |what: &Sometimes| counters.get(what).copied().unwrap_or_default();
    let all: Vec<_> =
        Sometimes::ALL.iter().map(|what| format!("{what:?} {}", times(what))).collect();
    report.note(all.join(", "));
    if cycles >= TELLING_SEEDS {
        for what in Sometimes::ALL.iter().filter(|what| times(what) == 0) {
            report.broken(format!("it never happened: {what:?}"));
        }
    }
}

/// The same seed gives the same trace, each time in a process of its own, as whoever repeats it does.
fn check_twice(report: &mut Report, plan: &Plan, seeds: &[u64]) -> Result<()> {
    let some: Vec<u64> = seeds.iter().copied().step_by(TWICE_ONE_IN).collect();
    let twice = |seed| anyhow::Ok((trace_alone(plan, seed)?, trace_alone(plan, seed)?));
    for (seed, traces) in some.iter().zip(on_all_cores(&some, twice)) {
        let (first, second) = traces?;
        report
            .must(!first.is_empty() && first == second, || format!("seed {seed} gave two traces"));
    }
    report.note(format!(
        "{} seeds run twice in processes of their own, with the same trace",
        some.len()
    ));
    Ok(())
}

fn trace_alone(plan: &Plan, seed: u64) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir_in(&plan.folder)?;
    let program = std::env::current_exe().context("finding this program")?;
    let status = Command::new(program)
        .args(["simulate", "--cycles", "1", "--seed", &seed.to_string(), "--postrider"])
        .arg(&plan.program)
        .arg("--folder")
        .arg(folder.path())
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("running a seed in a process of its own")?;
    ensure!(status.success(), "seed {seed} alone ended with {status}");
    let file = folder.path().join(format!("simulate-{seed}.trace"));
    std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// A protection that is switched off is missed: what was found, or that nothing was.
fn find_missing(first: u64, sabotage: Sabotage) -> Result<String, String> {
    // Leases are lost to others only where there are others.
    let wanted = |seed: &u64| sabotage != Sabotage::Fence || has_two_engines(*seed);
    let seeds = (0..).map(|number| first.wrapping_add(number)).filter(wanted);
    for (tried, seed) in (1..=FOUND_WITHIN).zip(seeds) {
        let ran = run_seed(seed, Some(sabotage), false);
        if let Some(violation) = ran.violations.first() {
            return Ok(format!("without {sabotage:?}: found at seed {tried}: {violation}"));
        }
    }
    Err(format!("without {sabotage:?} nothing was found in {FOUND_WITHIN} seeds"))
}

fn write_trace(plan: &Plan, ran: &Ran) -> Result<PathBuf> {
    let file = plan.folder.join(format!("simulate-{}.trace", ran.seed));
    std::fs::write(&file, ran.trace.concat())
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
