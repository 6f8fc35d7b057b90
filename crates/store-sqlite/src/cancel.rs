//! Deliveries cancelled, and payloads erased, because somebody asks for it.
//!
//! Erasing an event with very many attempts takes several steps. The first does all that others go
//! by, with the entry in the audit log; what is left then stands in `pending_payloads`, so that
//! `retention` goes on with it if whoever asked is gone. What is erased by request is overwritten in
//! the file; the log and its earlier pages keep it, sealed, until they are used again.

use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::id::{AccountId, DeliveryId, EventId};
use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use store::queue::Cancelled;

use crate::catalogue::find;
use crate::failure::Result;
use crate::history::{delivery, delivery_ids};
use crate::ledger::Ledger;
use crate::retention::Step;
use crate::row::Fields;

/// An event of which something is to be ended or erased.
struct Target {
    number: i64,
    /// Whether it has a payload, or names something, or was erased in part.
    says_something: bool,
    /// Whether it was erased, but for some of its exchanges.
    is_half_erased: bool,
    deliveries: Vec<[u8; 16]>,
}

impl Ledger<'_> {
    pub(crate) fn cancel_event(
        &mut self,
        account: AccountId,
        event: EventId,
        now: Timestamp,
    ) -> Result<Cancelled> {
        let Some(target) = self.target(account, event)? else { return Ok(Cancelled::NotFound) };
        let cancelled = self.cancel_pending(&target.deliveries, EndReason::Requested, now)?;
        Ok(if cancelled > 0 { Cancelled::Deliveries(cancelled) } else { Cancelled::Nothing })
    }

    pub(crate) fn cancel_delivery(
        &mut self,
        account: AccountId,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Cancelled> {
        let found = delivery(self.connection, id.to_bytes())?;
        if found.is_none_or(|it| it.account != account) || self.roster_version(account)?.is_none() {
            return Ok(Cancelled::NotFound);
        }
        let cancelled = self.cancel_pending(&[id.to_bytes()], EndReason::Requested, now)?;
        Ok(if cancelled > 0 { Cancelled::Deliveries(cancelled) } else { Cancelled::Nothing })
    }

    /// Erases the event, and as many of its exchanges as there is room for in `rows_max`. What is
    /// left is erased by [`Self::erase_rest`].
    pub(crate) fn erase_event(
        &mut self,
        account: AccountId,
        event: EventId,
        now: Timestamp,
        rows_max: usize,
    ) -> Result<Cancelled> {
        let Some(target) = self.target(account, event)? else { return Ok(Cancelled::NotFound) };
        if !target.says_something {
            return Ok(Cancelled::Nothing);
        }
        let cancelled = self.cancel_pending(&target.deliveries, EndReason::Erased, now)?;
        self.overwriting(|ledger| ledger.erase(&target, now, rows_max))?;
        Ok(Cancelled::Deliveries(cancelled))
    }

    fn erase(&self, target: &Target, now: Timestamp, rows_max: usize) -> Result<()> {
        self.execute(
            "UPDATE events SET entity_ids = '', body = NULL WHERE number = ?1",
            [target.number],
        )?;
        self.execute(
            "UPDATE event_extras SET ordering_key = NULL WHERE number = ?1",
            [target.number],
        )?;
        let is_all = self.erase_exchanges(&target.deliveries, &mut Step::new(now, rows_max))?;
        let sql = if is_all {
            "DELETE FROM pending_payloads WHERE number = ?1"
        } else {
            "INSERT OR IGNORE INTO pending_payloads VALUES (?1)"
        };
        self.execute(sql, [target.number])?;
        Ok(())
    }

    /// Runs a step in which pages and places that come free are overwritten with zeros. Only where
    /// somebody asked for it: it writes what would be left alone.
    fn overwriting<T>(&self, step: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let outcome = step(self);
        self.connection.pragma_update(None, "secure_delete", false)?;
        outcome
    }

    /// Erases more exchanges of an event that was erased; answers whether those were all.
    pub(crate) fn erase_rest(
        &mut self,
        account: AccountId,
        event: EventId,
        now: Timestamp,
        rows_max: usize,
    ) -> Result<bool> {
        // Nobody reads what is left of it when it is gone.
        let Some(target) = self.target(account, event)? else { return Ok(true) };
        if !target.is_half_erased {
            return Ok(true);
        }
        let is_all = self.overwriting(|ledger| {
            ledger.erase_exchanges(&target.deliveries, &mut Step::new(now, rows_max))
        })?;
        if is_all {
            self.execute("DELETE FROM pending_payloads WHERE number = ?1", [target.number])?;
        }
        Ok(is_all)
    }

    /// Removes what was sent and answered in the attempts of the deliveries, one row each; answers
    /// whether there was room for all of it.
    pub(crate) fn erase_exchanges(&self, deliveries: &[[u8; 16]], step: &mut Step) -> Result<bool> {
        for delivery in deliveries {
            let mut place: Option<i64> = self
                .prepare("SELECT last_attempt FROM deliveries WHERE id = ?1")?
                .query_row([delivery], |row| row.get(0))
                .optional()?
                .flatten();
            while let Some(here) = place {
                let attempt: Option<(Option<i64>, bool)> = self
                    .prepare("SELECT earlier, length(exchange) > 0 FROM attempts WHERE place = ?1")?
                    .query_row([here], |row| Ok((row.get(0)?, row.get(1)?)))
                    .optional()?;
                let Some((earlier, has_exchange)) = attempt else { break };
                step.look(1);
                if has_exchange {
                    if step.rows_left == 0 {
                        return Ok(false);
                    }
                    step.spend(1);
                    self.execute("UPDATE attempts SET exchange = x'' WHERE place = ?1", [here])?;
                }
                // A chain that does not lead backwards would never end.
                place = earlier.filter(|earlier| *earlier < here);
            }
        }
        Ok(true)
    }

    /// The event, if it is of the account and the account is there.
    fn target(&mut self, account: AccountId, event: EventId) -> Result<Option<Target>> {
        if self.roster_version(account)?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT id, number, deliveries, body IS NOT NULL OR entity_ids <> '' \
                   OR ordering_key IS NOT NULL AS names_something, body IS NULL AND EXISTS \
                   (SELECT 1 FROM pending_payloads WHERE number = events.number) AS is_half_erased \
                   FROM events LEFT JOIN event_extras USING (number) \
                   WHERE id = ?1 AND account = ?2";
        find(self.connection, sql, [event.to_bytes(), account.to_bytes()], |row| {
            let fields = Fields::new("events", row);
            let number = fields.get("number")?;
            let deliveries = delivery_ids(self.connection, number, &fields)?;
            let is_half_erased = fields.get("is_half_erased")?;
            Ok(Target {
                number,
                says_something: is_half_erased || fields.get("names_something")?,
                is_half_erased,
                deliveries: deliveries.into_iter().collect(),
            })
        })
    }

    /// Cancels those that are pending, as everybody sees them; answers how many.
    fn cancel_pending(
        &mut self,
        ids: &[[u8; 16]],
        reason: EndReason,
        now: Timestamp,
    ) -> Result<u64> {
        let mut cancelled = 0;
        for id in ids {
            // Those of a deleted endpoint are not, though their rows may still say so.
            let seen = delivery(self.connection, *id)?;
            if seen.is_some_and(|it| it.state == DeliveryState::Pending)
                && self.cancel_one(*id, reason, now)?
            {
                cancelled += 1;
            }
        }
        Ok(cancelled)
    }

    /// Cancels a delivery if it is pending, leased or not; answers whether it was.
    pub(crate) fn cancel_one(
        &mut self,
        id: [u8; 16],
        reason: EndReason,
        at: Timestamp,
    ) -> Result<bool> {
        let changed = self.execute(
            "UPDATE deliveries SET state = 4, session = NULL, on_trial = 0, due_at = NULL, \
             ended_at = ?2, reason = ?3 WHERE id = ?1 AND state IN (0, 1, 5, 6)",
            params![id, at.as_millis(), reason.name()],
        )?;
        if changed == 0 {
            return Ok(false);
        }
        self.counted.end(changed, StateName::Cancelled);
        self.advance(id, at)?;
        Ok(true)
    }
}

/// How many deliveries the event has, and how many attempts were made of them all.
pub(crate) fn deliveries_and_attempts(
    connection: &Connection,
    event: EventId,
) -> Result<(usize, usize)> {
    let sql = "SELECT number, deliveries FROM events WHERE id = ?1";
    let deliveries = find(connection, sql, [event.to_bytes()], |row| {
        let fields = Fields::new("events", row);
        delivery_ids(connection, fields.get("number")?, &fields)
    })?;
    let deliveries = deliveries.unwrap_or_default();
    let mut attempts = 0;
    let mut statement =
        connection.prepare_cached("SELECT attempts FROM deliveries WHERE id = ?1")?;
    for id in &deliveries {
        let made: Option<u32> = statement.query_row([id], |row| row.get(0)).optional()?;
        attempts += made.unwrap_or_default() as usize;
    }
    Ok((deliveries.len(), attempts))
}
