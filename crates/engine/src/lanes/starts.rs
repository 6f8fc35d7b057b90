//! What starts next, and what its end changes.
//!
//! Promise: whatever may start has a turn, waits for room at its host, or has an alarm set for when
//! its breaker or pace lets it; so [`Lanes::next`] finds it without looking at those that may not.

use domain::breaker::{BreakerState, Turn, Verdict};
use domain::id::EndpointId;
use domain::limits::RETRY_SLOTS_PERCENT;
use domain::pace::asks_to_slow_down;
use domain::time::Timestamp;
use store::queue::Claimed;

use super::classes::Class;
use super::hosts::HostId;
use super::{BreakerChange, Ended, Lanes, Ticket};

/// What came of a lane's turn.
enum Tried {
    Started(Claimed, Ticket),
    /// It keeps its turn for later.
    NotYet,
    /// It lost its turn, and gets another when something changes.
    Lost,
}

impl Lanes {
    /// The next delivery to send, if one may start. What it holds is held until [`Self::finish`].
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<(Claimed, Ticket)> {
        if self.is_halted || self.free_slots() == 0 {
            return None;
        }
        let share = (self.limits.in_all * RETRY_SLOTS_PERCENT / 100).max(1);
        let has_share = self.in_all.in_flight[Class::Rest] < share;
        let order = if has_share { [Class::Rest, Class::First] } else { Class::ALL };
        order.into_iter().find_map(|class| self.next_of(class, now))
    }

    fn next_of(&mut self, class: Class, now: Timestamp) -> Option<(Claimed, Ticket)> {
        let mut untried = self.turns[class].accounts();
        while untried > 0 {
            untried -= 1;
            let (account, lanes) = self.turns[class].take_account()?;
            let held = self.held_by(account).in_flight[class];
            let left = self.free_slots().saturating_sub(held);
            let mut started = None;
            for _ in 0..if left == 0 { 0 } else { lanes } {
                let Some(endpoint) = self.turns[class].take_lane(account) else { break };
                match self.try_start(class, endpoint, left, now) {
                    Tried::Started(claimed, ticket) => {
                        started = Some((claimed, ticket));
                        break;
                    }
                    Tried::NotYet => self.turns[class].give(account, endpoint),
                    Tried::Lost => {
                        if self.lost_turn(endpoint, now) {
                            untried = self.turns[class].accounts() + 1;
                        }
                    }
                }
            }
            self.turns[class].put_back(account);
            if let Some((claimed, ticket)) = started {
                self.give_turn(claimed.endpoint, now);
                self.want_more(claimed.endpoint);
                return Some((claimed, ticket));
            }
        }
        None
    }

    /// Starts the lane's next delivery of the class, unless something is against it. `left` is how
    /// many more its account may start.
    fn try_start(
        &mut self,
        class: Class,
        endpoint: EndpointId,
        left: usize,
        now: Timestamp,
    ) -> Tried {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return Tried::Lost };
        let account = lane.account;
        lane.has_turn[class] = false;
        if lane.is_full() || lane.waits_for_host || lane.ready[class].is_empty() {
            return Tried::Lost;
        }
        if lane.has_standing && !self.standings.may_begin(endpoint, lane.in_flight, now) {
            return Tried::Lost;
        }
        if lane.in_flight >= left {
            lane.has_turn[class] = true;
            return Tried::NotYet;
        }
        if !self.hosts.has_room(lane.host, lane.in_flight) {
            lane.waits_for_host = true;
            self.hosts.wait(lane.host, endpoint);
            return Tried::Lost;
        }
        let Some(claimed) = lane.ready[class].pop_front() else { return Tried::Lost };
        lane.in_flight += 1;
        let (bytes, host) = (claimed.payload.body.len(), lane.host);
        self.hosts.begin(host);
        let mut turn = Turn::default();
        if lane.has_standing {
            let (begun, change) = self.standings.begin(endpoint, now);
            turn = begun;
            self.changes.extend(change);
        }
        self.hold(account, |held| held.in_flight[class] += 1);
        let ticket = Ticket { endpoint, account, bytes, class, host, turn, began_at: now };
        Tried::Started(claimed, ticket)
    }

    /// A lane lost its turn without starting anything: others may have waited behind it. Answers
    /// whether any of them has a turn now.
    fn lost_turn(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let Some(lane) = self.by_endpoint.get(&endpoint) else { return false };
        let is_any_admitted = !lane.waits_for_host && self.admit(lane.host, now);
        self.drop_if_idle(endpoint, now);
        is_any_admitted
    }

    /// Takes an attempt back that [`Self::next`] gave out. `ended` is `None` if it ended without an
    /// outcome, or was never made.
    pub(crate) fn finish(&mut self, ticket: &Ticket, ended: Option<&Ended>, now: Timestamp) {
        let Ticket { endpoint, account, bytes, class, host, .. } = *ticket;
        self.hold(account, |held| {
            held.in_flight[class] -= 1;
            held.jobs -= 1;
            held.bytes -= bytes;
        });
        self.hosts.end(host);
        let says_something = ended.is_some_and(|ended| {
            Verdict::of(ended.outcome) == Some(Verdict::Failure)
                || asks_to_slow_down(ended.outcome).is_some()
        });
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            let in_flight = lane.in_flight;
            lane.in_flight -= 1;
            lane.bytes -= bytes;
            if says_something && !lane.has_standing {
                lane.has_standing = self.standings.remember(endpoint, now);
            }
            if lane.has_standing {
                let change = self.standings.end(ticket, in_flight, ended, now);
                if change.is_some_and(|change| change.to == BreakerState::Open) {
                    self.empty_lane(endpoint);
                }
                self.changes.extend(change);
                self.want_more(endpoint);
            }
        }
        self.admit(host, now);
        self.give_turn(endpoint, now);
        self.drop_if_idle(endpoint, now);
    }

    /// Lets lanes try again that wait for room at the host, until one of them has something to start.
    /// Answers whether any has.
    fn admit(&mut self, host: HostId, now: Timestamp) -> bool {
        loop {
            let admitted = self.hosts.admit(host);
            let is_nobody = admitted.is_empty();
            let mut is_taken = false;
            for endpoint in admitted {
                is_taken |= self.admitted(endpoint, now);
            }
            if is_taken || is_nobody {
                return is_taken;
            }
        }
    }

    /// Gives the lane a turn again; answers whether it has a use for it.
    fn admitted(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return false };
        lane.waits_for_host = false;
        self.give_turn(endpoint, now);
        self.drop_if_idle(endpoint, now);
        let lane = self.by_endpoint.get(&endpoint);
        lane.is_some_and(|lane| Class::ALL.into_iter().any(|class| lane.has_turn[class]))
    }

    /// Puts the lane in line for what it may start, where it is not in line.
    pub(super) fn give_turn(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        if lane.is_full() || lane.waits_for_host || lane.waiting() == 0 {
            return;
        }
        if lane.has_standing && !self.standings.may_begin(endpoint, lane.in_flight, now) {
            return;
        }
        for class in Class::ALL {
            if !lane.has_turn[class] && !lane.ready[class].is_empty() {
                lane.has_turn[class] = true;
                self.turns[class].give(lane.account, endpoint);
            }
        }
    }

    /// Takes what breakers did.
    pub(crate) fn take_changes(&mut self) -> Vec<BreakerChange> {
        std::mem::take(&mut self.changes)
    }

    /// Whether they did anything.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// When [`Self::wake`] is wanted next.
    pub(crate) fn next_alarm_at(&self) -> Option<Timestamp> {
        self.standings.next_alarm_at()
    }

    /// Whether that became earlier since this was last asked.
    pub(crate) fn take_has_earlier_alarm(&mut self) -> bool {
        self.standings.take_has_earlier_alarm()
    }

    /// Gives turns to lanes that may begin an attempt by now, and forgets what is past.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        while let Some(endpoint) = self.standings.take_due(now) {
            if self.by_endpoint.contains_key(&endpoint) {
                self.give_turn(endpoint, now);
            } else {
                self.standings.rest(endpoint, now);
            }
        }
    }

    /// Gives turns to everybody who waits for a host with room, should one have been passed over.
    pub(crate) fn look_after_hosts(&mut self, now: Timestamp) {
        for endpoint in self.hosts.admit_all() {
            self.admitted(endpoint, now);
        }
    }

    fn free_slots(&self) -> usize {
        self.limits.in_all.saturating_sub(self.in_flight())
    }
}
