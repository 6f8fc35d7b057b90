//! The publishers: ask, note what they were told, and go on whatever happens to the service.
//!
//! Promise: a line stands in the log before and after every request; no two events have the same
//! data, so that its SHA-256 names the event, and each has an idempotency key of its own. A request
//! that ends without an answer may be repeated under its key, as a careful publisher does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde_json::Value;
use testkit::auditor::{Digest, digest};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::{Answer, Connection};
use crate::disk::Chance;
use crate::records::{Log, Outcome, Published, hex};

/// How long to wait after a connection was refused or broke.
const BROKEN_PAUSE: Duration = Duration::from_millis(5);

/// How often a request without an answer is repeated at most.
const REPEATS_MAX: u32 = 20;

/// Where the service is; `None` while it is nowhere.
pub(crate) type Whereabouts = watch::Receiver<Option<SocketAddr>>;

/// An account to publish for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The account's id.
    pub(crate) account: String,
    /// An event type that its endpoints want.
    pub(crate) event_type: String,
    /// The paths of these endpoints.
    pub(crate) paths: Vec<String>,
    /// The ordering key, if its events are to stay in order.
    pub(crate) ordering_key: Option<String>,
}

/// How to publish.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Connections that publish at once.
    pub(crate) connections: usize,
    /// Events a second, by the clock, whatever the answers take; `None` for one after the other on
    /// each connection.
    pub(crate) per_second: Option<f64>,
    /// The size of an event's data, in bytes: from, to.
    pub(crate) data_bytes: (u64, u64),
    /// How many per cent of the requests without an answer are repeated under their key.
    pub(crate) repeated_percent: u64,
    /// Decides about sizes, targets and repeats, and makes keys unlike those of other seeds.
    pub(crate) seed: u64,
}

impl Load {
    /// One after the other on so many connections, small events; half of the requests without an
    /// answer are repeated.
    pub(crate) fn closed(connections: usize, seed: u64) -> Self {
        Self { connections, per_second: None, data_bytes: (64, 1024), repeated_percent: 50, seed }
    }

    /// So many events a second.
    pub(crate) fn at_rate(per_second: f64, connections: usize, seed: u64) -> Self {
        Self { per_second: Some(per_second), ..Self::closed(connections, seed) }
    }
}

/// One event, ready to be asked for any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// Its idempotency key.
    pub(crate) key: String,
    /// The digest of its data.
    pub(crate) data: Digest,
    /// The body of the request.
    pub(crate) body: String,
    /// The paths it is owed to.
    pub(crate) paths: Vec<String>,
}

impl Publication {
    /// The event with this key, whose data is of about that size.
    pub(crate) fn new(target: &Target, key: &str, data_bytes: u64) -> Self {
        let filling = "x".repeat((data_bytes as usize).saturating_sub(key.len() + 24));
        let data = format!(r#"{{"key":"{key}", "filling":"{filling}"}}"#);
        let Target { account, event_type, .. } = target;
        let ordering_key = target
            .ordering_key
            .as_ref()
            .map_or(String::new(), |ordering_key| format!(r#","ordering_key":"{ordering_key}""#));
        let body = format!(
            r#"{{"account":"{account}","type":"{event_type}"{ordering_key},"data":{data}}}"#
        );
        let paths = target.paths.clone();
        Self { key: key.to_owned(), data: digest(data.as_bytes()), body, paths }
    }

    /// Asks for it on this connection and notes how that ended.
    pub(crate) async fn ask(&self, connection: &mut Connection, log: &Log) -> Told {
        log.write(&Published::Asking {
            key: self.key.clone(),
            data_sha256: hex(&self.data),
            paths: self.paths.clone(),
            at_ms: log.now_ms(),
        });
        let headers = [("idempotency-key", self.key.as_str())];
        let answer =
            connection.send(Method::POST, "/api/v1/events", &headers, self.body.clone()).await;
        let told = Told::from(answer);
        log.write(&Published::Told {
            key: self.key.clone(),
            outcome: told.outcome,
            event: told.event.clone(),
            status: told.answer.as_ref().map(|answer| answer.status),
            at_ms: log.now_ms(),
        });
        told
    }
}

/// What a publisher was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// How the request ended.
    pub(crate) outcome: Outcome,
    /// The event's id, if acknowledged.
    pub(crate) event: Option<String>,
    /// The answer, if there was one.
    pub(crate) answer: Option<Answer>,
}

impl From<Result<Answer>> for Told {
    fn from(answer: Result<Answer>) -> Self {
        let Ok(answer) = answer else {
            return Self { outcome: Outcome::Unknown, event: None, answer: None };
        };
        let event = serde_json::from_str::<Value>(&answer.text)
            .ok()
            .and_then(|receipt| Some(receipt["id"].as_str()?.to_owned()));
        let outcome = match answer.status {
            200..=299 => Outcome::Acknowledged,
            400..=499 => Outcome::Refused,
            // Held to it: what is said not to have changed anything must not arrive.
            _ if answer.text.contains("nothing was changed") => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        let event = event.filter(|_| outcome == Outcome::Acknowledged);
        Self { outcome, event, answer: Some(answer) }
    }
}

/// Publishers at work.
pub(crate) struct Producer {
    shared: Arc<Shared>,
    publishers: JoinSet<()>,
}

struct Shared {
    load: Load,
    targets: Vec<Target>,
    log: Arc<Log>,
    whereabouts: Whereabouts,
    stopping: AtomicBool,
    begun: AtomicU64,
    in_flight: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    unknown: AtomicU64,
    begun_at: Instant,
}

impl Producer {
    /// Begins to publish.
    pub(crate) fn start(
        load: Load,
        targets: Vec<Target>,
        log: Arc<Log>,
        whereabouts: Whereabouts,
    ) -> Self {
        let shared = Arc::new(Shared {
            load,
            targets,
            log,
            whereabouts,
            stopping: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            begun_at: Instant::now(),
        });
        let mut publishers = JoinSet::new();
        for number in 0..load.connections {
            let shared = Arc::clone(&shared);
            let chance = Chance::new(load.seed ^ Chance::new(number as u64).next());
            publishers.spawn(async move { shared.publish(chance).await });
        }
        Self { shared, publishers }
    }

    /// Requests acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Requests refused so far.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Requests that wait for their answer now.
    pub(crate) fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Begins no more, and waits until what was begun has ended. Whatever waits for a service that
    /// is nowhere ends at once, as unknown.
    pub(crate) async fn stop(mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        while self.publishers.join_next().await.is_some() {}
    }
}

impl Shared {
    async fn publish(&self, mut chance: Chance) {
        let mut connection = None;
        while !self.is_stopping() {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if !self.is_time_for(number).await {
                return;
            }
            let (from, to) = self.load.data_bytes;
            let bytes = chance.between(from..to + 1);
            let target = &self.targets[chance.below(self.targets.len() as u64) as usize];
            let key = format!("{:016x}-{number}", self.load.seed);
            let publication = Publication::new(target, &key, bytes);
            let repeats = u32::from(chance.below(100) < self.load.repeated_percent) * REPEATS_MAX;
            self.see_through(&publication, repeats, &mut connection).await;
        }
    }

    /// Asks, and repeats under the same key as often as that, until it is answered.
    async fn see_through(
        &self,
        publication: &Publication,
        repeats: u32,
        connection: &mut Option<Connection>,
    ) {
        for _ in 0..=repeats {
            let Some(open) = self.connected(connection).await else { return };
            self.in_flight.fetch_add(1, Ordering::Relaxed);
            let told = publication.ask(open, &self.log).await;
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            let count = match told.outcome {
                Outcome::Acknowledged => &self.acknowledged,
                Outcome::Refused => &self.refused,
                Outcome::Unknown => &self.unknown,
            };
            count.fetch_add(1, Ordering::Relaxed);
            if told.outcome == Outcome::Acknowledged {
                return;
            }
            let closes = |answer: &Answer| {
                answer.headers.get("connection").is_some_and(|value| value == "close")
            };
            if told.answer.as_ref().is_none_or(closes) {
                *connection = None;
            }
            tokio::time::sleep(BROKEN_PAUSE).await;
            if told.outcome == Outcome::Refused {
                return;
            }
        }
    }

    /// The open connection, or a new one as soon as there is a service; `None` once stopping.
    async fn connected<'a>(
        &self,
        connection: &'a mut Option<Connection>,
    ) -> Option<&'a mut Connection> {
        while connection.is_none() {
            if self.is_stopping() {
                return None;
            }
            let address = *self.whereabouts.borrow();
            if let Some(address) = address {
                *connection = Connection::open(address).await.ok();
            }
            if connection.is_none() {
                tokio::time::sleep(BROKEN_PAUSE).await;
            }
        }
        connection.as_mut()
    }

    /// Waits until the event of this number is to be published; not so once stopping.
    async fn is_time_for(&self, number: u64) -> bool {
        if let Some(per_second) = self.load.per_second {
            let at = self.begun_at + Duration::from_secs_f64(number as f64 / per_second);
            while Instant::now() < at && !self.is_stopping() {
                tokio::time::sleep_until(at.min(Instant::now() + Duration::from_millis(50))).await;
            }
        }
        !self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}
