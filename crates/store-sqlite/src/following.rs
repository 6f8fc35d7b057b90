//! Events of an account in the order of their birth, for whoever follows along.

use bytes::Bytes;
use domain::id::EventId;
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use rusqlite::Connection;
use store::history::{EventWithData, Followed, PAGE_DATA_BYTES_MAX};
use store::vault::Vault;

use crate::catalogue::find;
use crate::failure::Result;
use crate::fates::Fates;
use crate::history::{SELECT_EVENT, data, event};
use crate::row::Fields;
use crate::source::Oldest;
use crate::walk::unless_unreadable;

/// Goes on with the ids below `before` until the page is full or much was read. What nobody can read
/// is passed over, or none would ever get beyond it.
pub(crate) fn follow_events(
    connection: &Connection,
    vault: &Vault,
    mut ids: Oldest,
    before: EventId,
    undelivered: bool,
    limit: usize,
) -> Result<Followed> {
    let mut followed = Followed::default();
    let mut fates = Fates::new(connection);
    let (mut events_read, mut bytes) = (0, 0);
    while events_read + fates.rows_read < PAGE_ROWS_SCANNED_MAX {
        let next = ids.next(connection)?.filter(|id| *id < before.to_bytes());
        let Some(id) = next else { break };
        let passing = find(connection, SELECT_EVENT, [id], |row| {
            let fields = Fields::new("events", row);
            let number = fields.get("number")?;
            if undelivered
                && !fates.is_undelivered(number, &fields)?
                && !fates.is_missing(number, &fields)?
            {
                return Ok(None);
            }
            let data = data(connection, vault, number)?;
            Ok(Some(EventWithData { event: event(row)?, data }))
        });
        if let Some(passing) = unless_unreadable(passing)?.flatten().flatten() {
            bytes += passing.data.as_ref().map_or(0, Bytes::len);
            let is_full = followed.events.len() == limit;
            if is_full || (bytes > PAGE_DATA_BYTES_MAX && !followed.events.is_empty()) {
                break;
            }
            followed.events.push(passing);
        }
        events_read += 1;
        followed.through = Some(EventId::from_bytes(id));
    }
    Ok(followed)
}
