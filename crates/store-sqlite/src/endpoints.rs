//! Endpoints in SQLite: rosters read, rows written with their sealed texts.

use std::time::Duration;

use domain::endpoint::{DisabledReason, Endpoint, EndpointChange, RatePerSecond};
use domain::event::EntityId;
use domain::filter::FilterText;
use domain::id::{AccountId, EndpointId};
use domain::secret::SigningSecret;
use domain::time::Timestamp;
use rusqlite::{Connection, params};
use store::catalogue::{EndpointCreated, Roster, SecretRotated};
use store::vault::Vault;

use crate::catalogue::{account, find};
use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row;
use crate::sealed_texts::{SealedTexts, pack_metadata};

pub(crate) fn roster(
    connection: &Connection,
    vault: &Vault,
    id: AccountId,
) -> Result<Option<Roster>> {
    let Some(account) = account(connection, id)? else { return Ok(None) };
    let version: i64 = connection
        .prepare_cached("SELECT roster_version FROM accounts WHERE id = ?1")?
        .query_row([id.to_bytes()], |row| row.get(0))?;
    let mut statement =
        connection.prepare_cached("SELECT * FROM endpoints WHERE account = ?1 ORDER BY id")?;
    let mut rows = statement.query([id.to_bytes()])?;
    let mut endpoints = Vec::new();
    while let Some(next) = rows.next()? {
        endpoints.push(row::endpoint(next, vault)?);
    }
    Ok(Some(Roster { account, version: version as u64, endpoints }))
}

impl Ledger<'_> {
    pub(crate) fn create_endpoint(
        &mut self,
        endpoint: &Endpoint,
        endpoints_max: usize,
    ) -> Result<EndpointCreated> {
        if self.roster_version(endpoint.account)?.is_none() {
            return Ok(EndpointCreated::NoAccount);
        }
        let count: i64 = self
            .prepare("SELECT count(*) FROM endpoints WHERE account = ?1")?
            .query_row([endpoint.account.to_bytes()], |row| row.get(0))?;
        if count as usize >= endpoints_max {
            return Ok(EndpointCreated::LimitReached);
        }
        self.write_endpoint(
            endpoint,
            "INSERT INTO endpoints VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, \
             ?20, ?21, ?22, ?23, NULL)",
        )?;
        self.bump_roster(endpoint.account)?;
        Ok(EndpointCreated::Created)
    }

    pub(crate) fn change_endpoint(
        &mut self,
        account: AccountId,
        id: EndpointId,
        expected: Option<u64>,
        change: EndpointChange,
        now: Timestamp,
    ) -> Result<Option<Endpoint>> {
        if expected.is_some() && expected != self.roster_version(account)? {
            return Ok(None);
        }
        let Some(mut endpoint) = self.endpoint_of(account, id)? else { return Ok(None) };
        change.apply(&mut endpoint, now);
        self.rewrite_endpoint(&endpoint)?;
        Ok(Some(endpoint))
    }

    pub(crate) fn rotate_secret(
        &mut self,
        account: AccountId,
        id: EndpointId,
        new: SigningSecret,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<SecretRotated> {
        let Some(mut endpoint) = self.endpoint_of(account, id)? else {
            return Ok(SecretRotated::NoEndpoint);
        };
        if let Err(still) = endpoint.rotate_secret(new, overlap, now) {
            return Ok(SecretRotated::StillOverlapping(still));
        }
        self.rewrite_endpoint(&endpoint)?;
        Ok(SecretRotated::Rotated(Box::new(endpoint)))
    }

    fn endpoint_of(&self, account: AccountId, id: EndpointId) -> Result<Option<Endpoint>> {
        let sql = "SELECT * FROM endpoints WHERE id = ?1 AND account = ?2";
        let parameters = [id.to_bytes(), account.to_bytes()];
        find(self.connection, sql, parameters, |row| row::endpoint(row, self.vault))
    }

    fn rewrite_endpoint(&mut self, endpoint: &Endpoint) -> Result<()> {
        self.write_endpoint(
            endpoint,
            "UPDATE endpoints SET account = ?2, contract = ?3, url = ?4, secret = ?5, \
             previous_secret = ?6, previous_signs_until = ?7, disabled_reason = ?8, \
             event_types = ?9, entity_id = ?10, description = ?11, headers = ?12, \
             max_in_flight = ?13, retry_schedule_ms = ?14, created_at = ?15, updated_at = ?16, \
             filter = ?17, delivery_order = ?18, rate = ?19, timeout_s = ?20, metadata = ?21, \
             client_identity = ?22, client_credentials = ?23 WHERE id = ?1",
        )?;
        self.bump_roster(endpoint.account)?;
        Ok(())
    }

    /// Runs the statement with the columns of the table, in their order.
    fn write_endpoint(&self, endpoint: &Endpoint, sql: &str) -> Result<()> {
        let SealedTexts([secret, previous_secret, headers, client_identity, client_credentials]) =
            SealedTexts::of(endpoint, self.vault);
        let previous = endpoint.previous_secret.as_ref();
        self.execute(
            sql,
            params![
                endpoint.id.to_bytes(),
                endpoint.account.to_bytes(),
                endpoint.contract.name(),
                endpoint.url.as_str(),
                secret,
                previous_secret,
                previous.map(|previous| previous.signs_until.as_millis()),
                endpoint.status.disabled_reason().map(DisabledReason::name),
                row::event_types(&endpoint.subscription),
                endpoint.entity_id.as_ref().map(EntityId::as_str),
                endpoint.description,
                headers,
                endpoint.max_in_flight.map(|number| number.get() as i64),
                endpoint.retry_schedule.as_ref().map(row::schedule),
                endpoint.created_at.as_millis(),
                endpoint.updated_at.as_millis(),
                endpoint.filter.as_ref().map(FilterText::as_str),
                endpoint.order.name(),
                endpoint.rate.map(RatePerSecond::get),
                endpoint.timeout.map(|timeout| timeout.get().as_secs() as i64),
                pack_metadata(&endpoint.metadata),
                client_identity,
                client_credentials,
            ],
        )?;
        Ok(write_digest(self.connection, endpoint.id.to_bytes())?)
    }
}

/// Writes what proves that an endpoint's row is as it was written.
pub(crate) fn write_digest(connection: &Connection, id: [u8; 16]) -> rusqlite::Result<()> {
    let digest = connection
        .prepare_cached("SELECT * FROM endpoints WHERE id = ?1")?
        .query_row([id], row::endpoint_digest)?;
    connection
        .prepare_cached("UPDATE endpoints SET digest = ?2 WHERE id = ?1")?
        .execute(params![id, digest])?;
    Ok(())
}
