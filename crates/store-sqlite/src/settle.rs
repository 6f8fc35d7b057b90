//! What deleting leaves to do, and forgetting.
//!
//! A deleted endpoint or account is gone at once: its rows in the catalogue are. What it leaves,
//! which may be millions of rows, is settled in bounded steps, and a row in `departed_endpoints`
//! or `departed_accounts` tells readers how to look at it until then. Leased deliveries are ended
//! at once, so that recording an attempt never has to ask: they are in an engine's memory too,
//! which bounds their number.

use domain::delivery::{EndReason, StateName};
use domain::id::{AccountId, EndpointId};
use domain::retention::Retention;
use domain::time::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use store::catalogue::DeletedHistory;
use store::queue::Cleaned;

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::retention::{Step, rows_of_event};

/// Rows that are settled in the transaction that deletes, which is all there are of most endpoints.
pub(crate) const SETTLED_AT_ONCE_ROWS: usize = 500;

/// Events of an account, and the size of what each of them still has.
pub(crate) const SELECT_EVENTS_OF_ACCOUNT: &str = "SELECT filed.id, number, \
     CASE WHEN body IS NULL THEN 0 ELSE data_length END FROM events_by_account AS filed \
     LEFT JOIN events ON events.id = filed.id WHERE filed.account = ?1 ORDER BY filed.id LIMIT ?2";

/// A deleted endpoint that still has something to settle.
struct Departed {
    id: [u8; 16],
    removes_history: bool,
    at: i64,
}

impl Ledger<'_> {
    pub(crate) fn delete_endpoint(
        &mut self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        now: Timestamp,
    ) -> Result<bool> {
        let deleted = self.execute(
            "DELETE FROM endpoints WHERE id = ?1 AND account = ?2",
            [id.to_bytes(), account.to_bytes()],
        )?;
        if deleted == 0 {
            return Ok(false);
        }
        self.bump_roster(account)?;
        self.file()?;
        self.execute("DELETE FROM streaks WHERE endpoint = ?1", [id.to_bytes()])?;
        let history = match history {
            DeletedHistory::Keep => "keep",
            DeletedHistory::Remove => "remove",
        };
        self.execute(
            "INSERT INTO departed_endpoints VALUES (?1, ?2, ?3, ?4, 0)",
            params![id.to_bytes(), account.to_bytes(), history, now.as_millis()],
        )?;
        self.cancel(
            "UPDATE deliveries INDEXED BY deliveries_open \
             SET state = 4, session = NULL, due_at = NULL, ended_at = ?2, reason = ?3 \
             WHERE state = 1 AND endpoint = ?1",
            params![id.to_bytes(), now.as_millis(), EndReason::EndpointDeleted.name()],
        )?;
        let mut rows_left = SETTLED_AT_ONCE_ROWS;
        self.settle_endpoints(&mut rows_left)?;
        Ok(true)
    }

    pub(crate) fn delete_account(&mut self, id: AccountId) -> Result<bool> {
        let account = [id.to_bytes()];
        if self.execute("DELETE FROM accounts WHERE id = ?1", account)? == 0 {
            return Ok(false);
        }
        self.forget_roster(id);
        self.file()?;
        self.execute("DELETE FROM keys WHERE account = ?1", account)?;
        self.execute("INSERT INTO departed_accounts VALUES (?1)", account)?;
        self.execute("DELETE FROM meta WHERE name = 'operations_account' AND value = ?1", account)?;
        self.execute(
            "DELETE FROM streaks WHERE endpoint IN (SELECT id FROM endpoints WHERE account = ?1)",
            account,
        )?;
        // Nobody will see when they ended.
        self.execute(
            "INSERT INTO departed_endpoints \
             SELECT id, account, 'remove', 0, 0 FROM endpoints WHERE account = ?1",
            account,
        )?;
        self.execute("DELETE FROM endpoints WHERE account = ?1", account)?;
        self.execute(
            "UPDATE departed_endpoints SET history = 'remove', settled = 0 WHERE account = ?1",
            account,
        )?;
        self.cancel(
            "UPDATE deliveries INDEXED BY deliveries_open \
             SET state = 4, session = NULL, due_at = NULL, ended_at = 0, reason = ?2 \
             WHERE state = 1 AND endpoint IN \
             (SELECT id FROM departed_endpoints WHERE account = ?1)",
            params![id.to_bytes(), EndReason::EndpointDeleted.name()],
        )?;
        let mut rows_left = SETTLED_AT_ONCE_ROWS;
        self.settle_endpoints(&mut rows_left)?;
        self.settle_accounts(&mut rows_left)?;
        Ok(true)
    }

    pub(crate) fn clean(
        &mut self,
        now: Timestamp,
        retention: &Retention,
        rows_max: usize,
    ) -> Result<Cleaned> {
        let mut step = Step::new(now, rows_max);
        self.settle_endpoints(&mut step.rows_left)?;
        self.settle_accounts(&mut step.rows_left)?;
        self.forget_keys(now, &mut step.rows_left)?;
        let more = "SELECT EXISTS (SELECT 1 FROM departed_endpoints WHERE settled = 0) \
                    OR EXISTS (SELECT 1 FROM departed_accounts) \
                    OR EXISTS (SELECT 1 FROM idempotency_keys WHERE kept_until <= ?1)";
        let has_more = self.prepare(more)?.query_row([now.as_millis()], |row| row.get(0))?;
        step.cleaned.has_more = has_more || !self.keep_no_longer(retention, &mut step)?;
        Ok(step.cleaned)
    }

    /// Runs a statement that cancels pending deliveries; answers how many.
    fn cancel(&mut self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
        let cancelled = self.execute(sql, parameters)?;
        self.counted.end(cancelled, StateName::Cancelled);
        Ok(cancelled)
    }

    fn settle_endpoints(&mut self, rows_left: &mut usize) -> Result<()> {
        while *rows_left > 0 {
            let departed = self
                .prepare(
                    "SELECT id, history = 'remove', departed_at FROM departed_endpoints \
                     WHERE settled = 0 LIMIT 1",
                )?
                .query_row([], |row| {
                    Ok(Departed { id: row.get(0)?, removes_history: row.get(1)?, at: row.get(2)? })
                })
                .optional()?;
            let Some(departed) = departed else { return Ok(()) };
            let settled = if departed.removes_history {
                self.remove_deliveries(&departed, rows_left)?
            } else {
                self.cancel_waiting(&departed, rows_left)?
            };
            if settled {
                *rows_left = rows_left.saturating_sub(1);
                self.close_endpoint(&departed)?;
            }
        }
        Ok(())
    }

    /// The endpoint is settled. Its row stays while deliveries of it are to be found by account.
    fn close_endpoint(&self, departed: &Departed) -> Result<()> {
        let has_history = "SELECT 1 FROM deliveries_by_endpoint WHERE endpoint = ?1";
        let sql = if self.prepare(has_history)?.exists([departed.id])? {
            "UPDATE departed_endpoints SET settled = 1 WHERE id = ?1"
        } else {
            "DELETE FROM departed_endpoints WHERE id = ?1"
        };
        self.execute(sql, [departed.id])?;
        Ok(())
    }

    /// Cancels what waits; answers whether that was all.
    fn cancel_waiting(&mut self, departed: &Departed, rows_left: &mut usize) -> Result<bool> {
        let cancelled = self.cancel(
            "UPDATE deliveries SET state = 4, due_at = NULL, ended_at = ?2, reason = ?3 \
             WHERE id IN (SELECT id FROM deliveries INDEXED BY deliveries_open \
             WHERE state = 0 AND endpoint = ?1 LIMIT ?4)",
            params![
                departed.id,
                departed.at,
                EndReason::EndpointDeleted.name(),
                sql_limit(*rows_left),
            ],
        )?;
        let settled = cancelled < *rows_left;
        *rows_left = rows_left.saturating_sub(cancelled);
        if settled { self.cancel_ordered(departed, rows_left) } else { Ok(false) }
    }

    /// Cancels what waits behind others; answers whether that was all.
    fn cancel_ordered(&mut self, departed: &Departed, rows_left: &mut usize) -> Result<bool> {
        let limit = sql_limit(*rows_left);
        self.cancel(
            "UPDATE deliveries SET state = 4, due_at = NULL, ended_at = ?2, reason = ?3 \
             WHERE state = 5 AND id IN (SELECT delivery FROM ordered WHERE endpoint = ?1 \
             ORDER BY key, event, delivery LIMIT ?4)",
            params![departed.id, departed.at, EndReason::EndpointDeleted.name(), limit],
        )?;
        let removed = self.execute(
            "DELETE FROM ordered WHERE delivery IN (SELECT delivery FROM ordered \
             WHERE endpoint = ?1 ORDER BY key, event, delivery LIMIT ?2)",
            params![departed.id, limit],
        )?;
        self.has_ordered = None;
        let settled = removed < *rows_left;
        *rows_left = rows_left.saturating_sub(removed);
        Ok(settled)
    }

    /// Removes deliveries with their attempts; answers whether those were all.
    fn remove_deliveries(&mut self, departed: &Departed, rows_left: &mut usize) -> Result<bool> {
        while *rows_left > 0 {
            let next: Option<[u8; 16]> = self
                .prepare("SELECT id FROM deliveries_by_endpoint WHERE endpoint = ?1 LIMIT 1")?
                .query_row([departed.id], |row| row.get(0))
                .optional()?;
            let Some(id) = next else { return Ok(true) };
            if !self.remove_delivery(id, rows_left)? {
                return Ok(false);
            }
            self.execute(
                "DELETE FROM deliveries_by_endpoint WHERE endpoint = ?1 AND id = ?2",
                [departed.id, id],
            )?;
        }
        Ok(false)
    }

    /// Removes a delivery with its attempts; answers whether there was room for all of it.
    pub(crate) fn remove_delivery(&mut self, id: [u8; 16], rows_left: &mut usize) -> Result<bool> {
        let row = self
            .prepare(
                "SELECT event, state IN (0, 1, 5, 6), last_attempt FROM deliveries WHERE id = ?1",
            )?
            .query_row([id], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?, row.get(2)?)))
            .optional()?;
        let Some((event, is_pending, last_attempt)) = row else { return Ok(true) };
        if !self.remove_attempts(id, last_attempt, rows_left)? || *rows_left == 0 {
            return Ok(false);
        }
        *rows_left -= 1;
        self.counted.end(usize::from(is_pending), StateName::Cancelled);
        self.forget_line(id)?;
        self.execute("DELETE FROM deliveries WHERE id = ?1", [id])?;
        self.execute(
            "DELETE FROM replayed WHERE event = ?1 AND delivery = ?2",
            params![event, id],
        )?;
        Ok(true)
    }

    /// Removes the chain of attempts from its end; answers whether that was all of it.
    fn remove_attempts(
        &self,
        delivery: [u8; 16],
        last_attempt: Option<i64>,
        rows_left: &mut usize,
    ) -> Result<bool> {
        let mut next = last_attempt;
        while let Some(place) = next
            && *rows_left > 0
        {
            *rows_left -= 1;
            let earlier: Option<Option<i64>> = self
                .prepare("DELETE FROM attempts WHERE place = ?1 RETURNING earlier")?
                .query_row([place], |row| row.get(0))
                .optional()?;
            next = earlier.flatten();
        }
        if *rows_left == 0 {
            // The delivery outlives this step: its chain must not lead to what is gone, since
            // places are given again.
            self.execute(
                "UPDATE deliveries SET last_attempt = ?2 WHERE id = ?1",
                params![delivery, next],
            )?;
        }
        Ok(next.is_none())
    }

    fn settle_accounts(&mut self, rows_left: &mut usize) -> Result<()> {
        while *rows_left > 0 {
            // Deliveries refer to events, so they go first.
            let account: Option<[u8; 16]> = self
                .prepare(
                    "SELECT id FROM departed_accounts WHERE NOT EXISTS \
                     (SELECT 1 FROM departed_endpoints WHERE account = departed_accounts.id) \
                     LIMIT 1",
                )?
                .query_row([], |row| row.get(0))
                .optional()?;
            let Some(account) = account else { return Ok(()) };
            self.remove_events(account, rows_left)?;
            let forgotten = self.execute(
                "DELETE FROM replays WHERE id IN \
                 (SELECT id FROM replays WHERE account = ?1 LIMIT ?2)",
                params![account, sql_limit(*rows_left)],
            )?;
            *rows_left -= forgotten.min(*rows_left);
            let forgotten = self.execute(
                "DELETE FROM idempotency_keys WHERE account = ?1 AND key IN \
                 (SELECT key FROM idempotency_keys WHERE account = ?1 LIMIT ?2)",
                params![account, sql_limit(*rows_left)],
            )?;
            *rows_left -= forgotten.min(*rows_left);
            if *rows_left > 0 {
                *rows_left -= 1;
                self.execute("DELETE FROM departed_accounts WHERE id = ?1", [account])?;
            }
        }
        Ok(())
    }

    /// Removes events of a deleted account.
    fn remove_events(&self, account: [u8; 16], rows_left: &mut usize) -> Result<()> {
        let mut statement = self.prepare(SELECT_EVENTS_OF_ACCOUNT)?;
        let events: Vec<([u8; 16], Option<i64>, usize)> = statement
            .query_map(params![account, sql_limit(*rows_left)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, u32>(2)? as usize))
            })?
            .collect::<rusqlite::Result<_>>()?;
        for (id, number, data_bytes) in events {
            if *rows_left == 0 {
                return Ok(());
            }
            *rows_left = rows_left.saturating_sub(rows_of_event(data_bytes));
            self.execute("DELETE FROM event_extras WHERE number = ?1", [number])?;
            self.execute("DELETE FROM events WHERE number = ?1", [number])?;
            self.execute(
                "DELETE FROM events_by_account WHERE account = ?1 AND id = ?2",
                [account, id],
            )?;
        }
        Ok(())
    }

    fn forget_keys(&mut self, now: Timestamp, rows_left: &mut usize) -> Result<()> {
        let forgotten = self.execute(
            "DELETE FROM idempotency_keys WHERE (account, key) IN \
             (SELECT account, key FROM idempotency_keys WHERE kept_until <= ?1 LIMIT ?2)",
            params![now.as_millis(), sql_limit(*rows_left)],
        )?;
        *rows_left -= forgotten.min(*rows_left);
        Ok(())
    }
}

pub(crate) fn sql_limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
