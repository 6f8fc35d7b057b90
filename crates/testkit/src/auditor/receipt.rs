//! What a receiver noted of one request.

use std::collections::BTreeMap;

use domain::contract::Contract;
use domain::id::EventId;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::receiver::ReceivedRequest;
use crate::verify::verify;

/// A SHA-256.
pub type Digest = [u8; 32];

/// The SHA-256 of these bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// A delivery as a receiver saw it: enough to judge it, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The path it came to.
    pub path: String,
    /// Its `webhook-id`, as it came.
    pub webhook_id: Option<String>,
    /// The digest of its body.
    pub body: Digest,
    /// The digest of the publisher's data in its body; `None` if the body has none.
    pub data: Option<Digest>,
    /// What is wrong with its signature, if anything is.
    pub forged: Option<String>,
    /// Whether it was answered 2xx.
    pub succeeded: bool,
}

impl Receipt {
    /// What is noted of a request to an endpoint of this contract with this secret, or to a path
    /// that nobody knows.
    pub fn of(request: &ReceivedRequest, endpoint: Option<(Contract, &str)>) -> Self {
        let forged = endpoint.and_then(|(contract, secret)| {
            verify(contract, secret, request).err().map(|error| error.to_string())
        });
        Self {
            path: request.path.clone(),
            webhook_id: request.header("webhook-id").map(str::to_owned),
            body: digest(&request.body),
            data: data(&request.body).map(|data| digest(data.get().as_bytes())),
            forged,
            succeeded: request.succeeded(),
        }
    }

    /// The event that its `webhook-id` names.
    pub fn event(&self) -> Option<EventId> {
        EventId::parse(self.webhook_id.as_deref()?).ok()
    }
}

/// The publisher's data in a delivery's body, of any contract.
fn data(body: &[u8]) -> Option<Box<RawValue>> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(body).ok()?;
    fields.remove("data").or_else(|| fields.remove("event_data"))
}
