//! HTTP/1.1 as cheap as it gets, for both ends of the measurement: prebuilt bytes out, head and
//! `Content-Length` in. Not for strangers: it trusts its peers.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Room for a head and a typical body at once.
const BUFFER_BYTES: usize = 16 * 1024;

/// Where a message that begins a buffer ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Length of the head, blank line included.
    pub(crate) head: usize,
    /// Length of head and body.
    pub(crate) message: usize,
}

/// The extent of the message that begins `buffer`, once its head is complete.
pub(crate) fn extent(buffer: &[u8]) -> Result<Option<Extent>> {
    let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let head = end + 4;
    let body = match header(&buffer[..head], "content-length") {
        Some(length) => length.parse().context("reading a Content-Length")?,
        None if header(&buffer[..head], "transfer-encoding").is_some() => {
            bail!("a message is chunked; the benchmark reads Content-Length only")
        }
        None => 0,
    };
    Ok(Some(Extent { head, message: head + body }))
}

/// The value of a header of a head, by its name in any case.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    memchr::memchr_iter(b'\n', head).find_map(|end_of_line| {
        let (found, value) = head[end_of_line + 1..].split_at_checked(name.len())?;
        if !found.eq_ignore_ascii_case(name.as_bytes()) {
            return None;
        }
        let value = value.strip_prefix(b":")?;
        let end = memchr::memchr(b'\n', value).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok().map(str::trim)
    })
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: &'a [u8],
}

/// The answer that begins a buffer.
pub(crate) fn answer(buffer: &[u8], extent: Extent) -> Result<Answer<'_>> {
    let status = buffer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    let status = status.and_then(|digits| digits.parse().ok()).context("reading a status line")?;
    Ok(Answer { status, body: &buffer[extent.head..extent.message] })
}

/// A client's connection for a task.
pub(crate) struct Connection {
    stream: tokio::net::TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Sends a request and answers its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).await.context("sending a request")?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed before the answer");
            }
            if let Some(extent) = extent(&self.buffer)?
                && self.buffer.len() >= extent.message
            {
                return answer(&self.buffer, extent);
            }
        }
    }
}

/// A client's connection for a thread.
pub(crate) struct BlockingConnection {
    stream: std::net::TcpStream,
    buffer: Vec<u8>,
}

impl BlockingConnection {
    /// Connects.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = std::net::TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER_BYTES] })
    }

    /// Sends a request and answers its answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.stream.write_all(request).context("sending a request")?;
        let mut filled = 0;
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..])?;
            if read == 0 {
                bail!("the connection was closed before the answer");
            }
            filled += read;
            if let Some(extent) = extent(&self.buffer[..filled])?
                && filled >= extent.message
            {
                return answer(&self.buffer, extent);
            }
        }
    }
}

/// The bytes of a request.
pub(crate) fn request(
    method: &str,
    path: &str,
    address: SocketAddr,
    key: &str,
    body: &str,
) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_where_its_content_length_says() {
        let whole = b"HTTP/1.1 202 Accepted\r\ncontent-LENGTH: 3\r\nX: y\r\n\r\nabcHTTP";
        assert!(extent(&whole[..40]).unwrap().is_none());
        let extent = extent(whole).unwrap().unwrap();
        let answer = answer(whole, extent).unwrap();
        assert_eq!((answer.status, answer.body), (202, &b"abc"[..]));
        assert_eq!(header(whole, "x"), Some("y"));
        assert_eq!(header(whole, "content"), None);
    }
}
