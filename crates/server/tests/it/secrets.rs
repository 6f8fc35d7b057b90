//! What a thief of the database or of the logs has: nothing.

use std::path::Path;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::contract::Contract;
use http::Method;
use serde_json::{Value, json};
use testkit::receiver::{Answer, Receiver};

use crate::client::Caller;
use crate::customer::Customer;
use crate::program::{Home, OPERATOR_KEY, Service, binary, clean, eventually};

/// A value that no delivery, attempt or log may show a thief.
const PAYLOAD: &str = "the-payload-that-nobody-else-may-read";
const HEADER: &str = "Bearer the-customer-of-ours-has-a-token-too";
const ECHO: &str = "the-receiver-said-something-confidential";

/// What must not be found, in every spelling that a program might have given it.
#[derive(Default)]
struct Needles(Vec<(String, Vec<u8>)>);

impl Needles {
    fn add(&mut self, what: &str, bytes: &[u8]) {
        let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap();
        let hex: String =
            bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        for (spelling, bytes) in [
            ("plain", bytes.to_vec()),
            ("base64", STANDARD.encode(bytes).trim_end_matches('=').as_bytes().to_vec()),
            ("base64url", URL_SAFE_NO_PAD.encode(bytes).into_bytes()),
            ("HEX", hex.to_uppercase().into_bytes()),
            ("hex", hex.into_bytes()),
        ] {
            self.0.push((format!("{what}, {spelling}"), bytes));
        }
    }

    /// A signing secret: its text, and the bytes that its text stands for.
    fn add_secret(&mut self, what: &str, secret: &str) {
        let encoded = secret.strip_prefix("whsec_").unwrap();
        self.add(what, encoded.as_bytes());
        self.add(&format!("{what}, decoded"), &STANDARD.decode(encoded).unwrap());
    }

    /// An API key: all of it, and the part that nobody can guess.
    fn add_key(&mut self, what: &str, key: &str) {
        self.add(what, key.as_bytes());
        self.add(&format!("{what}, secret part"), &key.as_bytes()[23..66]);
    }

    #[track_caller]
    fn assert_not_in(&self, place: &str, haystack: &[u8]) {
        for (what, needle) in &self.0 {
            assert!(!contains(haystack, needle), "{what} is in {place}");
        }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// Every byte of every file in the folder but the key file's.
fn dump(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "keys") {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_of_the_database_and_of_the_logs_at_trace_holds_no_key_no_secret_and_no_payload() {
    let home = Home::new().with(&["--log", "trace", "--retry-schedule", "0,1"]);
    let receiver = Receiver::start().await;
    receiver.script("/standard", [Answer::status(500).with_body(ECHO)]);
    let service = home.serve().await;
    let mut needles = Needles::default();
    needles.add("the operator key", OPERATOR_KEY.as_bytes());
    needles.add("the payload", PAYLOAD.as_bytes());
    needles.add("a custom header's value", HEADER.as_bytes());
    needles.add("what the receiver said", ECHO.as_bytes());

    for contract in Contract::ALL {
        let name = contract.name();
        let customer = Customer::new(&service, contract).await;
        let endpoint = customer.register(&receiver.url(&format!("/{name}"))).await;
        needles.add_key(&format!("the key of {name}"), customer.caller.key());
        needles.add_secret(&format!("the first secret of {name}"), &endpoint.secret);
        customer.change(&endpoint, &json!({"headers": {"x-token": HEADER}})).await;
        let path = format!("/api/v1/endpoints/{}/rotate-secret", endpoint.id);
        let rotated = service.operator().post(&path, &json!({})).await.json(200);
        let second = rotated["secret"].as_str().unwrap();
        needles.add_secret(&format!("the second secret of {name}"), second);

        let event = customer.publish(&format!(r#"{{"said":"{PAYLOAD}"}}"#)).await;
        let is_delivered = |delivery: &Value| delivery["state"] == "delivered";
        service.delivery_until(&event, "a delivered event", is_delivered).await;
        // Whoever may, reads all of it.
        let read = service.operator().get(&format!("/api/v1/events/{event}")).await.to_string();
        assert!(read.contains(PAYLOAD));
        // Whoever may not, tries.
        let mut wrong = customer.caller.key().to_owned();
        wrong.replace_range(30..31, if wrong.as_bytes()[30] == b'x' { "y" } else { "x" });
        needles.add("a wrong key", wrong.as_bytes());
        Caller::bearer(service.address, &wrong)
            .call(Method::GET, "/api/v1/accounts", "")
            .await
            .json(401);
    }
    let attempts = attempts_of_all(&service).await;
    assert!(attempts.contains(ECHO) && attempts.contains(HEADER), "what is kept can be read");

    let metrics = service.operator().call(Method::GET, "/metrics", "").await.text;
    let running = dump(home.folder());
    assert!(contains(&running, b"customer of konpro_v1"), "the search finds what is there");
    needles.assert_not_in("the database while it runs", &running);
    needles.assert_not_in("the metrics", metrics.as_bytes());
    let log = service.log().join("\n");
    assert!(log.contains("an attempt failed"), "the log has what others leave out: {log}");
    needles.assert_not_in("the log", log.as_bytes());
    service.terminate();
    assert!(service.ended().await.success());
    needles.assert_not_in("the database at rest", &dump(home.folder()));
}

async fn attempts_of_all(service: &Service) -> String {
    let mut text = String::new();
    let deliveries = service.operator().get("/api/v1/deliveries").await;
    for delivery in deliveries["data"].as_array().unwrap() {
        let id = delivery["id"].as_str().unwrap();
        text +=
            &service.operator().get(&format!("/api/v1/deliveries/{id}/attempts")).await.to_string();
    }
    text
}

fn key_file(home: &Home) -> std::path::PathBuf {
    home.folder().join("postrider.db.keys")
}

async fn run(home: &Home, arguments: &[&str]) -> Output {
    let mut command = clean(binary(), arguments);
    command.env("POSTRIDER_OPERATOR_KEY", OPERATOR_KEY);
    command.arg("--store").arg(format!("sqlite:{}", home.store().display()));
    tokio::time::timeout(testkit::PATIENCE, command.output()).await.expect("it ends").unwrap()
}

#[track_caller]
fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("postrider: "), "{said}");
    for word in words {
        assert!(last.contains(word), "no {word} in {said}");
    }
}

#[tokio::test]
async fn without_the_key_file_or_with_another_the_service_refuses_to_start_and_changes_nothing() {
    let home = Home::new();
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register("http://127.0.0.1:9/hook").await;
    service.terminate();
    assert!(service.ended().await.success());
    let kept = std::fs::read(key_file(&home)).unwrap();

    std::fs::remove_file(key_file(&home)).unwrap();
    refused(&run(&home, &["serve"]).await, &["postrider.db.keys", "missing", "--keys"]);
    assert!(!key_file(&home).exists(), "no new key is made");

    // A key file of another installation, and one whose key has the right id and other bytes.
    let other = Home::new();
    other.serve().await.kill().await;
    std::fs::copy(key_file(&other), key_file(&home)).unwrap();
    refused(&run(&home, &["serve"]).await, &["key"]);
    let text = String::from_utf8(kept.clone()).unwrap();
    let line = text.lines().find(|line| !line.starts_with('#')).unwrap();
    let forged = format!("{} {}\n", line.split(' ').next().unwrap(), STANDARD.encode([7; 32]));
    std::fs::write(key_file(&home), forged).unwrap();
    refused(&run(&home, &["serve"]).await, &["key"]);

    std::fs::write(key_file(&home), kept).unwrap();
    let service = home.serve().await;
    let path = format!("/api/v1/endpoints/{}/secret", endpoint.id);
    let shown = service.operator().get(&path).await;
    assert_eq!(shown["secret"], endpoint.secret.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sealing_keys_are_rotated_while_deliveries_go_on_and_while_nothing_runs() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register(&receiver.url("/hook")).await;
    let before = customer.publish(r#"{"number":1}"#).await;
    let first = std::fs::read_to_string(key_file(&home)).unwrap();

    let listen = service.address.to_string();
    let rotated = run(&home, &["keys", "rotate", "--listen", &listen]).await;
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    let state = service.operator().get("/api/v1/sealing-keys").await;
    let second = std::fs::read_to_string(key_file(&home)).unwrap();
    assert!(second.contains(first.lines().last().unwrap()), "the old key stays for backups");
    let active = state["active"].as_str().unwrap();
    assert!(second.contains(active) && !first.contains(active), "{state}");
    let old = state["keys"].as_array().unwrap().iter().find(|key| key["id"] != active).unwrap();
    assert_eq!(old["secrets"], 0, "{state}");
    let after = customer.publish(r#"{"number":2}"#).await;
    service.terminate();
    assert!(service.ended().await.success());

    let offline = run(&home, &["keys", "rotate"]).await;
    assert!(offline.status.success(), "{}", String::from_utf8_lossy(&offline.stderr));
    // The newest key alone opens all: what it sealed and the data keys that seal the payloads.
    let third = std::fs::read_to_string(key_file(&home)).unwrap();
    let newest = third.lines().find(|line| !line.starts_with('#')).unwrap();
    std::fs::write(key_file(&home), format!("{newest}\n")).unwrap();
    let service = home.serve().await;
    for (event, number) in [(before, 1), (after, 2)] {
        let read = service.operator().get(&format!("/api/v1/events/{event}")).await;
        assert_eq!(read["data"]["number"], number);
    }
    let path = format!("/api/v1/endpoints/{}/secret", endpoint.id);
    assert_eq!(service.operator().get(&path).await["secret"], endpoint.secret.as_str());
    let audit = service.operator().get("/api/v1/audit?action=sealing_key.activated").await;
    assert_eq!(audit["data"].as_array().unwrap().len(), 2, "{audit}");
    eventually("both events at the receiver", async || {
        (receiver.requests().len() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_rotation_that_the_service_cannot_be_told_of_says_what_to_do() {
    let home = Home::new();
    let service = home.serve().await;
    let mut command = clean(binary(), &["keys", "rotate", "--listen"]);
    command.arg(service.address.to_string());
    command.arg("--store").arg(format!("sqlite:{}", home.store().display()));
    let without_key = command.output().await.unwrap();
    refused(&without_key, &["POSTRIDER_OPERATOR_KEY"]);
    let nobody = run(&home, &["keys", "rotate", "--listen", "127.0.0.1:1"]).await;
    assert_eq!(nobody.status.code(), Some(1));
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(said.contains("next start"), "{said}");
    // It is so: the next start takes the new key into use.
    service.terminate();
    assert!(service.ended().await.success());
    let service = home.serve().await;
    let state = service.operator().get("/api/v1/sealing-keys").await;
    assert_eq!(state["keys"].as_array().unwrap().len(), 2, "{state}");
    assert_eq!(state["keys"][1]["secrets"], 0, "{state}");
}

#[track_caller]
fn key_ids(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap();
    let keys = text.lines().filter(|line| !line.starts_with('#'));
    keys.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rotation_that_the_service_does_not_follow_fails_and_names_both_keys() {
    let home = Home::new();
    let service = home.serve().await;
    let in_use = key_ids(&key_file(&home)).remove(0);
    let copy = home.folder().join("copy.keys");
    std::fs::copy(key_file(&home), &copy).unwrap();
    let other = Home::new();
    let other_service = other.serve().await;
    let other_in_use = key_ids(&key_file(&other)).remove(0);

    let own = service.address.to_string();
    let of_other = other_service.address.to_string();
    let copied = copy.to_str().unwrap();
    for (listen, file, active) in
        [(&own, copied, &in_use), (&of_other, key_file(&home).to_str().unwrap(), &other_in_use)]
    {
        let output = run(&home, &["keys", "rotate", "--listen", listen, "--keys", file]).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let added = &key_ids(Path::new(file))[0];
        for word in [active, added, "--keys", "--listen", "if that is the service's key file"] {
            assert!(said.contains(word), "no {word} in {said}");
        }
    }
    let state = service.operator().get("/api/v1/sealing-keys").await;
    assert_eq!(state["active"], in_use.as_str(), "{state}");
}

#[tokio::test]
async fn a_rotation_where_nothing_is_sealed_is_refused_and_writes_nothing() {
    let home = Home::new();
    home.serve().await.kill().await;
    let before = std::fs::read(key_file(&home)).unwrap();
    let other = Home::new();
    let file = key_file(&home);
    let keys = ["keys", "rotate", "--keys", file.to_str().unwrap()];
    refused(&run(&other, &keys).await, &["nothing is sealed at", "postrider.db", "--store"]);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    assert!(!other.store().exists(), "no store is made");
}
