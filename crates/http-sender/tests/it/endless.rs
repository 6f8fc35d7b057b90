//! How much memory answers without end cost.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::sender::Sender;
use http::{Request, Response};
use http_body_util::Full;
use http_sender::dial::Stream;
use http_sender::tls::Roots;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::breaking::{listen, sender_to};
use crate::secure::{Authority, certificate_for};
use crate::support::*;

/// What the memory of the process may grow by: the part of each attempt, and what everything else
/// (runtime, TLS settings, the receivers, which live in the same process) takes once.
const BYTES_PER_ATTEMPT: usize = 64 * 1024;
const BYTES_ONCE: usize = 16 * 1024 * 1024;

/// What was found.
#[derive(Debug)]
pub(crate) struct Figures {
    at_once: usize,
    attempts: usize,
    grown_bytes: usize,
    took: Duration,
}

impl Figures {
    /// Whether the memory stayed within its bound.
    pub(crate) fn is_flat(&self) -> bool {
        self.grown_bytes <= BYTES_ONCE + self.at_once * BYTES_PER_ATTEMPT
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_once, attempts, grown_bytes, took } = self;
        let mib = *grown_bytes as f64 / 1024.0 / 1024.0;
        let bound = (BYTES_ONCE + at_once * BYTES_PER_ATTEMPT) / 1024 / 1024;
        write!(
            formatter,
            "endless answers: {attempts} attempts, {at_once} at once; memory grew by {mib:.1} MiB \
             at most (bound {bound} MiB); took {took:.1?}"
        )
    }
}

/// A number of kibibytes that Linux tells about this process, in bytes.
fn told(name: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kibibytes: usize = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
    kibibytes * 1024
}

/// Says a beginning, then the same for ever.
async fn without_end(mut stream: impl Stream, beginning: &[u8], again: &[u8]) {
    if read_request(&mut stream).await.is_some() && stream.write_all(beginning).await.is_ok() {
        while stream.write_all(again).await.is_ok() {}
    }
}

/// Sends so many requests to each of a set of receivers whose answers do not end, and watches the
/// memory of this process. Meant for a process of its own.
pub(crate) async fn endless(at_once: usize, rounds: usize) -> Figures {
    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const BOMB: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n";
    let gzip = include_bytes!("../fixtures/zeros-10-mib.gz");
    let authority = Authority::new();
    let plain: [(&[u8], Vec<u8>); 6] = [
        (HEAD, vec![0; 64 * 1024]),
        (BOMB, gzip.to_vec()),
        (CHUNKED, b"4\r\nyyyy\r\n".repeat(4096)),
        (CHUNKED, b"1;a=b\r\ny\r\n".repeat(4096)),
        (b"HTTP/1.1 200 OK\r\n", b"X-Same: y\r\n".repeat(4096)),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2048)),
    ];
    let mut senders = Vec::new();
    for (beginning, again) in plain {
        let again = Arc::new(again);
        let receiver = listen(move |_, stream| {
            let again = Arc::clone(&again);
            async move { without_end(stream, beginning, &again).await }
        })
        .await;
        senders.push(("http://a.com/", sender_to(receiver, Roots::none())));
    }
    for alpn in ["http/1.1", "h2"] {
        let config = authority.server(&certificate_for("a.com"), &[alpn]);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let receiver = listen(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let stream: Box<dyn Stream> = Box::new(stream);
                let Ok(stream) = acceptor.accept(stream).await else { return };
                if alpn == "h2" {
                    // Longer than anybody reads, and as fast as the windows let it through.
                    let body = Bytes::from(vec![0; 1024 * 1024]);
                    let answer = move |_: Request<Incoming>| {
                        std::future::ready(Ok::<_, Infallible>(Response::new(Full::new(
                            body.clone(),
                        ))))
                    };
                    let server = http2::Builder::new(TokioExecutor::new());
                    let _ = server.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                } else {
                    without_end(stream, HEAD, &[0; 16 * 1024]).await;
                }
            }
        })
        .await;
        senders.push(("https://a.com/", sender_to(receiver, authority.roots())));
    }
    let began = Instant::now();
    let before = told("VmRSS");
    let senders = Arc::new(senders);
    let mut tasks = JoinSet::new();
    for number in 0..at_once {
        let senders = Arc::clone(&senders);
        tasks.spawn(async move {
            for round in 0..rounds {
                let (url, sender) = &senders[(number + round) % senders.len()];
                let exchange = sender.send(request(url, LONG)).await;
                assert!(exchange.response_excerpt.len() <= 8 * 1024);
            }
        });
    }
    tasks.join_all().await;
    Figures {
        at_once,
        attempts: at_once * rounds,
        grown_bytes: told("VmHWM") - before,
        took: began.elapsed(),
    }
}

/// Runs itself again in a process that does nothing else.
#[cfg(test)]
#[test]
fn answers_without_end_leave_the_memory_flat() {
    const CHILD: &str = "ANSWERS_WITHOUT_END";
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let figures = runtime.block_on(endless(64, 8));
        println!("{figures}");
        assert!(figures.is_flat(), "{figures}");
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "endless::answers_without_end_leave_the_memory_flat", "--nocapture"]);
    let output = child.env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("endless answers: 512"));
}
