//! What an expression comes to, and how plain values compare.
//!
//! Promise: numbers compare by what they are worth, however they are written; nothing is copied out
//! of the event's data.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Number as JsonNumber, Value as Json};

/// Most characters of a value that an explanation shows.
const SHOWN_MAX: usize = 100;

/// What an expression comes to.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, str>),
    List(&'a [Json]),
    Object(&'a Map<String, Json>),
}

/// A number: JSON does not tell 4 from 4.0, so the two are worth the same here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// A whole number, within `i64` or `u64`.
    Whole(i128),
    /// Any other.
    Double(f64),
}

impl<'a> Value<'a> {
    pub(super) fn of(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(bool) => Self::Bool(*bool),
            Json::Number(number) => Self::Number(Number::of(number)),
            Json::String(text) => Self::Text(Cow::Borrowed(text)),
            Json::Array(elements) => Self::List(elements),
            Json::Object(members) => Self::Object(members),
        }
    }

    /// What kind of value it is, with its article.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Object(_) => "an object",
        }
    }

    /// Whether two that have no parts are the same value.
    pub(super) fn is_same_plain(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(a), Value::Bool(b)) => a == b,
            (Self::Number(a), Value::Number(b)) => a.compare(*b) == Some(Ordering::Equal),
            _ => false,
        }
    }

    /// Which of the two is larger; `None` if they have no order. The inner `None` is a number that
    /// is not one (0.0 / 0.0).
    #[expect(clippy::option_option, reason = "no order, and an order that says nothing")]
    pub(super) fn compare(&self, other: &Value<'_>) -> Option<Option<Ordering>> {
        match (self, other) {
            (Self::Number(a), Value::Number(b)) => Some(a.compare(*b)),
            (Self::Text(a), Value::Text(b)) => Some(Some(a.cmp(b))),
            (Self::Bool(a), Value::Bool(b)) => Some(Some(a.cmp(b))),
            _ => None,
        }
    }
}

/// The steps it takes to look at so many bytes: some 16 of them take as long as a node.
pub(super) fn steps_of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes / 16).unwrap_or(u32::MAX).saturating_add(1)
}

impl Number {
    fn of(number: &JsonNumber) -> Self {
        match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Self::Whole(whole.into()),
            (None, Some(whole)) => Self::Whole(whole.into()),
            (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
        }
    }

    /// The nearest double.
    pub(super) fn as_double(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Double(double) => double,
        }
    }

    /// Which is larger, exactly.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(&b),
            (Self::Whole(a), Self::Double(b)) => compare_whole(a, b),
            (Self::Double(a), Self::Whole(b)) => compare_whole(b, a).map(Ordering::reverse),
        }
    }
}

fn compare_whole(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // A cast cuts off what is behind the point and stops at the ends, both of which are far
    // beyond any whole number here.
    let cut = double as i128;
    Some(whole.cmp(&cut).then_with(|| 0.0_f64.total_cmp(&(double.fract() + 0.0))))
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(f, "{whole}"),
            Self::Double(double) => write!(f, "{double}"),
        }
    }
}

/// As JSON, cut so that it fits an explanation.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(bool) => write!(f, "{bool}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => match text.char_indices().nth(SHOWN_MAX) {
                None => write!(f, "{}", Json::from(&**text)),
                Some((end, _)) => write!(f, "{}…", Json::from(&text[..end])),
            },
            Self::List([]) => f.write_str("[]"),
            Self::List(elements) if elements.len() == 1 => f.write_str("a list of 1 element"),
            Self::List(elements) => write!(f, "a list of {} elements", elements.len()),
            Self::Object(members) if members.len() == 1 => f.write_str("an object of 1 member"),
            Self::Object(members) => write!(f, "an object of {} members", members.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_what_they_are_worth() {
        let whole = Number::Whole;
        let check = |a: Number, b: f64, expected| {
            assert_eq!(a.compare(Number::Double(b)), expected, "{a} {b}");
            let turned = expected.map(Ordering::reverse);
            assert_eq!(Number::Double(b).compare(a), turned, "{b} {a}");
        };
        check(whole(4), 4.0, Some(Ordering::Equal));
        check(whole(0), -0.0, Some(Ordering::Equal));
        check(whole(4), 4.5, Some(Ordering::Less));
        check(whole(-4), -4.5, Some(Ordering::Greater));
        check(whole(0), -0.5, Some(Ordering::Greater));
        check(whole(9_007_199_254_740_993), 9_007_199_254_740_992.0, Some(Ordering::Greater));
        check(whole(u64::MAX.into()), 1e300, Some(Ordering::Less));
        check(whole(i64::MIN.into()), f64::NEG_INFINITY, Some(Ordering::Greater));
        check(whole(1), f64::NAN, None);
    }
}
