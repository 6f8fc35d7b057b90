//! The streaks of failing endpoints, when each is to be judged, and which are not written down yet.

use std::collections::{BTreeSet, HashMap, HashSet};

use domain::health::{Judgement, Streak, judge, next_judgement_at};
use domain::id::EndpointId;
use domain::time::Timestamp;

use super::FAILING_MAX;

/// The streaks of failing endpoints.
#[derive(Default)]
pub(super) struct Streaks {
    of: HashMap<EndpointId, Kept>,
    /// Every [`Kept::judged_at`] there is.
    judged: BTreeSet<(Timestamp, EndpointId)>,
    unwritten: HashSet<EndpointId>,
}

struct Kept {
    streak: Streak,
    /// When to judge the endpoint; `None` until it fails again.
    judged_at: Option<Timestamp>,
}

impl Streaks {
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    pub(super) fn get(&self, endpoint: EndpointId) -> Option<Streak> {
        self.of.get(&endpoint).map(|kept| kept.streak)
    }

    /// Something failed at the endpoint.
    pub(super) fn fail(&mut self, endpoint: EndpointId, at: Timestamp) {
        let before = self.get(endpoint);
        if before.is_some() || self.of.len() < FAILING_MAX {
            let streak = Streak::after_failure(before, at);
            self.put(endpoint, streak, next_judgement_at(&streak));
            self.unwritten.insert(endpoint);
        }
    }

    /// Something succeeded at the endpoint, or what failed does not count any more.
    pub(super) fn end(&mut self, endpoint: EndpointId) {
        if let Some(ended) = self.of.remove(&endpoint) {
            self.unjudge(endpoint, ended.judged_at);
            self.unwritten.insert(endpoint);
        }
    }

    /// The owner of the endpoint was warned, unless this streak has ended since.
    pub(super) fn warned(&mut self, endpoint: EndpointId, warned: &Streak) {
        if let Some(now) = self.get(endpoint).filter(|now| now.since == warned.since) {
            let streak = Streak { warnings: warned.warnings, ..now };
            self.put(endpoint, streak, next_judgement_at(&streak));
            self.unwritten.insert(endpoint);
        }
    }

    /// Takes in what was written down before this process began. Who would be disabled at once gets
    /// one more try: while no process ran, nothing could succeed.
    pub(super) fn load(&mut self, endpoint: EndpointId, streak: Streak, now: Timestamp) {
        if self.of.len() < FAILING_MAX {
            let is_over = judge(&streak, now) == Judgement::Disable;
            let judged_at = next_judgement_at(&streak).filter(|_| !is_over);
            self.put(endpoint, streak, judged_at);
        }
    }

    /// When the next is to be judged.
    pub(super) fn next_judged_at(&self) -> Option<Timestamp> {
        self.judged.first().map(|(at, _)| *at)
    }

    /// Takes those whose time to be judged has come.
    pub(super) fn take_due(&mut self, now: Timestamp, limit: usize) -> Vec<EndpointId> {
        let due = self.judged.iter().take_while(|(at, _)| *at <= now).take(limit);
        let due: Vec<EndpointId> = due.map(|(_, endpoint)| *endpoint).collect();
        for endpoint in &due {
            self.judge_at(*endpoint, None);
        }
        due
    }

    /// Has the endpoint judged at this instant, if it fails still.
    pub(super) fn judge_at(&mut self, endpoint: EndpointId, at: Option<Timestamp>) {
        if let Some(streak) = self.get(endpoint) {
            self.put(endpoint, streak, at);
        }
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// Takes some of what is to be written down; `None` for a streak that ended.
    pub(super) fn take_unwritten(&mut self, limit: usize) -> Vec<(EndpointId, Option<Streak>)> {
        let some: Vec<EndpointId> = self.unwritten.iter().take(limit).copied().collect();
        for endpoint in &some {
            self.unwritten.remove(endpoint);
        }
        some.into_iter().map(|endpoint| (endpoint, self.get(endpoint))).collect()
    }

    /// Takes what is to be written down of this endpoint, if anything is.
    pub(super) fn take_unwritten_of(
        &mut self,
        endpoint: EndpointId,
    ) -> Vec<(EndpointId, Option<Streak>)> {
        let is_unwritten = self.unwritten.remove(&endpoint);
        is_unwritten.then(|| (endpoint, self.get(endpoint))).into_iter().collect()
    }

    /// Puts back what could not be written down.
    pub(super) fn put_unwritten(&mut self, endpoints: Vec<EndpointId>) {
        self.unwritten.extend(endpoints);
    }

    fn put(&mut self, endpoint: EndpointId, streak: Streak, judged_at: Option<Timestamp>) {
        if let Some(before) = self.of.insert(endpoint, Kept { streak, judged_at }) {
            self.unjudge(endpoint, before.judged_at);
        }
        self.judged.extend(judged_at.map(|at| (at, endpoint)));
    }

    fn unjudge(&mut self, endpoint: EndpointId, judged_at: Option<Timestamp>) {
        if let Some(at) = judged_at {
            self.judged.remove(&(at, endpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn endpoint(number: u128) -> EndpointId {
        EndpointId::from_u128(number)
    }

    fn hours(hours: u64) -> Timestamp {
        Timestamp::from_seconds(0).plus(Duration::from_hours(hours))
    }

    #[test]
    fn each_endpoint_is_judged_once_however_often_it_fails() {
        let mut streaks = Streaks::default();
        for _ in 0..100 {
            streaks.fail(endpoint(1), hours(0));
            streaks.fail(endpoint(2), hours(1));
        }
        assert_eq!(streaks.judged.len(), 2);
        assert_eq!(streaks.next_judged_at(), Some(hours(24)));
        assert_eq!(streaks.take_due(hours(23), 9), []);
        assert_eq!(streaks.take_due(hours(25), 1), [endpoint(1)]);
        assert_eq!(streaks.take_due(hours(25), 9), [endpoint(2)]);
        let warned = Streak { warnings: 1, ..streaks.get(endpoint(1)).unwrap() };
        streaks.warned(endpoint(1), &warned);
        assert_eq!(streaks.next_judged_at(), Some(hours(72)));
        streaks.end(endpoint(1));
        assert_eq!(streaks.next_judged_at(), None);
    }

    #[test]
    fn a_judgement_that_is_put_off_stays_one_however_often_the_endpoint_fails_meanwhile() {
        let mut streaks = Streaks::default();
        streaks.fail(endpoint(1), hours(0));
        for hour in 24..50 {
            assert_eq!(streaks.take_due(hours(hour), 9), [endpoint(1)]);
            assert_eq!(streaks.take_due(hours(hour), 9), []);
            streaks.judge_at(endpoint(1), Some(hours(hour + 1)));
            streaks.fail(endpoint(1), hours(hour));
            assert_eq!(streaks.judged.len(), 1);
        }
        streaks.end(endpoint(1));
        streaks.judge_at(endpoint(1), Some(hours(60)));
        assert_eq!(streaks.next_judged_at(), None);
    }

    #[test]
    fn a_warning_of_a_streak_that_ended_does_not_count_for_the_next() {
        let mut streaks = Streaks::default();
        streaks.fail(endpoint(1), hours(0));
        let warned = Streak { warnings: 1, ..streaks.get(endpoint(1)).unwrap() };
        streaks.end(endpoint(1));
        streaks.fail(endpoint(1), hours(24));
        streaks.warned(endpoint(1), &warned);
        assert_eq!(streaks.get(endpoint(1)).unwrap().warnings, 0);
    }

    #[test]
    fn what_changed_is_written_once_in_its_last_form() {
        let mut streaks = Streaks::default();
        streaks.fail(endpoint(1), hours(0));
        streaks.fail(endpoint(1), hours(1));
        streaks.fail(endpoint(2), hours(0));
        streaks.end(endpoint(2));
        streaks.end(endpoint(3));
        let mut some = streaks.take_unwritten(9);
        some.sort_by_key(|(endpoint, _)| *endpoint);
        assert_eq!(some, [(endpoint(1), streaks.get(endpoint(1))), (endpoint(2), None)]);
        assert!(!streaks.has_unwritten());
        streaks.put_unwritten(vec![endpoint(2)]);
        assert_eq!(streaks.take_unwritten_of(endpoint(1)), []);
        assert_eq!(streaks.take_unwritten_of(endpoint(2)), [(endpoint(2), None)]);
        assert_eq!(streaks.take_unwritten(9), []);
    }

    #[test]
    fn streaks_are_bounded_and_those_there_are_go_on() {
        let mut streaks = Streaks::default();
        for number in 0..=FAILING_MAX as u128 {
            streaks.fail(endpoint(number), hours(0));
        }
        assert_eq!(streaks.len(), FAILING_MAX);
        streaks.fail(endpoint(0), hours(1));
        assert_eq!(streaks.get(endpoint(0)).unwrap().failures, 2);
        let last = endpoint(FAILING_MAX as u128);
        assert_eq!(streaks.get(last), None);
        streaks.end(endpoint(0));
        streaks.fail(last, hours(2));
        assert_eq!(streaks.get(last).unwrap().since, hours(2));
    }

    #[test]
    fn who_would_be_disabled_as_soon_as_a_process_begins_gets_one_more_try() {
        let mut streaks = Streaks::default();
        let streak = Streak { since: hours(0), last_at: hours(90), failures: 30, warnings: 2 };
        streaks.load(endpoint(1), streak, hours(119));
        assert_eq!(streaks.next_judged_at(), Some(hours(120)));
        streaks.load(endpoint(1), streak, hours(500));
        assert_eq!(streaks.next_judged_at(), None);
        streaks.fail(endpoint(1), hours(501));
        assert_eq!(streaks.next_judged_at(), Some(hours(120)));
    }
}
