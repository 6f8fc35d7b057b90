//! Deliveries cancelled, and payloads erased, because somebody asks for it.

use domain::delivery::{DeliveryState, EndReason, StateName};
use domain::id::{AccountId, DeliveryId, EventId};
use domain::time::Timestamp;
use rusqlite::params;
use store::queue::Cancelled;

use crate::catalogue::find;
use crate::failure::Result;
use crate::history::{delivery, delivery_ids};
use crate::ledger::Ledger;
use crate::row::Fields;

/// An event of which something is to be ended or erased.
struct Target {
    number: i64,
    /// Whether it has a payload, or names something.
    says_something: bool,
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

    pub(crate) fn erase_event(
        &mut self,
        account: AccountId,
        event: EventId,
        now: Timestamp,
    ) -> Result<Cancelled> {
        let Some(target) = self.target(account, event)? else { return Ok(Cancelled::NotFound) };
        if !target.says_something {
            return Ok(Cancelled::Nothing);
        }
        let cancelled = self.cancel_pending(&target.deliveries, EndReason::Erased, now)?;
        let mut rows_left = usize::MAX;
        for id in &target.deliveries {
            self.erase_exchanges(*id, &mut rows_left)?;
        }
        self.execute(
            "UPDATE events SET entity_ids = '', body = NULL WHERE number = ?1",
            [target.number],
        )?;
        self.execute(
            "UPDATE event_extras SET ordering_key = NULL WHERE number = ?1",
            [target.number],
        )?;
        Ok(Cancelled::Deliveries(cancelled))
    }

    /// The event, if it is of the account and the account is there.
    fn target(&mut self, account: AccountId, event: EventId) -> Result<Option<Target>> {
        if self.roster_version(account)?.is_none() {
            return Ok(None);
        }
        let sql = "SELECT id, number, deliveries, body IS NOT NULL OR entity_ids <> '' \
                   OR ordering_key IS NOT NULL AS says_something \
                   FROM events LEFT JOIN event_extras USING (number) \
                   WHERE id = ?1 AND account = ?2";
        find(self.connection, sql, [event.to_bytes(), account.to_bytes()], |row| {
            let fields = Fields::new("events", row);
            let number = fields.get("number")?;
            let deliveries = delivery_ids(self.connection, number, &fields)?;
            Ok(Target {
                number,
                says_something: fields.get("says_something")?,
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
             ended_at = ?2, reason = ?3 WHERE id = ?1 AND state IN (0, 1, 5)",
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
