//! A walk over the events of an account, in search of those that a replay wants.
//!
//! Ids are UUIDv7, and none is ever less than one given before, whatever the clock does. So the
//! instant in an id is never before that of acceptance, and after it only while the clock is behind
//! where it once was: the walk can begin where the span does, and must go on beyond its end.

use std::time::Duration;

use domain::delivery::StateName;
use domain::id::{AccountId, EndpointId, EventId, ReplayId};
use domain::replay::{Replay, ReplayFate, ReplaySelection};
use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::fates::Fates;
use crate::row::{Fields, missed_by, parse_not_made};
use crate::source::{EVENTS_OF, Oldest};

/// Most events outside the span that a step reads, so that other work does not wait for it.
pub(crate) const ROWS_OUTSIDE_MAX: usize = 1_000;

/// How long an event's id may be made before it is accepted.
const ID_EARLY_MAX: Duration = Duration::from_secs(1);

/// How far ids may run ahead of a clock that was set back, in a replay that leaves out what came
/// last. One of everything until now needs no such bound.
const ID_LATE_MAX: Duration = Duration::from_hours(1);

/// A walk over the account's events that were accepted in a span, oldest first.
pub(crate) struct Walk {
    ids: Oldest,
    selection: ReplaySelection,
    ends_before: u128,
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
#[derive(Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: EventId,
    pub(crate) number: i64,
    accepted_at: Timestamp,
}

impl Walk {
    /// What is left of the replay's way.
    pub(crate) fn of(
        connection: &Connection,
        unfiled: Vec<[u8; 16]>,
        replay: &Replay,
    ) -> Result<Self> {
        let Replay { id, account, selection, through, created_at, .. } = *replay;
        let mut walk = Self::begin(connection, unfiled, account, selection, through)?;
        let own_id = ReplayId::as_u128(id);
        walk.ends_before = match selection.until {
            until if until < created_at => walk.ends_before.min(own_id),
            _ => own_id,
        };
        Ok(walk)
    }

    /// A walk after `after`, or from the beginning of the span.
    pub(crate) fn begin(
        connection: &Connection,
        unfiled: Vec<[u8; 16]>,
        account: AccountId,
        selection: ReplaySelection,
        after: Option<EventId>,
    ) -> Result<Self> {
        let after = match after {
            Some(after) => Some(after.to_bytes()),
            None => last_before(connection, account, selection.since.minus(ID_EARLY_MAX))?,
        };
        Ok(Self {
            ids: Oldest::after(unfiled, account, after),
            selection,
            ends_before: first_of(selection.until.plus(ID_LATE_MAX)),
            rows_outside_left: ROWS_OUTSIDE_MAX,
            last_read: None,
        })
    }

    /// The walk with another bound of events read outside the span.
    pub(crate) fn reading_outside(self, rows_outside_left: usize) -> Self {
        Self { rows_outside_left, ..self }
    }

    pub(crate) fn next(&mut self, connection: &Connection) -> Result<Next> {
        let ReplaySelection { since, until, .. } = self.selection;
        while let Some(id) = self.ids.next(connection)? {
            if u128::from_be_bytes(id) >= self.ends_before {
                break;
            }
            match unless_unreadable(read_candidate(connection, id))?.flatten() {
                Some(it) if (since..until).contains(&it.accepted_at) => {
                    self.last_read = Some(it.id);
                    return Ok(Next::Event(it));
                }
                _ if self.rows_outside_left == 0 => return Ok(Next::Pause),
                _ => {}
            }
            self.rows_outside_left -= 1;
            self.last_read = Some(EventId::from_bytes(id));
        }
        Ok(Next::End)
    }
}

/// The least id that is made at the instant.
fn first_of(at: Timestamp) -> u128 {
    u128::from(u64::try_from(at.as_millis()).unwrap_or(0)) << 80
}

/// The account's last filed event whose id was made before the instant; `None` if there is none, or
/// if its id says no instant.
fn last_before(
    connection: &Connection,
    account: AccountId,
    at: Timestamp,
) -> Result<Option<[u8; 16]>> {
    let parameters = params![first_of(at).to_be_bytes(), 1, account.to_bytes()];
    let last: Option<[u8; 16]> =
        connection.prepare_cached(EVENTS_OF)?.query_row(parameters, |row| row.get(0)).optional()?;
    // RFC 9562, section 4.2: the version.
    Ok(last.filter(|id| id[6] >> 4 == 7))
}

/// `None` for what nobody can read: that must not keep others from being found.
pub(crate) fn unless_unreadable<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(failure @ Failure::Unreadable { .. }) => {
            tracing::error!(%failure, "passing over an event");
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// Without the blobs, which are long where endpoints are many.
fn read_candidate(connection: &Connection, id: [u8; 16]) -> Result<Option<Candidate>> {
    find(connection, "SELECT id, number, accepted_at FROM events WHERE id = ?1", [id], |row| {
        let fields = Fields::new("events", row);
        Ok(Candidate {
            id: EventId::from_bytes(id),
            number: fields.get("number")?,
            accepted_at: fields.instant("accepted_at")?,
        })
    })
}

/// Whether a replay to the endpoint delivers the event again, and how many rows it took to know.
/// One that nobody can read it does not.
pub(crate) fn is_wanted(
    connection: &Connection,
    candidate: Candidate,
    endpoint: EndpointId,
    fate: ReplayFate,
) -> Result<(bool, usize)> {
    let mut fates = Fates::new(connection);
    let sql = "SELECT id, deliveries, not_made, body IS NOT NULL AS has_payload \
               FROM events WHERE number = ?1";
    let wanted = find(connection, sql, [candidate.number], |row| {
        let fields = Fields::new("events", row);
        if !fields.get::<bool>("has_payload")? {
            return Ok(false);
        }
        let not_made = fields.decode("not_made", parse_not_made)?;
        if fate == ReplayFate::Missing && !missed_by(&not_made).any(|missed| missed == endpoint) {
            return Ok(false);
        }
        let states = fates.states_at(endpoint, candidate.number, &fields)?;
        Ok(match fate {
            ReplayFate::Exhausted => states.last() == Some(&StateName::Exhausted),
            ReplayFate::All => !states.is_empty() && !states.contains(&StateName::Pending),
            ReplayFate::Missing => states.is_empty(),
        })
    });
    let wanted = unless_unreadable(wanted)?.flatten().unwrap_or(false);
    Ok((wanted, 1 + fates.rows_read))
}
