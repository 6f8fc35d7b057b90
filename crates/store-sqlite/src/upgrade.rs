//! Sealing what an earlier Postrider kept in clear text.
//!
//! Promise: nothing secret of a file of schema 1 is left in clear, neither in its rows nor in pages
//! that are free or in the log. The rows change in the transaction of the migration, one at a time,
//! so that memory stays bounded; then the file is written anew, and the file itself remembers that
//! this is due until it is done, be it at a later start. What a disk keeps of blocks that were overwritten is beyond us.

use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::sealing::Binding;
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};
use store::vault::Vault;

use crate::checkpoint::empty_log;
use crate::endpoints::write_digest;
use crate::keys::make_data_key;
use crate::lock::FileLock;
use crate::row::exchange;

/// Seals every secret of a file of schema 1. Makes the first data key, also in a new file.
pub(crate) fn seal_all(
    connection: &Connection,
    vault: &Vault,
    is_new_file: bool,
) -> rusqlite::Result<()> {
    vault.set_data(make_data_key(connection, vault)?);
    if is_new_file {
        return Ok(());
    }
    seal_pepper(connection, vault)?;
    carry_endpoints(connection, vault)?;
    seal_bodies(connection, vault)?;
    carry_attempts(connection, vault)?;
    ask_for_a_rewrite(connection, vault, is_new_file)
}

/// Has a file that is not new written anew once it is upgraded: what was clear is then gone from
/// its free pages, and from then on it gives space back to the disk.
pub(crate) fn ask_for_a_rewrite(
    connection: &Connection,
    _: &Vault,
    is_new_file: bool,
) -> rusqlite::Result<()> {
    if is_new_file {
        return Ok(());
    }
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('scrub_due', x'01')", []).map(drop)
}

/// Has SQLite keep account of where pages are referred to, so that free ones can be cut off the end
/// of the file in small steps. Counts from the next time that the file is written anew.
pub(crate) fn give_space_back(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", "incremental")
}

fn seal_pepper(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let pepper: Option<Vec<u8>> = connection
        .query_row("SELECT value FROM meta WHERE name = 'pepper'", [], |row| row.get(0))
        .optional()?;
    if let Some(pepper) = pepper {
        let sealed = vault.seal_secret(&Binding::Pepper, &pepper);
        connection.execute("UPDATE meta SET value = ?1 WHERE name = 'pepper'", [sealed])?;
    }
    Ok(())
}

fn carry_endpoints(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let mut next = connection.prepare(
        "SELECT id, account, secret, headers FROM endpoints WHERE id > ?1 ORDER BY id LIMIT 1",
    )?;
    let mut carry = connection.prepare(
        "INSERT INTO sealed_endpoints SELECT id, account, contract, url, ?2, NULL, NULL, \
         disabled_reason, event_types, entity_id, description, ?3, max_in_flight, \
         retry_schedule_ms, created_at, updated_at FROM endpoints WHERE id = ?1",
    )?;
    let mut after = Vec::new();
    loop {
        let read = next.query_row([&after], |row| {
            let ids: ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
            Ok((ids, row.get::<_, String>(2)?, row.get::<_, String>(3)?))
        });
        let Some(((id, account), secret, headers)) = read.optional()? else { return Ok(()) };
        let place = (AccountId::from_bytes(account), EndpointId::from_bytes(id));
        let secret = vault.seal_secret(&Binding::Secret(place.0, place.1), secret.as_bytes());
        let headers = vault.seal_secret(&Binding::Headers(place.0, place.1), headers.as_bytes());
        carry.execute(params![id, secret, headers])?;
        after = id.to_vec();
    }
}

/// Gives every endpoint the digest of its row.
pub(crate) fn digest_endpoints(
    connection: &Connection,
    _vault: &Vault,
    _is_new: bool,
) -> rusqlite::Result<()> {
    let mut all = connection.prepare("SELECT id FROM endpoints")?;
    let ids: Vec<[u8; 16]> =
        all.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    ids.into_iter().try_for_each(|id| write_digest(connection, id))
}

fn seal_bodies(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let mut next = connection.prepare(
        "SELECT number, account, id, body FROM events \
         WHERE number > ?1 AND body IS NOT NULL ORDER BY number LIMIT 1",
    )?;
    let mut seal = connection.prepare("UPDATE events SET body = ?2 WHERE number = ?1")?;
    let mut after = i64::MIN;
    loop {
        let read = next.query_row([after], |row| {
            let ids: ([u8; 16], [u8; 16]) = (row.get(1)?, row.get(2)?);
            Ok((row.get(0)?, ids, row.get::<_, Vec<u8>>(3)?))
        });
        let Some((number, (account, id), body)) = read.optional()? else { return Ok(()) };
        let place = Binding::Body(AccountId::from_bytes(account), EventId::from_bytes(id));
        seal.execute(params![number, vault.seal_data(&place, &body)])?;
        after = number;
    }
}

/// Attempts are found by the chains that their deliveries lead to: no delivery, no attempt.
fn carry_attempts(connection: &Connection, vault: &Vault) -> rusqlite::Result<()> {
    let mut next = connection.prepare(
        "SELECT id, last_attempt FROM deliveries \
         WHERE id > ?1 AND last_attempt IS NOT NULL ORDER BY id LIMIT 1",
    )?;
    let mut after = Vec::new();
    loop {
        let read = next.query_row([&after], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?)));
        let Some((delivery, last_attempt)) = read.optional()? else { return Ok(()) };
        carry_chain(connection, vault, DeliveryId::from_bytes(delivery), last_attempt)?;
        after = delivery.to_vec();
    }
}

fn carry_chain(
    connection: &Connection,
    vault: &Vault,
    delivery: DeliveryId,
    last_attempt: i64,
) -> rusqlite::Result<()> {
    let mut read = connection.prepare_cached(
        "SELECT earlier, number, request_head, response_excerpt FROM attempts WHERE place = ?1",
    )?;
    let mut carry = connection.prepare_cached(
        "INSERT INTO sealed_attempts SELECT place, earlier, number, at, duration_ns, dns_ns, \
         connect_ns, tls_ns, first_byte_ns, status, retry_after_ns, failure, next_at, ?2 \
         FROM attempts WHERE place = ?1",
    )?;
    let mut place = Some(last_attempt);
    while let Some(here) = place {
        let read = read.query_row([here], |row| {
            let chain: (Option<i64>, u32) = (row.get(0)?, row.get(1)?);
            Ok((chain, row.get::<_, String>(2)?, row.get::<_, Vec<u8>>(3)?))
        });
        // A chain that is broken is carried as far as it goes: reading it says so.
        let Some(((earlier, number), head, excerpt)) = read.optional()? else { return Ok(()) };
        let plain = exchange(&head, &excerpt);
        let sealed = vault.seal_data(&Binding::Exchange(delivery, number), &plain);
        carry.execute(params![here, sealed])?;
        place = earlier.filter(|earlier| *earlier < here);
    }
    Ok(())
}

/// Writes the file anew and empties its log, if that is due after an upgrade. If the disk does not
/// let it, that stays due: what is kept is sealed already, so serving it need not wait. Fails only
/// for a damaged file.
pub(crate) fn scrub_if_due(connection: &Connection, lock: &FileLock) -> rusqlite::Result<()> {
    let is_due: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM meta WHERE name = 'scrub_due')",
        [],
        |row| row.get(0),
    )?;
    if !is_due {
        return Ok(());
    }
    tracing::info!("the database was upgraded; writing it anew, once");
    match scrub(connection, lock) {
        Err(error) if !is_damage(&error) => {
            tracing::error!(
                %error,
                "could not write the database anew: what an earlier version left in its free pages \
                 and its log remains, and no space is given back to the disk; the next start tries \
                 again and needs as much space as the database has"
            );
            Ok(())
        }
        other => other,
    }
}

/// Takes as much space again in the directory for temporary files, and in the log.
fn scrub(connection: &Connection, lock: &FileLock) -> rusqlite::Result<()> {
    // The log of the upgrade must not stand beside that of the copy.
    empty_log_or_fail(connection, lock)?;
    // In memory the copy would be as large as the database.
    connection.pragma_update(None, "temp_store", "file")?;
    give_space_back(connection)?;
    let written = connection.execute_batch("VACUUM");
    connection.pragma_update(None, "temp_store", "memory")?;
    // What a copy that failed left in the log is space that the service needs.
    let emptied = empty_log_or_fail(connection, lock);
    written?;
    emptied?;
    connection.execute("DELETE FROM meta WHERE name = 'scrub_due'", []).map(drop)
}

fn empty_log_or_fail(connection: &Connection, lock: &FileLock) -> rusqlite::Result<()> {
    if empty_log(connection, lock)? {
        return Ok(());
    }
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Err(rusqlite::Error::SqliteFailure(busy, Some("the log could not be emptied".to_owned())))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}
