//! Events of an account in the order of their birth, for whoever follows along.

use std::collections::BTreeSet;

use bytes::Bytes;
use domain::id::EventId;
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use rusqlite::Connection;
use store::history::{EventWithData, Followed, PAGE_DATA_BYTES_MAX};
use store::vault::Vault;

use crate::catalogue::find;
use crate::failure::Result;
use crate::history::{SELECT_EVENT, data, delivery, delivery_ids, event, is_undelivered};
use crate::row::{Fields, missed_by, parse_not_made};
use crate::source::Oldest;

/// Goes on with the ids below `before` until the page is full or much was read.
pub(crate) fn follow_events(
    connection: &Connection,
    vault: &Vault,
    mut ids: Oldest,
    before: EventId,
    undelivered: bool,
    limit: usize,
) -> Result<Followed> {
    let mut followed = Followed::default();
    let mut bytes = 0;
    for _ in 0..PAGE_ROWS_SCANNED_MAX {
        let next = ids.next(connection)?.filter(|id| *id < before.to_bytes());
        let Some(id) = next else { break };
        let passing = find(connection, SELECT_EVENT, [id], |row| {
            let fields = Fields::new("events", row);
            let number = fields.get("number")?;
            if undelivered
                && !is_undelivered(connection, number, &fields)?
                && !is_missing(connection, number, &fields)?
            {
                return Ok(None);
            }
            let data = data(connection, vault, number)?;
            Ok(Some(EventWithData { event: event(row)?, data }))
        })?;
        if let Some(passing) = passing.flatten() {
            bytes += passing.data.as_ref().map_or(0, Bytes::len);
            let is_full = followed.events.len() == limit;
            if is_full || (bytes > PAGE_DATA_BYTES_MAX && !followed.events.is_empty()) {
                break;
            }
            followed.events.push(passing);
        }
        followed.through = Some(EventId::from_bytes(id));
    }
    Ok(followed)
}

/// Whether an endpoint that wanted the event has no delivery of it to this day.
fn is_missing(connection: &Connection, number: i64, fields: &Fields<'_, '_>) -> Result<bool> {
    let not_made = fields.decode("not_made", parse_not_made)?;
    let mut missed: BTreeSet<_> = missed_by(&not_made).collect();
    if missed.is_empty() {
        return Ok(false);
    }
    for id in delivery_ids(connection, number, fields)? {
        if let Some(delivery) = delivery(connection, id)? {
            missed.remove(&delivery.endpoint);
        }
    }
    Ok(!missed.is_empty())
}
