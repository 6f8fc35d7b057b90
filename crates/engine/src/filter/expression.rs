//! What a filter says, after it was read: a small closed language.
//!
//! Promise: an expression has at most [`NODES_MAX`] nodes and is at most [`DEPTH_MAX`] deep, so that
//! whoever walks it by recursion stays within its stack. It shows as the CEL it was read from, but
//! for spaces and parentheses.

use std::fmt::{self, Write as _};

use serde_json::Value as Json;

use super::pattern::Pattern;

/// Most nodes of a filter: some fifty comparisons.
pub(super) const NODES_MAX: usize = 200;

/// Deepest nesting of a filter; `&&` and `||` nest only where they alternate.
pub(super) const DEPTH_MAX: usize = 24;

/// Most that the nodes of a filter weigh, but for texts and automata.
#[cfg(test)]
pub(super) const BYTES_MAX: usize = NODES_MAX * (size_of::<Expression>() + ALLOCATION_BYTES);

/// An expression.
#[derive(Debug)]
pub(super) enum Expression {
    /// A value that stands in the filter: null, a boolean, a number, a text or a list of these.
    Constant(Json),
    /// `data`
    Data,
    /// `type`
    EventType,
    /// `entity_ids`
    EntityIds,
    /// The element that a quantifier looks at, by the name it is given there.
    Element(Box<str>),
    /// `of.name`
    Member(Box<Expression>, Box<str>),
    /// `of[at]`
    Index(Box<Expression>, Box<Expression>),
    /// `has(of.name)`
    Has(Box<Expression>, Box<str>),
    /// `!of`
    Not(Box<Expression>),
    /// `-of`
    Negative(Box<Expression>),
    /// `a && b && …`
    Every(Vec<Expression>),
    /// `a || b || …`
    Any(Vec<Expression>),
    /// `a < b` and the like
    Compare(Comparison, Box<Expression>, Box<Expression>),
    /// `a in b`
    In(Box<Expression>, Box<Expression>),
    /// `a + b` and the like
    Calculate(Calculation, Box<Expression>, Box<Expression>),
    /// `condition ? yes : no`
    Choose(Box<Expression>, Box<Expression>, Box<Expression>),
    /// `size(of)`
    Size(Box<Expression>),
    /// `of.contains(part)` and the like
    Text(TextTest, Box<Expression>, Box<Expression>),
    /// `of.matches("pattern")`
    Matches(Box<Expression>, Box<Pattern>),
    /// `double(of)` and the like
    Convert(Conversion, Box<Expression>),
    /// `of.exists(name, condition)` and the like
    Quantified(Quantifier, Box<Expression>, Box<str>, Box<Expression>),
}

macro_rules! spelled {
    ($(#[$doc:meta])* $kind:ident { $($name:ident = $spelling:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum $kind { $($name),* }

        impl $kind {
            /// How it is written.
            pub(super) const fn spelling(self) -> &'static str {
                match self { $(Self::$name => $spelling),* }
            }

            /// What is written so.
            pub(super) fn spelled(text: &str) -> Option<Self> {
                match text { $($spelling => Some(Self::$name),)* _ => None }
            }
        }
    };
}

spelled! {
    /// How two values are compared.
    Comparison {
        Equal = "==",
        NotEqual = "!=",
        Less = "<",
        LessOrEqual = "<=",
        Greater = ">",
        GreaterOrEqual = ">=",
    }
}

spelled! {
    /// What two values are made into.
    Calculation { Add = "+", Subtract = "-", Multiply = "*", Divide = "/", Remainder = "%" }
}

spelled! {
    /// What is asked of a text.
    TextTest { Contains = "contains", StartsWith = "startsWith", EndsWith = "endsWith" }
}

spelled! {
    /// What a value is turned into.
    Conversion { Int = "int", Double = "double", Text = "string" }
}

spelled! {
    /// For how many elements of a list (names of an object) a condition must hold.
    Quantifier { Exists = "exists", All = "all", ExactlyOne = "exists_one" }
}

impl Comparison {
    /// Whether it asks which is larger.
    pub(super) const fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// What the allocator keeps of its own beside a part, in bytes.
const ALLOCATION_BYTES: usize = 16;

/// How tightly an expression holds together, for parentheses: CEL's precedence.
const CHOICE: u8 = 1;
const OR: u8 = 2;
const AND: u8 = 3;
const RELATION: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const SIGN: u8 = 7;
const WHOLE: u8 = 8;

impl Expression {
    fn tightness(&self) -> u8 {
        match self {
            Self::Choose(..) => CHOICE,
            Self::Any(_) => OR,
            Self::Every(_) => AND,
            Self::Compare(..) | Self::In(..) => RELATION,
            Self::Calculate(Calculation::Add | Calculation::Subtract, ..) => SUM,
            Self::Calculate(..) => PRODUCT,
            Self::Not(_) | Self::Negative(_) => SIGN,
            _ => WHOLE,
        }
    }

    /// How many bytes of memory it takes, about.
    pub(super) fn weight(&self) -> usize {
        let inside = match self {
            Self::Constant(Json::Array(elements)) => {
                elements.len() * size_of::<Json>()
                    + elements.iter().filter_map(Json::as_str).map(str::len).sum::<usize>()
            }
            Self::Constant(constant) => constant.as_str().map_or(0, str::len),
            Self::Data | Self::EventType | Self::EntityIds => 0,
            Self::Element(name) => name.len(),
            Self::Member(of, name) | Self::Has(of, name) => of.weight() + name.len(),
            Self::Not(of) | Self::Negative(of) | Self::Size(of) | Self::Convert(_, of) => {
                of.weight()
            }
            Self::Matches(of, pattern) => of.weight() + pattern.weight(),
            Self::Every(parts) | Self::Any(parts) => parts.iter().map(Self::weight).sum(),
            Self::Index(a, b)
            | Self::Compare(_, a, b)
            | Self::In(a, b)
            | Self::Calculate(_, a, b)
            | Self::Text(_, a, b) => a.weight() + b.weight(),
            Self::Choose(a, b, c) => a.weight() + b.weight() + c.weight(),
            Self::Quantified(_, of, name, condition) => {
                of.weight() + name.len() + condition.weight()
            }
        };
        size_of::<Self>() + ALLOCATION_BYTES + inside
    }

    /// Writes it, in parentheses if it holds together less than `least`.
    fn write(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.tightness() < least {
            return write!(f, "({self})");
        }
        write!(f, "{self}")
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], word: &str, least| {
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    f.write_str(word)?;
                }
                part.write(f, least)?;
            }
            Ok(())
        };
        let between = |f: &mut fmt::Formatter<'_>, a: &Self, word: &str, b: &Self, tightness| {
            a.write(f, tightness)?;
            write!(f, " {word} ")?;
            b.write(f, tightness + 1)
        };
        match self {
            Self::Constant(value) => write!(f, "{value}"),
            Self::Data => f.write_str("data"),
            Self::EventType => f.write_str("type"),
            Self::EntityIds => f.write_str("entity_ids"),
            Self::Element(name) => f.write_str(name),
            Self::Member(of, name) => Path(of, name).fmt(f),
            Self::Has(of, name) => write!(f, "has({})", Path(of, name)),
            Self::Index(of, at) => {
                of.write(f, WHOLE)?;
                write!(f, "[{at}]")
            }
            Self::Not(of) => {
                f.write_char('!')?;
                of.write(f, WHOLE)
            }
            Self::Negative(of) => {
                f.write_char('-')?;
                of.write(f, WHOLE)
            }
            Self::Every(parts) => joined(f, parts, " && ", RELATION),
            Self::Any(parts) => joined(f, parts, " || ", AND),
            Self::Compare(how, a, b) => between(f, a, how.spelling(), b, RELATION),
            Self::In(a, b) => between(f, a, "in", b, RELATION),
            Self::Calculate(how, a, b) => between(f, a, how.spelling(), b, self.tightness()),
            Self::Choose(condition, yes, no) => {
                condition.write(f, OR)?;
                f.write_str(" ? ")?;
                yes.write(f, OR)?;
                f.write_str(" : ")?;
                no.write(f, CHOICE)
            }
            Self::Size(of) => write!(f, "size({of})"),
            Self::Text(test, of, part) => {
                of.write(f, WHOLE)?;
                write!(f, ".{}({part})", test.spelling())
            }
            Self::Matches(of, pattern) => {
                of.write(f, WHOLE)?;
                write!(f, ".matches({})", Json::from(pattern.text()))
            }
            Self::Convert(to, of) => write!(f, "{}({of})", to.spelling()),
            Self::Quantified(quantifier, of, name, condition) => {
                of.write(f, WHOLE)?;
                write!(f, ".{}({name}, {condition})", quantifier.spelling())
            }
        }
    }
}

/// A member as it is reached: `of.name`, or `of["any name"]`.
pub(super) struct Path<'a>(pub(super) &'a Expression, pub(super) &'a str);

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(of, name) = self;
        of.write(f, WHOLE)?;
        let is_plain = !name.starts_with(|first: char| first.is_ascii_digit())
            && name.chars().all(|one| one.is_ascii_alphanumeric() || one == '_');
        if is_plain { write!(f, ".{name}") } else { write!(f, "[{}]", Json::from(*name)) }
    }
}
