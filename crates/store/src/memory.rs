//! The in-memory implementation: the one to read to learn what the port means.
//!
//! One lock over one plain [`State`]; every method takes the lock once and does its whole work
//! under it, which is what "one atomic step" means. Nothing is on stable storage, so it is for
//! tests and simulation; [`MemoryStore::reopen`] stands for what a disk would bring back. Each
//! half of the port is in its own file; the rules they share are the methods of [`State`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use domain::account::Account;
use domain::attempt::Attempt;
use domain::audit::{AuditEntry, AuditNote, CHAIN_START, link};
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::delivery::Delivery;
use domain::endpoint::Endpoint;
use domain::event::{Event, EventType, IdempotencyKey};
use domain::health::Streak;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId, ReplayId};
use domain::matching::NoDelivery;
use domain::ordering::OrderingKey;
use domain::page::{Page, PageRequest};
use domain::replay::Replay;
use domain::time::Timestamp;

use crate::StoreError;
use crate::catalogue::KeyRecord;
use crate::history::Counts;
use crate::queue::{Payload, SessionId};

mod audit;
mod cancelling;
mod catalogue;
mod cleaning;
mod deliveries;
mod history;
mod ordering;
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
    /// What is pending, not leased and not waiting for another, in the order in which it is claimed.
    claimable: BTreeSet<(EndpointId, Timestamp, DeliveryId)>,
    /// What is pending of each ordering key, in order of acceptance; all wait for the first.
    lines: BTreeMap<Line, VecDeque<DeliveryId>>,
    idempotency: BTreeMap<(AccountId, String), FirstAnswer>,
    replays: BTreeMap<ReplayId, Replay>,
    event_types: BTreeMap<(Contract, EventType), RegisteredType>,
    streaks: BTreeMap<EndpointId, Streak>,
    /// The account that gets operational events.
    operations: Option<AccountId>,
    /// The audit log, by number.
    audit: BTreeMap<u64, AuditEntry>,
    /// The last entry that was announced.
    announced: u64,
    /// The sessions that are not lost, and until when they live.
    sessions: BTreeMap<SessionId, Timestamp>,
    /// How many sessions there ever were: no id is given twice.
    sessions_begun: u64,
    counts: Counts,
    closed: bool,
}

/// Where deliveries stand in line: the endpoint and the ordering key.
type Line = (EndpointId, OrderingKey);

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
    /// While it is kept; as long as a delivery is pending, it is.
    payload: Option<Arc<Payload>>,
    /// Where the producer's `data` stands in the payload's body.
    data: Range<usize>,
    not_made: Vec<(EndpointId, NoDelivery)>,
    /// Every delivery it ever had, also those that were removed with their endpoint.
    deliveries: BTreeSet<DeliveryId>,
}

/// A delivery, who works on it, and what was tried.
#[derive(Clone, Debug)]
struct DeliveryEntry {
    /// Without [`Delivery::waits_for`], which is looked up when somebody reads it.
    delivery: Delivery,
    /// What it stands in line with, while it is pending.
    ordering_key: Option<OrderingKey>,
    is_replay: bool,
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
