//! `Retry-After` as any receiver may write it: first line the value, second line its `Date`.

#![no_main]

use std::time::Duration;

use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use fuzz::receiver::{Exchanges, Script, run};
use http_sender::limits::RETRY_AFTER_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if input.contains(&b'\r') {
        return;
    }
    let mut lines = input.splitn(2, |&byte| byte == b'\n');
    let value = lines.next().unwrap_or_default();
    let date = lines.next();
    if date.is_some_and(|date| date.contains(&b'\n')) {
        return;
    }
    let mut answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nRetry-After: ".to_vec();
    answer.extend_from_slice(value);
    if let Some(date) = date {
        answer.extend_from_slice(b"\r\nDate: ");
        answer.extend_from_slice(date);
    }
    answer.extend_from_slice(b"\r\n\r\n");

    let script = Script { answer: Bytes::from(answer), piece: usize::MAX, closes: true };
    let outcome = run(async { Exchanges::new(script).post().await }).outcome;
    match outcome {
        Outcome::Answered { status: 503, retry_after } => {
            assert!(agrees(value, date, retry_after), "{retry_after:?}");
        }
        Outcome::Failed(Failure::Protocol) => {
            assert!(!is_clean(value) || !date.is_none_or(is_clean))
        }
        outcome => panic!("{outcome:?}"),
    }
});

/// What RFC 9110, section 10.2.3 says of it, as far as it can be said in a few words.
fn agrees(value: &[u8], date: Option<&[u8]>, wait: Option<Duration>) -> bool {
    let value = value.trim_ascii();
    if !value.is_empty() && value.iter().all(u8::is_ascii_digit) {
        // No number of more digits than this is within the bound.
        let digits = value.iter().skip_while(|&&digit| digit == b'0');
        let seconds =
            digits.clone().take(10).fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let seconds = if digits.count() > 9 { u64::MAX } else { seconds };
        return wait == Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let Some(wait) = wait else { return true };
    let is_date = |text: &[u8]| text.trim_ascii().len() >= 24 && text.is_ascii();
    wait <= RETRY_AFTER_MAX
        && wait.subsec_nanos() == 0
        && is_date(value)
        && date.is_some_and(is_date)
}

/// Whether every byte may stand in a header.
fn is_clean(value: &[u8]) -> bool {
    value.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}
