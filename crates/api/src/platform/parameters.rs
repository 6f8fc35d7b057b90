//! The query of a list: each parameter read once, every wrong one named.

use axum::extract::Query;
use domain::time::Timestamp;
use engine::error::{EngineError, Violation};
use http::Uri;

use super::fields::unknown;
use crate::problem::Problem;

/// The parameters of one request that are not yet read.
pub(crate) struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    wrong: Vec<Violation>,
}

impl Parameters {
    /// Reads the query with `read`; refuses parameters that are wrong, repeated or never asked for.
    pub(crate) fn read<T>(uri: &Uri, read: impl FnOnce(&mut Self) -> T) -> Result<T, Problem> {
        let Query(pairs) = Query::try_from_uri(uri)
            .expect("any text is a list of pairs (WHATWG URL, urlencoded parsing)");
        let mut parameters = Self { pairs, known: Vec::new(), wrong: Vec::new() };
        let value = read(&mut parameters);
        let Self { pairs, known, mut wrong } = parameters;
        for (name, _) in pairs {
            let reason = if known.contains(&name.as_str()) {
                "is given twice".to_owned()
            } else {
                unknown("parameter", &known)
            };
            wrong.push(Violation { field: name, reason });
        }
        if wrong.is_empty() { Ok(value) } else { Err(EngineError::all_invalid(wrong).into()) }
    }

    /// The parameter as `parse` reads it; `reason` says what is wrong when it cannot.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        reason: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let at = self.pairs.iter().position(|(given, _)| given == name)?;
        let (_, text) = self.pairs.remove(at);
        let value = parse(&text);
        if value.is_none() {
            self.wrong.push(Violation { field: name.to_owned(), reason: reason.to_owned() });
        }
        value
    }

    /// An instant: RFC 3339, or Unix seconds.
    pub(crate) fn instant(&mut self, name: &'static str) -> Option<Timestamp> {
        self.optional(name, "must be an RFC 3339 time or Unix seconds", |text| {
            text.parse().ok().map(Timestamp::from_seconds).or_else(|| {
                Timestamp::parse_rfc3339(text)
                    // A `+` before the offset that was not percent-encoded arrives as a space.
                    .or_else(|| Timestamp::parse_rfc3339(&text.replace(' ', "+")))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_rfc_3339_or_unix_seconds() {
        let read = |query: &str| {
            let uri: Uri = format!("/?since={query}").parse().unwrap();
            Parameters::read(&uri, |parameters| parameters.instant("since")).ok().flatten()
        };
        let instant = Some(Timestamp::from_seconds(1_705_314_600));
        assert_eq!(read("1705314600"), instant);
        assert_eq!(read("2024-01-15T10:30:00Z"), instant);
        assert_eq!(read("2024-01-15T10:30:00.000Z"), instant);
        assert_eq!(read("2024-01-15T11:30:00%2B01:00"), instant);
        assert_eq!(read("2024-01-15T11:30:00+01:00"), instant);
        for wrong in ["", "yesterday", "2024-01-15", "1705314600.5"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
