//! Receivers that break off, over real sockets: what the operating system makes of a reset depends
//! on what was in flight.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use domain::limits::EVENT_DATA_BYTES_MAX;
use engine::sender::{Exchange, Sender};
use http_sender::HttpSender;
use http_sender::dial::{Dial, Dialled, Stream, TcpDial};
use http_sender::tls::Roots;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, Peer, frame, status};
use crate::secure::{Authority, certificate_for};
use crate::support::*;

/// A receiver on the loopback interface; the number counts connections from 0.
pub(crate) async fn listen<F, Fut>(serve: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            stream.set_nodelay(true).unwrap();
            tokio::spawn(serve(number, stream));
        }
    });
    address
}

/// A network in which every address is one receiver, over real sockets.
struct Loopback(SocketAddr);

#[async_trait]
impl Dial for Loopback {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        let Dialled { stream, .. } = TcpDial.dial(self.0).await?;
        Ok(Dialled { stream, peer: address })
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }
}

/// A sender to whom `a.com` is this receiver.
pub(crate) fn sender_to(receiver: SocketAddr, roots: Roots) -> HttpSender {
    let names = Names::default();
    names.set("a.com", &[PUBLIC]);
    HttpSender::new(policy(), Arc::new(names), Arc::new(Loopback(receiver)), roots)
}

/// One request with a body of this size to a receiver that does as scripted.
async fn sent<F, Fut>(body_bytes: usize, serve: F) -> Exchange
where
    F: Fn(usize, TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let receiver = listen(serve).await;
    let mut request = request("http://a.com/", LONG);
    request.body = Bytes::from(vec![b'x'; body_bytes]);
    sender_to(receiver, Roots::none()).send(request).await
}

/// Ends a connection by RST, whatever is on its way.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn read(stream: &mut TcpStream, bytes: usize) {
    stream.read_exact(&mut vec![0; bytes]).await.unwrap();
}

#[tokio::test]
async fn a_reset_before_or_within_the_head_is_a_reset_at_every_point() {
    let at_once = sent(2, |_, stream| async move { reset(stream) }).await;
    let after_head = sent(2, |_, mut stream| async move {
        read(&mut stream, 100).await;
        reset(stream);
    })
    .await;
    let within_body = sent(16 * 1024 * 1024, |_, mut stream| async move {
        read(&mut stream, 1024 * 1024).await;
        reset(stream);
    })
    .await;
    let after_request = sent(2, |_, mut stream| async move {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    for exchange in [at_once, after_head, within_body, after_request] {
        assert_failed(&exchange, Failure::Reset, "");
        assert!(exchange.duration < Duration::from_secs(5), "{exchange:?}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_the_head_is_a_reset_however_it_ends() {
    for by_reset in [false, true] {
        for words in
            ["H", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 100 Continue\r\n\r\n"]
        {
            let exchange = sent(2, move |_, mut stream| async move {
                read_request(&mut stream).await;
                stream.write_all(words.as_bytes()).await.unwrap();
                if by_reset {
                    reset(stream);
                }
            })
            .await;
            assert_failed(&exchange, Failure::Reset, "");
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_within_the_body_leaves_the_status_however_it_ends() {
    for by_reset in [false, true] {
        for framing in ["Content-Length: 9", "Transfer-Encoding: chunked", "X-A: b"] {
            let exchange = sent(2, move |_, mut stream| async move {
                read_request(&mut stream).await;
                let head = format!("HTTP/1.1 202 Accepted\r\n{framing}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(b"9\r\nab").await.unwrap();
                if by_reset {
                    reset(stream);
                }
            })
            .await;
            assert_status(&exchange, 202);
        }
    }
}

#[tokio::test]
async fn a_receiver_that_closes_its_side_only_is_heard_or_given_up() {
    let silent = sent(2, |_, mut stream| async move {
        stream.shutdown().await.unwrap();
        read_request(&mut stream).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_failed(&silent, Failure::Reset, "");
    let answered = sent(1024 * 1024, |_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 403 No\r\nConnection: close\r\n\r\nno").await.unwrap();
        stream.shutdown().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_status(&answered, 403);
    assert_eq!(answered.response_excerpt, "no");
}

#[tokio::test]
async fn a_tls_handshake_that_is_reset_is_a_tls_failure() {
    for bytes in [0, 5, 100] {
        let receiver = listen(move |_, mut stream| async move {
            read(&mut stream, bytes).await;
            reset(stream);
        })
        .await;
        let authority = Authority::new();
        let request = request("https://a.com/", LONG);
        let exchange = sender_to(receiver, authority.roots()).send(request).await;
        assert_failed(&exchange, Failure::Tls, "");
    }
}

const TOO_LARGE: &[u8] =
    b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// How many of these requests with the largest body of a delivery came back as 413.
async fn heard_as_too_large(sender: HttpSender, url: &str, requests: usize) -> usize {
    let body = Bytes::from(vec![b'x'; EVENT_DATA_BYTES_MAX]);
    let mut heard = 0;
    for _ in 0..requests {
        let mut request = request(url, LONG);
        request.body = body.clone();
        let exchange = sender.send(request).await;
        match exchange.outcome {
            Outcome::Answered { status: 413, .. } => heard += 1,
            Outcome::Failed(Failure::Reset) => {}
            _ => panic!("{exchange:?}"),
        }
    }
    heard
}

/// At least 99 of 100. Where it fails, the system dropped the answer: it may, once it got a reset.
fn assert_nearly_all(heard: usize, requests: usize) {
    assert!(heard * 100 >= requests * 99, "{heard} of {requests}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_and_a_reset_are_the_answer() {
    // Unread data makes the system send RST when the connection is closed.
    let receiver = listen(|_, mut stream| async move {
        read(&mut stream, 100).await;
        stream.write_all(TOO_LARGE).await.unwrap();
    })
    .await;
    let sender = sender_to(receiver, Roots::none());
    let heard = heard_as_too_large(sender, "http://a.com/", 500).await;
    assert_nearly_all(heard, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_and_a_reset_are_the_answer_over_tls_too() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["http/1.1"]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.read_exact(&mut [0; 100]).await.unwrap();
            stream.write_all(TOO_LARGE).await.unwrap();
            stream.flush().await.unwrap();
        }
    })
    .await;
    let sender = sender_to(receiver, authority.roots());
    let heard = heard_as_too_large(sender, "https://a.com/", 200).await;
    assert_nearly_all(heard, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_and_a_reset_are_the_answer_over_http_2_too() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = listen(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let stream: Box<dyn Stream> = Box::new(stream);
            let stream = acceptor.accept(stream).await.unwrap();
            let mut peer = Peer::greet(stream, &[]).await.unwrap();
            let stream = peer.head().await.unwrap();
            peer.say(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &status("413"))).await;
        }
    })
    .await;
    let sender = sender_to(receiver, authority.roots());
    let heard = heard_as_too_large(sender, "https://a.com/", 200).await;
    assert_nearly_all(heard, 200);
}
