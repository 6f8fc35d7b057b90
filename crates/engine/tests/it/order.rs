//! Order: one after the other where asked, whatever fails; other keys move on, and the block shows.

use std::collections::HashMap;
use std::time::Duration;

use domain::account::Account;
use domain::delivery::StateName;
use engine::administer::EndpointEdit;
use engine::publish::Publish;
use engine::scope::Scope;
use testkit::doubles::Reply;

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";

/// A subscriber whose endpoint keeps this order and tries again every few seconds.
async fn subscriber(scene: &Scene, ordering: &str) -> Account {
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit {
        ordering: Some(Some(ordering.to_owned())),
        retry_schedule: Some(Some(vec![0, 5, 5, 5, 5, 5])),
        ..EndpointEdit::default()
    };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    account
}

async fn publish(scene: &Scene, account: &Account, key: Option<usize>) -> String {
    let ordering_key = key.map(|key| format!("key {key}"));
    let event = Publish { ordering_key, ..an_event(account) };
    scene.engine.publish(Scope::OPERATOR, event, None).await.unwrap().id.to_string()
}

/// Replies of which one in ten is a failure, in no regular order.
fn one_in_ten_fails(count: u64) -> Vec<u16> {
    (0..count).map(|n| if n.wrapping_mul(2_654_435_761) % 97 < 10 { 500 } else { 200 }).collect()
}

/// The events that were delivered, in that order.
fn delivered(scene: &Scene, statuses: &[u16]) -> Vec<String> {
    let requests = scene.sender.requests();
    let id = |sent: &testkit::doubles::SentRequest| sent.header("webhook-id").unwrap().to_owned();
    // What the script does not reach succeeds.
    let successes = requests.iter().enumerate();
    let successes = successes.filter(|(at, _)| statuses.get(*at).is_none_or(|it| *it == 200));
    successes.map(|(_, sent)| id(sent)).collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_in_order_gets_one_after_the_other_whatever_fails() {
    let scene = Scene::new().await;
    let account = subscriber(&scene, "fifo").await;
    let statuses = one_in_ten_fails(300);
    scene.sender.script(URL, statuses.iter().copied().map(Reply::status));
    scene.sender.otherwise(Reply::status(200));
    let mut published = Vec::new();
    for _ in 0..200 {
        published.push(publish(&scene, &account, None).await);
    }
    scene.drain().await;
    assert_eq!(delivered(&scene, &statuses), published);
    assert_eq!(scene.sender.in_flight_peak_to(URL), 1);
    assert!(scene.sender.requests().len() > 210, "some failed");
}

#[tokio::test(start_paused = true)]
async fn each_key_keeps_its_order_and_no_key_waits_for_another() {
    let scene = Scene::new().await;
    let account = subscriber(&scene, "fifo_by_key").await;
    let statuses = one_in_ten_fails(1_500);
    let replies = statuses.iter().map(|it| Reply::status(*it).after(Duration::from_millis(20)));
    scene.sender.script(URL, replies);
    scene.sender.otherwise(Reply::status(200));
    let mut published: HashMap<usize, Vec<String>> = HashMap::new();
    let mut key_of: HashMap<String, usize> = HashMap::new();
    for number in 0..1_000 {
        let key = number % 50;
        let id = publish(&scene, &account, Some(key)).await;
        key_of.insert(id.clone(), key);
        published.entry(key).or_default().push(id);
    }
    scene.drain().await;
    let mut in_order: HashMap<usize, Vec<String>> = HashMap::new();
    for id in delivered(&scene, &statuses) {
        in_order.entry(key_of[&id]).or_default().push(id);
    }
    assert_eq!(in_order, published);
    assert!(scene.sender.in_flight_peak_to(URL) > 16, "keys go side by side");
}

#[tokio::test(start_paused = true)]
async fn a_block_shows_ends_with_what_blocks_and_holds_no_other_key_up() {
    let scene = Scene::new().await;
    let account = subscriber(&scene, "fifo_by_key").await;
    // The first, alone on its way, fails each time until it is exhausted.
    scene.sender.script(URL, [Reply::status(500)]);
    let first = publish(&scene, &account, Some(1)).await;
    scene.sender.wait_for_replies(1).await;
    let second = publish(&scene, &account, Some(1)).await;
    let other = publish(&scene, &account, Some(2)).await;
    let free = publish(&scene, &account, None).await;
    scene.pass(Duration::from_secs(1)).await;
    let deliveries = scene.deliveries().await;
    let of = |event: &str| deliveries.iter().find(|it| it.event.to_string() == event).unwrap();
    assert_eq!(of(&other).state.name(), StateName::Delivered);
    assert_eq!(of(&free).state.name(), StateName::Delivered);
    assert_eq!(of(&second).state.name(), StateName::Pending);
    assert_eq!(of(&second).waits_for, Some(of(&first).id));
    assert_eq!(of(&second).attempts, 0);
    assert_eq!(of(&first).waits_for, None);
    // When the first is exhausted, the second goes at once.
    scene.sender.script(URL, vec![Reply::status(500); 5]);
    let requests = scene.sender.wait_for(9).await;
    let ids: Vec<&str> =
        requests[3..].iter().map(|sent| sent.header("webhook-id").unwrap()).collect();
    assert_eq!(ids[..5], vec![first.as_str(); 5]);
    assert_eq!(ids[5], second);
    assert!(requests[8].at - requests[7].at < Duration::from_millis(10));
    scene.drain().await;
}
