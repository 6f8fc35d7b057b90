//! What has been kept as long as it is to be: payloads first, then whole events.
//!
//! Two passes walk the events in the order in which they were accepted, each with a cursor, so that
//! nothing is looked at twice for the same reason. What a pass meets before its time, because it
//! was scheduled or the clock was ahead, is remembered in `kept_longer` and met again then; a payload
//! that a delivery still needs, or a replay of what an endpoint missed, is remembered in
//! `pending_payloads`, of which every step looks at some. An event that is removed is out of sight at
//! once, with all its deliveries; those go out of storage as there is room. A row that nobody can
//! read is named in the log once and stays.
//!
//! Each of these has its share of every step, so that none waits for another to come to an end.
//! Neighbours: `settle` calls this when deleted endpoints and accounts have left nothing to do;
//! `cancel` erases exchanges; `space` gives pages back.

use std::time::Duration;

use domain::delivery::EndReason;
use domain::id::{AccountId, EndpointId};
use domain::retention::Retention;
use domain::time::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use store::queue::Cleaned;

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::filing::parse_born;
use crate::history::delivery_ids;
use crate::ledger::Ledger;
use crate::row::{Fields, missed_by, parse_not_made};
use crate::settle::sql_limit;
use crate::state;

/// So many bytes of a payload take about as long to remove as a row: each of their pages is read, to
/// find the next.
const BYTES_FREED_PER_ROW: usize = 32 * 1024;

/// Rows that are looked at in about the time in which one is written.
const LOOKED_AT_PER_ROW: usize = 16;

/// Events of `pending_payloads` that are looked at in one go.
pub(crate) const PENDING_LOOKED_AT: usize = 256;

/// What a walk over the events removes.
#[derive(Clone, Copy)]
enum Pass {
    Payloads,
    Events,
}

impl Pass {
    const fn name(self) -> &'static str {
        match self {
            Self::Payloads => "payloads",
            Self::Events => "events",
        }
    }

    const fn select_through(self) -> &'static str {
        match self {
            Self::Payloads => "SELECT payloads_through FROM cleaning",
            Self::Events => "SELECT events_through FROM cleaning",
        }
    }

    const fn set_through(self) -> &'static str {
        match self {
            Self::Payloads => "UPDATE cleaning SET payloads_through = ?1",
            Self::Events => "UPDATE cleaning SET events_through = ?1",
        }
    }
}

pub(crate) const SELECT_NEXT_EVENT: &str = "SELECT number, accepted_at, deliver_at FROM events \
     LEFT JOIN event_extras USING (number) WHERE events.number > ?1 ORDER BY events.number LIMIT 1";

pub(crate) const SELECT_KEPT_LONGER: &str = "SELECT owed_since, number FROM kept_longer \
     WHERE pass = ?1 AND owed_since <= ?2 ORDER BY owed_since, number LIMIT 1";

/// Some of what was pending.
pub(crate) const SELECT_PENDING: &str =
    "SELECT number FROM pending_payloads WHERE number > ?1 ORDER BY number LIMIT ?2";

pub(crate) const DELETE_ENDED_REPLAYS: &str = "DELETE FROM replays WHERE id IN \
     (SELECT id FROM replays WHERE ended_at <= ?1 LIMIT ?2)";

/// What has its share of every step.
#[derive(Clone, Copy)]
enum Part {
    Payloads,
    Records,
    Pages,
    Pending,
}

impl Part {
    const ALL: [Self; 4] = [Self::Payloads, Self::Records, Self::Pages, Self::Pending];
}

/// How far it went with an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The pass is done with it.
    Whole,
    /// It is not: the payload is still needed.
    Pending,
    /// There was no room for all of it; the next step goes on.
    InPart,
}

/// One step of cleaning: what it may still touch, and what it did.
pub(crate) struct Step {
    pub(crate) now: Timestamp,
    pub(crate) rows_left: usize,
    /// Rows that were read only, and not yet paid for.
    looked_at: usize,
    pub(crate) cleaned: Cleaned,
}

/// An event that was kept as long as it is to be.
struct Old {
    number: i64,
    account: AccountId,
    id: [u8; 16],
    deliveries: Vec<[u8; 16]>,
    /// Endpoints that can still be made a delivery: they wanted one and were made none at first.
    missed_by: Vec<[u8; 16]>,
    has_payload: bool,
    /// Bytes of the producer's data, if there is a payload.
    data_bytes: usize,
}

impl Step {
    pub(crate) fn new(now: Timestamp, rows_max: usize) -> Self {
        Self { now, rows_left: rows_max, looked_at: 0, cleaned: Cleaned::default() }
    }

    /// So many rows were read, most of them to no effect. They are paid for when all is done that
    /// they were read for ([`Self::pay_looks`]): else what takes many looks would never be done.
    pub(crate) const fn look(&mut self, rows: usize) {
        self.looked_at += rows;
    }

    pub(crate) const fn spend(&mut self, rows: usize) {
        self.rows_left = self.rows_left.saturating_sub(rows);
    }

    fn pay_looks(&mut self) {
        self.spend(self.looked_at / LOOKED_AT_PER_ROW);
        self.looked_at %= LOOKED_AT_PER_ROW;
    }
}

/// What removing an event's row, or its payload, costs in rows.
pub(crate) const fn rows_of_event(data_bytes: usize) -> usize {
    1 + data_bytes / BYTES_FREED_PER_ROW
}

impl Ledger<'_> {
    /// Removes what is to be kept no longer and gives its space back; answers whether that was all.
    pub(crate) fn keep_no_longer(
        &mut self,
        retention: &Retention,
        step: &mut Step,
    ) -> Result<bool> {
        let mut unfinished = Vec::new();
        for (number, part) in Part::ALL.into_iter().enumerate() {
            let share = step.rows_left.div_ceil(Part::ALL.len() - number);
            let of_others = step.rows_left - share;
            step.rows_left = share;
            if !self.go_on_with(part, retention, step)? {
                unfinished.push(part);
            }
            step.rows_left += of_others;
        }
        // What some did not need is for the others.
        let mut is_all = true;
        for part in unfinished {
            is_all &= step.rows_left > 0 && self.go_on_with(part, retention, step)?;
        }
        Ok(is_all)
    }

    /// Goes on with one part as far as there is room; answers whether there is nothing more to do.
    fn go_on_with(&mut self, part: Part, retention: &Retention, step: &mut Step) -> Result<bool> {
        let Retention { delivered_payloads_kept_for, records_kept_for } = *retention;
        match part {
            Part::Payloads => self.walk(Pass::Payloads, delivered_payloads_kept_for, step),
            Part::Records => Ok(self.remove_departed_events(step)?
                && self.forget_replays(records_kept_for, step)?
                && self.walk(Pass::Events, records_kept_for, step)?
                // What the last of them left.
                && self.remove_departed_events(step)?),
            Part::Pages => self.give_back_pages(step),
            Part::Pending => self.look_at_pending(step),
        }
    }

    /// Removes replays of many events that ended long ago; answers whether those were all.
    fn forget_replays(&mut self, kept_for: Duration, step: &mut Step) -> Result<bool> {
        let removed = self.execute(
            DELETE_ENDED_REPLAYS,
            params![step.now.minus(kept_for).as_millis(), sql_limit(step.rows_left)],
        )?;
        let is_all = removed < step.rows_left;
        step.rows_left -= removed;
        Ok(is_all)
    }

    /// Goes on with a pass; answers whether there is nothing more that is old enough.
    fn walk(&mut self, pass: Pass, kept_for: Duration, step: &mut Step) -> Result<bool> {
        let owed_until = step.now.minus(kept_for);
        if !self.come_back(pass, owed_until, step)? {
            return Ok(false);
        }
        let walked_before: i64 =
            self.prepare(pass.select_through())?.query_row([], |row| row.get(0))?;
        let mut through = walked_before;
        let is_all = self.walk_on(pass, owed_until, &mut through, step)?;
        if through != walked_before {
            self.execute(pass.set_through(), [through])?;
        }
        Ok(is_all)
    }

    fn walk_on(
        &mut self,
        pass: Pass,
        owed_until: Timestamp,
        through: &mut i64,
        step: &mut Step,
    ) -> Result<bool> {
        loop {
            let next = find(self.connection, SELECT_NEXT_EVENT, [*through], |row| {
                let fields = Fields::new("events", row);
                let accepted_at = fields.instant("accepted_at")?;
                Ok((fields.get("number")?, accepted_at, fields.instant_if_any("deliver_at")?))
            })?;
            let Some((number, accepted_at, deliver_at)) = next else { return Ok(true) };
            // What was accepted while the clock was ahead says nothing about what came after it.
            if accepted_at > owed_until && accepted_at <= step.now {
                return Ok(true);
            }
            if step.rows_left == 0 {
                return Ok(false);
            }
            let owed_since = deliver_at.map_or(accepted_at, |it| it.max(accepted_at));
            if owed_since > owed_until {
                self.execute(
                    "INSERT OR IGNORE INTO kept_longer VALUES (?1, ?2, ?3)",
                    params![pass.name(), owed_since.as_millis(), number],
                )?;
            } else if self.take(pass, number, step)? == Taken::InPart {
                return Ok(false);
            }
            *through = number;
            // Looking at it was work too.
            step.spend(1);
        }
    }

    /// Comes back to what the pass met before its time.
    fn come_back(&mut self, pass: Pass, owed_until: Timestamp, step: &mut Step) -> Result<bool> {
        loop {
            let next: Option<(i64, i64)> = self
                .prepare(SELECT_KEPT_LONGER)?
                .query_row(params![pass.name(), owed_until.as_millis()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((owed_since, number)) = next else { return Ok(true) };
            if step.rows_left == 0 || self.take(pass, number, step)? == Taken::InPart {
                return Ok(false);
            }
            self.execute(
                "DELETE FROM kept_longer WHERE pass = ?1 AND owed_since = ?2 AND number = ?3",
                params![pass.name(), owed_since, number],
            )?;
            step.spend(1);
        }
    }

    /// Looks again at some of what was still needed when the payloads around it went; answers `true`
    /// if there was nothing to do for any of it.
    fn look_at_pending(&mut self, step: &mut Step) -> Result<bool> {
        let looked_at_before: i64 = self
            .prepare("SELECT pending_through FROM cleaning")?
            .query_row([], |row| row.get(0))?;
        let numbers: Vec<i64> = self
            .prepare(SELECT_PENDING)?
            .query_map(params![looked_at_before, PENDING_LOOKED_AT as i64], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let is_last = numbers.len() < PENDING_LOOKED_AT;
        let (mut through, mut did_something, mut has_room) = (looked_at_before, false, true);
        for number in numbers {
            has_room = step.rows_left > 0;
            if !has_room {
                break;
            }
            match self.take(Pass::Payloads, number, step)? {
                Taken::InPart => {
                    (did_something, has_room) = (true, false);
                    break;
                }
                Taken::Pending => {}
                Taken::Whole => {
                    did_something = true;
                    self.execute("DELETE FROM pending_payloads WHERE number = ?1", [number])?;
                }
            }
            through = number;
        }
        let has_looked = through != looked_at_before || (is_last && has_room);
        if is_last && has_room {
            // From the start again.
            through = 0;
        }
        if through != looked_at_before {
            self.execute("UPDATE cleaning SET pending_through = ?1", [through])?;
        }
        // After looks to no effect, the next round goes on.
        Ok(has_looked && !did_something)
    }

    /// Does with the event what the pass is for.
    fn take(&mut self, pass: Pass, number: i64, step: &mut Step) -> Result<Taken> {
        let cleaned_before = step.cleaned;
        let taken = self.in_savepoint(|ledger| {
            let Some(old) = ledger.old(number)? else { return Ok(Taken::Whole) };
            match pass {
                Pass::Payloads => ledger.remove_payload(&old, step),
                Pass::Events => ledger.remove_event(&old, step),
            }
        });
        step.pay_looks();
        taken.or_else(|failure| {
            step.cleaned = cleaned_before;
            if !is_of_one_row(&failure) {
                return Err(failure);
            }
            tracing::error!(%failure, event = number, "cleaning passed over a row");
            Ok(Taken::Whole)
        })
    }

    fn old(&self, number: i64) -> Result<Option<Old>> {
        let sql = "SELECT id, account, deliveries, not_made, data_length, \
                   body IS NOT NULL AS has_payload FROM events WHERE number = ?1";
        find(self.connection, sql, [number], |row| {
            let fields = Fields::new("events", row);
            let deliveries = delivery_ids(self.connection, number, &fields)?;
            let not_made = fields.decode("not_made", parse_not_made)?;
            let has_payload = fields.get("has_payload")?;
            Ok(Old {
                number,
                account: fields.id("account", AccountId::from_bytes)?,
                id: fields.get("id")?,
                deliveries: deliveries.into_iter().collect(),
                missed_by: missed_by(&not_made).map(EndpointId::to_bytes).collect(),
                has_payload,
                data_bytes: if has_payload { fields.count("data_length")? as usize } else { 0 },
            })
        })
    }

    /// Removes payload and exchanges of an event that everybody got or nobody wanted. What somebody
    /// did not get is left to the other pass; what an endpoint missed may yet be made up for.
    fn remove_payload(&mut self, old: &Old, step: &mut Step) -> Result<Taken> {
        step.look(old.deliveries.len());
        if old.has_payload {
            let mut missed_by = old.missed_by.clone();
            let mut is_pending = false;
            for id in &old.deliveries {
                let found: Option<(i64, [u8; 16])> = self
                    .prepare("SELECT state, endpoint FROM deliveries WHERE id = ?1")?
                    .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((state, endpoint)) = found else { continue };
                missed_by.retain(|missed| *missed != endpoint);
                match state {
                    state::DELIVERED | state::CANCELLED => {}
                    state::WAITING | state::LEASED | state::BEHIND | state::FRESH => {
                        is_pending = true;
                    }
                    _ => return Ok(Taken::Whole),
                }
            }
            if is_pending || !missed_by.is_empty() {
                self.execute("INSERT OR IGNORE INTO pending_payloads VALUES (?1)", [old.number])?;
                return Ok(Taken::Pending);
            }
        }
        // Also where there is no payload: erasing leaves exchanges if they are many.
        if !self.erase_exchanges(&old.deliveries, step)? {
            return Ok(Taken::InPart);
        }
        if !old.has_payload {
            return Ok(Taken::Whole);
        }
        if step.rows_left == 0 {
            return Ok(Taken::InPart);
        }
        step.spend(rows_of_event(old.data_bytes));
        self.execute("UPDATE events SET body = NULL WHERE number = ?1", [old.number])?;
        step.cleaned.payloads += 1;
        Ok(Taken::Whole)
    }

    /// Takes an event out of sight, once nothing of it is pending, and what is left of it out of
    /// storage.
    fn remove_event(&mut self, old: &Old, step: &mut Step) -> Result<Taken> {
        step.look(old.deliveries.len());
        for id in &old.deliveries {
            if step.rows_left == 0 {
                return Ok(Taken::InPart);
            }
            if self.cancel_one(*id, EndReason::Expired, step.now)? {
                step.cleaned.expired += 1;
                step.rows_left -= 1;
            }
        }
        if step.rows_left == 0 {
            return Ok(Taken::InPart);
        }
        // What is not filed yet would be filed when it is gone.
        self.file_through(old.number)?;
        self.execute(
            "DELETE FROM events_by_account WHERE account = ?1 AND id = ?2",
            [old.account.to_bytes(), old.id],
        )?;
        self.execute(
            "INSERT INTO departed_events SELECT number, deliveries FROM events WHERE number = ?1",
            [old.number],
        )?;
        self.execute("DELETE FROM events WHERE number = ?1", [old.number])?;
        self.execute("DELETE FROM event_extras WHERE number = ?1", [old.number])?;
        step.cleaned.events += 1;
        step.spend(rows_of_event(old.data_bytes));
        // What there is no room for is next in line: the event itself is done with.
        self.remove_departed_events(step)?;
        Ok(Taken::Whole)
    }

    /// Removes deliveries of removed events with their attempts; answers whether those were all.
    fn remove_departed_events(&mut self, step: &mut Step) -> Result<bool> {
        loop {
            let next: Option<(i64, Vec<u8>)> = self
                .prepare("SELECT number, deliveries FROM departed_events LIMIT 1")?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((number, born)) = next else { return Ok(true) };
            if step.rows_left == 0 {
                return Ok(false);
            }
            let mut deliveries: Vec<_> = parse_born(&born)
                .unwrap_or_default()
                .into_iter()
                .map(|born| (born.endpoint, born.id))
                .collect();
            let replays = "SELECT deliveries.endpoint, replayed.delivery FROM replayed \
                           CROSS JOIN deliveries ON deliveries.id = replayed.delivery \
                           WHERE replayed.event = ?1 AND length(replayed.delivery) = 16 \
                           AND length(deliveries.endpoint) = 16";
            let mut statement = self.prepare(replays)?;
            let replays = statement.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
            for replay in replays {
                deliveries.push(replay?);
            }
            step.look(deliveries.len());
            for (endpoint, id) in deliveries {
                if !self.remove_delivery(id, &mut step.rows_left)? {
                    return Ok(false);
                }
                self.unfile_delivery(endpoint, id)?;
            }
            self.execute("DELETE FROM replayed WHERE event = ?1", [number])?;
            self.execute("DELETE FROM departed_events WHERE number = ?1", [number])?;
            step.spend(1);
            step.pay_looks();
        }
    }

    /// Takes a removed delivery out of its endpoint's list, and the endpoint out of storage if it
    /// was deleted and this was the last of its history.
    fn unfile_delivery(&self, endpoint: [u8; 16], id: [u8; 16]) -> Result<()> {
        self.execute(
            "DELETE FROM deliveries_by_endpoint WHERE endpoint = ?1 AND id = ?2",
            [endpoint, id],
        )?;
        self.execute(
            "DELETE FROM departed_endpoints WHERE id = ?1 AND settled = 1 AND NOT EXISTS \
             (SELECT 1 FROM deliveries_by_endpoint WHERE endpoint = ?1)",
            [endpoint],
        )?;
        Ok(())
    }
}

/// Whether the failure is that of one row, which says something we never write.
fn is_of_one_row(failure: &Failure) -> bool {
    match failure {
        Failure::Unreadable { .. } => true,
        Failure::Sqlite(error) => error.sqlite_error().is_none(),
        Failure::Commit(_) | Failure::NoRoom => false,
    }
}
