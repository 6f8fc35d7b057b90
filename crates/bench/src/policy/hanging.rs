//! Do an account's good endpoints feel that its others hang?

use std::path::Path;

use anyhow::Result;

use super::{Policy, PolicyLoad, median};
use crate::fsync;
use crate::load::{Arrivals, await_receipts};
use crate::misbehaving::MisbehavingProcess;
use crate::percentiles::Percentiles;
use crate::publisher::{PUBLISHERS, publish_at_full_speed, publish_at_rate, publish_request};
use crate::receiver::ReceiverProcess;
use crate::service::{OPERATOR_KEY, Service, endpoint_url};

/// Endpoints that answer.
const GOOD_ENDPOINTS: usize = 7;

/// Endpoints that accept and never answer.
const HANGING_ENDPOINTS: usize = 3;

/// Events a second to the account.
const EVENTS_PER_SECOND: u64 = 100;

/// How long a part lasts: long enough that attempts time out (after 5 s) and breakers open in it.
const SECONDS: u64 = 20;

/// How often each part is played, in turn.
const ROUNDS: usize = 3;

/// The p99 with hanging endpoints is at most this many times that without.
const GOAL_TIMES: f64 = 1.2;

const WARM_UP_EVENTS: usize = 500;

pub(super) fn run(program: &Path, folder: &Path) -> Result<Policy> {
    let mut receiver = ReceiverProcess::start()?;
    let silent = MisbehavingProcess::start_silent()?;
    let mut syncs = fsync::measure(folder)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let mut policy = Policy::of(PolicyLoad::Hanging);
    let mut unsound = 0;
    for round in 1..=ROUNDS {
        for hanging in [0, HANGING_ENDPOINTS] {
            // Each part has a service of its own, so that breakers begin closed.
            let place = tempfile::tempdir_in(folder)?;
            let service = Service::start(program, place.path())?;
            let good = (0..GOOD_ENDPOINTS).map(|number| endpoint_url(receiver.address, number));
            let bad = silent.addresses.iter().take(hanging).map(|it| endpoint_url(*it, 0));
            service.create_account("account", &good.chain(bad).collect::<Vec<_>>())?;
            let request = publish_request(service.address, OPERATOR_KEY, "account");
            let requests = vec![request];
            if hanging == 0 {
                publish_at_full_speed(service.address, &requests, WARM_UP_EVENTS, PUBLISHERS)?;
                await_receipts(&mut receiver, WARM_UP_EVENTS * GOOD_ENDPOINTS)?;
                receiver.report(place.path())?;
            }
            let events = (EVENTS_PER_SECOND * SECONDS) as usize;
            let published = publish_at_rate(service.address, &requests, events, EVENTS_PER_SECOND)?;
            await_receipts(&mut receiver, events * GOOD_ENDPOINTS)?;
            let receipts = receiver.report(place.path())?;
            let came = Arrivals::of(&published, GOOD_ENDPOINTS, &receipts);
            unsound += came.lost + came.repeated + came.phantoms;
            let latency = Percentiles::of(came.latencies);
            policy.row(
                format!("round {round}, {hanging} hanging: publish to last of 7 receipts, ms"),
                latency.to_string(),
            );
            if hanging == 0 { &mut without } else { &mut with }.push(latency.p99_ms);
        }
    }
    syncs.extend(fsync::measure(folder)?);
    policy.row("fsync in the same run, ms", Percentiles::of(syncs).to_string());
    let times = median(with) / median(without);
    policy.goal("nothing lost, repeated or made up", format!("{unsound}"), unsound == 0);
    policy.goal(
        format!("p99 of the others ≤ {GOAL_TIMES} × of that without hanging ones (medians)"),
        format!("{times:.2} ×"),
        times <= GOAL_TIMES,
    );
    Ok(policy)
}
