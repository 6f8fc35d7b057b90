//! The statements that every event needs.

use rusqlite::{Connection, PrepFlags, Statement};

use crate::failure::Result;

/// Prepared once and held: finding them in a cache each time would be a tenth of their cost.
pub(crate) struct Hot<'c> {
    pub(crate) insert_event: Statement<'c>,
    pub(crate) insert_delivery: Statement<'c>,
    pub(crate) move_delivery: Statement<'c>,
    pub(crate) insert_attempt: Statement<'c>,
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
                 (?1, ?2, ?3, ?4, ?5, ?6, 0, NULL, ?7, ?8, NULL, NULL, 0, 0, ?9, ?10)",
            )?,
            move_delivery: prepare(
                "UPDATE deliveries SET state = ?1, session = NULL, attempts = attempts + 1, \
                 last_attempt = ?2, due_at = ?3, ended_at = ?4, reason = ?5, \
                 lost_claims = 0, on_trial = 0 \
                 WHERE id = ?6 AND state IN (1, 6) AND session = ?7 AND fence = ?8 \
                 AND last_attempt IS ?9",
            )?,
            insert_attempt: prepare(
                "INSERT INTO attempts VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )?,
        })
    }
}
