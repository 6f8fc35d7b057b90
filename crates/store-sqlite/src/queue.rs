//! The queue's half of the port: sessions and waiting lanes here, the rest where it is done.

use async_trait::async_trait;
use domain::id::{AccountId, EndpointId, EventId};
use domain::time::Timestamp;
use store::queue::{
    Accepted, Added, AttemptRecord, Extended, LaneClaim, LaneRoom, Lease, NewDelivery, NewEvent,
    Queue, Recorded, SessionId, WaitingLane,
};

use crate::accept::weight;
use crate::catalogue::find;
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::Fields;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// One seek in the index: the next endpoint that has something waiting, and its earliest instant.
pub(crate) const SELECT_NEXT_LANE: &str = "SELECT endpoint, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint > ?1 ORDER BY endpoint, due_at LIMIT 1";

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
        // A remembered key that cannot be read refuses its event, and must not keep half the others.
        let may_fail = events.len() > 1 && events.iter().any(|new| new.idempotency.is_some());
        self.write(Haste::AtOnce, weight, move |ledger| {
            if may_fail {
                ledger.in_savepoint(|ledger| ledger.accept(session, events))
            } else {
                ledger.accept(session, events)
            }
        })
        .await
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
