//! How many attempts are on their way to one host and port, over all accounts.
//!
//! Promise: never more than the limit, and no lane takes all of it: a lane may have no more on their
//! way to a host than are still free there, so that the next lane finds room although one hangs.
//! Lanes that find none wait and are admitted in turn, for each class. Retries and replays get a
//! fifth of a host's slots while a first attempt could take one. Only hosts with something on its way, or
//! somebody waiting, cost anything.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use domain::id::EndpointId;
use domain::target_url::TargetUrl;

use super::classes::{Class, Each, Share};
use super::ids::IdMap;

/// Lanes of a class that are admitted for one slot that came free: more than one, since the first may have
/// another reason not to start.
const ADMITTED_MAX: usize = 4;

/// A host and port. Two that happen to share these 64 bits share a limit, which harms nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct HostId(u64);

pub(super) struct Hosts {
    in_flight_max: usize,
    hasher: RandomState,
    by_id: IdMap<HostId, Host>,
}

#[derive(Default)]
struct Host {
    in_flight: usize,
    share: Share,
    /// Lanes with a first attempt that could start, were there a slot.
    wishes: usize,
    /// Lanes that found no room, in the order in which they will be admitted.
    waiting: Each<VecDeque<EndpointId>>,
}

impl Host {
    fn is_idle(&self) -> bool {
        self.in_flight == 0
            && self.wishes == 0
            && Class::ALL.into_iter().all(|class| self.waiting[class].is_empty())
    }

    /// Whether there is any room for the class.
    fn takes(&self, class: Class, in_flight_max: usize) -> bool {
        self.in_flight < in_flight_max
            && (class == Class::First || self.wishes == 0 || self.share.is_left(in_flight_max))
    }
}

impl Hosts {
    pub(super) fn new(in_flight_max: usize) -> Self {
        Self { in_flight_max, hasher: RandomState::new(), by_id: IdMap::default() }
    }

    pub(super) fn id_of(&self, url: &TargetUrl) -> HostId {
        HostId(self.hasher.hash_one((url.host(), url.port())))
    }

    /// Whether a lane may start one more of the class that has `in_flight` on their way there.
    pub(super) fn has_room(&self, host: HostId, class: Class, in_flight: usize) -> bool {
        let Some(known) = self.by_id.get(&host) else { return in_flight < self.in_flight_max };
        known.takes(class, self.in_flight_max) && in_flight < self.in_flight_max - known.in_flight
    }

    pub(super) fn begin(&mut self, host: HostId, class: Class) {
        let known = self.by_id.entry(host).or_default();
        known.in_flight += 1;
        known.share.begin(class);
    }

    pub(super) fn end(&mut self, host: HostId, class: Class) {
        if let Some(known) = self.by_id.get_mut(&host) {
            known.in_flight -= 1;
            known.share.end(class);
            self.drop_if_idle(host);
        }
    }

    /// One more lane has a first attempt that could start there.
    pub(super) fn begin_wish(&mut self, host: HostId) {
        self.by_id.entry(host).or_default().wishes += 1;
    }

    /// One lane fewer has. Answers whether somebody may be admitted for it.
    pub(super) fn end_wish(&mut self, host: HostId) -> bool {
        let Some(known) = self.by_id.get_mut(&host) else { return false };
        known.wishes -= 1;
        let is_any_freed = known.wishes == 0 && !known.waiting[Class::Rest].is_empty();
        self.drop_if_idle(host);
        is_any_freed
    }

    /// Lets a lane wait for room.
    pub(super) fn wait(&mut self, host: HostId, class: Class, endpoint: EndpointId) {
        self.by_id.entry(host).or_default().waiting[class].push_back(endpoint);
    }

    /// The lanes whose turn it is to try again, now that there is room.
    pub(super) fn admit(&mut self, host: HostId) -> Vec<(Class, EndpointId)> {
        let Some(known) = self.by_id.get_mut(&host) else { return Vec::new() };
        let mut admitted = Vec::new();
        for class in Class::ALL {
            if known.takes(class, self.in_flight_max) {
                let waiting = &mut known.waiting[class];
                let some = waiting.drain(..waiting.len().min(ADMITTED_MAX));
                admitted.extend(some.map(|endpoint| (class, endpoint)));
            }
        }
        self.drop_if_idle(host);
        admitted
    }

    /// Everybody who waits for a host that has room: for the periodic look, which finds whom a lost
    /// turn would hide.
    pub(super) fn admit_all(&mut self) -> Vec<(Class, EndpointId)> {
        let most = self.in_flight_max;
        let mut admitted = Vec::new();
        for host in self.by_id.values_mut() {
            for class in Class::ALL {
                if host.takes(class, most) {
                    let waiting = host.waiting[class].drain(..);
                    admitted.extend(waiting.map(|endpoint| (class, endpoint)));
                }
            }
        }
        self.by_id.retain(|_, host| !host.is_idle());
        // Not in the order of a hash: one history gives one order of turns.
        admitted.sort_by_key(|(_, endpoint)| *endpoint);
        admitted
    }

    /// Forgets who waits, and for what.
    pub(super) fn forget_waiting(&mut self) {
        self.by_id.retain(|_, host| {
            host.waiting = Each::default();
            host.wishes = 0;
            host.in_flight > 0
        });
    }

    fn drop_if_idle(&mut self, host: HostId) {
        if self.by_id.get(&host).is_some_and(Host::is_idle) {
            self.by_id.remove(&host);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
