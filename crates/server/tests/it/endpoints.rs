//! What customers do with their endpoints holds from the answer on.

use domain::contract::Contract;
use serde_json::{Value, json};
use testkit::receiver::{Answer, Receiver};
use tokio::task::JoinSet;

use crate::client::Caller;
use crate::customer::Customer;
use crate::program::{Home, binary, clean};

#[tokio::test]
async fn an_update_holds_from_its_answer_on() {
    let service = Home::new().with(&["--retry-schedule", "0,1"]).serve().await;
    for contract in Contract::ALL {
        let receiver = Receiver::start().await;
        let customer = Customer::new(&service, contract).await;
        let endpoint = customer.register(&receiver.url("/old")).await;
        receiver.always("/old", Answer::status(500));
        let failed = customer.publish(r#"{"number":1}"#).await;
        let once = |delivery: &Value| delivery["attempts"] == 1;
        service.delivery_until(&failed, "a first attempt", once).await;

        customer.update(&endpoint, &receiver.url("/new")).await;
        let fresh = customer.publish(r#"{"number":2}"#).await;
        for event in [&failed, &fresh] {
            let delivered = |delivery: &Value| delivery["state"] == "delivered";
            service.delivery_until(event, "delivered at the new URL", delivered).await;
        }
        let posts = |path| receiver.requests_to(path).iter().filter(|r| r.method == "POST").count();
        assert_eq!((posts("/old"), posts("/new")), (1, 2), "{contract:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_was_called_is_called_no_more_once_a_rule_forbids_it() {
    let receiver = Receiver::start().await;
    let home = Home::new().with(&["--retry-schedule", "0"]);
    let service = home.serve().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    customer.register(&receiver.url("/hook")).await;
    customer.publish("{}").await;
    service.settled().await;
    service.terminate();
    assert!(service.ended().await.success());
    assert_eq!(receiver.requests().len(), 1);

    // The same store, and the network is open no more.
    let mut command = clean(binary(), &["serve", "--listen", "127.0.0.1:0", "--store"]);
    command.arg(format!("sqlite:{}", home.store().display()));
    command.args(["--allow-http", "--retry-schedule", "0"]);
    let service = home.serve_by(command).await;
    let account = json!({"account": customer.account, "type": customer.event_type, "data": {}});
    let event = service.operator().post("/api/v1/events", &account).await.json(202);
    service.settled().await;
    let ended = |delivery: &Value| delivery["state"] == "exhausted";
    let event = event["id"].as_str().unwrap();
    let delivery = service.delivery_until(event, "an end without success", ended).await;
    let path = format!("/api/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap());
    let attempts = service.operator().get(&path).await;
    assert_eq!(attempts["data"][0]["outcome"], "blocked");
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_disabled_endpoint_holds_what_is_pending_and_enabling_releases_it() {
    // Each wait is half a second to one and a half.
    let service = Home::new().with(&["--retry-schedule", "0,1,1,1,1"]).serve().await;
    let receiver = Receiver::start().await;
    let customer = Customer::new(&service, Contract::Standard).await;
    let held = customer.register(&receiver.url("/held")).await;
    receiver.script("/held", [Answer::status(500)]);
    let event = customer.publish("{}").await;
    let once = |delivery: &Value| delivery["attempts"] == 1;
    service.delivery_until(&event, "a first attempt", once).await;
    customer.change(&held, &json!({"status": "disabled"})).await;

    // Another endpoint's fourth retry comes after two seconds at the earliest.
    customer.register(&receiver.url("/clock")).await;
    receiver.script("/clock", (0..4).map(|_| Answer::status(500)));
    let event_of_both =
        json!({"account": customer.account, "type": customer.event_type, "data": {}});
    let published = service.operator().post("/api/v1/events", &event_of_both).await.json(202);
    assert_eq!(published["deliveries"], 1, "none for the disabled endpoint: {published}");
    let ticks = |requests: &[testkit::receiver::ReceivedRequest]| {
        requests.iter().filter(|request| request.path == "/clock").count() == 5
    };
    receiver.wait_until("the fourth retry", ticks).await;
    assert_eq!(receiver.requests_to("/held").len(), 1, "a disabled endpoint was called");

    customer.change(&held, &json!({"status": "enabled"})).await;
    let delivered = |delivery: &Value| delivery["state"] == "delivered";
    service.delivery_until(&event, "delivered once enabled", delivered).await;
    assert_eq!(receiver.requests_to("/held").len(), 2);
    service.settled().await;
}

#[tokio::test]
async fn a_hundred_adds_at_once_leave_exactly_20_endpoints() {
    let service = Home::new().serve().await;
    let customer = Customer::new(&service, Contract::JoggV2).await;
    // A key may POST 20 times a minute.
    let mut callers = Vec::new();
    for _ in 0..5 {
        let path = format!("/api/v1/accounts/{}/keys", customer.account);
        let key = service.operator().post(&path, &json!({})).await.json(201);
        callers.push(Caller::x_api_key(service.address, key["api_key"].as_str().unwrap()));
    }
    let mut adds = JoinSet::new();
    for number in 0..100 {
        let caller = callers[number % callers.len()].clone();
        adds.spawn(async move {
            let url = format!("http://127.0.0.1:9/{number}");
            let events = ["generated_video_success"];
            let endpoint = json!({"url": url, "status": "enabled", "events": events});
            let answer = caller.post("/v2/endpoint", &endpoint).await;
            let code: Value = serde_json::from_str(&answer.text).unwrap();
            (answer.status.as_u16(), code["code"].clone())
        });
    }
    let answers = adds.join_all().await;
    let count = |wanted: (u16, Value)| answers.iter().filter(|seen| **seen == wanted).count();
    assert_eq!((count((200, json!(0))), count((400, json!(40000)))), (20, 80), "{answers:?}");
    let listed = customer.caller.get("/v2/endpoints").await;
    assert_eq!(listed["data"]["endpoints"].as_array().unwrap().len(), 20);
}
