//! Publishing, one event and many: what is stored is the very bytes of `data` that were sent.

#![no_main]

use std::collections::BTreeMap;

use fuzz::surface::{Answer, Surface, with_surface};
use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

/// Deepest nesting that is taken.
const DEPTH_MAX: usize = 64;

/// Events of a batch that are read back.
const READ_BACK_MAX: usize = 8;

type Members<'a> = BTreeMap<String, &'a RawValue>;

fuzz_target!(|input: &[u8]| {
    with_surface(
        |_| {},
        |surface| {
            publish(surface, input);
            publish_batch(surface, input);
        },
    );
});

fn publish(surface: &mut Surface, input: &[u8]) {
    let answer = surface.post("/api/v1/events", input.to_vec(), None);
    if answer.status == StatusCode::ACCEPTED {
        let members: Members<'_> = serde_json::from_slice(input).expect("taken, so an object");
        assert_read_back(surface, &answer.text(&["id"]).expect("a receipt has an id"), &members);
    } else {
        assert_refused(&answer);
    }
}

fn publish_batch(surface: &mut Surface, input: &[u8]) {
    let answer = surface.post("/api/v1/events/batch", input.to_vec(), None);
    if answer.status != StatusCode::ACCEPTED {
        return assert_refused(&answer);
    }
    let members: Members<'_> = serde_json::from_slice(input).expect("taken, so an object");
    let events: Vec<&RawValue> =
        serde_json::from_str(members["events"].get()).expect("taken, so a list");
    let answered: Members<'_> = serde_json::from_slice(&answer.body).expect("answers are JSON");
    let results: Vec<Members<'_>> =
        serde_json::from_str(answered["results"].get()).expect("results are objects");
    assert_eq!(results.len(), events.len(), "one answer an event");
    assert!(results.iter().all(|result| result.contains_key("id") != result.contains_key("error")));
    for (event, result) in events.iter().zip(results).take(READ_BACK_MAX) {
        if let Some(id) = result.get("id") {
            let sent: Members<'_> = serde_json::from_str(event.get()).expect("taken, so an object");
            assert_read_back(surface, id.get().trim_matches('"'), &sent);
        }
    }
}

fn assert_refused(answer: &Answer) {
    assert!(answer.status.is_client_error(), "{answer:?}");
    assert!(answer.text(&["type"]).is_some(), "{answer:?}");
}

/// The event that was stored has the `data` of `sent`, byte for byte, and nothing deeper than is
/// allowed.
fn assert_read_back(surface: &mut Surface, id: &str, sent: &Members<'_>) {
    let answer = surface.get(&format!("/api/v1/events/{id}"));
    assert_eq!(answer.status, StatusCode::OK);
    let event: Members<'_> = serde_json::from_slice(&answer.body).expect("our answers are JSON");
    let data = sent["data"].get();
    assert_eq!(event["data"].get(), data);
    let json: &RawValue = serde_json::from_str(data).expect("taken, so JSON");
    assert!(json.get().starts_with('{') && depth(json.get()) <= DEPTH_MAX);
}

/// How many brackets are open at once, texts aside. No tree is built: JSON of right syntax may hold
/// numbers too large and halves of characters, which are delivered all the same.
fn depth(json: &str) -> usize {
    let mut outside = String::new();
    let mut pieces = json.split('"');
    outside.extend(pieces.next());
    while let Some(mut inside) = pieces.next() {
        // A quotation mark after an odd number of backslashes does not end the text.
        while (inside.len() - inside.trim_end_matches('\\').len()) % 2 == 1 {
            inside = pieces.next().expect("every text ends");
        }
        outside.extend(pieces.next());
    }
    let mut open = 0;
    let depths = outside.chars().map(|character| {
        match character {
            '{' | '[' => open += 1,
            '}' | ']' => open -= 1,
            _ => {}
        }
        open
    });
    depths.max().unwrap_or(0)
}
