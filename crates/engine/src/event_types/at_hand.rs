//! The event types an operator registered for one contract, as publishing needs them.

use std::sync::OnceLock;

use domain::catalogue::RegisteredType;
use domain::event::EventType;
use serde_json::Value as Json;

use super::schema::{Fault, Schema};

/// The registered event types of one contract, in the order of their names.
pub(crate) struct RegisteredTypes {
    types: Vec<Kept>,
}

struct Kept {
    registered: RegisteredType,
    /// Its schema, read when it is needed first.
    schema: OnceLock<Option<Schema>>,
}

impl RegisteredTypes {
    pub(crate) fn new(mut types: Vec<RegisteredType>) -> Self {
        types.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let kept = |registered| Kept { registered, schema: OnceLock::new() };
        Self { types: types.into_iter().map(kept).collect() }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RegisteredType> {
        self.types.iter().map(|kept| &kept.registered)
    }

    /// The one of that name.
    pub(crate) fn find(&self, name: &str) -> Option<&RegisteredType> {
        self.kept(name).map(|kept| &kept.registered)
    }

    /// What is wrong with `data` of that type; nothing if it meets the schema or there is none.
    pub(super) fn faults(&self, name: &EventType, data: &[u8]) -> Vec<Fault> {
        let Some(kept) = self.kept(name.as_str()) else { return Vec::new() };
        let Some(text) = &kept.registered.schema else { return Vec::new() };
        let schema = kept.schema.get_or_init(|| match Schema::read(text) {
            Ok(schema) => Some(schema),
            Err(reason) => {
                // It was good when it was registered; whoever publishes is not to blame.
                tracing::error!(event_type = %name, reason, "a schema is not enforced");
                None
            }
        });
        let Some(schema) = schema else { return Vec::new() };
        match serde_json::from_slice::<Json>(data) {
            Ok(value) => schema.faults(&value),
            Err(_) => vec![Fault { pointer: String::new(), reason: "is not JSON".to_owned() }],
        }
    }

    fn kept(&self, name: &str) -> Option<&Kept> {
        let by_name = |kept: &Kept| kept.registered.name.as_str().cmp(name);
        self.types.binary_search_by(by_name).ok().map(|at| &self.types[at])
    }
}
