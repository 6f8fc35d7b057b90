//! When attempts are made: the published schedule, jitter, `Retry-After`, the end.

use std::time::Duration;

use domain::attempt::Failure;
use domain::delivery::{DeliveryState, EndReason};
use domain::endpoint::RetrySchedule;
use engine::scope::Scope;
use testkit::doubles::Reply;

use crate::harness::Scene;

const URL: &str = "https://hooks.customer.com/a";

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_gets_the_12_attempts_of_the_schedule_and_then_no_more() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.otherwise(Reply::status(500));
    scene.publish(&account).await;
    scene.drain().await;
    let requests = scene.sender.requests();
    let schedule = RetrySchedule::default();
    assert_eq!(requests.len(), schedule.waits().len());
    for (pair, step) in requests.windows(2).zip(&schedule.waits()[1..]) {
        let gap = pair[1].at - pair[0].at;
        let half = (*step).min(Duration::from_mins(30)) / 2;
        // Timers fire up to a millisecond late, and the claim follows them.
        let late = Duration::from_millis(5);
        assert!(
            gap >= step.saturating_sub(half) && gap <= *step + half + late,
            "{gap:?} for {step:?}"
        );
    }
    let delivery = scene.delivery().await;
    assert_eq!(delivery.state, DeliveryState::Exhausted(EndReason::AttemptsUsedUp));
    assert_eq!(delivery.attempts, 12);
    scene.pass(Duration::from_hours(200)).await;
    assert_eq!(scene.sender.requests().len(), 12);
    let attempts = scene.engine.attempts(Scope::OPERATOR, delivery.id).await.unwrap();
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=12).collect::<Vec<u32>>());
    assert!(attempts[..11].iter().all(|attempt| attempt.next_at.is_some()));
    assert_eq!(attempts[11].next_at, None);
}

#[tokio::test(start_paused = true)]
async fn retries_of_many_deliveries_spread_over_the_jitter() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    // Too few failures in a row to open a breaker.
    let urls: Vec<String> =
        (0..49).map(|number| format!("https://hooks.customer.com/{number}")).collect();
    for url in &urls {
        scene.endpoint(&account, url).await;
        scene.sender.script(url, vec![Reply::status(503); 8]);
    }
    scene.sender.script(URL, vec![Reply::status(503); 8]);
    for _ in 0..8 {
        scene.publish(&account).await;
    }
    scene.drain().await;
    let requests = scene.sender.requests();
    let start = requests[0].at;
    let second: Vec<f64> =
        requests[400..].iter().map(|sent| (sent.at - start).as_secs_f64()).collect();
    assert_eq!(second.len(), 400);
    for (from, to) in [(2.5, 3.75), (3.75, 5.0), (5.0, 6.25), (6.25, 7.6)] {
        let inside = second.iter().filter(|at| (from..to).contains(*at)).count();
        assert!((60..140).contains(&inside), "{inside} in {from}..{to}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_asks_for_a_wait_gets_it() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::retry_after(429, Duration::from_mins(10))]);
    scene.publish(&account).await;
    scene.drain().await;
    let requests = scene.sender.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at - requests[0].at >= Duration::from_mins(10));
}

#[tokio::test(start_paused = true)]
async fn every_retry_carries_the_same_id_and_body_and_a_fresh_timestamp() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, vec![Reply::failure(Failure::Reset); 5]);
    scene.publish(&account).await;
    scene.drain().await;
    let requests = scene.sender.requests();
    assert_eq!(requests.len(), 6);
    for sent in &requests {
        assert_eq!(sent.request.body, requests[0].request.body);
        assert_eq!(sent.header("webhook-id"), requests[0].header("webhook-id"));
    }
    assert_ne!(requests[5].header("webhook-timestamp"), requests[0].header("webhook-timestamp"));
    assert_ne!(requests[5].header("webhook-signature"), requests[0].header("webhook-signature"));
}

#[tokio::test(start_paused = true)]
async fn what_is_signed_carries_the_machines_time_while_a_step_of_its_clock_is_made_good() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.script(URL, [Reply::failure(Failure::Reset)]);
    scene.publish(&account).await;
    scene.pass(Duration::from_secs(1)).await;
    let waits_until = scene.delivery().await.due_at.unwrap();
    scene.clock.set_told_forward(Duration::from_hours(24));
    scene.drain().await;
    let requests = scene.sender.requests();
    assert_eq!(requests.len(), 2);
    let [before, after] = [0, 1].map(|at: usize| -> i64 {
        requests[at].header("webhook-timestamp").unwrap().parse().unwrap()
    });
    assert!((86_400..86_420).contains(&(after - before)), "{before} {after}");
    let attempts = scene.engine.attempts(Scope::OPERATOR, scene.delivery().await.id).await.unwrap();
    let late = attempts[1].at.since(waits_until);
    assert!(late < Duration::from_secs(1), "the retry went by the old time: {late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_may_have_a_schedule_of_its_own() {
    let scene = Scene::new().await;
    let (account, endpoint) = scene.subscriber("john", URL).await;
    let edit = engine::administer::EndpointEdit {
        retry_schedule: Some(Some(vec![0, 3600])),
        ..Default::default()
    };
    scene.engine.change_endpoint(Scope::OPERATOR, endpoint.id, edit).await.unwrap();
    scene.sender.otherwise(Reply::status(500));
    scene.publish(&account).await;
    scene.drain().await;
    let requests = scene.sender.requests();
    assert_eq!(requests.len(), 2);
    let gap = requests[1].at - requests[0].at;
    assert!(gap >= Duration::from_mins(45) && gap <= Duration::from_mins(76), "{gap:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_that_receivers_ask_for_end_at_the_age_limit() {
    let scene = Scene::new().await;
    let (account, _) = scene.subscriber("john", URL).await;
    scene.sender.otherwise(Reply::retry_after(503, Duration::from_hours(24)));
    scene.publish(&account).await;
    scene.drain().await;
    let delivery = scene.delivery().await;
    assert_eq!(delivery.state, DeliveryState::Exhausted(EndReason::TooOld));
    assert_eq!(scene.sender.requests().len(), 5);
}
