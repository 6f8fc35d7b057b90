//! Ids of events or deliveries, newest first, from several places at once.

use std::collections::{BinaryHeap, VecDeque};

use domain::id::AccountId;
use rusqlite::{Connection, Params, params};

use crate::failure::Result;
use crate::row::Fields;

/// Ids read ahead, shared among the sources that are merged.
const IDS_READ_AHEAD: usize = 256;

/// A range of ids that an index holds in order.
#[derive(Clone, Copy)]
pub(crate) enum Range {
    Events,
    /// Filed events of the account.
    EventsOf([u8; 16]),
    Deliveries,
    /// Filed deliveries of the endpoint.
    DeliveriesOf([u8; 16]),
}

pub(crate) const EVENTS: &str = "SELECT id FROM events WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
pub(crate) const EVENTS_OF: &str = "SELECT id FROM events_by_account \
     WHERE account = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2";
pub(crate) const DELIVERIES: &str =
    "SELECT id FROM deliveries WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
pub(crate) const DELIVERIES_OF: &str = "SELECT id FROM deliveries_by_endpoint \
     WHERE endpoint = ?3 AND id < ?1 ORDER BY id DESC LIMIT ?2";

/// Ids from one place, read a few at a time.
pub(crate) struct Source {
    ids: VecDeque<[u8; 16]>,
    /// What to read on, and below which id; `None` when there is no more.
    rest: Option<(Range, Vec<u8>)>,
}

impl Source {
    /// The ids of the range below `below`.
    pub(crate) fn new(range: Range, below: &[u8]) -> Self {
        Self { ids: VecDeque::new(), rest: Some((range, below.to_vec())) }
    }

    /// Those of the given ids that are below `below`.
    pub(crate) fn of(mut ids: Vec<[u8; 16]>, below: &[u8]) -> Self {
        ids.retain(|id| id.as_slice() < below);
        ids.sort_unstable_by(|one, other| other.cmp(one));
        Self { ids: ids.into(), rest: None }
    }

    fn next(&mut self, connection: &Connection, read_ahead: usize) -> Result<Option<[u8; 16]>> {
        if self.ids.is_empty()
            && let Some((range, below)) = self.rest.take()
        {
            let limit = read_ahead as i64;
            match range {
                Range::Events => self.read(connection, EVENTS, params![below, limit]),
                Range::EventsOf(account) => {
                    self.read(connection, EVENTS_OF, params![below, limit, account])
                }
                Range::Deliveries => self.read(connection, DELIVERIES, params![below, limit]),
                Range::DeliveriesOf(endpoint) => {
                    self.read(connection, DELIVERIES_OF, params![below, limit, endpoint])
                }
            }?;
            self.rest = self.ids.back().map(|last| (range, last.to_vec()));
        }
        Ok(self.ids.pop_front())
    }

    fn read(&mut self, connection: &Connection, sql: &str, parameters: impl Params) -> Result<()> {
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            self.ids.push_back(Fields::new("ids", row).get("id")?);
        }
        Ok(())
    }
}

/// The ids of all sources, newest first.
pub(crate) struct Newest {
    sources: Vec<Source>,
    /// The newest id of each source that has one.
    heads: BinaryHeap<([u8; 16], usize)>,
    read_ahead: usize,
}

impl Newest {
    pub(crate) fn first(connection: &Connection, mut sources: Vec<Source>) -> Result<Self> {
        let read_ahead = (IDS_READ_AHEAD / sources.len().max(1)).max(4);
        let mut heads = BinaryHeap::with_capacity(sources.len());
        for (index, source) in sources.iter_mut().enumerate() {
            heads.extend(source.next(connection, read_ahead)?.map(|id| (id, index)));
        }
        Ok(Self { sources, heads, read_ahead })
    }

    pub(crate) fn next(&mut self, connection: &Connection) -> Result<Option<[u8; 16]>> {
        let Some((id, index)) = self.heads.pop() else { return Ok(None) };
        let next = self.sources[index].next(connection, self.read_ahead)?;
        self.heads.extend(next.map(|id| (id, index)));
        Ok(Some(id))
    }
}

pub(crate) const EVENTS_OF_AFTER: &str = "SELECT id FROM events_by_account \
     WHERE account = ?1 AND id > ?2 ORDER BY id LIMIT ?3";

/// The ids of an account's events, oldest first.
pub(crate) struct Oldest {
    account: AccountId,
    /// Filed ones that were read ahead.
    filed: VecDeque<[u8; 16]>,
    /// After which id to read on; `None` when there is no more.
    rest: Option<Vec<u8>>,
    unfiled: VecDeque<[u8; 16]>,
}

impl Oldest {
    /// Those above `after`; `unfiled` are all that the account has.
    pub(crate) fn after(
        mut unfiled: Vec<[u8; 16]>,
        account: AccountId,
        after: Option<[u8; 16]>,
    ) -> Self {
        unfiled.retain(|id| after.is_none_or(|after| *id > after));
        unfiled.sort_unstable();
        let rest = Some(after.map_or_else(Vec::new, |after| after.to_vec()));
        Self { account, filed: VecDeque::new(), rest, unfiled: unfiled.into() }
    }

    pub(crate) fn next(&mut self, connection: &Connection) -> Result<Option<[u8; 16]>> {
        if self.filed.is_empty()
            && let Some(after) = self.rest.take()
        {
            let mut statement = connection.prepare_cached(EVENTS_OF_AFTER)?;
            let parameters = params![self.account.to_bytes(), after, IDS_READ_AHEAD as i64];
            let mut rows = statement.query(parameters)?;
            while let Some(row) = rows.next()? {
                self.filed.push_back(Fields::new("ids", row).get("id")?);
            }
            self.rest = self.filed.back().map(|last| last.to_vec());
        }
        Ok(match (self.filed.front(), self.unfiled.front()) {
            (Some(filed), Some(unfiled)) if unfiled < filed => self.unfiled.pop_front(),
            (Some(_), _) => self.filed.pop_front(),
            (None, _) => self.unfiled.pop_front(),
        })
    }
}
