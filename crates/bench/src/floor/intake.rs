//! Bare intake: hyper reads the publish requests and answers 202 with as many bytes as the real one.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use domain::id::EventId;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::process::say;

/// Serves until its input ends.
pub(crate) fn run() -> Result<()> {
    std::thread::spawn(|| -> Result<()> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
    });
    for line in std::io::stdin().lines() {
        line?;
    }
    Ok(())
}

async fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(listener.local_addr()?);
    let accepted = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            let service = service_fn(move |request| accept(request, Arc::clone(&accepted)));
            // A connection that ends is the publisher's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn accept(
    request: Request<Incoming>,
    accepted: Arc<AtomicU64>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let received = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    let status = if received > 0 { 202 } else { 400 };
    let id = EventId::from_u128(u128::from(accepted.fetch_add(1, Ordering::Relaxed)));
    let answer = Full::new(Bytes::from(format!(r#"{{"id":"{id}","deliveries":1}}"#)));
    let mut response = Response::new(answer);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    Ok(response)
}
