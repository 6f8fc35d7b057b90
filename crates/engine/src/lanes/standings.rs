//! What is remembered of endpoints that are not simply well: their breaker and their pace.
//!
//! Promise: an endpoint to which everything succeeds and that has no rate of its own has no entry.
//! Each entry knows when it next matters (an attempt may begin, or all is forgotten), and one set
//! holds these instants for all, so that nobody needs a timer of its own.

use std::collections::BTreeSet;

use domain::breaker::{Breaker, BreakerState, Turn, Verdict};
use domain::endpoint::RatePerSecond;
use domain::id::EndpointId;
use domain::pace::{PAUSE_MAX, Pace, SlowDown, asks_to_slow_down};
use domain::time::Timestamp;

use super::ids::IdMap;
use super::{BreakerChange, Ended, Ticket};

/// Endpoints remembered at once because of what happened: some 30 MiB. When there are more, further
/// ones are treated as if they were well until some are forgotten.
pub(super) const STANDINGS_MAX: usize = 100_000;

/// Endpoints that are not simply well.
#[derive(Default)]
pub(super) struct Standings {
    by_endpoint: IdMap<EndpointId, Standing>,
    alarms: BTreeSet<(Timestamp, EndpointId)>,
    /// Breakers that are open, and half open.
    open: usize,
    half_open: usize,
    /// Until when lanes pause, those included that did.
    pauses: BTreeSet<(Timestamp, EndpointId)>,
    /// Whether the earliest alarm is earlier than when this was last asked.
    has_earlier_alarm: bool,
}

struct Standing {
    breaker: Breaker,
    pace: Pace,
    /// The endpoint's own limit.
    own_rate: Option<RatePerSecond>,
    /// Where it stands among those that pause.
    paused_until: Option<Timestamp>,
    alarm_at: Option<Timestamp>,
}

/// What may be claimed for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// As much as there is room for.
    Open,
    /// One delivery, the probe, from then on.
    OneFrom(Timestamp),
    /// Nothing, until the probe has ended.
    Shut,
}

impl Standings {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_endpoint.is_empty()
    }

    pub(super) fn has(&self, endpoint: EndpointId) -> bool {
        !self.by_endpoint.is_empty() && self.by_endpoint.contains_key(&endpoint)
    }

    /// Remembers the endpoint from now on, if there is room. Answers whether there is an entry.
    pub(super) fn remember(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let has_room = self.by_endpoint.len() < STANDINGS_MAX;
        if has_room {
            self.entry(endpoint, now);
        }
        has_room || self.has(endpoint)
    }

    /// Sets the endpoint's own rate. One that has any is remembered as long as it is busy, whatever
    /// room there is: as many as there are lanes. Answers whether there is an entry.
    pub(super) fn set_rate(
        &mut self,
        endpoint: EndpointId,
        own_rate: Option<RatePerSecond>,
        now: Timestamp,
    ) -> bool {
        if own_rate.is_none() && !self.has(endpoint) {
            return false;
        }
        self.entry(endpoint, now).own_rate = own_rate;
        true
    }

    fn entry(&mut self, endpoint: EndpointId, now: Timestamp) -> &mut Standing {
        self.by_endpoint.entry(endpoint).or_insert_with(|| Standing {
            breaker: Breaker::new(now),
            pace: Pace::new(now),
            own_rate: None,
            paused_until: None,
            alarm_at: None,
        })
    }

    /// Whether deliveries may wait in memory for the endpoint.
    pub(super) fn is_closed(&self, endpoint: EndpointId) -> bool {
        self.by_endpoint.is_empty()
            || self
                .by_endpoint
                .get(&endpoint)
                .is_none_or(|known| known.breaker.state() == BreakerState::Closed)
    }

    pub(super) fn gate(&self, endpoint: EndpointId) -> Gate {
        let Some(known) = self.by_endpoint.get(&endpoint) else { return Gate::Open };
        match known.breaker.probe_at() {
            Some(probe_at) => Gate::OneFrom(probe_at),
            None if known.breaker.state() == BreakerState::Closed => Gate::Open,
            None if known.breaker.is_probing() => Gate::Shut,
            None => Gate::OneFrom(Timestamp::from_millis(i64::MIN)),
        }
    }

    /// Whether an attempt may begin now; if only its time has not come, the lane is woken then.
    pub(super) fn may_begin(
        &mut self,
        endpoint: EndpointId,
        in_flight: usize,
        now: Timestamp,
    ) -> bool {
        let Some(known) = self.by_endpoint.get(&endpoint) else { return true };
        if !known.breaker.may_begin(now) {
            if let Some(probe_at) = known.breaker.probe_at() {
                self.wake_at(endpoint, probe_at);
            }
            return false;
        }
        let at = known.pace.may_begin_at(known.own_rate, in_flight, now);
        if at > now {
            self.wake_at(endpoint, at);
        }
        at <= now
    }

    /// An attempt begins.
    pub(super) fn begin(
        &mut self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> (Turn, Option<BreakerChange>) {
        let Some(known) = self.by_endpoint.get_mut(&endpoint) else {
            return (Turn::default(), None);
        };
        let from = known.breaker.state();
        known.pace.begin(known.own_rate, now);
        let turn = known.breaker.begin(now);
        let to = known.breaker.state();
        self.count_change(from, to);
        (turn, BreakerChange::between(endpoint, from, to))
    }

    /// An attempt ended, with the `in_flight` on their way to the endpoint then, itself included.
    pub(super) fn end(
        &mut self,
        ticket: &Ticket,
        in_flight: usize,
        ended: Option<&Ended>,
        now: Timestamp,
    ) -> Option<BreakerChange> {
        let known = self.by_endpoint.get_mut(&ticket.endpoint)?;
        let from = known.breaker.state();
        let Some(ended) = ended else {
            known.breaker.end(ticket.turn, None, now, domain::retry::Chance::from_bits(0));
            return None;
        };
        known.breaker.end(ticket.turn, Verdict::of(ended.outcome), now, ended.chance);
        let change = BreakerChange::between(ticket.endpoint, from, known.breaker.state());
        if change.is_some_and(|change| change.to == BreakerState::Closed) {
            known.pace.start_slowly(now);
        }
        if let Some(retry_after) = asks_to_slow_down(ended.outcome) {
            let (began_at, took) = (ticket.began_at, ended.took);
            let said = SlowDown { began_at, took, in_flight, retry_after };
            let old = known.paused_until;
            known.pace.slow_down(said, known.own_rate, now);
            known.paused_until = known.pace.paused_until(now);
            let new = known.paused_until;
            self.move_pause(ticket.endpoint, old, new);
        }
        if let Some(BreakerChange { from, to, .. }) = change {
            self.count_change(from, to);
        }
        change
    }

    fn count_change(&mut self, from: BreakerState, to: BreakerState) {
        for (state, is_entered) in [(from, false), (to, true)] {
            let count = match state {
                BreakerState::Closed => continue,
                BreakerState::Open => &mut self.open,
                BreakerState::HalfOpen => &mut self.half_open,
            };
            *count = if is_entered { *count + 1 } else { *count - 1 };
        }
    }

    fn move_pause(&mut self, endpoint: EndpointId, old: Option<Timestamp>, new: Option<Timestamp>) {
        if let Some(old) = old {
            self.pauses.remove(&(old, endpoint));
        }
        if let Some(new) = new {
            self.pauses.insert((new, endpoint));
        }
    }

    /// Everybody who is remembered.
    pub(super) fn endpoints(&self) -> Vec<EndpointId> {
        self.by_endpoint.keys().copied().collect()
    }

    /// Lets the next probe begin at once, if its breaker is open since before the clock was set back.
    pub(super) fn probe_if_over(&mut self, endpoint: EndpointId, now: Timestamp) {
        if let Some(known) = self.by_endpoint.get_mut(&endpoint)
            && known.breaker.may_begin(now)
        {
            known.breaker.probe_now(now);
        }
    }

    /// Its owner changed the endpoint: the next probe may begin at once.
    pub(super) fn probe_now(&mut self, endpoint: EndpointId, now: Timestamp) {
        if let Some(known) = self.by_endpoint.get_mut(&endpoint) {
            known.breaker.probe_now(now);
        }
    }

    /// The endpoint has nothing to do: forgets it, or sets when it will be.
    pub(super) fn rest(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(known) = self.by_endpoint.get(&endpoint) else { return };
        let is_blank = known.breaker.is_pristine(now);
        let breaker_until = if is_blank { now } else { known.breaker.forgettable_at() };
        let until = breaker_until.max(known.pace.forgettable_at(known.own_rate));
        if until <= now {
            let Some(known) = self.by_endpoint.remove(&endpoint) else { return };
            if let Some(alarm_at) = known.alarm_at {
                self.alarms.remove(&(alarm_at, endpoint));
            }
            self.count_change(known.breaker.state(), BreakerState::Closed);
            self.move_pause(endpoint, known.paused_until, None);
        } else {
            self.wake_at(endpoint, until);
        }
    }

    fn wake_at(&mut self, endpoint: EndpointId, at: Timestamp) {
        let Some(known) = self.by_endpoint.get_mut(&endpoint) else { return };
        if known.alarm_at.is_some_and(|alarm_at| alarm_at <= at) {
            return;
        }
        if let Some(later) = known.alarm_at.replace(at) {
            self.alarms.remove(&(later, endpoint));
        }
        self.alarms.insert((at, endpoint));
        self.has_earlier_alarm |= self.alarms.first() == Some(&(at, endpoint));
    }

    /// When the next endpoint is to be looked at.
    pub(super) fn next_alarm_at(&self) -> Option<Timestamp> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Whether that became earlier since this was last asked.
    pub(super) fn take_has_earlier_alarm(&mut self) -> bool {
        std::mem::take(&mut self.has_earlier_alarm)
    }

    /// Takes an endpoint that is to be looked at now.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<EndpointId> {
        let (at, endpoint) = *self.alarms.first()?;
        if at > now {
            return None;
        }
        self.alarms.pop_first();
        if let Some(known) = self.by_endpoint.get_mut(&endpoint) {
            known.alarm_at = None;
        }
        Some(endpoint)
    }

    pub(super) fn breaker(&self, endpoint: EndpointId) -> Option<&Breaker> {
        self.by_endpoint.get(&endpoint).map(|known| &known.breaker)
    }

    /// Until when the lane pauses, and the rate allowed in it, if there is a limit.
    pub(super) fn pace(
        &self,
        endpoint: EndpointId,
        now: Timestamp,
    ) -> (Option<Timestamp>, Option<u32>) {
        let Some(known) = self.by_endpoint.get(&endpoint) else { return (None, None) };
        (known.pace.paused_until(now), known.pace.rate(known.own_rate, now))
    }

    /// How many breakers are open, how many half open, and how many lanes are paused. Costs in
    /// proportion to these.
    pub(super) fn count(&self, now: Timestamp) -> (usize, usize, usize) {
        let paused = self.pauses.iter().rev().take_while(|(until, _)| *until > now);
        (
            self.open,
            self.half_open,
            paused.filter(|(until, _)| until.since(now) <= PAUSE_MAX).count(),
        )
    }
}
