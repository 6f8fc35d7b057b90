//! When the machine has no more to give.

use domain::contract::Contract;
use domain::id::EventId;
use http::Method;
use testkit::auditor::{Auditor, Faults};
use testkit::gate::Gate;
use testkit::receiver::{Answer, Receiver};

use crate::client::Connection;
use crate::customer::Customer;
use crate::program::{Home, binary, clean, eventually};

/// Largest file the process may write, in blocks of 512 bytes (POSIX, `ulimit -f`): enough to
/// start, little enough to fill at once.
const BLOCKS_MAX: u32 = 4_096;

#[tokio::test]
async fn when_a_file_can_grow_no_more_publish_answers_503_and_nothing_acknowledged_is_lost() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    let gate = Gate::new();
    receiver.otherwise(Answer::status(200).after(&gate));
    // Beyond the limit a write fails, once the signal that would kill is ignored.
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS_MAX}; exec \"$0\" \"$@\"");
    let mut command = clean("/bin/sh".as_ref(), &["-c", &script]);
    command.arg(binary()).args(home.arguments());
    let service = home.serve_by(command).await;
    let customer = Customer::new(&service, Contract::Standard).await;
    let endpoint = customer.register(&receiver.url("/hook")).await;
    let mut auditor = Auditor::new();
    auditor.endpoint("/hook", Contract::Standard, &endpoint.secret);

    let event = customer.event(&format!(r#"{{"filling":"{}"}}"#, "x".repeat(100_000)));
    let refused = loop {
        let answer = service.operator().call(Method::POST, "/api/v1/events", event.clone()).await;
        if answer.status != 202 {
            break answer;
        }
        let answer = answer.json(202);
        let id = EventId::parse(answer["id"].as_str().unwrap()).unwrap();
        auditor.acknowledged(id, ["/hook"]);
    };
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(service.operator().call(Method::GET, "/healthz", "").await.status, 200);
    service.kill().await;

    gate.open();
    let service = home.serve().await;
    let requests = receiver.wait_until("every event", |requests| auditor.has_all(requests)).await;
    auditor.assert_kept(&requests, Faults::Some);
    service.settled().await;
    let answer = service.operator().call(Method::POST, "/api/v1/events", event).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// Open files the process may have: enough to start and to deliver.
const OPEN_FILES_MAX: usize = 64;

#[tokio::test]
async fn running_out_of_open_files_ends_nothing() {
    let home = Home::new();
    let receiver = Receiver::start().await;
    let script = format!("ulimit -n {OPEN_FILES_MAX}; exec \"$0\" \"$@\"");
    let mut command = clean("/bin/sh".as_ref(), &["-c", &script]);
    command.arg(binary()).args(home.arguments());
    let service = home.serve_by(command).await;
    let customer = Customer::new(&service, Contract::Standard).await;
    customer.register(&receiver.url("/hook")).await;

    // The system's queue takes them all; the process cannot.
    let mut connections = Vec::new();
    for _ in 0..OPEN_FILES_MAX * 2 {
        connections.push(Connection::open(service.address).await.unwrap());
    }
    service.logged("could not accept a connection").await;
    drop(connections);
    // Whoever comes while room is being made may be turned away, and asks again.
    let (operator, event) = (service.operator(), customer.event("{}"));
    let headers = operator.headers();
    eventually("an event to be accepted", async || {
        let mut connection = Connection::open(service.address).await.ok()?;
        let (method, path) = (Method::POST, "/api/v1/events");
        let answer = connection.send(method, path, &headers, event.clone()).await.ok()?;
        (answer.status == 202).then_some(())
    })
    .await;
    receiver.wait_for(1).await;
    service.settled().await;
}
