//! `Idempotency-Key`: 1 to 255 printable ASCII characters or refused; and one event per key.

#![no_main]

use domain::event::IdempotencyKey;
use domain::limits::IDEMPOTENCY_KEPT_FOR;
use fuzz::surface::with_surface;
use http::{HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;

const EVENT: &str = r#"{"account":"fuzz","type":"video.created","data":{"n":1}}"#;
const OTHER_EVENT: &str = r#"{"account":"fuzz","type":"video.created","data":{"n":2}}"#;

fuzz_target!(|input: &[u8]| {
    let is_right =
        (1..=255).contains(&input.len()) && input.iter().all(|byte| (32..127).contains(byte));
    if let Ok(text) = str::from_utf8(input) {
        match IdempotencyKey::parse(text) {
            Ok(key) => assert!(is_right && key.as_str() == text),
            Err(_) => assert!(!is_right),
        }
    } else {
        assert!(!is_right);
    }
    let Ok(header) = HeaderValue::from_bytes(input) else {
        assert!(!is_right, "what cannot be a header is no key");
        return;
    };
    with_surface(
        |_| {},
        |surface| {
            // A key of an earlier input would otherwise be forgotten between two of the requests.
            surface.pass(IDEMPOTENCY_KEPT_FOR);
            let mut publish =
                |event: &'static str| surface.post("/api/v1/events", event, Some(header.clone()));
            let first = publish(EVENT);
            if !is_right {
                assert_eq!(first.status, StatusCode::UNPROCESSABLE_ENTITY, "{first:?}");
                return;
            }
            assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
            let again = publish(EVENT);
            assert_eq!((again.status, again.body), (first.status, first.body));
            assert_eq!(publish(OTHER_EVENT).status, StatusCode::CONFLICT);
        },
    );
});
