//! Events accepted, deliveries leased, attempts recorded, in SQLite.
//!
//! What is done for every event stands in [`Ledger::accept`] and [`Ledger::record`]: two rows
//! inserted and an index entry for each way to find them; one row changed and one inserted.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Attempt, Outcome};
use domain::delivery::{StateName, Transition};
use domain::event::{EntityId, EventType};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::IDEMPOTENCY_KEPT_FOR;
use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, PrepFlags, Statement, params};
use store::queue::{
    Accepted, Added, AttemptRecord, Claimed, Extended, LaneClaim, LaneRoom, Lease, NewDelivery,
    NewEvent, Payload, Queue, Recorded, SessionId, WaitingLane,
};

use crate::catalogue::find;
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::{self, Fields, nanoseconds};
use crate::state;
use crate::statistics::PAGE_BYTES;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// Most payload bytes that one claim reads, so that it is a bounded piece of memory whatever the
/// room. The lanes that come after get nothing and learn that there is more.
const CLAIM_BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

impl Ledger<'_> {
    fn begin_session(&mut self, until: Timestamp) -> Result<SessionId> {
        self.execute("INSERT INTO sessions (lives_until) VALUES (?1)", [until.as_millis()])?;
        self.forget_sessions();
        Ok(SessionId(self.connection.last_insert_rowid() as u64))
    }

    fn extend_session(&self, session: SessionId, until: Timestamp) -> Result<Extended> {
        let changed = self.execute(
            "UPDATE sessions SET lives_until = ?2 WHERE number = ?1",
            [session.0 as i64, until.as_millis()],
        )?;
        Ok(if changed > 0 { Extended::Extended } else { Extended::SessionLost })
    }

    fn release_expired(&mut self, now: Timestamp) -> Result<usize> {
        let ended =
            self.execute("DELETE FROM sessions WHERE lives_until < ?1", [now.as_millis()])?;
        if ended == 0 {
            return Ok(0);
        }
        self.forget_sessions();
        self.execute(
            "UPDATE deliveries INDEXED BY deliveries_open SET state = 0, session = NULL \
             WHERE state = 1 AND session NOT IN (SELECT number FROM sessions)",
            [],
        )
    }

    fn accept(&mut self, session: SessionId, events: Vec<NewEvent>) -> Result<Vec<Accepted>> {
        let holder = self.session_lives(session)?.then_some(session);
        events.into_iter().map(|new| self.accept_one(holder, &new)).collect()
    }

    fn accept_one(&mut self, holder: Option<SessionId>, new: &NewEvent) -> Result<Accepted> {
        let Some(version) = self.roster_version(new.event.account)? else {
            return Ok(Accepted::NoAccount);
        };
        if let Some(answer) = self.answer_before(new)? {
            return Ok(answer);
        }
        if version != new.roster_version {
            return Ok(Accepted::RosterChanged);
        }
        let number = self.insert_event(new)?;
        for delivery in &new.deliveries {
            self.insert_delivery(number, delivery, holder, new.event.accepted_at)?;
        }
        self.remember_key(new)?;
        self.counted.events += 1;
        self.counted.created += new.deliveries.len() as i64;
        self.counted.pending += new.deliveries.len() as i64;
        Ok(Accepted::New)
    }

    /// What a repeated or reused key is answered; `None` if there is no key or it is new.
    fn answer_before(&self, new: &NewEvent) -> Result<Option<Accepted>> {
        let Some(idempotency) = &new.idempotency else { return Ok(None) };
        find(
            self.connection,
            "SELECT account, request_hash, event, deliveries FROM idempotency_keys \
             WHERE account = ?1 AND key = ?2 AND kept_until > ?3",
            params![
                new.event.account.to_bytes(),
                idempotency.key.as_str(),
                new.event.accepted_at.as_millis()
            ],
            |row| {
                let fields = Fields::new("idempotency_keys", row);
                let request_hash: [u8; 32] = fields.get("request_hash")?;
                if request_hash != idempotency.request_hash {
                    return Ok(Accepted::KeyReused);
                }
                let event = fields.id("event", EventId::from_bytes)?;
                Ok(Accepted::Repeated { event, deliveries: fields.get("deliveries")? })
            },
        )
    }

    fn remember_key(&self, new: &NewEvent) -> Result<()> {
        let Some(idempotency) = &new.idempotency else { return Ok(()) };
        self.execute(
            "INSERT OR REPLACE INTO idempotency_keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                new.event.account.to_bytes(),
                idempotency.key.as_str(),
                idempotency.request_hash,
                new.event.id.to_bytes(),
                new.deliveries.len() as i64,
                new.event.accepted_at.plus(IDEMPOTENCY_KEPT_FOR).as_millis(),
            ],
        )?;
        Ok(())
    }

    fn insert_event(&mut self, new: &NewEvent) -> Result<i64> {
        let number = self.note_unfiled(new)?;
        let mut blobs = std::mem::take(&mut self.scratch);
        blobs.clear();
        for delivery in &new.deliveries {
            blobs.extend_from_slice(&delivery.id.to_bytes());
            blobs.extend_from_slice(&delivery.endpoint.to_bytes());
        }
        let not_made_start = blobs.len();
        for (endpoint, reason) in &new.not_made {
            row::push_not_made(&mut blobs, *endpoint, *reason);
        }
        let event = &new.event;
        self.hot.insert_event.execute(params![
            number,
            event.id.to_bytes(),
            event.account.to_bytes(),
            event.event_type.as_str(),
            event.timestamp.as_millis(),
            event.accepted_at.as_millis(),
            row::lines(event.entity_ids.iter().map(EntityId::as_str)),
            &blobs[..not_made_start],
            &blobs[not_made_start..],
            new.data.start as i64,
            new.data.len() as i64,
            &*new.body,
        ])?;
        self.scratch = blobs;
        Ok(number)
    }

    /// Inserts a delivery, leased if it is to be and somebody can hold it; answers its fence.
    fn insert_delivery(
        &mut self,
        event_number: i64,
        delivery: &NewDelivery,
        holder: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u32> {
        let holder = holder.filter(|_| delivery.leased);
        let fence = u32::from(holder.is_some());
        self.hot.insert_delivery.execute(params![
            delivery.id.to_bytes(),
            event_number,
            delivery.endpoint.to_bytes(),
            if holder.is_some() { state::LEASED } else { state::WAITING },
            holder.map(|session| session.0 as i64),
            fence,
            now.as_millis(),
        ])?;
        Ok(fence)
    }

    fn add_delivery(
        &mut self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: &NewDelivery,
        now: Timestamp,
    ) -> Result<Added> {
        let number: Option<i64> = self
            .prepare(
                "SELECT number FROM events WHERE id = ?1 AND account = ?2 AND body IS NOT NULL",
            )?
            .query_row([event.to_bytes(), account.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(number) = number else { return Ok(Added::NoEvent) };
        if self.roster_version(account)?.is_none() {
            return Ok(Added::NoEvent);
        }
        let belongs = "SELECT 1 FROM endpoints WHERE id = ?1 AND account = ?2";
        let parameters = [delivery.endpoint.to_bytes(), account.to_bytes()];
        if !self.prepare(belongs)?.exists(parameters)? {
            return Ok(Added::NoEndpoint);
        }
        let holder = self.session_lives(session)?.then_some(session);
        let payload = self.payload(number)?.payload;
        let fence = self.insert_delivery(number, delivery, holder, now)?;
        self.execute(
            "INSERT INTO replays VALUES (?1, ?2)",
            params![number, delivery.id.to_bytes()],
        )?;
        self.file_delivery(delivery.endpoint, delivery.id.to_bytes())?;
        self.counted.created += 1;
        self.counted.pending += 1;
        Ok(Added::Created(Claimed {
            lease: Lease { session, delivery: delivery.id, fence },
            account,
            endpoint: delivery.endpoint,
            attempts: 0,
            created_at: now,
            payload,
        }))
    }

    fn payload(&self, event_number: i64) -> Result<Owned> {
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
        owned?.ok_or_else(|| crate::failure::Failure::Unreadable {
            table: "events",
            column: "number",
            row: event_number.to_string(),
        })
    }

    fn claim_due(
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
                        let Owned { account, payload } =
                            self.payload_among(&mut payloads, due.event)?;
                        body_bytes += payload.body.len();
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

    fn give_back(&self, leases: &[Lease]) -> Result<Vec<Recorded>> {
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

    fn record(&mut self, records: &[AttemptRecord]) -> Result<Vec<Recorded>> {
        records.iter().map(|record| self.record_one(record)).collect()
    }

    fn record_one(&mut self, record: &AttemptRecord) -> Result<Recorded> {
        // Nearly all attempts are first ones, and that there is none before is checked by the
        // statement that moves the delivery; only for others the chain is looked up.
        let place = self.take_place()?;
        if record.attempt.number <= 1 && self.move_delivery(record, None, place)? {
            self.insert_attempt(&record.attempt, None, place)?;
            return Ok(self.count(record.transition));
        }
        let last_attempt: Option<Option<i64>> = self
            .prepare("SELECT last_attempt FROM deliveries WHERE id = ?1")?
            .query_row([record.lease.delivery.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(last_attempt) = last_attempt else { return Ok(Recorded::LeaseLost) };
        if !self.move_delivery(record, last_attempt, place)? {
            return Ok(Recorded::LeaseLost);
        }
        self.insert_attempt(&record.attempt, last_attempt, place)?;
        Ok(self.count(record.transition))
    }

    /// Moves the delivery as the record says, if its lease is current and its last attempt the
    /// one given; answers whether it did.
    fn move_delivery(
        &mut self,
        record: &AttemptRecord,
        last_attempt: Option<i64>,
        place: i64,
    ) -> Result<bool> {
        let (state, due_at, reason) = match record.transition {
            Transition::RetryAt(due_at) => (state::WAITING, Some(due_at), None),
            Transition::Delivered => (state::DELIVERED, None, None),
            Transition::Exhausted(reason) => (state::EXHAUSTED, None, Some(reason.name())),
        };
        let attempt = &record.attempt;
        let ended_at = due_at.is_none().then(|| attempt.at.plus(attempt.duration));
        let changed = self.hot.move_delivery.execute(params![
            state,
            place,
            due_at.map(Timestamp::as_millis),
            ended_at.map(Timestamp::as_millis),
            reason,
            record.lease.delivery.to_bytes(),
            record.lease.session.0 as i64,
            record.lease.fence,
            last_attempt,
        ])?;
        Ok(changed > 0)
    }

    fn count(&mut self, transition: Transition) -> Recorded {
        match transition {
            Transition::RetryAt(_) => {}
            Transition::Delivered => self.counted.end(1, StateName::Delivered),
            Transition::Exhausted(_) => self.counted.end(1, StateName::Exhausted),
        }
        Recorded::Applied
    }

    fn insert_attempt(
        &mut self,
        attempt: &Attempt,
        earlier: Option<i64>,
        place: i64,
    ) -> Result<()> {
        let (status, retry_after, failure) = match attempt.outcome {
            Outcome::Answered { status, retry_after } => (Some(status), retry_after, None),
            Outcome::Failed(failure) => (None, None, Some(failure.name())),
        };
        self.hot.insert_attempt.execute(params![
            place,
            earlier,
            attempt.number,
            attempt.at.as_millis(),
            nanoseconds(attempt.duration),
            nanoseconds(attempt.phases.dns),
            nanoseconds(attempt.phases.connect),
            nanoseconds(attempt.phases.tls),
            nanoseconds(attempt.phases.first_byte),
            status,
            retry_after.map(nanoseconds),
            failure,
            attempt.next_at.map(Timestamp::as_millis),
            attempt.request_head,
            attempt.response_excerpt,
        ])?;
        Ok(())
    }
}

/// The statements that every event needs, prepared once and held.
pub(crate) struct Hot<'c> {
    insert_event: Statement<'c>,
    insert_delivery: Statement<'c>,
    move_delivery: Statement<'c>,
    insert_attempt: Statement<'c>,
}

impl<'c> Hot<'c> {
    pub(crate) fn prepare(connection: &'c Connection) -> Result<Self> {
        let prepare =
            |sql| connection.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT);
        Ok(Self {
            insert_event: prepare(
                "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?,
            insert_delivery: prepare(
                "INSERT INTO deliveries VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, 0, NULL, ?7, ?7, NULL, NULL)",
            )?,
            move_delivery: prepare(
                "UPDATE deliveries SET state = ?1, session = NULL, attempts = attempts + 1, \
                 last_attempt = ?2, due_at = ?3, ended_at = ?4, reason = ?5 \
                 WHERE id = ?6 AND state = 1 AND session = ?7 AND fence = ?8 \
                 AND last_attempt IS ?9",
            )?,
            insert_attempt: prepare(
                "INSERT INTO attempts VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?,
        })
    }
}

/// The lane's deliveries in the order of the index, which needs no sorting.
pub(crate) const SELECT_DUE: &str = "SELECT id, event, fence, attempts, created_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3";

/// One seek in the index.
pub(crate) const SELECT_NEXT_DUE: &str = "SELECT id, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint = ?1 ORDER BY due_at LIMIT 1";

/// One seek in the index: the next endpoint that has something waiting, and its earliest instant.
pub(crate) const SELECT_NEXT_LANE: &str = "SELECT endpoint, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint > ?1 ORDER BY endpoint, due_at LIMIT 1";

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
struct Owned {
    account: AccountId,
    payload: Arc<Payload>,
}

/// About what accepting these writes: rows and pages.
fn weight(events: &[NewEvent]) -> usize {
    events.iter().map(|new| 1 + new.deliveries.len() + new.body.len() / PAGE_BYTES as usize).sum()
}

#[async_trait]
impl Queue for SqliteStore {
    async fn begin_session(&self, until: Timestamp) -> Answer<SessionId> {
        self.write(Haste::AtOnce, 1, move |ledger| ledger.begin_session(until)).await
    }

    async fn extend_session(&self, session: SessionId, until: Timestamp) -> Answer<Extended> {
        self.write(Haste::CanWait, 1, move |ledger| ledger.extend_session(session, until)).await
    }

    async fn release_expired(&self, now: Timestamp) -> Answer<usize> {
        self.write(Haste::AtOnce, 1, move |ledger| ledger.release_expired(now)).await
    }

    async fn accept(&self, session: SessionId, events: Vec<NewEvent>) -> Answer<Vec<Accepted>> {
        let weight = weight(&events);
        self.write(Haste::AtOnce, weight, move |ledger| ledger.accept(session, events)).await
    }

    async fn add_delivery(
        &self,
        session: SessionId,
        account: AccountId,
        event: EventId,
        delivery: NewDelivery,
        now: Timestamp,
    ) -> Answer<Added> {
        self.write(Haste::AtOnce, 2, move |ledger| {
            ledger
                .in_savepoint(|ledger| ledger.add_delivery(session, account, event, &delivery, now))
        })
        .await
    }

    async fn claim_due(
        &self,
        session: SessionId,
        now: Timestamp,
        lanes: Vec<LaneRoom>,
    ) -> Answer<Vec<LaneClaim>> {
        let weight = lanes.iter().map(|lane| lane.room).fold(0, usize::saturating_add);
        self.write(Haste::AtOnce, weight, move |ledger| {
            ledger.in_savepoint(|ledger| ledger.claim_due(session, now, &lanes))
        })
        .await
    }

    async fn give_back(&self, leases: Vec<Lease>) -> Answer<Vec<Recorded>> {
        self.write(Haste::AtOnce, leases.len(), move |ledger| ledger.give_back(&leases)).await
    }

    async fn record(&self, attempts: Vec<AttemptRecord>) -> Answer<Vec<Recorded>> {
        let weight = 2 * attempts.len();
        self.write(Haste::CanWait, weight, move |ledger| ledger.record(&attempts)).await
    }

    async fn waiting_lanes(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Answer<Vec<WaitingLane>> {
        self.read(move |connection| {
            let mut after = after.map_or_else(Vec::new, |after| after.to_bytes().to_vec());
            let mut lanes = Vec::new();
            while lanes.len() < limit {
                let next = find(connection, SELECT_NEXT_LANE, [&after], |row| {
                    let fields = Fields::new("deliveries", row);
                    Ok((fields.get::<[u8; 16]>("endpoint")?, fields.instant("due_at")?))
                })?;
                let Some((endpoint, due_at)) = next else { break };
                after = endpoint.to_vec();
                // What deleted endpoints still have is not claimable.
                let owner = "SELECT id, account FROM endpoints WHERE id = ?1";
                let account = find(connection, owner, [endpoint], |row| {
                    Fields::new("endpoints", row).id("account", AccountId::from_bytes)
                })?;
                if let Some(account) = account {
                    let endpoint = EndpointId::from_bytes(endpoint);
                    lanes.push(WaitingLane { endpoint, account, due_at });
                }
            }
            Ok(lanes)
        })
        .await
    }

    async fn clean(&self, now: Timestamp, rows_max: usize) -> Answer<bool> {
        self.write(Haste::AtOnce, rows_max, move |ledger| {
            ledger.in_savepoint(|ledger| ledger.clean(now, rows_max))
        })
        .await
    }

    async fn close(&self) -> Answer<()> {
        self.shut().await
    }
}
