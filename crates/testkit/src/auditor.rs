//! The auditor: holds what was acknowledged against what receivers saw, counts it, and names every
//! broken promise.
//!
//! It knows the promises and nothing of how they are kept: its inputs are what publishers were
//! told, requests that arrived, what the service says became of the rest, and counts. Pure: tests,
//! fault scenarios and simulations share it. Neighbours: [`receipt`] is what a receiver noted,
//! [`tally`] what is answered.

use std::collections::{BTreeMap, BTreeSet};

use domain::contract::Contract;
use domain::delivery::StateName;
use domain::id::EventId;

pub use self::receipt::{Digest, Receipt, digest};
pub use self::tally::{Tally, Verdict, Violation, judge_counts};
use crate::receiver::ReceivedRequest;

mod judge;
mod receipt;
mod tally;
#[cfg(test)]
mod tests;

/// Whether something was broken on purpose while the requests were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// Nothing was: no duplicate is permitted.
    None,
    /// A process was killed, a connection or an answer lost: duplicates and events whose
    /// acknowledgement was lost may arrive.
    Some,
}

/// What may happen without breaking a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many requests may come after their delivery had succeeded: what was on its way when
    /// something failed.
    pub duplicates_max: u64,
    /// How many requests one delivery may take, those cut short by a fault included.
    pub attempts_max: u32,
    /// Whether events may arrive that no publisher told of. Not needed where every request was told,
    /// also those without an answer, by [`Auditor::told`].
    pub strangers: bool,
}

impl Bounds {
    /// For a run in which nothing failed, with as many attempts as it takes.
    pub const STRICT: Self = Self { duplicates_max: 0, attempts_max: u32::MAX, strangers: false };
}

impl From<Faults> for Bounds {
    fn from(faults: Faults) -> Self {
        match faults {
            Faults::None => Self::STRICT,
            Faults::Some => Self { duplicates_max: u64::MAX, strangers: true, ..Self::STRICT },
        }
    }
}

/// What a publisher knows about one of its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was answered with 2xx and this id.
    Acknowledged(EventId),
    /// It was answered that nothing was changed.
    Refused,
    /// There was no answer, or one that leaves it open.
    Unknown,
}

/// What was promised, collected as the test goes.
#[derive(Clone, Debug, Default)]
pub struct Auditor {
    endpoints: BTreeMap<String, (Contract, String)>,
    owed: BTreeMap<EventId, BTreeSet<String>>,
    said: BTreeMap<Digest, Said>,
    states: BTreeMap<(EventId, String), StateName>,
    lines: Vec<Line>,
}

/// All that was said about the event with certain data.
#[derive(Clone, Debug, Default)]
struct Said {
    acknowledged: BTreeSet<EventId>,
    unknown: bool,
    paths: BTreeSet<String>,
}

/// Events that one endpoint must get one after another.
#[derive(Clone, Debug)]
struct Line {
    path: String,
    events: Vec<EventId>,
}

impl Auditor {
    /// An auditor who knows of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Deliveries to this path belong to an endpoint of the contract with this secret.
    pub fn endpoint(&mut self, path: &str, contract: Contract, secret: &str) {
        self.endpoints.insert(path.to_owned(), (contract, secret.to_owned()));
    }

    /// The event was acknowledged and is owed to the endpoints at these paths.
    pub fn acknowledged<'a>(&mut self, event: EventId, paths: impl IntoIterator<Item = &'a str>) {
        self.owed.entry(event).or_default().extend(paths.into_iter().map(str::to_owned));
    }

    /// What a publisher was told about the event whose data has this digest, which no other event
    /// has: repeats of one request under one idempotency key have it in common. It is owed to the
    /// endpoints at these paths if it was accepted.
    pub fn told<'a>(
        &mut self,
        data: Digest,
        told: Told,
        paths: impl IntoIterator<Item = &'a str> + Clone,
    ) {
        if let Told::Acknowledged(event) = told {
            self.acknowledged(event, paths.clone());
        }
        let said = self.said.entry(data).or_default();
        said.paths.extend(paths.into_iter().map(str::to_owned));
        match told {
            Told::Acknowledged(event) => drop(said.acknowledged.insert(event)),
            Told::Unknown => said.unknown = true,
            Told::Refused => {}
        }
    }

    /// The endpoint at this path must get these events one after another: none before the one ahead
    /// of it has succeeded or ended otherwise.
    pub fn in_order(&mut self, path: &str, events: impl IntoIterator<Item = EventId>) {
        self.lines.push(Line { path: path.to_owned(), events: events.into_iter().collect() });
    }

    /// The service says, and gives a reason if it ended without success, that the delivery of the
    /// event to the endpoint at this path is in this state.
    pub fn stands(&mut self, event: EventId, path: &str, state: StateName) {
        self.states.insert((event, path.to_owned()), state);
    }

    /// Whether every event acknowledged has arrived and was answered 2xx: what to wait for before
    /// judging.
    pub fn has_all(&self, requests: &[ReceivedRequest]) -> bool {
        let arrived: BTreeSet<_> =
            requests.iter().filter(|request| request.succeeded()).filter_map(key).collect();
        let mut owed =
            self.owed.iter().flat_map(|(event, paths)| paths.iter().map(|p| (*event, p)));
        owed.all(|(event, path)| arrived.contains(&(event, path.as_str())))
    }

    /// What is owed and did not succeed according to these receipts: what to ask the service about
    /// before judging.
    pub fn missing(&self, receipts: &[Receipt]) -> Vec<(EventId, &str)> {
        let arrived: BTreeSet<_> = receipts
            .iter()
            .filter(|receipt| receipt.succeeded)
            .filter_map(|receipt| Some((receipt.event()?, receipt.path.as_str())))
            .collect();
        let owed = self.owed.iter();
        owed.flat_map(|(event, paths)| paths.iter().map(|path| (*event, path.as_str())))
            .filter(|owed| !arrived.contains(owed))
            .collect()
    }

    /// Every promise these requests break. Requests other than POST are not looked at.
    pub fn judge(&self, requests: &[ReceivedRequest], faults: Faults) -> Vec<Violation> {
        let posts = requests.iter().filter(|request| request.method == "POST");
        let receipts: Vec<_> = posts.map(|request| self.receipt(request)).collect();
        self.audit(&receipts, Bounds::from(faults)).violations
    }

    /// What a receiver notes of this request.
    pub fn receipt(&self, request: &ReceivedRequest) -> Receipt {
        let endpoint = self.endpoints.get(&request.path);
        Receipt::of(request, endpoint.map(|(contract, secret)| (*contract, secret.as_str())))
    }

    /// Counts what became of everything and names every broken promise. Receipts stand in the order
    /// of arrival.
    pub fn audit(&self, receipts: &[Receipt], bounds: Bounds) -> Verdict {
        judge::Hearing::new(self, bounds).hear(receipts)
    }

    /// Panics with every promise these requests break, if there is one.
    pub fn assert_kept(&self, requests: &[ReceivedRequest], faults: Faults) {
        let violations = self.judge(requests, faults);
        assert!(violations.is_empty(), "{} broken promises: {violations:#?}", violations.len());
    }
}

fn key(request: &ReceivedRequest) -> Option<(EventId, &str)> {
    let event = EventId::parse(request.header("webhook-id")?).ok()?;
    Some((event, request.path.as_str()))
}
