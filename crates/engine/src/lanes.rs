//! What is ready to be sent, in what order, and what must be fetched: the dispatcher's state.
//!
//! A lane is an endpoint's queue in memory; it exists only while there is something to do for the
//! endpoint. Promise: pure state, no waiting, no I/O. Work in memory is bounded in number and
//! bytes; what does not fit stays in storage, and the lane remembers when to ask for it.
//!
//! None can starve another: accounts take turns, and within an account its endpoints; and an
//! account may hold no more of the slots and of the memory than are still free (the dynamic
//! thresholds of Choudhury and Hahne, 1998), so that one account alone gets half and there is
//! always room for the next, however long its receivers hang. Neighbour: [`crate::dispatch`] drives it.

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
    by_endpoint: HashMap<EndpointId, Lane>,
    /// Accounts with a lane in `turns`, in the order of their turns.
    account_turns: VecDeque<AccountId>,
    /// For each account, its lanes that may start something, in the order of their turns.
    turns: HashMap<AccountId, VecDeque<EndpointId>>,
    /// For each account, when storage holds something for a lane that wants to claim it.
    stored: HashMap<AccountId, BTreeSet<(Timestamp, EndpointId)>>,
    /// For each account in `stored`, the earliest of its instants.
    stored_accounts: BTreeSet<(Timestamp, AccountId)>,
    /// Nothing starts and nothing is claimed any more.
    is_halted: bool,
    in_all: Held,
    by_account: HashMap<AccountId, Held>,
}

/// What is held of what there is only so much of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Held {
    /// Attempts on their way.
    in_flight: usize,
    /// Deliveries in memory, places included.
    jobs: usize,
    /// Their payload bytes.
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

/// A place in memory for one delivery. Must be used or given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    endpoint: EndpointId,
    account: AccountId,
    bytes: usize,
}

impl Lanes {
    pub(crate) fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            by_endpoint: HashMap::new(),
            account_turns: VecDeque::new(),
            turns: HashMap::new(),
            stored: HashMap::new(),
            stored_accounts: BTreeSet::new(),
            is_halted: false,
            in_all: Held::default(),
            by_account: HashMap::new(),
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
        if self.room_for(endpoint.account, bytes) == 0 {
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
        self.hold(endpoint.account, |held| {
            held.jobs += 1;
            held.bytes += bytes;
        });
        Some(Reserved { endpoint: endpoint.id, account: endpoint.account, bytes })
    }

    /// Gives a reserved place back.
    pub(crate) fn unreserve(&mut self, reserved: Reserved) {
        if let Some(lane) = self.by_endpoint.get_mut(&reserved.endpoint) {
            lane.reserved -= 1;
        }
        self.hold(reserved.account, |held| {
            held.jobs -= 1;
            held.bytes -= reserved.bytes;
        });
        self.drop_if_idle(reserved.endpoint);
    }

    /// Puts a delivery into its reserved place.
    pub(crate) fn offer(&mut self, claimed: Claimed, reserved: Reserved) {
        let endpoint = reserved.endpoint;
        self.hold(reserved.account, |held| {
            held.bytes = held.bytes - reserved.bytes + claimed.payload.body.len();
        });
        let lane = self.lane(endpoint, claimed.account);
        lane.reserved -= 1;
        lane.ready.push_back(claimed);
        self.give_turn(endpoint);
    }

    /// The next delivery to send, if one may start. Its slot and memory are held until
    /// [`Self::finish`].
    pub(crate) fn next(&mut self) -> Option<Claimed> {
        let account = self.next_account()?;
        let lanes = self.turns.get_mut(&account).expect("an account with a turn has lanes");
        let endpoint = lanes.pop_front().expect("an account with a turn has a lane with one");
        if lanes.is_empty() {
            self.turns.remove(&account);
        } else {
            self.account_turns.push_back(account);
        }
        let lane = self.by_endpoint.get_mut(&endpoint).expect("a lane with a turn exists");
        lane.has_turn = false;
        let claimed = lane.ready.pop_front().expect("a lane with a turn has something ready");
        lane.in_flight += 1;
        self.hold(account, |held| held.in_flight += 1);
        self.give_turn(endpoint);
        self.want_more(endpoint);
        Some(claimed)
    }

    /// Takes the next account whose turn it is and that holds no more slots than are free.
    fn next_account(&mut self) -> Option<AccountId> {
        if self.is_halted {
            return None;
        }
        let free = self.limits.in_flight_max.saturating_sub(self.in_all.in_flight);
        if free == 0 {
            return None;
        }
        for _ in 0..self.account_turns.len() {
            let account = self.account_turns.pop_front()?;
            if self.held_by(account).in_flight < free {
                return Some(account);
            }
            self.account_turns.push_back(account);
        }
        None
    }

    /// Frees the slot and memory of a delivery that [`Self::next`] gave out.
    pub(crate) fn finish(&mut self, endpoint: EndpointId, account: AccountId, bytes: usize) {
        self.hold(account, |held| {
            held.in_flight -= 1;
            held.jobs -= 1;
            held.bytes -= bytes;
        });
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
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

    /// When the next lane wants to claim; `None` when storage holds nothing we know of.
    pub(crate) fn next_claim_at(&self) -> Option<Timestamp> {
        self.stored_accounts.first().map(|(due_at, _)| *due_at)
    }

    /// The lanes that want to claim now, with the room each has; none when memory is full, or full
    /// of these very accounts' deliveries. What is noted as stored from now on is not part of this
    /// claim.
    pub(crate) fn begin_claim(&mut self, now: Timestamp) -> Vec<(LaneRoom, AccountId)> {
        if self.is_halted {
            return Vec::new();
        }
        let wanting = self.wanting(now);
        let share = (CLAIM_MAX / wanting.len().max(1)).clamp(1, LANE_CLAIM_MAX);
        let mut rooms = Vec::with_capacity(wanting.len());
        for (endpoint, account) in wanting {
            let room = self.room_for(account, 0).min(share);
            if room == 0 {
                continue;
            }
            self.set_stored(endpoint, None);
            if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
                lane.claiming = room;
            }
            self.hold(account, |held| held.jobs += room);
            rooms.push((LaneRoom { endpoint, room }, account));
        }
        rooms
    }

    /// Lanes that want to claim now and whose accounts have room, at most [`CLAIM_MAX`]; accounts
    /// take turns.
    fn wanting(&self, now: Timestamp) -> Vec<(EndpointId, AccountId)> {
        let mut lines: VecDeque<_> = self
            .stored_accounts
            .iter()
            .take_while(|(due_at, _)| *due_at <= now)
            .filter(|(_, account)| self.room_for(*account, 0) > 0)
            .take(CLAIM_MAX)
            .filter_map(|(_, account)| Some((*account, self.stored.get(account)?.iter())))
            .collect();
        let mut wanting = Vec::new();
        while wanting.len() < CLAIM_MAX
            && let Some((account, mut line)) = lines.pop_front()
        {
            if let Some((due_at, endpoint)) = line.next()
                && *due_at <= now
            {
                wanting.push((*endpoint, account));
                lines.push_back((account, line));
            }
        }
        wanting
    }

    /// Starts and claims nothing any more.
    pub(crate) fn halt(&mut self) {
        self.is_halted = true;
    }

    /// Takes in what a claim brought.
    pub(crate) fn end_claim(&mut self, claim: LaneClaim) {
        let endpoint = claim.endpoint;
        self.abandon_claim(endpoint);
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let (account, noted) = (lane.account, lane.stored_due_at);
        let jobs = claim.claimed.len();
        let bytes: usize = claim.claimed.iter().map(|one| one.payload.body.len()).sum();
        lane.ready.extend(claim.claimed);
        self.hold(account, |held| {
            held.jobs += jobs;
            held.bytes += bytes;
        });
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
        let noted = self.by_endpoint.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, noted);
        self.drop_if_idle(endpoint);
    }

    /// Sets how many attempts may be on their way to the endpoint at once.
    pub(crate) fn set_in_flight_max(&mut self, endpoint: &Endpoint) {
        let in_flight_max = self.in_flight_max(endpoint);
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint.id) {
            lane.in_flight_max = in_flight_max;
            self.give_turn(endpoint.id);
        }
    }

    /// Takes out everything that waits in memory, to be given back to storage.
    pub(crate) fn take_ready(&mut self) -> Vec<Claimed> {
        self.account_turns.clear();
        self.turns.clear();
        let mut taken = Vec::new();
        for lane in self.by_endpoint.values_mut() {
            lane.has_turn = false;
            taken.extend(lane.ready.drain(..));
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

    /// Attempts on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_all.in_flight
    }

    /// Deliveries in memory, places included.
    pub(crate) fn jobs(&self) -> usize {
        self.in_all.jobs
    }

    /// Lanes in memory.
    pub(crate) fn len(&self) -> usize {
        self.by_endpoint.len()
    }

    /// How many more deliveries of `bytes` each the account may hold: as many as are still free
    /// beyond what it holds already.
    fn room_for(&self, account: AccountId, bytes: usize) -> usize {
        let held = self.held_by(account);
        let free_bytes = BYTES_MAX.saturating_sub(self.in_all.bytes);
        if held.bytes + bytes > free_bytes {
            return 0;
        }
        JOBS_MAX.saturating_sub(self.in_all.jobs).saturating_sub(held.jobs)
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

    fn in_flight_max(&self, endpoint: &Endpoint) -> usize {
        endpoint
            .max_in_flight
            .map_or(self.limits.in_flight_per_endpoint_max, domain::endpoint::MaxInFlight::get)
    }

    fn lane(&mut self, endpoint: EndpointId, account: AccountId) -> &mut Lane {
        let in_flight_max = self.limits.in_flight_per_endpoint_max;
        self.by_endpoint.entry(endpoint).or_insert_with(|| Lane {
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
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
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
        let due_at = self.by_endpoint.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, due_at);
    }

    /// Sets when storage holds something for the lane, and puts the lane among those that want to
    /// claim unless it is claiming or has plenty.
    fn set_stored(&mut self, endpoint: EndpointId, due_at: Option<Timestamp>) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let account = lane.account;
        let old = std::mem::replace(&mut lane.stored_due_at, due_at);
        let wants_claim = lane.claiming == 0 && lane.ready.len() < LANE_LOW_WATER;
        let line = self.stored.entry(account).or_default();
        let first = line.first().map(|(due_at, _)| *due_at);
        if let Some(old) = old {
            line.remove(&(old, endpoint));
        }
        if let Some(due_at) = due_at
            && wants_claim
        {
            line.insert((due_at, endpoint));
        }
        let new_first = line.first().map(|(due_at, _)| *due_at);
        if new_first.is_none() {
            self.stored.remove(&account);
        }
        if first != new_first {
            if let Some(first) = first {
                self.stored_accounts.remove(&(first, account));
            }
            if let Some(new_first) = new_first {
                self.stored_accounts.insert((new_first, account));
            }
        }
    }

    fn abandon_claim(&mut self, endpoint: EndpointId) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            let (account, room) = (lane.account, std::mem::take(&mut lane.claiming));
            self.hold(account, |held| held.jobs -= room);
        }
    }

    fn drop_if_idle(&mut self, endpoint: EndpointId) {
        if self.by_endpoint.get(&endpoint).is_some_and(Lane::is_idle) {
            self.by_endpoint.remove(&endpoint);
        }
    }
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.in_flight == 0
            && self.reserved == 0
            && self.claiming == 0
            && self.ready.is_empty()
            && self.stored_due_at.is_none()
    }
}

#[cfg(test)]
mod tests;
