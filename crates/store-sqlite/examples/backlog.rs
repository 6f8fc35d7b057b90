//! How long a store with a backlog takes to be ready.
//!
//! `cargo run --release -p store-sqlite --example backlog -- [PENDING] [DIRECTORY]` fills a store
//! with pending deliveries (1,000,000 unless said otherwise), drops it without closing, as a crash
//! would, and prints how long opening, the first questions and the first claim take.

#![expect(clippy::print_stdout, reason = "its figures are what it is for")]
#![expect(clippy::disallowed_methods, reason = "it measures")]
#![expect(clippy::unwrap_used, reason = "it stops at the first error")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::account::{Account, Username};
use domain::audit::{Actor, AuditAction, AuditNote};
use domain::contract::Contract;
use domain::endpoint::Endpoint;
use domain::event::{Event, EventType};
use domain::id::{AccountId, DeliveryId, EndpointId, EventId, KeyId};
use domain::secret::SigningSecret;
use domain::target_url::TargetUrl;
use domain::time::Timestamp;
use store::catalogue::{Catalogue as _, KeyRecord};
use store::history::History as _;
use store::queue::{LaneRoom, NewDelivery, NewEvent, Queue as _, SessionId};
use store::vault::a_vault;
use store_sqlite::SqliteStore;

const ENDPOINTS: u128 = 100;

/// Deliveries that were in memory when the process died.
const LEASED: usize = 10_000;

const BODY_BYTES: usize = 200;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let pending: usize = arguments.next().map_or(1_000_000, |number| number.parse().unwrap());
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let directory = tempfile::tempdir_in(parent).unwrap();
    let path = directory.path().join("backlog.db");
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    let session = store.begin_session(now()).await.unwrap();
    fill(&store, session, pending).await;
    let megabytes = |name: &str| {
        let path = directory.path().join(name);
        std::fs::metadata(path).map_or(0, |file| file.len() / 1_000_000)
    };
    drop(store);
    println!(
        "{pending} pending, {LEASED} of them leased; file {} MB, log {} MB",
        megabytes("backlog.db"),
        megabytes("backlog.db-wal")
    );

    let (store, took) = timed(async { SqliteStore::open(&path, a_vault()).unwrap() }).await;
    println!("open            {:9.3} ms", milliseconds(took));
    let (session, took) = timed(async { store.begin_session(now()).await.unwrap() }).await;
    println!("begin_session   {:9.3} ms", milliseconds(took));
    let (lanes, took) = timed(async { store.waiting_lanes(None, 1_000).await.unwrap() }).await;
    println!("waiting_lanes   {:9.3} ms, {} lanes", milliseconds(took), lanes.len());
    let rooms = lanes.iter().map(|lane| LaneRoom { endpoint: lane.endpoint, room: 32 }).collect();
    let (claims, took) =
        timed(async { store.claim_due(session, now(), rooms).await.unwrap() }).await;
    let claimed: usize = claims.iter().map(|claim| claim.claimed.len()).sum();
    println!("claim_due       {:9.3} ms, {claimed} claimed", milliseconds(took));
    let (counts, took) = timed(async { store.counts().await.unwrap() }).await;
    println!("counts          {:9.3} ms, {} pending", milliseconds(took), counts.pending);
    let ((), took) = timed(async { store.close().await.unwrap() }).await;
    println!("close           {:9.3} ms", milliseconds(took));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("peak memory, filling included: {peak}");
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begun_at = Instant::now();
    let done = work.await;
    (done, begun_at.elapsed())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

async fn fill(store: &SqliteStore, session: SessionId, pending: usize) {
    let account = Account {
        id: AccountId::from_u128(1),
        username: Username::parse("customer").unwrap(),
        contract: Contract::Standard,
        plan: None,
        credits: None,
        api_access: true,
        created_at: now(),
    };
    let key = KeyRecord {
        id: KeyId::from_u128(1),
        account: Some(account.id),
        public_part: "one".to_owned(),
        hash: [0; 32],
        created_at: now(),
        last_used_at: None,
    };
    store.create_account(account.clone(), key, note()).await.unwrap();
    for number in 0..ENDPOINTS {
        store.create_endpoint(endpoint(&account, number), 1_000, note()).await.unwrap();
    }
    let roster = store.read_roster(account.id).await.unwrap().unwrap();
    for first in (0..pending).step_by(1_000) {
        let events = (first..(first + 1_000).min(pending)).map(|number| NewEvent {
            event: Event {
                id: EventId::from_u128((number as u128) << 64),
                account: account.id,
                event_type: EventType::parse("video.created").unwrap(),
                timestamp: now(),
                entity_ids: Vec::new(),
                accepted_at: now(),
                deliver_at: None,
                ordering_key: None,
                trace: None,
            },
            body: Bytes::from_static(&[b'x'; BODY_BYTES]),
            data: 0..BODY_BYTES,
            deliveries: vec![NewDelivery {
                id: DeliveryId::from_u128((number as u128) << 64),
                endpoint: EndpointId::from_u128((number as u128 % ENDPOINTS) << 1),
                leased: number + LEASED >= pending,
                ordering_key: None,
            }],
            not_made: Vec::new(),
            roster_version: roster.version,
            idempotency: None,
        });
        store.accept(session, events.collect()).await.unwrap();
    }
}

fn endpoint(account: &Account, number: u128) -> Endpoint {
    Endpoint::new(
        EndpointId::from_u128(number << 1),
        account,
        TargetUrl::from_stored("https://hooks.customer.com/in").unwrap(),
        SigningSecret::from_random(&[7; 24]),
        now(),
    )
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
