//! What waits in storage: which lanes want to claim, when, and how much.
//!
//! Promise: a lane with something stored is in line to claim it when it is due, unless it has plenty
//! of that in memory, is claiming already, or its breaker lets nobody through; then it is put in line as soon
//! as that ends.

use std::collections::VecDeque;

use domain::id::{AccountId, EndpointId};
use domain::time::Timestamp;
use store::queue::{LaneClaim, LaneRoom, WaitingLane};

use super::classes::Class;
use super::standings::Gate;
use super::{LANE_JOBS_MAX, Lane, Lanes};

/// A lane asks storage for more when fewer than this many wait, so that it never runs dry while a
/// claim is under way.
pub(super) const LANE_LOW_WATER: usize = 64;

/// Deliveries claimed for one lane at a time.
const LANE_CLAIM_MAX: usize = 128;

/// Deliveries claimed in one step, over all lanes; bounds the payloads read before they are
/// counted.
pub(super) const CLAIM_MAX: usize = 256;

impl Lanes {
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

    /// Notes that storage holds a first attempt at the endpoint, due at `due_at`: later ones wait for
    /// it, if it is due.
    pub(crate) fn note_first_stored(
        &mut self,
        endpoint: EndpointId,
        account: AccountId,
        due_at: Timestamp,
        now: Timestamp,
    ) {
        if due_at <= now {
            let lane = self.lane(endpoint, account);
            lane.firsts_stored_until = lane.firsts_stored_until.max(Some(due_at));
        }
        self.note_stored(endpoint, account, due_at);
    }

    /// Notes lanes found in storage.
    pub(crate) fn note_waiting(&mut self, waiting: &[WaitingLane]) {
        for lane in waiting {
            self.note_stored(lane.endpoint, lane.account, lane.due_at);
        }
    }

    /// When the next lane wants to claim; `None` when storage holds nothing we know of.
    pub(crate) fn next_claim_at(&self) -> Option<Timestamp> {
        self.stored_accounts.first().map(|(claims_at, _)| *claims_at)
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
            let most = if self.standings.gate(endpoint) == Gate::Open { share } else { 1 };
            let room = self.room_to_claim(endpoint, account).min(most);
            if room == 0 {
                continue;
            }
            if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
                lane.claiming = room;
            }
            self.set_stored(endpoint, None);
            self.hold(account, |held| held.jobs += room);
            rooms.push((LaneRoom { endpoint, room }, account));
        }
        rooms
    }

    /// Lanes that want to claim now and have room, at most [`CLAIM_MAX`]; accounts
    /// take turns.
    fn wanting(&self, now: Timestamp) -> Vec<(EndpointId, AccountId)> {
        let mut lines: VecDeque<_> = self
            .stored_accounts
            .iter()
            .take_while(|(claims_at, _)| *claims_at <= now)
            .filter(|(_, account)| self.room_for(*account).is_some())
            .take(CLAIM_MAX)
            .filter_map(|(_, account)| Some((*account, self.stored.get(account)?.iter())))
            .collect();
        let mut wanting = Vec::new();
        while wanting.len() < CLAIM_MAX
            && let Some((account, mut line)) = lines.pop_front()
        {
            if let Some((claims_at, endpoint)) = line.next()
                && *claims_at <= now
            {
                if self.room_to_claim(*endpoint, account) > 0 {
                    wanting.push((*endpoint, account));
                }
                lines.push_back((account, line));
            }
        }
        wanting
    }

    fn room_to_claim(&self, endpoint: EndpointId, account: AccountId) -> usize {
        let lane = self.by_endpoint.get(&endpoint);
        self.room_for(account).zip(lane).map_or(0, |(room, lane)| lane.room(room, 0))
    }

    /// Takes in what a claim brought; gives it back to storage, if nothing starts any more.
    pub(crate) fn end_claim(&mut self, claim: LaneClaim, now: Timestamp) {
        let endpoint = claim.endpoint;
        self.abandon_claim(endpoint);
        // While it was under way the breaker may have opened.
        let most = match self.standings.gate(endpoint) {
            _ if self.is_halted => 0,
            Gate::Open => usize::MAX,
            Gate::OneFrom(probe_at) => usize::from(probe_at <= now),
            Gate::Shut => 0,
        };
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        let (account, noted) = (lane.account, lane.stored_due_at);
        let (mut jobs, mut bytes) = (0, 0);
        let mut returned = Vec::new();
        for claimed in claim.claimed {
            if jobs < most {
                jobs += 1;
                bytes += claimed.payload.body.len();
                lane.ready[Class::of(&claimed)].push_back(claimed);
            } else {
                returned.push(claimed);
            }
        }
        for claimed in &returned {
            self.return_to_storage(claimed);
        }
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            lane.bytes += bytes;
        }
        self.hold(account, |held| {
            held.jobs += jobs;
            held.bytes += bytes;
        });
        let earliest = match (noted, claim.next_due_at) {
            (Some(noted), Some(next)) => Some(noted.min(next)),
            (noted, next) => noted.or(next),
        };
        self.set_stored(endpoint, earliest);
        self.give_turn(endpoint, now);
        self.drop_if_idle(endpoint, now);
    }

    /// Ends a claim that brought nothing and will not until something is noted as stored again
    /// (the endpoint is disabled or gone).
    pub(crate) fn park(&mut self, endpoint: EndpointId, now: Timestamp) {
        self.abandon_claim(endpoint);
        let noted = self.by_endpoint.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, noted);
        self.drop_if_idle(endpoint, now);
    }

    fn abandon_claim(&mut self, endpoint: EndpointId) {
        if let Some(lane) = self.by_endpoint.get_mut(&endpoint) {
            let (account, room) = (lane.account, std::mem::take(&mut lane.claiming));
            self.hold(account, |held| held.jobs -= room);
        }
    }

    /// Lets a lane that runs low, or whose breaker changed, ask storage again.
    pub(super) fn want_more(&mut self, endpoint: EndpointId) {
        let due_at = self.by_endpoint.get(&endpoint).and_then(|lane| lane.stored_due_at);
        self.set_stored(endpoint, due_at);
    }

    /// Sets when storage holds something for the lane, and puts the lane among those that want to
    /// claim, if it does.
    fn set_stored(&mut self, endpoint: EndpointId, due_at: Option<Timestamp>) {
        let Some(lane) = self.by_endpoint.get_mut(&endpoint) else { return };
        lane.stored_due_at = due_at;
        // Claims read in the order in which things are due.
        if lane.claiming == 0 && due_at.is_none_or(|due_at| lane.firsts_stored_until < Some(due_at))
        {
            lane.firsts_stored_until = None;
        }
        let gate = if lane.has_standing { self.standings.gate(endpoint) } else { Gate::Open };
        let waiting = lane.waiting();
        let claims_at = match gate {
            _ if lane.claiming > 0 => None,
            Gate::Open if lane.runs_low() => due_at,
            Gate::OneFrom(probe_at) if waiting == 0 => due_at.map(|due_at| due_at.max(probe_at)),
            Gate::Open | Gate::OneFrom(_) | Gate::Shut => None,
        };
        let account = lane.account;
        let old = std::mem::replace(&mut lane.claims_at, claims_at);
        if old != claims_at {
            self.move_in_line(endpoint, account, old, claims_at);
        }
    }

    fn move_in_line(
        &mut self,
        endpoint: EndpointId,
        account: AccountId,
        old: Option<Timestamp>,
        new: Option<Timestamp>,
    ) {
        let line = self.stored.entry(account).or_default();
        let first = line.first().map(|(claims_at, _)| *claims_at);
        if let Some(old) = old {
            line.remove(&(old, endpoint));
        }
        if let Some(new) = new {
            line.insert((new, endpoint));
        }
        let new_first = line.first().map(|(claims_at, _)| *claims_at);
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
}

impl Lane {
    /// Whether it has little in memory of what storage holds. If that is no first attempt, fresh ones
    /// keep coming in, and however many wait they must not keep the others out.
    fn runs_low(&self) -> bool {
        if self.firsts_stored_until.is_some() {
            self.waiting() < LANE_LOW_WATER
        } else {
            self.ready[Class::Rest].len() < LANE_LOW_WATER && self.waiting() < LANE_JOBS_MAX
        }
    }
}
