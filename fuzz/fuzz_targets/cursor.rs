//! Cursors of pages: exactly those we write are taken, and each leads to what stands before it.

#![no_main]

use std::fmt::Write as _;

use fuzz::surface::{Surface, with_surface};
use http::{StatusCode, Uri};
use libfuzzer_sys::fuzz_target;

const EVENT: &str = r#"{"account":"fuzz","type":"video.created","data":{}}"#;
const EVENTS: usize = 4;

fuzz_target!(|input: &[u8]| {
    with_surface(publish, |surface| {
        as_cursor(surface, input);
        as_query(surface, input);
    });
});

fn publish(surface: &mut Surface) {
    for _ in 0..EVENTS {
        let answer = surface.post("/api/v1/events", EVENT, None);
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
}

fn as_cursor(surface: &mut Surface, input: &[u8]) {
    let mut path = "/api/v1/events?limit=1&cursor=".to_owned();
    for byte in input {
        write!(path, "%{byte:02x}").expect("a String takes everything");
    }
    if path.parse::<Uri>().is_err() {
        return; // Too long for any request line.
    }
    let answer = surface.get(&path);
    let Some(before) = read_cursor(input) else {
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        return;
    };
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let Some(id) = answer.text(&["data", "0", "id"]) else { return };
    let digits = id.strip_prefix("evt_").expect("events have ids of events");
    let id = u128::from_str_radix(digits, 16).expect("an id is a number");
    assert!(id < before);
    if let Some(next) = answer.text(&["next_cursor"]) {
        assert_eq!(read_cursor(next.as_bytes()), Some(id));
        let answer = surface.get(&format!("/api/v1/events?limit=1&cursor={next}"));
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
}

/// Any query at all is answered, and never our fault.
fn as_query(surface: &mut Surface, input: &[u8]) {
    let Ok(query) = str::from_utf8(input) else { return };
    let path = format!("/api/v1/events?{query}");
    if path.parse::<Uri>().is_ok() {
        let status = surface.get(&path).status;
        assert!(matches!(status.as_u16(), 200 | 404 | 422), "{status}");
    }
}

/// 23 characters of unpadded base64url: 17 bytes, the first 1, and two bits that are 0.
fn read_cursor(text: &[u8]) -> Option<u128> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    if text.len() != 23 {
        return None;
    }
    let mut bits = String::new();
    for character in text {
        let value = ALPHABET.iter().position(|known| known == character)?;
        write!(bits, "{value:06b}").expect("a String takes everything");
    }
    let id = bits.strip_prefix("00000001")?.strip_suffix("00")?;
    u128::from_str_radix(id, 2).ok()
}
