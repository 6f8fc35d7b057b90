//! Callers who mean harm: any bytes, floods, and texts that would forge a line of the log.

use domain::contract::Contract;
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::customer::Customer;
use crate::program::{Home, Service};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET http://a/` in HPACK.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

/// A frame (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Sends all of it, reads what comes until the end or not at all, and hangs up.
async fn say(service: &Service, bytes: &[u8], is_read: bool) {
    let stream = TcpStream::connect(service.address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        // It may be closed in the middle.
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    if is_read {
        let mut answer = Vec::new();
        let (_, ()) = tokio::join!(from.read_to_end(&mut answer), sending);
    } else {
        // What is held back is given up.
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), sending).await;
    }
}

#[track_caller]
fn assert_no_panic(service: &Service) {
    let log = service.log();
    assert!(!log.iter().any(|line| line.contains("panicked")), "{log:?}");
}

#[tokio::test]
async fn whatever_bytes_arrive_nothing_panics_and_others_are_answered() {
    const CONVERSATIONS: usize = 200;
    let service = Home::new().serve().await;
    let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
    let line = prop_oneof![
        "(GET|POST|PUT|PATCH|DELETE|OPTIONS|TRACE) /(v1|v2|api/v1|healthz|metrics)?[ -~]{0,20} HTTP/1.1",
        "(Host|Content-Length|Transfer-Encoding|Expect|x-api-key|Authorization): [ -~]{0,20}",
        Just(String::new()),
    ];
    let http1 =
        proptest::collection::vec(line, 0..12).prop_map(|lines| lines.join("\r\n").into_bytes());
    let any_frame = (0..=10_u8, any::<u8>(), 0..9_u32, prop_oneof![Just(GET.to_vec()), bytes(64)])
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    let http2 = proptest::collection::vec(any_frame, 0..40)
        .prop_map(|frames| [PREFACE, &frame(4, 0, 0, &[]), &frames.concat()].concat());
    let conversation = prop_oneof![bytes(300), http1, http2];
    let mut runner = TestRunner::default();
    for _ in 0..CONVERSATIONS {
        say(&service, &conversation.new_tree(&mut runner).unwrap().current(), true).await;
    }
    assert_eq!(service.operator().call(Method::GET, "/healthz", "").await.status, 200);
    assert_no_panic(&service);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn floods_of_http2_frames_leave_memory_flat() {
    /// What the process may grow by, in bytes: the buffers of the connections, and what the
    /// allocator keeps.
    const GROWTH_BYTES_MAX: u64 = 32 * 1024 * 1024;
    /// Each flood comes on so many connections at once.
    const CONNECTIONS: usize = 8;
    const FRAMES: u32 = 100_000;
    let service = Home::new().serve().await;
    let many = |one: &dyn Fn(u32) -> Vec<u8>| -> Vec<u8> { (0..FRAMES).flat_map(one).collect() };
    let field = [&[0x10, 1, b'a', 0x7f, 0xe9, 0x06][..], &[b'b'; 1_000]].concat();
    let floods = [
        many(&|number| {
            let stream = number * 2 + 1;
            [frame(1, 5, stream, GET), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        }),
        many(&|number| frame(1, 5, number * 2 + 1, GET)),
        many(&|number| frame(if number == 0 { 1 } else { 9 }, 0, 1, &field)),
        many(&|_| frame(4, 0, 0, &[0, 4, 0, 0, 0, 0])),
        many(&|_| frame(6, 0, 0, &[0; 8])),
        [frame(1, 4, 1, GET), many(&|_| frame(0, 0, 1, &[]))].concat(),
        many(&|number| frame(2, 0, number * 2 + 1, &[0, 0, 0, 0, 1])),
    ];
    // What the first connection of a kind costs once is no growth.
    say(&service, &[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, GET)].concat(), true).await;
    let before = service.resident_bytes();
    for flood in &floods {
        for is_read in [true, false] {
            let bytes = [PREFACE, &frame(4, 0, 0, &[]), flood].concat();
            let all = (0..CONNECTIONS).map(|_| say(&service, &bytes, is_read));
            futures_util::future::join_all(all).await;
        }
        assert_eq!(service.operator().call(Method::GET, "/healthz", "").await.status, 200);
    }
    let after = service.resident_bytes();
    let growth = after.saturating_sub(before);
    println!("grown by {} KiB from {} KiB", growth / 1024, before / 1024);
    assert!(growth <= GROWTH_BYTES_MAX, "from {before} to {after} bytes");
    assert_no_panic(&service);
}

#[tokio::test]
async fn no_text_of_a_caller_forges_a_line_of_the_log() {
    const FORGED: &str = "forged\r\n2026-01-01T00:00:00.000000Z  INFO all is well\u{1b}[31m\u{85}";
    for format in ["human", "json"] {
        let home = Home::new().with(&["--log", "trace", "--log-format", format]);
        let service = home.serve().await;
        let customer = Customer::new(&service, Contract::Standard).await;
        let operator = service.operator();
        for (method, path) in [
            (Method::POST, "/api/v1/accounts".to_owned()),
            (Method::POST, "/api/v1/events".to_owned()),
            (Method::POST, format!("/api/v1/accounts/{}/endpoints", customer.account)),
            (Method::PATCH, format!("/api/v1/accounts/{}", customer.account)),
        ] {
            let body = json!({
                "username": FORGED, "contract": FORGED, "account": FORGED, "type": FORGED,
                "data": {FORGED: FORGED}, "url": format!("https://127.0.0.1/{FORGED}"),
                "description": FORGED, "events": [FORGED], FORGED: FORGED,
            });
            operator.call(method, &path, body.to_string()).await;
        }
        customer.register("http://127.0.0.1:1/forged").await;
        customer.publish(&json!({"text": FORGED}).to_string()).await;
        let escape = "\u{1b}[31m";
        for text in [
            format!("GET /{escape} HTTP/1.1\r\nHost: a\r\n\r\n"),
            "GET /%0d%0aforged%1b[31m HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\n\r\n".to_owned(),
            format!("GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a{escape}b\r\n\r\n"),
            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: a\rforged\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \u{9b}31m\u{85}\r\n\r\n".to_owned(),
        ] {
            say(&service, text.as_bytes(), true).await;
        }
        service.terminate();
        service.logged("stopped").await;
        for line in service.log() {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            let is_whole = match format {
                // 2026-01-01T00:00:00.000000Z, a level, and what was said.
                "human" => line.get(..28).is_some_and(|head| head.ends_with("Z ")),
                _ => serde_json::from_str::<serde_json::Value>(&line).is_ok(),
            };
            assert!(is_whole && !line.starts_with("2026-01-01"), "{line:?}");
        }
        let _ = service.ended().await;
    }
}
