//! Acknowledgements cut off: the event is stored, and its publisher does not know. Repeated under its
//! idempotency key, any number of times, it is still one event.
//!
//! Publishers ask through a proxy of their own that cuts the connection: before a byte of the answer
//! comes through, in the middle of it, or as soon as the request is sent, so that its repeat races it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use serde_json::json;
use testkit::auditor::Bounds;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::Connection;
use crate::disk::Chance;
use crate::plan::Plan;
use crate::producer::{Publication, Target};
use crate::records::{Log, Outcome};
use crate::report::Report;
use crate::stage::Stage;

/// Publishers, each with a proxy of its own.
const PUBLISHERS: u64 = 8;

/// Cuts in a row that an event may suffer.
const CUTS_OF_AN_EVENT_MAX: u64 = 3;

/// How many per cent of the cuts must have been of an answer that was there.
const ANSWERED_PERCENT: u64 = 50;

/// How long what is pending may take.
const DRAIN_MAX: Duration = Duration::from_mins(1);

/// Runs it.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let cuts = plan.cycles(100, 1_000);
    let mut stage = Stage::new(plan, "acknowledgements").await?;
    let service = stage.launch(plan).start().await?;
    stage.furnish(&service, 1, &json!({})).await?;
    let mut publishers = JoinSet::new();
    for number in 0..PUBLISHERS.min(cuts) {
        let publisher = Publisher {
            number,
            cuts: cuts / PUBLISHERS + u64::from(number < cuts % PUBLISHERS),
            chance: plan.chance(number),
            target: stage.targets[0].clone(),
            log: Arc::clone(&stage.published),
            proxy: Proxy::start(service.address).await?,
            found: Report::new("acknowledgements", plan),
            answered: 0,
        };
        publishers.spawn(publisher.run());
    }
    let mut report = Report::new("acknowledgements", plan);
    let mut answered = 0;
    while let Some(found) = publishers.join_next().await {
        let found = found??;
        answered += found.answered;
        report.merge(found.found);
    }
    let injected = report.injected;
    report.sometimes("cuts of an answer that was there", answered, injected, ANSWERED_PERCENT);
    // Cuts repeat requests, and repeats are no new events: nothing may come twice.
    stage.judge(&mut report, "at the end", &service, Bounds::STRICT, DRAIN_MAX).await?;
    service.stop().await?;
    Ok(report)
}

/// A publisher behind a proxy.
struct Publisher {
    number: u64,
    /// How many answers are to be cut.
    cuts: u64,
    chance: Chance,
    target: Target,
    log: Arc<Log>,
    proxy: Proxy,
    found: Report,
    /// How many cuts were of an answer that was there.
    answered: u64,
}

impl Publisher {
    async fn run(mut self) -> Result<Self> {
        while self.found.injected < self.cuts {
            let key = format!("{}-{}-{}", self.found.seed, self.number, self.found.cycles);
            let publication = Publication::new(&self.target, &key, self.chance.between(64..4_096));
            let cuts = self.chance.between(1..CUTS_OF_AN_EVENT_MAX + 1);
            for _ in 0..cuts.min(self.cuts - self.found.injected) {
                self.ask_and_be_cut(&publication).await?;
            }
            self.ask_to_the_end(publication).await?;
            self.found.cycles += 1;
        }
        Ok(self)
    }

    async fn ask_and_be_cut(&mut self, publication: &Publication) -> Result<()> {
        let cut = match self.chance.below(4) {
            0 => Cut::BeforeTheAnswer,
            1 => Cut::After(self.chance.between(1..120)),
            _ => Cut::After(0),
        };
        self.proxy.shared.cut.store(cut.encoded(), Ordering::SeqCst);
        let answers = self.proxy.shared.answers.load(Ordering::SeqCst);
        let mut connection = Connection::open(self.proxy.address).await.context("the proxy")?;
        let told = publication.ask(&mut connection, &self.log).await;
        self.found.must(told.outcome == Outcome::Unknown, || format!("a cut told {told:?}"));
        self.found.injected += 1;
        self.answered += self.proxy.shared.answers.load(Ordering::SeqCst) - answers;
        Ok(())
    }

    /// Repeats it without a cut, twice, and then with another body.
    async fn ask_to_the_end(&mut self, publication: Publication) -> Result<()> {
        self.proxy.shared.cut.store(Cut::Never.encoded(), Ordering::SeqCst);
        let mut connection = Connection::open(self.proxy.address).await.context("the proxy")?;
        let first = publication.ask(&mut connection, &self.log).await;
        let again = publication.ask(&mut connection, &self.log).await;
        let key = &publication.key;
        self.found.must(first.event.is_some() && first.event == again.event, || {
            format!("{key} was answered {first:?}, and again {again:?}")
        });
        let other = publication.body.replace("xx", "yx");
        let headers = [("idempotency-key", key.as_str())];
        let answer = connection.send(Method::POST, "/api/v1/events", &headers, other).await?;
        self.found.must([409, 422].contains(&answer.status), || {
            format!("{key} with another body was answered {}: {}", answer.status, answer.text)
        });
        Ok(())
    }
}

/// When to cut a connection.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Never,
    /// As soon as the request has gone through.
    BeforeTheAnswer,
    /// When the answer is there, after so many bytes of it.
    After(u64),
}

impl Cut {
    fn encoded(self) -> u64 {
        match self {
            Self::Never => u64::MAX,
            Self::BeforeTheAnswer => u64::MAX - 1,
            Self::After(bytes) => bytes,
        }
    }

    fn decoded(code: u64) -> Self {
        match code {
            u64::MAX => Self::Never,
            code if code == u64::MAX - 1 => Self::BeforeTheAnswer,
            bytes => Self::After(bytes),
        }
    }
}

/// A TCP proxy that cuts.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    cut: AtomicU64,
    /// Answers that came and were cut.
    answers: AtomicU64,
}

impl Proxy {
    async fn start(service: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a proxy")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let of_connections = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((publisher, _)) = listener.accept().await {
                let shared = Arc::clone(&of_connections);
                // An error is the end of a connection, like every other end.
                tokio::spawn(async move { shared.pass(publisher, service).await });
            }
        });
        Ok(Self { address, shared, accepting })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Passes bytes on until one side ends or it is time to cut, which is when both are dropped.
    async fn pass(&self, mut publisher: TcpStream, service: SocketAddr) -> std::io::Result<()> {
        let cut = Cut::decoded(self.cut.load(Ordering::SeqCst));
        let mut service = TcpStream::connect(service).await?;
        service.set_nodelay(true)?;
        let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                read = publisher.read(&mut asked) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    service.write_all(&asked[..read]).await?;
                    // Requests are small enough to come in one piece.
                    if matches!(cut, Cut::BeforeTheAnswer) {
                        return Ok(());
                    }
                }
                read = service.read(&mut answered) => {
                    let read = read?;
                    if read == 0 {
                        return Ok(());
                    }
                    if let Cut::After(bytes) = cut {
                        self.answers.fetch_add(1, Ordering::SeqCst);
                        let through = read.saturating_sub(1).min(bytes as usize);
                        return publisher.write_all(&answered[..through]).await;
                    }
                    publisher.write_all(&answered[..read]).await?;
                }
            }
        }
    }
}
