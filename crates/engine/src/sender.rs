//! The port through which requests leave.
//!
//! Promise asked of every implementation: a request goes only to an address that the address
//! policy allows at the moment of connecting, ends within its time limit, and comes back as data
//! whatever the receiver does. Neighbours: `deliver` sends attempts, `administer` probes new
//! endpoints, `http-sender` implements it over the network.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Outcome, Phases, ReceiverControl};
use domain::credentials::{ClientCredentials, ClientIdentity};
use domain::rendering::Header;
use domain::target_url::TargetUrl;
use thiserror::Error;

/// One POST.
#[derive(Clone)]
pub struct Request {
    /// Where to.
    pub url: TargetUrl,
    /// Every header but `Host` and `Content-Length`, in the order to send.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
    /// The time limit for everything from the look-up of the name to the answer's head, the token
    /// included.
    pub timeout: Duration,
    /// The client certificate to show to whoever asks for one.
    pub identity: Option<ClientIdentity>,
    /// How to get the token that goes along as `authorization: Bearer …`, in place of any header
    /// of that name.
    pub credentials: Option<ClientCredentials>,
}

impl fmt::Debug for Request {
    /// Neither the headers' values nor the body: they are the customer's and hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request")
            .field("url", &self.url)
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The outcome.
    pub outcome: Outcome,
    /// How long everything took, until the answer's body was read or given up.
    pub duration: Duration,
    /// Where the time went.
    pub phases: Phases,
    /// The beginning of the answer's body, at most
    /// [`domain::limits::RESPONSE_EXCERPT_BYTES_MAX`] bytes; empty without an answer.
    pub response_excerpt: Bytes,
    /// What the receiver asks for with a header of its answer, whatever its status.
    pub control: Option<ReceiverControl>,
    /// What exactly went wrong (for example `DNS_MIXED`), for the operator's log only: it may tell
    /// what is behind an address.
    pub detail: Option<String>,
}

/// Sends requests.
#[async_trait]
pub trait Sender: Send + Sync {
    /// Makes one attempt. Never fails: a failure is an outcome.
    async fn send(&self, request: Request) -> Exchange;

    /// Asks a new endpoint whether anybody is there: `OPTIONS`, with `timeout` for everything.
    /// The outcome and nothing else comes back; the answer's head and body are not kept.
    async fn probe(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        timeout: Duration,
    ) -> Outcome;

    /// Whether it could show this identity. One that does not look takes every one.
    fn check_identity(&self, _identity: &ClientIdentity) -> Result<(), IdentityRefusal> {
        Ok(())
    }
}

/// Why a client identity cannot be used. The text says what is to be there, and nothing of the key.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityRefusal {
    /// The fault is with the certificate chain.
    #[error("the certificate chain {0}")]
    Certificate(String),
    /// The fault is with the private key.
    #[error("the private key {0}")]
    Key(String),
}

/// A sender, shared.
pub type SharedSender = Arc<dyn Sender>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_neither_header_values_nor_its_body() {
        let request = Request {
            url: TargetUrl::from_stored("https://a.com/hook").expect("a URL"),
            headers: vec![("x-key".into(), "exposed".into())],
            body: Bytes::from_static(b"exposed"),
            timeout: Duration::from_secs(5),
            identity: None,
            credentials: None,
        };
        let shown = format!("{request:?}");
        assert!(shown.contains("x-key") && !shown.contains("exposed"), "{shown}");
    }
}
