//! What starts next, and what its end changes.
//!
//! Promise: whatever may start has a turn, waits for room at its host, or has an alarm set for when
//! its breaker or pace lets it; so [`Lanes::next`] finds it without looking at those that may not.

use domain::breaker::{BreakerState, Turn, Verdict};
use domain::id::EndpointId;
use domain::pace::asks_to_slow_down;
use domain::time::Timestamp;
use store::queue::Claimed;

use super::classes::Class;
use super::hosts::HostId;
use super::{BreakerChange, Ended, Lanes, Ticket};

/// Lanes woken in one step, while which nothing else can start or end.
pub(super) const WOKEN_MAX: usize = 256;

/// What came of a lane's turn.
enum Tried {
    Started(Claimed, Ticket),
    /// It keeps its turn for later. If it was admitted to a host, somebody else may be instead.
    NotYet(Option<HostId>),
    /// It lost its turn, and gets another when something changes.
    Lost,
}

impl Lanes {
    /// The next delivery to send, if one may start. What it holds is held until [`Self::finish`].
    pub(crate) fn next(&mut self, now: Timestamp) -> Option<(Claimed, Ticket)> {
        if self.is_halted || self.free_slots() == 0 {
            return None;
        }
        let is_left = self.share.is_left(self.limits.in_all);
        let order = if is_left { [Class::Rest, Class::First] } else { Class::ALL };
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
                    Tried::NotYet(admitted_to) => {
                        self.turns[class].give(account, endpoint);
                        if admitted_to.is_some_and(|host| self.admit(host, now)) {
                            untried = self.turns[class].accounts() + 1;
                        }
                    }
                    Tried::Lost => {
                        if self.lost_turn(class, endpoint, now) {
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
        let was_admitted = std::mem::take(&mut lane.was_admitted[class]);
        if lane.is_full() || !lane.has_use_for_turn(class) {
            return Tried::Lost;
        }
        if lane.has_standing && !self.standings.may_begin(endpoint, lane.in_flight, now) {
            return Tried::Lost;
        }
        if lane.in_flight >= left {
            lane.has_turn[class] = true;
            return Tried::NotYet(was_admitted.then_some(lane.host));
        }
        if !self.hosts.has_room(lane.host, class, lane.in_flight) {
            lane.waits_for_host[class] = true;
            self.hosts.wait(lane.host, class, endpoint);
            return Tried::Lost;
        }
        let Some(claimed) = lane.ready[class].pop_front() else { return Tried::Lost };
        lane.in_flight += 1;
        lane.share.begin(class);
        self.share.begin(class);
        let (bytes, host) = (claimed.payload.body.len(), lane.host);
        self.hosts.begin(host, class);
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
    fn lost_turn(&mut self, class: Class, endpoint: EndpointId, now: Timestamp) -> bool {
        let is_any_freed = self.note_wish(endpoint, now);
        let Some(lane) = self.by_endpoint.get(&endpoint) else { return is_any_freed };
        let is_any_admitted = !lane.waits_for_host[class] && self.admit(lane.host, now);
        self.drop_if_idle(endpoint, now);
        is_any_freed || is_any_admitted
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
        self.hosts.end(host, class);
        self.share.end(class);
        let says_something = ended.is_some_and(|ended| {
            Verdict::of(ended.outcome) == Some(Verdict::Failure)
                || asks_to_slow_down(ended.outcome).is_some()
        });
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            let in_flight = lane.in_flight;
            lane.in_flight -= 1;
            lane.share.end(class);
            lane.bytes -= bytes;
            if says_something && !lane.has_standing {
                lane.has_standing = self.standings.remember(endpoint, now);
            }
            if lane.has_standing {
                let change = self.standings.end(ticket, in_flight, ended, now);
                if change.is_some_and(|change| change.to == BreakerState::Open) {
                    self.empty_lane(endpoint, now);
                }
                self.changes.extend(change);
                self.want_more(endpoint);
            }
        }
        self.admit(host, now);
        self.give_turn(endpoint, now);
        self.drop_if_idle(endpoint, now);
    }

    /// Lets lanes try again that wait for room at the host, until one of them has something that its
    /// account may start. Answers whether any has.
    fn admit(&mut self, host: HostId, now: Timestamp) -> bool {
        loop {
            let admitted = self.hosts.admit(host);
            let is_nobody = admitted.is_empty();
            let mut is_taken = false;
            for (class, endpoint) in admitted {
                is_taken |= self.admitted(class, endpoint, now);
            }
            if is_taken || is_nobody {
                return is_taken;
            }
        }
    }

    /// Gives the lane a turn again; answers whether it has a use for it now.
    fn admitted(&mut self, class: Class, endpoint: EndpointId, now: Timestamp) -> bool {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return false };
        lane.waits_for_host[class] = false;
        lane.was_admitted[class] = true;
        self.give_turn(endpoint, now);
        self.drop_if_idle(endpoint, now);
        let Some(lane) = self.by_endpoint.get(&endpoint) else { return false };
        let held = self.held_by(lane.account).in_flight[class];
        let left = self.free_slots().saturating_sub(held);
        lane.has_turn[class] && lane.in_flight < left
    }

    /// Puts the lane in line for what it may start, where it is not in line.
    pub(super) fn give_turn(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let may_begin = !lane.is_full()
            && lane.waiting() > 0
            && (!lane.has_standing || self.standings.may_begin(endpoint, lane.in_flight, now));
        for class in Class::ALL {
            if may_begin && !lane.has_turn[class] && lane.has_use_for_turn(class) {
                lane.has_turn[class] = true;
                self.turns[class].give(lane.account, endpoint);
            }
        }
        self.note_wish(endpoint, now);
    }

    /// Tells the host whether the lane has a first attempt that could start there. Answers whether
    /// anybody else was admitted since it has none any more.
    pub(super) fn note_wish(&mut self, endpoint: EndpointId, now: Timestamp) -> bool {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return false };
        let has_wish = !lane.ready[Class::First].is_empty()
            && (lane.has_turn[Class::First] || lane.waits_for_host[Class::First]);
        let (had_wish, host) = (std::mem::replace(&mut lane.has_wish, has_wish), lane.host);
        if has_wish && !had_wish {
            self.hosts.begin_wish(host);
        }
        had_wish && !has_wish && self.hosts.end_wish(host) && self.admit(host, now)
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

    /// Gives turns to lanes that may begin an attempt by now, and forgets what is past: some of it, so
    /// that [`Self::next_alarm_at`] may still be past afterwards.
    pub(crate) fn wake(&mut self, now: Timestamp) {
        for _ in 0..WOKEN_MAX {
            let Some(endpoint) = self.standings.take_due(now) else { return };
            if self.by_endpoint.contains_key(&endpoint) {
                self.give_turn(endpoint, now);
            } else {
                self.standings.rest(endpoint, now);
            }
        }
    }

    /// The clock was set back: lets those begin whose breaker or pace would have let them, were it not
    /// for that.
    pub(crate) fn look_again(&mut self, endpoints: &[EndpointId], now: Timestamp) {
        for endpoint in endpoints {
            self.standings.probe_if_over(*endpoint, now);
            self.want_more(*endpoint);
            self.give_turn(*endpoint, now);
        }
    }

    /// Everybody who may have to wait for an instant.
    pub(crate) fn not_simply_well(&self) -> Vec<EndpointId> {
        self.standings.endpoints()
    }

    /// Gives turns to everybody who waits for a host with room, should one have been passed over.
    pub(crate) fn look_after_hosts(&mut self, now: Timestamp) {
        for (class, endpoint) in self.hosts.admit_all() {
            self.admitted(class, endpoint, now);
        }
    }

    fn free_slots(&self) -> usize {
        self.limits.in_all.saturating_sub(self.in_flight())
    }
}
