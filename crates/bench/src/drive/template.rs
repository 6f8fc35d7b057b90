//! Texts with named gaps, `{{like_this}}`: parsed once, filled with values by [`super::setup`] and
//! for each event by [`super::publishing`].
//!
//! Promise: a gap is filled with its value as it is, never escaped; a gap without a value is an
//! error that names it, never an empty text.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// What gaps are filled with, by their names.
pub(crate) type Values = BTreeMap<String, String>;

/// A text with named gaps.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Gap(String),
}

impl Template {
    /// Reads a text; a gap that is not closed or has no proper name is an error.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) =
                after.split_once("}}").with_context(|| format!("`{{{{{after}` has no `}}}}`"))?;
            let name = name.trim();
            if !is_name(name) {
                bail!("`{{{{{name}}}}}` is no name: lower-case letters, digits and _ only");
            }
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::Gap(name.to_owned()));
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        pieces.retain(|piece| !matches!(piece, Piece::Text(text) if text.is_empty()));
        Ok(Self(pieces))
    }

    /// The names of its gaps.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Gap(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }

    /// The text with every gap filled.
    pub(crate) fn fill<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> Result<String> {
        let mut filled = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Gap(name) => filled.push_str(
                    value(name).with_context(|| format!("nothing fills `{{{{{name}}}}}`"))?,
                ),
            }
        }
        Ok(filled)
    }

    /// The same with those gaps filled that have a value, for texts that are filled very often.
    pub(crate) fn fill_known(&self, values: &Values) -> Self {
        let mut pieces: Vec<Piece> = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            let piece = match piece {
                Piece::Gap(name) if let Some(value) = values.get(name) => {
                    Piece::Text(value.clone())
                }
                other => other.clone(),
            };
            match (pieces.last_mut(), piece) {
                (Some(Piece::Text(before)), Piece::Text(more)) => before.push_str(&more),
                (_, piece) => pieces.push(piece),
            }
        }
        Self(pieces)
    }
}

impl TryFrom<String> for Template {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

/// Whether a variable or a capture may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&str, &str)]) -> Values {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn gaps_are_filled_as_they_are_and_single_braces_stay() {
        let template = Template::parse(r#"{"a":{"b":"{{ key }}"},"n":{{number}}}"#).unwrap();
        assert_eq!(template.names().collect::<Vec<_>>(), ["key", "number"]);
        let values = values(&[("key", "k-1"), ("number", "7")]);
        let filled = template.fill(|name| values.get(name).map(String::as_str)).unwrap();
        assert_eq!(filled, r#"{"a":{"b":"k-1"},"n":7}"#);
    }

    #[test]
    fn filling_what_is_known_leaves_the_other_gaps() {
        let template = Template::parse("/{{project}}/events/{{number}}").unwrap();
        let later = template.fill_known(&values(&[("project", "p")]));
        assert_eq!(later, Template::parse("/p/events/{{number}}").unwrap());
    }

    #[test]
    fn a_gap_that_nothing_fills_is_named() {
        let template = Template::parse("Bearer {{key}}").unwrap();
        let error = template.fill(|_| None).unwrap_err().to_string();
        assert_eq!(error, "nothing fills `{{key}}`");
    }

    #[test]
    fn a_gap_without_an_end_or_a_name_is_refused() {
        for (text, said) in [
            ("a {{key", "`{{key` has no `}}`"),
            ("{{}}", "`{{}}` is no name"),
            ("{{Key}}", "`{{Key}}` is no name"),
            ("{{a b}}", "`{{a b}}` is no name"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
