//! One hearing: goes through the receipts in the order of arrival, then through what is missing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use domain::delivery::StateName;
use domain::id::EventId;

use super::receipt::{Digest, Receipt};
use super::tally::{Verdict, Violation};
use super::{Auditor, Bounds};

pub(super) struct Hearing<'a> {
    auditor: &'a Auditor,
    bounds: Bounds,
    /// The data that each event was published with.
    published: BTreeMap<EventId, Digest>,
    /// The event that was made of each data.
    made: BTreeMap<Digest, EventId>,
    /// The body that each event came with first.
    bodies: BTreeMap<EventId, Digest>,
    attempts: BTreeMap<(EventId, &'a str), u32>,
    succeeded: BTreeSet<(EventId, &'a str)>,
    /// The line and the place in it of each delivery that stands in one.
    places: BTreeMap<(EventId, &'a str), (usize, usize)>,
    /// How many of each line have ended.
    ended: Vec<usize>,
    duplicates: Vec<Violation>,
    verdict: Verdict,
}

impl<'a> Hearing<'a> {
    pub(super) fn new(auditor: &'a Auditor, bounds: Bounds) -> Self {
        let mut places = BTreeMap::new();
        for (number, line) in auditor.lines.iter().enumerate() {
            for (place, event) in line.events.iter().enumerate() {
                places.insert((*event, line.path.as_str()), (number, place));
            }
        }
        let mut hearing = Self {
            auditor,
            bounds,
            published: BTreeMap::new(),
            made: BTreeMap::new(),
            bodies: BTreeMap::new(),
            attempts: BTreeMap::new(),
            succeeded: BTreeSet::new(),
            places,
            ended: vec![0; auditor.lines.len()],
            duplicates: Vec::new(),
            verdict: Verdict::default(),
        };
        for (data, said) in &auditor.said {
            for event in &said.acknowledged {
                hearing.published.insert(*event, *data);
                hearing.make(*data, *event);
            }
        }
        hearing
    }

    pub(super) fn hear(mut self, receipts: &'a [Receipt]) -> Verdict {
        for receipt in receipts {
            self.hear_one(receipt);
        }
        self.verdict.tally.duplicated = self.duplicates.len() as u64;
        if self.verdict.tally.duplicated > self.bounds.duplicates_max {
            self.verdict.violations.append(&mut self.duplicates);
        }
        for (event, paths) in &self.auditor.owed {
            for path in paths {
                self.account_for(*event, path);
            }
        }
        self.verdict
    }

    fn hear_one(&mut self, receipt: &'a Receipt) {
        let path = receipt.path.as_str();
        if let Some(error) = &receipt.forged {
            self.verdict.tally.bad_signature += 1;
            self.verdict.violations.push(Violation::NotGenuine {
                webhook_id: receipt.webhook_id.clone(),
                path: path.to_owned(),
                error: error.clone(),
            });
        }
        let known = self.auditor.endpoints.contains_key(path);
        let event = receipt.event().filter(|event| known && self.may_come(*event, receipt));
        let Some(event) = event else {
            self.verdict.tally.phantom += 1;
            let webhook_id = receipt.webhook_id.clone();
            self.verdict.violations.push(Violation::Phantom { webhook_id, path: path.to_owned() });
            return;
        };
        self.compare(event, receipt);
        let attempts = self.attempts.entry((event, path)).or_default();
        *attempts += 1;
        if *attempts == self.bounds.attempts_max.saturating_add(1) {
            self.verdict.tally.over_attempted += 1;
            self.verdict.violations.push(Violation::OverAttempted { event, path: path.to_owned() });
        }
        self.look_ahead(event, path);
        if self.succeeded.contains(&(event, path)) {
            self.duplicates.push(Violation::Duplicate { event, path: path.to_owned() });
        } else if receipt.succeeded {
            self.succeeded.insert((event, path));
        }
    }

    /// Whether anybody may be owed this.
    fn may_come(&mut self, event: EventId, receipt: &Receipt) -> bool {
        let owed = self.auditor.owed.get(&event).is_some_and(|paths| paths.contains(&receipt.path));
        if owed {
            return true;
        }
        let said = receipt.data.and_then(|data| Some((data, self.auditor.said.get(&data)?)));
        let Some((data, said)) = said else {
            return self.bounds.strangers;
        };
        let accepted = said.unknown || !said.acknowledged.is_empty();
        if accepted && said.paths.contains(&receipt.path) {
            self.published.insert(event, data);
            self.make(data, event);
        }
        accepted && said.paths.contains(&receipt.path)
    }

    /// Notes that this data became this event.
    fn make(&mut self, data: Digest, second: EventId) {
        match self.made.entry(data) {
            Entry::Vacant(vacant) => drop(vacant.insert(second)),
            Entry::Occupied(made) if *made.get() == second => {}
            Entry::Occupied(made) => {
                let violation = Violation::MadeTwice { first: *made.get(), second };
                if !self.verdict.violations.contains(&violation) {
                    self.verdict.tally.phantom += 1;
                    self.verdict.violations.push(violation);
                }
            }
        }
    }

    /// Whether the bytes are those published, and those of the first time.
    fn compare(&mut self, event: EventId, receipt: &Receipt) {
        let path = receipt.path.clone();
        if self.published.get(&event).is_some_and(|published| receipt.data != Some(*published)) {
            self.verdict.tally.corrupted += 1;
            self.verdict.violations.push(Violation::Corrupted { event, path });
        } else if *self.bodies.entry(event).or_insert(receipt.body) != receipt.body {
            self.verdict.tally.corrupted += 1;
            self.verdict.violations.push(Violation::BodyChanged { event, path });
        }
    }

    /// Whether those ahead of it in its line have ended.
    fn look_ahead(&mut self, event: EventId, path: &'a str) {
        let Some((number, place)) = self.places.get(&(event, path)).copied() else { return };
        let auditor = self.auditor;
        let events = &auditor.lines[number].events;
        let ended = &mut self.ended[number];
        let has_ended = |event: &EventId| {
            let state = auditor.states.get(&(*event, path.to_owned()));
            self.succeeded.contains(&(*event, path))
                || matches!(state, Some(StateName::Exhausted | StateName::Cancelled))
        };
        while *ended < place && has_ended(&events[*ended]) {
            *ended += 1;
        }
        if *ended < place {
            self.verdict.tally.out_of_order += 1;
            self.verdict.violations.push(Violation::OutOfOrder {
                event,
                ahead: events[*ended],
                path: path.to_owned(),
            });
        }
    }

    /// Where a delivery that is owed has gone.
    fn account_for(&mut self, event: EventId, path: &'a str) {
        let tally = &mut self.verdict.tally;
        tally.acknowledged += 1;
        if self.succeeded.contains(&(event, path)) {
            tally.delivered += 1;
            return;
        }
        match self.auditor.states.get(&(event, path.to_owned())) {
            Some(StateName::Pending) => tally.pending += 1,
            Some(StateName::Exhausted) => tally.exhausted += 1,
            Some(StateName::Cancelled) => tally.cancelled += 1,
            // No receiver said so.
            Some(StateName::Delivered) | None => {
                tally.lost += 1;
                let path = path.to_owned();
                self.verdict.violations.push(Violation::Lost { event, path });
            }
        }
    }
}
