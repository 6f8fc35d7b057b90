//! What does an event cost as endpoints grow in number, a tenfold at a time?

use std::path::Path;

use anyhow::Result;

use super::many_endpoints::{ACCOUNTS, Place};
use super::{Policy, PolicyLoad, median};
use crate::load::mib;

/// How often each number is measured, in turn with the others.
const ROUNDS: usize = 3;

/// The dearest event costs at most this many times as much as the cheapest.
const GOAL_TIMES: f64 = 1.25;

/// 1, 10, 100 and so on, up to `most`.
fn numbers(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1_usize), |number| number.checked_mul(10))
        .take_while(move |number| *number <= most)
}

pub(super) fn run(most: usize, program: &Path, folder: &Path) -> Result<Policy> {
    let mut places = Vec::new();
    for endpoints in numbers(most) {
        let folder = tempfile::tempdir_in(folder)?;
        let accounts = endpoints.min(ACCOUNTS);
        let place = Place::start(accounts, endpoints / accounts, program, folder.path())?;
        places.push((endpoints, folder, place));
    }
    // The first round warms up.
    for round in 0..=ROUNDS {
        for (_, folder, place) in &mut places {
            place.play(folder.path())?;
            if round == 0 {
                place.cpu_micros_per_event.clear();
            }
        }
    }
    let mut policy = Policy::of(PolicyLoad::Curve);
    let (mut least, mut greatest) = (f64::INFINITY, 0.0_f64);
    for (endpoints, _, place) in places {
        let micros = median(place.cpu_micros_per_event);
        let memory = mib(place.service.usage_when_quiet()?.memory_bytes);
        policy.row(
            format!("{endpoints} endpoints: CPU µs per event / memory, MiB"),
            format!("{micros:.1} / {memory:.1}"),
        );
        (least, greatest) = (least.min(micros), greatest.max(micros));
    }
    let times = greatest / least;
    policy.goal(
        format!("the dearest event costs ≤ {GOAL_TIMES} × as much as the cheapest (medians)"),
        format!("{times:.2} ×"),
        times <= GOAL_TIMES,
    );
    Ok(policy)
}
