//! Replays of many events in memory.

use std::ops::Bound;

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::delivery::DeliveryState;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, ReplayId};
use domain::limits::REPLAYS_PER_ENDPOINT_MAX;
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::time::Timestamp;

use super::deliveries::Birth;
use super::history::allows;
use super::{EventEntry, MemoryStore, PageBounds, State, page_of};
use crate::StoreError;
use crate::queue::NewDelivery;
use crate::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

impl State {
    fn running_replays(&self) -> impl Iterator<Item = &Replay> {
        self.replays.values().filter(|replay| replay.state == ReplayState::Running)
    }

    /// The account's events that were accepted in the span, oldest first, beginning after `after`.
    fn selectable(
        &self,
        account: AccountId,
        selection: ReplaySelection,
        after: Option<EventId>,
    ) -> impl Iterator<Item = &EventEntry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let events = self.events.range((from, Bound::Unbounded)).map(|(_, entry)| entry);
        let span = selection.since..selection.until;
        events.filter(move |entry| {
            entry.event.account == account && span.contains(&entry.event.accepted_at)
        })
    }

    /// The next event that a replay looks at.
    fn next_selectable(&self, replay: &Replay) -> Option<&EventEntry> {
        let next = self.selectable(replay.account, replay.selection, replay.through).next();
        next.filter(|entry| entry.event.id.as_u128() < replay.id.as_u128())
    }

    /// Whether a replay delivers the event again.
    fn is_wanted(&self, entry: &EventEntry, endpoint: EndpointId, fate: ReplayFate) -> bool {
        let mut states = Vec::new();
        for it in self.deliveries_of(entry).filter(|it| it.delivery.endpoint == endpoint) {
            states.push(it.delivery.state);
        }
        let meets_fate = match fate {
            ReplayFate::Exhausted => matches!(states.last(), Some(DeliveryState::Exhausted(_))),
            ReplayFate::All => !states.is_empty() && !states.contains(&DeliveryState::Pending),
            ReplayFate::Missing => {
                states.is_empty() && entry.missed_by().any(|missed| missed == endpoint)
            }
        };
        meets_fate && entry.payload.is_some()
    }

    fn step_replay(
        &mut self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Option<ReplayStep> {
        let mut replay = self.replays.get(&id)?.clone();
        if replay.state != ReplayState::Running {
            return None;
        }
        let created_before = replay.created;
        if self.endpoints.contains_key(&replay.endpoint) {
            self.go_on(&mut replay, deliveries, rows_max, now);
        } else {
            (replay.state, replay.ended_at) = (ReplayState::Cancelled, Some(now));
        }
        self.replays.insert(id, replay.clone());
        if replay.state != ReplayState::Running {
            self.write_down(replay.ended_note(now));
        }
        let created = replay.created - created_before;
        Some(ReplayStep { replay, created: usize::try_from(created).unwrap_or(usize::MAX) })
    }

    fn go_on(
        &mut self,
        replay: &mut Replay,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) {
        let Replay { endpoint, selection, .. } = *replay;
        let mut deliveries = deliveries.into_iter();
        for _ in 0..rows_max {
            if deliveries.len() == 0 {
                break;
            }
            let Some(entry) = self.next_selectable(replay) else { break };
            let event = entry.event.clone();
            let wanted = self.is_wanted(entry, endpoint, selection.fate);
            replay.looked_at += 1;
            replay.through = Some(event.id);
            if wanted && let Some(id) = deliveries.next() {
                let new = NewDelivery { id, endpoint, leased: false, ordering_key: None };
                self.add_delivery(&event, new, None, Birth::Replay(now));
                replay.created += 1;
            }
        }
        if self.next_selectable(replay).is_none() {
            (replay.state, replay.ended_at) = (ReplayState::Done, Some(now));
        }
    }
}

#[async_trait]
impl Replays for MemoryStore {
    async fn create_replay(
        &self,
        replay: Replay,
        note: AuditNote,
    ) -> Result<ReplayCreated, StoreError> {
        let mut state = self.change()?;
        let endpoint = state.endpoints.get(&replay.endpoint);
        if endpoint.is_none_or(|endpoint| endpoint.account != replay.account) {
            return Ok(ReplayCreated::NoEndpoint);
        }
        let there = state.running_replays().filter(|other| other.endpoint == replay.endpoint);
        if there.count() >= REPLAYS_PER_ENDPOINT_MAX {
            return Ok(ReplayCreated::LimitReached);
        }
        state.replays.insert(replay.id, replay);
        state.write_down(note);
        Ok(ReplayCreated::Created)
    }

    async fn read_replay(&self, id: ReplayId) -> Result<Option<Replay>, StoreError> {
        Ok(self.look().replays.get(&id).cloned())
    }

    async fn list_replays(
        &self,
        account: Option<AccountId>,
        endpoint: Option<EndpointId>,
        page: PageRequest,
    ) -> Result<Page<Replay>, StoreError> {
        let pick = |replay: &Replay| {
            let passes = allows(account.as_ref(), &replay.account)
                && allows(endpoint.as_ref(), &replay.endpoint);
            passes.then(|| (replay.clone(), 0))
        };
        Ok(page_of(&self.look().replays, page, ReplayId::as_u128, PageBounds::NONE, pick))
    }

    async fn running_replays(
        &self,
        after: Option<ReplayId>,
        limit: usize,
    ) -> Result<Vec<Replay>, StoreError> {
        let state = self.look();
        let running = state.running_replays();
        let beyond = running.filter(|replay| after.is_none_or(|after| replay.id > after));
        Ok(beyond.take(limit).cloned().collect())
    }

    async fn step_replay(
        &self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Result<Option<ReplayStep>, StoreError> {
        Ok(self.change()?.step_replay(id, deliveries, rows_max, now))
    }

    async fn cancel_replay(
        &self,
        id: ReplayId,
        note: AuditNote,
    ) -> Result<Option<Replay>, StoreError> {
        let mut state = self.change()?;
        let Some(replay) = state.replays.get_mut(&id) else { return Ok(None) };
        let was_running = replay.state == ReplayState::Running;
        if was_running {
            (replay.state, replay.ended_at) = (ReplayState::Cancelled, Some(note.at));
        }
        let replay = replay.clone();
        if was_running {
            state.write_down(note);
        }
        Ok(Some(replay))
    }

    async fn count_replay(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        selection: ReplaySelection,
        rows_max: usize,
    ) -> Result<ReplayCount, StoreError> {
        let state = self.look();
        let mut count = ReplayCount { events: 0, is_complete: true };
        for (looked_at, entry) in state.selectable(account, selection, None).enumerate() {
            if looked_at == rows_max {
                count.is_complete = false;
                break;
            }
            count.events += u64::from(state.is_wanted(entry, endpoint, selection.fate));
        }
        Ok(count)
    }
}
