//! What lanes show of themselves: to the API, to metrics, and to whoever judges an endpoint's health.

use domain::breaker::BreakerState;
use domain::id::EndpointId;
use domain::time::Timestamp;

use super::Lanes;
use super::claims::LANE_LOW_WATER;
use super::classes::Class;
use crate::Engine;

/// How deliveries to one endpoint stand just now, in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Where its breaker stands.
    pub breaker: BreakerState,
    /// When the breaker opened last, unless it is closed.
    pub opened_at: Option<Timestamp>,
    /// When the next probe may be made, while the breaker is open; if that is past, the next
    /// delivery is the probe.
    pub retry_at: Option<Timestamp>,
    /// Attempts on their way.
    pub in_flight: usize,
    /// Deliveries that wait in memory; the others wait in storage.
    pub in_memory: usize,
    /// Until when nothing begins because the receiver asked for it (`Retry-After`, 429).
    pub paused_until: Option<Timestamp>,
    /// Attempts a second that may begin now; `None` if nothing limits them.
    pub rate_per_second: Option<u32>,
}

/// How all lanes stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LanesView {
    pub(crate) in_flight: usize,
    /// Deliveries in memory, places included.
    pub(crate) jobs: usize,
    pub(crate) lanes: usize,
    pub(crate) breakers_open: usize,
    pub(crate) breakers_half_open: usize,
    pub(crate) lanes_paused: usize,
    pub(crate) oldest_due_at: Option<Timestamp>,
}

impl Lanes {
    /// How deliveries to the endpoint stand.
    pub(crate) fn view(&self, endpoint: EndpointId, now: Timestamp) -> LaneView {
        let breaker = self.standings.breaker(endpoint);
        let (paused_until, rate_per_second) = self.standings.pace(endpoint, now);
        let lane = self.by_endpoint.get(&endpoint);
        LaneView {
            breaker: breaker.map_or(BreakerState::Closed, domain::breaker::Breaker::state),
            opened_at: breaker.and_then(domain::breaker::Breaker::opened_at),
            retry_at: breaker.and_then(domain::breaker::Breaker::probe_at),
            in_flight: lane.map_or(0, |lane| lane.in_flight),
            in_memory: lane.map_or(0, super::Lane::waiting),
            paused_until,
            rate_per_second,
        }
    }

    /// How many more deliveries of replays the endpoint takes now, so that none stands between a fresh
    /// event and the memory it should find room in: as many as one likes if those before are in
    /// memory and few; one, as a probe, if its breaker is not closed and there is nothing else to
    /// probe with.
    pub(crate) fn room_for_replays(&self, endpoint: EndpointId, now: Timestamp) -> usize {
        let lane = self.by_endpoint.get(&endpoint);
        if !self.standings.is_closed(endpoint) {
            let has_nothing =
                lane.is_none_or(|lane| lane.jobs() == 0 && lane.stored_due_at.is_none());
            return usize::from(has_nothing);
        }
        let is_paused = self.standings.pace(endpoint, now).0.is_some();
        let takes_more = lane.is_none_or(|lane| {
            let is_behind = lane.stored_due_at.is_some_and(|due_at| due_at <= now);
            !is_behind && lane.waiting() < LANE_LOW_WATER
        });
        if takes_more && !is_paused { usize::MAX } else { 0 }
    }

    /// How all lanes stand. Costs in proportion to the lanes that are paused.
    pub(crate) fn view_all(&self, now: Timestamp) -> LanesView {
        let (breakers_open, breakers_half_open, lanes_paused) = self.standings.count(now);
        LanesView {
            in_flight: self.in_flight(),
            jobs: self.in_all.jobs,
            lanes: self.by_endpoint.len(),
            breakers_open,
            breakers_half_open,
            lanes_paused,
            oldest_due_at: self.oldest_due_at,
        }
    }

    /// Every endpoint that has a lane.
    pub(crate) fn endpoints(&self) -> Vec<EndpointId> {
        self.by_endpoint.keys().copied().collect()
    }

    /// The oldest delivery of those lanes whose breakers are closed: in storage, or among the first
    /// attempts in memory.
    pub(crate) fn oldest_of(&self, endpoints: &[EndpointId]) -> Option<Timestamp> {
        let closed = endpoints.iter().filter(|endpoint| self.standings.is_closed(**endpoint));
        let oldest = closed.filter_map(|endpoint| {
            let lane = self.by_endpoint.get(endpoint)?;
            let in_memory = lane.ready[Class::First].front().map(|claimed| claimed.owed_since);
            [lane.stored_due_at, in_memory].into_iter().flatten().min()
        });
        oldest.min()
    }

    /// Takes note of the oldest delivery of all, if it is due.
    pub(crate) fn note_oldest(&mut self, oldest: Option<Timestamp>, now: Timestamp) {
        self.oldest_due_at = oldest.filter(|due_at| *due_at <= now);
    }
}

impl Engine {
    /// How deliveries to the endpoint stand just now, in this process. One that has nothing to do
    /// and no past shows a closed breaker and zeros.
    pub fn lane(&self, endpoint: EndpointId) -> LaneView {
        let now = self.clock().now();
        self.dispatch().lanes().view(endpoint, now)
    }

    /// A breaker changed: told once, soon after it happened.
    pub(crate) fn breaker_changed(
        &self,
        endpoint: EndpointId,
        from: BreakerState,
        to: BreakerState,
    ) {
        self.metrics().breaker_changed(to);
        tracing::info!(%endpoint, from = from.name(), to = to.name(), "a breaker changed");
    }
}
