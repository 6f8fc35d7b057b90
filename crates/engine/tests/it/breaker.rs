//! The breaker at work: when it opens, when it probes, when it closes, and what waits meanwhile.

use std::time::Duration;

use domain::account::Account;
use domain::attempt::Failure;
use domain::breaker::{OPEN_FIRST, OPEN_MAX};
use domain::endpoint::Endpoint;
use domain::testing::TEST_START;
use engine::administer::EndpointEdit;
use engine::clock::Clock as _;
use engine::scope::Scope;
use engine::{BreakerState, LaneView};
use testkit::doubles::Reply;
use testkit::gate::Gate;

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";

/// Timers fire up to a millisecond late, and the claim follows them.
const LATE: Duration = Duration::from_millis(5);

async fn one_at_a_time(scene: &Scene, endpoint: &Endpoint) {
    let edit = EndpointEdit { max_in_flight: Some(Some(1)), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
}

/// A subscriber that gets its deliveries one at a time.
async fn subscriber(scene: &Scene) -> (Account, Endpoint) {
    let (account, endpoint) = scene.subscriber("john", URL).await;
    one_at_a_time(scene, &endpoint).await;
    (account, endpoint)
}

fn lane(scene: &Scene, endpoint: &Endpoint) -> LaneView {
    scene.engine.lane(endpoint.id)
}

async fn attempts_recorded(scene: &Scene) -> usize {
    scene.deliveries().await.iter().map(|one| one.attempts as usize).sum()
}

/// Whether `wait` is `middle`, give or take a fifth.
fn is_about(wait: Duration, middle: Duration) -> bool {
    wait >= middle.mul_f64(0.8) && wait <= middle.mul_f64(1.2) + LATE
}

#[tokio::test(start_paused = true)]
async fn ten_failures_open_it_and_no_attempt_is_made_or_used_up_until_the_probe() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_millis(100)).await;
    assert_eq!(scene.sender.requests().len(), 10);
    let mut last_at = scene.clock.now().minus(Duration::from_millis(100));
    for opened in 0..8_u32 {
        let view = lane(&scene, &endpoint);
        assert_eq!((view.breaker, view.in_flight, view.in_memory), (BreakerState::Open, 0, 0));
        let retry_at = view.retry_at.unwrap();
        let expected = (OPEN_FIRST * 2_u32.pow(opened)).min(OPEN_MAX);
        let opened_at = view.opened_at.unwrap();
        assert!(opened_at >= last_at && opened_at <= last_at.plus(LATE));
        assert!(is_about(retry_at.since(opened_at), expected), "{opened}: {view:?}");
        let load = scene.engine.load();
        assert_eq!((load.breakers_open, load.breakers_half_open, load.in_memory), (1, 0, 0));
        // Nothing happens until the instant of the probe, and one attempt then.
        let before = scene.sender.requests().len();
        let just_before = retry_at.minus(Duration::from_millis(1)).since(scene.clock.now());
        scene.pass(just_before).await;
        assert_eq!(scene.sender.requests().len(), before);
        scene.pass(LATE).await;
        let requests = scene.sender.requests();
        assert_eq!(requests.len(), before + 1);
        last_at = retry_at;
    }
    assert_eq!(attempts_recorded(&scene).await, scene.sender.requests().len());
    assert_eq!(scene.sender.requests().len(), 18);
    scene.check_balance().await;
}

#[tokio::test(start_paused = true)]
async fn three_successes_close_it_and_everything_is_delivered() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..50 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_secs(1)).await;
    let gate = Gate::new();
    scene.sender.always(URL, Reply::status(200).held_by(&gate));
    let retry_at = lane(&scene, &endpoint).retry_at.unwrap();
    scene.pass(retry_at.since(scene.clock.now()) + LATE).await;
    let view = lane(&scene, &endpoint);
    assert_eq!((view.breaker, view.in_flight), (BreakerState::HalfOpen, 1));
    assert_eq!(scene.engine.load().breakers_half_open, 1);
    scene.pass(Duration::from_secs(5)).await;
    assert_eq!(lane(&scene, &endpoint).in_flight, 1, "one probe at a time");
    gate.open();
    scene.pass(LATE).await;
    let view = lane(&scene, &endpoint);
    assert_eq!((view.breaker, view.rate_per_second), (BreakerState::Closed, Some(1)));
    scene.drain().await;
    assert_eq!(attempts_recorded(&scene).await, scene.sender.requests().len());
    assert_eq!(scene.sender.requests().len(), 10 + 50);
}

#[tokio::test(start_paused = true)]
async fn seven_failures_in_ten_open_it_at_the_twentieth_attempt() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    let ten = [500, 200, 500, 500, 200, 500, 500, 200, 500, 500];
    let replies = [ten, ten].concat().into_iter().map(Reply::status);
    scene.sender.script(URL, replies);
    for number in 1..=30 {
        assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Closed, "{number}");
        scene.publish(&account).await;
        scene.pass(Duration::from_millis(100)).await;
        if number == 20 {
            break;
        }
    }
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Open);
    assert_eq!(scene.sender.requests().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_says_too_many_does_not_open_it() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    scene.sender.always(URL, Reply::status(429));
    for _ in 0..100 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_mins(5)).await;
    assert!(scene.sender.requests().len() > 50);
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_it_opened_says_nothing_any_more() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let replies = (0..32).map(|number| match number {
        0..10 => Reply::failure(Failure::Reset).after(Duration::from_millis(10)),
        10..20 => Reply::status(200).after(Duration::from_secs(2)),
        _ => Reply::status(500).after(Duration::from_secs(4)),
    });
    scene.sender.script(URL, replies);
    for _ in 0..32 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_millis(50)).await;
    let opened = lane(&scene, &endpoint);
    assert_eq!((opened.breaker, opened.in_flight), (BreakerState::Open, 22));
    assert_eq!(opened.opened_at, Some(TEST_START.plus(Duration::from_millis(10))));
    for _ in 0..68 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_secs(10)).await;
    let later = lane(&scene, &endpoint);
    assert_eq!(later, LaneView { in_flight: 0, ..opened });
    assert_eq!(scene.sender.requests().len(), 32);
    scene.drain().await;
    scene.check_balance().await;
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_was_changed_is_probed_at_once() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..20 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Open);
    let elsewhere = "https://hooks.customer.com/mended";
    let edit = EndpointEdit { url: Some(elsewhere.to_owned()), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.pass(LATE).await;
    assert!(scene.sender.requests_to(elsewhere).len() >= 3);
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Closed);
    scene.drain().await;
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_delays_no_neighbour_and_shows_in_no_age() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    let other = "https://hooks.customer.com/b";
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..2_000 {
        scene.publish(&account).await;
    }
    scene.endpoint(&account, other).await;
    scene.pass(Duration::from_secs(25)).await;
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Open);
    assert_eq!(scene.engine.load().oldest_due_at, None);
    let before = tokio::time::Instant::now();
    for _ in 0..10 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_millis(1)).await;
    let to_other = scene.sender.requests_to(other);
    assert_eq!(to_other.len(), 10);
    assert!(to_other.iter().all(|sent| sent.at == before));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_with_nothing_more_to_do_is_forgotten() {
    let scene = Scene::new().await;
    let (account, endpoint) = subscriber(&scene).await;
    let edit = EndpointEdit { retry_schedule: Some(Some(vec![0])), ..EndpointEdit::default() };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.sender.always(URL, Reply::status(500));
    for _ in 0..10 {
        scene.publish(&account).await;
    }
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(scene.engine.load().breakers_open, 1);
    scene.pass(Duration::from_mins(12)).await;
    assert_eq!(scene.engine.load().breakers_open, 0);
    assert_eq!(lane(&scene, &endpoint).breaker, BreakerState::Closed);
}
