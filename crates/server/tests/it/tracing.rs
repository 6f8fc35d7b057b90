//! Traces: a publisher's is carried on to the receivers, and told to a collector.

use domain::contract::Contract;
use domain::trace::TraceContext;
use http::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use testkit::receiver::{Answer, Receiver};
use tokio::net::TcpListener;

use crate::client::Connection;
use crate::customer::Customer;
use crate::program::{Home, OPERATOR_KEY, Service};

const RECORDED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// Publishes with a `traceparent`.
async fn publish(service: &Service, customer: &Customer, traceparent: &str) {
    let authorization = format!("Bearer {OPERATOR_KEY}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
        ("traceparent", traceparent),
    ];
    let event = customer.event(r#"{"private":"hunter2"}"#);
    let mut connection = Connection::open(service.address).await.unwrap();
    let answer = connection.send(Method::POST, "/api/v1/events", &headers, event).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
}

/// Every span that a collector was sent.
fn spans(collector: &Receiver) -> Vec<Span> {
    let mut all = Vec::new();
    for request in collector.requests() {
        assert_eq!(request.method, "POST");
        assert_eq!(request.path, "/otlp/v1/traces");
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("hunter2") && !body.contains("://"), "{body}");
        for resource in ExportTraceServiceRequest::decode(request.body).unwrap().resource_spans {
            let attributes = resource.resource.unwrap().attributes;
            let name = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let value = name.value.clone().unwrap().value;
            assert_eq!(value, Some(Value::StringValue("postrider".to_owned())));
            all.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
    }
    all
}

fn text(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.clone()).and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key} is {other:?} in {span:?}"),
    }
}

#[tokio::test]
async fn a_collector_gets_the_publish_and_each_attempt_of_a_recorded_trace_and_of_no_other() {
    let collector = Receiver::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/broken", Answer::status(500));
    let home = Home::new().with(&["--otlp-endpoint", &collector.url("/otlp")]);
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    customer.register(&receiver.url("/well?token=hunter2")).await;
    customer.register(&receiver.url("/broken")).await;
    publish(&service, &customer, RECORDED).await;
    let requests = receiver.wait_for(2).await;
    publish(&service, &customer, UNRECORDED).await;
    publish(&service, &customer, "malformed, and so ignored").await;
    receiver.wait_for(6).await;
    service.terminate();
    assert_eq!(service.ended().await.code(), Some(0));

    let publisher = TraceContext::parse(RECORDED).unwrap();
    let spans = spans(&collector);
    let [publish] = spans.iter().filter(|span| span.name == "publish").collect::<Vec<_>>()[..]
    else {
        panic!("{spans:#?}");
    };
    assert_eq!(publish.trace_id, publisher.trace_id.to_be_bytes());
    assert_eq!(publish.parent_span_id, publisher.parent_id.to_be_bytes());
    assert_eq!(publish.kind(), SpanKind::Server);
    assert_eq!(text(publish, "postrider.event.deliveries"), "2");
    assert!(publish.end_time_unix_nano >= publish.start_time_unix_nano);
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "attempt").collect();
    assert_eq!(spans.len(), 3, "{spans:#?}");
    for request in requests {
        let told = TraceContext::parse(request.header("traceparent").unwrap()).unwrap();
        assert_eq!(told.trace_id, publisher.trace_id);
        assert!(told.is_recorded());
        let attempt = attempts.iter().find(|span| span.span_id == told.parent_id.to_be_bytes());
        let attempt = attempt.unwrap_or_else(|| panic!("no span {told}: {spans:#?}"));
        assert_eq!(attempt.trace_id, publish.trace_id);
        assert_eq!(attempt.parent_span_id, publish.span_id);
        assert_eq!(attempt.kind(), SpanKind::Client);
        assert_eq!(text(attempt, "postrider.event.id"), text(publish, "postrider.event.id"));
        assert_eq!(text(attempt, "postrider.event.type"), customer.event_type);
        assert_eq!(text(attempt, "postrider.attempt.number"), "1");
        assert!(text(attempt, "postrider.delivery.id").starts_with("dlv_"));
        assert!(text(attempt, "postrider.endpoint.id").starts_with("wh_"));
        let is_broken = request.path == "/broken";
        let (status, outcome) = if is_broken { ("500", "status") } else { ("200", "success") };
        assert_eq!(text(attempt, "http.response.status_code"), status);
        assert_eq!(text(attempt, "postrider.attempt.outcome"), outcome);
        let code = attempt.status.as_ref().map(opentelemetry_proto::tonic::trace::v1::Status::code);
        assert_eq!(code == Some(StatusCode::Error), is_broken, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_says_nothing_costs_spans_and_nothing_else() {
    let silent = Receiver::start().await;
    silent.otherwise(Answer::hang());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let receiver = Receiver::start().await;
    for collector in [format!("http://{nobody}"), silent.url("")] {
        let home = Home::new().with(&["--otlp-endpoint", &collector]);
        let service = home.serve().await;
        let customer = Customer::new(&service, Contract::Standard).await;
        customer.register(&receiver.url("/hook")).await;
        publish(&service, &customer, RECORDED).await;
        service.settled().await;
        service.terminate();
        assert_eq!(service.ended().await.code(), Some(0));
    }
    assert_eq!(receiver.requests().len(), 2);
}
