//! Receivers that break HTTP/2. The clock is paused: a test that has no time limit of its own ends
//! because the exchange does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::attempt::{Failure, Outcome};
use engine::sender::{Exchange, Sender};
use http_sender::limits::READ_BYTES_PER_REQUEST_MAX;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::unbounded_channel;
use tokio::time::{Instant, sleep};

use crate::frames::*;
use crate::secure::{Authority, certificate_for, secured};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(5);

/// As good as without end: far more than any limit.
const ENDLESS: usize = 16 * READ_BYTES_PER_REQUEST_MAX;

/// One request to a receiver that takes it in full, says this, and then keeps silent.
async fn told(words: Vec<u8>) -> Exchange {
    let (route, roots) = peers(&[], move |_, mut peer| {
        let words = words.clone();
        async move {
            peer.request().await;
            peer.say(&words).await;
            peer.until_end().await;
        }
    });
    bench_with(policy(), route, roots).post_within("https://a.com/", LIMIT).await
}

#[tokio::test(start_paused = true)]
async fn each_reason_to_reset_a_stream_is_a_failure_of_its_own() {
    use Failure::{Protocol, Reset};
    for (reason, failure, detail) in [
        (0, Protocol, "not a result of an error"),
        (1, Protocol, "unspecific protocol error"),
        (2, Reset, "unexpected internal error"),
        (3, Protocol, "flow-control"),
        (4, Reset, "settings ACK not received"),
        (5, Reset, "half-closed"),
        (6, Protocol, "frame with invalid size"),
        (7, Reset, "refused stream"),
        (8, Reset, "stream no longer needed"),
        (9, Protocol, "compression context"),
        (10, Reset, "CONNECT"),
        (11, Reset, "excessive load"),
        (12, Reset, "security"),
        (13, Protocol, "HTTP/1.1"),
        (0xffff, Reset, "unknown reason"),
    ] {
        let exchange = told(reset(1, reason)).await;
        assert_failed(&exchange, failure, detail);
        assert!(exchange.duration < SECOND, "{exchange:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_break_the_protocol_are_a_protocol_failure_at_once() {
    let odd = |more: &[u8]| frame(HEADERS, END_HEADERS, 1, &[STATUS_200, more].concat());
    let status_head = |code| frame(HEADERS, END_HEADERS | END_STREAM, 1, &status(code));
    for (name, words) in [
        ("data before a head", frame(DATA, 0, 1, b"x")),
        ("data on an idle stream", frame(DATA, 0, 7, b"x")),
        ("data on no stream", frame(DATA, 0, 0, b"x")),
        ("a head on an idle stream", frame(HEADERS, END_HEADERS, 7, STATUS_200)),
        ("a head on the receiver's stream", frame(HEADERS, END_HEADERS, 2, STATUS_200)),
        ("a head without a status", frame(HEADERS, END_HEADERS, 1, &field("x-a", "b"))),
        ("a status twice", odd(STATUS_200)),
        ("a status after the fields", frame(HEADERS, END_HEADERS, 1, &field(":status", "zz"))),
        ("an upper-case field", odd(&field("X-A", "b"))),
        ("a field of the connection", odd(&field("transfer-encoding", "chunked"))),
        ("a line break in a field", odd(&field("x-a", "b\r\nc: d"))),
        ("a compression index of nothing", odd(&[0xff, 0xff, 0xff, 0xff, 0x0f])),
        (
            "lengths that contradict",
            odd(&[field("content-length", "1"), field("content-length", "2")].concat()),
        ),
        ("a negative length", odd(&field("content-length", "-1"))),
        ("a switch of protocols", status_head("101")),
        ("a status that is none", status_head("xyz")),
        ("a promise", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x88])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, STATUS_200)),
        (
            "a frame between continuations",
            [frame(HEADERS, 0, 1, STATUS_200), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        ("a frame that is too long", frame(DATA, 0, 1, &b"x".repeat(16 * 1024 + 1))),
        ("a ping of the wrong size", frame(PING, 0, 0, &[0; 7])),
        ("a reset of an idle stream", reset(7, 8)),
        ("settings of the wrong size", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings beyond their range", settings(&[(INITIAL_WINDOW_SIZE, u32::MAX)])),
        ("a window beyond its range", [window(0, 0x7fff_ffff), window(0, 0x7fff_ffff)].concat()),
        ("a window that does not grow", window(0, 0)),
        ("HTTP/1.1", OK.to_vec()),
    ] {
        let exchange = told(words).await;
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Protocol), "{name}: {exchange:?}");
        assert!(exchange.duration < SECOND, "{name}: {exchange:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_ask_for_something_else_are_passed_over() {
    let elsewhere = b"\0\x09127.0.0.1h3=\"127.0.0.1:443\"; ma=86400";
    for words in [
        frame(ALTSVC, 0, 0, elsewhere),
        frame(ALTSVC, 0, 1, elsewhere),
        frame(ORIGIN, 0, 0, b"\0\x0dhttps://b.com"),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
        frame(0xfe, 0xff, 1, b"from the future"),
        frame(HEADERS, END_HEADERS, 1, &status("103")),
        settings(&[(0xfff, 1)]),
    ] {
        let words = [words, answer(1)].concat();
        let (route, roots) = peers(&[], move |_, mut peer| {
            let words = words.clone();
            async move {
                peer.request().await;
                peer.say(&words).await;
                peer.until_end().await;
            }
        });
        let bench = bench_with(policy(), route, roots);
        assert_status(&bench.post("https://a.com/").await, 200);
        assert_eq!(bench.network.dialled(), [format!("{PUBLIC}:443")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_says_goodbye_may_still_answer() {
    assert_status(&told([go_away(1, 0), answer(1)].concat()).await, 200);
    assert_failed(&told(go_away(0, 0)).await, Failure::Reset, "");
    assert_failed(&told(go_away(0, 2)).await, Failure::Reset, "internal error");
    assert_failed(&told(go_away(0, 1)).await, Failure::Protocol, "protocol error");
    let exchange = told(go_away(1, 0)).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
    assert_eq!(exchange.duration, LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_is_repeated_at_once_on_a_fresh_connection_when_the_old_one_was_reused() {
    let (route, roots) = peers(&[], |number, mut peer| async move {
        while let Some(stream) = peer.request().await {
            let fine = number > 0 || stream == 1;
            let words = if fine { answer(stream) } else { go_away(1, 0) };
            peer.say(&words).await;
        }
    });
    let bench = bench_with(policy(), route, roots);
    for _ in 0..3 {
        assert_status(&bench.post_within("https://a.com/", LIMIT).await, 200);
    }
    assert_eq!(bench.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn silence_at_any_point_ends_at_the_limit() {
    let half = |words: Vec<u8>| words[..words.len() / 2].to_vec();
    for words in [
        Vec::new(),
        half(answer(1)),
        frame(HEADERS, 0, 1, STATUS_200),
        settings(&[(MAX_CONCURRENT_STREAMS, 0)]),
        half(settings(&[(MAX_CONCURRENT_STREAMS, 1)])),
    ] {
        let exchange = told(words).await;
        assert_failed(&exchange, Failure::Timeout, "time limit");
        assert_eq!(exchange.duration, LIMIT);
    }
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let mute = secured(config, |_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let exchange =
        bench_with(policy(), mute, authority.roots()).post_within("https://a.com/", LIMIT).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_never_opens_ends_at_the_limit() {
    for entries in [&[(INITIAL_WINDOW_SIZE, 0)][..], &[(MAX_CONCURRENT_STREAMS, 0)]] {
        let (route, roots) = peers(entries, |_, peer| peer.until_end());
        let bench = bench_with(policy(), route, roots);
        for _ in 0..2 {
            let exchange = bench.post_within("https://a.com/", LIMIT).await;
            assert_failed(&exchange, Failure::Timeout, "time limit");
            assert_eq!(exchange.duration, LIMIT);
        }
        assert_eq!(bench.dials(), 2, "the connection is not used again");
    }
}

/// Frames that lead nowhere, each repeated without end.
fn floods() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("pings", frame(PING, 0, 0, &[0; 8])),
        ("settings", settings(&[])),
        ("windows", window(0, 1)),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1])),
        ("unknown frames", frame(0xfe, 0, 0, &[])),
        ("interim answers", frame(HEADERS, END_HEADERS, 1, &status("103"))),
        ("waiting", frame(HEADERS, END_HEADERS, 1, &status("100"))),
        ("resets of the past", [reset(1, 8), frame(PING, 0, 0, &[0; 8])].concat()),
        ("continuations", frame(CONTINUATION, 0, 1, &[])),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_frames_ends_soon_and_with_its_connection() {
    for (name, words) in floods() {
        let said = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&said);
        let flood = words.repeat(512);
        let continued = name == "continuations";
        let (route, roots) = peers(&[], move |_, mut peer| {
            let (count, flood) = (Arc::clone(&count), flood.clone());
            async move {
                let Some(stream) = peer.request().await else { return };
                if continued {
                    peer.say(&frame(HEADERS, 0, stream, STATUS_200)).await;
                }
                // Answers are taken from the wire, so that only the other side can stop it.
                let (mut hear, mut say) = tokio::io::split(peer.0);
                tokio::spawn(
                    async move { tokio::io::copy(&mut hear, &mut tokio::io::sink()).await },
                );
                while count.load(Ordering::SeqCst) < ENDLESS && say.write_all(&flood).await.is_ok()
                {
                    count.fetch_add(flood.len(), Ordering::SeqCst);
                }
            }
        });
        let bench = bench_with(policy(), route, roots);
        let exchange = bench.post_within("https://a.com/", LIMIT).await;
        let failed =
            matches!(exchange.outcome, Outcome::Failed(Failure::Protocol | Failure::Reset));
        assert!(failed, "{name}: {exchange:?}");
        assert!(exchange.duration < SECOND, "{name}: {exchange:?}");
        let said = said.load(Ordering::SeqCst);
        assert!(said < 2 * READ_BYTES_PER_REQUEST_MAX, "{name}: {said} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_on_an_idle_connection_ends_that_connection_only() {
    let (ended, mut end) = unbounded_channel();
    let (route, roots) = peers(&[], move |number, mut peer| {
        let ended = ended.clone();
        async move {
            while let Some(stream) = peer.request().await {
                peer.say(&answer(stream)).await;
                if number == 0 {
                    let flood = frame(PING, 0, 0, &[0; 8]).repeat(512);
                    let (mut hear, mut say) = tokio::io::split(peer.0);
                    tokio::spawn(async move {
                        tokio::io::copy(&mut hear, &mut tokio::io::sink()).await
                    });
                    let mut said = 0;
                    while said < ENDLESS && say.write_all(&flood).await.is_ok() {
                        said += flood.len();
                    }
                    ended.send(said).unwrap();
                    return;
                }
            }
        }
    });
    let bench = bench_with(policy(), route, roots);
    assert_status(&bench.post("https://a.com/").await, 200);
    assert!(end.recv().await.unwrap() < ENDLESS);
    assert_status(&bench.post("https://a.com/").await, 200);
    assert_eq!(bench.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_empty_frames_without_end_is_cut_off() {
    let (ended, mut end) = unbounded_channel();
    let (route, roots) = peers(&[], move |_, mut peer| {
        let ended = ended.clone();
        async move {
            let Some(stream) = peer.request().await else { return };
            peer.say(&frame(HEADERS, END_HEADERS, stream, STATUS_200)).await;
            let flood = frame(DATA, 0, stream, &[]).repeat(512);
            let mut said = 0;
            while said < ENDLESS && peer.say(&flood).await {
                said += flood.len();
            }
            ended.send(said).unwrap();
        }
    });
    let bench = bench_with(policy(), route, roots);
    let exchange = bench.post("https://a.com/").await;
    assert_status(&exchange, 200);
    assert!(exchange.duration <= 2 * SECOND, "{exchange:?}");
    assert!(end.recv().await.unwrap() < ENDLESS);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_over_http_2_has_two_seconds_and_the_status_counts() {
    let (route, roots) = peers(&[], |_, mut peer| async move {
        let Some(stream) = peer.request().await else { return };
        peer.say(&frame(HEADERS, END_HEADERS, stream, STATUS_200)).await;
        while peer.say(&frame(DATA, 0, stream, b"y")).await {
            sleep(SECOND / 2).await;
        }
    });
    let exchange = bench_with(policy(), route, roots).post("https://a.com/").await;
    assert_status(&exchange, 200);
    assert_eq!(exchange.duration, 2 * SECOND);
    assert!(exchange.response_excerpt.starts_with(b"yyy"));
}

/// Opens a connection to a receiver, then sends two requests at once on it.
async fn two_at_once<F, Fut>(
    entries: &'static [(u16, u32)],
    body: usize,
    serve: F,
) -> (Exchange, Exchange, usize)
where
    F: Fn(usize, Peer) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (route, roots) = peers(entries, move |number, mut peer| {
        let serve = serve.clone();
        async move {
            if number == 0 {
                let first = peer.request().await.unwrap();
                peer.say(&answer(first)).await;
            }
            serve(number, peer).await;
        }
    });
    let bench = bench_with(policy(), route, roots);
    assert_status(&bench.post_within("https://a.com/", LIMIT).await, 200);
    let send = || {
        let mut request = request("https://a.com/", LIMIT);
        request.body = vec![b'x'; body].into();
        bench.sender.send(request)
    };
    let (one, other) = tokio::join!(send(), send());
    (one, other, bench.dials())
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_reset_leaves_the_others_alone() {
    let (one, other, dials) = two_at_once(&[], 2, |_, mut peer| async move {
        let (one, other) = (peer.request().await.unwrap(), peer.request().await.unwrap());
        peer.say(&reset(one, 8)).await;
        peer.say(&answer(other)).await;
        peer.until_end().await;
    })
    .await;
    assert_failed(&one, Failure::Reset, "no longer needed");
    assert_status(&other, 200);
    assert_eq!(dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stalls_leaves_the_others_alone() {
    let (one, other, dials) = two_at_once(&[], 2, |_, mut peer| async move {
        let (_, other) = (peer.request().await, peer.request().await.unwrap());
        peer.say(&answer(other)).await;
        peer.until_end().await;
    })
    .await;
    assert_failed(&one, Failure::Timeout, "time limit");
    assert_eq!(one.duration, LIMIT);
    assert_status(&other, 200);
    assert!(other.duration < SECOND, "{other:?}");
    assert_eq!(dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_window_stays_closed_leaves_the_others_alone() {
    let entries = &[(INITIAL_WINDOW_SIZE, 1024)];
    let (one, other, dials) = two_at_once(entries, 16 * 1024, |_, mut peer| async move {
        let (_, other) = (peer.head().await, peer.head().await.unwrap());
        peer.say(&window(other, 64 * 1024)).await;
        assert_eq!(peer.request().await, Some(other));
        peer.say(&answer(other)).await;
        peer.until_end().await;
    })
    .await;
    assert_failed(&one, Failure::Timeout, "time limit");
    assert_status(&other, 200);
    assert!(other.duration < SECOND, "{other:?}");
    assert_eq!(dials, 1);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_of_one_stream_at_a_time_does_not_make_one_delivery_wait_for_another() {
    let entries = &[(MAX_CONCURRENT_STREAMS, 1)];
    let (one, other, dials) = two_at_once(entries, 2, |number, mut peer| async move {
        let stream = peer.request().await.unwrap();
        if number > 0 {
            peer.say(&answer(stream)).await;
        }
        peer.until_end().await;
    })
    .await;
    assert_failed(&one, Failure::Timeout, "time limit");
    assert_status(&other, 200);
    assert!(other.duration < SECOND, "{other:?}");
    assert_eq!(dials, 2);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_stops_reading_cannot_keep_a_connection() {
    let (ended, mut end) = unbounded_channel();
    let (route, roots) = peers(&[(INITIAL_WINDOW_SIZE, 1 << 30)], move |_, mut peer| {
        let ended = ended.clone();
        async move {
            peer.say(&window(0, 1 << 30)).await;
            peer.head().await;
            // Writing notices the end without reading. The others' answers fill the wire.
            for _ in 0..60 {
                if !peer.say(&frame(PING, 0, 0, &[0; 8])).await {
                    break;
                }
                sleep(SECOND).await;
            }
            ended.send(Instant::now()).unwrap();
        }
    });
    let bench = bench_with(policy(), route, roots);
    let began = Instant::now();
    let mut request = request("https://a.com/", LIMIT);
    request.body = vec![b'x'; 1024 * 1024].into();
    assert_failed(&bench.sender.send(request).await, Failure::Timeout, "time limit");
    let lived = end.recv().await.expect("the connection ends") - began;
    assert!(lived <= LIMIT + 7 * SECOND, "{lived:?}");
}
