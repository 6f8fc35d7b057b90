//! Events accepted, deliveries leased, attempts recorded, in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::IDEMPOTENCY_KEPT_FOR;
use domain::retention::Retention;
use domain::time::Timestamp;

use super::deliveries::Birth;
use super::{EventEntry, FirstAnswer, MemoryStore, State};
use crate::StoreError;
use crate::queue::{
    Accepted, Added, AttemptRecord, Cancelled, Cleaned, Extended, GivenBack, LaneClaim, LaneRoom,
    Lease, NewDelivery, NewEvent, Payload, Queue, Recorded, SessionId, WaitingLane,
};

impl State {
    /// What a repeated or reused key is answered; `None` if there is no key or it is new.
    fn answer_before(&self, new: &NewEvent) -> Option<Accepted> {
        let idempotency = new.idempotency.as_ref()?;
        let place = Self::key_place(new.event.account, &idempotency.key);
        let first = self.idempotency.get(&place)?;
        if first.kept_until <= new.event.accepted_at {
            None
        } else if first.request_hash == idempotency.request_hash {
            Some(Accepted::Repeated { event: first.event, deliveries: first.deliveries })
        } else {
            Some(Accepted::KeyReused)
        }
    }

    fn accept(&mut self, session: SessionId, new: NewEvent) -> Accepted {
        let Some(owner) = self.accounts.get(&new.event.account) else {
            return Accepted::NoAccount;
        };
        let version = owner.version;
        if let Some(answer) = self.answer_before(&new) {
            return answer;
        }
        if version != new.roster_version {
            return Accepted::RosterChanged;
        }
        let event = new.event;
        if let Some(idempotency) = new.idempotency {
            let first = FirstAnswer {
                request_hash: idempotency.request_hash,
                event: event.id,
                deliveries: u32::try_from(new.deliveries.len()).unwrap_or(u32::MAX),
                kept_until: event.accepted_at.plus(IDEMPOTENCY_KEPT_FOR),
            };
            self.idempotency.insert(Self::key_place(event.account, &idempotency.key), first);
        }
        let payload = Arc::new(Payload {
            event: event.id,
            event_type: event.event_type.clone(),
            trace: event.trace,
            body: new.body,
        });
        let entry = EventEntry {
            event: event.clone(),
            payload: Some(payload),
            data: new.data,
            not_made: new.not_made,
            deliveries: BTreeSet::new(),
        };
        self.events.insert(event.id, entry);
        for delivery in new.deliveries {
            self.add_delivery(&event, delivery, Some(session), Birth::WithEvent);
        }
        self.counts.events += 1;
        Accepted::New
    }

    fn next_due_at(&self, endpoint: EndpointId) -> Option<Timestamp> {
        self.next_claimable(endpoint).map(|(due_at, _)| due_at)
    }

    fn next_claimable(&self, endpoint: EndpointId) -> Option<(Timestamp, DeliveryId)> {
        let first = (endpoint, Timestamp::from_millis(i64::MIN), DeliveryId::from_u128(0));
        let (lane, due_at, id) = *self.claimable.range(first..).next()?;
        (lane == endpoint).then_some((due_at, id))
    }

    fn claim_lane(&mut self, session: SessionId, now: Timestamp, lane: LaneRoom) -> LaneClaim {
        let endpoint = lane.endpoint;
        let mut claimed = Vec::new();
        while self.sessions.contains_key(&session)
            && claimed.len() < lane.room
            && let Some((due_at, id)) = self.next_claimable(endpoint)
            && due_at <= now
        {
            let lease = self.lease(id, session);
            claimed.push(self.claimed(lease));
        }
        LaneClaim { endpoint, claimed, next_due_at: self.next_due_at(endpoint) }
    }

    fn record(&mut self, record: AttemptRecord) -> Recorded {
        let Some(entry) = self.leased(record.lease) else { return Recorded::LeaseLost };
        let id = record.lease.delivery;
        let ended_at = record.attempt.at.plus(record.attempt.duration);
        entry.delivery.attempts += 1;
        entry.attempts.push(record.attempt);
        entry.lost_claims = 0;
        match record.transition {
            Transition::RetryAt(due_at) => {
                entry.delivery.due_at = Some(due_at);
                self.free(id);
            }
            Transition::Delivered => self.end(id, DeliveryState::Delivered, ended_at),
            Transition::Exhausted(reason) => {
                self.end(id, DeliveryState::Exhausted(reason), ended_at);
            }
        }
        Recorded::Applied
    }
}

#[async_trait]
impl Queue for MemoryStore {
    async fn begin_session(&self, until: Timestamp) -> Result<SessionId, StoreError> {
        let mut state = self.change()?;
        state.sessions_begun += 1;
        let session = SessionId(state.sessions_begun);
        state.sessions.insert(session, until);
        Ok(session)
    }

    async fn extend_session(
        &self,
        session: SessionId,
        until: Timestamp,
    ) -> Result<Extended, StoreError> {
        let mut state = self.change()?;
        let Some(lives_until) = state.sessions.get_mut(&session) else {
            return Ok(Extended::SessionLost);
        };
        *lives_until = until;
        Ok(Extended::Extended)
    }

    async fn release_expired(&self, now: Timestamp) -> Result<usize, StoreError> {
        Ok(self.change()?.end_sessions(|until| until < now))
    }

    async fn accept(
        &self,
        session: SessionId,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Accepted>, StoreError> {
        let mut state = self.change()?;
        Ok(events.into_iter().map(|new| state.accept(session, new)).collect())
    }

    async fn add_delivery(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        note: AuditNote,
    ) -> Result<Added, StoreError> {
        let mut state = self.change()?;
        let entry = state.events.get(&event).filter(|it| it.event.account == account);
        let Some(event) = entry.filter(|it| it.payload.is_some()).map(|it| it.event.clone()) else {
            return Ok(Added::NoEvent);
        };
        if state.endpoints.get(&delivery.endpoint).is_none_or(|it| it.account != account) {
            return Ok(Added::NoEndpoint);
        }
        let id = delivery.id;
        state.add_delivery(&event, delivery, Some(session), Birth::Replay(note.at));
        state.write_down(note);
        let fence = state.deliveries[&id].claims;
        Ok(Added::Created(state.claimed(Lease { session, delivery: id, fence })))
    }

    async fn claim_due(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Result<Vec<LaneClaim>, StoreError> {
        let mut state = self.change()?;
        Ok(lanes.into_iter().map(|lane| state.claim_lane(session, now, lane)).collect())
    }

    async fn give_back(
        &self,
        leases: Vec<Lease>,
        why: GivenBack,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut state = self.change()?;
        let give_back = |lease: Lease| {
            if state.leased(lease).is_none() {
                return Recorded::LeaseLost;
            }
            match why {
                GivenBack::Unused => state.free(lease.delivery),
                GivenBack::Unanswered => state.lose(lease.delivery),
            }
            Recorded::Applied
        };
        Ok(leases.into_iter().map(give_back).collect())
    }

    async fn begin_trial(&self, lease: Lease) -> Result<Recorded, StoreError> {
        let mut state = self.change()?;
        let Some(entry) = state.leased(lease) else { return Ok(Recorded::LeaseLost) };
        entry.on_trial = true;
        Ok(Recorded::Applied)
    }

    async fn set_aside(
        &self,
        leases: Vec<Lease>,
        at: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut state = self.change()?;
        let set_aside = |lease: Lease| {
            if state.leased(lease).is_none() {
                return Recorded::LeaseLost;
            }
            state.end(lease.delivery, DeliveryState::Exhausted(EndReason::SetAside), at);
            Recorded::Applied
        };
        Ok(leases.into_iter().map(set_aside).collect())
    }

    async fn record(&self, attempts: Vec<AttemptRecord>) -> Result<Vec<Recorded>, StoreError> {
        let mut state = self.change()?;
        Ok(attempts.into_iter().map(|record| state.record(record)).collect())
    }

    async fn waiting_lanes(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Result<Vec<WaitingLane>, StoreError> {
        let state = self.look();
        let first_of_each = state.endpoints.values().filter_map(|endpoint| {
            let due_at = state.next_due_at(endpoint.id)?;
            Some(WaitingLane { endpoint: endpoint.id, account: endpoint.account, due_at })
        });
        let beyond = first_of_each.filter(|lane| after.is_none_or(|after| lane.endpoint > after));
        Ok(beyond.take(limit).collect())
    }

    async fn cancel_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        Ok(self.change()?.cancel_event(account, event, note))
    }

    async fn cancel_delivery(
        &self,
        account: AccountId,
        delivery: DeliveryId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        Ok(self.change()?.cancel_delivery(account, delivery, note))
    }

    async fn erase_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Result<Cancelled, StoreError> {
        Ok(self.change()?.erase_event(account, event, note))
    }

    async fn clean(
        &self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Result<Cleaned, StoreError> {
        Ok(self.change()?.clean(now, retention, rows_max))
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.look().closed = true;
        Ok(())
    }
}
