//! A JSON Schema that `data` must meet.
//!
//! Promise: reading it opens no connection and no file: a reference leads into the same document or
//! the schema is refused. Validation ends: a schema that could go round in circles, or whose work
//! could double with each level of `data`, is refused too, and regular expressions take linear time.
//! What is wrong is told by its place in `data`, without the value.

use std::collections::HashMap;

use domain::json_depth::is_deeper_than;
use domain::limits::{JSON_DEPTH_MAX, SCHEMA_BYTES_MAX};
use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value as Json};

/// Most faults that are told of one `data`; a producer mends the first ones first.
const FAULTS_MAX: usize = 5;

/// Most characters of a fault.
const FAULT_CHARACTERS_MAX: usize = 300;

/// Most subschemas that looking at `data` may enter one within the other, so that no stack runs out.
const NESTING_MAX: usize = 512;

/// Most subschemas that looking at the deepest way through `data` may enter: beyond, there is a
/// recursion that doubles at each level.
const VISITS_MAX: u64 = 100_000;

/// Largest automaton of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// A schema that was read.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
}

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where: a JSON pointer into the value, empty for the value itself.
    pub(super) pointer: String,
    /// What.
    pub(super) reason: String,
}

impl Schema {
    /// Reads a schema, or says in a clause what is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        if text.len() > SCHEMA_BYTES_MAX {
            return Err(format!("has more than {SCHEMA_BYTES_MAX} bytes"));
        }
        if is_deeper_than(text.as_bytes(), JSON_DEPTH_MAX) {
            return Err(format!("is nested deeper than {JSON_DEPTH_MAX} levels"));
        }
        let document: Json =
            serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
        if !document.is_object() {
            return Err("must be a JSON object".to_owned());
        }
        check_references(&document, "", &document)?;
        Walk { document: &document, efforts: HashMap::new() }.check()?;
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .build(&document)
            .map_err(|error| {
                let place = error.instance_path().as_str();
                format!("is not a JSON Schema at `{place}`: {}", cut(error.to_string()))
            })?;
        Ok(Self { validator })
    }

    /// What is wrong with the value, the first few of it; nothing if it meets the schema.
    pub(super) fn faults(&self, value: &Json) -> Vec<Fault> {
        if self.validator.is_valid(value) {
            return Vec::new();
        }
        self.validator
            .iter_errors(value)
            .take(FAULTS_MAX)
            .map(|error| {
                let told = error.masked_with("it").to_string();
                Fault {
                    pointer: error.instance_path().as_str().to_owned(),
                    reason: cut(told.strip_prefix("it ").map_or(told.clone(), str::to_owned)),
                }
            })
            .collect()
    }
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(FAULT_CHARACTERS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Whether the value of this member is plain data, whatever it looks like.
fn is_data(name: &str) -> bool {
    matches!(name, "enum" | "const" | "default" | "examples" | "example")
}

/// Every reference leads to a place in the same document, and no part of it has another base.
fn check_references(part: &Json, place: &str, document: &Json) -> Result<(), String> {
    match part {
        Json::Object(members) => {
            for (name, value) in members {
                let inside = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
                match (name.as_str(), value) {
                    ("$ref", Json::String(to)) => {
                        let found = to.strip_prefix('#').filter(|to| !to.contains('%'));
                        let found = found.and_then(|pointer| document.pointer(pointer));
                        if !found.is_some_and(|found| found.is_object() || found.is_boolean()) {
                            return Err(format!(
                                "has a reference at `{inside}` that does not lead to a schema in the \
                                 same document, as `#/$defs/name` would"
                            ));
                        }
                    }
                    ("$dynamicRef" | "$recursiveRef", Json::String(_)) => {
                        return Err(format!("has a `{name}` at `{inside}`; use `$ref`"));
                    }
                    ("$id", Json::String(_)) if !place.is_empty() => {
                        return Err(format!(
                            "has an `$id` at `{inside}`, beside the document's own"
                        ));
                    }
                    (name, _) if is_data(name) => {}
                    _ => check_references(value, &inside, document)?,
                }
            }
            Ok(())
        }
        Json::Array(elements) => elements.iter().enumerate().try_for_each(|(at, element)| {
            check_references(element, &format!("{place}/{at}"), document)
        }),
        _ => Ok(()),
    }
}

/// What looking at a value may take.
#[derive(Clone, Copy, Default)]
struct Effort {
    /// Subschemas entered on the most expensive way through the value.
    visits: u64,
    /// Subschemas entered one within the other.
    nesting: usize,
}

impl Effort {
    /// Both are looked at.
    fn and(self, other: Self) -> Self {
        Self {
            visits: self.visits.saturating_add(other.visits),
            nesting: self.nesting.max(other.nesting),
        }
    }

    /// One of them is looked at.
    fn or(self, other: Self) -> Self {
        Self { visits: self.visits.max(other.visits), nesting: self.nesting.max(other.nesting) }
    }
}

/// Adds up what a validator may take, without looking at any value.
struct Walk<'a> {
    document: &'a Json,
    /// By subschema and by how many levels of the value are below; `None` while it is added up.
    efforts: HashMap<(*const Json, usize), Option<Effort>>,
}

impl<'a> Walk<'a> {
    fn check(mut self) -> Result<(), String> {
        // Level by level, so that what a recursion comes back to is known already.
        for levels in 0..=JSON_DEPTH_MAX {
            self.effort(self.document, levels, 0)?;
        }
        Ok(())
    }

    fn effort(&mut self, schema: &'a Json, levels: usize, depth: usize) -> Result<Effort, String> {
        let Json::Object(members) = schema else { return Ok(Effort { visits: 1, nesting: 1 }) };
        let too_deep = || Err(format!("has more than {NESTING_MAX} schemas within one another"));
        if depth > NESTING_MAX {
            return too_deep();
        }
        let key = (std::ptr::from_ref(schema), levels);
        match self.efforts.get(&key) {
            Some(Some(effort)) => return Ok(*effort),
            Some(None) => return Err("has a reference that leads back to itself".to_owned()),
            None => {}
        }
        self.efforts.insert(key, None);
        let mut effort = Effort::default();
        for inner in self.same_place(members) {
            effort = effort.and(self.effort(inner, levels, depth + 1)?);
        }
        if let Some(below) = levels.checked_sub(1) {
            effort = effort.and(self.effort_below(members, below, depth + 1)?);
        }
        let effort =
            Effort { visits: effort.visits.saturating_add(1), nesting: effort.nesting + 1 };
        if effort.nesting > NESTING_MAX {
            return too_deep();
        }
        if effort.visits > VISITS_MAX {
            return Err(
                "takes too long: a recursion has more than one way at each level".to_owned()
            );
        }
        self.efforts.insert(key, Some(effort));
        Ok(effort)
    }

    /// The subschemas that look at the same value.
    fn same_place(&self, members: &'a Map<String, Json>) -> Vec<&'a Json> {
        let mut found = Vec::new();
        for (name, value) in members {
            match (name.as_str(), value) {
                ("allOf" | "anyOf" | "oneOf", Json::Array(all)) => found.extend(all),
                ("not" | "if" | "then" | "else", one) => found.push(one),
                ("dependentSchemas" | "dependencies", Json::Object(all)) => {
                    found.extend(all.values());
                }
                ("$ref", Json::String(to)) => {
                    found.extend(to.strip_prefix('#').and_then(|to| self.document.pointer(to)));
                }
                _ => {}
            }
        }
        found
    }

    /// The most expensive way into a member or an element of the value: schemas that can meet in
    /// one of them add up.
    fn effort_below(
        &mut self,
        members: &'a Map<String, Json>,
        levels: usize,
        depth: usize,
    ) -> Result<Effort, String> {
        let (mut one_of, mut all_of) = (Effort::default(), Effort::default());
        for (name, value) in members {
            match (name.as_str(), value) {
                ("properties", Json::Object(named)) => {
                    for inner in named.values() {
                        one_of = one_of.or(self.effort(inner, levels, depth)?);
                    }
                }
                ("prefixItems" | "items", Json::Array(placed)) => {
                    for inner in placed {
                        one_of = one_of.or(self.effort(inner, levels, depth)?);
                    }
                }
                (
                    "additionalProperties"
                    | "unevaluatedProperties"
                    | "items"
                    | "additionalItems"
                    | "unevaluatedItems",
                    inner,
                ) => one_of = one_of.or(self.effort(inner, levels, depth)?),
                ("patternProperties", Json::Object(patterns)) => {
                    for inner in patterns.values() {
                        all_of = all_of.and(self.effort(inner, levels, depth)?);
                    }
                }
                ("contains" | "propertyNames", inner) => {
                    all_of = all_of.and(self.effort(inner, levels, depth)?);
                }
                _ => {}
            }
        }
        Ok(all_of.and(one_of))
    }
}
