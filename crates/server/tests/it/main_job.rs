//! Register, publish, deliver, verify.

use domain::contract::Contract;
use http::Method;
use testkit::receiver::Receiver;
use testkit::verify::verify;

use crate::client::Caller;
use crate::customer::Customer;
use crate::program::{Home, binary, clean};

/// White space, an escape, a large number: what a reader that writes it again would change.
const DATA: &str = r#"{ "video_id":"video_1","title":"Grüße \u00e4","n":12345678901234567890 }"#;

#[tokio::test]
async fn an_event_arrives_signed_and_byte_for_byte_at_the_endpoint_its_customer_registered() {
    let service = Home::new().serve().await;
    for contract in Contract::ALL {
        let receiver = Receiver::start().await;
        let customer = Customer::new(&service, contract).await;
        let endpoint = customer.register(&receiver.url("/hook")).await;
        let event = customer.publish(DATA).await;

        let posts = |requests: &[testkit::receiver::ReceivedRequest]| {
            requests.iter().filter(|request| request.method == "POST").count() == 1
        };
        let requests = receiver.wait_until("the delivery", posts).await;
        let request = requests.iter().find(|request| request.method == "POST").unwrap();
        assert_eq!(verify(contract, &endpoint.secret, request), Ok(()), "{request:?}");
        assert_eq!(request.header("webhook-id"), Some(event.as_str()));
        let body = str::from_utf8(&request.body).unwrap();
        assert!(body.contains(DATA), "{body}");

        let delivered = |delivery: &serde_json::Value| delivery["state"] == "delivered";
        let delivery = service.delivery_until(&event, "delivered", delivered).await;
        assert_eq!(delivery["attempts"], 1);
        let probes = usize::from(contract == Contract::KonproV1);
        assert_eq!(receiver.requests().len(), 1 + probes, "one request and no more");
    }
    service.settled().await;
    assert_eq!(service.metric("postrider_events_total").await, 3);
    assert_eq!(service.metric(r#"postrider_attempts_total{outcome="success"}"#).await, 3);
    assert!(service.metric("postrider_store_commits_total").await >= 3);
}

#[tokio::test]
async fn the_first_start_shows_an_operator_key_and_no_later_one_does() {
    let home = Home::new();
    let start = async || {
        let mut command = clean(binary(), &[]);
        command.args(home.arguments()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = Vec::new();
        let mut reader = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(
            child.stdout.take().unwrap(),
        ));
        while let Some(line) = reader.next_line().await.unwrap() {
            let is_ready = line.starts_with("postrider is ready at http://");
            lines.push(line);
            if is_ready {
                break;
            }
        }
        (child, lines)
    };
    let (mut child, lines) = start().await;
    let [key_line, ready_line] = lines.as_slice() else { panic!("{lines:?}") };
    let key = key_line.strip_prefix("operator key (shown this once): ").unwrap();
    assert!(key.starts_with("pr_op_"), "{key}");
    let address = ready_line.strip_prefix("postrider is ready at http://").unwrap();
    Caller::bearer(address.parse().unwrap(), key).get("/api/v1/accounts").await;
    child.kill().await.unwrap();

    let (_child, lines) = start().await;
    let [ready_line] = lines.as_slice() else { panic!("{lines:?}") };
    let address = ready_line.strip_prefix("postrider is ready at http://").unwrap();
    Caller::bearer(address.parse().unwrap(), key).get("/api/v1/accounts").await;
}

#[tokio::test]
async fn the_log_is_json_where_nobody_looks_on() {
    let home = Home::new();
    let service = home.serve().await;
    service.terminate();
    service.logged("stopped").await;
    for line in service.log() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let service = home.with(&["--log-format", "human"]).serve().await;
    service.terminate();
    service.logged("INFO").await;
}

#[tokio::test]
async fn probes_and_documents_need_no_key() {
    let service = Home::new().serve().await;
    let nobody = Caller::x_api_key(service.address, "none");
    for path in ["/healthz", "/readyz", "/openapi.json", "/metrics"] {
        assert_eq!(nobody.call(Method::GET, path, "").await.status, 200, "{path}");
    }
    let printed = clean(binary(), &["openapi"]).output().await.unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed, nobody.get("/openapi.json").await);
}
