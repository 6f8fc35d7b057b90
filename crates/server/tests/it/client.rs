//! Requests of callers: one connection each, JSON in and out.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body, which must be JSON, of an answer that must have this status.
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

/// An open connection.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, driver) =
            handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(driver);
        Ok(Self(sender))
    }

    /// Sends one request and reads its answer; the error is what a caller sees of a dead server.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, hyper::Error> {
        self.0.ready().await?;
        let mut request = Request::builder().method(method).uri(path).header("host", "postrider");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.0.send_request(request.body(Full::new(body.into())).unwrap()).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Ok(Answer { status: head.status, headers: head.headers, text })
    }
}

/// A caller with a key.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    address: SocketAddr,
    key_header: (&'static str, String),
}

impl Caller {
    /// A caller of the platform API.
    pub(crate) fn bearer(address: SocketAddr, key: &str) -> Self {
        Self { address, key_header: ("authorization", format!("Bearer {key}")) }
    }

    /// A caller of a customer contract.
    pub(crate) fn x_api_key(address: SocketAddr, key: &str) -> Self {
        Self { address, key_header: ("x-api-key", key.to_owned()) }
    }

    /// Its key.
    pub(crate) fn key(&self) -> &str {
        self.key_header.1.trim_start_matches("Bearer ")
    }

    /// The headers of a JSON request.
    pub(crate) fn headers(&self) -> [(&str, &str); 2] {
        [(self.key_header.0, &self.key_header.1), ("content-type", "application/json")]
    }

    /// One request on a connection of its own.
    pub(crate) async fn call(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let mut connection = Connection::open(self.address).await.unwrap();
        connection.send(method, path, &self.headers(), body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, "").await.json(200)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, body.to_string()).await
    }
}
