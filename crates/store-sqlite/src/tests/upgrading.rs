//! Files of earlier schemas are brought to the present one when they are opened: what schema 1 kept
//! in clear is sealed, and every file gives space back to the disk from then on.

use std::path::Path;

use bytes::Bytes;
use domain::account::Username;
use domain::attempt::Outcome;
use domain::custom_headers::CustomHeaders;
use domain::endpoint::Metadata;
use domain::id::{AccountId, DeliveryId, EndpointId, EventId};
use domain::ordering::DeliveryOrder;
use domain::sealing::Binding;
use domain::secret::{SECRET_BYTES, SigningSecret};
use rusqlite::{Connection, params};
use store::catalogue::Catalogue as _;
use store::history::History as _;
use store::queue::{LaneRoom, Queue as _};

use super::a_vault;
use super::sealed::{found_in_clear, writings};
use crate::migrate::{MIGRATIONS, migrate};
use crate::{SqliteStore, holds_sealed};

const ACCOUNT: AccountId = AccountId::from_u128(7);
const EVENTS: u128 = 300;

fn endpoint(number: u128) -> EndpointId {
    EndpointId::from_u128(number << 1)
}

fn random(number: u8) -> [u8; SECRET_BYTES] {
    [0xc0 + number; SECRET_BYTES]
}

fn secret(number: u8) -> SigningSecret {
    SigningSecret::from_random(&random(number))
}

fn body(event: u128) -> String {
    let padding = "payload-to-be-hidden ".repeat(if event.is_multiple_of(50) { 1_000 } else { 1 });
    format!("{{\"data\":\"{event} {padding}\"}}")
}

/// Two endpoints; events with a delivery each, every third of which was attempted twice; and what
/// deleting left behind in free pages.
fn write_schema_1(path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    migrate(&mut connection, &MIGRATIONS[..1], &a_vault()).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    let transaction = connection.transaction().unwrap();
    let write = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        transaction.prepare_cached(sql).unwrap().execute(parameters).unwrap();
    };
    write("INSERT INTO meta VALUES ('pepper', ?1)", params![[0xa7_u8; 32]]);
    write(
        "INSERT INTO accounts VALUES (?1, 'customer', 'standard', NULL, NULL, 1, 0, 3)",
        params![ACCOUNT.to_bytes()],
    );
    for number in 1..=2_u8 {
        write(
            "INSERT INTO endpoints VALUES (?1, ?2, 'standard', 'https://hooks.customer.com/', \
             ?3, NULL, NULL, NULL, NULL, ?4, NULL, NULL, 0, 0)",
            params![
                endpoint(number.into()).to_bytes(),
                ACCOUNT.to_bytes(),
                secret(number).reveal(),
                "X-Token: header-to-be-hidden\n"
            ],
        );
    }
    let mut place = 0;
    for event in 1..=EVENTS {
        let (id, to) = (EventId::from_u128(event), endpoint(event % 2 + 1).to_bytes());
        let body = body(event);
        write(
            "INSERT INTO events VALUES (?1, ?2, ?3, 'video.created', 0, 0, '', ?4, x'', 8, ?5, ?6)",
            params![
                event as i64,
                id.to_bytes(),
                ACCOUNT.to_bytes(),
                [DeliveryId::from_u128(event).to_bytes(), to].concat(),
                body.len() as i64 - 9,
                body.as_bytes()
            ],
        );
        let mut last_attempt = None;
        for number in 1..=if event.is_multiple_of(3) { 2 } else { 0 } {
            place += 1;
            write(
                "INSERT INTO attempts VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0, 0, 500, NULL, NULL, 0, \
                 'POST /head-to-be-hidden HTTP/1.1', ?4)",
                params![
                    place,
                    last_attempt,
                    number,
                    format!("excerpt-to-be-hidden {event}").into_bytes()
                ],
            );
            last_attempt = Some(place);
        }
        write(
            "INSERT INTO deliveries VALUES (?1, ?2, ?3, 0, NULL, 0, ?4, ?5, 0, 0, NULL, NULL)",
            params![
                DeliveryId::from_u128(event).to_bytes(),
                event as i64,
                to,
                if last_attempt.is_some() { 2 } else { 0 },
                last_attempt
            ],
        );
    }
    write("UPDATE counts SET events = 300, created = 300, pending = 300", &[]);
    transaction.execute_batch("CREATE TABLE gone (text TEXT)").unwrap();
    for _ in 0..50 {
        write("INSERT INTO gone VALUES (?1)", params!["payload-to-be-hidden ".repeat(1_000)]);
    }
    transaction.execute_batch("DROP TABLE gone").unwrap();
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_file_that_kept_all_in_clear_is_sealed_to_its_last_byte_and_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    write_schema_1(&path);
    assert!(!holds_sealed(&path).unwrap());
    let mut texts = vec![b"to-be-hidden".to_vec(), vec![0xa7; 32]];
    texts.extend(writings(&random(1)));
    texts.extend(writings(&random(2)));
    assert!(found_in_clear(directory.path(), &texts[..1]).is_some());

    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert_eq!(found_in_clear(directory.path(), &texts), None);
    assert_eq!(auto_vacuum(&path), 2);
    assert!(holds_sealed(&path).unwrap());
    assert_eq!(store.read_or_create_pepper([1; 32]).await.unwrap(), [0xa7; 32]);
    let roster = store.read_roster(ACCOUNT).await.unwrap().unwrap();
    assert_eq!(roster.account.username, Username::parse("customer").unwrap());
    let headers = vec![("X-Token".to_owned(), "header-to-be-hidden".to_owned())];
    let headers = CustomHeaders::new(headers).unwrap();
    assert_eq!(roster.endpoints.len(), 2);
    for (number, found) in (1..).zip(&roster.endpoints) {
        assert_eq!((&found.secret, &found.headers), (&secret(number), &headers));
        assert_eq!(found.previous_secret, None);
    }
    for event in 1..=EVENTS {
        let found = store.read_event(EventId::from_u128(event)).await.unwrap().unwrap();
        let data = body(event).into_bytes();
        assert_eq!(found.event.data, Some(Bytes::from(data).slice(8..body(event).len() - 1)));
        let attempts = store.list_attempts(DeliveryId::from_u128(event)).await.unwrap();
        assert_eq!(attempts.len(), if event.is_multiple_of(3) { 2 } else { 0 });
        for (number, attempt) in (1..).zip(attempts) {
            assert_eq!(attempt.number, number);
            assert_eq!(attempt.outcome, Outcome::Answered { status: 500, retry_after: None });
            assert_eq!(attempt.request_head, "POST /head-to-be-hidden HTTP/1.1");
            assert_eq!(
                attempt.response_excerpt,
                format!("excerpt-to-be-hidden {event}").as_bytes()
            );
        }
    }
    let session = store.begin_session(domain::testing::TEST_START).await.unwrap();
    let lanes = vec![LaneRoom { endpoint: endpoint(1), room: 1 }];
    let claims = store.claim_due(session, domain::testing::TEST_START, lanes).await.unwrap();
    let claimed = &claims[0].claimed[0];
    assert_eq!(claimed.lost_claims, 0);
    assert_eq!(claimed.payload.body, body(claimed.payload.event.as_u128()).as_bytes());
}

#[tokio::test]
async fn an_upgrade_that_was_cut_short_before_the_file_was_written_anew_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    write_schema_1(&path);
    let vault = a_vault();
    let mut connection = Connection::open(&path).unwrap();
    migrate(&mut connection, MIGRATIONS, &vault).unwrap();
    drop(connection);
    let texts = [b"to-be-hidden".to_vec()];
    assert!(found_in_clear(directory.path(), &texts).is_some(), "in free pages");
    drop(SqliteStore::open(&path, a_vault()).unwrap());
    assert_eq!(found_in_clear(directory.path(), &texts), None);
    let meta: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM meta WHERE name = 'scrub_due'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(meta, 0, "once");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_anew_is_served_and_written_anew_at_a_later_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    write_schema_1(&path);
    // What SQLite cannot copy: an order that it does not know.
    let mut connection = Connection::open(&path).unwrap();
    migrate(&mut connection, MIGRATIONS, &a_vault()).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE extra (text TEXT COLLATE NOCASE); \
             CREATE INDEX extra_by_text ON extra (text); PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'UNKNOWN')",
        )
        .unwrap();
    drop(connection);
    let texts = [b"to-be-hidden".to_vec()];
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert!(found_in_clear(directory.path(), &texts).is_some(), "in free pages");
    let data = store.read_event(EventId::from_u128(1)).await.unwrap().unwrap().event.data;
    assert_eq!(data, Some(Bytes::from(body(1)).slice(8..body(1).len() - 1)));
    let log = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    assert!(log < 100_000, "the log of the upgrade is gone: {log} bytes");
    drop(store);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(sql, 'UNKNOWN', 'NOCASE')",
        )
        .unwrap();
    drop(connection);
    drop(SqliteStore::open(&path, a_vault()).unwrap());
    assert_eq!(found_in_clear(directory.path(), &texts), None);
}

/// How the file treats its free pages; 2 is incremental.
fn auto_vacuum(path: &Path) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.pragma_query_value(None, "auto_vacuum", |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_file_of_schema_2_keeps_its_deliveries_and_gives_space_back_from_then_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    let vault = a_vault();
    let mut connection = Connection::open(&path).unwrap();
    migrate(&mut connection, &MIGRATIONS[..2], &vault).unwrap();
    connection.pragma_update(None, "journal_mode", "wal").unwrap();
    let write = |sql: &str, parameters: &[&dyn rusqlite::ToSql]| {
        connection.prepare_cached(sql).unwrap().execute(parameters).unwrap();
    };
    write(
        "INSERT INTO accounts VALUES (?1, 'customer', 'standard', NULL, NULL, 1, 0, 3)",
        params![ACCOUNT.to_bytes()],
    );
    let to = endpoint(1);
    write(
        "INSERT INTO endpoints VALUES (?1, ?2, 'standard', 'https://hooks.customer.com/', \
         ?3, NULL, NULL, NULL, NULL, NULL, NULL, ?4, NULL, NULL, 0, 0)",
        params![
            to.to_bytes(),
            ACCOUNT.to_bytes(),
            vault.seal_secret(&Binding::Secret(ACCOUNT, to), secret(1).reveal().as_bytes()),
            vault.seal_secret(&Binding::Headers(ACCOUNT, to), b""),
        ],
    );
    let event = EventId::from_u128(1);
    let sealed = vault.seal_data(&Binding::Body(ACCOUNT, event), body(1).as_bytes());
    let deliveries = [1, 2].map(|number| DeliveryId::from_u128(number).to_bytes());
    write(
        "INSERT INTO events VALUES (1, ?1, ?2, 'video.created', 0, 0, '', ?3, x'', 8, 1, ?4)",
        params![
            event.to_bytes(),
            ACCOUNT.to_bytes(),
            [deliveries[0], to.to_bytes()].concat(),
            sealed
        ],
    );
    for id in deliveries {
        write(
            "INSERT INTO deliveries VALUES (?1, 1, ?2, 0, NULL, 0, 0, NULL, 0, 0, NULL, NULL, 0, 0)",
            params![id, to.to_bytes()],
        );
    }
    write("INSERT INTO replays VALUES (1, ?1)", params![deliveries[1]]);
    write(
        "INSERT INTO deliveries_by_endpoint VALUES (?1, ?2)",
        params![to.to_bytes(), deliveries[1]],
    );
    write("UPDATE counts SET events = 1, created = 2, pending = 2", &[]);
    drop(connection);
    assert_eq!(auto_vacuum(&path), 0);

    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert_eq!(auto_vacuum(&path), 2);
    let found = store.find_endpoint(to).await.unwrap().unwrap();
    assert_eq!((found.order, found.filter, found.rate), (DeliveryOrder::Any, None, None));
    assert_eq!(found.metadata, Metadata::default());
    let now = domain::testing::TEST_START;
    let session = store.begin_session(now).await.unwrap();
    let lanes = vec![LaneRoom { endpoint: to, room: 9 }];
    let claims = store.claim_due(session, now, lanes).await.unwrap();
    let told: Vec<_> = claims[0].claimed.iter().map(|it| (it.is_replay, it.is_ordered)).collect();
    assert_eq!(told, [(false, false), (true, false)]);
    let detail = store.read_event(event).await.unwrap().unwrap();
    assert_eq!(detail.deliveries.len(), 2);
    assert_eq!((detail.event.event.deliver_at, detail.event.event.trace), (None, None));
}
