//! The in-memory implementation: the one to read to learn what the port means.
//!
//! One lock over one plain [`State`]; every method takes the lock once and does its whole work
//! under it, which is what "one atomic step" means. Nothing is on stable storage, so it is for
//! tests and simulation; [`MemoryStore::reopen`] stands for what a disk would bring back. Each
//! half of the port is in its own file; the rules they share are the methods of [`State`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use domain::account::Account;
use domain::attempt::Attempt;
use domain::audit::{AuditEntry, AuditNote, CHAIN_START, link};
use domain::delivery::{Delivery, DeliveryState, EndReason, StateName};
use domain::endpoint::Endpoint;
use domain::event::{Event, IdempotencyKey};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId};
use domain::limits::TRIAL_AFTER_LOST_CLAIMS;
use domain::matching::NoDelivery;
use domain::page::{Page, PageRequest};
use domain::time::Timestamp;

use crate::StoreError;
use crate::catalogue::KeyRecord;
use crate::history::Counts;
use crate::queue::{Lease, Payload, SessionId};

mod audit;
mod catalogue;
mod history;
mod queue;
mod replays;

/// A store that lives as long as the process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store as the next process finds it when this one dies now: everything answered is
    /// there, no session lives and no delivery is leased. The old store goes on by itself, and
    /// nothing that is done to it later shows in the new one.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut state = self.look().clone();
        state.closed = false;
        state.end_sessions(|_| true);
        Self { state: Mutex::new(state) }
    }

    /// For reading.
    fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no method panics under the lock")
    }

    /// For writing, which a closed store refuses.
    fn change(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.look();
        if state.closed { Err(StoreError::Closed) } else { Ok(state) }
    }
}

/// Everything kept.
#[derive(Clone, Debug, Default)]
struct State {
    pepper: Option<[u8; 32]>,
    accounts: BTreeMap<AccountId, AccountEntry>,
    keys: BTreeMap<KeyId, KeyRecord>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    events: BTreeMap<EventId, EventEntry>,
    deliveries: BTreeMap<DeliveryId, DeliveryEntry>,
    /// What is pending and not leased, in the order in which it is claimed.
    claimable: BTreeSet<(EndpointId, Timestamp, DeliveryId)>,
    idempotency: BTreeMap<(AccountId, String), FirstAnswer>,
    /// The audit log, by number.
    audit: BTreeMap<u64, AuditEntry>,
    /// The sessions that are not lost, and until when they live.
    sessions: BTreeMap<SessionId, Timestamp>,
    /// How many sessions there ever were: no id is given twice.
    sessions_begun: u64,
    counts: Counts,
    closed: bool,
}

/// An account and the version of its roster.
#[derive(Clone, Debug)]
struct AccountEntry {
    account: Account,
    version: u64,
}

/// An event and what its deliveries send.
#[derive(Clone, Debug)]
struct EventEntry {
    event: Event,
    payload: Arc<Payload>,
    data: Range<usize>,
    not_made: Vec<(EndpointId, NoDelivery)>,
}

/// A delivery, who works on it, and what was tried.
#[derive(Clone, Debug)]
struct DeliveryEntry {
    delivery: Delivery,
    /// How many times it was leased: the fence of its current or last lease.
    claims: u32,
    held_by: Option<SessionId>,
    /// Claims since the last attempt that ended without an outcome, as far as they count.
    lost_claims: u32,
    on_trial: bool,
    attempts: Vec<Attempt>,
}

/// What was answered when an idempotency key was used first.
#[derive(Clone, Debug)]
struct FirstAnswer {
    request_hash: [u8; 32],
    event: EventId,
    deliveries: u32,
    /// From then on the key counts as never used.
    kept_until: Timestamp,
}

impl DeliveryEntry {
    /// Its place among the claimable ones.
    fn place(&self) -> (EndpointId, Timestamp, DeliveryId) {
        let due_at = self.delivery.due_at.expect("a pending delivery has a due instant");
        (self.delivery.endpoint, due_at, self.delivery.id)
    }
}

impl State {
    /// A key's place among the remembered ones.
    fn key_place(account: AccountId, key: &IdempotencyKey) -> (AccountId, String) {
        (account, key.as_str().to_owned())
    }

    /// Writes the note into the audit log, linked to the entry before it.
    fn write_down(&mut self, note: AuditNote) {
        let last = self.audit.last_key_value().map(|(_, entry)| (entry.number, entry.hash));
        let (last, previous) = last.unwrap_or((0, CHAIN_START));
        let number = last + 1;
        let hash = link(&previous, number, &note);
        self.audit.insert(number, AuditEntry { number, note, hash });
    }

    /// Notes that the account or one of its endpoints changed.
    fn bump_roster(&mut self, account: AccountId) {
        if let Some(entry) = self.accounts.get_mut(&account) {
            entry.version += 1;
        }
    }

    /// Adds a pending delivery of the event, due at once, leased to `holder` if that session lives.
    fn add_delivery(
        &mut self,
        event: &Event,
        id: DeliveryId,
        endpoint: EndpointId,
        holder: Option<SessionId>,
        now: Timestamp,
    ) {
        let delivery = Delivery {
            id,
            event: event.id,
            event_type: event.event_type.clone(),
            endpoint,
            account: event.account,
            state: DeliveryState::Pending,
            attempts: 0,
            due_at: Some(now),
            created_at: now,
            ended_at: None,
            waits_for: None,
        };
        let entry = DeliveryEntry {
            delivery,
            claims: 0,
            held_by: None,
            lost_claims: 0,
            on_trial: false,
            attempts: Vec::new(),
        };
        self.claimable.insert(entry.place());
        self.deliveries.insert(id, entry);
        self.counts.created += 1;
        self.counts.pending += 1;
        if let Some(session) = holder
            && self.sessions.contains_key(&session)
        {
            self.lease(id, session);
        }
    }

    /// Leases a claimable delivery to a session.
    fn lease(&mut self, id: DeliveryId, session: SessionId) -> Lease {
        let entry = self.deliveries.get_mut(&id).expect("a claimable delivery exists");
        self.claimable.remove(&entry.place());
        entry.claims += 1;
        entry.held_by = Some(session);
        Lease { session, delivery: id, fence: entry.claims }
    }

    /// The delivery that the lease is for, while the lease is current.
    fn leased(&mut self, lease: Lease) -> Option<&mut DeliveryEntry> {
        let entry = self.deliveries.get_mut(&lease.delivery)?;
        let current = entry.held_by == Some(lease.session) && entry.claims == lease.fence;
        current.then_some(entry)
    }

    /// Makes a leased delivery claimable again, due as it says.
    fn free(&mut self, id: DeliveryId) {
        if let Some(entry) = self.deliveries.get_mut(&id) {
            entry.held_by = None;
            entry.on_trial = false;
            self.claimable.insert(entry.place());
        }
    }

    /// Frees a delivery whose claim ended without an outcome.
    fn lose(&mut self, id: DeliveryId) {
        if let Some(entry) = self.deliveries.get_mut(&id)
            && (entry.lost_claims < TRIAL_AFTER_LOST_CLAIMS || entry.on_trial)
        {
            entry.lost_claims += 1;
        }
        self.free(id);
    }

    /// Ends the sessions for which `over` holds; what they held is lost. Answers how much.
    fn end_sessions(&mut self, over: impl Fn(Timestamp) -> bool) -> usize {
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

    /// Ends a pending delivery, leased or not.
    fn end(&mut self, id: DeliveryId, state: DeliveryState, ended_at: Timestamp) {
        let entry = self.deliveries.get_mut(&id).expect("only deliveries that exist are ended");
        self.claimable.remove(&entry.place());
        entry.held_by = None;
        entry.delivery.state = state;
        entry.delivery.due_at = None;
        entry.delivery.ended_at = Some(ended_at);
        self.counts.pending -= 1;
        match state.name() {
            StateName::Pending => unreachable!("no delivery ends pending"),
            StateName::Delivered => self.counts.delivered += 1,
            StateName::Exhausted => self.counts.exhausted += 1,
            StateName::Cancelled => self.counts.cancelled += 1,
        }
    }

    /// Cancels the endpoint's pending deliveries, leased or not.
    fn cancel_pending(&mut self, endpoint: EndpointId, now: Timestamp) {
        let pending: Vec<_> = self
            .deliveries
            .values()
            .map(|entry| &entry.delivery)
            .filter(|it| it.endpoint == endpoint && it.state == DeliveryState::Pending)
            .map(|it| it.id)
            .collect();
        for id in pending {
            self.end(id, DeliveryState::Cancelled(EndReason::EndpointDeleted), now);
        }
    }
}

/// The page of those rows below `request.before` that `pick` lets pass, each with the size that
/// `pick` says.
fn page_of<Id: Copy + Ord, Row, Item>(
    rows: &BTreeMap<Id, Row>,
    request: PageRequest,
    bits: impl Fn(Id) -> u128,
    bounds: PageBounds,
    pick: impl Fn(&Row) -> Option<(Item, usize)>,
) -> Page<Item> {
    let mut items = Vec::new();
    let mut bytes = 0;
    let (mut last_read, mut last_picked) = (None, None);
    let newest_first = rows.iter().rev().map(|(id, row)| (bits(*id), row));
    let below = newest_first.filter(|(id, _)| request.before.is_none_or(|before| *id < before));
    for (rows_read, (id, row)) in below.enumerate() {
        if rows_read == bounds.rows_max {
            return Page { items, next_before: last_read };
        }
        if let Some((item, size)) = pick(row) {
            bytes += size;
            let full = items.len() == request.limit;
            if full || (bytes > bounds.bytes_max && !items.is_empty()) {
                return Page { items, next_before: last_picked };
            }
            items.push(item);
            last_picked = Some(id);
        }
        last_read = Some(id);
    }
    Page { items, next_before: None }
}

/// What one list call may read.
#[derive(Clone, Copy)]
struct PageBounds {
    rows_max: usize,
    /// Of what `pick` lets pass; a page is cut short rather than grow beyond it.
    bytes_max: usize,
}

impl PageBounds {
    /// For lists of small rows that are few or all pass: the page's own size is bound enough.
    const NONE: Self = Self { rows_max: usize::MAX, bytes_max: usize::MAX };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page of the even numbers below 10, each of one byte.
    fn page_of_even_numbers(request: PageRequest, bounds: PageBounds) -> (Vec<u128>, Option<u128>) {
        let rows: BTreeMap<u128, u128> = (0..10).map(|number| (number, number)).collect();
        let pick = |row: &u128| row.is_multiple_of(2).then_some((*row, 1));
        let page = page_of(&rows, request, |id| id, bounds, pick);
        (page.items, page.next_before)
    }

    #[test]
    fn a_page_is_bounded_in_items_rows_and_bytes() {
        let check = |before, limit, (rows_max, bytes_max), expected: (&[u128], Option<u128>)| {
            let bounds = PageBounds { rows_max, bytes_max };
            let (items, next_before) = page_of_even_numbers(PageRequest { before, limit }, bounds);
            assert_eq!((items.as_slice(), next_before), expected);
        };
        check(None, 99, (99, 99), (&[8, 6, 4, 2, 0], None));
        check(None, 5, (99, 99), (&[8, 6, 4, 2, 0], None));
        check(None, 4, (99, 99), (&[8, 6, 4, 2], Some(2)));
        check(Some(2), 4, (99, 99), (&[0], None));
        check(None, 99, (3, 99), (&[8], Some(7)));
        check(Some(8), 99, (1, 99), (&[], Some(7)));
        check(Some(7), 99, (7, 99), (&[6, 4, 2, 0], None));
        check(None, 99, (99, 2), (&[8, 6], Some(6)));
        check(Some(6), 99, (99, 0), (&[4], Some(4)));
    }
}
