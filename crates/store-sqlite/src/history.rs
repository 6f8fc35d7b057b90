//! Lists, details and counts from SQLite.

use std::collections::{BTreeSet, VecDeque};

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Attempt, Failure as NoAnswer, Outcome, Phases};
use domain::delivery::{Delivery, DeliveryState, EndReason};
use domain::event::{Event, EventType};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::{PAGE_ROWS_SCANNED_MAX, RETRY_ATTEMPTS_MAX};
use domain::ordering::OrderingKey;
use domain::page::{Page, PageRequest};
use domain::sealing::Binding;
use domain::time::Timestamp;
use domain::trace::TraceContext;
use rusqlite::{Connection, OptionalExtension as _, Row};
use store::history::{
    Counts, DeliveryFilter, EventDetail, EventFilter, EventWithData, Followed, History,
    PAGE_DATA_BYTES_MAX,
};
use store::vault::Vault;

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::fates::Fates;
use crate::filing::{parse_born, unfiled_deliveries, unfiled_events};
use crate::following::follow_events;
use crate::ordering::{COUNT_BEHIND, waits_for};
use crate::page::{Bounds, Filling, id_below};
use crate::row::{Fields, parse_entity_ids, parse_exchange, parse_not_made};
use crate::source::{Newest, Oldest, Range, Source};
use crate::state;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// Whether the instant is in the half-open span.
pub(crate) fn is_within(at: Timestamp, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    since.is_none_or(|since| since <= at) && until.is_none_or(|until| at < until)
}

/// What every column of an event but its blobs says.
pub(crate) fn event(row: &Row<'_>) -> Result<Event> {
    let fields = Fields::new("events", row);
    Ok(Event {
        id: fields.id("id", EventId::from_bytes)?,
        account: fields.id("account", AccountId::from_bytes)?,
        event_type: fields.parse("event_type", |text| EventType::parse(text).ok())?,
        timestamp: fields.instant("timestamp")?,
        entity_ids: fields.parse("entity_ids", parse_entity_ids)?,
        accepted_at: fields.instant("accepted_at")?,
        deliver_at: fields.instant_if_any("deliver_at")?,
        ordering_key: fields.parse_if_any("ordering_key", OrderingKey::from_stored)?,
        trace: fields.parse_if_any("trace", TraceContext::parse)?,
    })
}

/// The producer's `data`, cut out of the body.
pub(crate) fn data(connection: &Connection, vault: &Vault, number: i64) -> Result<Option<Bytes>> {
    let sql = "SELECT id, account, data_start, data_length, body FROM events WHERE number = ?1";
    let data = find(connection, sql, [number], |row| {
        let fields = Fields::new("events", row);
        let account = fields.id("account", AccountId::from_bytes)?;
        let place = Binding::Body(account, fields.id("id", EventId::from_bytes)?);
        let body = fields.decode_if_any("body", |sealed| vault.open_data(&place, sealed).ok())?;
        let Some(body) = body else { return Ok(None) };
        let start: u32 = fields.get("data_start")?;
        let length: u32 = fields.get("data_length")?;
        let end = start.saturating_add(length) as usize;
        if end > body.len() {
            return Err(fields.unreadable("data_length"));
        }
        Ok(Some(Bytes::from(body).slice(start as usize..end)))
    })?;
    Ok(data.flatten())
}

/// The ids of all deliveries that the event ever had, oldest first; some may be gone.
pub(crate) fn delivery_ids(
    connection: &Connection,
    number: i64,
    event: &Fields<'_, '_>,
) -> Result<BTreeSet<[u8; 16]>> {
    let born = event.decode("deliveries", parse_born)?;
    let mut ids: BTreeSet<_> = born.iter().map(|born| born.id).collect();
    let mut statement =
        connection.prepare_cached("SELECT delivery FROM replayed WHERE event = ?1")?;
    let mut rows = statement.query([number])?;
    while let Some(row) = rows.next()? {
        ids.insert(Fields::new("replayed", row).get("delivery")?);
    }
    Ok(ids)
}

/// A delivery as readers see it, with the end that a deleted endpoint brought it.
const SELECT_DELIVERY: &str = "SELECT deliveries.id, endpoint, state, attempts, due_at, \
     created_at, ended_at, reason, events.id AS event, events.account, event_type, \
     departed_at, history FROM deliveries \
     JOIN events ON events.number = deliveries.event \
     LEFT JOIN departed_endpoints AS departed ON departed.id = endpoint AND settled = 0 \
     WHERE deliveries.id = ?1";

/// The delivery, unless it is gone or as good as gone.
pub(crate) fn delivery(connection: &Connection, id: [u8; 16]) -> Result<Option<Delivery>> {
    Ok(find(connection, SELECT_DELIVERY, [id], |row| read_delivery(connection, row))?.flatten())
}

fn read_delivery(connection: &Connection, row: &Row<'_>) -> Result<Option<Delivery>> {
    let fields = Fields::new("deliveries", row);
    let history: Option<String> = fields.get("history")?;
    if history.as_deref() == Some("remove") {
        return Ok(None);
    }
    let reason = fields.parse_if_any("reason", EndReason::from_name)?;
    let stored = state::parse(fields.get("state")?, reason);
    let event = Fields::joined("events", row, "event");
    let mut delivery = Delivery {
        waits_for: None,
        id: fields.id("id", DeliveryId::from_bytes)?,
        event: event.id("event", EventId::from_bytes)?,
        event_type: event.parse("event_type", |text| EventType::parse(text).ok())?,
        endpoint: fields.id("endpoint", EndpointId::from_bytes)?,
        account: event.id("account", AccountId::from_bytes)?,
        state: stored.ok_or_else(|| fields.unreadable("state"))?,
        attempts: fields.get("attempts")?,
        due_at: fields.instant_if_any("due_at")?,
        created_at: fields.instant("created_at")?,
        ended_at: fields.instant_if_any("ended_at")?,
    };
    if delivery.state == DeliveryState::Pending
        && let Some(departed_at) = fields.instant_if_any("departed_at")?
    {
        delivery.state = DeliveryState::Cancelled(EndReason::EndpointDeleted);
        delivery.due_at = None;
        delivery.ended_at = Some(departed_at);
    } else if fields.get::<i64>("state")? == state::BEHIND {
        let head = waits_for(connection, delivery.id.to_bytes())?;
        delivery.waits_for = head.map(DeliveryId::from_bytes);
    }
    Ok(Some(delivery))
}

fn attempt(row: &Row<'_>, vault: &Vault, delivery: DeliveryId) -> Result<Attempt> {
    let fields = Fields::new("attempts", row);
    let number = fields.get("number")?;
    let (request_head, response_excerpt) = fields.decode("exchange", |sealed| {
        if sealed.is_empty() {
            // No longer kept.
            return Some((String::new(), Vec::new()));
        }
        let place = Binding::Exchange(delivery, number);
        parse_exchange(&vault.open_data(&place, sealed).ok()?)
    })?;
    let retry_after = match fields.get::<Option<i64>>("retry_after_ns")? {
        Some(_) => Some(fields.duration("retry_after_ns")?),
        None => None,
    };
    let outcome = match fields.get("status")? {
        Some(status) => Outcome::Answered { status, retry_after },
        None => Outcome::Failed(fields.parse("failure", NoAnswer::from_name)?),
    };
    Ok(Attempt {
        number,
        at: fields.instant("at")?,
        duration: fields.duration("duration_ns")?,
        phases: Phases {
            dns: fields.duration("dns_ns")?,
            connect: fields.duration("connect_ns")?,
            tls: fields.duration("tls_ns")?,
            first_byte: fields.duration("first_byte_ns")?,
        },
        outcome,
        request_head,
        response_excerpt,
        next_at: fields.instant_if_any("next_at")?,
    })
}

/// The delivery's attempts, first one first: its chain, turned round.
fn attempts(connection: &Connection, vault: &Vault, delivery: DeliveryId) -> Result<Vec<Attempt>> {
    let mut place: Option<i64> = connection
        .prepare_cached("SELECT last_attempt FROM deliveries WHERE id = ?1")?
        .query_row([delivery.to_bytes()], |row| row.get(0))
        .optional()?
        .flatten();
    let mut chain = VecDeque::new();
    while let Some(here) = place {
        let sql = "SELECT * FROM attempts WHERE place = ?1";
        let (attempt, earlier) = find(connection, sql, [here], |row| {
            let fields = Fields::new("attempts", row);
            // A chain that does not lead backwards would never end.
            match fields.get::<Option<i64>>("earlier")? {
                Some(earlier) if earlier >= here => Err(fields.unreadable("earlier")),
                earlier => Ok((attempt(row, vault, delivery)?, earlier)),
            }
        })?
        .ok_or_else(|| missing("attempts", "place", here))?;
        chain.push_front(attempt);
        chain.truncate(RETRY_ATTEMPTS_MAX);
        place = earlier;
    }
    Ok(chain.into())
}

/// A row that another refers to is not there.
fn missing(table: &'static str, column: &'static str, number: i64) -> Failure {
    Failure::Unreadable { table, column, row: number.to_string() }
}

/// All but `body`: a column that is asked for is read, with every page it overflows to.
pub(crate) const SELECT_EVENT: &str = "SELECT number, id, account, event_type, timestamp, accepted_at, \
     entity_ids, deliveries, not_made, deliver_at, ordering_key, trace \
     FROM events LEFT JOIN event_extras USING (number) WHERE id = ?1 AND NOT EXISTS \
     (SELECT 1 FROM departed_accounts WHERE departed_accounts.id = account)";

fn list_events(
    connection: &Connection,
    vault: &Vault,
    filter: &EventFilter,
    request: PageRequest,
) -> Result<Page<EventWithData>> {
    let bounds = Bounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: PAGE_DATA_BYTES_MAX };
    let mut filling = Filling::new(request, bounds);
    let below = id_below(request.before);
    let sources = match filter.account {
        None => vec![Source::new(Range::Events, &below)],
        Some(account) => vec![
            Source::of(unfiled_events(connection, account)?, &below),
            Source::new(Range::EventsOf(account.to_bytes()), &below),
        ],
    };
    let mut newest = Newest::first(connection, sources)?;
    while let Some(id) = newest.next(connection)? {
        let mut fates = Fates::new(connection);
        let item = || {
            let passing = find(connection, SELECT_EVENT, [id], |row| {
                event_if_it_passes(connection, vault, row, filter, &mut fates)
            });
            Ok(passing?.flatten())
        };
        if !filling.take(u128::from_be_bytes(id), item)? {
            break;
        }
        filling.count_rows(fates.rows_read);
    }
    Ok(filling.finish())
}

/// The event with the bytes of its data, if the filter lets it pass.
fn event_if_it_passes(
    connection: &Connection,
    vault: &Vault,
    row: &Row<'_>,
    filter: &EventFilter,
    fates: &mut Fates<'_>,
) -> Result<Option<(EventWithData, usize)>> {
    let fields = Fields::new("events", row);
    let has_type =
        |text: &str| Some(filter.event_type.as_ref().is_none_or(|it| it.as_str() == text));
    if !fields.parse("event_type", has_type)?
        || !is_within(fields.instant("accepted_at")?, filter.since, filter.until)
    {
        return Ok(None);
    }
    let number = fields.get("number")?;
    if filter.undelivered && !fates.is_undelivered(number, &fields)? {
        return Ok(None);
    }
    let data = data(connection, vault, number)?;
    let bytes = data.as_ref().map_or(0, Bytes::len);
    Ok(Some((EventWithData { event: event(row)?, data }, bytes)))
}

fn read_event(connection: &Connection, vault: &Vault, id: EventId) -> Result<Option<EventDetail>> {
    find(connection, SELECT_EVENT, [id.to_bytes()], |row| {
        let fields = Fields::new("events", row);
        let number = fields.get("number")?;
        let mut deliveries = Vec::new();
        for id in delivery_ids(connection, number, &fields)? {
            deliveries.extend(delivery(connection, id)?);
        }
        Ok(EventDetail {
            event: EventWithData { event: event(row)?, data: data(connection, vault, number)? },
            deliveries,
            not_made: fields.decode("not_made", parse_not_made)?,
        })
    })
}

/// Where the deliveries that may pass the filter are found.
fn sources(connection: &Connection, filter: &DeliveryFilter, below: &[u8]) -> Result<Vec<Source>> {
    if let Some(event) = filter.event {
        return Ok(vec![Source::of(ids_of_event(connection, event)?, below)]);
    }
    if let Some(endpoint) = filter.endpoint {
        let unfiled = unfiled_deliveries(connection, None, Some(endpoint))?;
        let filed = Source::new(Range::DeliveriesOf(endpoint.to_bytes()), below);
        return Ok(vec![Source::of(unfiled, below), filed]);
    }
    let Some(account) = filter.account else {
        return Ok(vec![Source::new(Range::Deliveries, below)]);
    };
    let unfiled = unfiled_deliveries(connection, Some(account), None)?;
    let mut sources = vec![Source::of(unfiled, below)];
    let mut statement = connection.prepare_cached(
        "SELECT id FROM endpoints WHERE account = ?1 \
         UNION ALL SELECT id FROM departed_endpoints WHERE account = ?1 AND history = 'keep'",
    )?;
    let mut rows = statement.query([account.to_bytes()])?;
    while let Some(row) = rows.next()? {
        let endpoint = Fields::new("endpoints", row).get("id")?;
        sources.push(Source::new(Range::DeliveriesOf(endpoint), below));
    }
    Ok(sources)
}

fn ids_of_event(connection: &Connection, event: EventId) -> Result<Vec<[u8; 16]>> {
    let sql = "SELECT id, number, deliveries FROM events WHERE id = ?1";
    let ids = find(connection, sql, [event.to_bytes()], |row| {
        let fields = Fields::new("events", row);
        delivery_ids(connection, fields.get("number")?, &fields)
    })?;
    Ok(ids.unwrap_or_default().into_iter().collect())
}

fn list_deliveries(
    connection: &Connection,
    filter: &DeliveryFilter,
    request: PageRequest,
) -> Result<Page<Delivery>> {
    let bounds = Bounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: usize::MAX };
    let mut filling = Filling::new(request, bounds);
    let sources = sources(connection, filter, &id_below(request.before))?;
    let mut newest = Newest::first(connection, sources)?;
    while let Some(id) = newest.next(connection)? {
        let item = || {
            let passing = delivery(connection, id)?.filter(|it| passes(it, filter));
            Ok(passing.map(|delivery| (delivery, 0)))
        };
        if !filling.take(u128::from_be_bytes(id), item)? {
            break;
        }
    }
    Ok(filling.finish())
}

fn passes(delivery: &Delivery, filter: &DeliveryFilter) -> bool {
    let DeliveryFilter { account, endpoint, event, state, since, until } = *filter;
    account.is_none_or(|account| account == delivery.account)
        && endpoint.is_none_or(|endpoint| endpoint == delivery.endpoint)
        && event.is_none_or(|event| event == delivery.event)
        && state.is_none_or(|state| state == delivery.state.name())
        && is_within(delivery.created_at, since, until)
}

pub(crate) const COUNT_WAITING: &str = "SELECT count(*) \
     FROM deliveries INDEXED BY deliveries_open WHERE state = 0 AND endpoint = ?1";

/// The counts as they will be once what deleting left to do is done. Costs in proportion to that.
fn counts(connection: &Connection) -> Result<Counts> {
    let stored = find(connection, "SELECT * FROM counts", [], |row| {
        let fields = Fields::new("counts", row);
        Ok(Counts {
            events: fields.count("events")?,
            created: fields.count("created")?,
            pending: fields.count("pending")?,
            delivered: fields.count("delivered")?,
            exhausted: fields.count("exhausted")?,
            cancelled: fields.count("cancelled")?,
        })
    })?;
    let mut counts = stored.ok_or_else(|| missing("counts", "only_row", 1))?;
    let mut unsettled =
        connection.prepare_cached("SELECT id FROM departed_endpoints WHERE settled = 0")?;
    let mut rows = unsettled.query([])?;
    while let Some(row) = rows.next()? {
        let endpoint: [u8; 16] = Fields::new("departed_endpoints", row).get("id")?;
        let waiting: i64 =
            connection.prepare_cached(COUNT_WAITING)?.query_row([endpoint], |row| row.get(0))?;
        let behind: i64 =
            connection.prepare_cached(COUNT_BEHIND)?.query_row([endpoint], |row| row.get(0))?;
        counts.pending = counts.pending.saturating_sub((waiting + behind) as u64);
        counts.cancelled += (waiting + behind) as u64;
    }
    Ok(counts)
}

#[async_trait]
impl History for SqliteStore {
    async fn list_events(
        &self,
        filter: EventFilter,
        page: PageRequest,
    ) -> Answer<Page<EventWithData>> {
        let vault = self.vault();
        self.read(move |connection| list_events(connection, &vault, &filter, page)).await
    }

    async fn read_event(&self, id: EventId) -> Answer<Option<EventDetail>> {
        let vault = self.vault();
        self.read(move |connection| read_event(connection, &vault, id)).await
    }

    async fn list_deliveries(
        &self,
        filter: DeliveryFilter,
        page: PageRequest,
    ) -> Answer<Page<Delivery>> {
        self.read(move |connection| list_deliveries(connection, &filter, page)).await
    }

    async fn read_delivery(&self, id: DeliveryId) -> Answer<Option<Delivery>> {
        self.read(move |connection| delivery(connection, id.to_bytes())).await
    }

    async fn list_attempts(&self, id: DeliveryId) -> Answer<Vec<Attempt>> {
        let vault = self.vault();
        self.read(move |connection| match delivery(connection, id.to_bytes())? {
            Some(_) => attempts(connection, &vault, id),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn counts(&self) -> Answer<Counts> {
        self.read(counts).await
    }

    async fn check(&self) -> Answer<()> {
        // Room, and one row, written and synced: what an accept needs, at the least.
        self.write(Haste::AtOnce, 1, |ledger| {
            ledger.room.take(0)?;
            ledger.execute("INSERT OR REPLACE INTO meta VALUES ('checked', x'01')", [])?;
            Ok(())
        })
        .await
    }

    async fn follow_events(
        &self,
        account: AccountId,
        after: Option<EventId>,
        before: EventId,
        undelivered: bool,
        limit: usize,
    ) -> Answer<Followed> {
        let vault = self.vault();
        self.read(move |connection| {
            let ids = Oldest::after(
                unfiled_events(connection, account)?,
                account,
                after.map(EventId::to_bytes),
            );
            follow_events(connection, &vault, ids, before, undelivered, limit)
        })
        .await
    }
}
