//! Arbitrary bytes as the answer of a receiver: data comes back, within its limits, and nothing in
//! them leads anywhere. The first byte says how they arrive.

#![no_main]

use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use domain::limits::RESPONSE_EXCERPT_BYTES_MAX;
use engine::sender::Exchange;
use fuzz::receiver::{Exchanges, Script, TIMEOUT, run};
use http_sender::limits::{BODY_TIME_MAX, RETRY_AFTER_MAX};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&manner, answer)) = input.split_first() else { return };
    let piece = match usize::from(manner >> 1) {
        0 => usize::MAX,
        piece => piece,
    };
    let script = Script { answer: Bytes::copy_from_slice(answer), piece, closes: manner & 1 == 1 };
    run(async {
        let exchanges = Exchanges::new(script);
        let exchange = exchanges.post().await;
        assert_plausible(&exchange, answer);
        assert_eq!(exchanges.dials(), 1, "no answer makes us call again");

        // A receiver answers each connection once, so that a second answer on the first one would
        // be what was left over of the first answer.
        let again = exchanges.post().await;
        assert_plausible(&again, answer);
        let reused = exchanges.dials() == 1;
        if piece == usize::MAX {
            assert!(!(reused && again.outcome.status().is_some()), "{again:?}");
        }
    });
});

fn assert_plausible(exchange: &Exchange, answer: &[u8]) {
    assert!(exchange.duration <= TIMEOUT + BODY_TIME_MAX, "{exchange:?}");
    let excerpt = &exchange.response_excerpt;
    assert!(excerpt.len() <= RESPONSE_EXCERPT_BYTES_MAX.min(answer.len()));
    match exchange.outcome {
        Outcome::Answered { status, retry_after } => {
            assert!((200..=999).contains(&status), "{status}");
            assert!(
                contains(answer, b"HTTP/1.") && contains(answer, status.to_string().as_bytes())
            );
            let asked = contains(&answer.to_ascii_lowercase(), b"retry-after");
            assert!(retry_after.is_none_or(|wait| asked && wait <= RETRY_AFTER_MAX));
        }
        Outcome::Failed(failure) => {
            assert!(
                matches!(failure, Failure::Protocol | Failure::Reset | Failure::Timeout),
                "{exchange:?}"
            );
            assert!(excerpt.is_empty() && exchange.detail.is_some());
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
