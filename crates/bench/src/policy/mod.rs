//! The loads of the delivery policy and of scale: endpoints that hang, a burst, a backlog, very many
//! endpoints, a start, what an event costs as endpoints grow in number.
//!
//! Promise: each holds what it measures against a part of the same run without the trouble, and
//! checks every event it waits for. Neighbours: `load` has the loads of a healthy day, `neighbours`
//! that of receivers that misbehave in every way.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

mod backlog;
mod burst;
mod curve;
mod hanging;
mod many_endpoints;
mod start;

/// How large the loads of the policy are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Deliveries of the backlog.
    pub(crate) backlog: usize,
    /// Endpoints of the load with very many.
    pub(crate) endpoints: usize,
}

/// A load of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyLoad {
    /// 3 of an account's 10 endpoints hang.
    Hanging,
    /// One account publishes 100,000 events at once, another goes on as ever.
    Burst,
    /// A million deliveries come due at one instant.
    Backlog,
    /// 100,000 endpoints, of which each event concerns one.
    ManyEndpoints,
    /// Starting on an empty store, and on one with a million deliveries pending.
    Start,
    /// What an event costs from 1 to 100,000 endpoints.
    Curve,
}

impl PolicyLoad {
    /// What it is called in the report.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Hanging => "3 of 10 endpoints hang",
            Self::Burst => "a burst of another account",
            Self::Backlog => "a backlog drains",
            Self::ManyEndpoints => "very many endpoints",
            Self::Start => "a start",
            Self::Curve => "from one endpoint to very many",
        }
    }
}

/// What a load of the policy showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Policy {
    /// The load.
    pub(crate) load: &'static str,
    /// What was measured, in the order to show it.
    pub(crate) rows: Vec<Row>,
    /// What was to be reached.
    pub(crate) goals: Vec<PolicyGoal>,
}

/// One thing measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What.
    pub(crate) what: String,
    /// The figure, with its unit.
    pub(crate) figure: String,
}

/// One thing to be reached.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct PolicyGoal {
    /// What.
    pub(crate) what: String,
    /// What was reached.
    pub(crate) reached: String,
    /// Whether that is enough.
    pub(crate) kept: bool,
}

impl Policy {
    fn of(load: PolicyLoad) -> Self {
        Self { load: load.title(), rows: Vec::new(), goals: Vec::new() }
    }

    fn row(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.rows.push(Row { what: what.into(), figure: figure.into() });
    }

    fn goal(&mut self, what: impl Into<String>, reached: impl Into<String>, kept: bool) {
        self.goals.push(PolicyGoal { what: what.into(), reached: reached.into(), kept });
    }

    /// Writes it as a table in Markdown.
    pub(crate) fn write(&self, text: &mut String) -> Result<()> {
        writeln!(text, "\n| {} | |\n| --- | --- |", self.load)?;
        for row in &self.rows {
            writeln!(text, "| {} | {} |", row.what, row.figure)?;
        }
        Ok(())
    }
}

/// Runs a load of the policy on empty stores in `folder`.
pub(crate) fn run(load: PolicyLoad, sizes: Sizes, program: &Path, folder: &Path) -> Result<Policy> {
    match load {
        PolicyLoad::Hanging => hanging::run(program, folder),
        PolicyLoad::Burst => burst::run(program, folder),
        PolicyLoad::Backlog => backlog::run(sizes.backlog, program, folder),
        PolicyLoad::ManyEndpoints => many_endpoints::run(sizes.endpoints, program, folder),
        PolicyLoad::Start => start::run(sizes.backlog, program, folder),
        PolicyLoad::Curve => curve::run(sizes.endpoints, program, folder),
    }
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
