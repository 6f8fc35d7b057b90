//! Receivers as customers write them, in their languages, take real deliveries.

use bytes::Bytes;
use domain::contract::Contract;
use http::Method;
use testkit::foreign::{ForeignReceiver, Language, Verdict};
use testkit::receiver::{ReceivedRequest, Receiver};

use crate::client::Connection;
use crate::customer::Customer;
use crate::program::{Home, Service};

const DATA: &str = r#"{"video_id":"video_1","title":"Grüße 😀","n":1.0}"#;

#[tokio::test]
async fn receivers_in_other_languages_accept_real_deliveries_and_refuse_a_changed_byte() {
    let service = Home::new().serve().await;
    for contract in [Contract::JoggV2, Contract::KonproV1] {
        takes_real_deliveries(&service, contract, &Language::CONTRACT).await;
    }
}

#[tokio::test]
async fn the_standard_webhooks_libraries_accept_real_deliveries_and_refuse_a_changed_byte() {
    let service = Home::new().serve().await;
    for contract in Contract::ALL {
        takes_real_deliveries(&service, contract, &Language::STANDARD).await;
    }
}

async fn takes_real_deliveries(service: &Service, contract: Contract, languages: &[Language]) {
    let recorder = Receiver::start().await;
    let customer = Customer::new(service, contract).await;
    let endpoint = customer.register(&recorder.url("/webhook")).await;
    customer.publish(DATA).await;
    let is_post = |request: &&ReceivedRequest| request.method == "POST";
    let requests = recorder.wait_until("the delivery", |all| all.iter().any(|r| is_post(&r)));
    let recorded = requests.await.iter().find(is_post).unwrap().clone();

    for &language in languages.iter().filter(|language| language.is_here()) {
        let foreign = ForeignReceiver::start(language, &endpoint.secret);
        customer.update(&endpoint, &foreign.url("/webhook")).await;
        customer.publish(DATA).await;
        let verdicts = foreign.wait_for(1).await;
        assert_eq!(verdicts.len(), 1);
        assert!(verdicts[0].verified, "{language:?} refuses a real {contract:?} delivery");

        assert_eq!(repeat(&foreign, &recorded, &recorded.body).await, 200, "{language:?}");
        let mut changed = recorded.body.to_vec();
        let last = changed.len() - 3;
        changed[last] ^= 1;
        assert_eq!(repeat(&foreign, &recorded, &Bytes::from(changed)).await, 401, "{language:?}");
        let refused = Verdict { event: None, verified: false };
        assert_eq!(foreign.wait_for(3).await[2], refused, "{language:?}");
    }
}

/// Sends a recorded delivery once more, with this body; answers the status.
async fn repeat(foreign: &ForeignReceiver, recorded: &ReceivedRequest, body: &Bytes) -> u16 {
    let own = ["host", "content-length"];
    let headers: Vec<_> = recorded
        .headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut connection = Connection::open(foreign.address().parse().unwrap()).await.unwrap();
    let answer = connection.send(Method::POST, "/webhook", &headers, body.clone()).await.unwrap();
    answer.status.as_u16()
}
