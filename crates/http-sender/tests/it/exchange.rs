//! One request and its answer.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::address::AddressPolicy;
use domain::attempt::{Failure, Outcome};
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::Sender;
use http_sender::HttpSender;
use http_sender::dial::TcpDial;
use http_sender::resolve::HickoryResolver;
use http_sender::tls::Roots;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A receiver on the loopback interface.
async fn listen<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A sender that may call this machine, over real sockets.
fn local_sender() -> HttpSender {
    let policy = UrlPolicy {
        allow_http: true,
        addresses: AddressPolicy {
            allowed: vec!["127.0.0.0/8".parse().unwrap()],
            ..AddressPolicy::default()
        },
        ..UrlPolicy::default()
    };
    let resolver = HickoryResolver::from_servers(&[]);
    HttpSender::new(policy, Arc::new(resolver), Arc::new(TcpDial), Roots::none())
}

#[tokio::test]
async fn a_request_arrives_as_it_was_asked_for() {
    let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let receiver = listen(move |mut stream| {
        let heard = heard.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                heard.send(request).unwrap();
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let sender = local_sender();
    let mut request = request(&format!("http://{receiver}/hook/a%20b?x=1&y"), LONG);
    request.headers.push(("X-Tenant".to_owned().into(), "blue moon".into()));
    request.body = Bytes::from_static(b"{\"a\": 1}");
    let exchange = sender.send(request).await;
    assert_eq!(exchange.outcome, Outcome::Answered { status: 200, retry_after: None });
    assert_eq!(exchange.response_excerpt, "ok");
    assert_eq!(exchange.detail, None);
    assert!(exchange.duration >= exchange.phases.connect + exchange.phases.first_byte);
    assert!(exchange.phases.first_byte > Duration::ZERO);
    assert_eq!(exchange.phases.tls, Duration::ZERO);
    assert_eq!(
        hear.recv().await.unwrap(),
        format!(
            "POST /hook/a%20b?x=1&y HTTP/1.1\r\nHost: {receiver}\r\n\
             Content-Type: application/json\r\nUser-Agent: Postrider/0\r\n\
             Accept-Encoding: identity\r\nX-Tenant: blue moon\r\nContent-Length: 8\r\n\r\n\
             {{\"a\": 1}}"
        )
    );
}

#[tokio::test]
async fn the_default_port_is_not_in_the_host_header() {
    let route = script(|_, mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        assert!(request.contains("\r\nHost: a.com\r\n"));
        stream.write_all(OK).await.unwrap();
    });
    assert_status(&bench(route).post("http://a.com/").await, 200);
}

#[tokio::test]
async fn every_final_status_is_an_answer() {
    for (line, status) in [
        ("200 OK", 200),
        ("204 No Content", 204),
        ("400 Bad Request", 400),
        ("410 Gone", 410),
        ("500 ", 500),
        ("503", 503),
        ("599 Odd", 599),
    ] {
        let answer = format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let exchange = bench(answering_once(answer)).post("http://a.com/").await;
        assert_status(&exchange, status);
    }
}

#[tokio::test]
async fn a_redirect_is_an_ordinary_answer_and_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://169.254.169.254/latest/\r\n\
             Refresh: 0; url=http://127.0.0.1/\r\nAlt-Svc: h3=\"127.0.0.1:443\"\r\n\
             Link: <http://127.0.0.1/>; rel=preload\r\nContent-Length: 0\r\n\r\n"
        );
        let bench = bench(answering_once(answer.into_bytes()));
        assert_status(&bench.post("http://a.com/").await, status);
        assert_eq!(bench.network.dialled(), [format!("{PUBLIC}:80")]);
        assert_eq!(bench.names.questions(), 1);
    }
}

#[tokio::test]
async fn a_request_for_credentials_is_an_ordinary_answer() {
    for head in [
        "401 Unauthorized\r\nWWW-Authenticate: NTLM",
        "407 Proxy\r\nProxy-Authenticate: Basic realm=x",
    ] {
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let requests = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&requests);
        let bench = bench(script(move |_, mut stream| {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            async move {
                while let Some(request) = read_request(&mut stream).await {
                    assert!(!request.to_ascii_lowercase().contains("authorization"));
                    seen.fetch_add(1, Ordering::SeqCst);
                    stream.write_all(&answer).await.unwrap();
                }
            }
        }));
        assert!(!bench.post("http://a.com/").await.outcome.is_success());
        assert_eq!(requests.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn retry_after_is_handed_on() {
    let answer = b"HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n";
    let exchange = bench(answering(answer)).post("http://a.com/").await;
    let retry_after = Some(Duration::from_mins(2));
    assert_eq!(exchange.outcome, Outcome::Answered { status: 503, retry_after });
}

#[tokio::test]
async fn a_compressed_body_is_kept_as_it_came() {
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let exchange = bench(answering(answer)).post("http://a.com/").await;
    assert_eq!(&exchange.response_excerpt[..], b"\x1f\x8b\x08\x00");
}

#[tokio::test]
async fn a_chunked_body_and_one_that_ends_with_the_connection_are_read() {
    let chunked =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n";
    assert_eq!(bench(answering(chunked)).post("http://a.com/").await.response_excerpt, "abc");
    let route = script(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nabc").await.unwrap();
    });
    assert_eq!(bench(route).post("http://a.com/").await.response_excerpt, "abc");
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let answer = [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", OK];
    let exchange = bench(answering_once(answer.concat())).post("http://a.com/").await;
    assert_status(&exchange, 200);
}

#[tokio::test]
async fn switching_protocols_is_a_failure() {
    let answer = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let exchange = bench(answering_once(answer.to_vec())).post("http://a.com/").await;
    assert_failed(&exchange, Failure::Protocol, "101");
}

#[tokio::test]
async fn what_is_not_http_is_a_protocol_failure() {
    for answer in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "hello, this is not HTTP at all\r\n\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let exchange = bench(answering_once(answer.into())).post("http://a.com/").await;
        assert_eq!(exchange.outcome, Outcome::Failed(Failure::Protocol), "{answer}: {exchange:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_is_a_reset() {
    let bench = bench(script(|_, mut stream| async move {
        read_request(&mut stream).await;
    }));
    assert_failed(&bench.post("http://a.com/").await, Failure::Reset, "");
    assert_eq!(bench.dials(), 1, "a fresh connection's failure counts");
}

#[tokio::test]
async fn a_connection_that_is_reset_is_a_reset() {
    let receiver = listen(|stream| async move {
        // Closing with unread data makes the system send RST.
        stream.readable().await.unwrap();
        stream.set_zero_linger().unwrap();
    })
    .await;
    let exchange = local_sender().send(request(&format!("http://{receiver}/"), LONG)).await;
    assert_failed(&exchange, Failure::Reset, "");
}

#[tokio::test]
async fn a_port_nobody_listens_on_is_a_connect_failure() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = listener.local_addr().unwrap();
    drop(listener);
    let exchange = local_sender().send(request(&format!("http://{receiver}/"), LONG)).await;
    assert_failed(&exchange, Failure::Connect, "127.0.0.1");
}

#[tokio::test]
async fn an_early_answer_counts_although_the_request_was_not_read() {
    let receiver = listen(|mut stream| async move {
        let mut head = [0; 256];
        stream.read_exact(&mut head).await.unwrap();
        let answer = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let mut request = request(&format!("http://{receiver}/"), LONG);
    request.body = Bytes::from(vec![b'x'; 16 * 1024 * 1024]);
    let exchange = local_sender().send(request).await;
    assert_status(&exchange, 413);
}

#[tokio::test]
async fn a_probe_asks_by_options_and_tells_the_status_only() {
    let bench = bench(script(|_, mut stream| async move {
        let request = read_request(&mut stream).await.unwrap();
        assert!(request.starts_with("OPTIONS /hook HTTP/1.1\r\nHost: a.com\r\n"), "{request}");
        assert!(!request.to_ascii_lowercase().contains("content-length"), "{request}");
        stream.write_all(b"HTTP/1.1 405 No\r\nContent-Length: 6\r\n\r\nsecret").await.unwrap();
    }));
    let url = TargetUrl::from_stored("http://a.com/hook").unwrap();
    let outcome = bench.sender.probe(&url, None, LONG).await;
    assert_eq!(outcome, Outcome::Answered { status: 405, retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn a_probe_is_guarded_and_limited_like_a_delivery() {
    let silent = bench(silent());
    let url = TargetUrl::from_stored("http://a.com/").unwrap();
    let limit = Duration::from_secs(1);
    assert_eq!(silent.sender.probe(&url, None, limit).await, Outcome::Failed(Failure::Timeout));
    silent.names.set("a.com", &["127.0.0.1"]);
    assert_eq!(silent.sender.probe(&url, None, limit).await, Outcome::Failed(Failure::Blocked));
    assert_eq!(silent.dials(), 1);
}

/// Runs itself again in a process that has proxies in its environment.
#[tokio::test]
async fn a_proxy_of_the_environment_has_no_effect() {
    const CHILD: &str = "A_PROXY_OF_THE_ENVIRONMENT";
    let receiver = listen(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK).await.unwrap();
    })
    .await;
    if std::env::var_os(CHILD).is_some() {
        let exchange = local_sender().send(request(&format!("http://{receiver}/"), LONG)).await;
        assert_status(&exchange, 200);
        return;
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let trap = listen(move |_| {
        seen.fetch_add(1, Ordering::SeqCst);
        std::future::ready(())
    })
    .await;
    let child = tokio::task::spawn_blocking(move || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "exchange::a_proxy_of_the_environment_has_no_effect"]);
        child.env(CHILD, "1").env("NO_PROXY", "");
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            child.env(variable, format!("http://{trap}"));
            child.env(variable.to_ascii_lowercase(), format!("http://{trap}"));
        }
        child.output().unwrap()
    });
    let child = child.await.unwrap();
    assert!(child.status.success(), "{child:?}");
    assert!(String::from_utf8_lossy(&child.stdout).contains("1 passed"));
    assert_eq!(calls.load(Ordering::SeqCst), 0);
}
