//! How fast attempts begin: rates, slow starts, receivers that say "too many".

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::attempt::{Outcome, Phases};
use domain::credentials::ClientIdentity;
use domain::delivery::StateName;
use domain::target_url::TargetUrl;
use domain::testing::TEST_START;
use engine::administer::EndpointEdit;
use engine::scope::Scope;
use engine::sender::{Exchange, Request, Sender};
use engine::settings::Settings;
use engine::{BreakerState, Engine, Parts};
use store::memory::MemoryStore;
use testkit::doubles::{Reply, ScriptedSender, SeededEntropy, SentRequest, TestClock};
use tokio::time::Instant;

use crate::harness::{Scene, an_event};

const URL: &str = "https://hooks.customer.com/a";

/// The most requests that began in any second.
fn busiest_second(mut began: Vec<Instant>) -> usize {
    began.sort();
    let until = |end: Instant| began.partition_point(|at| *at < end);
    began.iter().map(|from| until(*from + Duration::from_secs(1)) - until(*from)).max().unwrap_or(0)
}

fn instants(requests: &[SentRequest]) -> Vec<Instant> {
    requests.iter().map(|sent| sent.at).collect()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_of_10_a_second_and_2_at_once_never_gets_more() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit {
        max_in_flight: Some(Some(2)),
        rate_limit: Some(Some(10)),
        ..EndpointEdit::default()
    };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.sender.otherwise(Reply::status(200).after(Duration::from_millis(120)));
    let before = Instant::now();
    for _ in 0..1_000 {
        scene.publish(&account).await;
    }
    assert_eq!(scene.engine.lane(endpoint.id).rate_per_second, Some(10));
    let requests = scene.sender.wait_for(1_000).await;
    assert_eq!(busiest_second(instants(&requests)), 10);
    assert_eq!(scene.sender.in_flight_peak_to(URL), 2);
    assert!(before.elapsed() < Duration::from_secs(105), "{:?}", before.elapsed());
    scene.drain().await;
    // At rest for a second, nothing is remembered.
    scene.pass(Duration::from_secs(2)).await;
    assert_eq!(scene.engine.lane(endpoint.id).rate_per_second, None);
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_thousands_a_second_is_reached() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit { rate_limit: Some(Some(2_000)), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    for _ in 0..3_000 {
        scene.publish(&account).await;
    }
    let requests = scene.sender.wait_for(3_000).await;
    let took = requests[2_999].at - requests[0].at;
    assert!(busiest_second(instants(&requests)) <= 2_200);
    assert!(took < Duration::from_millis(1_600), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_stops_the_lane_for_a_minute_at_most_and_the_delivery_as_long_as_asked() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit { max_in_flight: Some(Some(1)), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.sender.script(URL, [Reply::retry_after(429, Duration::from_mins(10))]);
    for _ in 0..3 {
        scene.publish(&account).await;
    }
    let start = scene.sender.wait_for(1).await[0].at;
    scene.pass(Duration::from_millis(10)).await;
    let until = scene.engine.lane(endpoint.id).paused_until;
    assert_eq!(until, Some(TEST_START.plus(Duration::from_mins(1))));
    assert_eq!(scene.engine.load().lanes_paused, 1);
    scene.drain().await;
    let requests = scene.sender.requests();
    let gaps: Vec<Duration> = requests.iter().map(|sent| sent.at - start).collect();
    assert_eq!(gaps.len(), 4);
    let minute = Duration::from_mins(1);
    assert!(gaps[1] >= minute && gaps[1] <= minute + Duration::from_millis(5), "{gaps:?}");
    assert!(gaps[2] <= minute + Duration::from_secs(2), "{gaps:?}");
    assert!(gaps[3] >= minute * 10, "{gaps:?}");
    assert_eq!(requests[3].header("webhook-id"), requests[0].header("webhook-id"));
}

/// A receiver that is down until told otherwise, then takes so many requests a second and answers 429
/// to all others. It wants 20 ms for each.
struct Recovering(Mutex<Recovery>);

struct Recovery {
    up_at: Option<Instant>,
    capacity: u32,
    /// Requests taken in the current second since it is up.
    taken: (u64, u32),
    began: Vec<Instant>,
    refused: usize,
    in_flight: usize,
    in_flight_peak: usize,
}

impl Recovering {
    fn begin(&self) -> u16 {
        let now = Instant::now();
        let mut it = self.0.lock().unwrap();
        it.in_flight += 1;
        it.in_flight_peak = it.in_flight_peak.max(it.in_flight);
        let Some(up_at) = it.up_at else { return 500 };
        it.began.push(now);
        let second = (now - up_at).as_secs();
        if it.taken.0 != second {
            it.taken = (second, 0);
        }
        it.taken.1 += 1;
        if it.taken.1 > it.capacity {
            it.refused += 1;
            return 429;
        }
        200
    }
}

#[async_trait]
impl Sender for Recovering {
    async fn send(&self, _: Request) -> Exchange {
        let status = self.begin();
        let duration = Duration::from_millis(20);
        tokio::time::sleep(duration).await;
        self.0.lock().unwrap().in_flight -= 1;
        Exchange {
            outcome: Outcome::Answered { status, retry_after: None },
            duration,
            phases: Phases::default(),
            response_excerpt: bytes::Bytes::new(),
            control: None,
            detail: None,
        }
    }

    async fn probe(&self, _: &TargetUrl, _: Option<&ClientIdentity>, _: Duration) -> Outcome {
        Outcome::Answered { status: 204, retry_after: None }
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_what_waited_is_delivered_without_running_the_receiver_over() {
    let receiver = Arc::new(Recovering(Mutex::new(Recovery {
        up_at: None,
        capacity: 50,
        taken: (0, 0),
        began: Vec::new(),
        refused: 0,
        in_flight: 0,
        in_flight_peak: 0,
    })));
    let clock = Arc::new(TestClock::starting_at(TEST_START));
    let parts = Parts {
        store: Arc::new(MemoryStore::new()),
        sender: receiver.clone(),
        clock: clock.clone(),
        entropy: Arc::new(SeededEntropy::new(7)),
        sealing: None,
        spans: None,
        settings: Settings::default(),
    };
    let (engine, _) = Engine::start(parts).await.unwrap();
    let scene = Scene { engine, sender: ScriptedSender::new(), clock };
    let (account, endpoint) = scene.subscriber("john", URL).await;
    for _ in 0..10 {
        let batch = (0..1_000).map(|_| Ok(an_event(&account))).collect();
        let answers = scene.engine.publish_batch(Scope::OPERATOR, batch).await;
        assert!(answers.iter().all(Result::is_ok));
        scene.pass(Duration::from_secs(1)).await;
    }
    scene.pass(Duration::from_secs(590)).await;
    assert_eq!(scene.engine.lane(endpoint.id).breaker, BreakerState::Open);
    receiver.0.lock().unwrap().up_at = Some(Instant::now());
    scene.drain().await;
    assert_eq!(scene.engine.counts(Scope::OPERATOR).await.unwrap().delivered, 10_000);
    let it = receiver.0.lock().unwrap();
    assert!(it.refused * 20 <= it.began.len(), "{} of {}", it.refused, it.began.len());
    assert_eq!(it.in_flight_peak, 32);
    // The first seconds after the three probes: 1, 2, 4, 8, 16, 32.
    let start = it.began[3];
    let mut by_second: HashMap<u64, usize> = HashMap::new();
    for at in &it.began[3..] {
        *by_second.entry((*at - start).as_secs()).or_default() += 1;
    }
    for second in 0..6 {
        let (count, most) = (by_second[&second], (1 << second) + (1 << second) / 10 + 1);
        assert!(count <= most && 2 * count >= 1 << second, "{count} in second {second}");
    }
    let took = *it.began.last().unwrap() - start;
    assert!(took < Duration::from_secs(10_000 / 50 * 8 / 5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_takes_one_a_second_gets_everything_in_the_end() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    // Every other answer is "too many".
    let replies = (0..200).map(|number| Reply::status(if number % 2 == 0 { 429 } else { 200 }));
    scene.sender.script(URL, replies);
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    assert_eq!(scene.count_in(StateName::Delivered).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_nothing_up_when_the_clock_is_set_back() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = EndpointEdit { rate_limit: Some(Some(1)), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    for _ in 0..5 {
        scene.publish(&account).await;
    }
    scene.sender.wait_for(2).await;
    scene.clock.set_back(Duration::from_mins(30));
    scene.pass(Duration::from_secs(20)).await;
    assert_eq!(scene.sender.requests().len(), 5);
}
