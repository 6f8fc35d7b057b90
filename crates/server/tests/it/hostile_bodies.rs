//! Bodies that are too large, too deep, compressed, or not what was announced.

use domain::contract::Contract;
use domain::limits::{
    BATCH_BODY_BYTES_MAX, JSON_DEPTH_MAX, PUBLISH_BODY_BYTES_MAX, REQUEST_BODY_BYTES_MAX,
};
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Caller, Connection};
use crate::customer::Customer;
use crate::program::{Home, OPERATOR_KEY, Service};

/// A path of each surface that reads a body, its cap in bytes, and who may call it.
async fn doors(service: &Service) -> Vec<(&'static str, usize, Caller)> {
    let jogg = Customer::new(service, Contract::JoggV2).await.caller;
    let konpro = Customer::new(service, Contract::KonproV1).await.caller;
    vec![
        ("/api/v1/events", PUBLISH_BODY_BYTES_MAX, service.operator()),
        ("/api/v1/events/batch", BATCH_BODY_BYTES_MAX, service.operator()),
        ("/api/v1/accounts", REQUEST_BODY_BYTES_MAX, service.operator()),
        ("/v2/endpoint", REQUEST_BODY_BYTES_MAX, jogg),
        ("/v1/webhook/endpoint.add", REQUEST_BODY_BYTES_MAX, konpro),
    ]
}

/// Says this and answers all that comes back until the end.
async fn exchange(service: &Service, text: &str) -> String {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is a way to end, too.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_body_over_its_cap_is_413_however_it_is_sent() {
    let service = Home::new().serve().await;
    for (path, bytes_max, caller) in doors(&service).await {
        let announced = caller.call(Method::POST, path, vec![b' '; bytes_max + 1]).await;
        assert_eq!(announced.status, 413, "{path}: {}", announced.text);

        // In chunks, and for as long as somebody reads.
        let [(name, key), _] = caller.headers();
        let stream = TcpStream::connect(service.address).await.unwrap();
        let (mut from, mut to) = stream.into_split();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\n{name}: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        to.write_all(head.as_bytes()).await.unwrap();
        let endless = async {
            let chunk = [&b"10000\r\n"[..], &vec![b' '; 0x1_0000], b"\r\n"].concat();
            let mut sent = 0;
            while to.write_all(&chunk).await.is_ok() {
                sent += chunk.len();
                assert!(sent < 256 * 1024 * 1024, "{path}: everything is read");
            }
        };
        let mut answer = Vec::new();
        let reading = async {
            let _ = from.read_to_end(&mut answer).await;
        };
        tokio::join!(endless, reading);
        let answer = String::from_utf8_lossy(&answer);
        // The answer may be lost with the reset of a connection that goes on sending.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{path}: {answer}");
    }
    assert_eq!(service.operator().call(Method::GET, "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_announced_changes_nothing() {
    let service = Home::new().serve().await;
    let body = r#"{"username":"a","contract":"standard"}"#;
    let head = format!(
        "POST /api/v1/accounts HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OPERATOR_KEY}\r\n"
    );
    let short = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len() + 1);
    let answer = exchange(&service, &short).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    let long = format!("{head}Content-Length: 5\r\n\r\n{body}");
    let answer = exchange(&service, &long).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(!answer.contains("HTTP/1.1 2"), "the rest is no request: {answer}");
    let accounts = service.operator().get("/api/v1/accounts").await;
    assert_eq!(accounts["data"].as_array().unwrap().len(), 0, "{accounts}");
}

#[tokio::test]
async fn a_compressed_body_is_415_and_one_that_is_not_may_say_so() {
    let service = Home::new().serve().await;
    for (path, _, caller) in doors(&service).await {
        let [key, content_type] = caller.headers();
        for encoding in ["gzip", "br", "zstd", "deflate", "identity, gzip", "x", ""] {
            let mut connection = Connection::open(service.address).await.unwrap();
            let headers = [key, content_type, ("content-encoding", encoding)];
            let answer = connection.send(Method::POST, path, &headers, "{}").await.unwrap();
            assert_eq!(answer.status, 415, "{path} {encoding:?}: {}", answer.text);
        }
        let mut connection = Connection::open(service.address).await.unwrap();
        let headers = [key, content_type, ("content-encoding", "identity")];
        let answer = connection.send(Method::POST, path, &headers, "{}").await.unwrap();
        assert_ne!(answer.status, 415, "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn no_nesting_costs_the_stack_and_64_levels_are_the_deepest() {
    let service = Home::new().serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    for (path, bytes_max, caller) in doors(&service).await {
        for open in ["[", r#"{"a":"#, r#"[{"a":"#] {
            let depth = (bytes_max / open.len()).min(1_000_000);
            let answer = caller.call(Method::POST, path, open.repeat(depth)).await;
            let is_refused = matches!(answer.status.as_u16(), 400 | 422);
            assert!(is_refused, "{path} {open}: {} {}", answer.status, answer.text);
        }
    }
    let operator = service.operator();
    let publish = async |depth: usize| {
        let data = format!("{}{{}}{}", r#"{"a":"#.repeat(depth - 1), "}".repeat(depth - 1));
        operator.call(Method::POST, "/api/v1/events", customer.event(&data)).await.status
    };
    assert_eq!(publish(JSON_DEPTH_MAX + 1).await, 422);
    assert_eq!(publish(JSON_DEPTH_MAX).await, 202);
    assert!(!service.log().iter().any(|line| line.contains("panicked")), "{:?}", service.log());
}
