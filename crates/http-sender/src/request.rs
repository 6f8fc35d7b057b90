//! From what the engine wants sent to what HTTP sends.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use domain::attempt::Failure;
use domain::credentials::ClientIdentity;
use domain::rendering::{Header, STANDARD_USER_AGENT};
use domain::target_url::TargetUrl;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request};
use http_body_util::Full;

use crate::failed::Failed;

/// Names of headers that deliveries have ([`domain::rendering::render_headers`]): to read one anew
/// costs more than to find it here.
static NAMES: [HeaderName; 10] = [
    header::CONTENT_TYPE,
    header::USER_AGENT,
    header::ACCEPT_ENCODING,
    HeaderName::from_static("x-webhook-event"),
    HeaderName::from_static("x-webhook-signature"),
    HeaderName::from_static("signature"),
    HeaderName::from_static("webhook-id"),
    HeaderName::from_static("webhook-timestamp"),
    HeaderName::from_static("webhook-signature"),
    HeaderName::from_static("traceparent"),
];

/// What is sent, kept so that it can be sent again on a fresh connection.
pub(crate) struct Message<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a TargetUrl,
    pub(crate) headers: &'a [Header],
    pub(crate) body: &'a Bytes,
    /// The value of `authorization`, in place of any other.
    pub(crate) authorization: Option<&'a HeaderValue>,
    /// What the connection shows to whoever asks for a certificate.
    pub(crate) identity: Option<&'a ClientIdentity>,
}

/// The headers of a probe.
pub(crate) fn probe_headers() -> [Header; 3] {
    [
        ("user-agent".into(), STANDARD_USER_AGENT.into()),
        ("accept".into(), "*/*".into()),
        ("accept-encoding".into(), "identity".into()),
    ]
}

impl Message<'_> {
    /// The request for one connection. HTTP/1.1 names its host in a header and its target by path;
    /// HTTP/2 by the parts of a whole URL.
    pub(crate) fn build(&self, http2: bool) -> Result<Request<Full<Bytes>>, Failed> {
        self.try_build(http2).map_err(|error| {
            Failed::new(Failure::Protocol, format!("the request cannot be written: {error}"))
        })
    }

    fn try_build(&self, http2: bool) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut headers = HeaderMap::with_capacity(self.headers.len() + 3);
        let mut texts = BytesMut::with_capacity(self.texts_bytes());
        let path = PathAndQuery::from_maybe_shared(piece(&mut texts, self.url.path_and_query()))?;
        let authority = piece(&mut texts, self.url.authority());
        let uri = if http2 {
            let mut parts = http::uri::Parts::default();
            parts.scheme = Some(if self.url.is_https() { Scheme::HTTPS } else { Scheme::HTTP });
            parts.authority = Some(Authority::from_maybe_shared(authority)?);
            parts.path_and_query = Some(path);
            Uri::from_parts(parts)?
        } else {
            headers.insert(header::HOST, HeaderValue::from_maybe_shared(authority)?);
            Uri::from(path)
        };
        for (name, value) in self.headers {
            let value = match value {
                Cow::Borrowed(value) => Bytes::from_static(value.as_bytes()),
                Cow::Owned(value) => piece(&mut texts, value),
            };
            headers.append(name_of(name)?, HeaderValue::from_maybe_shared(value)?);
        }
        if let Some(value) = self.authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// The bytes of all texts that are not known beforehand.
    fn texts_bytes(&self) -> usize {
        let owned = self.headers.iter().map(|(_, value)| match value {
            Cow::Borrowed(_) => 0,
            Cow::Owned(value) => value.len(),
        });
        self.url.path_and_query().len() + self.url.authority().len() + owned.sum::<usize>()
    }
}

/// A text as a piece of the one buffer that holds all texts of a request, so that they take one
/// allocation and not one each.
fn piece(texts: &mut BytesMut, text: &str) -> Bytes {
    texts.extend_from_slice(text.as_bytes());
    texts.split().freeze()
}

/// The name of a header; one that every delivery has is at hand.
fn name_of(name: &str) -> Result<HeaderName, http::Error> {
    match NAMES.iter().find(|known| known.as_str() == name) {
        Some(known) => Ok(known.clone()),
        None => Ok(HeaderName::from_bytes(name.as_bytes())?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post<'a>(url: &'a TargetUrl, headers: &'a [Header], body: &'a Bytes) -> Message<'a> {
        Message { method: Method::POST, url, headers, body, authorization: None, identity: None }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_url_that_can_be_stored_can_be_requested(
            port in "(:8443)?",
            path in "[!-~]{0,40}",
            query in "(\\?[!-~]{0,40})?",
        ) {
            let text = format!("https://hooks.customer.com{port}/{path}{query}");
            let Ok(url) = TargetUrl::from_stored(&text) else { return Ok(()) };
            let (headers, body) = (probe_headers(), Bytes::new());
            let message = post(&url, &headers, &body);
            let http1 = message.build(false).unwrap();
            prop_assert_eq!(http1.uri().to_string(), url.path_and_query());
            prop_assert_eq!(http1.headers()["host"].to_str().unwrap(), url.authority());
            let http2 = message.build(true).unwrap();
            prop_assert_eq!(http2.uri().to_string(), url.as_str());
            prop_assert!(!http2.headers().contains_key("host"));
        }
    }

    #[test]
    fn a_header_that_would_break_the_request_is_not_written() {
        let url = TargetUrl::from_stored("https://a.com/").unwrap();
        let body = Bytes::new();
        for (name, value) in [("x a", "y"), ("x", "y\r\nHost: b.com"), ("", "y"), ("x:", "y")] {
            let headers = [(name.into(), value.into())];
            let message = post(&url, &headers, &body);
            assert_eq!(message.build(false).unwrap_err().failure, Failure::Protocol);
        }
    }
}
