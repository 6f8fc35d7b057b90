//! What is read of an answer: the status, `Retry-After`, `webhook-delivery`, and the beginning of the body as it came
//! over the wire, never decompressed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use domain::attempt::ReceiverControl;
use domain::limits::RESPONSE_EXCERPT_BYTES_MAX;
use http::header::{self, HeaderMap};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::limits::{BODY_BYTES_MAX, RETRY_AFTER_MAX};

/// How long the receiver asks us to wait (RFC 9110, section 10.2.3): seconds, or an instant on its
/// own clock, which its `Date` tells.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only an overlong number fails to parse here, or none at all.
        value.parse().map_or_else(
            |_| (!value.is_empty()).then_some(RETRY_AFTER_MAX),
            |seconds| Some(Duration::from_secs(seconds)),
        )?
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        let now = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// What the receiver asks for. Said twice it is not clear, and counts for nothing.
pub(crate) fn control(headers: &HeaderMap) -> Option<ReceiverControl> {
    let mut values = headers.get_all(ReceiverControl::HEADER).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => ReceiverControl::parse(value.to_str().ok()?),
        _ => None,
    }
}

/// Reads the body to its end or to the limit, keeping its beginning.
pub(crate) struct Excerpt {
    kept: BytesMut,
    kept_max: usize,
    read: usize,
}

impl Excerpt {
    /// An excerpt of as much as is stored with an attempt.
    pub(crate) fn to_store() -> Self {
        Self::of(RESPONSE_EXCERPT_BYTES_MAX)
    }

    /// An excerpt of all that is ever read.
    pub(crate) fn of_everything() -> Self {
        Self::of(BODY_BYTES_MAX)
    }

    fn of(kept_max: usize) -> Self {
        Self { kept: BytesMut::new(), kept_max, read: 0 }
    }

    /// Answers whether the body was read to its end. May be dropped at any time; what came until
    /// then stays in the excerpt.
    pub(crate) async fn read(&mut self, body: &mut Incoming) -> bool {
        while !body.is_end_stream() {
            match body.frame().await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let Some(chunk) = frame.data_ref() else { continue };
                    let room = self.kept_max - self.kept.len();
                    self.kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                    self.read += chunk.len();
                    if self.read > BODY_BYTES_MAX {
                        return false;
                    }
                }
            }
        }
        true
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.kept.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(retry_after_value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, date.parse().unwrap());
        }
        retry_after(&headers)
    }

    #[test]
    fn retry_after_is_read_in_seconds_or_as_an_instant_on_the_receivers_clock() {
        let date = Some("Thu, 28 Nov 2024 15:10:31 GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(asked("0", None), seconds(0));
        assert_eq!(asked("120", None), seconds(120));
        assert_eq!(asked(" 120 ", None), seconds(120));
        assert_eq!(asked("Thu, 28 Nov 2024 15:11:31 GMT", date), seconds(60));
        assert_eq!(asked("Thu, 28 Nov 2024 15:00:00 GMT", date), seconds(0));
        assert_eq!(asked("Thu, 28 Nov 2024 15:11:31 GMT", None), None);
        assert_eq!(asked("99999999999999999999999", None), Some(RETRY_AFTER_MAX));
        assert_eq!(asked("18446744073709551615", None), Some(RETRY_AFTER_MAX));
        for nonsense in ["", "-1", "1.5", "soon", "+5", "1e3"] {
            assert_eq!(asked(nonsense, date), None, "{nonsense}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn a_receiver_asks_for_one_thing_in_one_known_word_or_for_nothing() {
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
                headers.append("webhook-delivery", value);
            }
            control(&headers)
        };
        assert_eq!(asked(&["abort-message"]), Some(ReceiverControl::Abort));
        assert_eq!(asked(&[" disable "]), Some(ReceiverControl::Disable));
        let unclear: [&[&str]; 7] = [
            &[],
            &[""],
            &["é"],
            &["DISABLE"],
            &["disable, disable"],
            &["disable", "disable"],
            &["abort-message", "disable"],
        ];
        for values in unclear {
            assert_eq!(asked(values), None, "{values:?}");
        }
    }
}
