//! A JSON Schema that `data` must meet.
//!
//! Promise: reading it opens no connection and no file: a reference leads into the same document or
//! the schema is refused. Validation ends, and soon: a schema that could go round in circles, or
//! whose work could double with each level of `data`, is refused too, and so is `data` with more
//! parts than can be looked at as often as its schema asks ([`CHECKS_MAX`]); regular expressions take
//! linear time. What is wrong is told by its place in `data`, without the value. Neighbours:
//! `references` says where schemas are and lead, `effort` what looking at a value takes.

use domain::json_depth::is_deeper_than;
use domain::limits::{JSON_DEPTH_MAX, SCHEMA_BYTES_MAX};
use jsonschema::{PatternOptions, Validator};
use serde_json::Value as Json;

use super::effort::{Efforts, parts_and_depth};
use super::references::check_references;

/// Most faults that are told of one `data`; a producer mends the first ones first.
const FAULTS_MAX: usize = 5;

/// Most characters of a fault.
const FAULT_CHARACTERS_MAX: usize = 300;

/// Most checks that `data` may take: its parts times what the schema may check each of them for.
/// Some ten nanoseconds each, so a twentieth of a second: five thousand parts, as large events have,
/// may each be checked a thousand times, and a list that fills an event some forty times.
const CHECKS_MAX: u64 = 5_000_000;

/// Largest automaton of a pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1024 * 1024;

/// A schema that was read.
#[derive(Debug)]
pub(super) struct Schema {
    validator: Validator,
    efforts: Efforts,
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
        check_references(&document)?;
        let efforts = Efforts::of(&document)?;
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
        Ok(Self { validator, efforts })
    }

    /// What is wrong with the value, the first few of it; nothing if it meets the schema.
    pub(super) fn faults(&self, value: &Json) -> Vec<Fault> {
        let (parts, depth) = parts_and_depth(value);
        let checks_each = self.efforts.checks(depth);
        if parts.saturating_mul(checks_each) > CHECKS_MAX {
            let reason = format!(
                "has too many parts ({parts}) for its schema, which may check each of them {checks_each} \
                 times; {CHECKS_MAX} checks are the most there may be"
            );
            return vec![Fault { pointer: String::new(), reason }];
        }
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
