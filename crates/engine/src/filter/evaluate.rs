//! What a filter comes to for an event.
//!
//! Promise: as CEL says: `&&` and `||` pass over an error on one side when the other side decides,
//! and so do `exists` and `all`. Every node, every value and every 16 bytes looked at is a step,
//! taken before the look; the steps are bounded, and what has used them up is over, whatever stands
//! around it. It never panics. Neighbour: `compare` looks at values of many parts.
//!
//! Three things are kinder than CEL's own rules, because JSON does not tell 4 from 4.0 and producers
//! leave members out: whole and other numbers calculate with one another, `has` is false when any
//! part of its path is not there, and a value that has no members has none of any name.

use std::borrow::Cow;
use std::cell::Cell;

use super::expression::{Calculation, Comparison, Conversion, Expression, Quantifier, TextTest};
use super::subject::Subject;
use super::value::{Number, Value, steps_of_bytes};

/// Why an expression comes to nothing.
#[derive(Debug)]
pub(super) enum Stop<'a> {
    /// This is not there.
    Absent(&'a Expression),
    /// It cannot be done with such values; a sentence says why.
    Wrong(Box<str>),
    /// It takes more steps than it may.
    TooLong,
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.subject.give_back(self.steps.get());
    }
}

/// What an expression comes to.
pub(super) type Come<'a, T> = Result<T, Stop<'a>>;

/// What a sentence about something wrong costs, so that no loop of them is cheap.
const STEPS_OF_A_SENTENCE: u32 = 50;

/// One walk through an expression.
pub(super) struct Run<'a> {
    subject: &'a Subject<'a>,
    steps: Cell<u32>,
}

impl<'a> Run<'a> {
    /// A walk of as many steps as the subject grants.
    pub(super) fn new(subject: &'a Subject<'a>) -> Self {
        Self { subject, steps: Cell::new(subject.grant_steps()) }
    }

    pub(super) fn take(&self, steps: u32) -> Come<'a, ()> {
        let left = self.steps.get().checked_sub(steps);
        self.steps.set(left.unwrap_or(0));
        left.map(drop).ok_or(Stop::TooLong)
    }

    fn wrong<T>(&self, sentence: impl FnOnce() -> String) -> Come<'a, T> {
        self.take(STEPS_OF_A_SENTENCE)?;
        Err(Stop::Wrong(sentence().into()))
    }

    /// Whether the condition holds. `element` is what the quantifier around it looks at.
    pub(super) fn holds(
        &self,
        condition: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, bool> {
        match condition {
            Expression::Every(parts) => {
                self.take(1)?;
                decided_by(false, parts.iter().map(|part| self.holds(part, element)))
            }
            Expression::Any(parts) => {
                self.take(1)?;
                decided_by(true, parts.iter().map(|part| self.holds(part, element)))
            }
            Expression::Not(of) => {
                self.take(1)?;
                self.holds(of, element).map(|holds| !holds)
            }
            Expression::Compare(how, a, b) => {
                self.take(1)?;
                self.compares(*how, a, b, element)
            }
            Expression::Has(of, name) => {
                self.take(1)?;
                match self.value(of, element) {
                    Ok(Value::Object(members)) => Ok(self.member(members, name)?.is_some()),
                    Ok(_) | Err(Stop::Absent(_)) => Ok(false),
                    Err(stop) => Err(stop),
                }
            }
            Expression::In(needle, hay) => {
                self.take(1)?;
                self.is_in(needle, hay, element)
            }
            Expression::Text(test, of, part) => {
                self.take(1)?;
                let text = self.text(of, element)?;
                let part = self.text(part, element)?;
                Ok(match test {
                    TextTest::Contains => {
                        self.take(steps_of_bytes(text.len()))?;
                        text.contains(&*part)
                    }
                    TextTest::StartsWith => {
                        self.take(steps_of_bytes(part.len().min(text.len())))?;
                        text.starts_with(&*part)
                    }
                    TextTest::EndsWith => {
                        self.take(steps_of_bytes(part.len().min(text.len())))?;
                        text.ends_with(&*part)
                    }
                })
            }
            Expression::Matches(of, pattern) => {
                self.take(1)?;
                let text = self.text(of, element)?;
                self.take(steps_of_bytes(text.len()))?;
                Ok(pattern.is_found_in(&text))
            }
            Expression::Quantified(quantifier, of, _, condition) => {
                self.take(1)?;
                self.quantified(*quantifier, of, condition, element)
            }
            other => match self.value(other, element)? {
                Value::Bool(bool) => Ok(bool),
                value => self.wrong(|| {
                    format!(
                        "`{other}` is {} ({value}), where true or false is needed",
                        value.kind()
                    )
                }),
            },
        }
    }

    /// What the expression comes to.
    pub(super) fn value(
        &self,
        expression: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, Value<'a>> {
        self.take(1)?;
        match expression {
            Expression::Constant(json) => Ok(Value::of(json)),
            Expression::Data => match self.subject.data() {
                Some(data) => Ok(Value::of(data)),
                None => Err(Stop::Absent(expression)),
            },
            Expression::EventType => Ok(Value::Text(Cow::Borrowed(self.subject.event_type()))),
            Expression::EntityIds => Ok(Value::of(self.subject.entity_ids())),
            Expression::Element(_) => element.cloned().ok_or(Stop::Absent(expression)),
            Expression::Member(of, name) => match self.value(of, element)? {
                Value::Object(members) => {
                    self.member(members, name)?.map(Value::of).ok_or(Stop::Absent(expression))
                }
                _ => Err(Stop::Absent(expression)),
            },
            Expression::Index(of, at) => self.indexed(expression, of, at, element),
            Expression::Negative(of) => match self.number(of, element)? {
                Number::Double(double) => Ok(Value::Number(Number::Double(-double))),
                Number::Whole(whole) => self.whole(expression, whole.checked_neg()),
            },
            Expression::Calculate(how, a, b) => self.calculated(expression, *how, a, b, element),
            Expression::Choose(condition, yes, no) => {
                let chosen = if self.holds(condition, element)? { yes } else { no };
                self.value(chosen, element)
            }
            Expression::Size(of) => {
                let size = match self.value(of, element)? {
                    Value::Text(text) => {
                        self.take(steps_of_bytes(text.len()))?;
                        text.chars().count()
                    }
                    Value::List(elements) => elements.len(),
                    Value::Object(members) => members.len(),
                    value => {
                        return self.wrong(|| {
                            format!("`{of}` is {} ({value}), which has no size", value.kind())
                        });
                    }
                };
                Ok(Value::Number(Number::Whole(size as i128)))
            }
            Expression::Convert(to, of) => self.converted(*to, of, element),
            condition => self.holds(condition, element).map(Value::Bool),
        }
    }

    fn text(
        &self,
        expression: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, Cow<'a, str>> {
        match self.value(expression, element)? {
            Value::Text(text) => Ok(text),
            value => self.wrong(|| {
                format!("`{expression}` is {} ({value}), where a string is needed", value.kind())
            }),
        }
    }

    fn number(&self, expression: &'a Expression, element: Option<&Value<'a>>) -> Come<'a, Number> {
        match self.value(expression, element)? {
            Value::Number(number) => Ok(number),
            value => self.wrong(|| {
                format!("`{expression}` is {} ({value}), where a number is needed", value.kind())
            }),
        }
    }

    fn compares(
        &self,
        how: Comparison,
        a: &'a Expression,
        b: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, bool> {
        let (left, right) = (self.value(a, element)?, self.value(b, element)?);
        if !how.is_order() {
            return Ok(self.same(&left, &right)? == (how == Comparison::Equal));
        }
        if let (Value::Text(a), Value::Text(b)) = (&left, &right) {
            self.take(steps_of_bytes(a.len().min(b.len())))?;
        }
        let Some(order) = left.compare(&right) else {
            return self.wrong(|| {
                format!(
                    "`{a}` is {} ({left}) and `{b}` is {} ({right}), which `{}` cannot compare",
                    left.kind(),
                    right.kind(),
                    how.spelling()
                )
            });
        };
        Ok(order.is_some_and(|order| match how {
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            _ => order.is_ge(),
        }))
    }

    fn is_in(
        &self,
        needle: &'a Expression,
        hay: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, bool> {
        let (sought, hay_value) = (self.value(needle, element)?, self.value(hay, element)?);
        match (&hay_value, &sought) {
            (Value::List(elements), sought) => {
                for element in *elements {
                    if self.same(sought, &Value::of(element))? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Object(members), Value::Text(name)) => {
                Ok(self.member(members, name)?.is_some())
            }
            (Value::Object(_), _) => Ok(false),
            (value, _) => self
                .wrong(|| format!("`{hay}` is {} ({value}), and nothing is `in` it", value.kind())),
        }
    }

    fn indexed(
        &self,
        whole: &'a Expression,
        of: &'a Expression,
        at: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, Value<'a>> {
        let (value, place) = (self.value(of, element)?, self.value(at, element)?);
        let found = match (&value, &place) {
            (Value::Object(members), Value::Text(name)) => self.member(members, name)?,
            (Value::List(elements), Value::Number(Number::Whole(number))) => {
                usize::try_from(*number).ok().and_then(|number| elements.get(number))
            }
            (Value::List(_) | Value::Object(_), _) => {
                return self.wrong(|| {
                    let (kind, place_kind) = (value.kind(), place.kind());
                    format!("`{of}` is {kind}, in which {place_kind} ({place}) names no place")
                });
            }
            _ => None,
        };
        found.map(Value::of).ok_or(Stop::Absent(whole))
    }

    fn calculated(
        &self,
        whole: &'a Expression,
        how: Calculation,
        a: &'a Expression,
        b: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, Value<'a>> {
        let (left, right) = (self.value(a, element)?, self.value(b, element)?);
        match (&left, &right) {
            (Value::Number(Number::Whole(x)), Value::Number(Number::Whole(y))) => {
                let result = match how {
                    Calculation::Add => x.checked_add(*y),
                    Calculation::Subtract => x.checked_sub(*y),
                    Calculation::Multiply => x.checked_mul(*y),
                    Calculation::Divide => x.checked_div(*y),
                    Calculation::Remainder => x.checked_rem(*y),
                };
                self.whole(whole, result)
            }
            (Value::Number(x), Value::Number(y)) => {
                let (x, y) = (x.as_double(), y.as_double());
                Ok(Value::Number(Number::Double(match how {
                    Calculation::Add => x + y,
                    Calculation::Subtract => x - y,
                    Calculation::Multiply => x * y,
                    Calculation::Divide => x / y,
                    Calculation::Remainder => {
                        return self.wrong(|| format!("`{whole}` asks for a remainder of parts"));
                    }
                })))
            }
            (Value::Text(x), Value::Text(y)) if how == Calculation::Add => {
                self.take(steps_of_bytes(x.len().saturating_add(y.len())))?;
                Ok(Value::Text(Cow::Owned(format!("{x}{y}"))))
            }
            _ => self.wrong(|| {
                format!(
                    "`{a}` is {} ({left}) and `{b}` is {} ({right}), with which `{}` cannot be done",
                    left.kind(),
                    right.kind(),
                    how.spelling()
                )
            }),
        }
    }

    /// A whole number that was calculated, if there is one within `i64` or `u64`.
    fn whole(&self, by: &'a Expression, result: Option<i128>) -> Come<'a, Value<'a>> {
        match result {
            Some(whole) if (i64::MIN.into()..=u64::MAX.into()).contains(&whole) => {
                Ok(Value::Number(Number::Whole(whole)))
            }
            _ => self.wrong(|| format!("`{by}` has no result: too large, or divided by zero")),
        }
    }

    fn converted(
        &self,
        to: Conversion,
        of: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, Value<'a>> {
        let value = self.value(of, element)?;
        if let Value::Text(text) = &value {
            self.take(steps_of_bytes(text.len()))?;
        }
        let made = match (to, &value) {
            (Conversion::Int, Value::Number(Number::Whole(_)))
            | (Conversion::Text, Value::Text(_)) => Some(value.clone()),
            // Toward zero, as CEL says, and not beyond what a whole number may be.
            (Conversion::Int, Value::Number(Number::Double(double))) => (double.abs()
                < 9_223_372_036_854_775_808.0)
                .then_some(Value::Number(Number::Whole(*double as i128))),
            (Conversion::Int, Value::Text(text)) => {
                text.parse::<i64>().ok().map(|whole| Value::Number(Number::Whole(whole.into())))
            }
            (Conversion::Double, Value::Number(number)) => {
                Some(Value::Number(Number::Double(number.as_double())))
            }
            (Conversion::Double, Value::Text(text)) => {
                text.parse().ok().map(|double| Value::Number(Number::Double(double)))
            }
            (Conversion::Text, Value::Number(number)) => {
                Some(Value::Text(Cow::Owned(number.to_string())))
            }
            (Conversion::Text, Value::Bool(bool)) => {
                Some(Value::Text(Cow::Borrowed(if *bool { "true" } else { "false" })))
            }
            _ => None,
        };
        match made {
            Some(made) => Ok(made),
            None => self.wrong(|| {
                let (kind, to) = (value.kind(), to.spelling());
                format!("`{of}` is {kind} ({value}), of which `{to}` can make nothing")
            }),
        }
    }

    fn quantified(
        &self,
        quantifier: Quantifier,
        of: &'a Expression,
        condition: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, bool> {
        let range = self.value(of, element)?;
        let Some(elements) = elements_of(&range) else {
            return self
                .wrong(|| format!("`{of}` is {} ({range}), which has no elements", range.kind()));
        };
        let mut each = elements.map(|element| {
            self.take(1)?;
            self.holds(condition, Some(&element))
        });
        match quantifier {
            Quantifier::Exists => decided_by(true, each),
            Quantifier::All => decided_by(false, each),
            Quantifier::ExactlyOne => {
                let holding = each.try_fold(0_usize, |holding, holds| {
                    holds.map(|holds| holding + usize::from(holds))
                })?;
                Ok(holding == 1)
            }
        }
    }
}

/// The first of them that is `decisive` decides, wherever it stands; otherwise the first that
/// comes to nothing.
fn decided_by<'a>(decisive: bool, parts: impl Iterator<Item = Come<'a, bool>>) -> Come<'a, bool> {
    let mut stopped = None;
    for part in parts {
        match part {
            Ok(holds) if holds == decisive => return Ok(decisive),
            Ok(_) => {}
            Err(Stop::TooLong) => return Err(Stop::TooLong),
            Err(stop) => {
                stopped.get_or_insert(stop);
            }
        }
    }
    stopped.map_or(Ok(!decisive), Err)
}

/// What a quantifier looks at: the elements of a list, the names in an object.
pub(super) fn elements_of<'a>(
    range: &Value<'a>,
) -> Option<Box<dyn Iterator<Item = Value<'a>> + 'a>> {
    match range {
        Value::List(elements) => Some(Box::new(elements.iter().map(Value::of))),
        Value::Object(members) => {
            Some(Box::new(members.keys().map(|name| Value::Text(Cow::Borrowed(name)))))
        }
        _ => None,
    }
}
