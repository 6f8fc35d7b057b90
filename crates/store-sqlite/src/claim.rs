//! Deliveries leased, and leases given back.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use domain::event::EventType;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::time::Timestamp;
use rusqlite::params;
use store::queue::{Claimed, LaneClaim, LaneRoom, Lease, Payload, Recorded, SessionId};

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::ledger::Ledger;
use crate::row::Fields;

/// Most payload bytes that one claim reads, so that it is a bounded piece of memory whatever the
/// room. The lanes that come after get nothing and learn that there is more.
const CLAIM_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// The lane's deliveries in the order of the index, which needs no sorting.
pub(crate) const SELECT_DUE: &str = "SELECT id, event, fence, attempts, created_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// One seek in the index.
pub(crate) const SELECT_NEXT_DUE: &str = "SELECT id, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 ORDER BY due_at LIMIT 1";

impl Ledger<'_> {
    pub(crate) fn payload(&self, event_number: i64) -> Result<Owned> {
        let sql = "SELECT id, account, event_type, body FROM events WHERE number = ?1";
        let owned = find(self.connection, sql, [event_number], |row| {
            let fields = Fields::new("events", row);
            let payload = Payload {
                event: fields.id("id", EventId::from_bytes)?,
                event_type: fields.parse("event_type", |text| EventType::parse(text).ok())?,
                body: Bytes::from(fields.get::<Vec<u8>>("body")?),
            };
            let account = fields.id("account", AccountId::from_bytes)?;
            Ok(Owned { account, payload: Arc::new(payload) })
        });
        owned?.ok_or_else(|| Failure::Unreadable {
            table: "events",
            column: "number",
            row: event_number.to_string(),
        })
    }

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
                        let is_new = !payloads.contains_key(&due.event);
                        let Owned { account, payload } =
                            self.payload_among(&mut payloads, due.event)?;
                        if is_new {
                            body_bytes += payload.body.len();
                        }
                        claim.claimed.push(self.claim(
                            session,
                            lane.endpoint,
                            account,
                            payload,
                            &due,
                        )?);
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

    /// What the lane may claim, earliest due first.
    fn due(&self, lane: &LaneRoom, now: Timestamp) -> Result<Vec<Due>> {
        let mut statement = self.prepare(SELECT_DUE)?;
        let room = i64::try_from(lane.room).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![lane.endpoint.to_bytes(), now.as_millis(), room])?;
        let mut due = Vec::new();
        while let Some(row) = rows.next()? {
            let fields = Fields::new("deliveries", row);
            due.push(Due {
                id: fields.id("id", DeliveryId::from_bytes)?,
                event: fields.get("event")?,
                fence: fields.get("fence")?,
                attempts: fields.get("attempts")?,
                created_at: fields.instant("created_at")?,
            });
        }
        Ok(due)
    }

    fn claim(
        &self,
        session: SessionId,
        endpoint: EndpointId,
        account: AccountId,
        payload: Arc<Payload>,
        due: &Due,
    ) -> Result<Claimed> {
        let fence = due.fence + 1;
        self.execute(
            "UPDATE deliveries SET state = 1, session = ?2, fence = ?3 WHERE id = ?1",
            params![due.id.to_bytes(), session.0 as i64, fence],
        )?;
        Ok(Claimed {
            lease: Lease { session, delivery: due.id, fence },
            account,
            endpoint,
            attempts: due.attempts,
            created_at: due.created_at,
            payload,
        })
    }

    pub(crate) fn give_back(&self, leases: &[Lease]) -> Result<Vec<Recorded>> {
        let mut free = self.prepare(
            "UPDATE deliveries SET state = 0, session = NULL \
             WHERE id = ?1 AND state = 1 AND session = ?2 AND fence = ?3",
        )?;
        let mut give_back = |lease: &Lease| {
            let parameters =
                params![lease.delivery.to_bytes(), lease.session.0 as i64, lease.fence];
            Ok(applied(free.execute(parameters)?))
        };
        leases.iter().map(&mut give_back).collect()
    }
}

fn next_due_at(ledger: &Ledger<'_>, endpoint: EndpointId) -> Result<Option<Timestamp>> {
    find(ledger.connection, SELECT_NEXT_DUE, [endpoint.to_bytes()], |row| {
        Fields::new("deliveries", row).instant("due_at")
    })
}

fn applied(rows_changed: usize) -> Recorded {
    if rows_changed > 0 { Recorded::Applied } else { Recorded::LeaseLost }
}

/// A delivery that may be claimed.
struct Due {
    id: DeliveryId,
    event: i64,
    fence: u32,
    attempts: u32,
    created_at: Timestamp,
}

/// A payload, and whose it is.
#[derive(Clone)]
pub(crate) struct Owned {
    account: AccountId,
    pub(crate) payload: Arc<Payload>,
}
