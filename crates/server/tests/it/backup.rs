//! `postrider backup`: a copy that can be relied on, or one line that says why there is none.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use domain::contract::Contract;
use testkit::receiver::{Answer, Receiver};

use crate::customer::Customer;
use crate::program::{Home, binary, clean, eventually};

/// Runs `postrider backup` on the home's store.
async fn back_up(home: &Home, file: &Path, more: &[&str]) -> Output {
    let mut command = clean(binary(), &["backup"]);
    command.arg(file).arg("--store").arg(format!("sqlite:{}", home.store().display())).args(more);
    tokio::time::timeout(testkit::PATIENCE, command.output()).await.expect("it ends").unwrap()
}

/// What it printed; it must have succeeded.
#[track_caller]
fn told(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// It must have ended with this code and one line that has these words.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("postrider: ") && said.lines().count() == 1, "{said}");
    for word in words {
        assert!(said.contains(word), "no {word} in {said}");
    }
    assert!(output.stdout.is_empty());
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A home with a copy of that backup, and of the key file of the home it is of.
fn restored(backup: &Path, of: &Home) -> Home {
    let home = Home::new();
    std::fs::copy(backup, home.store()).unwrap();
    std::fs::copy(key_file(of), key_file(&home)).unwrap();
    home
}

fn key_file(home: &Home) -> PathBuf {
    home.folder().join("postrider.db.keys")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_service_holds_every_event_acknowledged_before_and_is_served_elsewhere()
{
    let home = Home::new();
    let receiver = Receiver::start().await;
    receiver.otherwise(Answer::status(500));
    let service = home.serve().await;
    let customer = Arc::new(Customer::new(&service, Contract::JoggV2).await);
    customer.register(&receiver.url("/hook")).await;
    let mut acknowledged = Vec::new();
    for number in 0..20 {
        acknowledged.push(customer.publish(&format!(r#"{{"video_id":"{number}"}}"#)).await);
    }
    let stops = Arc::new(AtomicBool::new(false));
    let publishing = {
        let (customer, stops) = (Arc::clone(&customer), Arc::clone(&stops));
        tokio::spawn(async move {
            while !stops.load(Ordering::SeqCst) {
                customer.publish(r#"{"video_id":"later"}"#).await;
            }
        })
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("monday.db");
    let said = told(&back_up(&home, &file, &[]).await);
    stops.store(true, Ordering::SeqCst);
    publishing.await.unwrap();
    for words in ["monday.db", "events accepted", "pending", "postrider.db.keys", "another place"] {
        assert!(said.contains(words), "no {words} in {said}");
    }
    assert_eq!(names_in(elsewhere.path()), ["monday.db"], "one file, and nothing beside it");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "nobody but its owner may read it");
    }
    service.kill().await;

    let again = restored(&file, &home);
    receiver.otherwise(Answer::status(200));
    let before = receiver.requests().len();
    let service = again.serve().await;
    service.settled().await;
    let requests = receiver.requests().split_off(before);
    for event in acknowledged {
        let arrived = requests.iter().filter(|it| it.header("webhook-id") == Some(&event));
        assert!(
            arrived.clone().any(testkit::receiver::ReceivedRequest::succeeded),
            "{event} is lost"
        );
    }
    service.terminate();
    assert!(service.ended().await.success());
}

#[tokio::test]
async fn a_backup_of_what_a_crash_left_is_whole_and_changes_nothing() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    customer.register(&receiver.url("/hook")).await;
    let event = customer.publish(r#"{"number":1}"#).await;
    service.kill().await;
    let read = || {
        ["postrider.db", "postrider.db-wal"]
            .map(|it| std::fs::read(home.folder().join(it)).unwrap())
    };
    let before = read();
    let file = home.folder().join("copy.db");
    told(&back_up(&home, &file, &[]).await);
    assert!(before == read());
    let again = restored(&file, &home);
    let service = again.serve().await;
    let shown = service.operator().get(&format!("/api/v1/events/{event}")).await;
    assert_eq!(shown["data"]["number"], 1);
}

#[tokio::test]
async fn whatever_keeps_a_backup_from_being_made_is_said_in_one_line_and_leaves_nothing() {
    let home = Home::new();
    let service = home.serve().await;
    service.terminate();
    assert!(service.ended().await.success());
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("copy.db");
    let there = home.folder().join("there.db");
    std::fs::write(&there, "mine").unwrap();
    let noise = home.folder().join("noise.db");
    std::fs::write(&noise, "this is no database ".repeat(300)).unwrap();

    refused(&back_up(&home, &there, &[]).await, 2, &["there.db", "exists", "another file"]);
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
    refused(&back_up(&home, elsewhere.path(), &[]).await, 2, &["is a folder", "name a file"]);
    let nowhere = elsewhere.path().join("no/copy.db");
    refused(&back_up(&home, &nowhere, &[]).await, 2, &["folder that does not exist"]);
    let other = Home::new();
    refused(&back_up(&other, &file, &[]).await, 2, &["nothing is kept at", "--store"]);
    assert!(!other.store().exists(), "no store is made");
    let store = format!("sqlite:{}", noise.display());
    let mut command = clean(binary(), &["backup", "--store", &store]);
    let output = command.arg(&file).output().await.unwrap();
    refused(&output, 2, &["not a Postrider database", "--store"]);

    let keys = std::fs::read(key_file(&home)).unwrap();
    std::fs::remove_file(key_file(&home)).unwrap();
    refused(&back_up(&home, &file, &[]).await, 2, &["keys: cannot read", "postrider.db.keys"]);
    other.serve().await.kill().await;
    std::fs::copy(key_file(&other), key_file(&home)).unwrap();
    refused(&back_up(&home, &file, &[]).await, 2, &["sealed under the key", "--keys"]);
    std::fs::write(key_file(&home), keys).unwrap();

    rusqlite::Connection::open(home.store())
        .unwrap()
        .pragma_update(None, "user_version", 9_999)
        .unwrap();
    refused(&back_up(&home, &file, &[]).await, 1, &["later Postrider"]);
    assert_eq!(names_in(elsewhere.path()), Vec::<String>::new());
}

/// Largest file that a process may write, in blocks of 512 bytes (POSIX, `ulimit -f`): less than the
/// smallest store has, more than the index of a log.
const BLOCKS_MAX: u32 = 128;

#[tokio::test]
async fn a_disk_that_takes_no_more_leaves_no_part_of_a_backup() {
    let home = Home::new();
    home.serve().await.kill().await;
    let elsewhere = tempfile::tempdir().unwrap();
    // Beyond the limit a write fails, once the signal that would kill is ignored.
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS_MAX}; exec \"$0\" \"$@\"");
    let mut command = clean("/bin/sh".as_ref(), &["-c", &script]);
    command.arg(binary()).arg("backup").arg(elsewhere.path().join("copy.db"));
    command.arg("--store").arg(format!("sqlite:{}", home.store().display()));
    refused(&command.output().await.unwrap(), 1, &["cannot copy to", "copy.db"]);
    assert_eq!(names_in(elsewhere.path()), Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_put_where_a_killed_service_left_its_log_is_not_served_until_the_log_is_gone() {
    let home = Home::new();
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    let file = home.folder().join("copy.db");
    told(&back_up(&home, &file, &[]).await);
    Customer::named(&service, Contract::Standard, "another customer").await;
    service.kill().await;
    std::fs::copy(&file, home.store()).unwrap();
    let mut command = clean(binary(), &[]);
    command.args(home.arguments());
    let output = command.output().await.unwrap();
    refused(&output, 1, &["log of another database", "-wal", "away"]);
    for ending in ["-wal", "-shm"] {
        std::fs::remove_file(home.folder().join(format!("postrider.db{ending}"))).unwrap();
    }
    let service = home.serve().await;
    let accounts = service.operator().get("/api/v1/accounts").await;
    assert_eq!(accounts["data"].as_array().unwrap().len(), 1, "{accounts}");
    assert_eq!(accounts["data"][0]["id"], customer.account.as_str());
    eventually("readiness", async || {
        let answer = service.operator().call(http::Method::GET, "/readyz", "").await;
        (answer.status == 200).then_some(())
    })
    .await;
}
