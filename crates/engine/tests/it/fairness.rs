//! Nobody delays anybody: bursts, hanging endpoints, equal shares, shared hosts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::account::Account;
use domain::contract::Contract;
use engine::scope::Scope;
use engine::settings::Settings;
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SentRequest};
use tokio::time::Instant;

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";

async fn publish_many(scene: &Scene, account: &Account, count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(1_000) {
        let batch = chunk.iter().map(|_| Ok(an_event(account))).collect();
        let answers = scene.engine.publish_batch(Scope::OPERATOR, batch).await;
        assert!(answers.iter().all(Result::is_ok));
    }
}

/// Publishes one event every `every`, `count` times; answers how long each waited for its first
/// attempt at `url`, ascending.
async fn waits(
    scene: &Scene,
    account: &Account,
    url: &str,
    every: Duration,
    count: usize,
) -> Vec<Duration> {
    let mut published: HashMap<String, Instant> = HashMap::new();
    for _ in 0..count {
        let event = scene.publish(account).await;
        published.insert(event.id.to_string(), Instant::now());
        scene.pass(every).await;
    }
    let to_url = |sent: &&SentRequest| {
        sent.request.url.as_str() == url
            && published.contains_key(sent.header("webhook-id").unwrap())
    };
    let requests = scene
        .sender
        .wait_until("every event's attempt", |all| all.iter().filter(to_url).count() >= count)
        .await;
    let mut waits: Vec<Duration> = requests
        .iter()
        .filter(to_url)
        .map(|sent| sent.at - published[sent.header("webhook-id").unwrap()])
        .collect();
    waits.sort();
    waits
}

fn p99(waits: &[Duration]) -> Duration {
    waits[waits.len() * 99 / 100]
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_twenty_thousand_events_does_not_delay_another_account() {
    let scene = Scene::new().await;
    let (busy, _) = scene.subscriber("busy", "https://busy.example.com/a").await;
    let quiet_url = "https://quiet.example.com/a";
    let (quiet, _) = scene.subscriber("quiet", quiet_url).await;
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(100)));
    publish_many(&scene, &busy, 20_000).await;
    let waits = waits(&scene, &quiet, quiet_url, Duration::from_millis(50), 200).await;
    assert!(p99(&waits) <= Duration::from_secs(2), "{:?}", p99(&waits));
    assert!(scene.sender.requests().len() > 3_000, "the burst goes on meanwhile");
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_hang_delay_neither_their_neighbours_nor_other_accounts() {
    let scene = Scene::new().await;
    let account = scene.account(Contract::Standard, "john").await;
    for number in 0..9 {
        let url = format!("https://hanging{number}.example.com/a");
        scene.sender.always(&url, Reply::silence());
        scene.endpoint(&account, &url).await;
    }
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(20)));
    publish_many(&scene, &account, 1_000).await;
    let neighbour_url = "https://neighbour.example.com/a";
    scene.endpoint(&account, neighbour_url).await;
    let other_url = "https://other.example.com/a";
    let (other, _) = scene.subscriber("jane", other_url).await;
    let every = Duration::from_millis(100);
    let (to_neighbour, to_other) = tokio::join!(
        waits(&scene, &account, neighbour_url, every, 600),
        waits(&scene, &other, other_url, every, 600),
    );
    for waits in [to_neighbour, to_other] {
        let longest = waits[waits.len() - 1];
        assert!(longest <= Duration::from_millis(10), "{longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_full_of_retries_takes_fresh_events_as_soon_as_a_slot_comes_free() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    // Every other one fails: too few for the breaker.
    let replies = (0..1_000).map(|number| Reply::status(if number % 2 == 0 { 500 } else { 200 }));
    scene.sender.script(URL, replies.collect::<Vec<_>>());
    let took = Duration::from_secs(5);
    scene.sender.otherwise(Reply::status(200).after(took));
    publish_many(&scene, &account, 1_000).await;
    scene.sender.wait_for_replies(1_000).await;
    scene.pass(Duration::from_secs(10)).await;
    assert_eq!(scene.engine.load().in_flight, 32, "retries");
    let waits = waits(&scene, &account, URL, Duration::from_millis(500), 100).await;
    let longest = waits[waits.len() - 1];
    assert!(longest <= took, "{longest:?}");
    assert_eq!(scene.engine.load().in_flight, 32, "there are retries yet");
}

#[tokio::test(start_paused = true)]
async fn equal_accounts_get_equal_shares() {
    let settings = Settings { in_flight_max: 64, ..Settings::default() };
    let store = Arc::new(MemoryStore::new());
    let scene = Scene::with(store, ScriptedSender::new(), settings, 7).await;
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(50)));
    let mut accounts = Vec::new();
    for number in 0..10 {
        let url = format!("https://customer{number}.example.com/a");
        let (account, _) = scene.subscriber(&format!("user{number}"), &url).await;
        accounts.push((account, url));
    }
    for (account, _) in &accounts {
        publish_many(&scene, account, 1_500).await;
    }
    scene.pass(Duration::from_secs(10)).await;
    let requests = scene.sender.requests();
    let counts: Vec<f64> = accounts
        .iter()
        .map(|(_, url)| {
            requests.iter().filter(|one| one.request.url.as_str() == url).count() as f64
        })
        .collect();
    let (sum, squares): (f64, f64) =
        counts.iter().fold((0.0, 0.0), |(sum, squares), it| (sum + it, squares + it * it));
    let jain = sum * sum / (counts.len() as f64 * squares);
    assert!(jain >= 0.95, "{jain}: {counts:?}");
    assert!(sum >= 0.8 * 64.0 * 20.0 * 10.0, "the slots are used: {sum}");
}

#[tokio::test(start_paused = true)]
async fn one_host_gets_64_requests_at_once_over_all_accounts_and_everybody_their_turn() {
    let scene = Scene::new().await;
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(50)));
    let mut accounts = Vec::new();
    for number in 0..100 {
        let url = format!("https://shared.example.com/{number}");
        accounts.push(scene.subscriber(&format!("user{number}"), &url).await.0);
    }
    let before = Instant::now();
    for account in &accounts {
        for _ in 0..20 {
            scene.publish(account).await;
        }
    }
    scene.pass(Duration::from_millis(200)).await;
    let requests = scene.sender.requests();
    let mut urls: Vec<&str> = requests.iter().map(|sent| sent.request.url.as_str()).collect();
    urls.sort_unstable();
    urls.dedup();
    assert_eq!(urls.len(), 100, "everybody had a turn");
    scene.drain().await;
    assert_eq!(scene.sender.in_flight_peak(), 64);
    let last = scene.sender.requests().iter().map(|sent| sent.at).max().unwrap();
    assert!(last - before < Duration::from_millis(2_000 * 50 / 64 * 3 / 2), "{:?}", last - before);
}
