//! Of an account that is deleted nothing is left, in any table there is.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::credentials::{ClientCredentials, ClientIdentity, TokenRequest};
use domain::endpoint::PreviousSecret;
use domain::health::Streak;
use domain::id::{EventId, ReplayId};
use domain::ordering::OrderingKey;
use domain::replay::{Replay, ReplayFate, ReplaySelection};
use domain::secret::SigningSecret;
use domain::target_url::TargetUrl;
use domain::testing::{TEST_START, an_endpoint};
use domain::time::Timestamp;
use store::catalogue::Catalogue as _;
use store::conformance::scene::{idempotency, note_at};
use store::queue::Queue as _;
use store::replays::Replays as _;

use super::retention::hours;
use super::{Scene, body};
use crate::ledger::Ledger;

/// Tables that hold nothing of any account's, or what must outlive it, each with the reason.
const EXCEPTIONS: [(&str, &str); 7] = [
    ("meta", "is about the file"),
    ("data_keys", "seal what all accounts have"),
    ("sessions", "are of engines"),
    ("counts", "are of all accounts together, and who was deleted stays counted"),
    ("cleaning", "is how far cleaning came"),
    ("event_types", "are the operator's"),
    ("audit", "says who did what, and that stays said; it has no payload and no secret"),
];

/// Tables in which there is something only while deleting or cleaning is on its way.
const BETWEEN_TIMES: [&str; 3] = ["departed_accounts", "departed_endpoints", "departed_events"];

/// Tables that remember numbers of events that are gone until their time has come.
const LATER: [&str; 2] = ["kept_longer", "pending_payloads"];

/// How many rows each table has, but for the exceptions.
async fn rows(scene: &Scene) -> BTreeMap<String, i64> {
    let count = |ledger: &mut Ledger<'_>| {
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let names: Vec<String> = ledger
            .connection
            .prepare(sql)?
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let mut rows = BTreeMap::new();
        for name in names {
            let sql = format!("SELECT count(*) FROM {name}");
            let count = ledger.connection.query_row(&sql, [], |row| row.get(0))?;
            rows.insert(name, count);
        }
        Ok(rows)
    };
    let mut rows = scene.write(count).await.unwrap();
    for (name, _) in EXCEPTIONS {
        assert!(rows.remove(name).is_some(), "{name} is no table");
    }
    rows
}

fn secret(byte: u8) -> SigningSecret {
    SigningSecret::from_random(&[byte; domain::secret::SECRET_BYTES])
}

/// Whatever an account can have.
async fn furnish(scene: &Scene) {
    let (account, endpoint) = (scene.account.id, scene.endpoint.id);
    let mut second = an_endpoint(&scene.account, 2);
    second.previous_secret = Some(PreviousSecret { secret: secret(1), signs_until: hours(24) });
    second.client_identity = Some(ClientIdentity::new("a chain", "a private key"));
    second.client_credentials = Some(ClientCredentials::new(TokenRequest {
        token_url: TargetUrl::from_stored("https://tokens.customer.com/").unwrap(),
        client_id: "client".to_owned(),
        client_secret: "secret".to_owned(),
        scope: None,
        audience: None,
    }));
    scene.store.create_endpoint(second, 10, note_at(TEST_START)).await.unwrap();

    let mut delivered = scene.event(1, body());
    delivered.roster_version = 3;
    delivered.idempotency = idempotency("once", 1);
    scene.store.accept(scene.session, vec![delivered]).await.unwrap();
    scene.deliver_all().await;
    let mut events = Vec::new();
    for number in 2..5 {
        let mut new = scene.event(number, body());
        new.roster_version = 3;
        new.event.ordering_key = OrderingKey::parse("video").ok();
        new.deliveries[0].ordering_key = OrderingKey::parse("video").ok();
        events.push(new);
    }
    let mut scheduled = scene.event(5, body());
    scheduled.roster_version = 3;
    scheduled.event.deliver_at = Some(hours(2));
    events.push(scheduled);
    scene.store.accept(scene.session, events).await.unwrap();
    let replayed = scene.event(900, body()).deliveries.remove(0);
    let note = note_at(TEST_START);
    let event = EventId::from_u128(1);
    scene.store.add_delivery(scene.session, account, event, replayed, note).await.unwrap();
    let selection = ReplaySelection {
        fate: ReplayFate::All,
        since: Timestamp::from_millis(0),
        until: TEST_START.plus(Duration::from_millis(1)),
    };
    let replay = Replay::begin(ReplayId::from_u128(1), account, endpoint, selection, TEST_START);
    scene.store.create_replay(replay, note_at(TEST_START)).await.unwrap();
    let streak = Streak { since: TEST_START, last_at: TEST_START, failures: 3, warnings: 0 };
    scene.store.write_streaks(vec![(endpoint, Some(streak))]).await.unwrap();
    scene.write(|ledger| ledger.in_savepoint(Ledger::file)).await.unwrap();
    scene.clean_at(hours(1), 100).await;
}

#[tokio::test]
async fn of_a_deleted_account_nothing_is_left_in_any_table() {
    let scene = Scene::open().await;
    furnish(&scene).await;
    for (table, rows) in rows(&scene).await {
        let is_between_times = BETWEEN_TIMES.contains(&table.as_str());
        assert!(rows > 0 || is_between_times, "{table} had nothing in it: this shows nothing");
    }
    assert!(scene.store.delete_account(scene.account.id, note_at(TEST_START)).await.unwrap());
    scene.clean_at(hours(1), 7).await;
    for (table, rows) in rows(&scene).await {
        assert!(rows == 0 || LATER.contains(&table.as_str()), "{rows} rows of it are in {table}");
    }
    scene.clean_at(hours(13), 7).await;
    for (table, rows) in rows(&scene).await {
        assert_eq!(rows, 0, "{table}");
    }
}
