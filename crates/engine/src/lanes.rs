//! What is ready to be sent, in what order, and what must be fetched: the dispatcher's state.
//!
//! A lane is an endpoint's queue in memory; it exists only while there is something to do for the
//! endpoint. Promise: pure state, no waiting, no I/O. Work in memory is bounded in number and
//! bytes; what does not fit stays in storage, and the lane remembers when to ask for it. Accounts
//! take turns, and within an account its endpoints take turns, so that none can starve another.
//! Neighbour: [`crate::dispatch`] drives it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use domain::endpoint::Endpoint;
use domain::id::{AccountId, EndpointId};
use domain::time::Timestamp;
use store::queue::{Claimed, LaneClaim, LaneRoom, WaitingLane};

/// Deliveries in memory at once, those being sent included: some 20 MiB beside their payloads.
pub(crate) const JOBS_MAX: usize = 16_384;

/// Payload bytes in memory at once.
pub(crate) const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Deliveries waiting in memory for one endpoint: a second of work for a fast endpoint, little
/// memory lost to a slow one.
pub(crate) const LANE_JOBS_MAX: usize = 1_024;

/// A lane asks storage for more when fewer than this many wait, so that it never runs dry while a
/// claim is under way.
const LANE_LOW_WATER: usize = 64;

/// Deliveries claimed for one lane at a time.
const LANE_CLAIM_MAX: usize = 128;

/// Deliveries claimed in one step, over all lanes; bounds the payloads read before they are
/// counted.
const CLAIM_MAX: usize = 256;

/// How much may be on its way at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneLimits {
    pub(crate) in_flight_max: usize,
    pub(crate) in_flight_per_endpoint_max: usize,
}

/// The dispatcher's state.
pub(crate) struct Lanes {
    limits: LaneLimits,
    lanes: HashMap<EndpointId, Lane>,
    /// Accounts with a lane in `turns`, in the order of their turns.
    account_turns: VecDeque<AccountId>,
    /// For each account, its lanes that may start something, in the order of their turns.
    turns: HashMap<AccountId, VecDeque<EndpointId>>,
    /// When storage holds something for a lane that is not being claimed.
    stored: BTreeSet<(Timestamp, EndpointId)>,
    in_flight: usize,
    jobs: usize,
    bytes: usize,
}

struct Lane {
    account: AccountId,
    in_flight_max: usize,
    in_flight: usize,
    /// Places promised to deliveries that are being made durable.
    reserved: usize,
    /// Places promised to a claim under way; 0 when there is none.
    claiming: usize,
    has_turn: bool,
    ready: VecDeque<Claimed>,
    /// When storage holds something claimable, as far as we know.
    stored_due_at: Option<Timestamp>,
}

/// A place in memory for one delivery.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    pub(crate) endpoint: EndpointId,
    pub(crate) bytes: usize,
}

impl Lanes {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            lanes: HashMap::new(),
            account_turns: VecDeque::new(),
            turns: HashMap::new(),
            stored: BTreeSet::new(),
            in_flight: 0,
            jobs: 0,
            bytes: 0,
        }
    }

    /// Reserves a place for a new delivery of `bytes`, unless memory is full or older deliveries
    /// of the endpoint wait in storage, which go first.
    pub(crate) fn reserve(
        &mut self,
        endpoint: &Endpoint,
        bytes: usize,
        now: Timestamp,
    ) -> Option<Reserved> {
        if self.jobs >= JOBS_MAX || self.bytes + bytes > BYTES_MAX {
            return None;
        }
        let in_flight_max = self.in_flight_max(endpoint);
        let lane = self.lane(endpoint.id, endpoint.account);
        lane.in_flight_max = in_flight_max;
        let is_behind = lane.claiming > 0 || lane.stored_due_at.is_some_and(|due| due <= now);
        if is_behind || lane.ready.len() + lane.reserved >= LANE_JOBS_MAX {
            return None;
        }
        lane.reserved += 1;
        self.jobs += 1;
        self.bytes += bytes;
        Some(Reserved { endpoint: endpoint.id, bytes })
    }

    /// Gives a reserved place back.
    pub(crate) fn unreserve(&mut self, reserved: Reserved) {
        if let Some(lane) = self.lanes.get_mut(&reserved.endpoint) {
            lane.reserved -= 1;
        }
        self.jobs -= 1;
        self.bytes -= reserved.bytes;
        self.drop_if_idle(reserved.endpoint);
    }

    /// Puts a delivery into its reserved place.
    pub(crate) fn offer(&mut self, claimed: Claimed, reserved: Reserved) {
        let endpoint = reserved.endpoint;
        self.bytes -= reserved.bytes;
        self.bytes += claimed.payload.body.len();
        let lane = self.lane(endpoint, claimed.account);
        lane.reserved -= 1;
        lane.ready.push_back(claimed);
        self.give_turn(endpoint);
    }

    /// The next delivery to send, if one may start. Its slot and memory are held until
    /// [`Self::finish`].
    pub(crate) fn next(&mut self) -> Option<Claimed> {
        if self.in_flight >= self.limits.in_flight_max {
            return None;
        }
        let account = self.account_turns.pop_front()?;
        let lanes = self.turns.get_mut(&account).expect("an account with a turn has lanes");
        let endpoint = lanes.pop_front().expect("an account with a turn has a lane with one");
        if lanes.is_empty() {
            self.turns.remove(&account);
        } else {
            self.account_turns.push_back(account);
        }
        let lane = self.lanes.get_mut(&endpoint).expect("a lane with a turn exists");
        lane.has_turn = false;
        let claimed = lane.ready.pop_front().expect("a lane with a turn has something ready");
        lane.in_flight += 1;
        self.in_flight += 1;
        self.give_turn(endpoint);
        self.want_more(endpoint);
        Some(claimed)
    }

    /// Frees the slot and memory of a delivery that [`Self::next`] gave out.
    pub(crate) fn finish(&mut self, endpoint: EndpointId, bytes: usize) {
        self.in_flight -= 1;
        self.jobs -= 1;
        self.bytes -= bytes;
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            lane.in_flight -= 1;
        }
        self.give_turn(endpoint);
        self.drop_if_idle(endpoint);
    }

    /// Notes that storage holds something for the endpoint, due at `due_at`.
    pub(crate) fn note_stored(
        &mut self,
        endpoint: EndpointId,
        account: AccountId,
        due_at: Timestamp,
    ) {
        let lane = self.lane(endpoint, account);
        let earliest = lane.stored_due_at.map_or(due_at, |known| known.min(due_at));
        self.set_stored(endpoint, Some(earliest));
    }

    /// Notes lanes found in storage.
    pub(crate) fn note_waiting(&mut self, waiting: &[WaitingLane]) {
        for lane in waiting {
            self.note_stored(lane.endpoint, lane.account, lane.due_at);
        }
    }

    /// When the next lane wants to claim; `None` when storage holds nothing we know of, or memory
    /// is full.
    pub(crate) fn next_claim_at(&self) -> Option<Timestamp> {
        if self.jobs >= JOBS_MAX || self.bytes >= BYTES_MAX {
            return None;
        }
        self.stored.first().map(|(due_at, _)| *due_at)
    }

    /// The lanes that want to claim now, with the room each has. What is noted as stored from now
    /// on is not part of this claim.
    pub(crate) fn begin_claim(&mut self, now: Timestamp) -> Vec<(LaneRoom, AccountId)> {
        let mut room_left = CLAIM_MAX.min(JOBS_MAX.saturating_sub(self.jobs));
        if self.bytes >= BYTES_MAX {
            room_left = 0;
        }
        let mut rooms = Vec::new();
        while room_left > 0 {
            let Some(&(due_at, endpoint)) = self.stored.first() else { break };
            if due_at > now {
                break;
            }
            let room = room_left.min(LANE_CLAIM_MAX);
            room_left -= room;
            self.set_stored(endpoint, None);
            let lane = self.lanes.get_mut(&endpoint).expect("a lane with stored work exists");
            lane.claiming = room;
            self.jobs += room;
            rooms.push((LaneRoom { endpoint, room }, lane.account));
        }
        rooms
    }

    /// Takes in what a claim brought.
    pub(crate) fn end_claim(&mut self, claim: LaneClaim) {
        let endpoint = claim.endpoint;
        self.bytes += claim.claimed.iter().map(|one| one.payload.body.len()).sum::<usize>();
        self.jobs += claim.claimed.len();
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        lane.ready.extend(claim.claimed);
        let noted = lane.stored_due_at;
        self.abandon_claim(endpoint);
        let earliest = match (noted, claim.next_due_at) {
            (Some(noted), Some(next)) => Some(noted.min(next)),
            (noted, next) => noted.or(next),
        };
        self.set_stored(endpoint, earliest);
        self.give_turn(endpoint);
        self.drop_if_idle(endpoint);
    }

    /// Ends a claim that brought nothing and will not until something is noted as stored again
    /// (the endpoint is disabled or gone).
    pub(crate) fn park(&mut self, endpoint: EndpointId) {
        self.abandon_claim(endpoint);
        let noted = self.lanes.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, noted);
        self.drop_if_idle(endpoint);
    }

    /// Sets how many attempts may be on their way to the endpoint at once.
    pub(crate) fn set_in_flight_max(&mut self, endpoint: &Endpoint) {
        let in_flight_max = self.in_flight_max(endpoint);
        if let Some(lane) = self.lanes.get_mut(&endpoint.id) {
            lane.in_flight_max = in_flight_max;
            self.give_turn(endpoint.id);
        }
    }

    /// Takes out everything that waits in memory, to be given back to storage.
    pub(crate) fn take_ready(&mut self) -> Vec<Claimed> {
        self.account_turns.clear();
        self.turns.clear();
        let mut taken = Vec::new();
        for lane in self.lanes.values_mut() {
            lane.has_turn = false;
            taken.extend(lane.ready.drain(..));
        }
        self.jobs -= taken.len();
        self.bytes -= taken.iter().map(|claimed| claimed.payload.body.len()).sum::<usize>();
        taken
    }

    /// Attempts on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Deliveries in memory, reserved places included.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Lanes in memory.
    pub(crate) fn len(&self) -> usize {
        self.lanes.len()
    }

    fn in_flight_max(&self, endpoint: &Endpoint) -> usize {
        endpoint
            .max_in_flight
            .map_or(self.limits.in_flight_per_endpoint_max, domain::endpoint::MaxInFlight::get)
    }

    fn lane(&mut self, endpoint: EndpointId, account: AccountId) -> &mut Lane {
        let in_flight_max = self.limits.in_flight_per_endpoint_max;
        self.lanes.entry(endpoint).or_insert_with(|| Lane {
            account,
            in_flight_max,
            in_flight: 0,
            reserved: 0,
            claiming: 0,
            has_turn: false,
            ready: VecDeque::new(),
            stored_due_at: None,
        })
    }

    /// Puts the lane in line if it may start something and is not in line.
    fn give_turn(&mut self, endpoint: EndpointId) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if lane.has_turn || lane.ready.is_empty() || lane.in_flight >= lane.in_flight_max {
            return;
        }
        lane.has_turn = true;
        let lanes = self.turns.entry(lane.account).or_default();
        if lanes.is_empty() {
            self.account_turns.push_back(lane.account);
        }
        lanes.push_back(endpoint);
    }

    /// Lets a lane that runs low ask storage again.
    fn want_more(&mut self, endpoint: EndpointId) {
        let due_at = self.lanes.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, due_at);
    }

    /// Sets when storage holds something for the lane, and puts the lane among those that want to
    /// claim unless it is claiming or has plenty.
    fn set_stored(&mut self, endpoint: EndpointId, due_at: Option<Timestamp>) {
        let Some(lane) = self.lanes.get_mut(&endpoint) else { return };
        if let Some(old) = lane.stored_due_at {
            self.stored.remove(&(old, endpoint));
        }
        lane.stored_due_at = due_at;
        if let Some(due_at) = due_at
            && lane.claiming == 0
            && lane.ready.len() < LANE_LOW_WATER
        {
            self.stored.insert((due_at, endpoint));
        }
    }

    fn abandon_claim(&mut self, endpoint: EndpointId) {
        if let Some(lane) = self.lanes.get_mut(&endpoint) {
            self.jobs -= lane.claiming;
            lane.claiming = 0;
        }
    }

    fn drop_if_idle(&mut self, endpoint: EndpointId) {
        let is_idle = self.lanes.get(&endpoint).is_some_and(|lane| {
            lane.in_flight == 0
                && lane.reserved == 0
                && lane.claiming == 0
                && lane.ready.is_empty()
                && lane.stored_due_at.is_none()
        });
        if is_idle {
            self.lanes.remove(&endpoint);
        }
    }
}

#[cfg(test)]
mod tests;
