//! Replays of many events in SQLite.
//!
//! A step goes on after the last event it looked at. Neighbours: `walk` finds the events, `accept`
//! makes the deliveries.

use async_trait::async_trait;
use domain::audit::AuditNote;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, ReplayId};
use domain::limits::{PAGE_ROWS_SCANNED_MAX, REPLAYS_PER_ENDPOINT_MAX};
use domain::page::{Page, PageRequest};
use domain::replay::{Replay, ReplayFate, ReplaySelection, ReplayState};
use domain::time::Timestamp;
use rusqlite::{Connection, Row, params};
use store::queue::NewDelivery;
use store::replays::{ReplayCount, ReplayCreated, ReplayStep, Replays};

use crate::catalogue::find;
use crate::failure::Result;
use crate::filing::unfiled_events;
use crate::ledger::Ledger;
use crate::page::{id_below, page_of_rows};
use crate::row::Fields;
use crate::walk::{Next, Walk, is_wanted, unless_unreadable};
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

fn replay(row: &Row<'_>) -> Result<Replay> {
    let fields = Fields::new("replays", row);
    Ok(Replay {
        id: fields.id("id", ReplayId::from_bytes)?,
        account: fields.id("account", AccountId::from_bytes)?,
        endpoint: fields.id("endpoint", EndpointId::from_bytes)?,
        selection: ReplaySelection {
            fate: fields.parse("fate", ReplayFate::from_name)?,
            since: fields.instant("since")?,
            until: fields.instant("until")?,
        },
        per_second: fields.get("per_second")?,
        state: fields.parse("state", ReplayState::from_name)?,
        looked_at: fields.count("looked_at")?,
        created: fields.count("created")?,
        through: fields.get::<Option<_>>("through")?.map(EventId::from_bytes),
        created_at: fields.instant("created_at")?,
        ended_at: fields.instant_if_any("ended_at")?,
    })
}

/// What deleted accounts still have is nobody's.
macro_rules! of_an_account {
    () => {
        " AND NOT EXISTS (SELECT 1 FROM departed_accounts WHERE departed_accounts.id = account)"
    };
}

fn read_replay(connection: &Connection, id: ReplayId) -> Result<Option<Replay>> {
    let sql = concat!("SELECT * FROM replays WHERE id = ?1", of_an_account!());
    find(connection, sql, [id.to_bytes()], replay)
}

pub(crate) const COUNT_RUNNING: &str = "SELECT count(*) \
     FROM replays INDEXED BY replays_running_by_endpoint WHERE state = 'running' AND endpoint = ?1";
pub(crate) const SELECT_RUNNING: &str = concat!(
    "SELECT * FROM replays INDEXED BY replays_running WHERE state = 'running' AND id > ?1",
    of_an_account!(),
    " ORDER BY id LIMIT ?2"
);
pub(crate) const LIST: &str =
    concat!("SELECT * FROM replays WHERE id < ?1", of_an_account!(), " ORDER BY id DESC LIMIT ?2");
pub(crate) const LIST_OF_ACCOUNT: &str = concat!(
    "SELECT * FROM replays WHERE id < ?1 AND account = ?3",
    of_an_account!(),
    " ORDER BY id DESC LIMIT ?2"
);
pub(crate) const LIST_OF_ENDPOINT: &str = concat!(
    "SELECT * FROM replays WHERE id < ?1 AND endpoint = ?4 AND +account = coalesce(?3, account)",
    of_an_account!(),
    " ORDER BY id DESC LIMIT ?2"
);

impl Ledger<'_> {
    fn create_replay(&self, replay: &Replay) -> Result<ReplayCreated> {
        let (account, endpoint) = (replay.account.to_bytes(), replay.endpoint.to_bytes());
        let belongs = "SELECT 1 FROM endpoints WHERE id = ?1 AND account = ?2";
        if !self.prepare(belongs)?.exists([endpoint, account])? {
            return Ok(ReplayCreated::NoEndpoint);
        }
        let running: i64 = self.prepare(COUNT_RUNNING)?.query_row([endpoint], |row| row.get(0))?;
        if running >= REPLAYS_PER_ENDPOINT_MAX as i64 {
            return Ok(ReplayCreated::LimitReached);
        }
        self.execute(
            "INSERT INTO replays VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            params![
                replay.id.to_bytes(),
                account,
                endpoint,
                replay.selection.fate.name(),
                replay.selection.since.as_millis(),
                replay.selection.until.as_millis(),
                replay.per_second,
                replay.state.name(),
                replay.looked_at as i64,
                replay.created as i64,
                replay.through.map(EventId::to_bytes),
                replay.created_at.as_millis(),
                replay.ended_at.map(Timestamp::as_millis),
            ],
        )?;
        Ok(ReplayCreated::Created)
    }

    fn step_replay(
        &mut self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Result<Option<ReplayStep>> {
        let found = read_replay(self.connection, id)?;
        let Some(mut replay) = found.filter(|it| it.state == ReplayState::Running) else {
            return Ok(None);
        };
        let created_before = replay.created;
        let has_endpoint = "SELECT 1 FROM endpoints WHERE id = ?1";
        if self.prepare(has_endpoint)?.exists([replay.endpoint.to_bytes()])? {
            self.go_on(&mut replay, deliveries, rows_max, now)?;
        } else {
            (replay.state, replay.ended_at) = (ReplayState::Cancelled, Some(now));
        }
        self.update_replay(&replay)?;
        if replay.state != ReplayState::Running {
            self.write_down(&replay.ended_note(now))?;
        }
        let created = (replay.created - created_before) as usize;
        Ok(Some(ReplayStep { replay, created }))
    }

    fn go_on(
        &mut self,
        replay: &mut Replay,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Result<()> {
        let Replay { account, endpoint, selection, .. } = *replay;
        let (mut ids, mut rows_left) = (deliveries.into_iter(), rows_max);
        let unfiled = self.unfiled_of(account)?;
        let connection = self.connection;
        let mut walk = Walk::of(connection, unfiled, replay)?;
        loop {
            match walk.next(connection)? {
                Next::Event(_) if rows_left == 0 || ids.len() == 0 => return Ok(()),
                Next::Event(candidate) => {
                    let (is_wanted, rows) =
                        is_wanted(connection, candidate, endpoint, selection.fate)?;
                    rows_left = rows_left.saturating_sub(rows);
                    replay.looked_at += 1;
                    replay.through = Some(candidate.id);
                    if is_wanted && let Some(id) = ids.next() {
                        let new = NewDelivery { id, endpoint, leased: false, ordering_key: None };
                        self.insert_replay(candidate.number, &new, None, now)?;
                        replay.created += 1;
                    }
                }
                Next::End => {
                    (replay.state, replay.ended_at) = (ReplayState::Done, Some(now));
                    return Ok(());
                }
                Next::Pause => {
                    replay.through = walk.last_read.or(replay.through);
                    return Ok(());
                }
            }
        }
    }

    fn cancel_replay(&self, id: ReplayId, now: Timestamp) -> Result<Option<(Replay, bool)>> {
        let Some(mut replay) = read_replay(self.connection, id)? else { return Ok(None) };
        let is_running = replay.state == ReplayState::Running;
        if is_running {
            (replay.state, replay.ended_at) = (ReplayState::Cancelled, Some(now));
            self.update_replay(&replay)?;
        }
        Ok(Some((replay, is_running)))
    }

    fn update_replay(&self, replay: &Replay) -> Result<()> {
        self.execute(
            "UPDATE replays SET state = ?2, looked_at = ?3, created = ?4, through = ?5, \
             ended_at = ?6 WHERE id = ?1",
            params![
                replay.id.to_bytes(),
                replay.state.name(),
                replay.looked_at as i64,
                replay.created as i64,
                replay.through.map(EventId::to_bytes),
                replay.ended_at.map(Timestamp::as_millis),
            ],
        )?;
        Ok(())
    }
}

fn count_replay(
    connection: &Connection,
    account: AccountId,
    endpoint: EndpointId,
    selection: ReplaySelection,
    rows_max: usize,
) -> Result<ReplayCount> {
    let unfiled = unfiled_events(connection, account)?;
    let mut walk = Walk::begin(connection, unfiled, account, selection, None)?
        .reading_outside(PAGE_ROWS_SCANNED_MAX);
    let (mut events, mut rows_left) = (0, rows_max);
    loop {
        match walk.next(connection)? {
            Next::End => return Ok(ReplayCount { events, is_complete: true }),
            Next::Event(candidate) if rows_left > 0 => {
                let (is_wanted, rows) = is_wanted(connection, candidate, endpoint, selection.fate)?;
                rows_left = rows_left.saturating_sub(rows);
                events += u64::from(is_wanted);
            }
            Next::Event(_) | Next::Pause => return Ok(ReplayCount { events, is_complete: false }),
        }
    }
}

#[async_trait]
impl Replays for SqliteStore {
    async fn create_replay(&self, replay: Replay, note: AuditNote) -> Answer<ReplayCreated> {
        let is_change = |created: &ReplayCreated| *created == ReplayCreated::Created;
        self.write_noted(1, note, is_change, move |ledger| ledger.create_replay(&replay)).await
    }

    async fn read_replay(&self, id: ReplayId) -> Answer<Option<Replay>> {
        self.read(move |connection| read_replay(connection, id)).await
    }

    async fn list_replays(
        &self,
        account: Option<AccountId>,
        endpoint: Option<EndpointId>,
        page: PageRequest,
    ) -> Answer<Page<Replay>> {
        self.read(move |connection| {
            let (below, rows) = (id_below(page.before), page.limit as i64 + 1);
            let account = account.map(AccountId::to_bytes);
            let read = |row: &Row<'_>| {
                let replay = replay(row)?;
                Ok((replay.id.as_u128(), replay))
            };
            match (endpoint, account) {
                (Some(endpoint), account) => {
                    let parameters = params![below, rows, account, endpoint.to_bytes()];
                    page_of_rows(connection, LIST_OF_ENDPOINT, parameters, page.limit, read)
                }
                (None, Some(account)) => {
                    let parameters = params![below, rows, account];
                    page_of_rows(connection, LIST_OF_ACCOUNT, parameters, page.limit, read)
                }
                (None, None) => {
                    page_of_rows(connection, LIST, params![below, rows], page.limit, read)
                }
            }
        })
        .await
    }

    async fn running_replays(&self, after: Option<ReplayId>, limit: usize) -> Answer<Vec<Replay>> {
        self.read(move |connection| {
            let after = after.map_or_else(Vec::new, |after| after.to_bytes().to_vec());
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(SELECT_RUNNING)?;
            let mut rows = statement.query(params![after, limit])?;
            let mut running = Vec::new();
            while let Some(row) = rows.next()? {
                // One that nobody can read must not stop the others.
                running.extend(unless_unreadable(replay(row))?);
            }
            Ok(running)
        })
        .await
    }

    async fn step_replay(
        &self,
        id: ReplayId,
        deliveries: Vec<DeliveryId>,
        rows_max: usize,
        now: Timestamp,
    ) -> Answer<Option<ReplayStep>> {
        let weight = rows_max + 3 * deliveries.len();
        self.write(Haste::CanWait, weight, move |ledger| {
            ledger.in_savepoint(|ledger| ledger.step_replay(id, deliveries, rows_max, now))
        })
        .await
    }

    async fn cancel_replay(&self, id: ReplayId, note: AuditNote) -> Answer<Option<Replay>> {
        let now = note.at;
        let is_change = |ended: &Option<(Replay, bool)>| {
            ended.as_ref().is_some_and(|(_, was_running)| *was_running)
        };
        let ended =
            self.write_noted(1, note, is_change, move |ledger| ledger.cancel_replay(id, now)).await;
        Ok(ended?.map(|(replay, _)| replay))
    }

    async fn count_replay(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        selection: ReplaySelection,
        rows_max: usize,
    ) -> Answer<ReplayCount> {
        self.read(move |connection| {
            count_replay(connection, account, endpoint, selection, rows_max)
        })
        .await
    }
}
