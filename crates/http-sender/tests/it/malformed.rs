//! Answers that are too much, or no HTTP. Each ends as data, at its limit, and what a receiver sends
//! in vain does not pile up on our side.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use domain::limits::RESPONSE_EXCERPT_BYTES_MAX;
use engine::sender::Exchange;
use http_sender::limits::{BODY_TIME_MAX, HEAD_BYTES_MAX, READ_BYTES_PER_REQUEST_MAX};
use proptest::prelude::*;
use tokio::io::AsyncWriteExt;

use crate::frames::{frame, peers};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(5);

/// What the wire of these tests holds, in each direction.
const WIRE_BYTES: usize = 64 * 1024;

/// As good as without end: far more than any limit.
const ENDLESS: usize = 16 * READ_BYTES_PER_REQUEST_MAX;

/// One request to a receiver that says a beginning and then the same for ever; answers how many
/// bytes it got rid of.
async fn flooded(beginning: &str, again: &str) -> (Exchange, usize) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let flood = again.repeat((4096 / again.len()).max(1));
    let beginning = beginning.to_owned();
    let bench = bench(script(move |_, mut stream| {
        let (count, flood, beginning) = (Arc::clone(&count), flood.clone(), beginning.clone());
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(beginning.as_bytes()).await;
            while count.load(Ordering::SeqCst) < ENDLESS
                && stream.write_all(flood.as_bytes()).await.is_ok()
            {
                count.fetch_add(flood.len(), Ordering::SeqCst);
            }
        }
    }));
    let exchange = bench.post_within("http://a.com/", LIMIT).await;
    (exchange, sent.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_head_without_end_is_given_up_at_its_limit() {
    let start = "HTTP/1.1 200 OK\r\n";
    for (name, beginning, again) in [
        ("reason phrase", "HTTP/1.1 200 ", "ok "),
        ("status line", "HTTP/1.1 ", "2"),
        ("version", "HTTP/1.", "1"),
        ("nothing of a head", "", "y"),
        ("zeros", "", "\0"),
        ("empty lines", "", "\r\n"),
        ("field name", start, "y"),
        ("field value", "HTTP/1.1 200 OK\r\nX-Fill: ", "y"),
        ("blanks", "HTTP/1.1 200 OK\r\nX-Fill:", " "),
        ("fields", start, "X-Same: y\r\n"),
        ("empty fields", start, "a:\r\n"),
        ("cookies", start, "Set-Cookie: a=b\r\n"),
        ("folding", "HTTP/1.1 200 OK\r\nX-Fold: y\r\n", " y\r\n"),
    ] {
        let (exchange, sent) = flooded(beginning, again).await;
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Protocol), "{name}: {exchange:?}");
        assert!(exchange.duration < SECOND, "{name}: {exchange:?}");
        assert!(sent <= WIRE_BYTES + 2 * HEAD_BYTES_MAX, "{name}: {sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn interim_answers_without_pause_are_given_up_long_before_the_time_limit() {
    for interim in ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: </a>"] {
        let (exchange, sent) = flooded("", &format!("HTTP/1.1 {interim}\r\n\r\n")).await;
        assert_failed(&exchange, Failure::Protocol, "sends without end");
        assert!(exchange.duration < SECOND, "{exchange:?}");
        assert!(sent <= WIRE_BYTES + READ_BYTES_PER_REQUEST_MAX, "{sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_cut_off_however_it_is_framed() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let in_extension = format!("{chunked}1;");
    let in_size = format!("{chunked}0");
    let in_trailer = format!("{chunked}0\r\n");
    let in_value = format!("{chunked}0\r\nX-Fill: ");
    for (name, beginning, again) in [
        ("zeros", "HTTP/1.1 200 OK\r\n\r\n", "\0"),
        (
            "a length of exabytes",
            "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n",
            "y",
        ),
        ("chunks", chunked, "4\r\nyyyy\r\n"),
        ("tiny chunks with extensions", chunked, "1;a=b;c=\"d\"\r\ny\r\n"),
        ("one extension", &in_extension, "y"),
        ("one size", &in_size, "0"),
        ("trailers", &in_trailer, "X-More: y\r\n"),
        ("one trailer", &in_value, "y"),
    ] {
        let (exchange, sent) = flooded(beginning, again).await;
        assert_status(&exchange, 200);
        assert!(exchange.duration <= BODY_TIME_MAX, "{name}: {exchange:?}");
        assert!(exchange.response_excerpt.len() <= RESPONSE_EXCERPT_BYTES_MAX, "{name}");
        assert!(sent <= 2 * WIRE_BYTES + READ_BYTES_PER_REQUEST_MAX, "{name}: {sent} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compressed_bomb_stays_as_small_as_it_came() {
    let bomb = include_bytes!("../fixtures/zeros-10-mib.gz");
    for encoding in ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip, gzip"] {
        for framing in [format!("Content-Length: {}", bomb.len()), "Connection: close".to_owned()] {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n{framing}\r\n\r\n");
            let answer = [head.as_bytes(), &bomb[..]].concat();
            let exchange = bench(answering_once(answer)).post("http://a.com/").await;
            assert_status(&exchange, 200);
            assert_eq!(exchange.response_excerpt, bomb[..RESPONSE_EXCERPT_BYTES_MAX]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_byte_of_a_body_is_kept_as_it_came() {
    let bytes: Vec<u8> = (0..=255).collect();
    let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 256\r\n\r\n", &bytes[..]].concat();
    let exchange = bench(answering_once(answer)).post("http://a.com/").await;
    assert_eq!(exchange.response_excerpt, bytes);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_no_http_is_a_protocol_failure() {
    let long = "y".repeat(HEAD_BYTES_MAX);
    let long_reason = format!("HTTP/1.1 200 {long}\r\n\r\n");
    let long_field = format!("HTTP/1.1 200 OK\r\nX-Fill: {long}\r\n\r\n");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let with = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\n\r\n");
    let mut heads: Vec<Vec<u8>> = [
        "<html>HTTP/0.9</html>\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "220 mail.a.com ESMTP\r\n",
        "-ERR unknown command\r\n",
        "\x16\x03\x03\0\x02\x02\x28",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1 -200 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\0K\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        &long_reason,
        &long_field,
        &many,
        &with("X-A: b\0c"),
        &with("X-A: b\rc"),
        &with("X-A: b\x7fc"),
        &with("X-A: b\x1bc"),
        &with("X-A\0: b"),
        &with("X A: b"),
        &with(": b"),
        &with("X-A"),
        &with("X-A : b"),
        &with(" X-A: b"),
        &with("X-A: b\r\n folded"),
        &with("X-A: b\r\n\tfolded"),
        &with("X-\u{e4}: b"),
    ]
    .map(|head| head.as_bytes().to_vec())
    .into();
    for byte in 0x80..=0xff {
        heads.push([b"HTTP/1.1 200 OK\r\nX-", &[byte][..], b": a\r\n\r\n"].concat());
    }
    for head in heads {
        let text = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
        let exchange = bench(answering_once(head)).post_within("http://a.com/", LIMIT).await;
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Protocol), "{text:?}: {exchange:?}");
        assert!(exchange.duration < SECOND, "{text:?}: {exchange:?}");
        assert!(exchange.detail.is_some_and(|detail| !detail.is_empty()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_merely_ugly_is_an_answer() {
    let reason = format!("HTTP/1.1 200 {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(15_000));
    let mut heads: Vec<Vec<u8>> = [
        &reason[..],
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:0\r\nX-A:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nCoNtEnT-lEnGtH:\t 0 \t\r\n\r\n",
        "HTTP/1.1 200 OK\r\nRetry-After: soon\r\nDate: never\r\nContent-Length: 0\r\n\r\n",
    ]
    .map(|head| head.as_bytes().to_vec())
    .into();
    for byte in 0x80..=0xff {
        let field = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: ", &[byte][..], b"\r\n\r\n"];
        heads.push(field.concat());
    }
    for head in heads {
        let text = String::from_utf8_lossy(&head[..head.len().min(80)]).into_owned();
        let exchange = bench(answering_once(head)).post_within("http://a.com/", LIMIT).await;
        assert_eq!(exchange.outcome.status(), Some(200), "{text:?}: {exchange:?}");
        assert_eq!(exchange.duration, Duration::ZERO, "{text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_none_is_a_protocol_failure() {
    for lengths in [
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length: 1, 2",
        "Content-Length:",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nContent-Length: -1",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\nx").into_bytes();
        let exchange = bench(answering_once(answer)).post_within("http://a.com/", LIMIT).await;
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Protocol), "{lengths}: {exchange:?}");
    }
}

/// A second answer within or behind the first must never be taken for the answer to the next
/// request.
#[tokio::test(start_paused = true)]
async fn a_lie_about_the_length_ends_the_connection_and_leaves_the_status() {
    let forged = "HTTP/1.1 299 Forged\r\nContent-Length: 0\r\n\r\n";
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n";
    let reversed = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for (name, rest, excerpt) in [
        ("too short", format!("Content-Length: 1\r\n\r\nx{forged}"), Some("x")),
        ("too long", "Content-Length: 9\r\n\r\nabc".to_owned(), Some("abc")),
        ("with chunks", format!("{both}{forged}"), None),
        ("with chunks, reversed", format!("{reversed}{forged}"), None),
        ("two codings", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\nx".to_owned(), None),
        ("unknown coding", "Transfer-Encoding: rot13\r\n\r\nx".to_owned(), None),
        (
            "chunked twice",
            format!("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{forged}"),
            None,
        ),
        (
            "a chunk too short",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n".to_owned(),
            Some("ab"),
        ),
        ("a negative chunk", "Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n".to_owned(), Some("")),
        (
            "a chunk of 2^64",
            "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n".to_owned(),
            Some(""),
        ),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{rest}").into_bytes();
        let bench = bench(script(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                while read_request(&mut stream).await.is_some() {
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                }
            }
        }));
        for dials in 1..=2 {
            let exchange = bench.post_within("http://a.com/", LIMIT).await;
            assert_eq!(exchange.outcome.status(), Some(200), "{name}: {exchange:?}");
            assert!(exchange.duration <= BODY_TIME_MAX, "{name}: {exchange:?}");
            assert_eq!(bench.dials(), dials, "{name}: the connection was used again");
            if let Some(excerpt) = excerpt {
                assert_eq!(exchange.response_excerpt, excerpt, "{name}");
            }
        }
    }
}

thread_local! {
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Runs one exchange on this thread and judges it. A panic in a task of a connection would be
/// caught by the runtime, so panics of the thread are counted.
fn judged(bench: impl FnOnce() -> (Bench, &'static str)) -> Result<Exchange, TestCaseError> {
    static COUNTING: std::sync::Once = std::sync::Once::new();
    COUNTING.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.with(|panics| panics.set(panics.get() + 1));
            usual(panic);
        }));
    });
    let panics = PANICS.get();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let exchange = runtime.unwrap().block_on(async {
        let (bench, url) = bench();
        bench.post_within(url, LIMIT).await
    });
    prop_assert_eq!(PANICS.get(), panics);
    prop_assert!(exchange.duration <= LIMIT + BODY_TIME_MAX, "{:?}", exchange);
    prop_assert!(exchange.response_excerpt.len() <= RESPONSE_EXCERPT_BYTES_MAX);
    match exchange.outcome {
        Outcome::Answered { status, .. } => {
            prop_assert!((200..1000).contains(&status), "{}", status);
            prop_assert_eq!(&exchange.detail, &None);
        }
        Outcome::Failed(failure) => {
            let ours = [Failure::Protocol, Failure::Reset, Failure::Timeout];
            prop_assert!(ours.contains(&failure), "{:?}", exchange);
            prop_assert!(exchange.detail.as_ref().is_some_and(|detail| detail.len() <= 512));
            prop_assert!(exchange.response_excerpt.is_empty());
        }
    }
    Ok(exchange)
}

/// Bytes that are sometimes nearly an answer.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"HTTP/1.1 103 Early\r\n\r\n".to_vec()),
        Just(b"HTTP/1.0 ".to_vec()),
        Just(b"Content-Length: 3\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Connection: close\r\n".to_vec()),
        Just(b"Retry-After: ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"3\r\nabc\r\n".to_vec()),
        Just(b"0\r\n\r\n".to_vec()),
        "[0-9]{1,25}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(words, 0..12).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_for_an_answer_are_an_outcome(
        raw in proptest::collection::vec(any::<u8>(), 0..2_000),
        likely in answers(),
        take_likely in any::<bool>(),
        piece in 1_usize..200,
        stays in any::<bool>(),
    ) {
        let answer = if take_likely { likely } else { raw };
        judged(|| (bench(script(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                read_request(&mut stream).await;
                for piece in answer.chunks(piece) {
                    if stream.write_all(piece).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                if stays {
                    std::future::pending::<()>().await;
                }
            }
        })), "http://a.com/"))?;
    }

    #[test]
    fn any_frames_for_an_answer_are_an_outcome(
        frames in proptest::collection::vec(
            (0_u8..14, any::<u8>(), 0_u32..4, proptest::collection::vec(any::<u8>(), 0..40)),
            0..20,
        ),
        raw in proptest::collection::vec(any::<u8>(), 0..100),
        starts_well in any::<bool>(),
        stays in any::<bool>(),
    ) {
        let mut words = Vec::new();
        if starts_well {
            words.extend(frame(1, 4, 1, &[0x88]));
        }
        for (kind, flags, stream, payload) in &frames {
            words.extend(frame(*kind, *flags, *stream, payload));
        }
        words.extend(raw);
        judged(|| {
            let (route, roots) = peers(&[], move |_, mut peer| {
                let words = words.clone();
                async move {
                    peer.request().await;
                    peer.say(&words).await;
                    if stays {
                        peer.until_end().await;
                    }
                }
            });
            (bench_with(policy(), route, roots), "https://a.com/")
        })?;
    }
}
