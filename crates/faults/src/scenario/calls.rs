//! Killed at every single system call that changes files: the service is opened again and owes
//! nothing, wherever it was.
//!
//! `strace` counts calls for each thread and each call by itself, so `when=n` is the n-th `fsync`,
//! say, of the thread that gets there first. Every call is met all the same, because the moments are
//! taken apart: while the service starts, one thread works on files; once it is ready, each thread is
//! traced alone. A fixed script of events is published, one after another, some of which fail at
//! first, and then the service is asked to stop; a first run without a kill counts the calls, and for
//! each of them the script is run once, killed there, started again, and gone on with to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use testkit::auditor::{Bounds, digest};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::tracer::Tracer;
use crate::client::Connection;
use crate::plan::{Form, Plan};
use crate::producer::Publication;
use crate::receiver::{Asked, Reply};
use crate::records::Outcome;
use crate::report::Report;
use crate::service::{Begun, LOOK_EVERY, Service};
use crate::stage::Stage;

mod tracer;

/// Events of the script.
const EVENTS: u64 = 20;

/// Calls that change files. Those a machine does not have, strace does not know either: `?`.
const CALLS: &str = "write,pwrite64,pwritev,fsync,fdatasync,ftruncate,fallocate,?rename,renameat,\
                     renameat2,?unlink,unlinkat,?link,linkat,?open,openat";

/// Kills of the short form, spread over all calls from a first one that the seed decides.
const SHORT: usize = 30;

/// Scripts beside one another: each waits most of the time.
const LANES: usize = 4;

/// Calls that a run may make beyond those of the counting run, since threads take turns as they like.
const BEYOND: u64 = 5;

/// How many per cent of the runs must have been killed.
const HIT_PERCENT: u64 = 80;

/// Duplicates that the kill may cause. Each event is stored before the next is published; attempts
/// that have ended are recorded with the next events: those in the transaction that is cut short,
/// those that gather for the next, and one on its way.
const DUPLICATES_MAX: u64 = 5;

/// How long the script may take to be delivered.
const DRAIN_MAX: Duration = Duration::from_mins(1);

/// When, and at which call, to kill.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    moment: Moment,
    call: String,
    n: u64,
}

/// Which calls are counted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// From the first one of the process on.
    Start,
    /// Those of the thread with this name from when the service is ready on.
    Ready(String),
}

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new("calls", plan);
    let counted = count(plan).await?;
    let points = points(&counted);
    let all = points.len();
    let chosen = choose(plan, points);
    report.note(format!("{all} calls, of which {} are met", chosen.len()));
    let runs = chosen.len() as u64;
    let mut waiting = chosen.into_iter();
    let mut running = JoinSet::new();
    loop {
        while running.len() < LANES
            && let Some(point) = waiting.next()
        {
            let plan = plan.clone();
            running.spawn(async move { kill_at(&plan, &point).await });
        }
        let Some(found) = running.join_next().await else { break };
        report.merge(found??);
    }
    let hits = report.injected;
    report.sometimes("runs that were killed", hits, runs, HIT_PERCENT);
    Ok(report)
}

/// The points of the short form are every k-th; the long form has them all.
fn choose(plan: &Plan, points: Vec<Point>) -> Vec<Point> {
    let wanted = match (plan.cycles, plan.form) {
        (Some(cycles), _) => cycles as usize,
        (None, Form::Short) => SHORT,
        (None, Form::Long) => points.len(),
    };
    let step = points.len().div_ceil(wanted.max(1)).max(1);
    let first = plan.chance(0).below(step as u64) as usize;
    points.into_iter().skip(first).step_by(step).collect()
}

/// How often each call is made, by moment.
async fn count(plan: &Plan) -> Result<BTreeMap<(Moment, String), u64>> {
    let mut counted = BTreeMap::new();
    let mut count = async |moment: Moment| -> Result<Vec<String>> {
        let mut script = Script::new(plan).await?;
        let trace = script.stage.folder().join("trace");
        let threads = script.run_traced(&moment, &Tracer::counting(CALLS, &trace)).await?;
        for (call, times) in tracer::counts(&trace)? {
            counted.insert((moment.clone(), call), times);
        }
        Ok(threads)
    };
    let threads = count(Moment::Start).await?;
    for thread in threads {
        count(Moment::Ready(thread)).await?;
    }
    Ok(counted)
}

/// Every call that was counted, and some more of each.
fn points(counted: &BTreeMap<(Moment, String), u64>) -> Vec<Point> {
    let of_one = |((moment, call), times): (&(Moment, String), &u64)| {
        let (moment, call) = (moment.clone(), call.clone());
        (1..=times + BEYOND).map(move |n| Point { moment: moment.clone(), call: call.clone(), n })
    };
    counted.iter().flat_map(of_one).collect()
}

/// Runs the script, killed at that point, and to its end after another start.
async fn kill_at(plan: &Plan, point: &Point) -> Result<Report> {
    let mut report = Report::new("calls", plan);
    report.cycles = 1;
    let when = format!("{} {} of {:?}", point.call, point.n, point.moment);
    let mut script = Script::new(plan).await.context(when.clone())?;
    let trace = script.stage.folder().join("trace");
    let tracer = Tracer::killing(&point.call, point.n, &trace);
    script.run_traced(&point.moment, &tracer).await.with_context(|| when.clone())?;
    report.injected = u64::from(tracer::was_killed(&trace));
    // Nobody repairs anything in between.
    let service = match script.stage.launch(plan).with(&SETTINGS).start().await {
        Ok(service) => service,
        Err(error) => {
            report.broken(format!("{when}: it does not start again: {error:#}"));
            return Ok(report);
        }
    };
    let finished = script.go_on(&service).await;
    report.must(finished, || format!("{when}: the script did not come to its end"));
    let bounds = Bounds { duplicates_max: DUPLICATES_MAX, ..Bounds::STRICT };
    script.stage.judge(&mut report, &when, &service, bounds, DRAIN_MAX).await?;
    service.stop().await?;
    Ok(report)
}

/// One worker and early retries: fewer calls that do nothing to files, and no waiting.
const SETTINGS: [&str; 4] =
    ["--worker-threads", "1", "--retry-schedule", "0,0,0,1,1,1,1,1,1,1,1,1"];

/// The fixed script, and how far it has come.
struct Script {
    plan: Plan,
    stage: Stage,
    published: u64,
}

impl Script {
    async fn new(plan: &Plan) -> Result<Self> {
        let stage = Stage::new(plan, "calls").await?;
        stage.receiver.behave(behave);
        Ok(Self { plan: plan.clone(), stage, published: 0 })
    }

    /// Runs it as far as it comes, traced from that moment on, until the service has ended. Answers
    /// the names of its threads, if it was ready.
    async fn run_traced(&mut self, moment: &Moment, tracer: &Tracer) -> Result<Vec<String>> {
        let launch = self.stage.launch(&self.plan).with(&SETTINGS);
        let begun = match moment {
            Moment::Start => {
                let words = tracer.wrapper();
                let words: Vec<_> = words.iter().map(String::as_str).collect();
                launch.wrapped_by(&words).begin().await?
            }
            Moment::Ready(_) => launch.begin().await?,
        };
        let Begun::Ready(mut service) = begun else { return Ok(Vec::new()) };
        let threads = tracer::threads(service.id()?)?;
        let _attached = match moment {
            Moment::Start => None,
            Moment::Ready(name) => {
                let of_name = threads.iter().filter(|(_, thread)| thread == name);
                Some(tracer.attach(of_name.map(|(id, _)| *id)).await?)
            }
        };
        if self.go_on(&service).await && service.drained(DRAIN_MAX).await.is_ok() {
            // It may be killed while it stops, too.
            let _ = service.terminate();
        }
        service.ended(DRAIN_MAX).await?;
        let mut names: Vec<_> = threads.into_iter().map(|(_, name)| name).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Goes on with it; answers whether it came to its end.
    async fn go_on(&mut self, service: &Service) -> bool {
        if self.stage.targets.is_empty()
            && self.stage.furnish(service, 1, &json!({})).await.is_err()
        {
            return false;
        }
        let Ok(mut connection) = Connection::open(service.address).await else { return false };
        while self.published < EVENTS {
            let key = format!("event {}", self.published);
            let publication = Publication::new(&self.stage.targets[0], &key, 256);
            let told = publication.ask(&mut connection, &self.stage.published).await;
            if told.outcome != Outcome::Acknowledged {
                return false;
            }
            self.published += 1;
        }
        let begun_at = Instant::now();
        while self.stage.receiver.succeeded() < EVENTS && begun_at.elapsed() < DRAIN_MAX {
            if Connection::open(service.address).await.is_err() {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }
}

/// One event in four fails at first.
fn behave(asked: Asked<'_>) -> Reply {
    let fails = asked.attempt == 1 && digest(asked.webhook_id.as_bytes())[0].is_multiple_of(4);
    Reply::status(if fails { 500 } else { 200 })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_short_form_spreads_over_all_calls() {
        let counted = BTreeMap::from([
            ((Moment::Start, "fsync".to_owned()), 100),
            ((Moment::Ready("writer".to_owned()), "pwrite64".to_owned()), 195),
        ]);
        let points = points(&counted);
        assert_eq!(points.len(), 100 + 195 + 2 * BEYOND as usize);
        let plan = |form, cycles| Plan {
            seed: 3,
            cycles,
            program: Path::new("").to_owned(),
            folder: Path::new("").to_owned(),
            form,
            minutes: None,
            rate: None,
        };
        let short = choose(&plan(Form::Short, None), points.clone());
        assert!((20..=SHORT).contains(&short.len()), "{}", short.len());
        assert!(short.iter().any(|point| point.moment == Moment::Start));
        assert!(short.iter().any(|point| point.moment != Moment::Start));
        assert_eq!(choose(&plan(Form::Long, None), points.clone()), points);
        assert!(choose(&plan(Form::Long, Some(7)), points).len() <= 7);
    }
}
