//! The customer's side: a server that verifies what it gets before it believes it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use domain::contract::Contract;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::verify::{Verified, verify};
use crate::ending::Ending;

/// Arrivals that wait to be shown; the next ones wait to be answered.
const WAITING_MAX: usize = 1_024;

/// A request that claims to be a delivery.
pub(super) struct Arrival {
    pub(super) contract: Contract,
    /// What it says, or why it is not believed.
    pub(super) verified: Result<Verified, String>,
    pub(super) at: Instant,
}

/// The server; it goes when dropped.
pub(super) struct Receiver {
    address: SocketAddr,
    secrets: Secrets,
    accepting: JoinHandle<()>,
}

type Secrets = Arc<Mutex<BTreeMap<&'static str, String>>>;

impl Receiver {
    pub(super) async fn start() -> Result<(Self, mpsc::Receiver<Arrival>), Ending> {
        let failed = |error| Ending::failed(format!("cannot start the receiver: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let secrets = Secrets::default();
        let (arrived, arrivals) = mpsc::channel(WAITING_MAX);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&secrets), arrived));
        Ok((Self { address, secrets, accepting }, arrivals))
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where deliveries of the contract are taken.
    pub(super) fn url(&self, contract: Contract) -> String {
        format!("http://{}{}", self.address, path(contract))
    }

    /// Believes deliveries of the contract that are signed with this secret.
    pub(super) fn expect(&self, contract: Contract, secret: String) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(contract.name(), secret);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn path(contract: Contract) -> String {
    format!("/{}", contract.name())
}

async fn accept(listener: TcpListener, secrets: Secrets, arrived: mpsc::Sender<Arrival>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (secrets, arrived) = (Arc::clone(&secrets), arrived.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let (secrets, arrived) = (Arc::clone(&secrets), arrived.clone());
                async move { Ok::<_, Infallible>(answer(request, &secrets, &arrived).await) }
            });
            // Whoever calls us sees how the connection ends.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    secrets: &Secrets,
    arrived: &mpsc::Sender<Arrival>,
) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status(request, secrets, arrived).await;
    response
}

async fn status(
    request: Request<Incoming>,
    secrets: &Secrets,
    arrived: &mpsc::Sender<Arrival>,
) -> StatusCode {
    let (head, body) = request.into_parts();
    let Some(contract) =
        Contract::ALL.into_iter().find(|contract| path(*contract) == head.uri.path())
    else {
        return StatusCode::NOT_FOUND;
    };
    if head.method != Method::POST {
        // KonPro v1 asks with OPTIONS whether anybody is there.
        return StatusCode::NO_CONTENT;
    }
    let Ok(body) = body.collect().await else {
        return StatusCode::BAD_REQUEST;
    };
    let secret = {
        let secrets = secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.get(contract.name()).cloned()
    };
    let verified = secret
        .ok_or_else(|| "nothing is registered here".to_owned())
        .and_then(|secret| verify(contract, &secret, &head.headers, &body.to_bytes()));
    let status = if verified.is_ok() { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    // Without a reader the demonstration is over.
    let _ = arrived.send(Arrival { contract, verified, at: Instant::now() }).await;
    status
}
