//! The life of a delivery in memory: added, leased, freed or lost, ended.

use std::sync::Arc;

use domain::delivery::{Delivery, DeliveryState, EndReason, StateName};
use domain::event::Event;
use domain::id::{DeliveryId, EndpointId};
use domain::limits::TRIAL_AFTER_LOST_CLAIMS;
use domain::time::Timestamp;

use super::{DeliveryEntry, State};
use crate::queue::{Claimed, Lease, NewDelivery, SessionId};

/// How a delivery comes about.
#[derive(Clone, Copy)]
pub(super) enum Birth {
    /// Its event is accepted.
    WithEvent,
    /// Somebody asks for it at this instant.
    Replay(Timestamp),
}

impl DeliveryEntry {
    /// Its place among the claimable ones; a delivery that waits for another has none.
    fn place(&self) -> Option<(EndpointId, Timestamp, DeliveryId)> {
        Some((self.delivery.endpoint, self.delivery.due_at?, self.delivery.id))
    }
}

impl State {
    /// Adds a pending delivery of an event that is there, leased to `holder` if that session lives.
    pub(super) fn add_delivery(
        &mut self,
        event: &Event,
        new: NewDelivery,
        holder: Option<SessionId>,
        birth: Birth,
    ) {
        let (created_at, due_at, ordering_key) = match birth {
            Birth::WithEvent => (event.accepted_at, event.owed_since(), new.ordering_key),
            Birth::Replay(at) => (at, at, None),
        };
        let line = ordering_key.clone().map(|key| (new.endpoint, key));
        let waits = line.is_some_and(|line| self.stand_in_line(line, new.id));
        let delivery = Delivery {
            id: new.id,
            event: event.id,
            event_type: event.event_type.clone(),
            endpoint: new.endpoint,
            account: event.account,
            state: DeliveryState::Pending,
            attempts: 0,
            due_at: (!waits).then_some(due_at),
            created_at,
            ended_at: None,
            waits_for: None,
        };
        let entry = DeliveryEntry {
            delivery,
            ordering_key,
            is_replay: matches!(birth, Birth::Replay(_)),
            claims: 0,
            held_by: None,
            lost_claims: 0,
            on_trial: false,
            attempts: Vec::new(),
        };
        self.claimable.extend(entry.place());
        self.deliveries.insert(new.id, entry);
        if let Some(owner) = self.events.get_mut(&event.id) {
            owner.deliveries.insert(new.id);
        }
        self.counts.created += 1;
        self.counts.pending += 1;
        if let Some(session) = holder
            && new.leased
            && self.sessions.contains_key(&session)
        {
            self.lease(new.id, session);
        }
    }

    /// Leases a claimable delivery to a session.
    pub(super) fn lease(&mut self, id: DeliveryId, session: SessionId) -> Lease {
        let entry = self.deliveries.get_mut(&id).expect("a claimable delivery exists");
        if let Some(place) = entry.place() {
            self.claimable.remove(&place);
        }
        entry.claims += 1;
        entry.held_by = Some(session);
        Lease { session, delivery: id, fence: entry.claims }
    }

    /// The delivery that the lease is for, while the lease is current.
    pub(super) fn leased(&mut self, lease: Lease) -> Option<&mut DeliveryEntry> {
        let entry = self.deliveries.get_mut(&lease.delivery)?;
        let current = entry.held_by == Some(lease.session) && entry.claims == lease.fence;
        current.then_some(entry)
    }

    /// All that an attempt under the lease needs.
    pub(super) fn claimed(&self, lease: Lease) -> Claimed {
        let entry = &self.deliveries[&lease.delivery];
        let delivery = &entry.delivery;
        let owner = &self.events[&delivery.event];
        let payload = owner.payload.as_ref().expect("what is pending has a payload");
        Claimed {
            lease,
            account: delivery.account,
            endpoint: delivery.endpoint,
            attempts: delivery.attempts,
            lost_claims: entry.lost_claims,
            owed_since: delivery.created_at.max(owner.event.owed_since()),
            is_ordered: entry.ordering_key.is_some(),
            is_replay: entry.is_replay,
            payload: Arc::clone(payload),
        }
    }

    /// Makes a delivery claimable that is leased or waited for another, due as it says.
    pub(super) fn free(&mut self, id: DeliveryId) {
        if let Some(entry) = self.deliveries.get_mut(&id) {
            entry.held_by = None;
            entry.on_trial = false;
            self.claimable.extend(entry.place());
        }
    }

    /// Frees a delivery whose claim ended without an outcome.
    pub(super) fn lose(&mut self, id: DeliveryId) {
        if let Some(entry) = self.deliveries.get_mut(&id)
            && (entry.lost_claims < TRIAL_AFTER_LOST_CLAIMS || entry.on_trial)
        {
            entry.lost_claims += 1;
        }
        self.free(id);
    }

    /// Ends the sessions for which `over` holds; what they held is lost. Answers how much.
    pub(super) fn end_sessions(&mut self, over: impl Fn(Timestamp) -> bool) -> usize {
        self.sessions.retain(|_, until| !over(*until));
        let orphaned: Vec<_> = self
            .deliveries
            .values()
            .filter(|entry| entry.held_by.is_some_and(|it| !self.sessions.contains_key(&it)))
            .map(|entry| entry.delivery.id)
            .collect();
        for id in &orphaned {
            self.lose(*id);
        }
        orphaned.len()
    }

    /// Ends a pending delivery, leased or not; whoever waited for it is freed.
    pub(super) fn end(&mut self, id: DeliveryId, state: DeliveryState, ended_at: Timestamp) {
        let entry = self.deliveries.get_mut(&id).expect("only deliveries that exist are ended");
        if let Some(place) = entry.place() {
            self.claimable.remove(&place);
        }
        entry.held_by = None;
        entry.delivery.state = state;
        entry.delivery.due_at = None;
        entry.delivery.ended_at = Some(ended_at);
        let line = entry.ordering_key.take().map(|key| (entry.delivery.endpoint, key));
        self.counts.pending -= 1;
        match state.name() {
            StateName::Pending => unreachable!("no delivery ends pending"),
            StateName::Delivered => self.counts.delivered += 1,
            StateName::Exhausted => self.counts.exhausted += 1,
            StateName::Cancelled => self.counts.cancelled += 1,
        }
        if let Some(line) = line {
            self.leave_line(&line, id, ended_at);
        }
    }

    /// Cancels those of the deliveries that are pending, leased or not. Answers how many.
    pub(super) fn cancel(
        &mut self,
        deliveries: impl IntoIterator<Item = DeliveryId>,
        reason: EndReason,
        at: Timestamp,
    ) -> u64 {
        let mut cancelled = 0;
        for id in deliveries {
            let entry = self.deliveries.get(&id);
            if entry.is_some_and(|it| it.delivery.state == DeliveryState::Pending) {
                self.end(id, DeliveryState::Cancelled(reason), at);
                cancelled += 1;
            }
        }
        cancelled
    }

    /// Cancels the deliveries of an endpoint that is deleted.
    pub(super) fn cancel_deliveries_to(&mut self, endpoint: EndpointId, at: Timestamp) {
        let deliveries = self.deliveries.values().map(|entry| &entry.delivery);
        let to_it: Vec<_> =
            deliveries.filter(|it| it.endpoint == endpoint).map(|it| it.id).collect();
        self.cancel(to_it, EndReason::EndpointDeleted, at);
    }
}
