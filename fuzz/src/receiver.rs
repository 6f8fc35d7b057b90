//! A receiver in memory, behind the real sender: it takes one request and answers with bytes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::{Exchange, Request, Sender};
use http_sender::HttpSender;
use http_sender::dial::{Dial, Dialled};
use http_sender::resolve::{DnsFailure, Found, Resolve};
use http_sender::tls::Roots;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// The time limit of a request.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Most pieces of an answer: more find no more, and are slow.
const PIECES_MAX: usize = 128;

/// A public address that nothing here ever really calls.
const ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(93, 184, 215, 14)), 80);

/// How a receiver answers: on every connection its first request, and no other.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it writes.
    pub answer: Bytes,
    /// How many bytes at a time, [`PIECES_MAX`] times; the rest comes at once.
    pub piece: usize,
    /// Whether it closes the connection afterwards, or keeps it and says nothing more.
    pub closes: bool,
}

/// The sender and its receiver.
pub struct Exchanges {
    sender: HttpSender,
    network: Arc<Network>,
}

impl Exchanges {
    /// A sender whose every connection leads to such a receiver.
    pub fn new(script: Script) -> Self {
        let network = Arc::new(Network { script, dials: AtomicUsize::new(0) });
        let policy = UrlPolicy { allow_http: true, ..UrlPolicy::default() };
        let dialer = Arc::clone(&network) as _;
        let sender = HttpSender::new(policy, Arc::new(OneAddress), dialer, Roots::none());
        Self { sender, network }
    }

    /// Sends a request. To be called where time is paused.
    pub async fn post(&self) -> Exchange {
        let url = TargetUrl::from_stored("http://a.com/").expect("a right URL");
        let headers = vec![("content-type".into(), "application/json".into())];
        let body = Bytes::from_static(b"{}");
        self.sender.send(Request { url, headers, body, timeout: TIMEOUT, identity: None, credentials: None }).await
    }

    /// How many connections there were.
    pub fn dials(&self) -> usize {
        self.network.dials.load(Ordering::Relaxed)
    }
}

/// Runs `work` in a runtime of its own where time passes only when nothing else happens.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing")
        .block_on(work)
}

struct OneAddress;

#[async_trait]
impl Resolve for OneAddress {
    async fn resolve(&self, _: &str) -> Result<Found, DnsFailure> {
        Ok(Found { addresses: vec![ADDRESS.ip()], aliases: Vec::new() })
    }
}

struct Network {
    script: Script,
    dials: AtomicUsize,
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        assert_eq!(address, ADDRESS, "no answer leads elsewhere");
        self.dials.fetch_add(1, Ordering::Relaxed);
        let (near, far) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(far, self.script.clone()));
        Ok(Dialled { stream: Box::new(near), peer: address })
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }
}

async fn serve(mut stream: DuplexStream, script: Script) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let small = script.answer.len().min(script.piece.saturating_mul(PIECES_MAX));
    let (small, rest) = script.answer.split_at(small);
    for piece in small.chunks(script.piece).chain([rest]) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    if !script.closes {
        // Ends when the sender hangs up.
        while matches!(stream.read_buf(&mut request).await, Ok(1..)) {}
    }
}
