//! Stopped in the middle of everything, as by a hypervisor or a debugger, and let go again.
//!
//! The service is frozen under load for longer than its receivers and publishers are patient, then
//! goes on: nothing is lost, nothing but what was on its way comes twice, and it does not make up for
//! lost time with more requests at once than its limits allow.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::time::{Instant, sleep};

use crate::plan::Plan;
use crate::producer::Load;
use crate::receiver::Reply;
use crate::report::Report;
use crate::stage::Stage;

const NAME: &str = "freeze";

/// Attempts on their way to one endpoint at most, as endpoints have it unless set otherwise.
const IN_FLIGHT_MAX: u64 = 32;

/// How long an attempt may take; shorter than every freeze.
const TIMEOUT_SECONDS: u64 = 3;

/// How long after a freeze limits are watched.
const WATCHED_FOR: Duration = Duration::from_secs(2);

/// How long attempts may be waited for before a freeze.
const CALM_MAX: Duration = Duration::from_secs(30);

/// How long what is left may take: attempts that a freeze cut off open the endpoint's breaker, for
/// twice as long each time, up to 12 minutes.
const DRAIN_MAX: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(15));

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let freezes = plan.cycles(1, 50);
    let frozen_for = plan.by_form(Duration::from_secs(6), Duration::from_mins(2));
    let drain_max = plan.by_form(DRAIN_MAX.0, DRAIN_MAX.1);
    let mut report = Report::new(NAME, plan);
    let mut chance = plan.chance(0);
    let mut stage = Stage::new(plan, NAME).await?;
    stage.receiver.behave(|_| Reply::Answer { status: 200, after: Duration::from_millis(150) });
    let launch = stage.launch(plan).with(&["--retry-schedule", "0,1,1,1,1,1,1,1,1,1,1,1"]);
    let service = launch.start().await?;
    stage.furnish(&service, 1, &json!({"timeout_seconds": TIMEOUT_SECONDS})).await?;
    stage.service_is(Some(&service));
    let producer = stage.publish(Load::at_rate(60.0, 8, chance.next()));
    let (mut met_work, mut most, mut on_their_way) = (0, 0, 0);
    for _ in 0..freezes {
        sleep(Duration::from_millis(chance.between(1_000..2_000))).await;
        // After the freeze before, a breaker may have everything wait.
        let waits_since = Instant::now();
        while stage.receiver.in_flight() == 0 && waits_since.elapsed() < CALM_MAX {
            sleep(Duration::from_millis(1)).await;
        }
        service.freeze()?;
        let in_flight = stage.receiver.in_flight();
        met_work += u64::from(in_flight > 0);
        on_their_way += in_flight + IN_FLIGHT_MAX;
        sleep(frozen_for).await;
        service.thaw()?;
        report.injected += 1;
        report.cycles += 1;
        let thawed_at = Instant::now();
        while thawed_at.elapsed() < WATCHED_FOR {
            most = most.max(stage.receiver.in_flight());
            sleep(Duration::from_millis(1)).await;
        }
    }
    producer.stop().await;
    report.must(most <= IN_FLIGHT_MAX, || {
        format!("{most} attempts at once after a freeze, {IN_FLIGHT_MAX} are allowed")
    });
    report.note(format!(
        "frozen for {} s each; {most} attempts at once afterwards at most, of {IN_FLIGHT_MAX}",
        frozen_for.as_secs()
    ));
    let bounds = Bounds { duplicates_max: on_their_way, ..Bounds::STRICT };
    stage.judge(&mut report, "after all", &service, bounds, drain_max).await?;
    report.must(report.tally.exhausted == 0, || "deliveries were given up".to_owned());
    let injected = report.injected;
    report.sometimes("freezes that met attempts on their way", met_work, injected, 50);
    service.stop().await?;
    Ok(report)
}
