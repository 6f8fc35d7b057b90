//! Why a filter lets an event pass or not, in a sentence that names what decided.
//!
//! Promise: it says what `evaluate` found, with the values it found, cut to a length. It is made on
//! request, never while events are matched, and within the steps of a filter: beyond them it says only
//! what the whole came to.

use super::evaluate::{Come, Run, Stop, elements_of};
use super::expression::{Expression, Quantifier, TextTest};
use super::value::Value;

/// Most characters of an explanation.
const CHARACTERS_MAX: usize = 1_000;

impl<'a> Run<'a> {
    /// Why the condition came to `holds`.
    pub(super) fn reason(&self, condition: &'a Expression, holds: bool) -> String {
        let mut told = self
            .why(condition, holds, None)
            .unwrap_or_else(|_| format!("`{condition}` is {holds}"));
        if let Some((end, _)) = told.char_indices().nth(CHARACTERS_MAX) {
            told.truncate(end);
            told.push('…');
        }
        told
    }

    fn why(
        &self,
        condition: &'a Expression,
        holds: bool,
        element: Option<&Value<'a>>,
    ) -> Come<'a, String> {
        let is = if holds { "is" } else { "is not" };
        Ok(match condition {
            Expression::Not(of) => self.why(of, !holds, element)?,
            Expression::Every(parts) => self.why_parts(parts, holds, holds, element)?,
            Expression::Any(parts) => self.why_parts(parts, holds, !holds, element)?,
            Expression::Compare(how, a, b) => {
                let (a, b) = (self.show(a, element)?, self.show(b, element)?);
                format!("{a} {is} {} {b}", how.spelling())
            }
            Expression::In(needle, hay) => {
                let (needle, hay) = (self.show(needle, element)?, self.show(hay, element)?);
                format!("{needle} {is} in {hay}")
            }
            Expression::Has(of, name) => {
                let path = super::expression::Path(of, name);
                format!("{path} {}", if holds { "is there" } else { "is not there" })
            }
            Expression::Text(test, of, part) => {
                let (of, part) = (self.show(of, element)?, self.show(part, element)?);
                let does = match (test, holds) {
                    (TextTest::Contains, true) => "contains",
                    (TextTest::Contains, false) => "does not contain",
                    (TextTest::StartsWith, true) => "starts with",
                    (TextTest::StartsWith, false) => "does not start with",
                    (TextTest::EndsWith, true) => "ends with",
                    (TextTest::EndsWith, false) => "does not end with",
                };
                format!("{of} {does} {part}")
            }
            Expression::Matches(of, pattern) => {
                let does = if holds { "matches" } else { "does not match" };
                let pattern = Value::Text(pattern.text().into());
                format!("{} {does} {pattern}", self.show(of, element)?)
            }
            Expression::Choose(choice, yes, no) => {
                let chosen = if self.holds(choice, element)? { yes } else { no };
                self.why(chosen, holds, element)?
            }
            Expression::Quantified(quantifier, of, name, condition) => {
                self.why_elements(*quantifier, of, name, condition, holds)?
            }
            other => format!("{other} is {holds}"),
        })
    }

    /// Either every part has a share in it, or the first that came to `holds` decided.
    fn why_parts(
        &self,
        parts: &'a [Expression],
        holds: bool,
        all_share: bool,
        element: Option<&Value<'a>>,
    ) -> Come<'a, String> {
        if !all_share {
            for part in parts {
                if self.comes_to(holds, part, element)? {
                    return self.why(part, holds, element);
                }
            }
        }
        let reasons: Come<'a, Vec<_>> =
            parts.iter().map(|part| self.why(part, holds, element)).collect();
        Ok(reasons?.join(" and "))
    }

    fn why_elements(
        &self,
        quantifier: Quantifier,
        of: &'a Expression,
        name: &str,
        condition: &'a Expression,
        holds: bool,
    ) -> Come<'a, String> {
        let range = self.value(of, None)?;
        let elements = elements_of(&range).into_iter().flatten();
        let decisive = quantifier != Quantifier::All;
        if quantifier == Quantifier::ExactlyOne {
            let mut count = 0_usize;
            for element in elements {
                count += usize::from(self.comes_to(true, condition, Some(&element))?);
            }
            return Ok(format!("elements {name} of {of} that meet `{condition}`: {count}"));
        }
        if holds == decisive {
            for (at, element) in elements.enumerate() {
                if self.comes_to(decisive, condition, Some(&element))? {
                    let reason = self.why(condition, decisive, Some(&element))?;
                    return Ok(format!("of {of}, at {at}: {reason}"));
                }
            }
        }
        Ok(match quantifier {
            Quantifier::Exists => format!("no element {name} of {of} meets `{condition}`"),
            _ => format!("every element {name} of {of} meets `{condition}`"),
        })
    }

    /// Whether the condition comes to `holds`; what cannot be told does not, but when the steps are
    /// used up there is nothing more to say.
    fn comes_to(
        &self,
        holds: bool,
        condition: &'a Expression,
        element: Option<&Value<'a>>,
    ) -> Come<'a, bool> {
        match self.holds(condition, element) {
            Err(Stop::TooLong) => Err(Stop::TooLong),
            found => Ok(found.is_ok_and(|it| it == holds)),
        }
    }

    /// An expression and its value; a constant is its own value.
    fn show(&self, expression: &'a Expression, element: Option<&Value<'a>>) -> Come<'a, String> {
        if let Expression::Constant(constant) = expression {
            return Ok(constant.to_string());
        }
        Ok(format!("{expression} = {}", self.value(expression, element)?))
    }
}
