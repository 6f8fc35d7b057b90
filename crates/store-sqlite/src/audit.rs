//! The audit log in SQLite.
//!
//! Promise: an entry is committed with what it tells of or not at all, and linked to the entry
//! before it. The writer remembers the head of the chain; nobody else writes.

use async_trait::async_trait;
use domain::audit::{Actor, AuditAction, AuditEntry, AuditNote, CHAIN_START, first_break, link};
use domain::id::AccountId;
use domain::limits::PAGE_ROWS_SCANNED_MAX;
use domain::page::{Page, PageRequest};
use rusqlite::{Connection, Row, params};
use store::audit::{Audit, AuditFilter};

use crate::catalogue::find;
use crate::failure::Result;
use crate::history::is_within;
use crate::ledger::Ledger;
use crate::page::{Bounds, Filling};
use crate::row::Fields;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// The number and the hash of the last entry.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    number: u64,
    hash: [u8; 32],
}

const SELECT_LAST: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";

fn head(connection: &Connection) -> Result<Head> {
    let last = find(connection, SELECT_LAST, [], |row| {
        let fields = Fields::new("audit", row);
        Ok(Head { number: number(&fields)?, hash: fields.get("hash")? })
    })?;
    Ok(last.unwrap_or(Head { number: 0, hash: CHAIN_START }))
}

/// Whether the last entries are linked as they should be. Looks at no more of the chain.
pub(crate) fn head_is_whole(connection: &Connection) -> Result<bool> {
    let newest = "SELECT * FROM audit ORDER BY number DESC LIMIT 2";
    let mut entries = Vec::new();
    let mut statement = connection.prepare_cached(newest)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        entries.insert(0, entry(row)?);
    }
    Ok(match entries.as_slice() {
        [] => true,
        [only] => first_break(0, CHAIN_START, std::slice::from_ref(only)).is_none(),
        [before, rest @ ..] => first_break(before.number, before.hash, rest).is_none(),
    })
}

fn number(fields: &Fields<'_, '_>) -> Result<u64> {
    u64::try_from(fields.get::<i64>("number")?).map_err(|_| fields.unreadable("number"))
}

fn entry(row: &Row<'_>) -> Result<AuditEntry> {
    let fields = Fields::new("audit", row);
    Ok(AuditEntry {
        number: number(&fields)?,
        note: AuditNote {
            at: fields.instant("at")?,
            actor: fields.parse("actor", Actor::from_name)?,
            action: fields.parse("action", AuditAction::from_name)?,
            account: fields.get::<Option<_>>("account")?.map(AccountId::from_bytes),
            subject: fields.get("subject")?,
            details: fields.get("details")?,
        },
        hash: fields.get("hash")?,
    })
}

impl Ledger<'_> {
    /// Adds an entry to the log.
    pub(crate) fn write_down(&mut self, note: &AuditNote) -> Result<()> {
        let before = match self.audit_head {
            Some(head) => head,
            None => head(self.connection)?,
        };
        let number = before.number + 1;
        let hash = link(&before.hash, number, note);
        self.execute(
            "INSERT INTO audit VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                number as i64,
                note.at.as_millis(),
                note.actor.name(),
                note.action.name(),
                note.account.map(AccountId::to_bytes),
                note.subject,
                note.details,
                hash,
            ],
        )?;
        self.audit_head = Some(Head { number, hash });
        Ok(())
    }
}

impl SqliteStore {
    /// Does a step and, if its answer says that it changed something, writes the note with it.
    pub(crate) async fn write_noted<T: Send + 'static>(
        &self,
        weight: usize,
        note: AuditNote,
        is_change: impl FnOnce(&T) -> bool + Send + 'static,
        step: impl FnOnce(&mut Ledger<'_>) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.write(Haste::AtOnce, weight, move |ledger| {
            ledger.in_savepoint(|ledger| {
                let answer = step(ledger)?;
                if is_change(&answer) {
                    ledger.write_down(&note)?;
                }
                Ok(answer)
            })
        })
        .await
    }
}

fn list(
    connection: &Connection,
    filter: &AuditFilter,
    request: PageRequest,
) -> Result<Page<AuditEntry>> {
    let bounds = Bounds { rows_max: PAGE_ROWS_SCANNED_MAX, bytes_max: usize::MAX };
    let mut filling = Filling::new(request, bounds);
    let before = request.before.map_or(i64::MAX, |it| i64::try_from(it).unwrap_or(i64::MAX));
    let mut statement = connection.prepare_cached(match filter.account {
        Some(_) => SELECT_OF_ACCOUNT,
        None => SELECT_ALL,
    })?;
    let mut rows = match filter.account {
        Some(account) => statement.query(params![before, account.to_bytes()])?,
        None => statement.query([before])?,
    };
    while let Some(row) = rows.next()? {
        let id = u128::from(number(&Fields::new("audit", row))?);
        let item = || {
            let entry = entry(row)?;
            let passes = filter.action.is_none_or(|action| action == entry.note.action)
                && is_within(entry.note.at, filter.since, filter.until);
            Ok(passes.then_some((entry, 0)))
        };
        if !filling.take(id, item)? {
            break;
        }
    }
    Ok(filling.finish())
}

pub(crate) const SELECT_ALL: &str = "SELECT * FROM audit WHERE number < ?1 ORDER BY number DESC";
pub(crate) const SELECT_OF_ACCOUNT: &str =
    "SELECT * FROM audit WHERE number < ?1 AND account = ?2 ORDER BY number DESC";

#[async_trait]
impl Audit for SqliteStore {
    async fn note(&self, notes: Vec<AuditNote>) -> Answer<()> {
        self.write(Haste::CanWait, notes.len(), move |ledger| {
            ledger.in_savepoint(|ledger| notes.iter().try_for_each(|note| ledger.write_down(note)))
        })
        .await
    }

    async fn list_audit(&self, filter: AuditFilter, page: PageRequest) -> Answer<Page<AuditEntry>> {
        self.read(move |connection| list(connection, &filter, page)).await
    }

    async fn read_audit(&self, after: u64, limit: usize) -> Answer<Vec<AuditEntry>> {
        self.read(move |connection| {
            let sql = "SELECT * FROM audit WHERE number > ?1 ORDER BY number LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let bounds = [after, limit as u64].map(|it| i64::try_from(it).unwrap_or(i64::MAX));
            let mut rows = statement.query(bounds)?;
            let mut entries = Vec::new();
            while let Some(row) = rows.next()? {
                entries.push(entry(row)?);
            }
            Ok(entries)
        })
        .await
    }

    async fn read_announced(&self) -> Answer<u64> {
        self.read(announced).await
    }

    async fn note_announced(&self, number: u64) -> Answer<()> {
        self.write(Haste::CanWait, 1, move |ledger| {
            if number > announced(ledger.connection)? {
                ledger.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('announced', ?1)",
                    [number.to_be_bytes()],
                )?;
            }
            Ok(())
        })
        .await
    }
}

/// The number of the last entry that was announced.
fn announced(connection: &Connection) -> Result<u64> {
    let announced = find(connection, "SELECT * FROM meta WHERE name = 'announced'", [], |row| {
        Fields::new("meta", row).get("value").map(u64::from_be_bytes)
    })?;
    Ok(announced.unwrap_or(0))
}
