//! What a scenario found.
//!
//! Promise: a run that broke nothing has not passed, whatever else it found; neither has one with a
//! violation, or one in which something did not happen that had to happen sometimes.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use testkit::auditor::{Tally, Verdict};

use crate::plan::Plan;

/// Violations of one scenario that are printed; all are counted and written to the file.
const PRINTED_MAX: usize = 20;

/// What a scenario found.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Its name on the command line.
    pub(crate) scenario: &'static str,
    /// The seed that repeats its decisions.
    pub(crate) seed: u64,
    /// How many times it went round.
    pub(crate) cycles: u64,
    /// How many faults it made.
    pub(crate) injected: u64,
    /// What the auditor counted, over all cycles.
    pub(crate) tally: Tally,
    /// Every broken promise, and everything else that must not be.
    pub(crate) violations: Vec<String>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<String>,
    /// How long it took; set by whoever runs it.
    pub(crate) took: Duration,
}

impl Report {
    /// A report of nothing yet.
    pub(crate) fn new(scenario: &'static str, plan: &Plan) -> Self {
        Self {
            scenario,
            seed: plan.seed,
            cycles: 0,
            injected: 0,
            tally: Tally::default(),
            violations: Vec::new(),
            notes: Vec::new(),
            took: Duration::ZERO,
        }
    }

    /// Adds what the auditor said about a cycle, or about all of them; `when` says which.
    pub(crate) fn add(&mut self, when: &str, verdict: &Verdict) {
        self.tally += verdict.tally;
        for violation in &verdict.violations {
            self.broken(format!("{when}: {violation:?}"));
        }
    }

    /// Adds another report of the same scenario: of a lane beside this one.
    pub(crate) fn merge(&mut self, other: Self) {
        self.cycles += other.cycles;
        self.injected += other.injected;
        self.tally += other.tally;
        self.violations.extend(other.violations);
        self.notes.extend(other.notes);
    }

    /// Notes something that must not be.
    pub(crate) fn broken(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// Notes something that must not be, unless the condition holds.
    pub(crate) fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(what());
        }
    }

    /// Notes what is worth knowing.
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        self.notes.push(what.into());
    }

    /// Notes how often something happened that shows that the faults met something, and that it must
    /// happen in so many per cent of all cases.
    pub(crate) fn sometimes(&mut self, what: &str, seen: u64, of: u64, percent_min: u64) {
        self.note(format!("{what}: {seen} of {of}"));
        self.must(seen > 0 && seen * 100 >= of * percent_min, || {
            format!("{what}: only {seen} of {of}, at least {percent_min} % must be")
        });
    }

    /// Whether it broke something and nothing promised broke.
    pub(crate) fn passed(&self) -> bool {
        self.injected > 0 && self.violations.is_empty()
    }

    fn as_json(&self) -> Value {
        let tally: serde_json::Map<String, Value> = self
            .tally
            .counts()
            .iter()
            .map(|(name, count)| ((*name).into(), json!(count)))
            .collect();
        json!({
            "scenario": self.scenario,
            "seed": self.seed,
            "cycles": self.cycles,
            "injected": self.injected,
            "tally": tally,
            "violations": self.violations,
            "notes": self.notes,
            "took_seconds": self.took.as_secs_f64(),
            "passed": self.passed(),
        })
    }
}

/// All reports as a table in Markdown, with their notes and violations below.
pub(crate) fn table(reports: &[Report]) -> Result<String> {
    let mut text = String::from("| scenario | seed | cycles | faults |");
    let names = Tally::default().counts().map(|(name, _)| name);
    for name in names {
        write!(text, " {name} |")?;
    }
    writeln!(text, " seconds | passed |")?;
    writeln!(text, "|{}", " --- |".repeat(names.len() + 6))?;
    for report in reports {
        let Report { scenario, seed, cycles, injected, .. } = report;
        write!(text, "| {scenario} | {seed} | {cycles} | {injected} |")?;
        for (_, count) in report.tally.counts() {
            write!(text, " {count} |")?;
        }
        let passed = if report.passed() { "yes" } else { "NO" };
        writeln!(text, " {:.0} | {passed} |", report.took.as_secs_f64())?;
    }
    for report in reports {
        for note in &report.notes {
            writeln!(text, "{}: {note}", report.scenario)?;
        }
        if report.injected == 0 {
            writeln!(text, "{}: BROKEN: it made no fault, so it shows nothing", report.scenario)?;
        }
        for violation in report.violations.iter().take(PRINTED_MAX) {
            writeln!(text, "{}: BROKEN: {violation}", report.scenario)?;
        }
        if let Some(more) =
            report.violations.len().checked_sub(PRINTED_MAX).filter(|more| *more > 0)
        {
            writeln!(text, "{}: BROKEN: and {more} more", report.scenario)?;
        }
    }
    Ok(text)
}

/// Writes all reports as JSON.
pub(crate) fn write_json(reports: &[Report], file: &Path) -> Result<()> {
    let reports: Vec<_> = reports.iter().map(Report::as_json).collect();
    let text = serde_json::to_string_pretty(&json!({ "reports": reports }))?;
    let written = file.parent().map_or(Ok(()), std::fs::create_dir_all);
    written
        .and_then(|()| std::fs::write(file, text))
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::plan::Form;

    fn a_report() -> Report {
        let plan = Plan {
            seed: 7,
            cycles: None,
            minutes: None,
            rate: None,
            program: PathBuf::new(),
            folder: PathBuf::new(),
            form: Form::Short,
        };
        Report::new("kill", &plan)
    }

    #[test]
    fn a_run_that_made_no_fault_has_not_passed() {
        let mut report = a_report();
        assert!(!report.passed());
        report.injected = 1;
        assert!(report.passed());
        report.broken("x");
        assert!(!report.passed());
        assert!(table(&[a_report()]).unwrap().contains("BROKEN: it made no fault"));
    }

    #[test]
    fn what_must_happen_sometimes_and_does_not_breaks_the_run() {
        let mut report = a_report();
        report.injected = 10;
        report.sometimes("kills that met work", 8, 10, 80);
        assert!(report.passed());
        report.sometimes("kills that met work", 7, 10, 80);
        assert!(!report.passed());
        let mut report = a_report();
        report.injected = 1;
        report.sometimes("anything", 0, 0, 0);
        assert!(!report.passed());
    }
}
