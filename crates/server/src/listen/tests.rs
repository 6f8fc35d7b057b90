use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

mod any_bytes;
mod full;
mod http2_floods;
mod smuggling;

async fn intake(routes: Router) -> (Intake, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let intake = Intake::start(listener, |_| routes).unwrap();
    let address = intake.address();
    (intake, address)
}

/// Everything the server says until it closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut_off() {
    let (_intake, address) = intake(Router::new()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n").await;
    let began = tokio::time::Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    let limit = TICK * pulse::HEAD_TICKS_MAX;
    assert!(began.elapsed() <= limit + TICK * 2, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_its_time_and_then_closed() {
    let (_intake, address) = intake(Router::new().route("/", get(async || "here"))).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    let began = tokio::time::Instant::now();
    assert_eq!(rest(&mut stream).await, "");
    let limit = TICK * pulse::IDLE_TICKS_MAX;
    assert!(began.elapsed() + TICK * 2 >= limit, "{:?}", began.elapsed());
    assert!(began.elapsed() <= limit + TICK * 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn too_large_a_head_and_too_many_fields_are_431() {
    let (_intake, address) = intake(Router::new()).await;
    let large = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(101));
    for request in [large, many] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        say(&mut stream, &request).await;
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 431"));
    }
}

#[tokio::test]
async fn while_leaving_open_connections_are_answered_and_closed_and_new_ones_refused() {
    let begun = Arc::new(tokio::sync::Notify::new());
    let go_on = Arc::new(tokio::sync::Notify::new());
    let (told, awaited) = (Arc::clone(&begun), Arc::clone(&go_on));
    let slow = get(async move || {
        told.notify_one();
        awaited.notified().await;
        "late"
    });
    let routes = Router::new().route("/slow", slow).route("/", get(async || "here"));
    let (intake, address) = intake(routes).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    say(&mut idle, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!head(&mut idle).await.contains("connection: close"));
    let mut slow = TcpStream::connect(address).await.unwrap();
    say(&mut slow, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    begun.notified().await;

    intake.leave().await;
    say(&mut idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = rest(&mut idle).await;
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with("here"), "{answer}");
    let closed = tokio::spawn(intake.close(Duration::from_mins(1)));
    go_on.notify_one();
    let answer = rest(&mut slow).await;
    assert!(answer.ends_with("late"), "{answer}");
    closed.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn closing_cuts_off_what_does_not_end_in_time() {
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&begun);
    let endless = get(async move || {
        told.notify_one();
        std::future::pending::<()>().await;
    });
    let (intake, address) = intake(Router::new().route("/", endless)).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    say(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    begun.notified().await;
    intake.close(Duration::ZERO).await;
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn http2_is_spoken_to_who_begins_with_it() {
    let (_intake, address) = intake(Router::new().route("/", get(async || "here"))).await;
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://localhost/").body(String::new()).unwrap();
    let response = requests.send_request(request).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_before_the_first_connection_was_awaited_is_not_kept() {
    let (intake, _) = intake(Router::new()).await;
    // On this runtime the accepting task has not run yet.
    let left = tokio::time::timeout(Duration::from_mins(1), intake.leave()).await;
    left.expect("leaving ends");
}

#[cfg(unix)]
#[test]
fn only_for_want_of_files_or_memory_accepting_pauses() {
    use rustix::io::Errno;
    for (errno, expected) in [
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::NOBUFS, true),
        (Errno::NOMEM, true),
        (Errno::CONNABORTED, false),
        (Errno::CONNRESET, false),
        (Errno::INTR, false),
        (Errno::PROTO, false),
        (Errno::HOSTUNREACH, false),
        (Errno::PERM, false),
    ] {
        assert_eq!(is_ours(&errno.into()), expected, "{errno}");
    }
}
