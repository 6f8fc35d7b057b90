//! Deliveries that wait for one another.
//!
//! Promise: of the pending deliveries to an endpoint under one key exactly one, the head, can be
//! claimed or is leased; when it ends, however it ends, the next in the order of the events takes
//! its place in the same transaction. A store in which nothing is ordered pays nothing for it: the
//! writer remembers that. Neighbours: `accept` lines deliveries up, whoever ends one calls
//! [`Ledger::advance`]; a deleted endpoint's are ended all at once by `settle`.

use domain::ordering::OrderingKey;
use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use store::queue::NewDelivery;

use crate::catalogue::find;
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::Fields;

/// The head that a delivery waits for; it stands first.
pub(crate) const SELECT_HEAD: &str = "SELECT head.delivery FROM ordered AS own \
     CROSS JOIN ordered AS head ON head.endpoint = own.endpoint AND head.key = own.key \
     WHERE own.delivery = ?1 AND head.is_head = 1 LIMIT 1";

/// The first of a key.
pub(crate) const SELECT_FIRST: &str = "SELECT delivery FROM ordered \
     WHERE endpoint = ?1 AND key = ?2 ORDER BY event, delivery LIMIT 1";

/// What waits behind others at an endpoint.
pub(crate) const COUNT_BEHIND: &str =
    "SELECT count(*) FROM ordered WHERE endpoint = ?1 AND is_head = 0";

/// The delivery that this one waits behind, if it does.
pub(crate) fn waits_for(connection: &Connection, id: [u8; 16]) -> Result<Option<[u8; 16]>> {
    find(connection, SELECT_HEAD, [id], |row| Fields::new("ordered", row).get("delivery"))
}

impl Ledger<'_> {
    /// Whether any pending delivery has a key.
    fn has_ordered(&mut self) -> Result<bool> {
        if let Some(has_ordered) = self.has_ordered {
            return Ok(has_ordered);
        }
        let has_ordered = self.prepare("SELECT 1 FROM ordered LIMIT 1")?.exists([])?;
        self.has_ordered = Some(has_ordered);
        Ok(has_ordered)
    }

    /// Puts a delivery that is about to be inserted in line; answers whether it waits behind
    /// another.
    pub(crate) fn line_up(
        &mut self,
        event: i64,
        delivery: &NewDelivery,
        key: &OrderingKey,
    ) -> Result<bool> {
        let endpoint = delivery.endpoint.to_bytes();
        let waits = self.prepare(SELECT_FIRST)?.exists(params![endpoint, key.as_str()])?;
        self.execute(
            "INSERT INTO ordered VALUES (?1, ?2, ?3, ?4, ?5)",
            params![endpoint, key.as_str(), event, delivery.id.to_bytes(), !waits],
        )?;
        self.has_ordered = Some(true);
        Ok(waits)
    }

    /// Takes a delivery that has ended out of its line; if it was the head, the next one becomes
    /// claimable: due at once, or when it would have been due if that is later.
    pub(crate) fn advance(&mut self, ended: [u8; 16], ended_at: Timestamp) -> Result<()> {
        if !self.has_ordered()? {
            return Ok(());
        }
        let Some((endpoint, key)) = self.leave_line(ended)? else { return Ok(()) };
        loop {
            let next: Option<[u8; 16]> = self
                .prepare(SELECT_FIRST)?
                .query_row(params![endpoint, key], |row| row.get(0))
                .optional()?;
            let Some(next) = next else { return Ok(()) };
            let freed = self.execute(
                "UPDATE deliveries SET state = 0, due_at = max(?2, created_at, coalesce( \
                 (SELECT deliver_at FROM event_extras WHERE number = event), created_at)) \
                 WHERE id = ?1 AND state = 5",
                params![next, ended_at.as_millis()],
            )?;
            if freed > 0 {
                self.execute("UPDATE ordered SET is_head = 1 WHERE delivery = ?1", [next])?;
                return Ok(());
            }
            // It does not wait, as a damaged file may have it: it must not stop the line.
            self.execute("DELETE FROM ordered WHERE delivery = ?1", [next])?;
        }
    }

    /// Takes a delivery out of its line; answers endpoint and key of the line if it was the head.
    fn leave_line(&mut self, id: [u8; 16]) -> Result<Option<([u8; 16], String)>> {
        let left = self
            .prepare("DELETE FROM ordered WHERE delivery = ?1 RETURNING endpoint, key, is_head")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((endpoint, key, is_head)) = left else { return Ok(None) };
        // Maybe it was the last one.
        self.has_ordered = None;
        Ok(if is_head { Some((endpoint, key)) } else { None })
    }

    /// Takes a delivery that is removed out of its line, as all of the line are.
    pub(crate) fn forget_line(&mut self, id: [u8; 16]) -> Result<()> {
        if self.has_ordered()? {
            self.leave_line(id)?;
        }
        Ok(())
    }
}
