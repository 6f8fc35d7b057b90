//! A receiver that speaks HTTP/2 frame by frame, right or wrong (RFC 9113, sections 4 and 6).

use http_sender::tls::Roots;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::secure::{Authority, Secured, certificate_for, secured};
use crate::support::Route;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const ALTSVC: u8 = 10;
pub(crate) const ORIGIN: u8 = 12;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// `:status: 200`, by its place in the static table (RFC 7541, appendix A).
pub(crate) const STATUS_200: &[u8] = &[0x88];

/// `:status`, as a literal.
pub(crate) fn status(status: &str) -> Vec<u8> {
    [&[0x08, 3], status.as_bytes()].concat()
}

/// A field, as literals. For names and values shorter than 127 bytes.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let (name_length, value_length) = (name.len() as u8, value.len() as u8);
    [&[0x00, name_length], name.as_bytes(), &[value_length], value.as_bytes()].concat()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A complete answer without a body.
pub(crate) fn answer(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, STATUS_200)
}

pub(crate) fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = entries
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, &payload)
}

pub(crate) fn go_away(last_stream: u32, reason: u32) -> Vec<u8> {
    let payload = [&last_stream.to_be_bytes()[..], &reason.to_be_bytes(), b"good\nbye"].concat();
    frame(GOAWAY, 0, 0, &payload)
}

pub(crate) fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

pub(crate) fn window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

/// The receiver's end of one connection.
pub(crate) struct Peer(pub(crate) Secured);

impl Peer {
    /// Takes the preface and says these settings.
    pub(crate) async fn greet(stream: Secured, entries: &[(u16, u32)]) -> Option<Self> {
        let mut peer = Self(stream);
        let mut preface = [0; 24];
        peer.0.read_exact(&mut preface).await.ok()?;
        assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        peer.say(&settings(entries)).await.then_some(peer)
    }

    /// False when the connection has ended.
    pub(crate) async fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok() && self.0.flush().await.is_ok()
    }

    /// The next frame, if there is one more.
    pub(crate) async fn hear(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream })
    }

    /// The stream of the next request's head.
    pub(crate) async fn head(&mut self) -> Option<u32> {
        loop {
            let frame = self.hear().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// The stream of the next request that came in full.
    pub(crate) async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.hear().await?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// Listens until the other side ends the connection.
    pub(crate) async fn until_end(mut self) {
        while self.hear().await.is_some() {}
    }
}

/// A receiver that is greeted and then scripted.
pub(crate) fn peers<F, Fut>(entries: &'static [(u16, u32)], serve: F) -> (Route, Roots)
where
    F: Fn(usize, Peer) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let route = secured(config, move |number, stream| {
        let serve = serve.clone();
        async move {
            if let Some(peer) = Peer::greet(stream, entries).await {
                serve(number, peer).await;
            }
        }
    });
    (route, authority.roots())
}
