//! Nothing in an answer leads anywhere: no redirect, no hint, no request for credentials makes a
//! connection to the trap, on the first request or on the next.

use domain::attempt::{Failure, Outcome};
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::Sender;

use crate::support::*;
use crate::world::World;

fn policy() -> UrlPolicy {
    UrlPolicy { allow_http: true, ..UrlPolicy::default() }
}

/// Heads of answers; `TRAP` stands for the trap's address.
const HEADS: [&str; 17] = [
    "301 Moved Permanently\r\nLocation: http://TRAP/",
    "302 Found\r\nLocation: http://TRAP/",
    "303 See Other\r\nLocation: //TRAP/",
    "307 Temporary Redirect\r\nLocation: http://TRAP/",
    "308 Permanent Redirect\r\nLocation: http://TRAP/",
    "302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/",
    "300 Multiple Choices\r\nLocation: http://TRAP/",
    "305 Use Proxy\r\nLocation: http://TRAP/",
    "200 OK\r\nRefresh: 0; url=http://TRAP/",
    "200 OK\r\nLink: <http://TRAP/>; rel=preload, <http://TRAP/>; rel=preconnect",
    "200 OK\r\nAlt-Svc: h2c=\"TRAP\"; ma=86400, h3=\"TRAP\"",
    "200 OK\r\nContent-Location: http://TRAP/\r\nAlternate-Protocol: 443:quic",
    "201 Created\r\nLocation: http://TRAP/",
    "401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nWWW-Authenticate: Basic realm=\"x\"",
    "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"",
    "421 Misdirected Request\r\nLocation: http://TRAP/",
    "503 Service Unavailable\r\nRetry-After: 0\r\nLocation: http://TRAP/",
];

#[tokio::test]
async fn no_answer_leads_to_another_place() {
    for head in HEADS {
        for keep in [true, false] {
            let connection = if keep { "keep-alive" } else { "close" };
            let answer =
                format!("HTTP/1.1 {head}\r\nConnection: {connection}\r\nContent-Length: 0\r\n\r\n");
            let world = World::with(policy(), answer).await;
            world.names.set("a.com", &[PUBLIC]);
            let status = head[..3].parse().unwrap();
            for _ in 0..2 {
                assert_status(&world.post("http://a.com/").await, status);
            }
            let url = TargetUrl::from_stored("http://a.com/").unwrap();
            assert_eq!(world.sender.probe(&url, None, LONG).await.status(), Some(status));
            let receiver = if keep { 1 } else { 3 };
            assert_eq!(world.connections(), (receiver, 0), "{head}");
            assert_eq!(world.names.asked_names(), ["a.com"], "{head}");
        }
    }
}

#[tokio::test]
async fn switching_protocols_leads_nowhere() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n";
    let world = World::with(policy(), answer).await;
    world.names.set("a.com", &[PUBLIC]);
    assert_failed(&world.post("http://a.com/").await, Failure::Protocol, "");
    let url = TargetUrl::from_stored("http://a.com/").unwrap();
    assert_eq!(world.sender.probe(&url, None, LONG).await, Outcome::Failed(Failure::Protocol));
    assert_eq!(world.connections(), (2, 0));
}

#[tokio::test]
async fn no_credentials_are_sent_whoever_asks() {
    let bench = bench(script(|_, mut stream| async move {
        use tokio::io::AsyncWriteExt as _;
        while let Some(request) = read_request(&mut stream).await {
            let request = request.to_ascii_lowercase();
            assert!(!request.contains("authorization") && !request.contains("cookie"), "{request}");
            let answer = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\n\
                          Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }));
    for _ in 0..3 {
        assert_status(&bench.post("http://a.com/").await, 401);
    }
    assert_eq!(bench.dials(), 1);
}
