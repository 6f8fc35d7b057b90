//! Requests to the service's API: survives whatever the service does, and says what it was.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// The operator key of every service under test, which nobody else can reach.
pub(crate) const OPERATOR_KEY: &str = "operator-key-of-the-fault-suite-0123456789";

/// How long an answer may take: longer than a publisher is ever left waiting.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, which must be JSON, of an answer that must have this status.
    pub(crate) fn json(&self, status: u16) -> Result<Value> {
        ensure!(
            self.status == status,
            "answered {} instead of {status}: {}",
            self.status,
            self.text
        );
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {}", self.text))
    }
}

/// An open connection of the operator's.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    /// Opens one.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self(sender))
    }

    /// Sends one request and reads its answer. After an error nobody knows whether it was acted on,
    /// and the connection is of no use.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "postrider")
            .header("authorization", format!("Bearer {OPERATOR_KEY}"))
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        let exchange = async {
            self.0.ready().await?;
            let (head, body) = self.0.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        match tokio::time::timeout(ANSWER_MAX, exchange).await {
            Ok(answer) => answer,
            Err(_) => bail!("no answer within {ANSWER_MAX:?}"),
        }
    }
}

/// One request on a connection of its own.
pub(crate) async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    body: impl Into<Bytes>,
) -> Result<Answer> {
    let asked = || format!("{method} {path}");
    let mut connection = Connection::open(address).await.with_context(asked)?;
    connection.send(method.clone(), path, &[], body).await.with_context(asked)
}

/// What is found at this path.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let answer = call(address, Method::GET, path, "").await?;
    answer.json(200).with_context(|| format!("GET {path}"))
}

/// What is made by this body.
pub(crate) async fn create(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    let answer = call(address, Method::POST, path, body.to_string()).await?;
    answer.json(201).with_context(|| format!("POST {path}"))
}
