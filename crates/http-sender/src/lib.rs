//! The request that leaves: implements the engine's [`Sender`] port over the network.
//!
//! Promise: a request goes only to an address that the policy allows at the moment of connecting,
//! ends within its limits, and comes back as data whatever the receiver does. Redirects are not
//! followed, nothing is decompressed, no proxy of the environment is used (the operator may name
//! one: [`proxy`]), nothing in an answer but its status, `Retry-After` and the beginning of its body
//! has any effect.
//!
//! An endpoint may demand a client certificate ([`tls`]) or an OAuth 2 token, which is asked for on
//! the same guarded way as everything.
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
mod token_answer;
mod tokens;
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
use domain::attempt::{Failure, Outcome, Phases, ReceiverControl};
use domain::credentials::{ClientCredentials, ClientIdentity};
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::{Exchange, IdentityRefusal, Request, Sender};
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout, timeout_at};

use crate::connect::{Connected, Connector};
use crate::connection::{Broken, Http1, Http2, Line};
use crate::dial::{Dial, TcpDial};
use crate::failed::Failed;
use crate::limits::{BODY_TIME_MAX, HEAD_FIELDS_MAX};
use crate::pool::{Pool, origin_of};
use crate::request::{Message, probe_headers};
use crate::resolve::{HickoryResolver, Resolve};
use crate::response::{Excerpt, control, retry_after};
use crate::stopwatch::Stopwatch;
use crate::tls::{Roots, TlsConnectors};
use crate::token_answer::Granted;
use crate::tokens::{Tokens, basic, token_form, token_headers, too_late};

/// Sends requests over the network.
pub struct HttpSender {
    way: Arc<Way>,
    tokens: Tokens,
}

/// The one way out, for deliveries, probes and requests for tokens.
struct Way {
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
        let tls = TlsConnectors::new(roots);
        let connector = Connector { policy, resolver, dialer, tls };
        Self { way: Arc::new(Way { connector, pool: Arc::default() }), tokens: Tokens::new() }
    }

    /// The value of `authorization` for a request that needs a token.
    async fn bearer(
        &self,
        credentials: &ClientCredentials,
        began: Instant,
        limit: Duration,
    ) -> Result<HeaderValue, Failed> {
        let bearer = self.tokens.bearer(credentials, || {
            let (way, credentials) = (Arc::clone(&self.way), credentials.clone());
            async move { way.ask_for_token(&credentials).await }
        });
        timeout_at(began + limit, bearer).await.unwrap_or_else(|_| Err(too_late(limit)))
    }
}

impl Way {
    /// From nothing to the head of an answer.
    async fn obtain(
        &self,
        message: &Message<'_>,
        stopwatch: &mut Stopwatch,
    ) -> Result<Answer, Failed> {
        let origin = origin_of(message.url, message.identity);
        if let Some(mut line) = self.pool.take(&origin) {
            match line.answer(message, stopwatch).await {
                Ok(response) => return Answer::new(response, line),
                Err(Broken { unheard: true, .. }) => {}
                Err(Broken { failed, .. }) => return Err(failed),
            }
        }
        // Boxed, as is whatever else is seldom needed, so that the way of most requests stays small.
        Box::pin(self.obtain_afresh(message, &origin, stopwatch)).await
    }

    /// The same, over a connection that is opened for it.
    async fn obtain_afresh(
        &self,
        message: &Message<'_>,
        origin: &str,
        stopwatch: &mut Stopwatch,
    ) -> Result<Answer, Failed> {
        let Connected { wire, http2 } =
            self.connector.connect(message.url, message.identity, stopwatch).await?;
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

    /// Asks the authorisation server, on the same way and with the same limits as everything.
    async fn ask_for_token(&self, credentials: &ClientCredentials) -> Result<Granted, Failed> {
        let request = credentials.request();
        let (headers, body) = (token_headers(), token_form(request));
        let authorization = basic(request);
        let message = Message {
            method: Method::POST,
            url: &request.token_url,
            headers: &headers,
            body: &body,
            authorization: Some(&authorization),
            identity: None,
        };
        let answer = self.obtain(&message, &mut Stopwatch::default()).await?;
        let status = answer.status;
        let origin = request.token_url.origin();
        let (body, is_whole) = answer.finish(&self.pool, origin, Excerpt::of_everything()).await;
        let unusable = |why: String| Failed::new(Failure::Protocol, why);
        if !status.is_success() {
            return Err(unusable(format!("the token URL answered {}", status.as_u16())));
        }
        if !is_whole {
            return Err(unusable("the answer of the token URL is too long or too slow".to_owned()));
        }
        token_answer::read(&body).map_err(|why| unusable(why.to_owned()))
    }
}

/// The head of an answer, and the way to its body.
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
    control: Option<ReceiverControl>,
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
            control: control(&head.headers),
            persistent: head.version != Version::HTTP_10 && !closing,
            body,
            line,
        })
    }

    fn outcome(&self) -> Outcome {
        Outcome::Answered { status: self.status.as_u16(), retry_after: self.retry_after }
    }

    /// Reads the body within its limits, and gives the connection back if it is fit for another
    /// request. Answers also whether that was all of the body.
    async fn finish(
        mut self,
        pool: &Arc<Pool>,
        origin: &str,
        mut excerpt: Excerpt,
    ) -> (Bytes, bool) {
        let reading = excerpt.read(&mut self.body);
        let read = match &mut self.line {
            Line::Http1(connection) => timeout(BODY_TIME_MAX, connection.drive(reading)).await,
            Line::Http2(_) => timeout(BODY_TIME_MAX, reading).await,
        };
        let is_whole = read == Ok(true);
        match self.line {
            Line::Http1(connection) if is_whole && self.persistent => {
                pool.put(origin, connection);
            }
            Line::Http1(_) => {}
            Line::Http2(stream) => stream.end(),
        }
        (excerpt.into_bytes(), is_whole)
    }
}

#[async_trait]
impl Sender for HttpSender {
    async fn send(&self, request: Request) -> Exchange {
        let began = Instant::now();
        let mut stopwatch = Stopwatch::default();
        let authorization = match &request.credentials {
            None => None,
            Some(credentials) => {
                match Box::pin(self.bearer(credentials, began, request.timeout)).await {
                    Ok(bearer) => Some(bearer),
                    Err(Failed { failure, detail }) => {
                        return unanswered(failure, detail, began, Phases::default());
                    }
                }
            }
        };
        let identity = request.identity.as_ref();
        let message = Message {
            method: Method::POST,
            url: &request.url,
            headers: &request.headers,
            body: &request.body,
            authorization: authorization.as_ref(),
            identity,
        };
        let obtained =
            timeout_at(began + request.timeout, self.way.obtain(&message, &mut stopwatch)).await;
        let phases = stopwatch.stop();
        match obtained {
            Ok(Ok(answer)) => {
                if answer.status == StatusCode::UNAUTHORIZED
                    && let (Some(credentials), Some(bearer)) =
                        (&request.credentials, &authorization)
                {
                    self.tokens.forget(credentials, bearer);
                }
                let (outcome, control) = (answer.outcome(), answer.control);
                let origin = origin_of(&request.url, identity);
                let (response_excerpt, _) =
                    answer.finish(&self.way.pool, &origin, Excerpt::to_store()).await;
                let duration = began.elapsed();
                Exchange { outcome, duration, phases, response_excerpt, control, detail: None }
            }
            Ok(Err(Failed { failure, detail })) => unanswered(failure, detail, began, phases),
            Err(_) => {
                let detail = "the time limit of the attempt passed".to_owned();
                unanswered(Failure::Timeout, detail, began, phases)
            }
        }
    }

    async fn probe(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        timeout: Duration,
    ) -> Outcome {
        let mut stopwatch = Stopwatch::default();
        let message = Message {
            method: Method::OPTIONS,
            url,
            headers: &probe_headers(),
            body: &Bytes::new(),
            authorization: None,
            identity,
        };
        let obtained =
            tokio::time::timeout(timeout, self.way.obtain(&message, &mut stopwatch)).await;
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
    fn check_identity(&self, identity: &ClientIdentity) -> Result<(), IdentityRefusal> {
        tls::certified_key(identity).map(drop)
    }
}

/// An exchange without an answer.
fn unanswered(failure: Failure, detail: String, began: Instant, phases: Phases) -> Exchange {
    Exchange {
        outcome: Outcome::Failed(failure),
        duration: began.elapsed(),
        phases,
        response_excerpt: Bytes::new(),
        control: None,
        detail: Some(detail),
    }
}
