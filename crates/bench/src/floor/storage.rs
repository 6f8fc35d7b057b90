//! Bare storage: the rows Postrider writes for an event, in its schema, by prepared statements, many
//! events to a transaction.

use std::path::Path;

use anyhow::{Context as _, Result};
use domain::id::uuid_v7;
use domain::sealing::{Binding, KEY_BYTES, NONCE_BYTES, SealingKey, SealingKeyId};
use rusqlite::{CachedStatement, Connection, params};

use super::{delivery_body, obey};
use crate::publisher::EVENT_TYPE;

/// The schema of the embedded store, made as a new file of it is.
const SCHEMA: [&str; 3] = [
    include_str!("../../../store-sqlite/migrations/0001_initial.sql"),
    include_str!("../../../store-sqlite/migrations/0002_sealing.sql"),
    include_str!("../../../store-sqlite/migrations/0002_sealing_done.sql"),
];

/// As the embedded store opens its file. The log is brought to the file from 4 MiB on, which is
/// SQLite's default and also the store's, though the store does it beside its commits.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    PRAGMA cache_size = -16384; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;";

/// Events accepted in one transaction, and as many deliveries of earlier ones recorded: what 64
/// publishers that each wait for their answer keep a group commit supplied with.
const EVENTS_PER_TRANSACTION: usize = 64;

/// What an attempt keeps of its request: the line and headers of the benchmark's deliveries.
const REQUEST_HEAD: &str = "POST /hook/0 HTTP/1.1\nhost: 127.0.0.1:40000\n\
    content-type: application/json\nx-webhook-event: generated_avatar_video_success\n\
    x-webhook-signature: 7256c87be255861cbbe92f4a04a4500176b045a287f258e32e5b6c6b96d7f290\n\
    user-agent: JoggAI-Webhook/2.0\naccept-encoding: identity\n\
    webhook-id: evt_0123456789abcdef0123456789abcdef\nwebhook-timestamp: 1732806631\n\
    webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=\ncontent-length: 1160";

/// Writes to `file` as the input says; every event has this many deliveries.
pub(crate) fn run(file: &Path, deliveries: usize) -> Result<()> {
    let connection = Connection::open(file).context("opening the bare storage")?;
    connection.execute_batch(PRAGMAS).context("setting the bare storage up")?;
    for step in SCHEMA {
        connection.execute_batch(step).context("making the bare storage's schema")?;
    }
    connection.set_prepared_statement_cache_capacity(16);
    let mut rows = Rows {
        body: sealed(&delivery_body()?),
        exchange: sealed(&[&[0; 4], REQUEST_HEAD.as_bytes()].concat()),
        deliveries,
        account: [1; 16],
        now_millis: 1_732_806_631_000,
        random: 0x9e37_79b9_7f4a_7c15,
        open: Vec::new(),
    };
    obey(|events| {
        let mut left = events;
        while left > 0 || !rows.open.is_empty() {
            let accepted = left.min(EVENTS_PER_TRANSACTION);
            rows.write_transaction(&connection, accepted)?;
            left -= accepted;
        }
        Ok(())
    })
}

/// A text as long as the store keeps it. Sealing each anew is protection, and no part of the floor.
fn sealed(plain: &[u8]) -> Vec<u8> {
    let key = SealingKey::new(SealingKeyId::from_bytes([1; 8]), [2; KEY_BYTES]);
    key.seal([3; NONCE_BYTES], &Binding::Pepper, plain)
}

struct Rows {
    body: Vec<u8>,
    exchange: Vec<u8>,
    deliveries: usize,
    account: [u8; 16],
    now_millis: u64,
    random: u64,
    /// Deliveries accepted in the last transaction, to be recorded in the next.
    open: Vec<[u8; 16]>,
}

impl Rows {
    /// Accepts events and records the deliveries of those accepted before.
    fn write_transaction(&mut self, connection: &Connection, events: usize) -> Result<()> {
        self.now_millis += 1;
        let now = self.now_millis as i64;
        let transaction = connection.unchecked_transaction()?;
        let recorded = std::mem::take(&mut self.open);
        {
            let mut insert_attempt = connection.prepare_cached(
                "INSERT INTO attempts (earlier, number, at, duration_ns, dns_ns, connect_ns, tls_ns,
                 first_byte_ns, status, retry_after_ns, failure, next_at, exchange)
                 VALUES (NULL, 1, ?1, 312345, 0, 0, 0, 301234, 200, NULL, NULL, NULL, ?2)",
            )?;
            let mut end_delivery = connection.prepare_cached(
                "UPDATE deliveries SET state = 2, session = NULL, attempts = 1, last_attempt = ?2,
                 due_at = NULL, ended_at = ?3
                 WHERE id = ?1 AND state = 6 AND session = 1 AND fence = 1",
            )?;
            for delivery in &recorded {
                insert_attempt.execute(params![now, self.exchange])?;
                let place = connection.last_insert_rowid();
                let changed = end_delivery.execute(params![delivery, place, now])?;
                anyhow::ensure!(changed == 1, "a delivery was not there to be ended");
            }
            let mut insert_event = connection.prepare_cached(
                "INSERT INTO events (id, account, event_type, timestamp, accepted_at, entity_ids,
                 deliveries, not_made, data_start, data_length, body)
                 VALUES (?1, ?2, ?3, ?4, ?4, '', ?5, x'', 130, 1024, ?6)",
            )?;
            let mut insert_delivery = connection.prepare_cached(
                "INSERT INTO deliveries (id, event, endpoint, state, session, fence, attempts,
                 due_at, created_at) VALUES (?1, ?2, ?3, 6, 1, 1, 0, ?4, ?4)",
            )?;
            for _ in 0..events {
                self.accept(connection, &mut insert_event, &mut insert_delivery, now)?;
            }
            let mut count = connection.prepare_cached(
                "UPDATE counts SET events = events + ?1, created = created + ?2,
                 pending = pending + ?2 - ?3, delivered = delivered + ?3",
            )?;
            count.execute(params![events as i64, self.open.len() as i64, recorded.len() as i64])?;
        }
        transaction.commit().context("committing")?;
        Ok(())
    }

    fn accept(
        &mut self,
        connection: &Connection,
        insert_event: &mut CachedStatement<'_>,
        insert_delivery: &mut CachedStatement<'_>,
        now: i64,
    ) -> Result<()> {
        let event = self.id();
        let first = self.open.len();
        for _ in 0..self.deliveries {
            let delivery = self.id();
            self.open.push(delivery);
        }
        let deliveries = self.open[first..].concat();
        insert_event.execute(params![
            event,
            self.account,
            EVENT_TYPE,
            now,
            deliveries,
            self.body
        ])?;
        let number = connection.last_insert_rowid();
        for (endpoint, delivery) in self.open[first..].iter().enumerate() {
            let mut endpoint_id = [2; 16];
            endpoint_id[15] = endpoint as u8;
            insert_delivery.execute(params![delivery, number, endpoint_id, now])?;
        }
        Ok(())
    }

    /// A new id, time first and then chance, as Postrider's are.
    fn id(&mut self) -> [u8; 16] {
        let mut bytes = [0; 10];
        for half in bytes.chunks_mut(8) {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            half.copy_from_slice(&self.random.to_be_bytes()[..half.len()]);
        }
        uuid_v7(self.now_millis, &bytes).to_be_bytes()
    }
}
