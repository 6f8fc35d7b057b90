//! Bare sending: hyper connections kept alive, both signatures computed, one request after the other
//! on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use domain::id::EventId;
use domain::rendering::JOGG_V2_USER_AGENT;
use domain::secret::SigningSecret;
use domain::signature::{hex_signature, standard_signature};
use domain::time::Timestamp;
use http::Request;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{delivery_body, obey};
use crate::publisher::EVENT_TYPE;

/// Connections at once: as many as Postrider has in flight to one endpoint.
const CONNECTIONS: usize = domain::limits::IN_FLIGHT_PER_ENDPOINT_MAX;

/// Sends to `address` as the input says.
pub(crate) fn run(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut connections = runtime.block_on(connect(address))?;
    let body = Bytes::from(delivery_body()?);
    obey(|count| runtime.block_on(send(&mut connections, address, &body, count)))
}

async fn connect(address: SocketAddr) -> Result<Vec<SendRequest<Full<Bytes>>>> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await.context("connecting to the receiver")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        connections.push(sender);
    }
    Ok(connections)
}

async fn send(
    connections: &mut Vec<SendRequest<Full<Bytes>>>,
    address: SocketAddr,
    body: &Bytes,
    count: usize,
) -> Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::with_capacity(connections.len());
    for mut connection in connections.drain(..) {
        let (next, body) = (Arc::clone(&next), body.clone());
        tasks.push(tokio::spawn(async move {
            let secrets = [SigningSecret::from_random(&[0x5a; 24])];
            let host = address.to_string();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok::<_, anyhow::Error>(connection);
                }
                let request = a_request(number, &host, &secrets, &body)?;
                connection.ready().await?;
                let answer = connection.send_request(request).await?;
                ensure!(answer.status() == 200, "the receiver answered {}", answer.status());
            }
        }));
    }
    for task in tasks {
        connections.push(task.await.context("a sender panicked")??);
    }
    Ok(())
}

fn a_request(
    number: usize,
    host: &str,
    secrets: &[SigningSecret; 1],
    body: &Bytes,
) -> Result<Request<Full<Bytes>>> {
    let event = EventId::from_u128(number as u128);
    let attempted_at = Timestamp::from_seconds(1_732_806_631);
    let request = Request::post("/hook/0")
        .header("host", host)
        .header("content-type", "application/json")
        .header("x-webhook-event", EVENT_TYPE)
        .header("x-webhook-signature", hex_signature(&secrets[0], body))
        .header("user-agent", JOGG_V2_USER_AGENT)
        .header("accept-encoding", "identity")
        .header("webhook-id", event.to_string())
        .header("webhook-timestamp", attempted_at.as_seconds().to_string())
        .header("webhook-signature", standard_signature(secrets, event, attempted_at, body))
        .body(Full::new(body.clone()))?;
    Ok(request)
}
