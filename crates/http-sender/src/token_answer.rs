//! What an authorisation server answers, read with suspicion.
//!
//! Promise: what comes out fits into a header as it is, whatever the server sent; what is wrong is
//! told without a word of the answer, which may hold a token.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;

use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LIFE_DEFAULT, TOKEN_LIFE_MAX, TOKEN_UNUSED_BEFORE_END};

/// A token that was granted.
#[derive(Clone)]
pub(crate) struct Granted {
    /// The value of `authorization`.
    pub(crate) bearer: HeaderValue,
    /// How long it may be used from now on.
    pub(crate) usable_for: Duration,
}

/// A successful answer (RFC 6749, section 5.1).
#[derive(Deserialize)]
struct TokenAnswer<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    #[serde(borrow)]
    token_type: Cow<'a, str>,
    #[serde(borrow, default)]
    expires_in: Option<Seconds<'a>>,
}

/// Seconds; some servers put them into a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds<'a> {
    Number(f64),
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl Seconds<'_> {
    /// `None` for what is no length of time.
    fn read(&self) -> Option<Duration> {
        let seconds = match self {
            Self::Number(seconds) => *seconds,
            Self::Text(text) => text.parse().ok()?,
        };
        Duration::try_from_secs_f64(seconds).ok()
    }
}

/// Reads the body of a successful answer.
pub(crate) fn read(body: &[u8]) -> Result<Granted, &'static str> {
    let answer: TokenAnswer<'_> = serde_json::from_slice(body)
        .map_err(|_| "the answer is not a JSON object with access_token and token_type")?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err("the token is not of type Bearer");
    }
    let token = &*answer.access_token;
    if token.is_empty() || token.len() > TOKEN_BYTES_MAX {
        return Err("the token is empty or too long");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the token holds something else than visible ASCII characters");
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token does not fit into a header")?;
    bearer.set_sensitive(true);
    let life = match &answer.expires_in {
        None => TOKEN_LIFE_DEFAULT,
        Some(seconds) => seconds.read().ok_or("expires_in is not a number of seconds")?,
    };
    Ok(Granted { bearer, usable_for: usable_for(life.min(TOKEN_LIFE_MAX)) })
}

/// A token of short life is used for half of it.
fn usable_for(life: Duration) -> Duration {
    life.saturating_sub(TOKEN_UNUSED_BEFORE_END).max(life / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn usable(body: &str) -> Result<u64, &'static str> {
        read(body.as_bytes()).map(|granted| granted.usable_for.as_secs())
    }

    fn with(field: &str) -> String {
        format!(r#"{{"access_token":"abc","token_type":"Bearer"{field}}}"#)
    }

    #[test]
    fn a_token_is_used_until_shortly_before_its_end() {
        for (field, seconds) in [
            (r#","expires_in":3600"#, 3570),
            (r#","expires_in":"3600""#, 3570),
            (r#","expires_in":3600.5,"scope":"x","a":[{}]"#, 3570),
            (r#","expires_in":60"#, 30),
            (r#","expires_in":40"#, 20),
            (r#","expires_in":0"#, 0),
            (r#","expires_in":1e300"#, 0),
            (r#","expires_in":31536000"#, 86_370),
            (r#","expires_in":null"#, 270),
            ("", 270),
        ] {
            let expected = if field.contains("1e300") {
                Err("expires_in is not a number of seconds")
            } else {
                Ok(seconds)
            };
            assert_eq!(usable(&with(field)), expected, "{field}");
        }
    }

    #[test]
    fn what_is_no_bearer_token_is_refused() {
        let token = |token: &str| format!(r#"{{"access_token":"{token}","token_type":"bearer"}}"#);
        assert_eq!(read(token("a.b-_~+/=").as_bytes()).unwrap().bearer, "Bearer a.b-_~+/=");
        let longest = "t".repeat(TOKEN_BYTES_MAX);
        assert!(read(token(&longest).as_bytes()).is_ok());
        for body in [
            token(""),
            token(&format!("{longest}t")),
            token(r"a\r\nx-injected: 1"),
            token("a b"),
            token("é"),
            token(r"a\u0000"),
            String::new(),
            "[]".to_owned(),
            "access_token=abc&token_type=bearer".to_owned(),
            r#"{"access_token":"abc"}"#.to_owned(),
            r#"{"access_token":"abc","token_type":"mac"}"#.to_owned(),
            r#"{"access_token":1,"token_type":"bearer"}"#.to_owned(),
            r#"{"error":"invalid_client"}"#.to_owned(),
            with(r#","expires_in":-1"#),
            with(r#","expires_in":"soon""#),
            with(r#","expires_in":"NaN""#),
            with(r#","expires_in":true"#),
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_token_is_refused_or_goes_out_as_it_came(token in ".{0,40}") {
            let body = serde_json::json!({"access_token": &token, "token_type": "Bearer"});
            if let Ok(granted) = read(body.to_string().as_bytes()) {
                prop_assert_eq!(granted.bearer.to_str().unwrap(), format!("Bearer {token}"));
                prop_assert!(!token.contains(|c: char| c.is_whitespace() || c.is_control()));
            }
        }
    }
}
