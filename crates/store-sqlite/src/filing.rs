//! Finding events by account and deliveries by endpoint.
//!
//! An index kept by SQLite would be touched by every event at another place for every account and
//! endpoint, and each place is a page to write, check and copy: with a hundred endpoints that
//! doubles what an event costs. So these two indexes are tables which the writer fills, in order,
//! with many entries at once. Events beyond `counts.filed_through` are not in them yet; those are
//! few ([`FILED_FROM_ENTRIES`], and those of one transaction) and stand together at the end of
//! `events`, where readers look them through.
//!
//! The index of what is open is likewise spared what is leased from birth ([`crate::state::FRESH`])
//! and ends before its event is filed, which is nearly all where receivers are fast.
//!
//! Promise: an event and its deliveries are found in either place and never in both, because the
//! entries and `filed_through` change in one transaction; no filed delivery is fresh.

use domain::id::{AccountId, EndpointId};
use rusqlite::{Connection, params, params_from_iter};
use store::queue::NewEvent;

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::Fields;

/// From so many entries on they are filed. More would make an entry cheaper, but a list that has
/// to look through the unfiled ones slower: about 1 ms for so many.
pub(crate) const FILED_FROM_ENTRIES: usize = 4_096;

/// Entries that one statement inserts. Those of one account or endpoint follow one another at the
/// place where it stands, which is half the work; more at once bring no more.
const ENTRIES_PER_STATEMENT: usize = 64;

/// Bytes of one delivery in `events.deliveries`: its id and its endpoint's.
pub(crate) const BORN_BYTES: usize = 32;

/// Brings what is left of the deliveries that were leased from birth into the index of what is open;
/// none has a smaller id than `?1`.
pub(crate) const INDEX_FRESH: &str = "UPDATE deliveries SET state = 1 WHERE state = 6 AND id >= ?1";

/// Whose and which.
type Entry = ([u8; 16], [u8; 16]);

/// What is not filed yet, as the writer remembers it.
#[derive(Default)]
pub(crate) struct Unfiled {
    /// Account and event.
    events: Vec<Entry>,
    /// Endpoint and delivery.
    deliveries: Vec<Entry>,
    /// No delivery in `deliveries`, and none that nobody can read there, has a smaller id; `None` if there
    /// are none. Events get their ids before their deliveries, so theirs bound them too.
    first: Option<[u8; 16]>,
    /// The number for the next event. Numbers of removed events are not given again: those up to
    /// `filed_through` would count as filed.
    next_number: i64,
    /// As in `counts`.
    filed_through: i64,
}

impl Unfiled {
    fn read(connection: &Connection) -> Result<Self> {
        let filed_through: i64 = connection
            .prepare_cached("SELECT filed_through FROM counts")?
            .query_row([], |row| row.get(0))?;
        let next_number = filed_through + 1;
        let mut unfiled = Self { next_number, filed_through, ..Self::default() };
        let mut statement = connection.prepare_cached(SELECT_UNFILED)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let fields = Fields::new("events", row);
            unfiled.next_number = fields.get::<i64>("number")? + 1;
            // Where not even the id can be read, any delivery may be of this event.
            unfiled.begin_at(fields.get("id").unwrap_or([0; 16]));
            match UnfiledEvent::read(&fields) {
                Ok(event) => {
                    unfiled.events.push((event.account, event.id));
                    for born in event.born {
                        unfiled.note_delivery(born.endpoint, born.id);
                    }
                }
                // One that nobody can read must not stop all that is written.
                Err(failure) => tracing::error!(%failure, "an event is missing in the lists"),
            }
        }
        Ok(unfiled)
    }

    fn note_delivery(&mut self, endpoint: [u8; 16], id: [u8; 16]) {
        self.deliveries.push((endpoint, id));
        self.begin_at(id);
    }

    fn begin_at(&mut self, id: [u8; 16]) {
        self.first = Some(self.first.map_or(id, |first| first.min(id)));
    }

    fn len(&self) -> usize {
        self.events.len() + self.deliveries.len()
    }
}

/// A delivery made with its event.
#[derive(Clone, Copy)]
pub(crate) struct Born {
    pub(crate) id: [u8; 16],
    pub(crate) endpoint: [u8; 16],
}

/// What `events.deliveries` says; `None` if we never write that.
pub(crate) fn parse_born(blob: &[u8]) -> Option<Vec<Born>> {
    let (entries, rest) = blob.as_chunks::<BORN_BYTES>();
    let born = |entry: &[u8; BORN_BYTES]| {
        let (id, endpoint) = entry.split_first_chunk::<16>()?;
        Some(Born { id: *id, endpoint: endpoint.try_into().ok()? })
    };
    if rest.is_empty() { entries.iter().map(born).collect() } else { None }
}

/// An event that is not filed yet.
pub(crate) struct UnfiledEvent {
    pub(crate) id: [u8; 16],
    pub(crate) account: [u8; 16],
    pub(crate) born: Vec<Born>,
}

impl UnfiledEvent {
    fn read(fields: &Fields<'_, '_>) -> Result<Self> {
        Ok(Self {
            id: fields.get("id")?,
            account: fields.get("account")?,
            born: fields.decode("deliveries", parse_born)?,
        })
    }
}

pub(crate) const SELECT_UNFILED: &str = "SELECT id, number, account, deliveries FROM events \
     WHERE number > (SELECT filed_through FROM counts) ORDER BY number";

/// Shows the events that are not filed yet, oldest first.
pub(crate) fn for_each_unfiled(
    connection: &Connection,
    mut show: impl FnMut(UnfiledEvent) -> Result<()>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(SELECT_UNFILED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // Of one that nobody can read the writer speaks.
        if let Ok(event) = UnfiledEvent::read(&Fields::new("events", row)) {
            show(event)?;
        }
    }
    Ok(())
}

impl Ledger<'_> {
    fn unfiled(&mut self) -> Result<&mut Unfiled> {
        let unfiled = match self.unfiled.take() {
            Some(unfiled) => unfiled,
            None => Unfiled::read(self.connection)?,
        };
        Ok(self.unfiled.insert(unfiled))
    }

    /// Notes an event that is about to be inserted; answers its number.
    pub(crate) fn note_unfiled(&mut self, new: &NewEvent) -> Result<i64> {
        let unfiled = self.unfiled()?;
        unfiled.events.push((new.event.account.to_bytes(), new.event.id.to_bytes()));
        for delivery in &new.deliveries {
            unfiled.note_delivery(delivery.endpoint.to_bytes(), delivery.id.to_bytes());
        }
        unfiled.next_number += 1;
        Ok(unfiled.next_number - 1)
    }

    /// Files what is not filed yet, if that is much. Comes before what a transaction adds: of that hardly
    /// anything has ended.
    pub(crate) fn file_if_much(&mut self) -> Result<()> {
        match &self.unfiled {
            Some(unfiled) if unfiled.len() >= FILED_FROM_ENTRIES => self.file(),
            _ => Ok(()),
        }
    }

    /// After this, whatever is leased is in the index of what is open.
    pub(crate) fn index_fresh(&mut self) -> Result<()> {
        if let Some(first) = self.unfiled()?.first {
            self.execute(INDEX_FRESH, [first])?;
        }
        Ok(())
    }

    /// Files all that is not filed yet.
    pub(crate) fn file(&mut self) -> Result<()> {
        self.index_fresh()?;
        let mut unfiled = std::mem::take(self.unfiled()?);
        self.unfiled = None;
        // In order, neighbours go to the same page while it is at hand.
        unfiled.events.sort_unstable();
        unfiled.deliveries.sort_unstable();
        self.insert_entries("events_by_account", &unfiled.events)?;
        self.insert_entries("deliveries_by_endpoint", &unfiled.deliveries)?;
        self.execute("UPDATE counts SET filed_through = ?1", [unfiled.next_number - 1])?;
        unfiled.events.clear();
        unfiled.deliveries.clear();
        unfiled.first = None;
        unfiled.filed_through = unfiled.next_number - 1;
        self.unfiled = Some(unfiled);
        Ok(())
    }

    fn insert_entries(&self, table: &str, entries: &[Entry]) -> Result<()> {
        let insert = format!("INSERT INTO {table} VALUES (?, ?)");
        let (many, rest) = entries.as_chunks::<ENTRIES_PER_STATEMENT>();
        let further = ", (?, ?)".repeat(ENTRIES_PER_STATEMENT - 1);
        let mut insert_many = self.prepare(&format!("{insert}{further}"))?;
        for entries in many {
            let values = entries.iter().flat_map(|(whose, which)| [whose, which]);
            insert_many.execute(params_from_iter(values))?;
        }
        let mut insert_one = self.prepare(&insert)?;
        for (whose, which) in rest {
            insert_one.execute([whose, which])?;
        }
        Ok(())
    }

    /// Files all that is not filed yet, if that is of the event of this number.
    pub(crate) fn file_through(&mut self, number: i64) -> Result<()> {
        if self.unfiled()?.filed_through < number { self.file() } else { Ok(()) }
    }

    /// Unfiled events of the account, in no order.
    pub(crate) fn unfiled_of(&mut self, account: AccountId) -> Result<Vec<[u8; 16]>> {
        let of_account = |(owner, _): &&Entry| *owner == account.to_bytes();
        Ok(self.unfiled()?.events.iter().filter(of_account).map(|(_, id)| *id).collect())
    }

    /// Files one delivery that is made later than its event.
    pub(crate) fn file_delivery(&self, endpoint: EndpointId, id: [u8; 16]) -> Result<()> {
        self.execute(
            "INSERT INTO deliveries_by_endpoint VALUES (?1, ?2)",
            params![endpoint.to_bytes(), id],
        )?;
        Ok(())
    }
}

/// [`Ledger::index_fresh`] where there is no ledger yet.
pub(crate) fn index_fresh(connection: &Connection) -> Result<()> {
    if let Some(first) = Unfiled::read(connection)?.first {
        connection.execute(INDEX_FRESH, [first])?;
    }
    Ok(())
}

/// Unfiled events of the account.
pub(crate) fn unfiled_events(connection: &Connection, account: AccountId) -> Result<Vec<[u8; 16]>> {
    let mut ids = Vec::new();
    for_each_unfiled(connection, |event| {
        if event.account == account.to_bytes() {
            ids.push(event.id);
        }
        Ok(())
    })?;
    Ok(ids)
}

/// Unfiled deliveries of the account and to the endpoint, as far as they are named.
pub(crate) fn unfiled_deliveries(
    connection: &Connection,
    account: Option<AccountId>,
    endpoint: Option<EndpointId>,
) -> Result<Vec<[u8; 16]>> {
    let account = account.map(AccountId::to_bytes);
    let endpoint = endpoint.map(EndpointId::to_bytes);
    let mut ids = Vec::new();
    for_each_unfiled(connection, |event| {
        if account.is_none_or(|account| account == event.account) {
            let wanted = event
                .born
                .iter()
                .filter(|born| endpoint.is_none_or(|endpoint| endpoint == born.endpoint));
            ids.extend(wanted.map(|born| born.id));
        }
        Ok(())
    })?;
    Ok(ids)
}
