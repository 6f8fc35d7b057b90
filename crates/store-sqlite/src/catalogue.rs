//! Accounts, keys and endpoints in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use domain::account::{Account, AccountChange};
use domain::audit::AuditNote;
use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::endpoint::{Endpoint, EndpointChange};
use domain::event::EventType;
use domain::health::Streak;
use domain::id::{AccountId, EndpointId, KeyId};
use domain::page::{Page, PageRequest};
use domain::sealing::{Binding, SealingKeyId};
use domain::secret::SigningSecret;
use domain::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use store::catalogue::{
    AccountCreated, Catalogue, DeletedHistory, EndpointCreated, EventTypePut, KeyRecord, Roster,
    SecretRotated,
};

use crate::endpoints::roster;
use crate::event_types::event_types_of;
use crate::failure::Result;
use crate::keys::{pepper, unreadable_pepper};
use crate::ledger::Ledger;
use crate::page::{id_below, page_of_rows};
use crate::row;
use crate::streaks::read_streaks;
use crate::writer::Haste;
use crate::{Answer, SqliteStore};

/// About what one request of this port writes.
const FEW_ROWS: usize = 4;

/// The first row, read by `read`, if there is one.
pub(crate) fn find<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    rows.next()?.map(read).transpose()
}

fn exists(connection: &Connection, sql: &str, parameters: impl rusqlite::Params) -> Result<bool> {
    Ok(connection.prepare_cached(sql)?.exists(parameters)?)
}

pub(crate) fn account(connection: &Connection, id: AccountId) -> Result<Option<Account>> {
    let sql = "SELECT * FROM accounts WHERE id = ?1";
    find(connection, sql, [id.to_bytes()], row::account)
}

fn operations_account(connection: &Connection) -> Result<Option<AccountId>> {
    find(connection, "SELECT * FROM meta WHERE name = 'operations_account'", [], |row| {
        row::Fields::new("meta", row).id("value", AccountId::from_bytes)
    })
}

impl Ledger<'_> {
    fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Result<[u8; 32]> {
        if let Some(sealed) = pepper(self.connection)? {
            let opened = self.vault.open_secret(&Binding::Pepper, &sealed).ok();
            return opened.and_then(|it| it.try_into().ok()).ok_or_else(unreadable_pepper);
        }
        let sealed = self.vault.seal_secret(&Binding::Pepper, &candidate);
        self.execute("INSERT INTO meta VALUES ('pepper', ?1)", [sealed])?;
        Ok(candidate)
    }

    fn create_account(&self, account: &Account, first_key: &KeyRecord) -> Result<AccountCreated> {
        let taken = "SELECT 1 FROM accounts WHERE username = ?1";
        if exists(self.connection, taken, [account.username.as_str()])? {
            return Ok(AccountCreated::UsernameTaken);
        }
        self.insert_account(account)?;
        self.insert_key(first_key)?;
        Ok(AccountCreated::Created)
    }

    fn create_operations_account(&self, account: &Account) -> Result<AccountCreated> {
        let taken = "SELECT 1 FROM accounts WHERE username = ?1";
        if operations_account(self.connection)?.is_some()
            || exists(self.connection, taken, [account.username.as_str()])?
        {
            return Ok(AccountCreated::UsernameTaken);
        }
        self.insert_account(account)?;
        self.execute(
            "INSERT OR REPLACE INTO meta VALUES ('operations_account', ?1)",
            [account.id.to_bytes()],
        )?;
        Ok(AccountCreated::Created)
    }

    fn insert_account(&self, account: &Account) -> Result<()> {
        self.execute(
            "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)",
            params![
                account.id.to_bytes(),
                account.username.as_str(),
                account.contract.name(),
                account.plan,
                account.credits,
                account.api_access,
                account.created_at.as_millis(),
            ],
        )?;
        Ok(())
    }

    fn change_account(&mut self, id: AccountId, change: AccountChange) -> Result<Option<Account>> {
        let Some(mut account) = account(self.connection, id)? else { return Ok(None) };
        change.apply(&mut account);
        self.execute(
            "UPDATE accounts SET plan = ?2, credits = ?3, api_access = ?4 WHERE id = ?1",
            params![id.to_bytes(), account.plan, account.credits, account.api_access],
        )?;
        self.bump_roster(id)?;
        Ok(Some(account))
    }

    fn create_key(&mut self, key: &KeyRecord) -> Result<bool> {
        if let Some(account) = key.account
            && self.roster_version(account)?.is_none()
        {
            return Ok(false);
        }
        self.insert_key(key)?;
        Ok(true)
    }

    fn insert_key(&self, key: &KeyRecord) -> Result<()> {
        self.execute(
            "INSERT INTO keys VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                key.id.to_bytes(),
                key.account.map(AccountId::to_bytes),
                key.public_part,
                key.hash,
                key.created_at.as_millis(),
                key.last_used_at.map(Timestamp::as_millis),
            ],
        )?;
        Ok(())
    }

    fn delete_key(&self, account: Option<AccountId>, id: KeyId) -> Result<Option<String>> {
        let public_part = self
            .prepare("DELETE FROM keys WHERE id = ?1 AND account IS ?2 RETURNING public_part")?
            .query_row(params![id.to_bytes(), account.map(AccountId::to_bytes)], |row| row.get(0))
            .optional()?;
        Ok(public_part)
    }

    fn note_key_uses(&self, uses: &[(KeyId, Timestamp)]) -> Result<()> {
        let mut note = self.prepare("UPDATE keys SET last_used_at = ?2 WHERE id = ?1")?;
        for (id, used_at) in uses {
            note.execute(params![id.to_bytes(), used_at.as_millis()])?;
        }
        Ok(())
    }
}

#[async_trait]
impl Catalogue for SqliteStore {
    async fn read_or_create_pepper(&self, candidate: [u8; 32]) -> Answer<[u8; 32]> {
        self.write(Haste::AtOnce, FEW_ROWS, move |ledger| ledger.read_or_create_pepper(candidate))
            .await
    }

    async fn create_account(
        &self,
        account: Account,
        first_key: KeyRecord,
        note: AuditNote,
    ) -> Answer<AccountCreated> {
        let is_change = |created: &AccountCreated| *created == AccountCreated::Created;
        self.write_noted(FEW_ROWS, note, is_change, move |ledger| {
            ledger.create_account(&account, &first_key)
        })
        .await
    }

    async fn read_account(&self, id: AccountId) -> Answer<Option<Account>> {
        self.read(move |connection| account(connection, id)).await
    }

    async fn find_account(&self, username: &str) -> Answer<Option<AccountId>> {
        let username = username.to_owned();
        self.read(move |connection| {
            let sql = "SELECT id FROM accounts WHERE username = ?1";
            find(connection, sql, [username], |row| {
                row::Fields::new("accounts", row).id("id", AccountId::from_bytes)
            })
        })
        .await
    }

    async fn list_accounts(&self, page: PageRequest) -> Answer<Page<Account>> {
        self.read(move |connection| {
            let sql = "SELECT * FROM accounts WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
            let parameters = params![id_below(page.before), page.limit as i64 + 1];
            page_of_rows(connection, sql, parameters, page.limit, |row| {
                let account = row::account(row)?;
                Ok((account.id.as_u128(), account))
            })
        })
        .await
    }

    async fn change_account(
        &self,
        id: AccountId,
        change: AccountChange,
        note: AuditNote,
    ) -> Answer<Option<Account>> {
        self.write_noted(FEW_ROWS, note, Option::is_some, move |ledger| {
            ledger.change_account(id, change)
        })
        .await
    }

    async fn delete_account(&self, id: AccountId, note: AuditNote) -> Answer<bool> {
        let weight = crate::settle::SETTLED_AT_ONCE_ROWS;
        self.write_noted(
            weight,
            note,
            |is_deleted| *is_deleted,
            move |ledger| ledger.delete_account(id),
        )
        .await
    }

    async fn read_roster(&self, id: AccountId) -> Answer<Option<Roster>> {
        let vault = self.vault();
        self.read(move |connection| roster(connection, &vault, id)).await
    }

    async fn create_key(&self, key: KeyRecord, note: AuditNote) -> Answer<bool> {
        self.write_noted(
            FEW_ROWS,
            note,
            |is_created| *is_created,
            move |ledger| ledger.create_key(&key),
        )
        .await
    }

    async fn find_key(&self, public_part: &str) -> Answer<Option<KeyRecord>> {
        let public_part = public_part.to_owned();
        self.read(move |connection| {
            let sql = "SELECT * FROM keys WHERE public_part = ?1";
            find(connection, sql, [public_part], row::key)
        })
        .await
    }

    async fn list_keys(
        &self,
        account: Option<AccountId>,
        page: PageRequest,
    ) -> Answer<Page<KeyRecord>> {
        self.read(move |connection| {
            let sql = "SELECT * FROM keys WHERE account IS ?1 AND id < ?2 \
                       ORDER BY id DESC LIMIT ?3";
            let account = account.map(AccountId::to_bytes);
            let parameters = params![account, id_below(page.before), page.limit as i64 + 1];
            page_of_rows(connection, sql, parameters, page.limit, |row| {
                let key = row::key(row)?;
                Ok((key.id.as_u128(), key))
            })
        })
        .await
    }

    async fn delete_key(
        &self,
        account: Option<AccountId>,
        id: KeyId,
        note: AuditNote,
    ) -> Answer<Option<String>> {
        self.write_noted(FEW_ROWS, note, Option::is_some, move |ledger| {
            ledger.delete_key(account, id)
        })
        .await
    }

    async fn note_key_uses(&self, uses: Vec<(KeyId, Timestamp)>) -> Answer<()> {
        self.write(Haste::CanWait, uses.len(), move |ledger| ledger.note_key_uses(&uses)).await
    }

    async fn create_endpoint(
        &self,
        endpoint: Endpoint,
        endpoints_max: usize,
        note: AuditNote,
    ) -> Answer<EndpointCreated> {
        let is_change = |created: &EndpointCreated| *created == EndpointCreated::Created;
        self.write_noted(FEW_ROWS, note, is_change, move |ledger| {
            ledger.create_endpoint(&endpoint, endpoints_max)
        })
        .await
    }

    async fn find_endpoint(&self, id: EndpointId) -> Answer<Option<Endpoint>> {
        let vault = self.vault();
        self.read(move |connection| {
            let sql = "SELECT * FROM endpoints WHERE id = ?1";
            find(connection, sql, [id.to_bytes()], |row| row::endpoint(row, &vault))
        })
        .await
    }

    async fn list_endpoints(
        &self,
        account: AccountId,
        page: PageRequest,
    ) -> Answer<Page<Endpoint>> {
        let vault = self.vault();
        self.read(move |connection| {
            let sql = "SELECT * FROM endpoints WHERE account = ?1 AND id < ?2 \
                       ORDER BY id DESC LIMIT ?3";
            let parameters =
                params![account.to_bytes(), id_below(page.before), page.limit as i64 + 1];
            page_of_rows(connection, sql, parameters, page.limit, |row| {
                let endpoint = row::endpoint(row, &vault)?;
                Ok((endpoint.id.as_u128(), endpoint))
            })
        })
        .await
    }

    async fn change_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        expected: Option<u64>,
        change: EndpointChange,
        note: AuditNote,
    ) -> Answer<Option<Endpoint>> {
        let now = note.at;
        self.write_noted(FEW_ROWS, note, Option::is_some, move |ledger| {
            ledger.change_endpoint(account, id, expected, change, now)
        })
        .await
    }

    async fn delete_endpoint(
        &self,
        account: AccountId,
        id: EndpointId,
        history: DeletedHistory,
        note: AuditNote,
    ) -> Answer<bool> {
        let (weight, now) = (crate::settle::SETTLED_AT_ONCE_ROWS, note.at);
        self.write_noted(
            weight,
            note,
            |is_deleted| *is_deleted,
            move |ledger| ledger.delete_endpoint(account, id, history, now),
        )
        .await
    }

    async fn rotate_secret(
        &self,
        account: AccountId,
        id: EndpointId,
        new: SigningSecret,
        overlap: Duration,
        note: AuditNote,
    ) -> Answer<SecretRotated> {
        let now = note.at;
        let is_change = |rotated: &SecretRotated| matches!(rotated, SecretRotated::Rotated(_));
        self.write_noted(FEW_ROWS, note, is_change, move |ledger| {
            ledger.rotate_secret(account, id, new, overlap, now)
        })
        .await
    }

    async fn sealing_keys(&self) -> Answer<Vec<(SealingKeyId, u64)>> {
        self.count_sealed().await
    }

    async fn reseal(&self, rows_max: usize) -> Answer<usize> {
        self.seal_again(rows_max).await
    }

    async fn find_operations_account(&self) -> Answer<Option<AccountId>> {
        self.read(operations_account).await
    }

    async fn create_operations_account(
        &self,
        account: Account,
        note: AuditNote,
    ) -> Answer<AccountCreated> {
        let is_change = |created: &AccountCreated| *created == AccountCreated::Created;
        self.write_noted(FEW_ROWS, note, is_change, move |ledger| {
            ledger.create_operations_account(&account)
        })
        .await
    }

    async fn put_event_type(
        &self,
        registered: RegisteredType,
        note: AuditNote,
    ) -> Answer<EventTypePut> {
        let is_change = |put: &EventTypePut| *put != EventTypePut::LimitReached;
        self.write_noted(FEW_ROWS, note, is_change, move |ledger| {
            ledger.put_event_type(&registered)
        })
        .await
    }

    async fn list_event_types(&self, contract: Contract) -> Answer<Vec<RegisteredType>> {
        self.read(move |connection| event_types_of(connection, contract)).await
    }

    async fn delete_event_type(
        &self,
        contract: Contract,
        name: &EventType,
        note: AuditNote,
    ) -> Answer<bool> {
        let name = name.clone();
        self.write_noted(
            FEW_ROWS,
            note,
            |is_deleted| *is_deleted,
            move |ledger| ledger.delete_event_type(contract, &name),
        )
        .await
    }

    async fn read_streaks(
        &self,
        after: Option<EndpointId>,
        limit: usize,
    ) -> Answer<Vec<(EndpointId, Streak)>> {
        self.read(move |connection| read_streaks(connection, after, limit)).await
    }

    async fn write_streaks(&self, streaks: Vec<(EndpointId, Option<Streak>)>) -> Answer<()> {
        self.write(Haste::CanWait, streaks.len(), move |ledger| ledger.write_streaks(&streaks))
            .await
    }
}
