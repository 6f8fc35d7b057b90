//! How many attempts are on their way to one host and port, over all accounts.
//!
//! Promise: never more than the limit, and no lane takes all of it: a lane may have no more on their
//! way to a host than are still free there, so that the next lane finds room although one hangs.
//! Lanes that find none wait and are admitted in turn. Only hosts with something on its way, or
//! somebody waiting, cost anything.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;

use domain::id::EndpointId;
use domain::target_url::TargetUrl;

/// Lanes that are admitted for one slot that came free: more than one, since the first may have
/// another reason not to start.
const ADMITTED_MAX: usize = 4;

/// A host and port. Two that happen to share these 64 bits share a limit, which harms nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct HostId(u64);

pub(super) struct Hosts {
    in_flight_max: usize,
    hasher: RandomState,
    by_id: HashMap<HostId, Host>,
}

#[derive(Default)]
struct Host {
    in_flight: usize,
    /// Lanes that found no room, in the order in which they will be admitted.
    waiting: VecDeque<EndpointId>,
}

impl Hosts {
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self { in_flight_max, hasher: RandomState::new(), by_id: HashMap::new() }
    }

    pub(super) fn id_of(&self, url: &TargetUrl) -> HostId {
        HostId(self.hasher.hash_one((url.host(), url.port())))
    }

    /// Whether a lane may start one more that has `in_flight` on their way there.
    pub(super) fn has_room(&self, host: HostId, in_flight: usize) -> bool {
        let held = self.by_id.get(&host).map_or(0, |host| host.in_flight);
        in_flight < self.in_flight_max.saturating_sub(held)
    }

    pub(super) fn begin(&mut self, host: HostId) {
        self.by_id.entry(host).or_default().in_flight += 1;
    }

    pub(super) fn end(&mut self, host: HostId) {
        if let Some(known) = self.by_id.get_mut(&host) {
            known.in_flight -= 1;
            if known.in_flight == 0 && known.waiting.is_empty() {
                self.by_id.remove(&host);
            }
        }
    }

    /// Lets a lane wait for room.
    pub(super) fn wait(&mut self, host: HostId, endpoint: EndpointId) {
        self.by_id.entry(host).or_default().waiting.push_back(endpoint);
    }

    /// The lanes whose turn it is to try again, now that there is room.
    pub(super) fn admit(&mut self, host: HostId) -> Vec<EndpointId> {
        let Some(known) = self.by_id.get_mut(&host) else { return Vec::new() };
        if known.waiting.is_empty() || known.in_flight >= self.in_flight_max {
            return Vec::new();
        }
        let admitted = known.waiting.drain(..known.waiting.len().min(ADMITTED_MAX)).collect();
        if known.in_flight == 0 && known.waiting.is_empty() {
            self.by_id.remove(&host);
        }
        admitted
    }

    /// Everybody who waits for a host that has room: for the periodic look, which finds whom a lost
    /// turn would hide.
    pub(super) fn admit_all(&mut self) -> Vec<EndpointId> {
        let most = self.in_flight_max;
        let roomy = self.by_id.values_mut().filter(|host| host.in_flight < most);
        let admitted = roomy.flat_map(|host| host.waiting.drain(..)).collect();
        self.by_id.retain(|_, host| host.in_flight > 0 || !host.waiting.is_empty());
        admitted
    }

    /// Forgets who waits.
    pub(super) fn forget_waiting(&mut self) {
        self.by_id.retain(|_, host| {
            host.waiting.clear();
            host.in_flight > 0
        });
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
