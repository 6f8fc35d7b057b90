//! Asking an HTTP proxy for a tunnel.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Credentials, ended};
use crate::dial::Stream;
use crate::limits::HEAD_BYTES_MAX;

/// Asks for a tunnel to the address. Afterwards the stream is the tunnel.
pub(super) async fn ask(
    stream: &mut dyn Stream,
    target: SocketAddr,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    stream.write_all(request(target, credentials).as_bytes()).await?;
    stream.flush().await?;
    match status(&read_head(stream).await?) {
        Some(200..=299) => Ok(()),
        Some(status) => Err(io::Error::other(format!("answered CONNECT with {status}"))),
        None => Err(io::Error::other("did not answer CONNECT in HTTP/1.1")),
    }
}

fn request(target: SocketAddr, credentials: Option<&Credentials>) -> String {
    let authorization = credentials.map_or_else(String::new, |Credentials { user, password }| {
        let basic = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {basic}\r\n")
    });
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n")
}

/// The head of the answer. Nothing may follow it: the receiver speaks only when spoken to, so
/// whatever comes already is not the receiver's.
async fn read_head(stream: &mut dyn Stream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(256);
    loop {
        let mut chunk = [0; 1_024];
        let room = chunk.len().min(HEAD_BYTES_MAX - head.len());
        let read = stream.read(&mut chunk[..room]).await.map_err(|error| ended(&error))?;
        if read == 0 {
            let full = head.len() == HEAD_BYTES_MAX;
            let why = if full { "answered without an end" } else { "closed the connection" };
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, why));
        }
        // The end may be spread over two reads.
        let searched = head.len().saturating_sub(3);
        head.extend_from_slice(&chunk[..read]);
        let end = head[searched..].windows(4).position(|window| window == b"\r\n\r\n");
        match end.map(|end| searched + end + 4) {
            Some(end) if end == head.len() => return Ok(head),
            Some(_) => return Err(io::Error::other("sent more than its answer to CONNECT")),
            None => {}
        }
    }
}

/// The status of an answer in HTTP/1.0 or 1.1.
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.1 ").or_else(|| head.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, after) = rest.split_at_checked(3)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(after.first(), Some(b' ' | b'\r')) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
