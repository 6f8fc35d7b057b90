//! The JSON object of a request: each field read once, every wrong one named.
//!
//! Promise: the body is parsed once, without recursion and without building a tree; a field that is
//! missing, of the wrong type, repeated or unknown is named with what should be there instead. Used
//! by producers at the highest rate, so the good case allocates next to nothing.

use std::borrow::Cow;
use std::fmt;

use engine::error::{EngineError, ErrorCode, Violation};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::body::{self, BodyRefusal};
use crate::problem::Problem;

/// Most fields looked at in one object. Far more than any resource has; beyond it the object is
/// refused, so that a body of many tiny fields stays cheap.
const FIELDS_MAX: usize = 64;

/// The fields of one object that are not yet read.
pub(super) struct Fields<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    known: Vec<&'static str>,
    wrong: Vec<Violation>,
}

/// Reads a request's body with `read`.
pub(super) fn read_body<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut Fields<'a>) -> T,
) -> Result<T, Problem> {
    if body.is_empty() {
        return Err(BodyRefusal::Empty.into());
    }
    let members = serde_json::from_slice::<Members<'a>>(body).map_err(|error| {
        if error.classify() == Category::Data {
            BodyRefusal::NotObject
        } else {
            body::not_json(&error)
        }
    })?;
    Ok(read_members(members, read)?)
}

/// Reads a request's body that may be left out with `read`.
pub(super) fn read_optional_body<'a, T>(
    body: &'a [u8],
    read: impl FnOnce(&mut Fields<'a>) -> T,
) -> Result<T, Problem> {
    read_body(if body.is_empty() { b"{}" } else { body }, read)
}

/// Reads one object within a body with `read`.
pub(super) fn read_object<'a, T>(
    json: &'a RawValue,
    read: impl FnOnce(&mut Fields<'a>) -> T,
) -> Result<T, EngineError> {
    let members = serde_json::from_str(json.get())
        .map_err(|_| EngineError::new(ErrorCode::Invalid, "must be a JSON object"))?;
    read_members(members, read)
}

fn read_members<'a, T>(
    Members { members, is_cut }: Members<'a>,
    read: impl FnOnce(&mut Fields<'a>) -> T,
) -> Result<T, EngineError> {
    if is_cut {
        let message = format!("the object has more than {FIELDS_MAX} fields");
        return Err(EngineError::new(ErrorCode::Invalid, message));
    }
    let mut fields = Fields { members, known: Vec::with_capacity(8), wrong: Vec::new() };
    let value = read(&mut fields);
    let Fields { members, known, mut wrong } = fields;
    for (name, _) in members {
        let reason = if known.contains(&&*name) {
            "is given twice".to_owned()
        } else {
            unknown("field", &known)
        };
        wrong.push(Violation { field: shorten(name), reason });
    }
    if wrong.is_empty() { Ok(value) } else { Err(EngineError::all_invalid(wrong)) }
}

/// Fields that are wrong are noted, and something harmless is answered in their place, which never
/// leaves the functions above.
impl<'a> Fields<'a> {
    /// The field, which must be there and `expected`, such as `a string`.
    pub(super) fn required<T: Deserialize<'a> + Default>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> T {
        self.raw(name).and_then(|json| self.parse(name, expected, json)).unwrap_or_default()
    }

    /// The field as it was written, which must be there.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<&'a RawValue> {
        let json = self.take(name);
        if json.is_none() {
            self.refuse(name, "is required");
        }
        json
    }

    /// The field, if it is there; it may not be null.
    pub(super) fn present<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Option<T> {
        let json = self.take(name)?;
        self.parse(name, expected, json)
    }

    /// The field; `Some(None)` if it is null.
    #[expect(clippy::option_option, reason = "absent, null and given mean three things")]
    pub(super) fn nullable<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Option<Option<T>> {
        let json = self.take(name)?;
        if json.get() == "null" { Some(None) } else { self.parse(name, expected, json).map(Some) }
    }

    /// The field; null is as good as missing.
    pub(super) fn optional<T: Deserialize<'a>>(
        &mut self,
        name: &'static str,
        expected: &str,
    ) -> Option<T> {
        self.nullable(name, expected).flatten()
    }

    /// Notes what is wrong with a field.
    pub(super) fn refuse(&mut self, name: &str, reason: impl Into<String>) {
        self.wrong.push(Violation { field: name.to_owned(), reason: reason.into() });
    }

    fn take(&mut self, name: &'static str) -> Option<&'a RawValue> {
        self.known.push(name);
        let at = self.members.iter().position(|(given, _)| given == name)?;
        Some(self.members.swap_remove(at).1)
    }

    fn parse<T: Deserialize<'a>>(
        &mut self,
        name: &str,
        expected: &str,
        json: &'a RawValue,
    ) -> Option<T> {
        let value = serde_json::from_str(json.get()).ok();
        if value.is_none() {
            self.refuse(name, format!("must be {expected}"));
        }
        value
    }
}

/// What is wrong with a field or parameter that nobody asked for.
pub(super) fn unknown(what: &str, known: &[&str]) -> String {
    match known {
        [] => format!("is not a {what} here; there are none"),
        [..] => format!("is not a {what} here; there are `{}`", known.join("`, `")),
    }
}

/// A field name of the caller's, cut so that it fits an error message.
fn shorten(name: Cow<'_, str>) -> String {
    const SHOWN_MAX: usize = 100;
    if name.chars().count() <= SHOWN_MAX {
        return name.into_owned();
    }
    name.chars().take(SHOWN_MAX).chain(['…']).collect()
}

/// The members of an object in their order, names borrowed where they hold no escapes, values as
/// they were written.
struct Members<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// Whether there were more than [`FIELDS_MAX`].
    is_cut: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                let mut is_cut = false;
                while let Some((Name(name), value)) = map.next_entry()? {
                    if members.len() < FIELDS_MAX {
                        members.push((name, value));
                    } else {
                        is_cut = true;
                    }
                }
                Ok(Members { members, is_cut })
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

/// A name, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = (String, Option<Option<i64>>);

    fn read(body: &str) -> Result<Read, Problem> {
        read_body(body.as_bytes(), |fields| {
            (fields.required("name", "a string"), fields.nullable("size", "a whole number"))
        })
    }

    fn refusal(body: &str) -> String {
        let problem = read(body).unwrap_err();
        format!("{problem:?}")
    }

    #[test]
    fn absent_null_and_given_fields_are_told_apart() {
        assert_eq!(read(r#"{"name":"a"}"#).unwrap(), ("a".to_owned(), None));
        assert_eq!(read(r#"{"name":"a","size":null}"#).unwrap(), ("a".to_owned(), Some(None)));
        assert_eq!(read(r#"{"n\u0061me":"a","size":1}"#).unwrap().1, Some(Some(1)));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let seen = refusal(r#"{"size":"x","colour":1}"#);
        assert!(seen.contains("name: is required"), "{seen}");
        assert!(seen.contains("size: must be a whole number"), "{seen}");
        assert!(seen.contains("colour: is not a field here; there are `name`, `size`"), "{seen}");
        assert!(refusal(r#"{"name":"a","name":"b"}"#).contains("name: is given twice"));
    }

    #[test]
    fn what_is_no_json_object_is_refused_without_recursion() {
        for body in ["", "{", "nonsense", r#"{"name":"a"} x"#, "{\"name\":\"\u{1}\"}"] {
            assert!(refusal(body).contains("Malformed"), "{body}");
        }
        for body in ["[]", "1", "null", r#""text""#] {
            assert!(refusal(body).contains("must be a JSON object"), "{body}");
        }
        let deep = format!(r#"{{"name":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(refusal(&deep).contains("name: must be a string"));
        let wide = format!("{{{}}}", vec![r#""a":1"#; 65].join(","));
        assert!(refusal(&wide).contains("more than 64 fields"));
    }
}
