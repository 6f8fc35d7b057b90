//! Receivers that misbehave, in a process of their own: each on a port of its own, the kinds in
//! turn.
//!
//! It says its addresses in one line, with spaces between them; any line on its input is answered
//! with the number of connections that came. No connection lasts longer than a minute or sends more
//! than 16 MiB, whatever the service does; how many there are at once is the service's to bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{interval, timeout};

use crate::process::{Spoken, say};
use crate::wire::extent;

/// How many there are.
pub(crate) const RECEIVERS: usize = 10;

/// Longest life of a connection.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);

/// What an endless body is made of.
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// Pieces after which even an endless body ends.
const PIECES_MAX: usize = 256;

const ENDLESS_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n";

const SLOW_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nX-Filling: a-byte-a-second-and-never-an-end-of-it";

const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";

/// How a receiver misbehaves.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Accepts and never answers.
    Silent,
    /// Accepts and resets the connection at once.
    Resets,
    /// Answers 200 and a body that does not end.
    EndlessBody,
    /// Answers a byte each second.
    SlowHead,
    /// Refuses connections.
    Refuses,
    /// Answers 500 to everything.
    Fails,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Silent, Self::Resets, Self::EndlessBody, Self::SlowHead, Self::Refuses, Self::Fails];
}

/// Runs the receivers until the input ends; all of them silent if `is_silent`.
pub(crate) fn run(is_silent: bool) -> Result<()> {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kinds: &[Kind] = if is_silent { &[Kind::Silent] } else { &Kind::ALL };
        runtime.block_on(listen(kinds, &counted))
    });
    for line in std::io::stdin().lines() {
        line?;
        say(connections.load(Ordering::Relaxed));
    }
    Ok(())
}

async fn listen(kinds: &[Kind], connections: &Arc<AtomicUsize>) -> Result<()> {
    let mut addresses = Vec::with_capacity(RECEIVERS);
    // A port that is bound and not listened on refuses, and is nobody else's meanwhile.
    let mut refusing = Vec::new();
    for kind in kinds.iter().copied().cycle().take(RECEIVERS) {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.1:0".parse()?)?;
        addresses.push(socket.local_addr()?.to_string());
        if matches!(kind, Kind::Refuses) {
            refusing.push(socket);
        } else {
            let listener = socket.listen(1024)?;
            tokio::spawn(accept(listener, kind, Arc::clone(connections)));
        }
    }
    say(addresses.join(" "));
    std::future::pending().await
}

async fn accept(listener: TcpListener, kind: Kind, connections: Arc<AtomicUsize>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        connections.fetch_add(1, Ordering::Relaxed);
        // A connection that ends is the sender's business.
        tokio::spawn(timeout(CONNECTION_TIME_MAX, misbehave(stream, kind)));
    }
}

async fn misbehave(mut stream: TcpStream, kind: Kind) -> Result<()> {
    let mut buffer = Vec::with_capacity(16 * 1024);
    match kind {
        Kind::Silent => {
            while stream.read_buf(&mut buffer).await? > 0 {
                buffer.clear();
            }
        }
        Kind::Resets => stream.set_zero_linger()?,
        Kind::EndlessBody => {
            stream.read_buf(&mut buffer).await?;
            stream.write_all(ENDLESS_HEAD).await?;
            for _ in 0..PIECES_MAX {
                stream.write_all(&PIECE).await?;
            }
        }
        Kind::SlowHead => {
            let mut seconds = interval(Duration::from_secs(1));
            for byte in SLOW_HEAD {
                seconds.tick().await;
                stream.write_all(&[*byte]).await?;
            }
        }
        Kind::Fails => {
            while stream.read_buf(&mut buffer).await? > 0 {
                while let Some(extent) =
                    extent(&buffer)?.filter(|extent| extent.message <= buffer.len())
                {
                    buffer.drain(..extent.message);
                    stream.write_all(FAILED).await?;
                }
            }
        }
        Kind::Refuses => {}
    }
    Ok(())
}

/// The process, seen from the benchmark.
pub(crate) struct MisbehavingProcess {
    process: Spoken,
    /// Where they listen, or refuse to.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl MisbehavingProcess {
    /// Starts one in which every kind is there.
    pub(crate) fn start() -> Result<Self> {
        Self::start_as(&["misbehaving"])
    }

    /// Starts one in which all accept and never answer.
    pub(crate) fn start_silent() -> Result<Self> {
        Self::start_as(&["misbehaving", "--silent"])
    }

    fn start_as(arguments: &[&str]) -> Result<Self> {
        let mut process = Spoken::this_program(arguments)?;
        let addresses = process.hear()?.split(' ').map(str::parse).collect::<Result<_, _>>();
        Ok(Self { process, addresses: addresses.context("reading the receivers' addresses")? })
    }

    /// How many connections came so far, those refused not counted.
    pub(crate) fn connections(&mut self) -> Result<usize> {
        self.process.ask("count")?.parse().context("reading the receivers' count")
    }
}
