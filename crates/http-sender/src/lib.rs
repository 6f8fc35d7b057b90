//! The request that leaves: implements the engine's [`Sender`] port over the network.
//!
//! Promise: a request goes only to an address that the policy allows at the moment of connecting,
//! ends within its limits, and comes back as data whatever the receiver does. Redirects are not
//! followed, nothing is decompressed, no proxy of the environment is used (the operator may name
//! one: [`proxy`]), nothing in an answer but its status, `Retry-After` and the beginning of its body
//! has any effect.
//!
//! The way of a request: a connection from the pool, or a fresh one from the guarded connector
//! (look up → judge → dial → judge → TLS); the request and the head of its answer; the answer's
//! body as far as the limits go; the connection back into the pool. Every bound stands in
//! [`limits`]. [`resolve`] and [`dial`] are the parts that tests and the simulation replace.

#![warn(missing_docs)]

mod connect;
mod connection;
mod failed;
mod pool;
mod request;
mod response;
mod stopwatch;
mod wire;

pub mod dial;
pub mod limits;
pub mod proxy;
pub mod resolve;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::{Exchange, Request, Sender};
use http::{Method, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::connect::{Connected, Connector};
use crate::connection::{Broken, Http1, Http2, Line};
use crate::dial::{Dial, TcpDial};
use crate::failed::Failed;
use crate::limits::{BODY_TIME_MAX, HEAD_FIELDS_MAX};
use crate::pool::Pool;
use crate::request::{Message, probe_headers};
use crate::resolve::{HickoryResolver, Resolve};
use crate::response::{Excerpt, retry_after};
use crate::stopwatch::Stopwatch;
use crate::tls::Roots;

/// Sends requests over the network.
pub struct HttpSender {
    connector: Connector,
    pool: Arc<Pool>,
}

impl HttpSender {
    /// A sender for this machine: DNS as the system has it, TCP, the platform's roots.
    pub fn for_system(policy: UrlPolicy) -> Self {
        let resolver = HickoryResolver::from_system();
        if let Some(fault) = resolver.fault() {
            tracing::warn!(fault, "no name can be looked up: every delivery to one will fail");
        }
        Self::new(policy, Arc::new(resolver), Arc::new(TcpDial), Roots::platform())
    }

    /// A sender over the given parts.
    pub fn new(
        policy: UrlPolicy,
        resolver: Arc<dyn Resolve>,
        dialer: Arc<dyn Dial>,
        roots: Roots,
    ) -> Self {
        let tls = TlsConnector::from(tls::client_config(roots));
        Self { connector: Connector { policy, resolver, dialer, tls }, pool: Arc::default() }
    }

    /// From nothing to the head of an answer.
    async fn obtain(
        &self,
        message: &Message<'_>,
        stopwatch: &mut Stopwatch,
    ) -> Result<Answer, Failed> {
        let origin = message.url.origin();
        if let Some(mut line) = self.pool.take(origin) {
            match line.answer(message, stopwatch).await {
                Ok(response) => return Answer::new(response, line),
                Err(Broken { unheard: true, .. }) => {}
                Err(Broken { failed, .. }) => return Err(failed),
            }
        }
        let Connected { wire, http2 } = self.connector.connect(message.url, stopwatch).await?;
        let mut line = if http2 {
            Line::Http2(Http2::open(wire).await?.begin())
        } else {
            Line::Http1(Box::new(Http1::open(wire).await?))
        };
        match line.answer(message, stopwatch).await {
            Ok(response) => {
                if let Line::Http2(stream) = &line {
                    self.pool.share(origin, stream.connection());
                }
                Answer::new(response, line)
            }
            Err(Broken { failed, .. }) => Err(failed),
        }
    }
}

/// The head of an answer, and the way to its body.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    /// The receiver lets us use the connection again.
    persistent: bool,
    body: Incoming,
    line: Line,
}

impl Answer {
    fn new(response: Response<Incoming>, line: Line) -> Result<Self, Failed> {
        let (head, body) = response.into_parts();
        if head.status.is_informational() {
            let detail = format!("the receiver answered {} and no final status", head.status);
            return Err(Failed::new(Failure::Protocol, detail));
        }
        if head.headers.len() > HEAD_FIELDS_MAX {
            let detail = format!("the answer's head has more than {HEAD_FIELDS_MAX} fields");
            return Err(Failed::new(Failure::Protocol, detail));
        }
        let closing = head.headers.get(header::CONNECTION).is_some_and(|value| {
            value.as_bytes().to_ascii_lowercase().windows(5).any(|word| word == b"close")
        });
        Ok(Self {
            status: head.status,
            retry_after: retry_after(&head.headers),
            persistent: head.version != Version::HTTP_10 && !closing,
            body,
            line,
        })
    }

    fn outcome(&self) -> Outcome {
        Outcome::Answered { status: self.status.as_u16(), retry_after: self.retry_after }
    }

    /// Reads the body within its limits, and gives the connection back if it is fit for another
    /// request.
    async fn finish(mut self, pool: &Arc<Pool>, origin: &str) -> Bytes {
        let mut excerpt = Excerpt::default();
        let reading = excerpt.read(&mut self.body);
        let read = match &mut self.line {
            Line::Http1(connection) => timeout(BODY_TIME_MAX, connection.drive(reading)).await,
            Line::Http2(_) => timeout(BODY_TIME_MAX, reading).await,
        };
        match self.line {
            Line::Http1(connection) if read == Ok(true) && self.persistent => {
                pool.put(origin, connection);
            }
            Line::Http1(_) => {}
            Line::Http2(stream) => stream.end(),
        }
        excerpt.into_bytes()
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, request: Request) -> Exchange {
        let began = Instant::now();
        let mut stopwatch = Stopwatch::default();
        let message = Message {
            method: Method::POST,
            url: &request.url,
            headers: &request.headers,
            body: &request.body,
        };
        let obtained =
            timeout_at(began + request.timeout, self.obtain(&message, &mut stopwatch)).await;
        let phases = stopwatch.stop();
        let (outcome, response_excerpt, detail) = match obtained {
            Ok(Ok(answer)) => {
                let outcome = answer.outcome();
                (outcome, answer.finish(&self.pool, request.url.origin()).await, None)
            }
            Ok(Err(Failed { failure, detail })) => {
                (Outcome::Failed(failure), Bytes::new(), Some(detail))
            }
            Err(_) => {
                let detail = "the time limit of the attempt passed".to_owned();
                (Outcome::Failed(Failure::Timeout), Bytes::new(), Some(detail))
            }
        };
        Exchange { outcome, duration: began.elapsed(), phases, response_excerpt, detail }
    }

    async fn probe(&self, url: &TargetUrl, timeout: Duration) -> Outcome {
        let mut stopwatch = Stopwatch::default();
        let headers = probe_headers();
        let message =
            Message { method: Method::OPTIONS, url, headers: &headers, body: &Bytes::new() };
        let obtained = tokio::time::timeout(timeout, self.obtain(&message, &mut stopwatch)).await;
        match obtained {
            Ok(Ok(answer)) => {
                let outcome = answer.outcome();
                // A probe is a single question: an HTTP/1.1 connection closes, unread.
                if let Line::Http2(stream) = answer.line {
                    stream.end();
                }
                outcome
            }
            Ok(Err(Failed { failure, detail })) => {
                tracing::debug!(origin = url.origin(), detail, "a probe failed");
                Outcome::Failed(failure)
            }
            Err(_) => Outcome::Failed(Failure::Timeout),
        }
    }
}
