//! Hours in small: a steady load, endpoints that fail and endpoints that hang, and a kill now and then.
//!
//! Nothing is lost, and nothing grows: memory and descriptors are sampled, and from the end of the
//! warm-up of each life of the process until its kill they must stay as they are. The size of the
//! database is told; it grows by what is kept.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testkit::auditor::{Bounds, digest};
use tokio::time::{Instant, sleep};

use crate::plan::{Form, Plan};
use crate::producer::Load;
use crate::receiver::{Asked, Reply};
use crate::report::Report;
use crate::service::Service;
use crate::stage::Stage;

const NAME: &str = "soak";

/// Accounts of one endpoint each. Of their paths' digests, one in ten fails at first, one in twenty hangs.
const ACCOUNTS: usize = 40;

/// Events a second, unless said.
const PER_SECOND: f64 = 100.0;

/// How long one life of the process is in the long form; six of them are half an hour.
const LIFE: Duration = Duration::from_mins(5);

/// The part of a life after which memory and descriptors must be flat.
const WARM_AFTER: f64 = 0.4;

/// Growth of memory over the rest of a life of five minutes that is allowed, in bytes: what the
/// allocator keeps differs by a few MiB from moment to moment.
const GROWTH_MAX: f64 = 16.0 * 1024.0 * 1024.0;

/// Difference in descriptors over the rest of a life that is allowed: connections come and go.
const FILES_SPREAD_MAX: usize = 150;

const SCHEDULE: &str = "0,1,1,2,2,4,4,8,8,8,8,8";

/// How long an attempt may take.
const TIMEOUT_SECONDS: u64 = 2;

/// How long what is pending may take in the end: breakers of endpoints that hung wait up to 10 minutes.
const DRAIN_MAX: Duration = Duration::from_mins(20);

/// One look at the process.
#[derive(Clone, Copy, Debug)]
struct Sample {
    after: Duration,
    resident_bytes: u64,
    files: usize,
}

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let life = plan.by_form(Duration::from_secs(9), LIFE);
    let total = plan.minutes.map_or(life * plan.by_form(2, 6), Duration::from_mins);
    let life = life.min(total);
    let mut chance = plan.chance(0);
    let mut report = Report::new(NAME, plan);
    let mut stage = Stage::new(plan, NAME).await?;
    stage.receiver.behave(behave);
    let launch = stage.launch(plan).with(&["--retry-schedule", SCHEDULE]);
    let mut service = launch.start().await?;
    for _ in 0..ACCOUNTS {
        stage.furnish(&service, 1, &json!({"timeout_seconds": TIMEOUT_SECONDS})).await?;
    }
    stage.service_is(Some(&service));
    let per_second = plan.rate.unwrap_or(PER_SECOND);
    let producer = stage.publish(Load::at_rate(per_second, 16, chance.next()));
    let lives = (total.as_secs_f64() / life.as_secs_f64()).round().max(1.0) as u32;
    for number in 1..=lives {
        let samples = live(&service, life).await?;
        judge_life(plan, &mut report, number, &samples);
        if number < lives {
            stage.service_is(None);
            service.kill().await?;
            report.injected += 1;
            report.cycles += 1;
            service = launch.start().await?;
            stage.service_is(Some(&service));
        }
    }
    let published = producer.acknowledged();
    producer.stop().await;
    stage.receiver.behave(|_| Reply::status(200));
    let bounds = Bounds { duplicates_max: report.injected * 512, ..Bounds::STRICT };
    stage.judge(&mut report, "after all", &service, bounds, DRAIN_MAX).await?;
    // Emptied into the file.
    service.stop().await?;
    let store_bytes = std::fs::metadata(launch.store())?.len();
    report.note(format!(
        "{published} events in {} s at {per_second} a second; the database has {} MiB, {} bytes an event",
        total.as_secs(),
        store_bytes >> 20,
        store_bytes / published.max(1)
    ));
    Ok(report)
}

/// Lets it live, and looks now and then.
async fn live(service: &Service, life: Duration) -> Result<Vec<Sample>> {
    let begun_at = Instant::now();
    let mut samples = Vec::new();
    while begun_at.elapsed() < life {
        sleep(life / 60).await;
        samples.push(Sample {
            after: begun_at.elapsed(),
            resident_bytes: service.resident_bytes()?,
            files: service.open_files()?,
        });
    }
    Ok(samples)
}

fn judge_life(plan: &Plan, report: &mut Report, number: u32, samples: &[Sample]) {
    let warm = &samples[(samples.len() as f64 * WARM_AFTER) as usize..];
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else { return };
    let slope = slope(warm);
    let files = |pick: fn(usize, usize) -> usize| warm.iter().map(|it| it.files).reduce(pick);
    let (fewest, most) = (files(usize::min).unwrap_or(0), files(usize::max).unwrap_or(0));
    report.note(format!(
        "life {number}, warm: {} to {} MiB resident, {:+.2} MiB a minute; {fewest} to {most} descriptors",
        first.resident_bytes >> 20,
        last.resident_bytes >> 20,
        slope * 60.0 / 1_048_576.0
    ));
    // Seconds are no time to tell growth from warming up.
    if plan.form == Form::Long {
        let grown = slope * (last.after.saturating_sub(first.after)).as_secs_f64();
        report
            .must(grown <= GROWTH_MAX, || format!("life {number}: memory grows: {grown:.0} bytes"));
    }
    report.must(most - fewest <= FILES_SPREAD_MAX, || {
        format!("life {number}: descriptors are not flat: {fewest} to {most}")
    });
}

/// Bytes a second, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len().max(1) as f64;
    let mean = |value: fn(&Sample) -> f64| samples.iter().map(value).sum::<f64>() / count;
    let (at, bytes) = (mean(|it| it.after.as_secs_f64()), mean(|it| it.resident_bytes as f64));
    let (mut both, mut square) = (0.0, 0.0);
    for sample in samples {
        let off = sample.after.as_secs_f64() - at;
        both += off * (sample.resident_bytes as f64 - bytes);
        square += off * off;
    }
    if square > 0.0 { both / square } else { 0.0 }
}

/// By the digest of the path: most are well, some fail one time in two, some hang for their time.
fn behave(asked: Asked<'_>) -> Reply {
    let chance = digest(asked.path.as_bytes())[0];
    let event = digest(asked.webhook_id.as_bytes())[0];
    match chance {
        0..26 if event.is_multiple_of(2) && asked.attempt <= 2 => Reply::status(503),
        26..39 if event.is_multiple_of(2) && asked.attempt <= 1 => Reply::Hang,
        _ => Reply::Answer { status: 200, after: Duration::from_millis(u64::from(event / 8)) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_the_growth_in_a_second() {
        let sample = |seconds| Sample {
            after: Duration::from_secs(seconds),
            resident_bytes: 1_000 + 7 * seconds,
            files: 10,
        };
        let samples: Vec<_> = (0..60).map(sample).collect();
        assert!((slope(&samples) - 7.0).abs() < 1e-9);
        assert!(slope(&samples[..1]).abs() < 1e-9);
    }
}
