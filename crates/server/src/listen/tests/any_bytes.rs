//! Whatever bytes arrive.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::DuplexStream;

use super::http2_floods::{PREFACE, frame};
use super::*;

/// Serves one connection in memory.
fn connection() -> (DuplexStream, JoinHandle<()>) {
    const BUFFER_BYTES: usize = 64 * 1024;
    let routes = Router::new().route("/", get(async || "here").post(async |body: String| body));
    let shared = Shared {
        stage: watch::Sender::new(Stage::Open),
        leaving: AtomicBool::new(false),
        is_listening: watch::Sender::new(true),
        connections: AtomicUsize::new(0),
    };
    let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
    let pulse = Arc::new(Pulse::new(Arc::default()));
    let served = serve(Arc::new(protocols()), theirs, routes, pulse, Arc::new(shared));
    (ours, tokio::spawn(served))
}

/// Sends the bytes and takes what comes; the connection must end by itself and without a panic.
async fn survive(bytes: Vec<u8>) {
    let (stream, served) = connection();
    let (mut from, mut to) = tokio::io::split(stream);
    let send = async {
        // It may have been closed in the middle.
        let _ = to.write_all(&bytes).await;
        let _ = to.shutdown().await;
    };
    let mut answer = Vec::new();
    let ((), read) = tokio::join!(send, from.read_to_end(&mut answer));
    read.unwrap();
    served.await.expect("no panic");
}

fn check(bytes: &impl Strategy<Value = Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..Default::default() });
    let run = runner.run(bytes, |bytes| {
        runtime.block_on(survive(bytes));
        Ok(())
    });
    run.unwrap();
}

#[test]
fn whatever_is_said_in_http1_ends_without_a_panic() {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"POST / HTTP/1.1\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: 5\r\n".to_vec()),
        Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        Just(b"Expect: 100-continue\r\n".to_vec()),
        Just(b"Upgrade: h2c\r\nConnection: upgrade\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"5\r\nhello\r\n0\r\n\r\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    check(&proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat()));
}

#[test]
fn whatever_is_said_in_http2_ends_without_a_panic() {
    // Nine is one more than the kinds that HTTP/2 has; a get of `/`, in static HPACK, is among the
    // payloads.
    let payload = prop_oneof![
        Just(vec![0x82, 0x86, 0x84, 0x41, 0x01, b'a']),
        proptest::collection::vec(any::<u8>(), 0..80),
    ];
    let any_frame = (0..=10_u8, any::<u8>(), 0..8_u32, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload));
    let bytes = prop_oneof![
        9 => any_frame,
        1 => proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let settings = frame(4, 0, 0, &[]);
    let frames = proptest::collection::vec(bytes, 0..30)
        .prop_map(move |frames| [PREFACE, &settings, &frames.concat()].concat());
    check(&frames);
}
