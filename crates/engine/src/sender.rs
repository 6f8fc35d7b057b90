//! The port through which requests leave.
//!
//! Promise asked of every implementation: a request goes only to an address that the address
//! policy allows at the moment of connecting, ends within its time limit, and comes back as data
//! whatever the receiver does. Neighbours: `deliver` sends attempts, `administer` probes new
//! endpoints, `http-sender` implements it over the network.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Outcome, Phases};
use domain::rendering::Header;
use domain::target_url::TargetUrl;

/// One POST.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where to.
    pub url: TargetUrl,
    /// Every header but `Host` and `Content-Length`, in the order to send.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
    /// The time limit for everything from the look-up of the name to the answer's head.
    pub timeout: Duration,
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
    async fn probe(&self, url: &TargetUrl, timeout: Duration) -> Outcome;
}

/// A sender, shared.
pub type SharedSender = Arc<dyn Sender>;
