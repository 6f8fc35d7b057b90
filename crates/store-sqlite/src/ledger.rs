//! The write connection inside a transaction, and what the writer knows without asking it.
//!
//! Promise: whatever is remembered here is what the database says: a rollback forgets it all.
//! Neighbours: `writer` opens and ends transactions; `catalogue`, `accept`, `claim`, `record`
//! and `settle` hold the steps that run in them, as methods of [`Ledger`].

use std::collections::{BTreeSet, HashMap};

use domain::delivery::StateName;
use domain::id::AccountId;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use store::queue::SessionId;
use store::vault::Vault;

use crate::audit::Head;
use crate::failure::{Failure, Result};
use crate::filing::Unfiled;
use crate::hot::Hot;
use crate::room::Room;

/// Accounts whose roster versions are remembered; 32 bytes each or so. When there are more, all
/// are forgotten and read anew.
const ROSTER_VERSIONS_REMEMBERED_MAX: usize = 65_536;

/// The write connection and the writer's memory.
pub(crate) struct Ledger<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) vault: &'c Vault,
    pub(crate) hot: Hot<'c>,
    pub(crate) counted: Counted,
    roster_versions: HashMap<AccountId, u64>,
    /// Sessions that are not lost; `None` when not read yet.
    sessions: Option<BTreeSet<u64>>,
    /// The place of the next attempt; `None` when not read yet.
    next_place: Option<i64>,
    /// What is to be filed; `None` when not read yet.
    pub(crate) unfiled: Option<Unfiled>,
    /// Whether any pending delivery has an ordering key; `None` when not read yet.
    pub(crate) has_ordered: Option<bool>,
    /// The end of the audit log; `None` when not read yet.
    pub(crate) audit_head: Option<Head>,
    pub(crate) room: Room,
    /// For composing blobs, so that a row costs no allocation.
    pub(crate) scratch: Vec<u8>,
}

/// What the open transaction adds to the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) events: i64,
    pub(crate) created: i64,
    pub(crate) pending: i64,
    pub(crate) delivered: i64,
    pub(crate) exhausted: i64,
    pub(crate) cancelled: i64,
}

impl Counted {
    /// `number` pending deliveries ended so.
    pub(crate) fn end(&mut self, number: usize, state: StateName) {
        let number = number as i64;
        self.pending -= number;
        match state {
            StateName::Pending => self.pending += number,
            StateName::Delivered => self.delivered += number,
            StateName::Exhausted => self.exhausted += number,
            StateName::Cancelled => self.cancelled += number,
        }
    }
}

impl<'c> Ledger<'c> {
    pub(crate) fn new(connection: &'c Connection, vault: &'c Vault) -> Result<Self> {
        Ok(Self {
            connection,
            vault,
            hot: Hot::prepare(connection)?,
            counted: Counted::default(),
            roster_versions: HashMap::new(),
            sessions: None,
            next_place: None,
            unfiled: None,
            has_ordered: None,
            audit_head: None,
            room: Room::of(connection),
            scratch: Vec::new(),
        })
    }

    pub(crate) fn begin(&mut self) -> Result<()> {
        self.execute("BEGIN IMMEDIATE", [])?;
        self.file_if_much()
    }

    /// Puts everything since [`Self::begin`] on stable storage.
    pub(crate) fn commit(&mut self) -> Result<()> {
        self.write_counts()?;
        self.execute("COMMIT", []).map_err(|failure| match failure {
            Failure::Sqlite(error) => Failure::of_commit(error),
            other => other,
        })?;
        Ok(())
    }

    /// Undoes everything since [`Self::begin`]. Some failures have undone it already.
    pub(crate) fn roll_back(&mut self) -> Result<()> {
        self.forget();
        if !self.connection.is_autocommit() {
            self.execute("ROLLBACK", [])?;
        }
        Ok(())
    }

    /// Runs a step that may fail midway on a row nobody can read; then the step is undone, and
    /// the rest of the transaction goes on.
    pub(crate) fn in_savepoint<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let counted = self.counted;
        self.execute("SAVEPOINT step", [])?;
        let outcome = step(self);
        if outcome.is_err() && !self.connection.is_autocommit() {
            self.forget();
            self.counted = counted;
            self.execute("ROLLBACK TO step", [])?;
        }
        if !self.connection.is_autocommit() {
            self.execute("RELEASE step", [])?;
        }
        outcome
    }

    fn forget(&mut self) {
        self.counted = Counted::default();
        self.roster_versions.clear();
        self.sessions = None;
        self.next_place = None;
        self.unfiled = None;
        self.has_ordered = None;
        self.audit_head = None;
    }

    fn write_counts(&mut self) -> Result<()> {
        let counted = std::mem::take(&mut self.counted);
        if counted == Counted::default() {
            return Ok(());
        }
        let Counted { events, created, pending, delivered, exhausted, cancelled } = counted;
        self.execute(
            "UPDATE counts SET events = events + ?1, created = created + ?2, \
             pending = pending + ?3, delivered = delivered + ?4, exhausted = exhausted + ?5, \
             cancelled = cancelled + ?6",
            [events, created, pending, delivered, exhausted, cancelled],
        )?;
        Ok(())
    }

    /// The statement, prepared once per connection.
    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) fn execute(&self, sql: &str, parameters: impl rusqlite::Params) -> Result<usize> {
        Ok(self.prepare(sql)?.execute(parameters)?)
    }

    /// The version of the account's roster; `None` if there is no such account.
    pub(crate) fn roster_version(&mut self, account: AccountId) -> Result<Option<u64>> {
        if let Some(version) = self.roster_versions.get(&account) {
            return Ok(Some(*version));
        }
        let version: Option<i64> = self
            .prepare("SELECT roster_version FROM accounts WHERE id = ?1")?
            .query_row([account.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(version) = version.map(|version| version as u64) else { return Ok(None) };
        if self.roster_versions.len() >= ROSTER_VERSIONS_REMEMBERED_MAX {
            self.roster_versions.clear();
        }
        self.roster_versions.insert(account, version);
        Ok(Some(version))
    }

    /// Notes that the account or one of its endpoints changed; `false` if there is no account.
    pub(crate) fn bump_roster(&mut self, account: AccountId) -> Result<bool> {
        self.roster_versions.remove(&account);
        let changed = self.execute(
            "UPDATE accounts SET roster_version = roster_version + 1 WHERE id = ?1",
            [account.to_bytes()],
        )?;
        Ok(changed > 0)
    }

    /// The account is gone, and with it its roster.
    pub(crate) fn forget_roster(&mut self, account: AccountId) {
        self.roster_versions.remove(&account);
    }

    /// Whether the session is not lost.
    pub(crate) fn session_lives(&mut self, session: SessionId) -> Result<bool> {
        if self.sessions.is_none() {
            let mut statement = self.prepare("SELECT number FROM sessions")?;
            let numbers = statement.query_map([], |row| row.get::<_, i64>(0))?;
            let read: rusqlite::Result<_> = numbers.map(|number| Ok(number? as u64)).collect();
            self.sessions = Some(read?);
        }
        Ok(self.sessions.as_ref().is_some_and(|sessions| sessions.contains(&session.0)))
    }

    /// Sessions were begun or ended.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions = None;
    }

    /// The place for one more attempt.
    pub(crate) fn take_place(&mut self) -> Result<i64> {
        let place = match self.next_place {
            Some(place) => place,
            None => self
                .prepare("SELECT coalesce(max(place), 0) + 1 FROM attempts")?
                .query_row([], |row| row.get(0))?,
        };
        self.next_place = Some(place + 1);
        Ok(place)
    }
}
