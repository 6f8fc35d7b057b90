//! Where the schemas within a schema are, and that every reference leads to one of them.
//!
//! Promise: whatever the validator takes for a schema was looked at here. A member has its meaning by
//! where it stands: `default` is plain data as a keyword, and a property of that name is a schema.

use std::collections::HashSet;

use serde_json::Value as Json;

/// What the value of a keyword holds.
pub(super) enum Holds {
    /// A schema, or a list of them.
    Schemas,
    /// Schemas by names that mean nothing.
    Named,
    /// No schema, whatever it looks like.
    Data,
}

/// What the value of the keyword holds, in any draft.
pub(super) fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalItems"
        | "additionalProperties"
        | "allOf"
        | "anyOf"
        | "contains"
        | "contentSchema"
        | "else"
        | "if"
        | "items"
        | "not"
        | "oneOf"
        | "prefixItems"
        | "propertyNames"
        | "then"
        | "unevaluatedItems"
        | "unevaluatedProperties" => Holds::Schemas,
        "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties"
        | "properties" => Holds::Named,
        _ => Holds::Data,
    }
}

/// The schema that a reference leads to by its pointer, if anything is there.
pub(super) fn lead<'a>(document: &'a Json, reference: &str) -> Option<&'a Json> {
    let pointer = reference.strip_prefix('#').filter(|pointer| !pointer.contains('%'))?;
    document.pointer(pointer)
}

/// Refuses references to anything but schemas within the document, and what would change where
/// references lead.
pub(super) fn check_references(document: &Json) -> Result<(), String> {
    let mut found = Found::default();
    found.schema(document, "")?;
    for (place, reference) in &found.references {
        let leads = lead(document, reference)
            .is_some_and(|target| found.schemas.contains(&std::ptr::from_ref(target)));
        if !leads {
            return Err(format!(
                "has a reference at `{place}` that does not lead to a schema in the same document, \
                 as `#/$defs/name` would"
            ));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Found<'a> {
    schemas: HashSet<*const Json>,
    references: Vec<(String, &'a str)>,
}

impl<'a> Found<'a> {
    fn schema(&mut self, schema: &'a Json, place: &str) -> Result<(), String> {
        let members = match schema {
            Json::Object(members) => members,
            Json::Bool(_) => {
                self.schemas.insert(schema);
                return Ok(());
            }
            // No schema; what it is instead, the validator's reader says.
            _ => return Ok(()),
        };
        self.schemas.insert(schema);
        let is_whole = place.is_empty();
        for (name, value) in members {
            let inside = within(place, name);
            match (name.as_str(), value) {
                ("$ref", Json::String(reference)) => self.references.push((inside, reference)),
                ("$dynamicRef" | "$recursiveRef", Json::String(_)) => {
                    return Err(format!("has a `{name}` at `{inside}`; use `$ref`"));
                }
                ("$id" | "id", Json::String(_)) if !is_whole => {
                    return Err(format!(
                        "has an `{name}` at `{inside}`, beside the document's own"
                    ));
                }
                ("$schema", Json::String(_)) if !is_whole => {
                    return Err(format!(
                        "has a `$schema` at `{inside}`, beside the document's own"
                    ));
                }
                (name, value) => match (holds(name), value) {
                    (Holds::Schemas, Json::Array(all)) => {
                        for (at, one) in all.iter().enumerate() {
                            self.schema(one, &format!("{inside}/{at}"))?;
                        }
                    }
                    (Holds::Schemas, one) => self.schema(one, &inside)?,
                    (Holds::Named, Json::Object(named)) => {
                        for (name, one) in named {
                            self.schema(one, &within(&inside, name))?;
                        }
                    }
                    (Holds::Named | Holds::Data, _) => {}
                },
            }
        }
        Ok(())
    }
}

fn within(place: &str, name: &str) -> String {
    format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"))
}
