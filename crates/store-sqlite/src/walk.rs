//! A walk over the events of an account, in search of those that a replay wants.
//!
//! Ids sort by time of birth, so the walk begins where the span does and ends soon after it.

use std::time::Duration;

use domain::delivery::{DeliveryState, StateName};
use domain::id::{AccountId, EndpointId, EventId};
use domain::replay::{ReplayFate, ReplaySelection};
use domain::time::Timestamp;
use rusqlite::{Connection, params};

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::history::{delivery, delivery_ids};
use crate::row::{Fields, missed_by, parse_not_made};
use crate::source::Oldest;

/// Most events outside the span that a step reads, so that other work does not wait for it.
pub(crate) const ROWS_OUTSIDE_MAX: usize = 1_000;

/// How far the order of ids and that of acceptance may differ. Both say the same instant; this is
/// for those who make ids otherwise.
const DISORDER_MAX: Duration = Duration::from_secs(1);

/// A walk over the account's events that were accepted in a span, oldest first.
pub(crate) struct Walk {
    ids: Oldest,
    selection: ReplaySelection,
    rows_outside_left: usize,
    /// The last event read, in the span or not.
    pub(crate) last_read: Option<EventId>,
}

pub(crate) enum Next {
    /// An event of the span.
    Event(Candidate),
    /// There is none.
    End,
    /// So many were read outside the span that it is time for others; there may be more.
    Pause,
}

/// An event that may be wanted.
pub(crate) struct Candidate {
    pub(crate) id: EventId,
    pub(crate) number: i64,
    accepted_at: Timestamp,
    has_payload: bool,
    deliveries: Vec<[u8; 16]>,
    missed_by: Vec<EndpointId>,
}

impl Walk {
    pub(crate) fn begin(
        connection: &Connection,
        unfiled: Vec<[u8; 16]>,
        account: AccountId,
        selection: ReplaySelection,
        after: Option<EventId>,
        rows_outside_left: usize,
    ) -> Result<Self> {
        let after = match after {
            Some(after) => Some(after.to_bytes()),
            None => last_before(connection, account, selection.since.minus(DISORDER_MAX))?,
        };
        let ids = Oldest::after(unfiled, account, after);
        Ok(Self { ids, selection, rows_outside_left, last_read: None })
    }

    pub(crate) fn next(&mut self, connection: &Connection) -> Result<Next> {
        let ReplaySelection { since, until, .. } = self.selection;
        while let Some(id) = self.ids.next(connection)? {
            let candidate = match read_candidate(connection, id) {
                Err(failure @ Failure::Unreadable { .. }) => {
                    tracing::error!(%failure, "a replay passes over an event");
                    None
                }
                other => other?,
            };
            match candidate {
                Some(it) if (since..until).contains(&it.accepted_at) => {
                    self.last_read = Some(it.id);
                    return Ok(Next::Event(it));
                }
                Some(it) if it.accepted_at >= until.plus(DISORDER_MAX) => return Ok(Next::End),
                _ if self.rows_outside_left == 0 => return Ok(Next::Pause),
                _ => {}
            }
            self.rows_outside_left -= 1;
            self.last_read = Some(EventId::from_bytes(id));
        }
        Ok(Next::End)
    }
}

/// The account's last filed event before the first one accepted at `since` or later.
fn last_before(
    connection: &Connection,
    account: AccountId,
    since: Timestamp,
) -> Result<Option<[u8; 16]>> {
    // The first wanted id is in `low..=high`; each probe halves that.
    let (mut low, mut high) = (0_u128, u128::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        let probe = find(
            connection,
            SELECT_FROM,
            params![account.to_bytes(), middle.to_be_bytes()],
            |row| {
                let fields = Fields::new("events", row);
                Ok((u128::from_be_bytes(fields.get("id")?), fields.instant("accepted_at")?))
            },
        )?;
        match probe {
            Some((id, accepted_at)) if accepted_at < since => low = id.saturating_add(1),
            _ => high = middle,
        }
    }
    Ok(low.checked_sub(1).map(u128::to_be_bytes))
}

/// The account's first filed event from an id on.
pub(crate) const SELECT_FROM: &str = "SELECT events.id, accepted_at FROM events_by_account AS filed \
     CROSS JOIN events ON events.id = filed.id \
     WHERE filed.account = ?1 AND filed.id >= ?2 ORDER BY filed.id LIMIT 1";

fn read_candidate(connection: &Connection, id: [u8; 16]) -> Result<Option<Candidate>> {
    let sql = "SELECT id, number, accepted_at, deliveries, not_made, \
               body IS NOT NULL AS has_payload FROM events WHERE id = ?1";
    find(connection, sql, [id], |row| {
        let fields = Fields::new("events", row);
        let number = fields.get("number")?;
        let deliveries = delivery_ids(connection, number, &fields)?;
        Ok(Candidate {
            id: EventId::from_bytes(id),
            number,
            accepted_at: fields.instant("accepted_at")?,
            has_payload: fields.get("has_payload")?,
            deliveries: deliveries.into_iter().collect(),
            missed_by: missed_by(&fields.decode("not_made", parse_not_made)?).collect(),
        })
    })
}

/// Whether a replay to the endpoint delivers the event again.
pub(crate) fn is_wanted(
    connection: &Connection,
    candidate: &Candidate,
    endpoint: EndpointId,
    fate: ReplayFate,
) -> Result<bool> {
    if !candidate.has_payload {
        return Ok(false);
    }
    let mut states = Vec::new();
    for id in &candidate.deliveries {
        let found = delivery(connection, *id)?;
        states.extend(found.filter(|it| it.endpoint == endpoint).map(|it| it.state));
    }
    Ok(match fate {
        ReplayFate::Exhausted => {
            states.last().is_some_and(|last| last.name() == StateName::Exhausted)
        }
        ReplayFate::All => !states.is_empty() && !states.contains(&DeliveryState::Pending),
        ReplayFate::Missing => states.is_empty() && candidate.missed_by.contains(&endpoint),
    })
}
