//! Nothing secret stands in clear in any file, sealed texts open in their own place alone, and keys
//! are exchanged while everything goes on.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use domain::attempt::{Attempt, Outcome, Phases};
use domain::credentials::{ClientCredentials, ClientIdentity, TokenRequest};
use domain::custom_headers::CustomHeaders;
use domain::delivery::{DeliveryState, EndReason, Transition};
use domain::endpoint::{Endpoint, EndpointChange};
use domain::id::{DeliveryId, EndpointId, EventId};
use domain::page::PageRequest;
use domain::sealing::{KEY_BYTES, KeyRing, SealingKey};
use domain::secret::{SECRET_BYTES, SigningSecret};
use domain::target_url::TargetUrl;
use domain::testing::{TEST_START, an_endpoint};
use store::StoreError;
use store::catalogue::{Catalogue as _, SecretRotated};
use store::conformance::scene::note_at;
use store::history::{EventFilter, History as _};
use store::queue::{Accepted, AttemptRecord, LaneRoom, Lease, Queue as _, Recorded};

use super::{Scene, a_key, a_vault, a_vault_with, body};
use crate::row::hex;
use crate::{OpenError, SqliteStore, holds_sealed};

const DAY: Duration = Duration::from_hours(24);
const EXCERPT: &str = "excerpt-of-the-answer-to-be-hidden";
const HEAD: &str = "POST /path-to-be-hidden HTTP/1.1\nwebhook-signature: v1,to-be-hidden\n";
const HEADER: &str = "header-value-to-be-hidden";
const PAYLOAD: &str = "payload-to-be-hidden";

/// The first attempt under the lease.
fn attempt(lease: Lease, number: u32, transition: Transition) -> AttemptRecord {
    let attempt = Attempt {
        number,
        at: TEST_START,
        duration: Duration::from_millis(5),
        phases: Phases::default(),
        outcome: Outcome::Answered { status: 500, retry_after: None },
        request_head: HEAD.to_owned(),
        response_excerpt: EXCERPT.as_bytes().to_vec(),
        next_at: None,
    };
    AttemptRecord { lease, attempt, transition }
}

/// The first of the texts that stands in a file of the directory, with the file's name.
pub(super) fn found_in_clear(directory: &Path, texts: &[Vec<u8>]) -> Option<String> {
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let stands = |text: &&Vec<u8>| bytes.windows(text.len()).any(|window| window == *text);
        if let Some(text) = texts.iter().find(stands) {
            return Some(format!("{} in {}", String::from_utf8_lossy(text), path.display()));
        }
    }
    None
}

/// Every way in which the secret of these bytes might be written.
pub(super) fn writings(random: &[u8; SECRET_BYTES]) -> Vec<Vec<u8>> {
    let secret = SigningSecret::from_random(random);
    let text = secret.reveal();
    let encoded = text.strip_prefix("whsec_").unwrap();
    let hexes = [hex(random), hex(text.as_bytes())];
    let mut writings = vec![encoded.as_bytes().to_vec(), random.to_vec()];
    writings.extend(hexes.iter().map(|hex| hex.as_bytes().to_vec()));
    writings.extend(hexes.iter().map(|hex| hex.to_uppercase().into_bytes()));
    writings
}

impl Scene {
    /// Publishes an event and records a failed attempt of its delivery, to be made again at once.
    async fn publish_and_fail(&self, number: u128) -> DeliveryId {
        let body = format!("{{\"payload\":\"{PAYLOAD} {number}\"}}");
        self.publish_at_present(number, Bytes::from(body)).await;
        let lanes = vec![LaneRoom { endpoint: self.endpoint.id, room: 100 }];
        let claims = self.store.claim_due(self.session, TEST_START, lanes).await.unwrap();
        let mut claimed = None;
        for other in &claims[0].claimed {
            let record = attempt(other.lease, other.attempts + 1, Transition::RetryAt(TEST_START));
            assert_eq!(self.store.record(vec![record]).await.unwrap(), [Recorded::Applied]);
            claimed = Some(other.lease.delivery);
        }
        claimed.unwrap()
    }

    /// Publishes against the roster as it is.
    async fn publish_at_present(&self, number: u128, body: Bytes) {
        let roster = self.store.read_roster(self.account.id).await.unwrap().unwrap();
        let mut new = self.event(number, body);
        new.roster_version = roster.version;
        assert_eq!(self.store.accept(self.session, vec![new]).await.unwrap(), [Accepted::New]);
    }

    async fn give_texts(&self, endpoint: &Endpoint) {
        let headers = CustomHeaders::new(vec![("X-Token".to_owned(), HEADER.to_owned())]).unwrap();
        let credentials = ClientCredentials::new(TokenRequest {
            token_url: TargetUrl::from_stored("https://login.customer.com/token").unwrap(),
            client_id: "client-id-to-be-hidden".to_owned(),
            client_secret: "client-secret-to-be-hidden".to_owned(),
            scope: Some("scope-to-be-hidden".to_owned()),
            audience: None,
        });
        let identity = ClientIdentity::new("chain-to-be-hidden", "private-key-to-be-hidden");
        let change = EndpointChange {
            headers: Some(headers),
            client_identity: Some(Some(identity)),
            client_credentials: Some(Some(credentials)),
            ..EndpointChange::default()
        };
        let note = note_at(TEST_START);
        self.store
            .change_endpoint(self.account.id, endpoint.id, None, change, note)
            .await
            .unwrap()
            .unwrap();
    }

    async fn rotate(&self, endpoint: EndpointId, byte: u8, overlap: Duration) {
        let new = SigningSecret::from_random(&[byte; SECRET_BYTES]);
        let (account, note) = (self.account.id, note_at(TEST_START));
        let rotated = self.store.rotate_secret(account, endpoint, new, overlap, note).await;
        assert!(matches!(rotated.unwrap(), SecretRotated::Rotated(_)));
    }

    /// Runs a statement behind the store's back.
    async fn tamper(&self, sql: &'static str) {
        self.write(move |ledger| ledger.execute(sql, [])).await.unwrap();
    }
}

fn names(error: &StoreError, what: &str) {
    let StoreError::Broken(why) = error else { panic!("{error}") };
    assert!(why.contains(what), "{why}");
}

#[tokio::test]
async fn no_file_shows_a_secret_a_header_a_credential_a_payload_or_what_was_sent_and_answered() {
    let scene = Scene::open().await;
    let pepper = scene.store.read_or_create_pepper([0xa7; 32]).await.unwrap();
    scene.give_texts(&scene.endpoint).await;
    scene.rotate(scene.endpoint.id, 0xb2, Duration::ZERO).await;
    scene.rotate(scene.endpoint.id, 0xc3, DAY).await;
    for number in 1..=5 {
        scene.publish_and_fail(number).await;
    }
    let mut texts: Vec<_> =
        [EXCERPT, HEADER, PAYLOAD, "to-be-hidden"].map(|text| text.as_bytes().to_vec()).into();
    texts.extend([pepper.to_vec(), hex(&pepper).into_bytes()]);
    texts.extend(writings(&[0xb2; SECRET_BYTES]));
    texts.extend(writings(&[0xc3; SECRET_BYTES]));
    texts.extend([a_key(1).reveal().to_vec()]);
    let directory = scene.path.parent().unwrap();
    let canary = scene.account.username.as_str().as_bytes().to_vec();
    assert!(found_in_clear(directory, &[canary]).is_some(), "the files are looked through");
    assert_eq!(found_in_clear(directory, &texts), None);
    scene.store.close().await.unwrap();
    assert_eq!(found_in_clear(directory, &texts), None);
}

#[tokio::test]
async fn a_sealed_text_moved_to_another_place_does_not_open() {
    let scene = Scene::open().await;
    let other = an_endpoint(&scene.account, 2);
    scene.store.create_endpoint(other.clone(), 10, note_at(TEST_START)).await.unwrap();
    let swap_secrets = "UPDATE endpoints SET secret = other.secret \
                        FROM (SELECT id, secret FROM endpoints) AS other \
                        WHERE other.id <> endpoints.id";
    let swap_headers = "UPDATE endpoints SET headers = other.headers \
                        FROM (SELECT id, headers FROM endpoints) AS other \
                        WHERE other.id <> endpoints.id";
    let read = async || scene.store.read_roster(scene.account.id).await;
    for (swap, column) in [(swap_secrets, "endpoints.secret"), (swap_headers, "endpoints.headers")]
    {
        scene.tamper(swap).await;
        names(&read().await.unwrap_err(), column);
        scene.tamper(swap).await;
        assert_eq!(read().await.unwrap().unwrap().endpoints.len(), 2);
    }
    scene.rotate(other.id, 9, DAY).await;
    scene.tamper("UPDATE endpoints SET previous_secret = secret WHERE previous_secret > ''").await;
    names(&read().await.unwrap_err(), "endpoints.previous_secret");
    scene.tamper("UPDATE endpoints SET previous_secret = NULL").await;
    scene.give_texts(&other).await;
    for (tampering, column) in [
        ("UPDATE endpoints SET client_identity = client_credentials", "endpoints.client_identity"),
        (
            "UPDATE endpoints SET client_identity = NULL, client_credentials = secret",
            "endpoints.client_credentials",
        ),
    ] {
        scene.tamper(tampering).await;
        names(&read().await.unwrap_err(), column);
    }
    scene.tamper("UPDATE endpoints SET client_credentials = NULL").await;

    let (first, second) = (scene.publish_and_fail(1).await, scene.publish_and_fail(2).await);
    scene
        .tamper("UPDATE attempts SET exchange = (SELECT exchange FROM attempts WHERE place = 1)")
        .await;
    let error = scene.store.list_attempts(second).await.unwrap_err();
    names(&error, "attempts.exchange of row 3");
    assert_ne!(first, second);
    scene.tamper("UPDATE events SET body = (SELECT body FROM events WHERE number = 2)").await;
    let error = scene.store.read_event(EventId::from_u128(1)).await.unwrap_err();
    names(&error, "events.body of row 00000000000000000000000000000001");
    assert!(scene.store.read_event(EventId::from_u128(2)).await.unwrap().is_some());
    let listed = scene.store.list_events(EventFilter::default(), PageRequest::LARGEST).await;
    names(&listed.unwrap_err(), "events.body");
}

#[tokio::test]
async fn a_payload_that_does_not_open_is_set_aside_and_the_others_are_claimed() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    scene.publish(2, body()).await.unwrap();
    scene
        .tamper("UPDATE events SET body = (SELECT body FROM events WHERE number = 2) WHERE id > ''")
        .await;
    let lanes = vec![LaneRoom { endpoint: scene.endpoint.id, room: 10 }];
    let claims = scene.store.claim_due(scene.session, TEST_START, lanes).await.unwrap();
    let [claimed] = &claims[0].claimed[..] else { panic!("{claims:?}") };
    assert_eq!((claimed.lease.delivery, claims[0].next_due_at), (DeliveryId::from_u128(2), None));
    assert_eq!(claimed.payload.body, body());
    let shut = scene.store.read_delivery(DeliveryId::from_u128(1)).await.unwrap().unwrap();
    let set_aside = DeliveryState::Exhausted(EndReason::SetAside);
    assert_eq!((shut.state, shut.attempts), (set_aside, 0));
    let counts = scene.store.counts().await.unwrap();
    assert_eq!((counts.pending, counts.exhausted), (1, 1));
    // It is not replayed either.
    let delivery = scene.event(3, body()).deliveries.remove(0);
    let (account, note) = (scene.account.id, note_at(TEST_START));
    let event = EventId::from_u128(1);
    let added = scene.store.add_delivery(scene.session, account, event, delivery, note).await;
    names(&added.unwrap_err(), "events.body");
    assert_eq!(scene.store.counts().await.unwrap().created, 2);
}

#[tokio::test]
async fn keys_are_exchanged_in_steps_while_reads_and_accepts_go_on() {
    const ENDPOINTS: u64 = 1_000;
    const STEP: usize = 150;
    let scene = Scene::open().await;
    let pepper = scene.store.read_or_create_pepper([7; 32]).await.unwrap();
    for number in 2..=ENDPOINTS {
        let endpoint = an_endpoint(&scene.account, number);
        let create = scene.store.create_endpoint(endpoint, 10_000, note_at(TEST_START));
        create.await.unwrap();
    }
    scene.give_texts(&scene.endpoint).await;
    scene.rotate(scene.endpoint.id, 9, DAY).await;
    scene.publish_at_present(1, body()).await;
    let roster = scene.store.read_roster(scene.account.id).await.unwrap();
    let (old, new) = (a_key(1), a_key(2));
    // Secret and headers of each endpoint, a previous secret, a client certificate, client
    // credentials, the pepper and a data key.
    let texts = 2 * ENDPOINTS + 5;
    assert_eq!(scene.store.sealing_keys().await.unwrap(), [(old.id(), texts)]);
    assert_eq!(scene.store.reseal(STEP).await.unwrap(), 0, "nothing is sealed under another key");

    let both = scene.store.vault.master().with_active(new.clone());
    scene.store.vault.replace_master(both);
    let mut event = 2;
    let mut rows = 0;
    loop {
        let sealed = scene.store.reseal(STEP).await.unwrap();
        assert!(sealed <= STEP);
        rows += sealed;
        let now = scene.store.read_roster(scene.account.id).await.unwrap();
        assert_eq!(now.unwrap().endpoints, roster.as_ref().unwrap().endpoints);
        scene.publish_at_present(event, body()).await;
        event += 1;
        if sealed == 0 {
            break;
        }
    }
    assert_eq!(rows as u64, ENDPOINTS + 2, "each row once");
    let keys = scene.store.sealing_keys().await.unwrap();
    assert_eq!(keys, [(new.id(), texts + 1)], "and a new data key");
    let under = |row: i64| {
        let sql = "SELECT substr(body, 2, 8) FROM events WHERE number = ?1";
        scene.write(move |ledger| {
            Ok(ledger.connection.query_row(sql, [row], |row| row.get::<_, [u8; 8]>(0))?)
        })
    };
    let (before, after) = (under(1).await.unwrap(), under(event as i64 - 1).await.unwrap());
    assert_ne!(before, after, "events are sealed under the new data key");

    let Scene { store, path, _directory: _kept, account, .. } = scene;
    drop(store);
    let store = SqliteStore::open(&path, a_vault_with(KeyRing::of(new))).unwrap();
    assert_eq!(store.read_or_create_pepper([8; 32]).await.unwrap(), pepper);
    let endpoints = store.read_roster(account.id).await.unwrap().unwrap().endpoints;
    assert_eq!(endpoints, roster.unwrap().endpoints);
    for number in 1..event {
        let found = store.read_event(EventId::from_u128(number)).await.unwrap().unwrap();
        assert_eq!(found.event.data, Some(body()));
    }
}

#[tokio::test]
async fn one_secret_that_never_opens_keeps_no_other_from_being_sealed_again() {
    let scene = Scene::open().await;
    let other = an_endpoint(&scene.account, 2);
    scene.store.create_endpoint(other.clone(), 10, note_at(TEST_START)).await.unwrap();
    scene
        .tamper("UPDATE endpoints SET secret = headers WHERE rowid = (SELECT min(rowid) FROM endpoints)")
        .await;
    scene.store.vault.replace_master(scene.store.vault.master().with_active(a_key(2)));
    assert_eq!(scene.store.reseal(10).await.unwrap(), 1, "a data key");
    assert_eq!(scene.store.reseal(10).await.unwrap(), 1, "the endpoint that opens");
    names(&scene.store.reseal(10).await.unwrap_err(), "endpoints.secret");
}

#[tokio::test]
async fn a_step_of_sealing_again_carries_on_after_the_one_before_it_and_leaves_none_out() {
    let scene = Scene::open().await;
    for number in 2..=3 {
        let endpoint = an_endpoint(&scene.account, number);
        scene.store.create_endpoint(endpoint, 10, note_at(TEST_START)).await.unwrap();
    }
    let keys = || async {
        let sql =
            "SELECT group_concat(hex(substr(secret, 2, 1)), ' ' ORDER BY rowid) FROM endpoints";
        let read = scene
            .write(move |ledger| Ok(ledger.connection.query_row(sql, [], |row| row.get(0))?));
        let keys: String = read.await.unwrap();
        keys
    };
    let rotate_and_step = async |number| {
        scene.store.vault.replace_master(scene.store.vault.master().with_active(a_key(number)));
        while scene.store.sealing_keys().await.unwrap().len() < usize::from(number)
            || keys().await.matches(&format!("{number:02}")).count() == 0
        {
            assert!(scene.store.reseal(1).await.unwrap() > 0);
        }
    };
    rotate_and_step(2).await;
    assert_eq!(keys().await, "02 01 01");
    rotate_and_step(3).await;
    assert_eq!(keys().await, "02 03 01");
    assert_eq!(scene.store.reseal(1).await.unwrap(), 1);
    assert_eq!(scene.store.reseal(1).await.unwrap(), 1, "from the start");
    assert_eq!(keys().await, "03 03 03");
    assert_eq!(scene.store.reseal(1).await.unwrap(), 0);
}

#[tokio::test]
async fn bodies_sealed_beside_the_runtime_are_sealed_and_read_back() {
    let scene = Scene::open().await;
    let large = Bytes::from(format!("\"{}\"", PAYLOAD.repeat(20_000)));
    scene.publish_at_present(1, large.clone()).await;
    let texts = [PAYLOAD.as_bytes().to_vec()];
    assert_eq!(found_in_clear(scene.path.parent().unwrap(), &texts), None);
    let found = scene.store.read_event(EventId::from_u128(1)).await.unwrap().unwrap();
    assert_eq!(found.event.data, Some(large));
}

#[tokio::test]
async fn a_file_opens_only_with_every_key_it_needs() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    let other = an_endpoint(&scene.account, 2);
    scene.store.create_endpoint(other, 10, note_at(TEST_START)).await.unwrap();
    // Keys first: after one step the endpoints alone need the old key.
    let ring = scene.store.vault.master().with_active(a_key(2));
    scene.store.vault.replace_master(ring);
    assert_eq!(scene.store.reseal(1).await.unwrap(), 1);
    let (one, two) = (a_key(1), a_key(2));
    let Scene { store, path, _directory: _kept, endpoint, .. } = scene;
    drop(store);
    let files = || {
        let wal = std::fs::read(path.with_extension("db-wal")).unwrap_or_default();
        (std::fs::read(&path).unwrap(), wal)
    };
    let before = files();
    let refused = |keys: &[&SealingKey]| {
        let mut ring = KeyRing::of(keys[0].clone());
        for key in &keys[1..] {
            ring = ring.with_active((*key).clone());
        }
        let Err(error) = SqliteStore::open(&path, a_vault_with(ring)) else { panic!("opened") };
        let line = error.to_string();
        assert!(line.contains("key file") && !line.contains('\n'), "{line}");
        error
    };
    let missing = |error, key: &SealingKey| {
        let OpenError::KeyMissing { id, .. } = error else { panic!("{error}") };
        assert_eq!(id, key.id());
    };
    let wrong = |error, key: &SealingKey| {
        let OpenError::KeyWrong { id, .. } = error else { panic!("{error}") };
        assert_eq!(id, key.id());
    };
    missing(refused(&[&two]), &one);
    missing(refused(&[&one]), &two);
    let impostor = |of: &SealingKey| SealingKey::new(of.id(), [99; KEY_BYTES]);
    wrong(refused(&[&impostor(&one), &two]), &one);
    wrong(refused(&[&one, &impostor(&two)]), &two);
    assert_eq!(files(), before, "a file that is refused is left as it is");

    let both = KeyRing::of(one).with_active(two);
    let store = SqliteStore::open(&path, a_vault_with(both)).unwrap();
    assert_eq!(store.find_endpoint(endpoint.id).await.unwrap(), Some(endpoint));
    assert!(store.read_event(EventId::from_u128(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn whether_a_file_holds_sealed_texts_is_known_before_it_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("postrider.db");
    assert!(!holds_sealed(&path).unwrap());
    assert!(!path.exists());
    std::fs::write(&path, "").unwrap();
    assert!(!holds_sealed(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    assert!(holds_sealed(&path).unwrap());
    // As a crash leaves it: all that was written is in the log.
    drop(store);
    assert!(holds_sealed(&path).unwrap());
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
    assert!(holds_sealed(&copy).unwrap());
    let diary = directory.path().join("diary.txt");
    std::fs::write(&diary, "Dear diary, ".repeat(1_000)).unwrap();
    assert!(matches!(holds_sealed(&diary).unwrap_err(), OpenError::NotADatabase(_)));
}

#[tokio::test]
async fn one_damaged_secret_does_not_keep_the_file_shut() {
    let scene = Scene::open().await;
    scene.tamper("UPDATE endpoints SET secret = x'01'").await;
    let Scene { store, path, endpoint, account, _directory: _kept, .. } = scene;
    drop(store);
    let store = SqliteStore::open(&path, a_vault()).unwrap();
    names(&store.find_endpoint(endpoint.id).await.unwrap_err(), "endpoints.secret");
    assert_eq!(store.read_account(account.id).await.unwrap(), Some(account));
    assert_eq!(store.sealing_keys().await.unwrap(), [(a_key(1).id(), 2)], "headers, a data key");
}

#[tokio::test]
async fn one_endpoint_under_a_key_that_does_not_open_it_hurts_its_account_alone() {
    let scene = Scene::open().await;
    let other = an_endpoint(&scene.account, 2);
    scene.store.create_endpoint(other.clone(), 10, note_at(TEST_START)).await.unwrap();
    // A key that no ring has; and one that the ring has but that sealed nothing else.
    for key in [9_u8, 2] {
        scene
            .write(move |ledger| {
                ledger.execute(
                    "UPDATE endpoints SET \
                     secret = CAST(x'01' || ?1 || substr(secret, 10) AS BLOB) WHERE rowid = 1",
                    [[key; 8]],
                )
            })
            .await
            .unwrap();
        let copy = scene.path.with_extension(key.to_string());
        let sql = format!("VACUUM INTO '{}'", copy.display());
        rusqlite::Connection::open(&scene.path).unwrap().execute_batch(&sql).unwrap();
        let ring = KeyRing::of(a_key(2)).with_active(a_key(1));
        let store = SqliteStore::open(&copy, a_vault_with(ring)).unwrap();
        names(&store.find_endpoint(scene.endpoint.id).await.unwrap_err(), "endpoints.secret");
        assert_eq!(store.find_endpoint(other.id).await.unwrap().as_ref(), Some(&other));
    }
}
