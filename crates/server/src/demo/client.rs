//! Requests to the demonstration's own service: one connection, JSON in and out.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::ending::Ending;

/// The key of a request.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    /// As the platform API wants it.
    Bearer(&'a str),
    /// As the customer contracts want it.
    XApiKey(&'a str),
}

/// A connection to the service.
pub(super) struct Client {
    address: SocketAddr,
    connection: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(super) async fn connect(address: SocketAddr) -> Result<Self, Ending> {
        let stream =
            TcpStream::connect(address).await.map_err(|error| failed("connect", &error))?;
        stream.set_nodelay(true).map_err(|error| failed("connect", &error))?;
        let (connection, driver) =
            handshake(TokioIo::new(stream)).await.map_err(|error| failed("connect", &error))?;
        tokio::spawn(driver);
        Ok(Self { address, connection })
    }

    /// Posts a JSON text; answers the JSON of a 2xx.
    pub(super) async fn post(
        &mut self,
        path: &str,
        key: Key<'_>,
        json: String,
    ) -> Result<Value, Ending> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, self.address.to_string())
            .header(CONTENT_TYPE, "application/json");
        let request = match key {
            Key::Bearer(key) => request.header(AUTHORIZATION, format!("Bearer {key}")),
            Key::XApiKey(key) => request.header("x-api-key", key),
        };
        let request =
            request.body(Full::from(json)).expect("keys and paths of our own are header text");
        self.connection.ready().await.map_err(|error| failed(path, &error))?;
        let answer =
            self.connection.send_request(request).await.map_err(|error| failed(path, &error))?;
        let status = answer.status();
        let body = answer.into_body().collect().await.map_err(|error| failed(path, &error))?;
        let body = body.to_bytes();
        if !status.is_success() {
            let said = String::from_utf8_lossy(&body);
            return Err(Ending::failed(format!("POST {path} was answered {status}: {said}")));
        }
        serde_json::from_slice(&body).map_err(|error| failed(path, &error))
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> Ending {
    Ending::failed(format!("the demonstration could not reach its own service ({what}): {error}"))
}
