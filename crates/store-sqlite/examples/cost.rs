//! What an event costs in the store: accepted with its deliveries, each recorded as delivered.
//!
//! `cargo run --release -p store-sqlite --example cost -- [DIRECTORY [LOAD [EVENTS]]]` prints, for
//! several loads or the one that is named, events a second, CPU of the writer's thread and of the
//! process, bytes written and commits, all per event, beside the floor: the same rows by bare SQLite
//! in the plainest schema.
//!
//! What a load of one publisher executes is nearly the same each time, so instructions tell what
//! noise on a machine hides: those of 9,600 events less those of 3,200, for instance.
//!
//! ```sh
//! cargo build --profile quick -p store-sqlite --example cost
//! for events in 3200 9600; do
//!     valgrind --tool=callgrind target/quick/examples/cost /tmp '1 × 1, calls of 64' $events
//! done
//! ```

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures")]
#![expect(clippy::unwrap_used, reason = "it stops at the first error")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::account::{Account, Username};
use domain::attempt::{Attempt, Outcome, Phases};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::contract::Contract;
use domain::delivery::Transition;
use domain::endpoint::Endpoint;
use domain::event::{Event, EventType};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId};
use domain::secret::SigningSecret;
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use rusqlite::{Connection, params};
use store::catalogue::{Catalogue as _, KeyRecord};
use store::history::History as _;
use store::queue::{AttemptRecord, Lease, NewDelivery, NewEvent, Queue as _, SessionId};
use store::vault::a_vault;
use store_sqlite::SqliteStore;

const EVENTS: usize = 64_000;
const FLOORS: [(&str, usize); 2] = [("floor, groups of 64", 64), ("floor, groups of 256", 256)];
const BODY_BYTES: usize = 1_024;
const REQUEST_HEAD: &str = "POST /hooks HTTP/1.1\nhost: hooks.customer.com\n\
    content-type: application/json\nuser-agent: Postrider/0.1.0\ncontent-length: 1024\n\
    webhook-id: evt_0190d5a5c0de7000800000000000abcd\nwebhook-timestamp: 1732806631\n\
    webhook-signature: v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let parent = arguments.get(1).map_or_else(std::env::temp_dir, Into::into);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let only = arguments.get(2);
    let events = arguments.get(3).map_or(EVENTS, |events| events.parse().unwrap());
    println!("{events} events, {BODY_BYTES} bytes each, in {}", parent.display());
    println!(
        "load                         events/s  writer µs  process µs  bytes  events/commit  commit ms"
    );
    for (name, batch) in FLOORS {
        if only.is_none_or(|only| only == name) {
            floor(&parent, events, name, batch);
        }
    }
    for load in [
        Load { name: "1 × 1, calls of 64", endpoints: 1, fan_out: 1, publishers: 1, call: 64 },
        Load { name: "1 × 10, calls of 64", endpoints: 10, fan_out: 10, publishers: 1, call: 64 },
        Load { name: "1 × 1, 64 publishers", endpoints: 1, fan_out: 1, publishers: 64, call: 1 },
        Load {
            name: "100 × 1, 64 publishers",
            endpoints: 100,
            fan_out: 1,
            publishers: 64,
            call: 1,
        },
        Load {
            name: "1 × 10, 64 publishers", endpoints: 10, fan_out: 10, publishers: 64, call: 1
        },
    ] {
        if only.is_none_or(|only| only == load.name) {
            runtime.block_on(measure(&parent, events, load));
        }
    }
}

#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    endpoints: usize,
    /// Deliveries per event; with 1, each endpoint has an account of its own.
    fan_out: usize,
    publishers: usize,
    call: usize,
}

async fn measure(parent: &Path, events: usize, load: Load) {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let store = Arc::new(SqliteStore::open(&directory.path().join("cost.db"), a_vault()).unwrap());
    let session = store.begin_session(Timestamp::from_millis(i64::MAX)).await.unwrap();
    let lanes = Arc::new(lanes(&store, load).await);
    let before = Usage::now();
    let begun_at = Instant::now();
    let statistics_before = store.statistics();
    let tasks: Vec<_> = (0..load.publishers)
        .map(|publisher| {
            let (store, lanes) = (Arc::clone(&store), Arc::clone(&lanes));
            tokio::spawn(publish(store, lanes, session, load, publisher, events / load.publishers))
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let took = begun_at.elapsed();
    let statistics = store.statistics();
    let commits = statistics.commits - statistics_before.commits;
    let used = Usage::now().since(&before);
    let commit = statistics.commit_total / statistics.commits as u32;
    print(load.name, events, took, &used, commits, commit);
    assert_eq!(store.counts().await.unwrap().delivered, (events * load.fan_out) as u64);
    store.close().await.unwrap();
}

fn print(name: &str, events: usize, took: Duration, used: &Usage, commits: u64, commit: Duration) {
    let events = events as f64;
    println!(
        "{name:28} {:8.0}  {:9.2}  {:10.2}  {:5.0}  {:13.1}  {:9.2}",
        events / took.as_secs_f64(),
        used.writer.as_secs_f64() * 1e6 / events,
        used.process.as_secs_f64() * 1e6 / events,
        used.bytes_written as f64 / events,
        events / commits as f64,
        commit.as_secs_f64() * 1e3,
    );
}

async fn publish(
    store: Arc<SqliteStore>,
    lanes: Arc<Vec<Lane>>,
    session: SessionId,
    load: Load,
    publisher: usize,
    mut left: usize,
) {
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    let event_type = EventType::parse("video.created").unwrap();
    let mut number = publisher;
    let mut accepted = Vec::new();
    while left > 0 || !accepted.is_empty() {
        let mut leases = Vec::new();
        let events = (0..load.call.min(left))
            .map(|_| {
                number += load.publishers;
                let lane = &lanes[number % lanes.len()];
                let deliveries = lane.deliveries(number);
                leases.extend(deliveries.iter().map(|delivery| Lease {
                    session,
                    delivery: delivery.id,
                    fence: 1,
                }));
                NewEvent {
                    event: Event {
                        id: EventId::from_u128(id(number)),
                        account: lane.account,
                        event_type: event_type.clone(),
                        timestamp: now(),
                        entity_ids: Vec::new(),
                        accepted_at: now(),
                        deliver_at: None,
                        ordering_key: None,
                        trace: None,
                    },
                    body: body.clone(),
                    data: 100..1_000,
                    deliveries,
                    not_made: Vec::new(),
                    roster_version: lane.roster_version,
                    idempotency: None,
                }
            })
            .collect::<Vec<_>>();
        left -= events.len();
        // As the product: the deliveries of one event are recorded while the next is accepted.
        let attempts = std::mem::replace(&mut accepted, leases).into_iter().map(delivered);
        let recorded = store.record(attempts.collect());
        if events.is_empty() {
            recorded.await.unwrap();
        } else {
            let (answers, recorded) = tokio::join!(store.accept(session, events), recorded);
            answers.unwrap();
            recorded.unwrap();
        }
    }
}

fn delivered(lease: Lease) -> AttemptRecord {
    AttemptRecord {
        lease,
        attempt: Attempt {
            number: 1,
            at: now(),
            duration: Duration::from_micros(12_345),
            phases: Phases { first_byte: Duration::from_micros(11_111), ..Phases::default() },
            outcome: Outcome::Answered { status: 200, retry_after: None },
            request_head: REQUEST_HEAD.to_owned(),
            response_excerpt: b"ok".to_vec(),
            next_at: None,
        },
        transition: Transition::Delivered,
    }
}

/// Whom an event goes to.
struct Lane {
    account: AccountId,
    roster_version: u64,
    endpoints: Vec<EndpointId>,
}

impl Lane {
    fn deliveries(&self, number: usize) -> Vec<NewDelivery> {
        let made = self.endpoints.iter().enumerate().map(|(index, endpoint)| NewDelivery {
            id: DeliveryId::from_u128(id(number * self.endpoints.len() + index)),
            endpoint: *endpoint,
            leased: true,
            ordering_key: None,
        });
        made.collect()
    }
}

async fn lanes(store: &SqliteStore, load: Load) -> Vec<Lane> {
    let mut lanes = Vec::new();
    for number in 0..load.endpoints / load.fan_out {
        let account = Account {
            id: AccountId::from_u128(id(number)),
            username: Username::parse(&format!("user{number}")).unwrap(),
            contract: Contract::Standard,
            plan: None,
            credits: None,
            api_access: true,
            created_at: now(),
        };
        let key = KeyRecord {
            id: KeyId::from_u128(id(number)),
            account: Some(account.id),
            public_part: number.to_string(),
            hash: [0; 32],
            created_at: now(),
            last_used_at: None,
        };
        store.create_account(account.clone(), key, note()).await.unwrap();
        for index in 0..load.fan_out {
            let id = EndpointId::from_u128(id(number * load.fan_out + index));
            store.create_endpoint(endpoint(&account, id), 1_000, note()).await.unwrap();
        }
        let roster = store.read_roster(account.id).await.unwrap().unwrap();
        lanes.push(Lane {
            account: account.id,
            roster_version: roster.version,
            endpoints: roster.endpoints.iter().map(|endpoint| endpoint.id).collect(),
        });
    }
    lanes
}

fn endpoint(account: &Account, id: EndpointId) -> Endpoint {
    Endpoint::new(
        id,
        account,
        TargetUrl::from_stored("https://hooks.customer.com/in").unwrap(),
        SigningSecret::from_random(&[7; 24]),
        now(),
    )
}

/// Ids as the product makes them: in order of time, the low bits at random.
fn id(number: usize) -> u128 {
    let number = number as u128;
    let time_and_counter = (0x0190_d5a5_c0de << 16) + number;
    time_and_counter << 64 | (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0xffff_ffff_ffff_fff0)
}

fn note() -> AuditNote {
    AuditNote {
        at: now(),
        actor: Actor::System,
        action: AuditAction::EndpointCreated,
        account: None,
        subject: String::new(),
        details: "{}".to_owned(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_seconds(1_732_806_631)
}

/// The same rows by bare SQLite: an event, a delivery; then its end and an attempt.
fn floor(parent: &Path, events: usize, name: &str, batch: usize) {
    let directory = tempfile::tempdir_in(parent).unwrap();
    let connection = Connection::open(directory.path().join("floor.db")).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    connection.pragma_update(None, "synchronous", "full").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE events (id INTEGER PRIMARY KEY, name BLOB, type TEXT, body BLOB);
             CREATE TABLE deliveries (id INTEGER PRIMARY KEY, event INTEGER, endpoint INTEGER,
                 state INTEGER, attempts INTEGER, due_at INTEGER, created_at INTEGER);
             CREATE TABLE attempts (id INTEGER PRIMARY KEY, delivery INTEGER, at INTEGER,
                 duration INTEGER, status INTEGER, head TEXT, excerpt BLOB);",
        )
        .unwrap();
    let (before, begun_at) = (Usage::now(), Instant::now());
    let body = vec![b'x'; BODY_BYTES];
    let mut commits = 0;
    let mut commit_total = Duration::ZERO;
    let mut commit = |connection: &Connection| {
        let begun_at = Instant::now();
        connection.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
        commits += 1;
        commit_total += begun_at.elapsed();
    };
    for first in (0..events).step_by(batch) {
        let numbers = first as i64..(first + batch) as i64;
        connection.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
        for number in numbers.clone() {
            let mut insert =
                connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)").unwrap();
            insert
                .execute(params![number, id(number as usize).to_be_bytes(), "video.created", body])
                .unwrap();
            let mut insert = connection
                .prepare_cached("INSERT INTO deliveries VALUES (?1, ?1, 7, 1, 0, ?2, ?2)")
                .unwrap();
            insert.execute([number, now().as_millis()]).unwrap();
        }
        commit(&connection);
        connection.prepare_cached("BEGIN IMMEDIATE").unwrap().execute([]).unwrap();
        for number in numbers {
            let mut update = connection
                .prepare_cached(
                    "UPDATE deliveries SET state = 2, attempts = attempts + 1, due_at = NULL \
                     WHERE id = ?1",
                )
                .unwrap();
            update.execute([number]).unwrap();
            let mut insert = connection
                .prepare_cached("INSERT INTO attempts VALUES (?1, ?1, ?2, 12, 200, ?3, ?4)")
                .unwrap();
            insert.execute(params![number, now().as_millis(), REQUEST_HEAD, b"ok"]).unwrap();
        }
        commit(&connection);
    }
    let used = Usage::now().since(&before);
    print(name, events, begun_at.elapsed(), &used, commits, commit_total / commits as u32);
}

/// What the process has used so far, as Linux tells.
struct Usage {
    process: Duration,
    writer: Duration,
    bytes_written: u64,
}

impl Usage {
    fn now() -> Self {
        let mut process = Duration::ZERO;
        let mut writer = Duration::ZERO;
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            let Ok(schedstat) = std::fs::read_to_string(task.join("schedstat")) else { continue };
            let on_cpu = schedstat.split(' ').next().unwrap().parse().unwrap();
            process += Duration::from_nanos(on_cpu);
            let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
            if name.trim() == "store-writer" {
                writer += Duration::from_nanos(on_cpu);
            }
        }
        let io = std::fs::read_to_string("/proc/self/io").unwrap();
        let written = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        Self { process, writer, bytes_written: written.parse().unwrap() }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            process: self.process.saturating_sub(earlier.process),
            writer: self.writer.saturating_sub(earlier.writer),
            bytes_written: self.bytes_written - earlier.bytes_written,
        }
    }
}
