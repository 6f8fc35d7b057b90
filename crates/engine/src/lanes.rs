//! What is ready to be sent, in what order, and what must be fetched: the dispatcher's state.
//!
//! A lane is an endpoint's queue in memory; it exists only while there is something to do for the
//! endpoint. Promise: pure state, no waiting, no I/O. Work in memory is bounded in number and
//! bytes; what does not fit stays in storage, and the lane remembers when to ask for it ([`claims`]).
//!
//! None can starve another. Accounts take turns, and within an account its endpoints ([`classes`]).
//! An account may hold no more of the slots and of the memory than are still free (the dynamic
//! thresholds of Choudhury and Hahne, 1998), so that one account alone gets half and there is
//! room for the next, however long its receivers hang. In the same way a lane may hold no more slots
//! than its account may still take, an eighth of the memory it may, and no more of its host's slots
//! than are free there ([`hosts`]).
//! Retries and replays get a fifth of the slots while first attempts wait that could start: of all,
//! of the host's and of the endpoint's.
//!
//! An endpoint that is not simply well has a standing ([`standings`]): while its breaker is not
//! closed nothing waits for it in memory, and what does is given back to storage; and its attempts
//! begin no faster than its pace allows. Neighbour: [`crate::dispatch`] drives it.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use domain::attempt::Outcome;
use domain::breaker::{BreakerState, Turn};
use domain::endpoint::Endpoint;
use domain::id::{AccountId, EndpointId};
use domain::retry::Chance;
use domain::time::Timestamp;
use store::queue::{Claimed, Lease};

use self::classes::{Class, Each, Share, Turns};
use self::hosts::{HostId, Hosts};
use self::ids::IdMap;
use self::standings::Standings;

mod claims;
mod classes;
mod hosts;
mod ids;
mod standings;
mod starts;
pub(crate) mod view;

/// Deliveries in memory at once, those being sent included: some 20 MiB beside their payloads.
pub(crate) const JOBS_MAX: usize = 16_384;

/// Payload bytes in memory at once.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Deliveries waiting in memory for one endpoint: a second of work for a fast endpoint, little
/// memory lost to a slow one.
pub(crate) const LANE_JOBS_MAX: usize = 1_024;

/// The part of the memory its account may still take that one lane may hold: little enough that
/// dozens of lanes whose receivers hang leave room for the next, and far more than a lane needs to
/// be kept busy.
const LANE_MEMORY_DIVISOR: usize = 8;

/// How many attempts may be on their way at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLimits {
    pub(crate) in_all: usize,
    /// To one endpoint, unless it says otherwise.
    pub(crate) per_endpoint: usize,
    /// To one host and port.
    pub(crate) per_host: usize,
}

/// The dispatcher's state.
pub(crate) struct Lanes {
    limits: LaneLimits,
    by_endpoint: IdMap<EndpointId, Lane>,
    /// For each class, the lanes that may start something, in the order of their turns.
    turns: Each<Turns>,
    share: Share,
    hosts: Hosts,
    standings: Standings,
    /// For each account, when storage holds something for a lane that wants to claim it.
    stored: IdMap<AccountId, BTreeSet<(Timestamp, EndpointId)>>,
    /// For each account in `stored`, the earliest of its instants.
    stored_accounts: BTreeSet<(Timestamp, AccountId)>,
    /// Nothing starts and nothing is claimed any more.
    is_halted: bool,
    in_all: Held,
    by_account: IdMap<AccountId, Held>,
    /// Leases of deliveries that are to wait in storage: as many as were in memory, at most.
    returned: Vec<Returned>,
    /// Breakers that changed, to be told: at most a few for each attempt that ended.
    changes: Vec<BreakerChange>,
    /// The oldest due delivery, as it was known at the last look.
    oldest_due_at: Option<Timestamp>,
}

/// What is held of what there is only so much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// Attempts on their way.
    in_flight: Each<usize>,
    /// Deliveries in memory, places included.
    jobs: usize,
    /// Their payload bytes.
    bytes: usize,
}

/// How much more there may be in memory.
#[derive(Clone, Copy, Debug)]
struct Room {
    jobs: usize,
    bytes: usize,
}

impl Held {
    fn in_flight(&self) -> usize {
        Class::ALL.into_iter().map(|class| self.in_flight[class]).sum()
    }
}

struct Lane {
    account: AccountId,
    in_flight_max: usize,
    host: HostId,
    /// The version of the endpoint from which the limits are, if they are from any.
    known_as_of: Option<Timestamp>,
    in_flight: usize,
    share: Share,
    /// Places promised to deliveries that are being made durable.
    reserved: usize,
    /// Places promised to a claim under way; 0 when there is none.
    claiming: usize,
    has_turn: Each<bool>,
    /// Whether it waits for room at its host.
    waits_for_host: Each<bool>,
    /// Whether it has its turn since there was room at its host.
    was_admitted: Each<bool>,
    /// Whether its host knows of a first attempt that could start.
    has_wish: bool,
    /// Whether the endpoint has a standing.
    has_standing: bool,
    ready: Each<VecDeque<Claimed>>,
    /// Payload bytes in memory, those being sent included.
    bytes: usize,
    /// When storage holds something claimable, as far as we know.
    stored_due_at: Option<Timestamp>,
    /// When the latest due of the first attempts is that storage may hold, if it holds any that are
    /// due: fresh ones may overtake what is stored beside them, retries and replays.
    firsts_stored_until: Option<Timestamp>,
    /// Where it stands among those that want to claim, if it does.
    claims_at: Option<Timestamp>,
}

/// A place in memory for one delivery. Must be used or given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    endpoint: EndpointId,
    account: AccountId,
    bytes: usize,
}

/// What an attempt holds until it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    endpoint: EndpointId,
    account: AccountId,
    bytes: usize,
    class: Class,
    host: HostId,
    turn: Turn,
    began_at: Timestamp,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    pub(crate) chance: Chance,
}

/// A lease to be given back unused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) lease: Lease,
    pub(crate) endpoint: EndpointId,
    pub(crate) account: AccountId,
}

/// A breaker changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BreakerChange {
    pub(crate) endpoint: EndpointId,
    pub(crate) from: BreakerState,
    pub(crate) to: BreakerState,
}

impl BreakerChange {
    fn between(endpoint: EndpointId, from: BreakerState, to: BreakerState) -> Option<Self> {
        (from != to).then_some(Self { endpoint, from, to })
    }
}

impl Lanes {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            by_endpoint: IdMap::default(),
            turns: Each::default(),
            share: Share::default(),
            hosts: Hosts::new(limits.per_host),
            standings: Standings::default(),
            stored: IdMap::default(),
            stored_accounts: BTreeSet::new(),
            is_halted: false,
            in_all: Held::default(),
            by_account: IdMap::default(),
            returned: Vec::new(),
            changes: Vec::new(),
            oldest_due_at: None,
        }
    }

    /// Reserves a place for a new delivery of `bytes`, unless memory is full, older first attempts at
    /// the endpoint wait in storage, which go first, or its breaker is not closed.
    pub(crate) fn reserve(
        &mut self,
        endpoint: &Endpoint,
        bytes: usize,
        now: Timestamp,
    ) -> Option<Reserved> {
        let room = self.room_for(endpoint.account)?;
        if self.is_halted || !self.standings.is_closed(endpoint.id) {
            return None;
        }
        let known_as_of = self.lane(endpoint.id, endpoint.account).known_as_of;
        if known_as_of != Some(endpoint.updated_at) {
            self.set_limits(endpoint, now);
        }
        let lane = self.lane(endpoint.id, endpoint.account);
        let room = lane.room(room, bytes);
        let is_behind = lane.firsts_stored_until.is_some();
        if is_behind || room == 0 || lane.waiting() + lane.reserved >= LANE_JOBS_MAX {
            self.drop_if_idle(endpoint.id, now);
            return None;
        }
        lane.reserved += 1;
        lane.bytes += bytes;
        self.hold(endpoint.account, |held| {
            held.jobs += 1;
            held.bytes += bytes;
        });
        Some(Reserved { endpoint: endpoint.id, account: endpoint.account, bytes })
    }

    /// Gives a reserved place back.
    pub(crate) fn unreserve(&mut self, reserved: Reserved, now: Timestamp) {
        if let Some(lane) = self.by_endpoint.get_mut(&reserved.endpoint) {
            lane.reserved -= 1;
            lane.bytes -= reserved.bytes;
        }
        self.hold(reserved.account, |held| {
            held.jobs -= 1;
            held.bytes -= reserved.bytes;
        });
        self.drop_if_idle(reserved.endpoint, now);
    }

    /// Puts a delivery into its reserved place; or back into storage, if the breaker opened since, or
    /// nothing starts any more.
    pub(crate) fn offer(&mut self, claimed: Claimed, reserved: Reserved, now: Timestamp) {
        let endpoint = reserved.endpoint;
        if self.is_halted || !self.standings.is_closed(endpoint) {
            self.return_to_storage(&claimed);
            self.unreserve(reserved, now);
            return;
        }
        self.hold(reserved.account, |held| {
            held.bytes = held.bytes - reserved.bytes + claimed.payload.body.len();
        });
        let lane = self.lane(endpoint, claimed.account);
        lane.reserved -= 1;
        lane.bytes = lane.bytes - reserved.bytes + claimed.payload.body.len();
        lane.ready[Class::of(&claimed)].push_back(claimed);
        self.give_turn(endpoint, now);
    }

    /// Takes everything that waits in memory for the endpoint out of it.
    fn empty_lane(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let ready = std::mem::take(&mut lane.ready);
        let ready = || Class::ALL.iter().flat_map(|class| &ready[*class]);
        lane.bytes -= ready().map(|claimed| claimed.payload.body.len()).sum::<usize>();
        for claimed in ready() {
            self.hold(claimed.account, |held| {
                held.jobs -= 1;
                held.bytes -= claimed.payload.body.len();
            });
            self.return_to_storage(claimed);
        }
        self.note_wish(endpoint, now);
    }

    fn return_to_storage(&mut self, claimed: &Claimed) {
        let Claimed { lease, endpoint, account, .. } = *claimed;
        self.returned.push(Returned { lease, endpoint, account });
    }

    /// Takes the leases that are to be given back unused.
    pub(crate) fn take_returned(&mut self) -> Vec<Returned> {
        std::mem::take(&mut self.returned)
    }

    /// Whether there are any.
    pub(crate) fn has_returned(&self) -> bool {
        !self.returned.is_empty()
    }

    /// Starts and claims nothing any more.
    pub(crate) fn halt(&mut self) {
        self.is_halted = true;
    }

    /// Takes up the endpoint's limits.
    pub(crate) fn set_limits(&mut self, endpoint: &Endpoint, now: Timestamp) {
        let in_flight_max = endpoint
            .max_in_flight
            .map_or(self.limits.per_endpoint, domain::endpoint::MaxInFlight::get);
        let Some(lane) = self.by_endpoint.get_mut(&endpoint.id) else { return };
        lane.in_flight_max = in_flight_max;
        lane.known_as_of = Some(endpoint.updated_at);
        let host = self.hosts.id_of(&endpoint.url);
        if lane.host != host {
            let old = std::mem::replace(&mut lane.host, host);
            lane.waits_for_host = Each::default();
            lane.was_admitted = Each::default();
            if std::mem::take(&mut lane.has_wish) {
                self.hosts.end_wish(old);
            }
        }
        let has_standing = self.standings.set_rate(endpoint.id, endpoint.rate, now);
        let Some(lane) = self.by_endpoint.get_mut(&endpoint.id) else { return };
        lane.has_standing = has_standing;
        self.give_turn(endpoint.id, now);
    }

    /// The endpoint's owner changed it: it gets its next probe at once, should its breaker be open.
    pub(crate) fn probe_now(&mut self, endpoint: EndpointId, now: Timestamp) {
        self.standings.probe_now(endpoint, now);
        self.want_more(endpoint);
    }

    /// Takes out everything that waits in memory, to be given back to storage.
    pub(crate) fn take_ready(&mut self) -> Vec<Claimed> {
        self.hosts.forget_waiting();
        let mut taken = Vec::new();
        for class in Class::ALL {
            self.turns[class].clear();
            for lane in self.by_endpoint.values_mut() {
                lane.has_turn[class] = false;
                lane.waits_for_host[class] = false;
                lane.has_wish = false;
                for claimed in lane.ready[class].drain(..) {
                    lane.bytes -= claimed.payload.body.len();
                    taken.push(claimed);
                }
            }
        }
        for claimed in &taken {
            self.hold(claimed.account, |held| {
                held.jobs -= 1;
                held.bytes -= claimed.payload.body.len();
            });
        }
        self.by_endpoint.retain(|_, lane| !lane.is_idle());
        taken
    }

    /// Whether there is anything in memory that is not on its way. Once nothing starts any more and
    /// what waited was taken out, that is what is being made durable or claimed.
    pub(crate) fn has_unstarted(&self) -> bool {
        self.in_all.jobs > self.in_flight()
    }

    /// Attempts on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_all.in_flight()
    }

    /// How many more deliveries, and bytes, the account may hold: as many as are still free beyond
    /// what it holds already; `None` if no more of either.
    fn room_for(&self, account: AccountId) -> Option<Room> {
        let held = self.held_by(account);
        let jobs = JOBS_MAX.saturating_sub(self.in_all.jobs).saturating_sub(held.jobs);
        let bytes = BYTES_MAX.saturating_sub(self.in_all.bytes).saturating_sub(held.bytes);
        (jobs > 0 && bytes > 0).then_some(Room { jobs, bytes })
    }

    fn held_by(&self, account: AccountId) -> Held {
        self.by_account.get(&account).copied().unwrap_or_default()
    }

    /// Changes what the account holds, and all with it.
    fn hold(&mut self, account: AccountId, change: impl Fn(&mut Held)) {
        change(&mut self.in_all);
        let held = self.by_account.entry(account).or_default();
        change(held);
        if *held == Held::default() {
            self.by_account.remove(&account);
        }
    }

    fn lane(&mut self, endpoint: EndpointId, account: AccountId) -> &mut Lane {
        let in_flight_max = self.limits.per_endpoint;
        let standings = &self.standings;
        self.by_endpoint.entry(endpoint).or_insert_with(|| Lane {
            account,
            in_flight_max,
            host: HostId::default(),
            known_as_of: None,
            in_flight: 0,
            share: Share::default(),
            reserved: 0,
            claiming: 0,
            has_turn: Each::default(),
            waits_for_host: Each::default(),
            was_admitted: Each::default(),
            has_wish: false,
            has_standing: standings.has(endpoint),
            ready: Each::default(),
            bytes: 0,
            stored_due_at: None,
            firsts_stored_until: None,
            claims_at: None,
        })
    }

    fn drop_if_idle(&mut self, endpoint: EndpointId, now: Timestamp) {
        let Some(lane) = self.by_endpoint.get(&endpoint) else { return };
        if lane.is_idle() {
            let has_standing = lane.has_standing;
            self.by_endpoint.remove(&endpoint);
            if has_standing {
                self.standings.rest(endpoint, now);
            }
        }
    }
}

impl Lane {
    /// Deliveries that wait in memory.
    fn waiting(&self) -> usize {
        Class::ALL.into_iter().map(|class| self.ready[class].len()).sum()
    }

    /// How many more deliveries of `bytes` each it may hold when its account may hold `room` more.
    /// One that holds none may have one if its account may.
    fn room(&self, room: Room, bytes: usize) -> usize {
        let share = room.jobs / LANE_MEMORY_DIVISOR;
        match self.jobs() {
            0 if bytes <= room.bytes => share.max(1),
            jobs if self.bytes + bytes <= room.bytes / LANE_MEMORY_DIVISOR => {
                share.saturating_sub(jobs)
            }
            _ => 0,
        }
    }

    /// Deliveries in memory, places included.
    fn jobs(&self) -> usize {
        self.waiting() + self.reserved + self.claiming + self.in_flight
    }

    fn is_full(&self) -> bool {
        self.in_flight >= self.in_flight_max
    }

    /// Whether it has something of the class that it need not hold back, and does not wait for room
    /// to start it.
    fn has_use_for_turn(&self, class: Class) -> bool {
        let goes_first = class == Class::First || self.ready[Class::First].is_empty();
        !self.ready[class].is_empty()
            && !self.waits_for_host[class]
            && (goes_first || self.share.is_left(self.in_flight_max))
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0
            && self.reserved == 0
            && self.claiming == 0
            && self.waiting() == 0
            && self.stored_due_at.is_none()
            && Class::ALL
                .into_iter()
                .all(|class| !self.has_turn[class] && !self.waits_for_host[class])
    }
}

#[cfg(test)]
mod tests;
