//! The doubles of the engine's ports follow the runtime's time, their script and their seed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::Duration;

use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use domain::target_url::TargetUrl;
use domain::testing::TEST_START;
use engine::clock::Clock as _;
use engine::entropy::Entropy as _;
use engine::sender::{Request, Sender as _};
use testkit::doubles::{Reply, ScriptedSender, SeededEntropy, TestClock};
use testkit::gate::Gate;

const URL: &str = "https://hooks.customer.com/a";

fn a_request() -> Request {
    Request {
        url: TargetUrl::from_stored(URL).unwrap(),
        headers: Vec::new(),
        body: Bytes::from_static(b"{}"),
        timeout: Duration::from_secs(5),
        identity: None,
        credentials: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_replies_by_its_script_in_the_runtimes_time() {
    let sender = ScriptedSender::new();
    let slow = Reply::status(503).after(Duration::from_secs(2)).with_excerpt("busy");
    sender.script(URL, [slow, Reply::silence(), Reply::failure(Failure::Tls)]);
    let first = sender.send(a_request()).await;
    assert_eq!(first.outcome, Outcome::Answered { status: 503, retry_after: None });
    assert_eq!(
        (first.duration, &first.response_excerpt[..]),
        (Duration::from_secs(2), &b"busy"[..])
    );
    let second = sender.send(a_request()).await;
    assert_eq!(second.outcome, Outcome::Failed(Failure::Timeout));
    assert_eq!(second.duration, Duration::from_secs(5));
    assert_eq!(sender.send(a_request()).await.outcome, Outcome::Failed(Failure::Tls));
    assert!(sender.send(a_request()).await.outcome.is_success());
    let requests = sender.requests_to(URL);
    assert_eq!(requests[2].at - requests[0].at, Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_sender_counts_what_is_on_its_way_at_once() {
    let sender = ScriptedSender::new();
    let gate = Gate::new();
    sender.otherwise(Reply::status(200).held_by(&gate));
    let sends: Vec<_> = (0..3)
        .map(|_| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(a_request()).await })
        })
        .collect();
    sender.wait_for(3).await;
    assert_eq!(sender.in_flight_to(URL), 3);
    sends[0].abort();
    gate.open();
    sender.wait_for_replies(2).await;
    for send in sends {
        let _ = send.await;
    }
    let peaks = (sender.in_flight_peak_to(URL), sender.in_flight_peak());
    assert_eq!((sender.in_flight_to(URL), peaks), (0, (3, 3)));
}

#[tokio::test(start_paused = true)]
async fn probes_have_a_script_of_their_own() {
    let sender = ScriptedSender::new();
    sender.script_probes(URL, [Outcome::Failed(Failure::Dns)]);
    let url = TargetUrl::from_stored(URL).unwrap();
    let limit = Duration::from_secs(1);
    assert_eq!(sender.probe(&url, None, limit).await, Outcome::Failed(Failure::Dns));
    assert!(sender.probe(&url, None, limit).await.is_success());
    assert_eq!((sender.probes().len(), sender.requests().len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_clock_goes_with_the_runtimes_time_and_can_be_set() {
    let clock = TestClock::starting_at(TEST_START);
    tokio::time::sleep(Duration::from_hours(70)).await;
    assert_eq!(clock.now(), TEST_START.plus(Duration::from_hours(70)));
    clock.set_back(Duration::from_hours(71));
    assert_eq!(clock.now(), TEST_START.minus(Duration::from_hours(1)));
    clock.set_forward(Duration::from_hours(1));
    assert_eq!(clock.now(), TEST_START);
}

#[test]
fn the_same_seed_gives_the_same_entropy() {
    let draw = |seed| {
        let entropy = SeededEntropy::new(seed);
        let (mut one, mut two) = ([0; 33], [0; 7]);
        entropy.fill(&mut one);
        entropy.fill(&mut two);
        (one, two)
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}
