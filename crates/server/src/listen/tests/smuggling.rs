//! Requests whose end two readers may see in two places (RFC 9112, 11.2), and odd targets.

use axum::extract::Request;
use axum::routing::any;

use super::*;

/// Counts what was asked for, by path, and reads every body.
fn counting() -> (Router, Arc<std::sync::Mutex<Vec<String>>>) {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let journal = Arc::clone(&asked);
    let note = any(async move |request: Request| {
        let (head, body) = request.into_parts();
        journal.lock().unwrap().push(head.uri.to_string());
        axum::body::to_bytes(body, 1024).await.map_err(|_| http::StatusCode::BAD_REQUEST)
    });
    (Router::new().fallback(note), asked)
}

/// Says all of it on a connection of its own, and nothing more; answers what came back until the
/// end.
async fn exchange(routes: Router, text: &[u8]) -> String {
    let (_intake, address) = intake(routes).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is a way to end, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_request_that_could_end_in_two_places_brings_no_second_one() {
    let table = [
        ("two lengths", "Content-Length: 0\r\nContent-Length: 5\r\n"),
        ("two lengths in one", "Content-Length: 0, 5\r\n"),
        ("a signed length", "Content-Length: +0\r\n"),
        ("a length in hex", "Content-Length: 0x0\r\n"),
        ("a huge length", "Content-Length: 18446744073709551616\r\n"),
        ("no length", "Content-Length: \r\n"),
        ("chunked not last", "Transfer-Encoding: chunked, identity\r\n"),
        ("an unknown encoding", "Transfer-Encoding: xchunked\r\n"),
        ("a space before the colon", "Content-Length : 0\r\n"),
        ("a folded line", "X-A: b\r\n Content-Length: 5\r\n"),
        ("a line folded by a tab", "Transfer-Encoding:\r\n\tchunked\r\n"),
        ("a bare CR", "X-A: b\rContent-Length: 5\r\n"),
        ("a zero byte", "X-A: b\0c\r\n"),
        ("a name with a bracket", "Content-Length[]: 0\r\n"),
        ("no name", ": 0\r\n"),
        ("a line without a colon", "GET /smuggled HTTP/1.1\r\n"),
    ];
    for (what, fields) in table {
        let (routes, asked) = counting();
        let text = format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n{SMUGGLED}");
        let answer = exchange(routes, text.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
        assert!(asked.lock().unwrap().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn a_length_beside_chunks_counts_for_nothing_and_ends_the_connection() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 500\r\n",
    ] {
        let (routes, asked) = counting();
        let text = format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}");
        let answer = exchange(routes, text.as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(*asked.lock().unwrap(), ["/first"], "{fields}");
    }
}

#[tokio::test]
async fn chunks_that_are_none_end_the_connection() {
    for chunks in
        ["5;a=\rb\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "-1\r\n\r\n", "g\r\n"]
            .into_iter()
            .chain(["ffffffffffffffff1\r\n", "5\r\nhelloX0\r\n\r\n", "5\nhello\r\n0\r\n\r\n"])
    {
        let (routes, asked) = counting();
        let head = "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = exchange(routes, format!("{head}{chunks}{SMUGGLED}").as_bytes()).await;
        assert!(!answer.contains("HTTP/1.1 200"), "{chunks:?}: {answer}");
        assert_eq!(*asked.lock().unwrap(), ["/first"], "{chunks:?}");
    }
}

#[tokio::test]
async fn a_request_line_that_is_none_is_400_and_odd_targets_reach_no_route_of_ours() {
    let refused = [
        "GET / HTTP/1.2",
        "GET / HTTP/11",
        "GET /",
        "GET  / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\x1b[2J HTTP/1.1",
        "GE(T / HTTP/1.1",
        "\x16\x03\x01",
    ];
    for line in refused {
        let (routes, asked) = counting();
        let answer = exchange(routes, format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{line:?}: {answer}");
        assert!(asked.lock().unwrap().is_empty(), "{line:?}");
    }
    // What a router makes of the others: a path is the path, wherever the host stands.
    for (line, status) in [
        ("GET http://elsewhere/here HTTP/1.1", "200"),
        ("GET /here HTTP/1.0", "200"),
        ("OPTIONS * HTTP/1.1", "404"),
        ("GET //here HTTP/1.1", "404"),
        ("GET /there/../here HTTP/1.1", "404"),
        ("GET /%68ere HTTP/1.1", "404"),
        ("CONNECT 127.0.0.1:80 HTTP/1.1", "404"),
    ] {
        let routes = Router::new().route("/here", get(async || "here"));
        let answer = exchange(routes, format!("{line}\r\nHost: a\r\n\r\n").as_bytes()).await;
        let seen = answer.split(' ').nth(1).unwrap_or_default();
        assert_eq!(seen, status, "{line:?}: {answer}");
    }
}
