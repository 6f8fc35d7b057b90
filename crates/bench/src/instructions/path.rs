//! The product's own path, played in one thread so that it comes out the same each time.
//!
//! Promise: everything the service consists of is in it (listener, routes, engine, embedded store,
//! sender over loopback sockets), and nothing stands in for anything. Publisher and receiver live in the same
//! thread and do as little as they can; what they cost is told apart by its source. Events come in
//! waves, and the store's writer gets each wave in two transactions and its attempts in two more:
//! whatever it should do next is kept from it by holding the file's write lock until all of it is
//! there. Neighbours: the parent runs this under callgrind, which writes down what it has counted
//! whenever [`played`] is called.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use domain::sealing::KeyRing;
use domain::target_url::UrlPolicy;
use engine::clock::SystemClock;
use engine::entropy::Entropy;
use engine::settings::Settings;
use engine::{Engine, Parts};
use http_sender::HttpSender;
use http_sender::dial::TcpDial;
use http_sender::resolve::HickoryResolver;
use http_sender::tls::Roots;
use rusqlite::Connection as Database;
use server::listen::{self, Intake};
use store::History as _;
use store::vault::{FillRandom, Vault};
use store_sqlite::SqliteStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::yield_now;

use crate::clock::pause;
use crate::publisher::{EVENT_TYPE, publish_request};
use crate::service::{OPERATOR_KEY, endpoint_url};
use crate::wire::{Connection, extent, request};

/// The name of [`played`], as callgrind looks for it.
pub(super) const MARK: &str = "instructions::path::played";

/// Events in a wave: what a transaction carries when 64 publishers keep the service busy, and what
/// is on its way to one endpoint at most.
const WAVE_EVENTS: usize = 32;

/// Waves before those that are counted, for each load: connections, caches and pages come about.
const WARM_UP_WAVES: usize = 3;

/// Turns of the scheduler after which nothing that could go on has not: each lets every task run
/// that can, and looks at the sockets. An event takes about ten, however many there are.
const TURNS_TO_SETTLE: usize = 32;

/// Turns after which something counts as stuck.
const TURNS_MAX: usize = 100_000;

/// How long the store may take before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What is played.
pub(super) struct Load {
    pub(super) name: &'static str,
    endpoints: usize,
    waves: usize,
}

impl Load {
    /// How many events are counted.
    pub(super) fn events(&self) -> usize {
        self.waves * WAVE_EVENTS
    }

    fn account(&self) -> String {
        format!("account{}", self.endpoints)
    }
}

/// Every load, in the order in which they are played.
pub(super) const LOADS: [Load; 3] = [
    Load { name: "accepted only", endpoints: 0, waves: 12 },
    Load { name: "1 delivery", endpoints: 1, waves: 12 },
    Load { name: "10 deliveries", endpoints: 10, waves: 3 },
];

/// Plays every load on a store in the folder.
pub(crate) fn run(folder: &Path) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(play(folder))
}

async fn play(folder: &Path) -> Result<()> {
    let (received, receiver) = receive().await?;
    let mut scene = Scene::set(folder, received).await?;
    for load in &LOADS {
        scene.furnish(load, receiver).await?;
    }
    let mut publishers: Vec<Publisher> = Vec::with_capacity(WAVE_EVENTS);
    for _ in 0..WAVE_EVENTS {
        publishers.push(Publisher::open(scene.intake.address())?);
    }
    for load in &LOADS {
        scene.play(load, WARM_UP_WAVES, &mut publishers).await?;
    }
    played("warm-up");
    for load in &LOADS {
        scene.play(load, load.waves, &mut publishers).await?;
        played(load.name);
    }
    Ok(())
}

/// Callgrind writes down what it has counted whenever this is called.
#[inline(never)]
fn played(load: &str) {
    std::hint::black_box(load);
}

/// The service, and what holds its writer back.
struct Scene {
    store: Arc<SqliteStore>,
    intake: Intake,
    /// Deliveries that came.
    received: Arc<AtomicUsize>,
    /// A connection of our own to the store's file, which has its write lock while [`Self::hold`]
    /// holds.
    lock: Database,
    _engine: Engine,
}

impl Scene {
    async fn set(folder: &Path, received: Arc<AtomicUsize>) -> Result<Self> {
        let file = folder.join("path.db");
        let chance = Arc::new(Sequence::default());
        let filled = Arc::clone(&chance);
        let fill: FillRandom = Arc::new(move |bytes| filled.fill(bytes));
        let vault = Arc::new(Vault::new(KeyRing::of(Vault::make_key(&fill)), fill));
        let store = Arc::new(SqliteStore::open(&file, vault)?);
        let mut urls = UrlPolicy { allow_http: true, ..UrlPolicy::default() };
        urls.addresses.allowed.push("127.0.0.0/8".parse().context("a network")?);
        let resolver = Arc::new(HickoryResolver::from_servers(&[]));
        let sender = HttpSender::new(urls.clone(), resolver, Arc::new(TcpDial), Roots::none());
        let settings = Settings {
            urls,
            bootstrap_operator_key: Some(OPERATOR_KEY.to_owned()),
            ..Settings::default()
        };
        let parts = Parts {
            store: Arc::clone(&store) as store::SharedStore,
            sender: Arc::new(sender),
            clock: Arc::new(SystemClock),
            entropy: chance,
            sealing: None,
            spans: None,
            settings,
        };
        let (engine, _) = Engine::start(parts).await?;
        let routes = api::router(engine.clone(), api::ApiSettings::default());
        let listener = listen::take(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let intake = Intake::start(listener, |_| routes)?;
        let lock = Database::open(&file).context("opening the store's file")?;
        Ok(Self { store, intake, received, lock, _engine: engine })
    }

    /// Creates the account of a load, and its endpoints.
    async fn furnish(&self, load: &Load, receiver: SocketAddr) -> Result<()> {
        let address = self.intake.address();
        let mut connection = Connection::open(address).await?;
        let mut post = async |path: &str, body: &str| -> Result<serde_json::Value> {
            let request = request("POST", path, address, OPERATOR_KEY, body);
            let answer = connection.exchange(&request).await?;
            let text = String::from_utf8_lossy(answer.body);
            ensure!(answer.status == 201, "POST {path} was answered {}: {text}", answer.status);
            serde_json::from_slice(answer.body).context("reading what was created")
        };
        let account = format!(r#"{{"username":"{}","contract":"jogg_v2"}}"#, load.account());
        let created = post("/api/v1/accounts", &account).await?;
        let id = created["id"].as_str().context("an account has an id")?;
        for number in 0..load.endpoints {
            let url = endpoint_url(receiver, number);
            let endpoint = format!(r#"{{"url":"{url}","events":["{EVENT_TYPE}"]}}"#);
            post(&format!("/api/v1/accounts/{id}/endpoints"), &endpoint).await?;
        }
        Ok(())
    }

    async fn play(
        &mut self,
        load: &Load,
        waves: usize,
        publishers: &mut [Publisher],
    ) -> Result<()> {
        let request = publish_request(self.intake.address(), OPERATOR_KEY, &load.account());
        for _ in 0..waves {
            let received = self.received.load(Ordering::Relaxed);
            self.hold()?;
            for publisher in publishers.iter_mut() {
                publisher.send(&request)?;
            }
            settle().await;
            self.let_write(publishers.len() as u64).await?;
            self.hold()?;
            settle().await;
            self.hear_accepted(publishers).await?;
            let expected = received + load.endpoints * publishers.len();
            self.await_received(expected).await?;
            settle().await;
            self.let_write(u64::from(load.endpoints > 0)).await?;
            settle().await;
            self.await_recorded().await?;
        }
        Ok(())
    }

    /// Keeps the store's writer from beginning a transaction.
    fn hold(&self) -> Result<()> {
        self.lock.execute_batch("BEGIN IMMEDIATE").context("taking the store's write lock")
    }

    /// Lets the writer go, and lets nothing else happen until so many more requests are durable.
    async fn let_write(&self, requests: u64) -> Result<()> {
        let expected = self.store.statistics().requests + requests;
        self.lock.execute_batch("ROLLBACK").context("giving the store's write lock back")?;
        let mut waited = Duration::ZERO;
        while self.store.statistics().requests < expected {
            ensure!(waited < STUCK_AFTER, "the store does not move");
            pause(LOOKED_EVERY);
            waited += LOOKED_EVERY;
            if waited > LATE_AFTER {
                // Something was not there yet when all should have been.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits for the answers to a wave.
    async fn hear_accepted(&self, publishers: &mut [Publisher]) -> Result<()> {
        let mut turns = 0;
        for publisher in publishers {
            while !publisher.hears_accepted()? {
                turns += 1;
                ensure!(turns < TURNS_MAX, "answers are missing");
                if turns % (8 * TURNS_TO_SETTLE) == 0 {
                    // The store counted something else, and one of the wave still waits for it.
                    self.let_write(0).await?;
                    pause(LATE_AFTER);
                    self.hold()?;
                }
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits until this many deliveries came.
    async fn await_received(&self, expected: usize) -> Result<()> {
        let mut turns = 0;
        while self.received.load(Ordering::Relaxed) < expected {
            ensure!(turns < TURNS_MAX, "deliveries are missing");
            turns += 1;
            yield_now().await;
        }
        Ok(())
    }

    /// Waits until everything that came of the wave is written down.
    async fn await_recorded(&self) -> Result<()> {
        let mut waited = Duration::ZERO;
        while self.store.counts().await?.pending > 0 {
            ensure!(waited < STUCK_AFTER, "attempts stay unrecorded");
            pause(LATE_AFTER);
            waited += LATE_AFTER;
            settle().await;
        }
        Ok(())
    }
}

/// How often the store is looked at that is to write.
const LOOKED_EVERY: Duration = Duration::from_millis(2);

/// After this long, waiting cannot have been enough.
const LATE_AFTER: Duration = Duration::from_millis(50);

/// Lets every task go on as far as it can.
async fn settle() {
    for _ in 0..TURNS_TO_SETTLE {
        yield_now().await;
    }
}

/// A publisher's connection, without a runtime: what it sends and hears waits in the socket.
struct Publisher {
    stream: TcpStream,
}

impl Publisher {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        // This thread makes the answers; it must not wait for them.
        stream.set_nonblocking(true)?;
        Ok(Self { stream })
    }

    fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).context("publishing")
    }

    /// Whether the answer has come, which must be 202.
    fn hears_accepted(&mut self) -> Result<bool> {
        let mut answer = [0; 1024];
        let read = match self.stream.read(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            read => read.context("hearing of a publish")?,
        };
        let answer = &answer[..read];
        ensure!(
            answer.starts_with(b"HTTP/1.1 202"),
            "publishing was answered {}",
            String::from_utf8_lossy(answer)
        );
        Ok(true)
    }
}

/// Starts a receiver in this thread; answers how many deliveries came, and where it listens.
async fn receive() -> Result<(Arc<AtomicUsize>, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut buffer = Vec::with_capacity(16 * 1024);
                while stream.read_buf(&mut buffer).await? > 0 {
                    if extent(&buffer)?.is_some_and(|extent| buffer.len() >= extent.message) {
                        buffer.clear();
                        counted.fetch_add(1, Ordering::Relaxed);
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await?;
                    }
                }
                Ok::<_, anyhow::Error>(())
            });
        }
    });
    Ok((received, address))
}

/// Chance that is the same in each run: SplitMix64 (Steele, Lea, Flood: "Fast splittable
/// pseudorandom number generators").
#[derive(Debug, Default)]
struct Sequence(AtomicU64);

impl Entropy for Sequence {
    fn fill(&self, bytes: &mut [u8]) {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for eight in bytes.chunks_mut(8) {
            let mut bits = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            eight.copy_from_slice(&(bits ^ (bits >> 31)).to_be_bytes()[..eight.len()]);
        }
    }
}
