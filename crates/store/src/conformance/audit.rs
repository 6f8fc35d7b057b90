//! What holds in every store at every moment, read from the outside.

use std::collections::HashMap;

use domain::audit::{AuditEntry, CHAIN_START, first_break};
use domain::delivery::{Delivery, StateName};
use domain::limits::PAGE_SIZE_MAX;
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplayState};

use crate::audit::AuditFilter;
use crate::history::{DeliveryFilter, EventFilter, EventWithData};
use crate::queue::WaitingLane;
use crate::{Store, StoreError};

/// Most events and deliveries that are looked at one by one, so that a case may make many.
const LOOKED_AT_MAX: usize = 300;

/// Fails if what the store says contradicts itself.
pub async fn audit(store: &dyn Store) {
    let deliveries = all_deliveries(store, &DeliveryFilter::default()).await;
    let events = all_events(store, &EventFilter::default()).await;
    counts_balance(store, &deliveries).await;
    for delivery in deliveries.iter().take(LOOKED_AT_MAX) {
        delivery_is_whole(store, delivery).await;
    }
    for event in events.iter().take(LOOKED_AT_MAX) {
        event_is_whole(store, event).await;
    }
    lanes_lead_to_pending_deliveries(store, &deliveries).await;
    replays_are_whole(store).await;
    log_is_unbroken(store).await;
}

async fn counts_balance(store: &dyn Store, visible: &[Delivery]) {
    let counts = store.counts().await.unwrap();
    let ended = counts.delivered + counts.exhausted + counts.cancelled;
    assert_eq!(counts.created, counts.pending + ended, "{counts:?}");
    let seen = |name| visible.iter().filter(|it| it.state.name() == name).count() as u64;
    assert_eq!(counts.pending, seen(StateName::Pending), "every pending delivery can be seen");
    assert!(counts.delivered >= seen(StateName::Delivered), "{counts:?}");
    assert!(counts.exhausted >= seen(StateName::Exhausted), "{counts:?}");
    assert!(counts.cancelled >= seen(StateName::Cancelled), "{counts:?}");
}

async fn delivery_is_whole(store: &dyn Store, delivery: &Delivery) {
    let pending = delivery.state.name() == StateName::Pending;
    let waits = delivery.waits_for.is_some();
    assert_eq!(delivery.due_at.is_some(), pending && !waits, "{delivery:?}");
    assert!(pending || !waits, "what has ended waits for nothing: {delivery:?}");
    if let Some(head) = delivery.waits_for {
        let head = store.read_delivery(head).await.unwrap().expect("what is waited for is there");
        assert_eq!(head.state.name(), StateName::Pending, "{delivery:?} waits for {head:?}");
        assert_eq!((head.waits_for, head.endpoint), (None, delivery.endpoint));
    }
    assert_eq!(delivery.ended_at.is_some(), !pending, "{delivery:?}");
    let read = store.read_delivery(delivery.id).await.unwrap();
    assert_eq!(read.as_ref(), Some(delivery), "a detail says what the list says");
    let attempts = store.list_attempts(delivery.id).await.unwrap();
    assert_eq!(attempts.len(), delivery.attempts as usize, "{delivery:?}");
    let event = store.read_event(delivery.event).await.unwrap().expect("its event can be seen");
    assert_eq!(event.event.event.account, delivery.account);
    assert_eq!(event.event.event.event_type, delivery.event_type);
    assert!(store.read_account(delivery.account).await.unwrap().is_some(), "{delivery:?}");
    let endpoint = store.find_endpoint(delivery.endpoint).await.unwrap();
    assert!(endpoint.is_some() || !pending, "no delivery is owed to a deleted endpoint");
}

async fn event_is_whole(store: &dyn Store, event: &EventWithData) {
    let id = event.event.id;
    let detail = store.read_event(id).await.unwrap().expect("a listed event can be read");
    assert_eq!(&detail.event, event, "a detail says what the list says");
    let filter = DeliveryFilter { event: Some(id), ..DeliveryFilter::default() };
    let mut deliveries = all_deliveries(store, &filter).await;
    deliveries.reverse();
    assert_eq!(detail.deliveries, deliveries, "an event has the deliveries that are listed");
    assert!(store.read_account(event.event.account).await.unwrap().is_some());
}

async fn lanes_lead_to_pending_deliveries(store: &dyn Store, deliveries: &[Delivery]) {
    let lanes = all_lanes(store).await;
    let mut pending = HashMap::new();
    for delivery in deliveries.iter().filter(|it| it.state.name() == StateName::Pending) {
        let due: &mut Vec<_> = pending.entry((delivery.endpoint, delivery.account)).or_default();
        due.extend(delivery.due_at);
    }
    for lane in lanes {
        let due = pending.get(&(lane.endpoint, lane.account));
        let due = due.expect("a lane that waits has a pending delivery");
        assert!(due.contains(&lane.due_at), "a lane is due when one of its deliveries is");
    }
}

async fn replays_are_whole(store: &dyn Store) {
    let page = store.list_replays(None, None, PageRequest::LARGEST).await.unwrap();
    for replay in &page.items {
        let read = store.read_replay(replay.id).await.unwrap();
        assert_eq!(read.as_ref(), Some(replay), "a detail says what the list says");
        let runs = replay.state == ReplayState::Running;
        assert_eq!(replay.ended_at.is_some(), !runs, "{replay:?}");
        assert!(replay.created <= replay.looked_at, "{replay:?}");
        assert!(replay.through.is_some() || replay.looked_at == 0, "{replay:?}");
        let account = store.read_account(replay.account).await.unwrap();
        assert!(account.is_some(), "whose it is can be seen: {replay:?}");
    }
    let runs = |replay: &&Replay| replay.state == ReplayState::Running;
    let running: Vec<_> = page.items.iter().rev().filter(runs).cloned().collect();
    let answered = store.running_replays(None, PAGE_SIZE_MAX).await.unwrap();
    assert_eq!(answered, running, "those that run are those listed as such");
}

async fn log_is_unbroken(store: &dyn Store) {
    let entries = all_entries(store).await;
    assert_eq!(first_break(0, CHAIN_START, &entries), None, "{entries:?}");
}

/// Everything that pages lead to; fails if they repeat something, are out of order, or do not end.
async fn all_pages<T>(
    page_size: usize,
    id: impl Fn(&T) -> u128,
    mut read: impl AsyncFnMut(PageRequest) -> Result<Page<T>, StoreError>,
) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    let mut request = PageRequest { before: None, limit: page_size };
    loop {
        let page = read(request).await.unwrap();
        assert!(page.items.len() <= page_size, "a page is not larger than asked for");
        for item in page.items {
            assert!(all.last().is_none_or(|last| id(&item) < id(last)), "newest first, each once");
            all.push(item);
        }
        let Some(next) = page.next_before else { return all };
        assert!(request.before.is_none_or(|before| next < before), "pages come to an end");
        request.before = Some(next);
    }
}

/// Every event that passes the filter, newest first.
pub async fn all_events(store: &dyn Store, filter: &EventFilter) -> Vec<EventWithData> {
    paged_events(store, filter, PAGE_SIZE_MAX).await
}

/// Every event that passes the filter, newest first, read in pages of that size.
pub async fn paged_events(
    store: &dyn Store,
    filter: &EventFilter,
    page_size: usize,
) -> Vec<EventWithData> {
    let id = |it: &EventWithData| it.event.id.as_u128();
    all_pages(page_size, id, async |page| store.list_events(filter.clone(), page).await).await
}

/// Every delivery that passes the filter, newest first.
pub async fn all_deliveries(store: &dyn Store, filter: &DeliveryFilter) -> Vec<Delivery> {
    paged_deliveries(store, filter, PAGE_SIZE_MAX).await
}

/// Every delivery that passes the filter, newest first, read in pages of that size.
pub async fn paged_deliveries(
    store: &dyn Store,
    filter: &DeliveryFilter,
    page_size: usize,
) -> Vec<Delivery> {
    let id = |it: &Delivery| it.id.as_u128();
    all_pages(page_size, id, async |page| store.list_deliveries(filter.clone(), page).await).await
}

/// Every entry of the audit log, oldest first, as whoever walks the chain reads it.
pub async fn all_entries(store: &dyn Store) -> Vec<AuditEntry> {
    const LIMIT: usize = 100;
    let mut all: Vec<AuditEntry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |entry| entry.number);
        let entries = store.read_audit(after, LIMIT).await.unwrap();
        assert!(entries.len() <= LIMIT, "no more entries than asked for");
        let Some(first) = entries.first() else { return all };
        assert!(first.number > after, "entries come after the one named");
        all.extend(entries);
    }
}

/// Every entry that passes the filter, newest first, read in pages of that size.
pub async fn paged_entries(
    store: &dyn Store,
    filter: &AuditFilter,
    page_size: usize,
) -> Vec<AuditEntry> {
    let id = |it: &AuditEntry| u128::from(it.number);
    all_pages(page_size, id, async |page| store.list_audit(filter.clone(), page).await).await
}

/// Every lane with claimable deliveries.
pub async fn all_lanes(store: &dyn Store) -> Vec<WaitingLane> {
    const LIMIT: usize = 500;
    let mut all: Vec<WaitingLane> = Vec::new();
    loop {
        let after = all.last().map(|lane| lane.endpoint);
        let lanes = store.waiting_lanes(after, LIMIT).await.unwrap();
        assert!(lanes.len() <= LIMIT, "no more lanes than asked for");
        let ids: Vec<_> = lanes.iter().map(|lane| Some(lane.endpoint)).collect();
        assert!(ids.iter().all(|id| *id > after) && ids.is_sorted(), "lanes are in order");
        let last = lanes.len() < LIMIT;
        all.extend(lanes);
        if last {
            return all;
        }
    }
}
