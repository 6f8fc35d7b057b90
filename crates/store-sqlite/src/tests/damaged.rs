//! What a disk made of the files while nobody had them open.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use domain::delivery::{DeliveryState, EndReason};
use domain::id::DeliveryId;
use domain::testing::TEST_START;
use store::StoreError;
use store::catalogue::Catalogue as _;
use store::history::History as _;
use store::queue::{LaneRoom, Queue as _};
use tempfile::TempDir;

use super::{Scene, a_vault, body};
use crate::row::ENDPOINT_CLEAR;
use crate::{BackupError, OpenError, SqliteStore, back_up, holds_sealed};

const FRAME: usize = 24 + 4_096;

/// What a process that was killed leaves, once per test, to be copied and damaged.
struct Left {
    directory: TempDir,
}

impl Left {
    /// A store with ten events, of which nothing was copied from the log into the file yet.
    async fn by_a_crash() -> Self {
        let scene = Scene::open().await;
        for number in 1..=10 {
            scene.publish(number, body()).await.unwrap();
        }
        Self::of(&scene.path)
    }

    fn of(path: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
        }
        Self { directory }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("postrider.db{suffix}"))
    }

    fn alter(&self, suffix: &str, alter: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(suffix)).unwrap();
        alter(&mut bytes);
        std::fs::write(self.path(suffix), bytes).unwrap();
    }

    fn remove(&self, suffix: &str) {
        std::fs::remove_file(self.path(suffix)).unwrap();
    }

    fn open(&self) -> Result<SqliteStore, OpenError> {
        SqliteStore::open(&self.path(""), a_vault())
    }

    #[track_caller]
    fn is_refused_for_its_log(&self) -> String {
        let Err(error) = self.open() else { panic!("opened") };
        assert!(matches!(error, OpenError::LogDamaged { .. }), "{error}");
        error.to_string()
    }

    async fn events(&self) -> u64 {
        self.open().unwrap().counts().await.unwrap().events
    }
}

/// Where the frames begin that end a transaction.
fn commits(log: &[u8]) -> Vec<usize> {
    let begins = (32..log.len()).step_by(FRAME);
    begins.filter(|at| log[at + 4..at + 8] != [0; 4]).collect()
}

#[tokio::test]
async fn a_log_with_a_flipped_bit_is_refused_wherever_that_is() {
    let left = Left::by_a_crash().await;
    let whole = std::fs::read(left.path("-wal")).unwrap();
    let last = *commits(&whole).iter().rev().nth(1).unwrap() + FRAME;
    // In the header, in the heads of frames, in pages; first and last of what is behind.
    for at in [2, 9, 17, 30, 32 + 1, 32 + 6, 32 + 10, 32 + 20, 32 + 999, last / 2, last - 1] {
        for has_index in [true, false] {
            let left = Left::of(&left.path(""));
            left.alter("-wal", |log| log[at] ^= 1);
            if !has_index {
                left.remove("-shm");
            }
            left.is_refused_for_its_log();
        }
    }
    // The last transaction might never have been finished, but for the index.
    left.alter("-wal", |log| *log.last_mut().unwrap() ^= 1);
    left.is_refused_for_its_log();
}

#[tokio::test]
async fn a_log_that_was_cut_or_emptied_or_is_gone_is_refused_while_its_index_is_there() {
    let left = Left::by_a_crash().await;
    let whole = std::fs::read(left.path("-wal")).unwrap();
    for end in commits(&whole) {
        let left = Left::of(&left.path(""));
        left.alter("-wal", |log| log.truncate(end));
        left.is_refused_for_its_log();
    }
    for length in [0, 31, 32, 33] {
        let left = Left::of(&left.path(""));
        left.alter("-wal", |log| log.truncate(length));
        left.is_refused_for_its_log();
    }
    let zeros = Left::of(&left.path(""));
    zeros.alter("-wal", |log| log.fill(0));
    zeros.is_refused_for_its_log();
    left.remove("-wal");
    let refusal = left.is_refused_for_its_log();
    assert!(refusal.contains("truncate -s 0"), "{refusal}");
}

#[tokio::test]
async fn the_way_to_go_on_that_a_refusal_names_leads_to_what_is_whole() {
    let left = Left::by_a_crash().await;
    let whole = std::fs::read(left.path("-wal")).unwrap();
    let commits = commits(&whole);
    // In the last but two, which are the events of these numbers.
    let at = commits[commits.len() - 3] - FRAME + 100;
    left.alter("-wal", |log| log[at] ^= 1);
    let refusal = left.is_refused_for_its_log();
    let (_, way) = refusal.split_once("truncate -s ").expect("it names a way");
    let length: u64 = way.split(' ').next().unwrap().parse().unwrap();
    let log = std::fs::OpenOptions::new().write(true).open(left.path("-wal")).unwrap();
    log.set_len(length).unwrap();
    left.remove("-shm");
    assert_eq!(left.events().await, 7);
}

#[tokio::test]
async fn no_way_to_go_on_is_named_where_the_database_may_have_what_would_be_cut_off() {
    let left = Left::by_a_crash().await;
    // What a recovery leaves, and a checkpoint that a crash broke off: copying was begun up to there.
    left.alter("-shm", |index| index[128..132].fill(0xff));
    left.alter("-wal", |log| *log.last_mut().unwrap() ^= 1);
    let refusal = left.is_refused_for_its_log();
    assert!(refusal.contains("restore a backup"), "{refusal}");
    assert!(!refusal.contains("truncate"), "{refusal}");
}

#[tokio::test]
async fn a_damaged_log_is_refused_a_copy_and_a_look_which_leave_the_proof_of_its_damage() {
    let left = Left::by_a_crash().await;
    left.alter("-wal", |log| *log.last_mut().unwrap() ^= 1);
    let refused = holds_sealed(&left.path("")).unwrap_err();
    assert!(matches!(refused, OpenError::LogDamaged { .. }), "{refused}");
    let copy = left.path(".copy");
    std::fs::write(&copy, b"").unwrap();
    let refused = back_up(&left.path(""), &copy, &a_vault()).unwrap_err();
    assert!(matches!(refused, BackupError::Database(OpenError::LogDamaged { .. })), "{refused}");
    left.is_refused_for_its_log();
}

#[tokio::test]
async fn what_a_power_loss_leaves_of_the_last_transaction_is_no_damage() {
    let left = Left::by_a_crash().await;
    left.remove("-shm");
    let whole = std::fs::read(left.path("-wal")).unwrap();
    let commits = commits(&whole);
    let [before, last] = [2, 1].map(|back| commits[commits.len() - back]);
    for lost in (before + FRAME..=last).step_by(FRAME) {
        for torn in [0..FRAME, 0..512, 512..FRAME] {
            let left = Left::of(&left.path(""));
            left.alter("-wal", |log| log[lost..][torn.clone()].fill(0));
            assert_eq!(left.events().await, 9, "{lost} {torn:?}");
        }
        let left = Left::of(&left.path(""));
        left.alter("-wal", |log| log.truncate(lost + 100));
        assert_eq!(left.events().await, 9);
    }
    assert_eq!(left.events().await, 10);
}

#[tokio::test]
async fn what_unfinished_transactions_leave_behind_the_log_is_no_damage() {
    let left = Left::by_a_crash().await;
    left.remove("-shm");
    let whole = std::fs::read(left.path("-wal")).unwrap();
    let commits = commits(&whole);
    let [third, second, last] = [3, 2, 1].map(|back| commits[commits.len() - back]);
    // The end of one lies where another began that was lost, twice over.
    left.alter("-wal", |log| {
        log[third + FRAME..third + 2 * FRAME].fill(7);
        let end = log[second..last + FRAME].to_vec();
        log.truncate(second + FRAME);
        log.extend_from_slice(&[9; FRAME]);
        log.extend_from_slice(&end[end.len() - FRAME..]);
    });
    assert_eq!(left.events().await, 8);
}

#[tokio::test]
async fn a_log_that_was_emptied_in_good_order_is_none_that_is_missing() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    // A power loss may leave the index as it was synced last.
    let while_open = std::fs::read(index_of(&scene.path)).unwrap();
    scene.store.close().await.unwrap();
    let left = Left::of(&scene.path);
    assert_eq!(std::fs::metadata(left.path("-wal")).unwrap().len(), 0);
    assert_eq!(left.events().await, 1);
    let left = Left::of(&scene.path);
    left.alter("-shm", |index| index.clone_from(&while_open));
    left.is_refused_for_its_log();
    left.alter("-shm", |index| {
        // All was copied before it was emptied, and that is what was synced.
        let frames: [u8; 4] = index[16..20].try_into().unwrap();
        index[96..100].copy_from_slice(&frames);
    });
    assert_eq!(left.events().await, 1);
}

fn index_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(OsStr::new("-shm"));
    name.into()
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_begun_anew_beside_its_log() {
    let left = Left::by_a_crash().await;
    left.remove("");
    let Err(error) = left.open() else { panic!("opened") };
    assert!(matches!(error, OpenError::Gone(_)), "{error}");
    assert!(!left.path("").exists());
}

#[tokio::test]
async fn a_delivery_that_names_another_event_is_set_aside_and_sends_nothing() {
    let scene = Scene::open().await;
    for number in 1..=3 {
        scene.publish(number, body()).await.unwrap();
    }
    let altered = "UPDATE deliveries SET event = 2 WHERE event = 1";
    scene.write(|ledger| ledger.execute(altered, [])).await.unwrap();
    let lanes = vec![LaneRoom { endpoint: scene.endpoint.id, room: 10 }];
    let claims = scene.store.claim_due(scene.session, TEST_START, lanes).await.unwrap();
    let claimed: Vec<_> = claims[0].claimed.iter().map(|it| it.lease.delivery).collect();
    assert_eq!(claimed, [2, 3].map(DeliveryId::from_u128));
    let aside = scene.store.read_delivery(DeliveryId::from_u128(1)).await.unwrap().unwrap();
    assert_eq!(aside.state, DeliveryState::Exhausted(EndReason::SetAside));
}

#[tokio::test]
async fn an_endpoint_whose_row_was_altered_in_the_clear_is_not_read() {
    for alteration in [
        "url = 'https://hooks.customer.con/a'",
        "contract = 'jogg_v2'",
        "disabled_reason = 'gone'",
        "event_types = 'video.deleted'",
        "entity_id = 'video_2'",
        "rate = 7",
        "timeout_s = 7",
        "updated_at = updated_at + 1",
        "digest = NULL",
    ] {
        let scene = Scene::open().await;
        let account = scene.account.id;
        assert!(scene.store.read_roster(account).await.unwrap().is_some());
        let altered = format!("UPDATE endpoints SET {alteration}");
        scene.write(move |ledger| ledger.execute(&altered, [])).await.unwrap();
        let read = scene.store.read_roster(account).await;
        assert!(read.unwrap_err().to_string().contains("endpoints."), "{alteration}");
    }
}

#[tokio::test]
async fn what_of_an_endpoint_is_not_sealed_is_in_its_digest() {
    let scene = Scene::open().await;
    let columns = scene
        .store
        .read(|connection| {
            let mut statement =
                connection.prepare("SELECT name FROM pragma_table_info('endpoints')")?;
            let names = statement.query_map([], |row| row.get(0))?;
            Ok(names.collect::<rusqlite::Result<BTreeSet<String>>>()?)
        })
        .await
        .unwrap();
    let sealed = ["secret", "previous_secret", "headers", "client_identity", "client_credentials"];
    let known = ENDPOINT_CLEAR.into_iter().chain(sealed).chain(["digest"]);
    assert_eq!(columns, known.map(str::to_owned).collect());
}

#[tokio::test]
async fn a_row_that_its_index_has_lost_is_found_and_stops_the_writer() {
    let scene = Scene::open().await;
    scene.publish(1, body()).await.unwrap();
    scene.store.close().await.unwrap();
    let left = Left::of(&scene.path);
    let alter = |sql: &str| {
        let connection = rusqlite::Connection::open(left.path("")).unwrap();
        connection.execute_batch("PRAGMA writable_schema = ON").unwrap();
        connection.execute_batch(sql).unwrap();
    };
    // Told that the index holds other rows, SQLite leaves the one in it as it is.
    let index_of = |from: &str, to: &str| {
        alter(&format!(
            "UPDATE sqlite_schema SET sql = replace(sql, '{from}', '{to}') \
             WHERE name = 'deliveries_open'"
        ));
    };
    index_of("state = 0 OR state = 1", "state = 7");
    alter("UPDATE deliveries SET due_at = due_at + 1");
    index_of("state = 7", "state = 0 OR state = 1");
    let store = left.open().unwrap();
    store.soundness.wait();
    let refused = store.begin_session(TEST_START).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Broken(why) if why.starts_with("deliveries is damaged: ")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_reader_that_meets_damage_stops_the_writer() {
    let scene = Scene::open().await;
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    let meets = move |_: &rusqlite::Connection| {
        Err::<(), _>(rusqlite::Error::SqliteFailure(corrupt, None).into())
    };
    assert!(matches!(scene.store.read(meets).await, Err(StoreError::Broken(_))));
    assert!(matches!(scene.publish(1, body()).await, Err(StoreError::Broken(_))));
}
