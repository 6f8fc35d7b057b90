//! The queue's half of the port: sessions and waiting lanes here, the rest where it is done.

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::limits::TRIAL_AFTER_LOST_CLAIMS;
use domain::retention::Retention;
use domain::time::Timestamp;
use store::StoreError;
use store::queue::{
    Accepted, Added, AttemptRecord, Cancelled, Cleaned, Extended, GivenBack, LaneClaim, LaneRoom,
    Lease, NewDelivery, NewEvent, Queue, Recorded, SessionId, WaitingLane,
};

use crate::accept::{seal_bodies, weight};
use crate::cancel::deliveries_and_attempts;
use crate::catalogue::find;
use crate::claim::{losing, open_payloads};
use crate::failure::{Failure, Result};
use crate::ledger::Ledger;
use crate::record::SealedRecord;
use crate::row::Fields;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// One seek in the index: the next endpoint that has something waiting, and its earliest instant.
pub(crate) const SELECT_NEXT_LANE: &str = "SELECT endpoint, due_at \
     FROM deliveries INDEXED BY deliveries_open \
     WHERE state = 0 AND endpoint > ?1 ORDER BY endpoint, due_at LIMIT 1";

/// About what cancelling a delivery writes, with the entry in the audit log.
const FEW_ROWS: usize = 8;

/// About what each further delivery of an event costs that is cancelled: its row and its line.
const ROWS_PER_CANCELLED: usize = 2;

/// Most exchanges that are erased in one step; about 20 ms.
const ERASED_AT_ONCE: usize = 5_000;

/// Most bytes that are sealed on the caller's thread: a fraction of a millisecond, which other work
/// that waits for the thread does not notice.
const SEALED_HERE_BYTES_MAX: usize = 256 * 1024;

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
        self.index_fresh()?;
        self.execute(
            concat!(
                "UPDATE deliveries INDEXED BY deliveries_open SET ",
                losing!(),
                " WHERE state = 1 AND session NOT IN (SELECT number FROM sessions)"
            ),
            [TRIAL_AFTER_LOST_CLAIMS],
        )
    }
}

impl SqliteStore {
    /// Seals the events' bodies, elsewhere if that takes long.
    async fn seal_events(&self, mut events: Vec<NewEvent>) -> Answer<Vec<NewEvent>> {
        let bytes: usize = events.iter().map(|new| new.body.len()).sum();
        if bytes <= SEALED_HERE_BYTES_MAX {
            seal_bodies(&self.vault, &mut events);
            return Ok(events);
        }
        let vault = self.vault();
        let sealing = tokio::task::spawn_blocking(move || {
            seal_bodies(&vault, &mut events);
            events
        });
        sealing.await.map_err(|_| stopping())
    }

    /// Opens the payloads of what was claimed. What does not open would come first in its lane for
    /// ever: it is set aside, and the rest is claimed.
    async fn open_claims(
        &self,
        mut claims: Vec<LaneClaim>,
        now: Timestamp,
    ) -> Answer<Vec<LaneClaim>> {
        let claimed = claims.iter().flat_map(|claim| &claim.claimed);
        let leases: Vec<_> = claimed.map(|claimed| claimed.lease).collect();
        if leases.is_empty() {
            return Ok(claims);
        }
        let vault = self.vault();
        let opening = tokio::task::spawn_blocking(move || {
            let shut = open_payloads(&vault, &mut claims);
            (claims, shut)
        });
        let Ok((claims, shut)) = opening.await else {
            self.give_back(leases, GivenBack::Unused).await?;
            return Err(stopping());
        };
        if !shut.is_empty()
            && let Err(error) = self.set_aside(shut, now).await
        {
            // They stay leased until the session ends; the others must not.
            tracing::error!(%error, "could not set aside deliveries whose payload does not open");
        }
        Ok(claims)
    }
}

impl SqliteStore {
    /// Erases an event, at most `rows_max` exchanges in each step. Answers when all is erased.
    pub(crate) async fn erase_in_steps(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
        rows_max: usize,
    ) -> Answer<Cancelled> {
        let now = note.at;
        let (deliveries, attempts) =
            self.read(move |connection| deliveries_and_attempts(connection, event)).await?;
        let weight = FEW_ROWS + ROWS_PER_CANCELLED * deliveries + attempts.min(rows_max);
        let erased = self
            .write_noted(weight, note, is_cancelled, move |ledger| {
                ledger.erase_event(account, event, now, rows_max)
            })
            .await?;
        if is_cancelled(&erased) && attempts > rows_max {
            let step = move |ledger: &mut Ledger<'_>| {
                ledger.in_savepoint(|ledger| ledger.erase_rest(account, event, now, rows_max))
            };
            while !self.write(Haste::AtOnce, rows_max, step).await? {}
        }
        Ok(erased)
    }
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the process is stopping".to_owned())
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
        let events = self.seal_events(events).await?;
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
        note: AuditNote,
    ) -> Answer<Added> {
        let now = note.at;
        let is_change = |added: &Added| matches!(added, Added::Created(_));
        self.write_noted(3, note, is_change, move |ledger| {
            ledger.add_delivery(session, account, event, &delivery, now)
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
        let claim = move |ledger: &mut Ledger<'_>| {
            ledger.in_savepoint(|ledger| ledger.claim_due(session, now, &lanes))
        };
        let claims = self.write(Haste::AtOnce, weight, claim).await?;
        self.open_claims(claims, now).await
    }

    async fn give_back(&self, leases: Vec<Lease>, why: GivenBack) -> Answer<Vec<Recorded>> {
        self.write(Haste::AtOnce, leases.len(), move |ledger| ledger.give_back(&leases, why)).await
    }

    async fn begin_trial(&self, lease: Lease) -> Answer<Recorded> {
        self.write(Haste::AtOnce, 1, move |ledger| ledger.begin_trial(lease)).await
    }

    async fn set_aside(&self, leases: Vec<Lease>, at: Timestamp) -> Answer<Vec<Recorded>> {
        self.write(Haste::AtOnce, leases.len(), move |ledger| ledger.set_aside(&leases, at)).await
    }

    async fn record(&self, attempts: Vec<AttemptRecord>) -> Answer<Vec<Recorded>> {
        let weight = 2 * attempts.len();
        let seal = |record| SealedRecord::of(record, &self.vault);
        let attempts: Vec<_> = attempts.into_iter().map(seal).collect();
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
                });
                match account {
                    Ok(Some(account)) => {
                        let endpoint = EndpointId::from_bytes(endpoint);
                        lanes.push(WaitingLane { endpoint, account, due_at });
                    }
                    Ok(None) => {}
                    // Its deliveries wait; the others' must not.
                    Err(failure @ Failure::Unreadable { .. }) => {
                        tracing::error!(%failure, "an endpoint's deliveries cannot be claimed");
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Ok(lanes)
        })
        .await
    }

    async fn clean(
        &self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Answer<Cleaned> {
        let retention = *retention;
        self.write(Haste::AtOnce, rows_max, move |ledger| {
            ledger.in_savepoint(|ledger| ledger.clean(now, &retention, rows_max))
        })
        .await
    }

    async fn close(&self) -> Answer<()> {
        self.shut().await
    }

    async fn cancel_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Answer<Cancelled> {
        let now = note.at;
        let (deliveries, _) =
            self.read(move |connection| deliveries_and_attempts(connection, event)).await?;
        let weight = FEW_ROWS + ROWS_PER_CANCELLED * deliveries;
        self.write_noted(weight, note, is_cancelled, move |ledger| {
            ledger.cancel_event(account, event, now)
        })
        .await
    }

    async fn cancel_delivery(
        &self,
        account: AccountId,
        delivery: DeliveryId,
        note: AuditNote,
    ) -> Answer<Cancelled> {
        let now = note.at;
        self.write_noted(FEW_ROWS, note, is_cancelled, move |ledger| {
            ledger.cancel_delivery(account, delivery, now)
        })
        .await
    }

    async fn erase_event(
        &self,
        account: AccountId,
        event: EventId,
        note: AuditNote,
    ) -> Answer<Cancelled> {
        self.erase_in_steps(account, event, note, ERASED_AT_ONCE).await
    }
}

fn is_cancelled(cancelled: &Cancelled) -> bool {
    matches!(cancelled, Cancelled::Deliveries(_))
}
