//! The key a caller shows.
//!
//! Promise: a key that is missing, given twice or not text is no key; nothing here logs one.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The header of both customer contracts.
pub(crate) const X_API_KEY: &str = "x-api-key";

/// The key in `x-api-key`, as both customer contracts want it.
pub(crate) fn x_api_key(headers: &HeaderMap) -> Option<&str> {
    only_value(headers, X_API_KEY)
}

/// The key in `Authorization: Bearer …` (RFC 6750, section 2.1), as the platform API wants it.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = only_value(headers, AUTHORIZATION.as_str())?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start())
}

fn only_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_the_only_value_of_its_header() {
        let mut headers = HeaderMap::new();
        assert_eq!(x_api_key(&headers), None);
        headers.append(X_API_KEY, HeaderValue::from_static("one"));
        assert_eq!(x_api_key(&headers), Some("one"));
        headers.append(X_API_KEY, HeaderValue::from_static("two"));
        assert_eq!(x_api_key(&headers), None);
        headers.insert(X_API_KEY, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(x_api_key(&headers), None);
    }

    #[test]
    fn a_bearer_key_follows_its_scheme() {
        let check = |value: &'static str, expected: Option<&str>| {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            assert_eq!(bearer(&headers), expected, "{value}");
        };
        check("Bearer key", Some("key"));
        check("bearer  key", Some("key"));
        check("Basic key", None);
        check("Bearerkey", None);
    }
}
