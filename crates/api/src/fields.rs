//! The members of a JSON request body, read one by one.
//!
//! Promise: every missing or wrong-typed member is named, not only the first; members nobody asks
//! for are ignored, since clients send extra ones. What a value means is the engine's to judge.

use engine::Violation;
use serde_json::{Map, Value};

/// The reason given for a member that is not there.
const REQUIRED: &str = "is required";

/// A body being read. Readers answer `None` when they have noted what is wrong.
pub(crate) struct Fields {
    members: Map<String, Value>,
    wrong: Vec<Violation>,
}

impl Fields {
    /// Begins to read these members.
    pub(crate) fn of(members: Map<String, Value>) -> Self {
        Self { members, wrong: Vec::new() }
    }

    /// Takes a member out; `None` when it was not sent.
    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        self.members.remove(field)
    }

    /// Takes a member that must be there; `null` is as good as nothing.
    pub(crate) fn required(&mut self, field: &str) -> Option<Value> {
        self.take(field).filter(|value| !value.is_null()).or_else(|| self.refuse(field, REQUIRED))
    }

    /// Reads a text.
    pub(crate) fn text(&mut self, field: &str, value: Value) -> Option<String> {
        match value {
            Value::String(text) => Some(text),
            _ => self.refuse(field, "must be a string"),
        }
    }

    /// Reads the names of event types.
    pub(crate) fn names(&mut self, field: &str, value: Value) -> Option<Vec<String>> {
        let names = serde_json::from_value(value).ok();
        names.or_else(|| self.refuse(field, "must be an array of strings"))
    }

    /// Notes that a member is wrong; always `None`.
    pub(crate) fn refuse<T>(&mut self, field: &str, reason: &str) -> Option<T> {
        self.wrong.push(Violation { field: field.to_owned(), reason: reason.to_owned() });
        None
    }

    /// Everything that was wrong.
    pub(crate) fn wrong(self) -> Vec<Violation> {
        self.wrong
    }
}

/// One line that names every wrong field.
pub(crate) fn sentence(wrong: &[Violation]) -> String {
    let phrases = wrong.iter().map(|Violation { field, reason }| match reason.as_str() {
        REQUIRED => format!("{field} {REQUIRED}"),
        reason => format!("{field}: {reason}"),
    });
    phrases.collect::<Vec<_>>().join("; ")
}
