//! What do very many endpoints cost that an event does not concern?

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, ensure};

use super::{Policy, PolicyLoad, median};
use crate::load::{await_receipts, mib};
use crate::publisher::{PUBLISHERS, publish_at_full_speed, publish_request_of};
use crate::receiver::ReceiverProcess;
use crate::service::{OPERATOR_KEY, Service, account_name, endpoint_url};

/// Accounts of both stores.
pub(super) const ACCOUNTS: usize = 100;

/// Events of a round.
const EVENTS: usize = 20_000;

/// How often each is measured, in turn.
const ROUNDS: usize = 5;

/// An event costs at most this many times as much.
const GOAL_TIMES: f64 = 1.1;

/// The most memory while nothing happens.
const GOAL_MIB: f64 = 256.0;

/// A service with this many endpoints to each account, of which an event concerns one.
pub(super) struct Place {
    pub(super) service: Service,
    receiver: ReceiverProcess,
    requests: Vec<Vec<u8>>,
    pub(super) cpu_micros_per_event: Vec<f64>,
}

fn event_type(number: usize) -> String {
    format!("bench.kind_{number}")
}

impl Place {
    pub(super) fn start(
        accounts: usize,
        endpoints_each: usize,
        program: &Path,
        folder: &Path,
    ) -> Result<Self> {
        let receiver = ReceiverProcess::start()?;
        let service = Service::start(program, folder)?;
        let endpoint = |number: usize| {
            (endpoint_url(receiver.address, number), event_type(number % endpoints_each))
        };
        service.furnish_standard(accounts, endpoints_each, &endpoint)?;
        let requests = requests_to(service.address, accounts, endpoints_each);
        Ok(Self { service, receiver, requests, cpu_micros_per_event: Vec::new() })
    }

    pub(super) fn play(&mut self, folder: &Path) -> Result<()> {
        let before = self.service.usage_when_quiet()?;
        publish_at_full_speed(self.service.address, &self.requests, EVENTS, PUBLISHERS)?;
        await_receipts(&mut self.receiver, EVENTS)?;
        let after = self.service.usage_when_quiet()?;
        let came = self.receiver.report(folder)?.len();
        ensure!(came == EVENTS, "{came} deliveries came of {EVENTS}");
        self.cpu_micros_per_event
            .push((after.cpu_micros - before.cpu_micros) as f64 / EVENTS as f64);
        Ok(())
    }
}

/// A request for each account in turn, whose event is of the type that the account's last endpoint
/// wants.
fn requests_to(address: SocketAddr, accounts: usize, endpoints_each: usize) -> Vec<Vec<u8>> {
    let event_type = event_type(endpoints_each - 1);
    let request =
        |account| publish_request_of(address, OPERATOR_KEY, &account_name(account), &event_type);
    (0..accounts).map(request).collect()
}

pub(super) fn run(endpoints: usize, program: &Path, folder: &Path) -> Result<Policy> {
    let each = (endpoints / ACCOUNTS).max(1);
    let (few_folder, many_folder) = (tempfile::tempdir_in(folder)?, tempfile::tempdir_in(folder)?);
    let mut few = Place::start(ACCOUNTS, 1, program, few_folder.path())?;
    let mut many = Place::start(ACCOUNTS, each, program, many_folder.path())?;
    let created = mib(many.service.usage_when_quiet()?.memory_bytes);
    for _ in 0..=ROUNDS {
        few.play(few_folder.path())?;
        many.play(many_folder.path())?;
    }
    // The first round warms up.
    few.cpu_micros_per_event.remove(0);
    many.cpu_micros_per_event.remove(0);
    let used = mib(many.service.usage_when_quiet()?.memory_bytes);
    ensure!(many.service.stop()?, "the service did not stop in good order");
    let again = Service::start(program, many_folder.path())?;
    let restarted = mib(again.usage_when_quiet()?.memory_bytes);

    let mut policy = Policy::of(PolicyLoad::ManyEndpoints);
    let all = ACCOUNTS * each;
    let shown = |values: &[f64]| {
        values.iter().map(|value| format!("{value:.1}")).collect::<Vec<_>>().join(", ")
    };
    policy.row(
        format!("{ACCOUNTS} endpoints: CPU µs per event, in order"),
        shown(&few.cpu_micros_per_event),
    );
    policy.row(
        format!("{all} endpoints: CPU µs per event, in order"),
        shown(&many.cpu_micros_per_event),
    );
    policy.row(
        format!("{all} endpoints: memory after creating / publishing / a restart, MiB"),
        format!("{created:.1} / {used:.1} / {restarted:.1}"),
    );
    let times = median(many.cpu_micros_per_event) / median(few.cpu_micros_per_event);
    policy.goal(
        format!("an event costs ≤ {GOAL_TIMES} × as much with {all} endpoints (medians)"),
        format!("{times:.2} ×"),
        times <= GOAL_TIMES,
    );
    let most = created.max(used).max(restarted);
    policy.goal(
        format!("memory with {all} endpoints while nothing happens ≤ {GOAL_MIB:.0} MiB"),
        format!("{most:.1} MiB"),
        most <= GOAL_MIB,
    );
    Ok(policy)
}
