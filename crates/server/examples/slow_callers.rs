//! What a normal client notices of thousands of callers who only hold connections.
//!
//! `cargo build --release -p server --bin postrider --example slow_callers`, then
//! `target/release/examples/slow_callers [CONNECTIONS [ATTACK]]` starts the program beside it, measures a
//! client that publishes on a kept connection and one that connects anew for each request, first
//! alone, then during each attack, and prints p50, p99 and how they compare. Takes two minutes;
//! needs 20,000 open files for the default of 4,000 connections (`ulimit -n`). Speaks to the
//! loopback address only.
//!
//! A request counts from the moment it was due, not from when the client found time to send it.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]
#![expect(clippy::unwrap_used, reason = "it stops at the first error")]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

const CONNECTIONS_DEFAULT: usize = 4_000;
const KEY: &str = "operator-key-of-the-slow-callers-example";

/// How long the clients are measured: longer than a head or a body may take, so that the attackers
/// are closed and come back meanwhile.
const MEASURED_FOR: Duration = Duration::from_secs(20);

/// How long an attack may take to have its connections.
const GATHERED_WITHIN: Duration = Duration::from_secs(10);

/// How long an attacker who was closed waits before it comes back: it is slow, not a flood.
const BACK_AFTER: Duration = Duration::from_secs(1);

/// Requests of each client: 100 a second.
const EVERY: Duration = Duration::from_millis(10);

/// How often an attacker sends one byte.
const TRICKLE: Duration = Duration::from_secs(10);

/// Most that p99 may grow to under attack.
const RATIO_MAX: f64 = 2.0;

/// How a connection is held.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// It says nothing.
    Silent,
    /// It sends a head, a byte at a time.
    SlowHead,
    /// It sends the body of a publish request, a byte at a time.
    SlowBody,
    /// It asks once and stays.
    Idle,
}

#[tokio::main]
async fn main() {
    // Only attacks of this name, if there is one.
    let only = std::env::args().nth(2).unwrap_or_default();
    let connections = std::env::args()
        .nth(1)
        .map_or(CONNECTIONS_DEFAULT, |text| text.parse().expect("the number of connections"));
    let connections = within_open_files(connections);
    let folder = tempfile::tempdir().unwrap();
    let (_service, address) = start(folder.path()).await;
    let account = r#"{"username":"normal","contract":"standard"}"#;
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, &request("POST", "/api/v1/accounts", account)).await.unwrap();

    println!("{connections} connections, {MEASURED_FOR:?} each; milliseconds\n");
    println!(
        "callers                       open   publish p50    p99  ratio   connect p50    p99  ratio"
    );
    let alone = measure(address).await;
    row("none", 0, alone, alone);
    let beyond = connections * 5 / 4;
    let attacks = [
        ("silent", Attack::Silent, connections),
        ("1 byte in 10 s of a head", Attack::SlowHead, connections),
        ("1 byte in 10 s of a body", Attack::SlowBody, connections),
        ("idle", Attack::Idle, connections),
        ("silent, more than places", Attack::Silent, beyond),
        ("idle, more than places", Attack::Idle, beyond),
    ];
    let mut worst: f64 = 1.0;
    for (name, attack, count) in attacks.into_iter().filter(|(name, ..)| name.contains(&only)) {
        let open = Arc::new(AtomicUsize::new(0));
        let mut attackers = JoinSet::new();
        let count = within_open_files(count);
        for number in 0..count {
            // One after the other, so that they are not closed all at once either.
            let after = GATHERED_WITHIN.mul_f64(0.8 * number as f64 / count as f64);
            let open = Arc::clone(&open);
            attackers.spawn(async move {
                sleep(after).await;
                hold(address, attack, open).await;
            });
        }
        let gathered = async {
            while open.load(Ordering::Relaxed) < connections {
                sleep(Duration::from_millis(20)).await;
            }
        };
        // Fewer are an attack, too; how many they were is printed.
        let _ = timeout(GATHERED_WITHIN, gathered).await;
        let seen = measure(address).await;
        worst = worst.max(row(name, open.load(Ordering::Relaxed), seen, alone));
        attackers.shutdown().await;
    }
    let verdict = if worst <= RATIO_MAX { "met" } else { "missed" };
    println!("\np99 grows to {worst:.2} times at most; {RATIO_MAX} was promised: {verdict}");
}

/// As many connections as this process may have, with room for its own.
fn within_open_files(wanted: usize) -> usize {
    const OWN: u64 = 64;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + OWN;
    let granted = maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(granted), maximum });
    if raised.is_err() || granted < needed {
        println!("only {granted} open files are granted");
    }
    wanted.min(usize::try_from(granted.saturating_sub(OWN)).unwrap())
}

/// Starts the program on a store in this folder.
async fn start(folder: &Path) -> (Child, SocketAddr) {
    let example = std::env::current_exe().unwrap();
    let binary = example.parent().unwrap().parent().unwrap().join("postrider");
    let store = format!("sqlite:{}", folder.join("postrider.db").display());
    let mut child = Command::new(&binary)
        .args(["serve", "--listen", "127.0.0.1:0", "--store", &store, "--log", "error"])
        .env("POSTRIDER_OPERATOR_KEY", KEY)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; build it first", binary.display()));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(address) = line.strip_prefix("postrider is ready at http://") {
            return (child, address.parse().unwrap());
        }
    }
    panic!("it did not start");
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Sends a request and reads its answer; answers its status.
async fn ask(stream: &mut TcpStream, request: &str) -> io::Result<u16> {
    const ANSWER_BYTES_MAX: usize = 64 * 1024;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 || answer.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.and_then(|length| length.parse().ok()).unwrap_or(0) {
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
            return status.ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

/// Holds a connection in its way, and comes back when it is closed.
async fn hold(address: SocketAddr, attack: Attack, open: Arc<AtomicUsize>) {
    loop {
        // Come too fast, it waits in the system's queue like everybody.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            open.fetch_add(1, Ordering::Relaxed);
            let _ = keep(&mut stream, attack).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
        sleep(BACK_AFTER).await;
    }
}

/// Ends when the server closes.
async fn keep(stream: &mut TcpStream, attack: Attack) -> io::Result<()> {
    let mut trickle: &[u8] = &[];
    match attack {
        Attack::Silent => {}
        Attack::SlowHead => trickle = b"GET /healthz HTTP/1.1\r\nX-Slow: ",
        Attack::SlowBody => {
            let head = request("POST", "/api/v1/events", "");
            let head = head.replace("Content-Length: 0", "Content-Length: 200");
            stream.write_all(head.as_bytes()).await?;
            trickle = br#"{"account":"normal","type":"a.b","data":{}}"#;
        }
        Attack::Idle => {
            ask(stream, &request("GET", "/nowhere", "")).await?;
        }
    }
    let (mut from, mut to) = stream.split();
    let sending = async {
        for byte in trickle {
            to.write_all(&[*byte]).await?;
            sleep(TRICKLE).await;
        }
        std::future::pending().await
    };
    let reading = async {
        let mut buffer = [0; 1024];
        while from.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::select! { ended = sending => ended, ended = reading => ended }
}

/// p50 and p99 of publishing on a kept connection, and of a request on a new one.
type Figures = [[Duration; 2]; 2];

async fn measure(address: SocketAddr) -> Figures {
    let publish =
        request("POST", "/api/v1/events", r#"{"account":"normal","type":"a.b","data":{}}"#);
    let look = request("GET", "/healthz", "");
    let kept = paced(async |stream: &mut Option<TcpStream>| {
        // A kept connection that was closed is opened anew, and that counts.
        let mut open = match stream.take() {
            Some(open) => open,
            None => connect(address).await?,
        };
        assert_eq!(ask(&mut open, &publish).await?, 202);
        *stream = Some(open);
        Ok(())
    });
    let anew = paced(async |_| {
        assert_eq!(ask(&mut connect(address).await?, &look).await?, 200);
        Ok(())
    });
    let (kept, anew) = tokio::join!(kept, anew);
    [kept, anew]
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks in time, and again where it failed, since a client would.
async fn paced(
    mut ask: impl AsyncFnMut(&mut Option<TcpStream>) -> io::Result<()>,
) -> [Duration; 2] {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut took, mut stream) = (Vec::new(), None);
    let end = Instant::now() + MEASURED_FOR;
    while Instant::now() < end {
        let due = every.tick().await;
        while ask(&mut stream).await.is_err() {}
        took.push(due.elapsed());
    }
    took.sort_unstable();
    [50, 99].map(|percent| took[took.len() * percent / 100])
}

/// Prints a row; answers the worse of its ratios of p99.
fn row(name: &str, open: usize, seen: Figures, alone: Figures) -> f64 {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    let [publish, connect] = [0, 1].map(|client| ms(seen[client][1]) / ms(alone[client][1]));
    println!(
        "{name:28} {open:>5}   {:>11.2} {:>6.2} {publish:>6.2}   {:>11.2} {:>6.2} {connect:>6.2}",
        ms(seen[0][0]),
        ms(seen[0][1]),
        ms(seen[1][0]),
        ms(seen[1][1]),
    );
    publish.max(connect)
}
