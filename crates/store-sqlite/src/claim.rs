//! Deliveries leased, and leases given back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use domain::delivery::{EndReason, StateName};
use domain::event::EventType;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::TRIAL_AFTER_LOST_CLAIMS;
use domain::sealing::Binding;
use domain::time::Timestamp;
use domain::trace::TraceContext;
use rusqlite::params;
use store::queue::{Claimed, GivenBack, LaneClaim, LaneRoom, Lease, Payload, Recorded, SessionId};
use store::vault::Vault;

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::ledger::Ledger;
use crate::row::{Fields, hex};
use crate::state;

/// Most payload bytes that one claim reads, so that it is a bounded piece of memory whatever the
/// room. The lanes that come after get nothing and learn that there is more.
const CLAIM_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The lane's deliveries in the order of the index, which needs no sorting.
pub(crate) const SELECT_DUE: &str = "SELECT id, event, fence, attempts, lost_claims, \
     created_at, is_ordered, is_replay FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// One seek in the index.
pub(crate) const SELECT_NEXT_DUE: &str = "SELECT id, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 ORDER BY due_at LIMIT 1";

/// What the rest of an `UPDATE` of deliveries sets when their claims are lost; `?1` is
/// [`TRIAL_AFTER_LOST_CLAIMS`]. From then on only a trial counts.
macro_rules! losing {
    () => {
        "state = 0, session = NULL, lost_claims = lost_claims + (lost_claims < ?1 OR on_trial), \
         on_trial = 0"
    };
}
pub(crate) use losing;

impl Ledger<'_> {
    /// The payload as it is stored, its body sealed.
    pub(crate) fn payload(&self, event_number: i64) -> Result<Owned> {
        let sql = "SELECT id, account, event_type, deliver_at, trace, deliveries, body FROM events \
                   LEFT JOIN event_extras USING (number) WHERE events.number = ?1";
        let owned = find(self.connection, sql, [event_number], |row| {
            let fields = Fields::new("events", row);
            let payload = Payload {
                event: fields.id("id", EventId::from_bytes)?,
                event_type: fields.parse("event_type", |text| EventType::parse(text).ok())?,
                trace: fields.parse_if_any("trace", TraceContext::parse)?,
                body: Bytes::from(fields.get::<Vec<u8>>("body")?),
            };
            let account = fields.id("account", AccountId::from_bytes)?;
            let deliver_at = fields.instant_if_any("deliver_at")?;
            let deliveries = Arc::new(fields.get("deliveries")?);
            Ok(Owned { account, deliver_at, deliveries, payload: Arc::new(payload) })
        });
        owned?.ok_or_else(|| Failure::Unreadable {
            table: "events",
            column: "number",
            row: event_number.to_string(),
        })
    }

    /// Leases what is due. The payloads it answers are still sealed. What nobody can read is set
    /// aside: it would come first in its lane for ever.
    pub(crate) fn claim_due(
        &mut self,
        session: SessionId,
        now: Timestamp,
        lanes: &[LaneRoom],
    ) -> Result<Vec<LaneClaim>> {
        let lives = self.session_lives(session)?;
        // Lanes often owe the same event.
        let mut payloads = HashMap::new();
        let mut body_bytes = 0;
        let mut claims = Vec::with_capacity(lanes.len());
        for lane in lanes {
            let mut claim =
                LaneClaim { endpoint: lane.endpoint, claimed: Vec::new(), next_due_at: None };
            let departed = "SELECT 1 FROM departed_endpoints WHERE id = ?1";
            if !self.prepare(departed)?.exists([lane.endpoint.to_bytes()])? {
                if lives && body_bytes < CLAIM_BODY_BYTES_MAX {
                    for due in self.due(lane, now)? {
                        if body_bytes >= CLAIM_BODY_BYTES_MAX {
                            break;
                        }
                        let due = match due {
                            Ok(due) => due,
                            Err((id, failure)) => {
                                self.set_aside_unreadable((lane.endpoint, id), now, &failure)?;
                                continue;
                            }
                        };
                        let is_new = !payloads.contains_key(&due.event);
                        let owned = match self.owed_payload(&mut payloads, lane.endpoint, &due) {
                            Err(failure @ Failure::Unreadable { .. }) => {
                                self.set_aside_unreadable((lane.endpoint, due.id), now, &failure)?;
                                continue;
                            }
                            owned => owned?,
                        };
                        if is_new {
                            body_bytes += owned.payload.body.len();
                        }
                        claim.claimed.push(self.claim(session, lane.endpoint, owned, &due)?);
                    }
                }
                claim.next_due_at = next_due_at(self, lane.endpoint)?;
            }
            claims.push(claim);
        }
        Ok(claims)
    }

    fn payload_among(&self, known: &mut HashMap<i64, Owned>, event_number: i64) -> Result<Owned> {
        if let Some(owned) = known.get(&event_number) {
            return Ok(owned.clone());
        }
        let owned = self.payload(event_number)?;
        known.insert(event_number, owned.clone());
        Ok(owned)
    }

    /// The payload of the event that the delivery says it is of. That event must say so too: a row
    /// that was altered must not have another event's payload sent.
    fn owed_payload(
        &self,
        known: &mut HashMap<i64, Owned>,
        endpoint: EndpointId,
        due: &Due,
    ) -> Result<Owned> {
        let owned = self.payload_among(known, due.event)?;
        let is_owed = if due.is_replay {
            self.prepare("SELECT 1 FROM replayed WHERE event = ?1 AND delivery = ?2")?
                .exists(params![due.event, due.id.to_bytes()])?
        } else {
            let entry = [due.id.to_bytes(), endpoint.to_bytes()].concat();
            owned.deliveries.chunks_exact(entry.len()).any(|owed| owed == entry)
        };
        if is_owed {
            return Ok(owned);
        }
        let row = hex(&due.id.to_bytes());
        Err(Failure::Unreadable { table: "deliveries", column: "event", row })
    }

    /// Ends a waiting delivery that nobody can read, or whose event. Whose it was, the lane tells, which
    /// may be all that is left to tell it.
    fn set_aside_unreadable(
        &mut self,
        (endpoint, id): (EndpointId, DeliveryId),
        at: Timestamp,
        failure: &Failure,
    ) -> Result<()> {
        tracing::error!(%endpoint, delivery = %id, %failure, "a delivery is set aside");
        let ended = self.execute(
            "UPDATE deliveries SET state = ?2, session = NULL, on_trial = 0, due_at = NULL, \
             ended_at = ?3, reason = ?4 WHERE id = ?1 AND state = 0",
            params![id.to_bytes(), state::EXHAUSTED, at.as_millis(), EndReason::SetAside.name()],
        )?;
        if ended == 0 {
            return Err(not_waiting(id));
        }
        self.counted.end(ended, StateName::Exhausted);
        self.advance(id.to_bytes(), at)
    }

    /// What the lane may claim, earliest due first.
    fn due(&self, lane: &LaneRoom, now: Timestamp) -> Result<Vec<Readable>> {
        let mut statement = self.prepare(SELECT_DUE)?;
        let room = i64::try_from(lane.room).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![lane.endpoint.to_bytes(), now.as_millis(), room])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let fields = Fields::new("deliveries", row);
            let id = fields.id("id", DeliveryId::from_bytes)?;
            due.push(Due::read(&fields, id).map_err(|failure| (id, failure)));
        }
        Ok(due)
    }

    fn claim(
        &self,
        session: SessionId,
        endpoint: EndpointId,
        owned: Owned,
        due: &Due,
    ) -> Result<Claimed> {
        let fence = due.fence.saturating_add(1);
        let claimed = self.execute(
            "UPDATE deliveries SET state = 1, session = ?2, fence = ?3 WHERE id = ?1 AND state = 0",
            params![due.id.to_bytes(), session.0 as i64, fence],
        )?;
        if claimed == 0 {
            return Err(not_waiting(due.id));
        }
        Ok(Claimed {
            lease: Lease { session, delivery: due.id, fence },
            account: owned.account,
            endpoint,
            attempts: due.attempts,
            lost_claims: due.lost_claims,
            owed_since: owned.owed_since(due.created_at),
            is_ordered: due.is_ordered,
            is_replay: due.is_replay,
            payload: owned.payload,
        })
    }

    pub(crate) fn give_back(&self, leases: &[Lease], why: GivenBack) -> Result<Vec<Recorded>> {
        let mut free = self.prepare(match why {
            GivenBack::Unused => {
                "UPDATE deliveries SET state = 0, session = NULL, on_trial = 0 \
                 WHERE id = ?2 AND state IN (1, 6) AND session = ?3 AND fence = ?4"
            }
            GivenBack::Unanswered => concat!(
                "UPDATE deliveries SET ",
                losing!(),
                " WHERE id = ?2 AND state IN (1, 6) AND session = ?3 AND fence = ?4"
            ),
        })?;
        let mut give_back = |lease: &Lease| {
            let (session, delivery) = (lease.session.0 as i64, lease.delivery.to_bytes());
            let parameters = params![TRIAL_AFTER_LOST_CLAIMS, delivery, session, lease.fence];
            Ok(applied(free.execute(parameters)?))
        };
        leases.iter().map(&mut give_back).collect()
    }

    pub(crate) fn begin_trial(&self, lease: Lease) -> Result<Recorded> {
        let begun = self.execute(
            "UPDATE deliveries SET on_trial = 1 \
             WHERE id = ?1 AND state IN (1, 6) AND session = ?2 AND fence = ?3",
            params![lease.delivery.to_bytes(), lease.session.0 as i64, lease.fence],
        )?;
        Ok(applied(begun))
    }

    pub(crate) fn set_aside(&mut self, leases: &[Lease], at: Timestamp) -> Result<Vec<Recorded>> {
        let mut end = self.prepare(
            "UPDATE deliveries SET state = ?4, session = NULL, on_trial = 0, due_at = NULL, \
             ended_at = ?5, reason = ?6 \
             WHERE id = ?1 AND state IN (1, 6) AND session = ?2 AND fence = ?3",
        )?;
        let mut set_aside = |lease: &Lease| {
            let ended = end.execute(params![
                lease.delivery.to_bytes(),
                lease.session.0 as i64,
                lease.fence,
                state::EXHAUSTED,
                at.as_millis(),
                EndReason::SetAside.name(),
            ])?;
            self.counted.end(ended, StateName::Exhausted);
            if ended > 0 {
                self.advance(lease.delivery.to_bytes(), at)?;
            }
            Ok(applied(ended))
        };
        leases.iter().map(&mut set_aside).collect()
    }
}

/// The payload with its body opened.
pub(crate) fn open_payload(vault: &Vault, account: AccountId, sealed: &Payload) -> Result<Payload> {
    let body = vault.open_data(&Binding::Body(account, sealed.event), &sealed.body);
    let body = body.map_err(|_| Failure::Unreadable {
        table: "events",
        column: "body",
        row: hex(&sealed.event.to_bytes()),
    })?;
    let (event, event_type) = (sealed.event, sealed.event_type.clone());
    Ok(Payload { event, event_type, trace: sealed.trace, body: Bytes::from(body) })
}

/// Opens the payloads of what was claimed, each once. Takes out of the claims what does not open,
/// and answers its leases.
pub(crate) fn open_payloads(vault: &Vault, claims: &mut [LaneClaim]) -> Vec<Lease> {
    let mut opened: HashMap<EventId, Option<Arc<Payload>>> = HashMap::new();
    let mut shut = Vec::new();
    for claim in claims {
        claim.claimed.retain_mut(|claimed| {
            let payload = opened.entry(claimed.payload.event).or_insert_with(|| {
                open_payload(vault, claimed.account, &claimed.payload)
                    .inspect_err(|error| tracing::error!(%error, "its deliveries are set aside"))
                    .map_or(None, |payload| Some(Arc::new(payload)))
            });
            if let Some(payload) = payload {
                claimed.payload = Arc::clone(payload);
            } else {
                shut.push(claimed.lease);
            }
            payload.is_some()
        });
    }
    shut
}

fn next_due_at(ledger: &Ledger<'_>, endpoint: EndpointId) -> Result<Option<Timestamp>> {
    find(ledger.connection, SELECT_NEXT_DUE, [endpoint.to_bytes()], |row| {
        Fields::new("deliveries", row).instant("due_at")
    })
}

fn applied(rows_changed: usize) -> Recorded {
    if rows_changed > 0 { Recorded::Applied } else { Recorded::LeaseLost }
}

/// The index of what waits has the delivery, and its row says otherwise: one of them was altered.
fn not_waiting(id: DeliveryId) -> Failure {
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT_INDEX);
    let what = format!("deliveries_open and the row of delivery {id} disagree");
    Failure::Sqlite(rusqlite::Error::SqliteFailure(corrupt, Some(what)))
}

/// A delivery that may be claimed, or which one cannot be read, and why.
type Readable = std::result::Result<Due, (DeliveryId, Failure)>;

/// A delivery that may be claimed.
struct Due {
    id: DeliveryId,
    event: i64,
    fence: u32,
    attempts: u32,
    lost_claims: u32,
    created_at: Timestamp,
    is_ordered: bool,
    is_replay: bool,
}

impl Due {
    fn read(fields: &Fields<'_, '_>, id: DeliveryId) -> Result<Self> {
        Ok(Self {
            id,
            event: fields.get("event")?,
            fence: fields.get("fence")?,
            attempts: fields.get("attempts")?,
            lost_claims: fields.get("lost_claims")?,
            created_at: fields.instant("created_at")?,
            is_ordered: fields.get("is_ordered")?,
            is_replay: fields.get("is_replay")?,
        })
    }
}

/// A payload, and whose it is.
#[derive(Clone)]
pub(crate) struct Owned {
    account: AccountId,
    /// The deliveries made with the event, as they are stored.
    deliveries: Arc<Vec<u8>>,
    /// When the event's deliveries were due first, if later than it was accepted.
    deliver_at: Option<Timestamp>,
    pub(crate) payload: Arc<Payload>,
}

impl Owned {
    /// Since when a delivery that was made then is owed.
    pub(crate) fn owed_since(&self, created_at: Timestamp) -> Timestamp {
        self.deliver_at.map_or(created_at, |deliver_at| deliver_at.max(created_at))
    }
}
