//! The keys that seal what is kept: checked when a file is opened, counted, and exchanged.
//!
//! Promise: a file opens only with every master key that it needs, while single damaged rows hurt
//! none but their own account; nothing is served in clear, and
//! nothing is sealed under a data key that is not in the file. Neighbours: `store::vault` holds the
//! keys, `upgrade` seals what was clear, `row` opens and seals endpoints.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use domain::id::{AccountId, EndpointId};
use domain::sealing::{Binding, KeyRing, OpenError, SealingKey, SealingKeyId, sealed_under};
use rusqlite::{Connection, params, params_from_iter};
use store::vault::Vault;

use crate::catalogue::find;
use crate::failure::{Failure, Result};
use crate::ledger::Ledger;
use crate::row::{Fields, hex};
use crate::sealed_texts::{COLUMNS, SealedTexts};
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// Every text that is sealed under a master key.
const MASTER_SEALED: &str = "SELECT secret AS sealed FROM endpoints \
     UNION ALL SELECT previous_secret FROM endpoints WHERE previous_secret IS NOT NULL \
     UNION ALL SELECT headers FROM endpoints \
     UNION ALL SELECT client_identity FROM endpoints WHERE client_identity IS NOT NULL \
     UNION ALL SELECT client_credentials FROM endpoints WHERE client_credentials IS NOT NULL \
     UNION ALL SELECT sealed FROM data_keys \
     UNION ALL SELECT value FROM meta WHERE name = 'pepper'";

/// Why the keys are not good for the file.
#[derive(Debug)]
pub(crate) enum KeysRefused {
    /// The ring lacks a key.
    Missing(SealingKeyId),
    /// The ring's key of that id is another.
    Wrong(SealingKeyId),
    /// What is sealed is not as we write it.
    Damaged(Failure),
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl KeysRefused {
    fn of(error: OpenError, unreadable: Failure) -> Self {
        match error {
            OpenError::UnknownKey(id) => Self::Missing(id),
            OpenError::Refused(id) => Self::Wrong(id),
            OpenError::Malformed => Self::Damaged(unreadable),
        }
    }
}

impl From<Failure> for KeysRefused {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sqlite(error) | Failure::Commit(error) => Self::Sqlite(error),
            other @ (Failure::Unreadable { .. } | Failure::NoRoom) => Self::Damaged(other),
        }
    }
}

/// Checks that the vault's master ring opens what the file holds, and takes the file's data keys
/// into use.
pub(crate) fn take_into_use(
    connection: &Connection,
    vault: &Vault,
) -> std::result::Result<(), KeysRefused> {
    let master = vault.master();
    let (keys, proven) = open_keys(connection, &master)?;
    let sealing = counted(connection)?.into_iter().map(|(id, _)| id);
    for id in sealing.filter(|id| !proven.contains(id)) {
        prove_by_endpoints(connection, &master, id)?;
    }
    let none = Failure::Unreadable { table: "data_keys", column: "sealed", row: "1".to_owned() };
    vault.set_data(ring_of(keys).ok_or(KeysRefused::Damaged(none))?);
    Ok(())
}

/// Opens the data keys and the pepper, which every file has in which anything is sealed. Answers the
/// data keys, oldest first, and which master keys that proved.
pub(crate) fn open_keys(
    connection: &Connection,
    master: &KeyRing,
) -> std::result::Result<(Vec<SealingKey>, BTreeSet<SealingKeyId>), KeysRefused> {
    let (mut keys, mut proven) = (Vec::new(), BTreeSet::new());
    for stored in stored_keys(connection)? {
        let refused = |error| KeysRefused::of(error, stored.unreadable());
        keys.push(stored.open(master).map_err(refused)?);
        proven.insert(sealed_under(&stored.sealed).map_err(refused)?);
    }
    if let Some(sealed) = pepper(connection)? {
        let refused = |error| KeysRefused::of(error, unreadable_pepper());
        master.open(&Binding::Pepper, &sealed).map_err(refused)?;
        proven.insert(sealed_under(&sealed).map_err(refused)?);
    }
    Ok((keys, proven))
}

/// Refuses a ring that lacks the key, or has another of its id, if more than one endpoint needs it.
/// One alone is taken for damaged: it is named, and its account learns of it when it is read.
fn prove_by_endpoints(
    connection: &Connection,
    master: &KeyRing,
    id: SealingKeyId,
) -> std::result::Result<(), KeysRefused> {
    if opens_a_secret(connection, master, id)? {
        return Ok(());
    }
    let endpoints = endpoints_under(connection, id)?;
    if endpoints.len() > 1 {
        let is_known = master.keys().iter().any(|key| key.id() == id);
        return Err(if is_known { KeysRefused::Wrong(id) } else { KeysRefused::Missing(id) });
    }
    for endpoint in endpoints {
        tracing::error!(
            "endpoints row {} does not open: its texts are damaged, or the key file lacks the \
             key {id} or has another of that id",
            hex(&endpoint)
        );
    }
    Ok(())
}

/// A data key as it is stored.
struct StoredKey {
    number: i64,
    id: SealingKeyId,
    sealed: Vec<u8>,
}

impl StoredKey {
    fn open(&self, master: &KeyRing) -> std::result::Result<SealingKey, OpenError> {
        let bytes = master.open(&Binding::DataKey(self.id), &self.sealed)?;
        Ok(SealingKey::new(self.id, bytes.try_into().map_err(|_| OpenError::Malformed)?))
    }

    fn unreadable(&self) -> Failure {
        Failure::Unreadable { table: "data_keys", column: "sealed", row: self.number.to_string() }
    }
}

/// The data keys, oldest first.
fn stored_keys(connection: &Connection) -> Result<Vec<StoredKey>> {
    let mut statement =
        connection.prepare_cached("SELECT number, id, sealed FROM data_keys ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        let fields = Fields::new("data_keys", row);
        keys.push(StoredKey {
            number: fields.get("number")?,
            id: SealingKeyId::from_bytes(fields.get("id")?),
            sealed: fields.get("sealed")?,
        });
    }
    Ok(keys)
}

/// The ring of these keys, oldest first; the newest one is active.
fn ring_of(keys: Vec<SealingKey>) -> Option<KeyRing> {
    let mut keys = keys.into_iter();
    let oldest = KeyRing::of(keys.next()?);
    Some(keys.fold(oldest, |ring, key| ring.with_active(key)))
}

/// Makes a data key and writes it down as the newest. Answers it as a ring of its own.
pub(crate) fn make_data_key(connection: &Connection, vault: &Vault) -> rusqlite::Result<KeyRing> {
    let key = vault.make_data_key();
    let sealed = vault.seal_secret(&Binding::DataKey(key.id()), key.reveal());
    connection.execute(
        "INSERT INTO data_keys (id, sealed) VALUES (?1, ?2)",
        params![key.id().to_bytes(), sealed],
    )?;
    Ok(KeyRing::of(key))
}

/// The pepper, sealed.
pub(crate) fn pepper(connection: &Connection) -> Result<Option<Vec<u8>>> {
    find(connection, "SELECT value FROM meta WHERE name = 'pepper'", [], |row| {
        row.get(0).map_err(|_| unreadable_pepper())
    })
}

pub(crate) fn unreadable_pepper() -> Failure {
    Failure::Unreadable { table: "meta", column: "value", row: "pepper".to_owned() }
}

/// Secrets that are tried before a key is said to be wrong: one alone may be damaged.
const SECRETS_TRIED: i64 = 16;

/// Whether the ring opens one of the texts of endpoints that the key sealed.
fn opens_a_secret(connection: &Connection, master: &KeyRing, id: SealingKeyId) -> Result<bool> {
    for (column, binding) in COLUMNS {
        let mut statement = connection.prepare(&format!(
            "SELECT id, account, {column} AS sealed FROM endpoints \
             WHERE substr({column}, 2, 8) = ?1 LIMIT ?2"
        ))?;
        let mut rows = statement.query(params![id.to_bytes(), SECRETS_TRIED])?;
        while let Some(row) = rows.next()? {
            let fields = Fields::new("endpoints", row);
            let endpoint = fields.id("id", EndpointId::from_bytes)?;
            let account = fields.id("account", AccountId::from_bytes)?;
            let sealed: Vec<u8> = fields.get("sealed")?;
            if master.open(&binding(account, endpoint), &sealed).is_ok() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// One or two of the endpoints that have a text sealed under the key, by their ids as stored.
fn endpoints_under(connection: &Connection, id: SealingKeyId) -> Result<Vec<Vec<u8>>> {
    let mut statement = connection.prepare(
        "SELECT id FROM endpoints WHERE substr(secret, 2, 8) = ?1 \
         OR substr(previous_secret, 2, 8) = ?1 OR substr(headers, 2, 8) = ?1 \
         OR substr(client_identity, 2, 8) = ?1 OR substr(client_credentials, 2, 8) = ?1 LIMIT 2",
    )?;
    let mut rows = statement.query([id.to_bytes()])?;
    let mut endpoints = Vec::new();
    while let Some(row) = rows.next()? {
        endpoints.push(Fields::new("endpoints", row).get("id")?);
    }
    Ok(endpoints)
}

/// The master keys that seal something, and how much.
fn counted(connection: &Connection) -> Result<Vec<(SealingKeyId, u64)>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT substr(sealed, 2, 8) AS key, count(*) AS texts FROM ({MASTER_SEALED}) \
         WHERE length(sealed) > 9 \
         GROUP BY key ORDER BY key"
    ))?;
    let mut rows = statement.query([])?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let fields = Fields::new("sealed", row);
        let id = fields.get("key").map(SealingKeyId::from_bytes)?;
        counts.push((id, fields.get::<i64>("texts")? as u64));
    }
    Ok(counts)
}

/// An endpoint's texts as they are stored.
struct StoredTexts {
    account: AccountId,
    endpoint: EndpointId,
    texts: SealedTexts,
}

impl StoredTexts {
    fn read(fields: Fields<'_, '_>) -> Result<Self> {
        let mut texts = SealedTexts(Default::default());
        for (text, (column, _)) in texts.0.iter_mut().zip(COLUMNS) {
            *text = fields.get(column)?;
        }
        Ok(Self {
            account: fields.id("account", AccountId::from_bytes)?,
            endpoint: fields.id("id", EndpointId::from_bytes)?,
            texts,
        })
    }

    /// The same under the active master key; `fields` is the row they are of.
    fn seal_again(&self, vault: &Vault, fields: Fields<'_, '_>) -> Result<SealedTexts> {
        let mut again = SealedTexts(Default::default());
        for ((again, sealed), (column, binding)) in
            again.0.iter_mut().zip(&self.texts.0).zip(COLUMNS)
        {
            let Some(sealed) = sealed else { continue };
            let place = binding(self.account, self.endpoint);
            let plain = vault.open_secret(&place, sealed);
            let plain = plain.map_err(|_| fields.unreadable(column))?;
            *again = Some(vault.seal_secret(&place, &plain));
        }
        Ok(again)
    }
}

/// Before the first row of every table.
pub(crate) const TABLE_START: i64 = i64::MIN;

/// What a step of sealing again found to do.
struct Stale {
    /// The pepper or a data key.
    has_keys: bool,
    /// Endpoints: as stored, and sealed again.
    endpoints: Vec<(StoredTexts, SealedTexts)>,
    /// Where the last of them stands.
    place: i64,
}

impl Stale {
    /// Looks from `after` on, and from the start if there is nothing more.
    fn find(connection: &Connection, vault: &Vault, after: i64, rows_max: usize) -> Result<Self> {
        if after > TABLE_START
            && let Ok(stale) = Self::find_after(connection, vault, after, rows_max)
            && (stale.has_keys || !stale.endpoints.is_empty())
        {
            return Ok(stale);
        }
        Self::find_after(connection, vault, TABLE_START, rows_max)
    }

    fn find_after(
        connection: &Connection,
        vault: &Vault,
        after: i64,
        rows_max: usize,
    ) -> Result<Self> {
        let active = vault.master().active().id().to_bytes();
        let has_keys = "SELECT EXISTS (SELECT 1 FROM data_keys WHERE substr(sealed, 2, 8) <> ?1) \
             OR EXISTS (SELECT 1 FROM meta \
             WHERE name = 'pepper' AND substr(value, 2, 8) <> ?1)";
        let has_keys =
            connection.prepare_cached(has_keys)?.query_row([active], |row| row.get(0))?;
        let mut stale = Self { has_keys, endpoints: Vec::new(), place: after };
        let mut statement = connection.prepare_cached(
            "SELECT rowid AS place, id, account, secret, previous_secret, headers, \
             client_identity, client_credentials FROM endpoints \
             WHERE rowid > ?2 AND (substr(secret, 2, 8) <> ?1 OR substr(headers, 2, 8) <> ?1 \
             OR coalesce(substr(previous_secret, 2, 8) <> ?1, 0) \
             OR coalesce(substr(client_identity, 2, 8) <> ?1, 0) \
             OR coalesce(substr(client_credentials, 2, 8) <> ?1, 0)) ORDER BY rowid",
        )?;
        let mut rows = statement.query(params![active, after])?;
        let mut unreadable = None;
        while stale.endpoints.len() < rows_max
            && let Some(row) = rows.next()?
        {
            let fields = Fields::new("endpoints", row);
            let stored = StoredTexts::read(fields)?;
            match stored.seal_again(vault, fields) {
                Ok(again) => {
                    stale.endpoints.push((stored, again));
                    stale.place = fields.get("place")?;
                }
                // The others must not wait for one that never opens.
                Err(failure) => unreadable = Some(failure),
            }
        }
        match unreadable {
            Some(failure) if stale.endpoints.is_empty() && !has_keys => Err(failure),
            _ => Ok(stale),
        }
    }
}

/// Keys that were sealed again.
struct KeysSealed {
    rows: usize,
    /// The data keys with a new one, if one was made.
    data: Option<KeyRing>,
}

impl Ledger<'_> {
    /// Seals the pepper and data keys again, the newest first, at most `rows_max` of them.
    fn seal_keys_again(&mut self, rows_max: usize) -> Result<KeysSealed> {
        let vault = self.vault;
        let master = vault.master();
        let active = master.active().id();
        let mut sealed_again = KeysSealed { rows: 0, data: None };
        if let Some(sealed) = pepper(self.connection)?
            && sealed_under(&sealed) != Ok(active)
        {
            let plain = master.open(&Binding::Pepper, &sealed).map_err(|_| unreadable_pepper())?;
            let sealed = vault.seal_secret(&Binding::Pepper, &plain);
            self.execute("UPDATE meta SET value = ?1 WHERE name = 'pepper'", [sealed])?;
            sealed_again.rows += 1;
        }
        let stored = stored_keys(self.connection)?;
        let is_stale = |key: &StoredKey| sealed_under(&key.sealed) != Ok(active);
        let takes_newest = stored.last().is_some_and(is_stale) && sealed_again.rows < rows_max;
        let room = rows_max.saturating_sub(sealed_again.rows);
        for stored in stored.iter().rev().filter(|key| is_stale(key)).take(room) {
            let key = stored.open(&master).map_err(|_| stored.unreadable())?;
            let sealed = vault.seal_secret(&Binding::DataKey(key.id()), key.reveal());
            self.execute(
                "UPDATE data_keys SET sealed = ?2 WHERE number = ?1",
                params![stored.number, sealed],
            )?;
            sealed_again.rows += 1;
        }
        if takes_newest {
            make_data_key(self.connection, vault)?;
            let keys = stored_keys(self.connection)?;
            let open = |key: &StoredKey| key.open(&master).map_err(|_| key.unreadable());
            sealed_again.data = ring_of(keys.iter().map(open).collect::<Result<_>>()?);
        }
        Ok(sealed_again)
    }

    /// Writes endpoints' texts where they are still as they were read: whatever changed since is
    /// sealed under the active key.
    fn replace_texts(&self, endpoints: &[(StoredTexts, SealedTexts)]) -> Result<()> {
        let mut replace = self.prepare(
            "UPDATE endpoints SET secret = ?2, previous_secret = ?3, headers = ?4, \
             client_identity = ?5, client_credentials = ?6 \
             WHERE id = ?1 AND secret = ?7 AND previous_secret IS ?8 AND headers = ?9 \
             AND client_identity IS ?10 AND client_credentials IS ?11",
        )?;
        for (before, after) in endpoints {
            let id = Some(before.endpoint.to_bytes().to_vec());
            let texts = after.0.iter().chain(&before.texts.0);
            replace.execute(params_from_iter(std::iter::once(&id).chain(texts)))?;
        }
        Ok(())
    }
}

impl SqliteStore {
    pub(crate) async fn count_sealed(&self) -> Answer<Vec<(SealingKeyId, u64)>> {
        self.read(counted).await
    }

    /// One step: keys first, so that a data key of before the rotation is soon out of use.
    pub(crate) async fn seal_again(&self, rows_max: usize) -> Answer<usize> {
        // Only the writer seals under a master key: what it sealed under one that was active before
        // is committed after this, so that a step that finds nothing is right.
        self.write(Haste::AtOnce, 0, |_| Ok(())).await?;
        let vault = self.vault();
        // Steps carry on where the last one ended: from the start, each would read them all.
        let after = self.sealed_again_to.load(Ordering::Relaxed);
        let find = move |connection: &Connection| Stale::find(connection, &vault, after, rows_max);
        let stale = self.read(find).await?;
        if stale.has_keys {
            let step = move |ledger: &mut Ledger<'_>| {
                ledger.in_savepoint(|ledger| ledger.seal_keys_again(rows_max))
            };
            let sealed = self.write(Haste::CanWait, rows_max, step).await?;
            if let Some(data) = sealed.data {
                // Not before the new key is on stable storage.
                self.vault.set_data(data);
            }
            return Ok(sealed.rows);
        }
        let rows = stale.endpoints.len();
        if rows > 0 {
            let endpoints = stale.endpoints;
            self.write(Haste::CanWait, rows, move |ledger| ledger.replace_texts(&endpoints))
                .await?;
        }
        self.sealed_again_to.store(stale.place, Ordering::Relaxed);
        Ok(rows)
    }
}
