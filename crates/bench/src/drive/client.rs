//! A client of a sender's API over one kept connection. [`crate::wire`] trusts its peers; this one
//! takes whatever answers a stranger gives, which is why it is hyper.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer that has not come by then does not come.
const ANSWER_AWAITED: Duration = Duration::from_secs(30);

/// Where an API is.
#[derive(Clone, Debug)]
pub(crate) struct Base {
    host: String,
    port: u16,
    authority: String,
    prefix: String,
}

impl Base {
    /// Reads a base URL. Plain HTTP only: what is compared are senders, not TLS.
    pub(crate) fn parse(url: &str) -> Result<Self> {
        let uri: http::Uri = url.parse().with_context(|| format!("the base URL {url}"))?;
        let plain = uri.scheme_str() == Some("http");
        ensure!(plain, "the base URL {url} must begin with http://");
        let authority = uri.authority().with_context(|| format!("{url} has no host"))?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(80);
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { host, port, authority: authority.to_string(), prefix })
    }
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// Its method.
    pub(crate) method: String,
    /// Its path behind that of the base.
    pub(crate) path: String,
    /// Its headers.
    pub(crate) headers: Vec<(String, String)>,
    /// Its body.
    pub(crate) body: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Answer {
    /// As much of the body as fits into a message, so that a reader sees what is wrong.
    pub(crate) fn excerpt(&self) -> String {
        excerpt(&self.body)
    }
}

/// As much of a body as fits into a message.
pub(crate) fn excerpt(body: &[u8]) -> String {
    const CHARACTERS: usize = 500;
    String::from_utf8_lossy(body).chars().take(CHARACTERS).collect()
}

/// A client; it connects when it first has to, and again when the connection was closed.
pub(crate) struct Client {
    base: Base,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// Not connected yet.
    pub(crate) fn new(base: Base) -> Self {
        Self { base, connection: None }
    }

    /// Sends a request and answers its answer. Nothing is sent twice: a request whose connection
    /// breaks is an error, since nobody knows what became of it.
    pub(crate) async fn exchange(&mut self, outgoing: Outgoing) -> Result<Answer> {
        let answer = tokio::time::timeout(ANSWER_AWAITED, self.try_exchange(outgoing)).await;
        let answer = answer
            .with_context(|| format!("no answer within {} s", ANSWER_AWAITED.as_secs()))
            .flatten();
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    async fn try_exchange(&mut self, outgoing: Outgoing) -> Result<Answer> {
        let path = format!("{}{}", self.base.prefix, outgoing.path);
        let mut request = http::Request::builder()
            .method(outgoing.method.as_str())
            .uri(path)
            .header(http::header::HOST, &self.base.authority);
        let typed =
            outgoing.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if !typed && !outgoing.body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &outgoing.headers {
            request = request.header(name, value);
        }
        let request =
            request.body(Full::new(Bytes::from(outgoing.body))).context("making a request")?;
        let answer = self.connected().await?.send_request(request).await;
        let answer = answer.context("sending a request")?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.context("reading an answer")?.to_bytes();
        Ok(Answer { status, body })
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        let kept = match self.connection.take() {
            Some(mut connection) => connection.ready().await.is_ok().then_some(connection),
            None => None,
        };
        let connection = match kept {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let address = (self.base.host.as_str(), self.base.port);
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("connecting to {}", self.base.authority))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // How it ends is told to whoever waits for an answer.
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_plain_http_with_a_path_in_common() {
        let base = Base::parse("http://localhost:8071/api/").unwrap();
        assert_eq!(
            (base.host.as_str(), base.port, base.prefix.as_str()),
            ("localhost", 8071, "/api")
        );
        assert_eq!(Base::parse("http://[::1]").unwrap().host, "::1");
        for wrong in ["https://localhost", "localhost:80", "/api"] {
            let error = format!("{:#}", Base::parse(wrong).unwrap_err());
            assert!(error.contains(wrong), "{error}");
        }
    }
}
