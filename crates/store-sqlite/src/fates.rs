//! What became of an event at its endpoints, as far as a question about it needs to know.
//!
//! Promise: whoever asks about many events is told how many rows that took, and no event takes more
//! than its endpoints and [`REPLAYS_LOOKED_AT_MAX`]. Neighbours: `walk`, `following` and `history`
//! ask.

use std::collections::{BTreeMap, BTreeSet};

use domain::delivery::{EndReason, StateName};
use domain::id::EndpointId;
use rusqlite::{Connection, params};

use crate::catalogue::find;
use crate::failure::Result;
use crate::filing::{BORN_BYTES, parse_born};
use crate::row::{Fields, missed_by, parse_not_made};
use crate::state;
use crate::statistics::PAGE_BYTES;

/// Replays of one event that are looked at, the newest ones: far more than anybody asks for by
/// hand, little enough to read at once.
pub(crate) const REPLAYS_LOOKED_AT_MAX: usize = 1_000;

pub(crate) const SELECT_STANDING: &str = "SELECT id, endpoint, state, reason, \
     (SELECT history FROM departed_endpoints AS departed \
     WHERE departed.id = deliveries.endpoint AND settled = 0) AS departed \
     FROM deliveries WHERE id = ?1";
pub(crate) const SELECT_REPLAYED: &str =
    "SELECT delivery FROM replayed WHERE event = ?1 ORDER BY delivery DESC LIMIT ?2";

/// How a delivery stands.
struct Standing {
    endpoint: [u8; 16],
    state: StateName,
}

/// Reads what became of events, and counts what that takes.
pub(crate) struct Fates<'c> {
    connection: &'c Connection,
    /// Rows of deliveries read, and pages of events beyond the first of each.
    pub(crate) rows_read: usize,
}

impl<'c> Fates<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, rows_read: 0 }
    }

    /// Whether some delivery of the event is not delivered.
    pub(crate) fn is_undelivered(&mut self, number: i64, event: &Fields<'_, '_>) -> Result<bool> {
        let born = event.decode("deliveries", parse_born)?;
        let born = born.into_iter().map(|born| born.id);
        for id in born.chain(self.replayed(number)?) {
            if self.standing(id)?.is_some_and(|it| it.state != StateName::Delivered) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an endpoint that wanted the event has no delivery of it to this day. What it missed
    /// it can only have got by a replay.
    pub(crate) fn is_missing(&mut self, number: i64, event: &Fields<'_, '_>) -> Result<bool> {
        let not_made = event.decode("not_made", parse_not_made)?;
        let mut missed: BTreeSet<_> = missed_by(&not_made).map(EndpointId::to_bytes).collect();
        if missed.is_empty() {
            return Ok(false);
        }
        for id in self.replayed(number)? {
            if let Some(standing) = self.standing(id)? {
                missed.remove(&standing.endpoint);
            }
        }
        Ok(!missed.is_empty())
    }

    /// The states of the event's deliveries to the endpoint, oldest first.
    pub(crate) fn states_at(
        &mut self,
        endpoint: EndpointId,
        number: i64,
        event: &Fields<'_, '_>,
    ) -> Result<Vec<StateName>> {
        let endpoint = endpoint.to_bytes();
        let born = event.decode("deliveries", parse_born)?;
        self.rows_read += born.len() * BORN_BYTES / PAGE_BYTES as usize;
        let born = born.iter().filter(|born| born.endpoint == endpoint).map(|born| born.id);
        let mut states = BTreeMap::new();
        for id in born.chain(self.replayed(number)?) {
            if let Some(standing) = self.standing(id)?.filter(|it| it.endpoint == endpoint) {
                states.insert(id, standing.state);
            }
        }
        Ok(states.into_values().collect())
    }

    /// The deliveries made after the event was accepted, the newest first.
    fn replayed(&self, number: i64) -> Result<Vec<[u8; 16]>> {
        let mut statement = self.connection.prepare_cached(SELECT_REPLAYED)?;
        let mut rows = statement.query(params![number, REPLAYS_LOOKED_AT_MAX as i64])?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            ids.push(Fields::new("replayed", row).get("delivery")?);
        }
        Ok(ids)
    }

    /// How the delivery stands, unless it is gone or as good as gone.
    fn standing(&mut self, id: [u8; 16]) -> Result<Option<Standing>> {
        self.rows_read += 1;
        let standing = find(self.connection, SELECT_STANDING, [id], |row| {
            let fields = Fields::new("deliveries", row);
            let departed: Option<String> = fields.get("departed")?;
            let reason = fields.parse_if_any("reason", EndReason::from_name)?;
            let state = state::parse(fields.get("state")?, reason);
            let state = state.ok_or_else(|| fields.unreadable("state"))?.name();
            let endpoint = fields.get("endpoint")?;
            Ok(match (departed.as_deref(), state) {
                (Some("remove"), _) => None,
                (Some(_), StateName::Pending) => {
                    Some(Standing { endpoint, state: StateName::Cancelled })
                }
                _ => Some(Standing { endpoint, state }),
            })
        })?;
        Ok(standing.flatten())
    }
}
