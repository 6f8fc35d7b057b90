//! A customer: an account of a contract, its key, and its endpoints.

use domain::contract::Contract;
use http::Method;
use serde_json::{Value, json};

use crate::client::Caller;
use crate::program::Service;

/// An account.
pub(crate) struct Customer {
    pub(crate) contract: Contract,
    pub(crate) account: String,
    /// The contract's API; the platform API for `standard`.
    pub(crate) caller: Caller,
    /// An event type the contract knows.
    pub(crate) event_type: &'static str,
    operator: Caller,
}

/// An endpoint as its contract shows it.
pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Customer {
    /// Makes an account, the only one of its contract.
    pub(crate) async fn new(service: &Service, contract: Contract) -> Self {
        Self::named(service, contract, &format!("customer of {}", contract.name())).await
    }

    /// Makes an account of this name.
    pub(crate) async fn named(service: &Service, contract: Contract, username: &str) -> Self {
        let account = json!({"username": username, "contract": contract.name()});
        let account = service.operator().post("/api/v1/accounts", &account).await.json(201);
        let key = account["api_key"].as_str().unwrap();
        let (caller, event_type) = match contract {
            Contract::JoggV2 => {
                (Caller::x_api_key(service.address, key), "generated_video_success")
            }
            Contract::KonproV1 => (Caller::x_api_key(service.address, key), "avatar_video.success"),
            Contract::Standard => (Caller::bearer(service.address, key), "order.shipped"),
        };
        Self {
            contract,
            account: account["id"].as_str().unwrap().to_owned(),
            caller,
            event_type,
            operator: service.operator(),
        }
    }

    /// Registers an endpoint for the customer's event type through its contract.
    pub(crate) async fn register(&self, url: &str) -> Endpoint {
        let events = [self.event_type];
        let (endpoint, id) = match self.contract {
            Contract::JoggV2 => {
                let body = json!({"url": url, "status": "enabled", "events": events});
                let answer = self.caller.post("/v2/endpoint", &body).await.json(200);
                assert_eq!(answer["code"], 0, "{answer}");
                (answer["data"].clone(), "endpoint_id")
            }
            Contract::KonproV1 => {
                let body = json!({"url": url, "events": events});
                let path = "/v1/webhook/endpoint.add";
                (self.caller.post(path, &body).await.json(200), "endpoint_id")
            }
            Contract::Standard => {
                let body = json!({"url": url, "events": events});
                let path = format!("/api/v1/accounts/{}/endpoints", self.account);
                (self.caller.post(&path, &body).await.json(201), "id")
            }
        };
        let text = |name: &str| endpoint[name].as_str().unwrap().to_owned();
        Endpoint { id: text(id), secret: text("secret") }
    }

    /// Moves an endpoint through its contract.
    pub(crate) async fn update(&self, endpoint: &Endpoint, url: &str) {
        let id = &endpoint.id;
        match self.contract {
            Contract::JoggV2 => {
                let events = [self.event_type];
                let body = json!({"url": url, "status": "enabled", "events": events}).to_string();
                let path = format!("/v2/endpoint/{id}");
                self.caller.call(Method::PUT, &path, body).await.json(200);
            }
            Contract::KonproV1 => {
                let body = json!({"endpoint_id": id, "url": url}).to_string();
                let path = "/v1/webhook/endpoint.update";
                self.caller.call(Method::PATCH, path, body).await.json(200);
            }
            Contract::Standard => self.change(endpoint, &json!({"url": url})).await,
        }
    }

    /// Changes an endpoint through the platform API.
    pub(crate) async fn change(&self, endpoint: &Endpoint, change: &Value) {
        let path = format!("/api/v1/endpoints/{}", endpoint.id);
        self.operator.call(Method::PATCH, &path, change.to_string()).await.json(200);
    }

    /// The body of a publish request; `data` byte for byte.
    pub(crate) fn event(&self, data: &str) -> String {
        let (account, event_type) = (&self.account, self.event_type);
        format!(r#"{{"account":"{account}","type":"{event_type}","data":{data}}}"#)
    }

    /// Publishes an event for one delivery; answers its id.
    pub(crate) async fn publish(&self, data: &str) -> String {
        let answer = self.operator.call(Method::POST, "/api/v1/events", self.event(data)).await;
        let answer = answer.json(202);
        assert_eq!(answer["deliveries"], 1, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }
}
