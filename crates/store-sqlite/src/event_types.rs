//! Event types that an operator registered.

use domain::catalogue::RegisteredType;
use domain::contract::Contract;
use domain::event::EventType;
use domain::limits::EVENT_TYPES_PER_CONTRACT_MAX;
use rusqlite::{Connection, params};
use store::catalogue::EventTypePut;

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::Fields;

impl Ledger<'_> {
    pub(crate) fn put_event_type(&self, registered: &RegisteredType) -> Result<EventTypePut> {
        let (contract, name) = (registered.contract.name(), registered.name.as_str());
        let changed = self.execute(
            "UPDATE event_types SET description = ?3, schema = ?4, sample = ?5, updated_at = ?6 \
             WHERE contract = ?1 AND name = ?2",
            params![
                contract,
                name,
                registered.description,
                registered.schema,
                registered.sample,
                registered.updated_at.as_millis(),
            ],
        )?;
        if changed > 0 {
            return Ok(EventTypePut::Changed);
        }
        let count: i64 = self
            .prepare("SELECT count(*) FROM event_types WHERE contract = ?1")?
            .query_row([contract], |row| row.get(0))?;
        if count >= EVENT_TYPES_PER_CONTRACT_MAX as i64 {
            return Ok(EventTypePut::LimitReached);
        }
        self.execute(
            "INSERT INTO event_types VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                contract,
                name,
                registered.description,
                registered.schema,
                registered.sample,
                registered.created_at.as_millis(),
                registered.updated_at.as_millis(),
            ],
        )?;
        Ok(EventTypePut::Created)
    }

    pub(crate) fn delete_event_type(&self, contract: Contract, name: &EventType) -> Result<bool> {
        let deleted = self.execute(
            "DELETE FROM event_types WHERE contract = ?1 AND name = ?2",
            [contract.name(), name.as_str()],
        )?;
        Ok(deleted > 0)
    }
}

/// Those of the contract, in the order of their names.
pub(crate) fn event_types_of(
    connection: &Connection,
    contract: Contract,
) -> Result<Vec<RegisteredType>> {
    let sql = "SELECT name, * FROM event_types WHERE contract = ?1 ORDER BY name";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([contract.name()])?;
    let mut registered = Vec::new();
    while let Some(row) = rows.next()? {
        let fields = Fields::new("event_types", row);
        registered.push(RegisteredType {
            contract: fields.parse("contract", Contract::from_name)?,
            name: fields.parse("name", |text| EventType::parse(text).ok())?,
            description: fields.get("description")?,
            schema: fields.get("schema")?,
            sample: fields.get("sample")?,
            created_at: fields.instant("created_at")?,
            updated_at: fields.instant("updated_at")?,
        });
    }
    Ok(registered)
}
