//! Stopping on purpose.

use domain::contract::Contract;
use domain::id::EventId;
use http::Method;
use testkit::auditor::{Auditor, Faults};
use testkit::gate::Gate;
use testkit::receiver::{Answer, Receiver};

use crate::client::Connection;
use crate::customer::Customer;
use crate::program::Home;

/// What the log says once the signal has arrived.
const STOPPING: &str = "stopping: no more events";

#[tokio::test]
async fn a_stop_waits_for_what_is_on_its_way_and_duplicates_nothing() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    let gate = Gate::new();
    receiver.otherwise(Answer::status(200).after(&gate));
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    let endpoint = customer.register(&receiver.url("/hook")).await;
    let mut auditor = Auditor::new();
    auditor.endpoint("/hook", Contract::JoggV2, &endpoint.secret);
    // More than may be on their way to one endpoint at once: some wait.
    for _ in 0..40 {
        let event = customer.publish("{}").await;
        auditor.acknowledged(EventId::parse(&event).unwrap(), ["/hook"]);
    }
    receiver.wait_for(32).await;
    let mut connection = Connection::open(service.address).await.unwrap();
    let operator = service.operator();
    let healthy = connection.send(Method::GET, "/healthz", &operator.headers(), "").await.unwrap();
    assert_eq!(healthy.status, 200);

    service.terminate();
    service.logged(STOPPING).await;
    let event = customer.event("{}");
    let late = connection.send(Method::POST, "/api/v1/events", &operator.headers(), event).await;
    let late = late.unwrap();
    assert_eq!(late.status, 503, "{}", late.text);
    assert_eq!(late.headers["connection"], "close");
    assert!(late.headers.contains_key("retry-after"));
    assert!(Connection::open(service.address).await.is_err(), "a new connection is accepted");

    assert_eq!(receiver.requests().len(), 32, "nothing starts while stopping");
    gate.open();
    assert_eq!(service.ended().await.code(), Some(0));

    let service = home.serve().await;
    service.settled().await;
    auditor.assert_kept(&receiver.requests(), Faults::None);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_loses_nothing() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    receiver.script("/hook", [Answer::hang()]);
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    customer.register(&receiver.url("/hook")).await;
    customer.publish("{}").await;
    receiver.wait_for(1).await;
    service.terminate();
    service.logged(STOPPING).await;
    service.terminate();
    assert_eq!(service.ended().await.code(), Some(1));

    let service = home.serve().await;
    let requests = receiver.wait_for(2).await;
    assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert_eq!(requests[0].body, requests[1].body);
    service.settled().await;
}
