//! Who takes part: an account of each contract with an endpoint at the receiver, registered through
//! the contract's own API.

use std::net::SocketAddr;

use domain::catalogue::event_types;
use domain::contract::Contract;
use serde_json::{Value, json};

use super::client::{Client, Key};
use super::receiver::Receiver;
use crate::ending::Ending;

/// An account with an endpoint.
pub(super) struct Actor {
    pub(super) contract: Contract,
    pub(super) username: &'static str,
    pub(super) api_key: String,
}

/// Everybody, and the way to the service.
pub(super) struct Stage {
    actors: Vec<Actor>,
    client: Client,
    operator_key: String,
}

impl Stage {
    /// Makes accounts and endpoints, and tells the receiver their secrets.
    pub(super) async fn set(
        address: SocketAddr,
        operator_key: &str,
        receiver: &Receiver,
    ) -> Result<Self, Ending> {
        let mut client = Client::connect(address).await?;
        let mut actors = Vec::new();
        for contract in Contract::ALL {
            let username = username(contract);
            let account = json!({"username": username, "contract": contract.name()});
            let account = client
                .post("/api/v1/accounts", Key::Bearer(operator_key), account.to_string())
                .await?;
            let api_key = text(&account, "/api_key")?;
            let id = text(&account, "/id")?;
            let url = receiver.url(contract);
            let secret = register(&mut client, contract, &id, &api_key, &url).await?;
            receiver.expect(contract, secret);
            actors.push(Actor { contract, username, api_key });
        }
        Ok(Self { actors, client, operator_key: operator_key.to_owned() })
    }

    pub(super) fn actors(&self) -> &[Actor] {
        &self.actors
    }

    /// Publishes an event, `data` byte for byte; answers its id.
    pub(super) async fn publish(
        &mut self,
        contract: Contract,
        event_type: &str,
        data: &str,
    ) -> Result<String, Ending> {
        let account = json!(username(contract));
        let event_type = json!(event_type);
        let event = format!(r#"{{"account":{account},"type":{event_type},"data":{data}}}"#);
        let key = Key::Bearer(&self.operator_key);
        let answer = self.client.post("/api/v1/events", key, event).await?;
        text(&answer, "/id")
    }
}

fn username(contract: Contract) -> &'static str {
    match contract {
        Contract::JoggV2 => "demo-jogg",
        Contract::KonproV1 => "demo-konpro",
        Contract::Standard => "demo-standard",
    }
}

/// Registers the endpoint as a customer of the contract would; answers its secret.
async fn register(
    client: &mut Client,
    contract: Contract,
    account: &str,
    api_key: &str,
    url: &str,
) -> Result<String, Ending> {
    let names: Vec<_> = event_types(contract).iter().map(|entry| entry.name).collect();
    let (path, key, endpoint, secret) = match contract {
        Contract::JoggV2 => (
            "/v2/endpoint".to_owned(),
            Key::XApiKey(api_key),
            json!({"url": url, "status": "enabled", "events": names}),
            "/data/secret",
        ),
        Contract::KonproV1 => (
            "/v1/webhook/endpoint.add".to_owned(),
            Key::XApiKey(api_key),
            json!({"url": url, "events": names}),
            "/secret",
        ),
        Contract::Standard => (
            format!("/api/v1/accounts/{account}/endpoints"),
            Key::Bearer(api_key),
            json!({"url": url, "events": ["*"]}),
            "/secret",
        ),
    };
    text(&client.post(&path, key, endpoint.to_string()).await?, secret)
}

fn text(answer: &Value, pointer: &str) -> Result<String, Ending> {
    let found = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    found.ok_or_else(|| Ending::failed(format!("an answer of the service has no {pointer}")))
}
