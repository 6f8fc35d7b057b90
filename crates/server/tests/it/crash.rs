//! Killed at any moment, started again: nothing acknowledged is lost.

use std::sync::{Arc, Mutex};

use domain::contract::Contract;
use domain::id::EventId;
use http::Method;
use testkit::auditor::{Auditor, Faults};
use testkit::journal::Journal;
use testkit::receiver::{Answer, Receiver};
use tokio::task::JoinSet;

use crate::client::Connection;
use crate::customer::Customer;
use crate::program::{Home, Service};

const PUBLISHERS: usize = 16;

/// After how many acknowledgements the process is killed, round by round: at the very first, while
/// much is on its way, and later.
const KILLED_AFTER: [usize; 5] = [1, 20, 75, 150, 300];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_event_arrives_however_often_the_process_is_killed() {
    let home = Home::new().with(&["--retry-schedule", "0,1,1,1,1,1,1,1,1,1,1,1"]);
    let receiver = Receiver::start().await;
    // Some fail at first, so that there is something to retry after the kill.
    receiver.script("/hook", (0..5).map(|_| Answer::status(500)));

    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register(&receiver.url("/hook")).await;
    let event = customer.event(r#"{"video_id":"video_1"}"#);
    service.kill().await;

    let auditor = Arc::new(Mutex::new(Auditor::new()));
    auditor.lock().unwrap().endpoint("/hook", Contract::JoggV2, &endpoint.secret);
    for count in KILLED_AFTER {
        let service = home.serve().await;
        let acknowledged = publish_without_end(&service, &event, &auditor);
        acknowledged
            .1
            .wait_until("acknowledgements", testkit::PATIENCE, |all| all.len() >= count)
            .await;
        service.kill().await;
        // The publishers end with their connections; what they were told counts.
        acknowledged.0.join_all().await;
    }

    let service = home.serve().await;
    let auditor = auditor.lock().unwrap().clone();
    let requests = receiver.wait_until("every event", |requests| auditor.has_all(requests)).await;
    auditor.assert_kept(&requests, Faults::Some);
    service.settled().await;
    service.terminate();
    assert!(service.ended().await.success());
}

/// Publishes on several connections until they break, and tells the auditor what was acknowledged.
fn publish_without_end(
    service: &Service,
    event: &str,
    auditor: &Arc<Mutex<Auditor>>,
) -> (JoinSet<()>, Arc<Journal<EventId>>) {
    let journal = Arc::new(Journal::default());
    let mut publishers = JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (operator, address) = (service.operator(), service.address);
        let (journal, auditor, event) =
            (Arc::clone(&journal), Arc::clone(auditor), event.to_owned());
        publishers.spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            let headers = operator.headers();
            while let Ok(answer) =
                connection.send(Method::POST, "/api/v1/events", &headers, event.clone()).await
            {
                let answer = answer.json(202);
                let id = EventId::parse(answer["id"].as_str().unwrap()).unwrap();
                auditor.lock().unwrap().acknowledged(id, ["/hook"]);
                journal.push(id);
            }
        });
    }
    (publishers, journal)
}
