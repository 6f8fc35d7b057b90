//! The schema, one numbered step after the other.
//!
//! Promise: a file of any earlier version is brought to the present one, each step in one
//! transaction, and a new file in a single one, so that a process that dies in between is continued by the next; a file of a later
//! version is refused untouched.

use rusqlite::{Connection, TransactionBehavior};
use store::vault::Vault;

use crate::upgrade::{ask_for_a_rewrite, digest_endpoints, seal_all};

/// From one version of the schema to the next.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// Makes what is new.
    sql: &'static str,
    /// Fills it from what was there; told whether the file is new.
    carry: Option<Carry>,
    /// Removes what was there.
    sql_after: &'static str,
}

/// What SQL alone cannot do.
type Carry = fn(&Connection, &Vault, bool) -> rusqlite::Result<()>;

impl Step {
    const fn of(sql: &'static str) -> Self {
        Self { sql, carry: None, sql_after: "" }
    }
}

/// The steps; step 1 makes the schema of version 1, and so on. Steps are never changed once
/// released.
pub(crate) const MIGRATIONS: &[Step] = &[
    Step::of(include_str!("../migrations/0001_initial.sql")),
    Step {
        sql: include_str!("../migrations/0002_sealing.sql"),
        carry: Some(seal_all),
        sql_after: include_str!("../migrations/0002_sealing_done.sql"),
    },
    Step {
        sql: include_str!("../migrations/0003_policy.sql"),
        carry: Some(ask_for_a_rewrite),
        sql_after: "",
    },
    Step {
        sql: include_str!("../migrations/0004_fresh.sql"),
        carry: Some(digest_endpoints),
        sql_after: "",
    },
];

/// The first version in which what is secret is sealed.
pub(crate) const SEALED_SINCE: usize = 2;

/// `PRAGMA application_id` of our files, set by the first step.
const APPLICATION_ID: i32 = 0x5053_5452;

/// Why a file was not brought to the present version.
#[derive(Debug)]
pub(crate) enum MigrationRefused {
    /// A later Postrider wrote it.
    TooNew {
        /// Its version.
        found: usize,
    },
    /// Another program wrote it.
    Foreign,
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for MigrationRefused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Brings the file to the version that `migrations` lead to.
pub(crate) fn migrate(
    connection: &mut Connection,
    migrations: &[Step],
    vault: &Vault,
) -> Result<(), MigrationRefused> {
    let found = check(connection, migrations)?;
    let is_new = found == 0;
    // A new file has nothing to carry over: its steps are one, which spares a sync for each.
    let at_once = if is_new { migrations.len().max(1) } else { 1 };
    let mut version = found;
    for steps in migrations[found..].chunks(at_once) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in steps {
            transaction.execute_batch(step.sql)?;
            if let Some(carry) = step.carry {
                carry(&transaction, vault, is_new)?;
            }
            transaction.execute_batch(step.sql_after)?;
        }
        version += steps.len();
        transaction.pragma_update(None, "user_version", version as i64)?;
        transaction.commit()?;
    }
    Ok(())
}

/// The file's version, if the file is ours and not of a later version; changes nothing.
pub(crate) fn check(
    connection: &Connection,
    migrations: &[Step],
) -> Result<usize, MigrationRefused> {
    let found = version(connection)?;
    if is_foreign(connection, found)? {
        return Err(MigrationRefused::Foreign);
    }
    if found > migrations.len() {
        return Err(MigrationRefused::TooNew { found });
    }
    Ok(found)
}

fn version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A negative version is nothing we write: beyond every version we know.
    Ok(usize::try_from(found).unwrap_or(usize::MAX))
}

fn is_foreign(connection: &Connection, version: usize) -> Result<bool, rusqlite::Error> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let is_new = version == 0 && tables == 0 && id == 0;
    Ok(!is_new && id != APPLICATION_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::a_vault;

    fn schema(connection: &Connection) -> Vec<(String, String)> {
        let mut statement = connection
            .prepare("SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn a_file_of_every_earlier_version_reaches_the_present_schema() {
        let mut fresh = Connection::open_in_memory().unwrap();
        migrate(&mut fresh, MIGRATIONS, &a_vault()).unwrap();
        for earlier in 0..=MIGRATIONS.len() {
            let mut connection = Connection::open_in_memory().unwrap();
            migrate(&mut connection, &MIGRATIONS[..earlier], &a_vault()).unwrap();
            assert_eq!(version(&connection).unwrap(), earlier);
            migrate(&mut connection, MIGRATIONS, &a_vault()).unwrap();
            assert_eq!(version(&connection).unwrap(), MIGRATIONS.len());
            assert_eq!(schema(&connection), schema(&fresh), "from version {earlier}");
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it_and_can_be_repeated() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &MIGRATIONS[..1], &a_vault()).unwrap();
        let broken = "CREATE TABLE later (x); CREATE TABLE later (x);";
        let steps = [MIGRATIONS[0], Step::of(broken)];
        assert!(migrate(&mut connection, &steps, &a_vault()).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        let steps = [MIGRATIONS[0], Step::of("CREATE TABLE later (x);")];
        migrate(&mut connection, &steps, &a_vault()).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
    }

    #[test]
    fn a_file_of_a_later_version_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, MIGRATIONS, &a_vault()).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = migrate(&mut connection, MIGRATIONS, &a_vault()).unwrap_err();
        assert!(matches!(refused, MigrationRefused::TooNew { found: 99 }), "{refused:?}");
    }

    #[test]
    fn a_file_of_another_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
        let refused = migrate(&mut connection, MIGRATIONS, &a_vault()).unwrap_err();
        assert!(matches!(refused, MigrationRefused::Foreign), "{refused:?}");
    }
}
