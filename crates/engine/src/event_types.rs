//! The catalogue of a contract: the event types its documents name, and what an operator registered
//! beside and about them.
//!
//! Promise: a registered type may be published and subscribed to from the answer on, and `data` of
//! a type with a schema is accepted only if it meets it. What was registered about a documented type
//! adds to its documented entry and never takes it away. Neighbours: `registry` keeps the types at
//! hand, `publish` asks here what may be published.

use std::sync::Arc;

use bytes::Bytes;
use domain::catalogue::{self, CatalogueEntry, RegisteredType};
use domain::contract::Contract;
use domain::event::EventType;
use domain::json_depth::is_deeper_than;
use domain::limits::{
    EVENT_TYPE_DESCRIPTION_BYTES_MAX, EVENT_TYPES_PER_CONTRACT_MAX, JSON_DEPTH_MAX,
    SAMPLE_BYTES_MAX,
};
use domain::page::{Page, PageRequest};
use domain::subscription::Subscription;
use domain::time::Timestamp;
use serde_json::Value as Json;
use store::catalogue::EventTypePut;

use crate::Engine;
use crate::administer::shorten;
use crate::error::{EngineError, ErrorCode, Violation};
use crate::scope::Scope;

use schema::{Fault, Schema};

mod at_hand;
mod effort;
mod references;
mod schema;

pub(crate) use at_hand::RegisteredTypes;

/// What is sent as `data` of a type that has no sample.
const NO_SAMPLE: &str = r#"{"test":true}"#;

/// What a test event is called where no type is known.
const TEST_TYPE: &str = "postrider.test";

/// An event type of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedType {
    /// Its name.
    pub name: String,
    /// What it says.
    pub description: Option<String>,
    /// The JSON Schema that `data` must meet, as it was written.
    pub schema: Option<String>,
    /// A sample of `data`, as it was written.
    pub sample: Option<String>,
    /// When it was registered and last changed; `None` if only the contract's documents name it.
    pub registered: Option<(Timestamp, Timestamp)>,
}

/// What a caller says of an event type, each field as sent.
#[derive(Clone, Debug, Default)]
pub struct NewEventType {
    /// What it says.
    pub description: Option<String>,
    /// A JSON Schema: a JSON object.
    pub schema: Option<String>,
    /// A sample of `data`: a JSON object.
    pub sample: Option<String>,
}

impl ListedType {
    fn new(documented: Option<&CatalogueEntry>, registered: Option<&RegisteredType>) -> Self {
        let name = documented.map(|entry| entry.name);
        let name = name.or(registered.map(|registered| registered.name.as_str()));
        let written = |of: fn(&RegisteredType) -> &Option<String>, else_by: Option<&str>| {
            let written = registered.and_then(|registered| of(registered).as_deref());
            written.or(else_by).map(str::to_owned)
        };
        Self {
            name: name.unwrap_or_default().to_owned(),
            description: written(|it| &it.description, documented.map(|it| it.description)),
            schema: written(|it| &it.schema, None),
            sample: written(|it| &it.sample, documented.map(|it| it.sample)),
            registered: registered.map(|it| (it.created_at, it.updated_at)),
        }
    }
}

impl Engine {
    /// Event types of the contract: the documented ones in their documents' order, then the other
    /// registered ones by name. An account sees those of its own contract.
    pub async fn list_event_types(
        &self,
        scope: Scope,
        contract: Contract,
        page: PageRequest,
    ) -> Result<Page<ListedType>, EngineError> {
        self.check_contract(scope, contract).await?;
        let registered = self.registry().event_types(contract).await?;
        let all = names(contract, &registered);
        // A page begins at a place in the list, since names have no number of their own.
        let start = page.before.map_or(0, |place| usize::try_from(place).unwrap_or(usize::MAX));
        let mut names = all.skip(start);
        let listed = |name| ListedType::new(catalogue::find(contract, name), registered.find(name));
        let items: Vec<_> = names.by_ref().take(page.limit).map(listed).collect();
        let next_before = names.next().map(|_| (start + items.len()) as u128);
        Ok(Page { items, next_before })
    }

    /// The names of the contract's event types, in the order of [`Self::list_event_types`].
    pub async fn event_type_names(&self, contract: Contract) -> Result<Vec<String>, EngineError> {
        let registered = self.registry().event_types(contract).await?;
        Ok(names(contract, &registered).map(str::to_owned).collect())
    }

    /// The event type of that name. An account sees those of its own contract.
    pub async fn event_type(
        &self,
        scope: Scope,
        contract: Contract,
        name: &str,
    ) -> Result<ListedType, EngineError> {
        self.check_contract(scope, contract).await?;
        let registered = self.registry().event_types(contract).await?;
        let (documented, registered) = (catalogue::find(contract, name), registered.find(name));
        if documented.is_none() && registered.is_none() {
            return Err(EngineError::not_found("event type"));
        }
        Ok(ListedType::new(documented, registered))
    }

    /// Registers an event type, or replaces what was registered of it. Answers it as it is then, and
    /// whether it was new. Operator only.
    pub async fn put_event_type(
        &self,
        scope: Scope,
        contract: Contract,
        name: &str,
        new: NewEventType,
    ) -> Result<(ListedType, bool), EngineError> {
        scope.operator_only("page")?;
        let (name, new) = read_fields(contract, name, new)?;
        let documented = catalogue::find(contract, name.as_str());
        let known = self.registry().event_types(contract).await?;
        let before = known.find(name.as_str());
        let deed = self.deed(scope);
        let registered = RegisteredType {
            contract,
            name,
            description: new.description,
            schema: new.schema,
            sample: new.sample,
            created_at: before.map_or(deed.at, |before| before.created_at),
            updated_at: deed.at,
        };
        if let Some(before) = before
            && *before == (RegisteredType { updated_at: before.updated_at, ..registered.clone() })
        {
            return Ok((ListedType::new(documented, Some(before)), false));
        }
        let note = deed.event_type_changed(before, &registered);
        let put = self.store().put_event_type(registered.clone(), note).await;
        self.registry().forget_event_types(contract);
        match put? {
            EventTypePut::Created => Ok((ListedType::new(documented, Some(&registered)), true)),
            EventTypePut::Changed => Ok((ListedType::new(documented, Some(&registered)), false)),
            EventTypePut::LimitReached => Err(EngineError::new(
                ErrorCode::LimitReached,
                format!(
                    "{EVENT_TYPES_PER_CONTRACT_MAX} event types are registered for {}, the most \
                     there may be; delete one first",
                    contract.name()
                ),
            )),
        }
    }

    /// Takes out what was registered of an event type; what the contract's documents say of it
    /// stays. Operator only.
    pub async fn delete_event_type(
        &self,
        scope: Scope,
        contract: Contract,
        name: &str,
    ) -> Result<(), EngineError> {
        scope.operator_only("page")?;
        let not_found = || EngineError::not_found("registered event type");
        let known = self.registry().event_types(contract).await?;
        let registered = known.find(name).ok_or_else(not_found)?;
        let note = self.deed(scope).event_type_deleted(registered);
        let deleted = self.store().delete_event_type(contract, &registered.name, note).await;
        self.registry().forget_event_types(contract);
        if deleted? { Ok(()) } else { Err(not_found()) }
    }

    /// Refuses contracts other than the account's own as if they did not exist.
    async fn check_contract(&self, scope: Scope, contract: Contract) -> Result<(), EngineError> {
        let Some(account) = scope.account() else { return Ok(()) };
        match self.registry().roster(account).await? {
            Some(roster) if roster.account.contract == contract => Ok(()),
            _ => Err(EngineError::not_found("contract")),
        }
    }

    /// What may be published in accounts of the contract.
    pub(crate) async fn publishable(&self, contract: Contract) -> Result<Publishable, EngineError> {
        Ok(Publishable { contract, registered: self.registry().event_types(contract).await? })
    }
}

/// What may be published in accounts of one contract.
pub(crate) struct Publishable {
    contract: Contract,
    registered: Arc<RegisteredTypes>,
}

impl Publishable {
    /// The event type of that name: a documented or a registered one, or in `standard` any.
    pub(crate) fn read_type(&self, name: &str) -> Result<EventType, EngineError> {
        let contract = self.contract;
        let is_known = contract == Contract::Standard
            || catalogue::find(contract, name).is_some()
            || self.registered.find(name).is_some();
        if !is_known {
            let nearest = catalogue::nearest_of(names(contract, &self.registered), name);
            let reason = format!(
                "`{}` is not an event type of {}; the nearest are `{}`",
                shorten(name),
                contract.name(),
                nearest.join("`, `")
            );
            return Err(EngineError::invalid("type", reason));
        }
        EventType::parse(name).map_err(|error| EngineError::invalid("type", error.to_string()))
    }

    /// Refuses `data` that does not meet the schema of its type.
    pub(crate) fn check_data(&self, name: &EventType, data: &[u8]) -> Result<(), EngineError> {
        let faults = self.registered.faults(name, data);
        if faults.is_empty() {
            return Ok(());
        }
        Err(EngineError::all_invalid(faults.into_iter().map(|fault| at("data", fault)).collect()))
    }

    /// A sample of `data` of that type.
    pub(crate) fn sample(&self, name: &str) -> Result<Bytes, EngineError> {
        let documented = catalogue::find(self.contract, name);
        let listed = ListedType::new(documented, self.registered.find(name));
        match (listed.sample, listed.schema) {
            (Some(sample), _) => Ok(Bytes::from(sample)),
            (None, None) => Ok(Bytes::from_static(NO_SAMPLE.as_bytes())),
            (None, Some(_)) => Err(EngineError::invalid(
                "type",
                format!("`{}` has a schema and no sample to meet it; register one", shorten(name)),
            )),
        }
    }

    /// The type to test an endpoint with unless one is asked for: the first with a sample that it
    /// subscribed to, else the first with a sample.
    pub(crate) fn test_type(&self, subscription: &Subscription) -> &str {
        let names = || {
            names(self.contract, &self.registered).filter(|name| {
                catalogue::find(self.contract, name).is_some()
                    || self.registered.find(name).is_some_and(|it| it.sample.is_some())
            })
        };
        let wanted = names().find(|name| {
            EventType::parse(name).is_ok_and(|event_type| subscription.wants(&event_type))
        });
        wanted.or_else(|| names().next()).unwrap_or(TEST_TYPE)
    }
}

/// The names of all event types of the contract: those that its documents name in their order, then
/// the other registered ones.
fn names(contract: Contract, registered: &RegisteredTypes) -> impl Iterator<Item = &str> {
    let documented = catalogue::event_types(contract).iter().map(|entry| entry.name);
    let registered = registered.iter().map(|registered| registered.name.as_str());
    documented.chain(registered.filter(move |name| catalogue::find(contract, name).is_none()))
}

/// Reads every field and names every wrong one.
fn read_fields(
    contract: Contract,
    name: &str,
    new: NewEventType,
) -> Result<(EventType, NewEventType), EngineError> {
    let mut wrong = Vec::new();
    let mut refuse = |field: &str, reason: String| {
        wrong.push(Violation { field: field.to_owned(), reason });
    };
    let event_type = EventType::parse(name).map_err(|error| refuse("name", error.to_string()));
    if new.description.as_ref().is_some_and(|it| it.len() > EVENT_TYPE_DESCRIPTION_BYTES_MAX) {
        let reason = format!("must have at most {EVENT_TYPE_DESCRIPTION_BYTES_MAX} bytes");
        refuse("description", reason);
    }
    let schema = new.schema.as_deref().map(Schema::read).transpose();
    let schema = schema.unwrap_or_else(|reason| {
        refuse("schema", reason);
        None
    });
    let sample = new.sample.as_deref().map(read_sample).transpose();
    let sample = sample.unwrap_or_else(|reason| {
        refuse("sample", reason);
        None
    });
    let documented = catalogue::find(contract, name);
    match (&schema, sample, documented) {
        (Some(schema), Some(sample), _) => {
            let faults = schema.faults(&sample);
            wrong.extend(faults.into_iter().map(|fault| at("sample", fault)));
        }
        (Some(schema), None, Some(documented)) if new.sample.is_none() => {
            let sample = serde_json::from_str(documented.sample).unwrap_or(Json::Null);
            if let Some(Fault { pointer, reason }) = schema.faults(&sample).into_iter().next() {
                let reason = format!(
                    "is required, because the documented sample does not meet the schema: \
                     `{pointer}` {reason}"
                );
                refuse("sample", reason);
            }
        }
        _ => {}
    }
    match event_type {
        Ok(event_type) if wrong.is_empty() => Ok((event_type, new)),
        _ => Err(EngineError::all_invalid(wrong)),
    }
}

fn read_sample(text: &str) -> Result<Json, String> {
    if text.len() > SAMPLE_BYTES_MAX {
        return Err(format!("has more than {SAMPLE_BYTES_MAX} bytes"));
    }
    if is_deeper_than(text.as_bytes(), JSON_DEPTH_MAX) {
        return Err(format!("is nested deeper than {JSON_DEPTH_MAX} levels"));
    }
    match serde_json::from_str(text) {
        Ok(sample @ Json::Object(_)) => Ok(sample),
        _ => Err("must be a JSON object".to_owned()),
    }
}

fn at(field: &str, fault: Fault) -> Violation {
    Violation { field: format!("{field}{}", fault.pointer), reason: fault.reason }
}
