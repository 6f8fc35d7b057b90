//! Filters: conditions on an event's `data`, in CEL (Common Expression Language, the language of
//! conditions in Kubernetes, Envoy and Google Eventarc).
//!
//! Promise: a filter is read once, when it is set, or refused with the place and the reason; what
//! was read never fails to end. Its size, depth, steps and memory are bounded, it cannot panic, and
//! it can say why it decided as it did. The `cel` crate parses; evaluation is ours, so that bounds
//! and explanations hold by construction.
//!
//! What there is: the names `data`, `type` and `entity_ids`; members (`data.a.b`, `data["a-b"]`) and
//! elements (`data.list[0]`); null, booleans, numbers, strings and lists of these; `== != < <= > >=
//! in`, `&& || !`, `+ - * / %`, `? :`; `has`, `size`, `contains`, `startsWith`, `endsWith`,
//! `matches`, `int`, `double`, `string`; and `exists`, `all` and `exists_one`, not within one
//! another.
//!
//! A filter that asks for what is not there lets the event not pass; one that does what cannot be
//! done with the values it finds fails. Neighbours: `publish` applies filters, `administer` reads
//! them, `registry` keeps them at hand.

use std::fmt;

use domain::filter::FilterText;
use domain::matching::NoDelivery;

use evaluate::{Run, Stop};
use expression::Expression;

mod at_hand;
mod compare;
mod evaluate;
mod explain;
mod expression;
mod pattern;
mod read;
mod subject;
mod trial;
mod value;

pub use at_hand::{FiltersAtHand, Verdicts};
pub use subject::{STEPS_MAX, Subject};
pub use trial::FilterTrial;

/// A place in a filter's text; both count from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character in the line.
    pub column: usize,
}

impl Position {
    /// The place of a byte.
    fn of_byte(text: &str, byte: usize) -> Self {
        let before = text.char_indices().take_while(|(at, _)| *at < byte).map(|(_, one)| one);
        let (mut line, mut column) = (1, 1);
        for one in before {
            (line, column) = if one == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        Self { line, column }
    }

    /// The place of a line and a byte in it, as a parser tells them from 1; (0, 0) is nowhere.
    fn of_parser(text: &str, (line, column): (isize, isize)) -> Option<Self> {
        let line = usize::try_from(line).ok()?.checked_sub(1)?;
        let column = usize::try_from(column).ok()?.checked_sub(1)?;
        let lines_before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        Some(Self::of_byte(text, lines_before + column))
    }
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Where it goes wrong; `None` for what is wrong with the whole.
    pub position: Option<Position>,
    /// What is wrong.
    pub reason: String,
}

impl FilterError {
    fn anywhere(reason: impl Into<String>) -> Self {
        Self { position: None, reason: reason.into() }
    }

    /// What is quoted from the text may hold line breaks, and be long.
    fn on_one_line(self) -> Self {
        const CHARACTERS_MAX: usize = 400;
        let plain = |one: char| if one.is_control() { ' ' } else { one };
        let reason = self.reason.chars().take(CHARACTERS_MAX).map(plain).collect();
        Self { reason, ..self }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => {
                write!(f, "is wrong at line {line}, character {column}: {}", self.reason)
            }
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for FilterError {}

/// What a filter says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It lets it pass.
    Passes,
    /// It does not.
    Rejects,
    /// It could not be applied, for this reason.
    Failed(Box<str>),
}

impl Verdict {
    /// Why there is no delivery, if there is none.
    pub fn no_delivery(&self) -> Option<NoDelivery> {
        match self {
            Self::Passes => None,
            Self::Rejects => Some(NoDelivery::Filter),
            Self::Failed(_) => Some(NoDelivery::FilterFailed),
        }
    }
}

/// What a filter says of an event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What it says.
    pub verdict: Verdict,
    /// Why, in a sentence: lower case, no full stop.
    pub sentence: String,
}

/// A filter that was read.
#[derive(Debug)]
pub struct Filter {
    condition: Expression,
}

/// Reads a filter's text, or says in a clause to be read after the field's name what is wrong.
pub fn read(text: &str) -> Result<FilterText, String> {
    match Filter::compile(text) {
        Ok(_) => Ok(FilterText::from_stored(text)),
        Err(error) => Err(error.to_string()),
    }
}

impl Filter {
    /// Reads a filter.
    pub fn compile(text: &str) -> Result<Self, FilterError> {
        let condition = read::read(text).map_err(FilterError::on_one_line)?;
        Ok(Self { condition })
    }

    /// What it says of the event.
    pub fn apply(&self, subject: &Subject<'_>) -> Verdict {
        let run = Run::new(subject);
        match run.holds(&self.condition, None) {
            Ok(true) => Verdict::Passes,
            Ok(false) | Err(Stop::Absent(_)) => Verdict::Rejects,
            Err(Stop::Wrong(reason)) => Verdict::Failed(reason),
            Err(Stop::TooLong) => Verdict::Failed(too_long().into()),
        }
    }

    /// What it says of the event, and why.
    pub fn explain(&self, subject: &Subject<'_>) -> Explanation {
        let holds = Run::new(subject).holds(&self.condition, None);
        let (verdict, sentence) = match holds {
            Ok(holds) => {
                // A walk of its own, as bounded as the first: it looks at the parts once more.
                let why = Run::new(subject).reason(&self.condition, holds);
                let (verdict, word) = if holds {
                    (Verdict::Passes, "passed")
                } else {
                    (Verdict::Rejects, "rejected")
                };
                (verdict, format!("{word} because {why}"))
            }
            Err(Stop::Absent(what)) => {
                (Verdict::Rejects, format!("rejected because {what} is not there"))
            }
            Err(Stop::Wrong(reason)) => {
                let sentence = format!("failed because {reason}");
                (Verdict::Failed(reason), sentence)
            }
            Err(Stop::TooLong) => {
                (Verdict::Failed(too_long().into()), format!("failed because {}", too_long()))
            }
        };
        Explanation { verdict, sentence }
    }

    /// How many bytes of memory it takes, about.
    fn weight(&self) -> usize {
        size_of::<Self>() + self.condition.weight()
    }
}

fn too_long() -> String {
    format!("the filter takes more than its share of steps on this event, at most {STEPS_MAX}")
}
