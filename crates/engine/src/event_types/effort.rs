//! What looking at a value by a schema may take, known before any value is there.
//!
//! Promise: it is bounded in depth, so that no stack runs out, and known in width, so that `schema`
//! can refuse values that would take too long.

use std::collections::HashMap;

use domain::limits::JSON_DEPTH_MAX;
use serde_json::{Map, Value as Json};

use super::references::{Holds, holds, lead};

/// Most subschemas that looking at `data` may enter one within the other, so that no stack runs out.
const NESTING_MAX: usize = 512;

/// Most checks on the deepest way through `data`: beyond, there is a recursion that doubles at each
/// level. The longest schema has far fewer unless it leads to the same schema again and again.
const CHECKS_ON_A_WAY_MAX: u64 = 100_000;

/// A text of so many bytes is as many parts more: a check of a text takes time with its length.
const BYTES_OF_A_PART: usize = 32;

/// So many bytes of a pattern are as many checks more: it is in more than one of its places at once.
const PATTERN_BYTES_OF_A_CHECK: usize = 4;

/// What looking at a value may take.
#[derive(Clone, Copy, Default)]
struct Effort {
    /// Checks on the most expensive way through the value.
    checks: u64,
    /// Subschemas entered one within the other.
    nesting: usize,
}

impl Effort {
    /// Both are looked at.
    fn and(self, other: Self) -> Self {
        Self {
            checks: self.checks.saturating_add(other.checks),
            nesting: self.nesting.max(other.nesting),
        }
    }

    /// One of them is looked at.
    fn or(self, other: Self) -> Self {
        Self { checks: self.checks.max(other.checks), nesting: self.nesting.max(other.nesting) }
    }
}

/// What looking at values of each depth may take.
#[derive(Debug)]
pub(super) struct Efforts(Vec<u64>);

impl Efforts {
    /// Adds it up, or says in a clause why nobody should look at a value so.
    pub(super) fn of(document: &Json) -> Result<Self, String> {
        let mut walk = Walk { document, efforts: HashMap::new() };
        // Level by level, so that what a recursion comes back to is known already.
        let checks = |levels| walk.effort(document, levels, 0).map(|effort| effort.checks);
        (0..=JSON_DEPTH_MAX).map(checks).collect::<Result<_, _>>().map(Self)
    }

    /// Most checks of any one part of a value with so many levels below it.
    pub(super) fn checks(&self, levels: usize) -> u64 {
        self.0.get(levels).or(self.0.last()).copied().unwrap_or(u64::MAX)
    }
}

/// The parts of a value, and how many levels it has below it.
pub(super) fn parts_and_depth(value: &Json) -> (u64, usize) {
    let of_text = |text: &str| (text.len() / BYTES_OF_A_PART) as u64;
    let (mut parts, mut depth) = (1, 0);
    let mut add = |inner: &Json, name: &str| {
        let (inner_parts, inner_depth) = parts_and_depth(inner);
        parts += inner_parts + of_text(name);
        depth = depth.max(inner_depth + 1);
    };
    match value {
        Json::Array(elements) => elements.iter().for_each(|element| add(element, "")),
        Json::Object(members) => members.iter().for_each(|(name, member)| add(member, name)),
        Json::String(text) => parts += of_text(text),
        _ => {}
    }
    (parts, depth)
}

/// How many checks the keywords of a schema are, without the schemas within: one for each part of
/// what they say, since each part of a value may be compared with each entry of a list.
fn own_checks(members: &Map<String, Json>) -> u64 {
    let of_pattern = |pattern: &str| (1 + pattern.len() / PATTERN_BYTES_OF_A_CHECK) as u64;
    let of_keyword = |(name, value): (&String, &Json)| match (holds(name), value) {
        (Holds::Named, Json::Object(named)) if name == "patternProperties" => {
            named.keys().map(|pattern| of_pattern(pattern)).sum()
        }
        (Holds::Named, Json::Object(named)) => named
            .values()
            .map(|inner| if inner.is_array() { parts_and_depth(inner).0 } else { 1 })
            .sum(),
        (Holds::Schemas | Holds::Named, _) => 1,
        (Holds::Data, Json::String(pattern)) if name == "pattern" => of_pattern(pattern),
        (Holds::Data, value) if is_checked(name) => parts_and_depth(value).0,
        (Holds::Data, _) => 0,
    };
    1 + members.iter().map(of_keyword).sum::<u64>()
}

/// Whether a keyword that holds no schema is checked, and does not only say something to a reader.
fn is_checked(keyword: &str) -> bool {
    !matches!(keyword, "$comment" | "default" | "description" | "example" | "examples" | "title")
}

/// Adds up what a validator may take, without looking at any value.
struct Walk<'a> {
    document: &'a Json,
    /// By subschema and by how many levels of the value are below; `None` while it is added up.
    efforts: HashMap<(*const Json, usize), Option<Effort>>,
}

impl<'a> Walk<'a> {
    fn effort(&mut self, schema: &'a Json, levels: usize, depth: usize) -> Result<Effort, String> {
        let Json::Object(members) = schema else { return Ok(Effort { checks: 1, nesting: 1 }) };
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
        if members.keys().any(|name| name.starts_with("unevaluated")) {
            // They look once more which of the schemas beside them a value meets.
            effort = effort.and(Effort { nesting: 0, ..effort });
        }
        if let Some(below) = levels.checked_sub(1) {
            effort = effort.and(self.effort_below(members, below, depth + 1)?);
        }
        let effort = Effort {
            checks: effort.checks.saturating_add(own_checks(members)),
            nesting: effort.nesting + 1,
        };
        if effort.nesting > NESTING_MAX {
            return too_deep();
        }
        if effort.checks > CHECKS_ON_A_WAY_MAX {
            return Err(
                "takes too long: a recursion has more than one way at each level, or references \
                 lead to the same schemas too often"
                    .to_owned(),
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
                    found.extend(lead(self.document, to));
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
