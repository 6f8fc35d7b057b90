//! Receivers: HTTP/1.1 by hand, so that every byte can go wrong, in the mood of the moment.
//!
//! Promise: what is noted as answered was written to the network in full, up to the end of the head;
//! nothing else is. Neighbours: [`super::weather`] sets the moods, [`super::judge`] reads the requests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use testkit::receiver::ReceivedRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};
use turmoil::net::{TcpListener, TcpStream};

use super::chance::Chance;
use super::network::{Names, Says};
use super::trace::Sometimes;
use super::world::{Phase, Shape, World};

/// The port of every receiver.
const PORT: u16 = 80;

/// Longer than any attempt.
const HANGING: Duration = Duration::from_mins(3);

/// How an endpoint's receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Failing(u16),
    /// 429, or 503, with this `Retry-After`.
    Throttling(u16, u64),
    Gone,
    Hanging,
    Resetting,
    CuttingHead,
    CuttingBody,
    Slow(Duration),
    /// Closes kept connections without a word.
    Forgetful,
    /// Any of these, drawn for each request.
    Any,
}

/// What happened at the receivers, and how they behave.
pub(super) struct Receivers {
    /// By the number of the endpoint.
    pub(super) moods: BTreeMap<usize, Mood>,
    pub(super) names: Names,
    pub(super) requests: Vec<Received>,
    count: usize,
}

/// A request, and who made it.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) request: ReceivedRequest,
    pub(super) at: Duration,
    /// Its place among the requests of the ledger.
    pub(super) send: Option<usize>,
}

impl Receivers {
    pub(super) fn new(shape: &Shape) -> Self {
        Self {
            moods: BTreeMap::new(),
            names: Names::new(),
            requests: Vec::new(),
            count: shape.receivers,
        }
    }

    /// The name leads to one of the receivers.
    pub(super) fn settle(&mut self, name: String, number: usize) {
        self.names.insert(name, Says::Receiver(number % self.count));
    }

    /// Nobody fails any more.
    pub(super) fn calm_down(&mut self) {
        self.moods.clear();
        for (place, says) in self.names.values_mut().enumerate() {
            if !matches!(says, Says::Receiver(_)) {
                *says = Says::Receiver(place % self.count);
            }
        }
    }

    /// A mood at random; to be gone for good is rare.
    pub(super) fn any_mood(chance: &mut Chance) -> Mood {
        match chance.below(14) {
            0..2 => Mood::Failing(*chance.pick(&[500, 502, 503, 400, 302])),
            2 => Mood::Throttling(429, chance.between(1, 90)),
            3 => Mood::Throttling(503, chance.between(1, 60)),
            4 if chance.one_in(2) => Mood::Gone,
            5 => Mood::Hanging,
            6 => Mood::Resetting,
            7 => Mood::CuttingHead,
            8 => Mood::CuttingBody,
            9 => Mood::Slow(chance.millis(500, 12_000)),
            10 => Mood::Forgetful,
            11 => Mood::Any,
            _ => Mood::Well,
        }
    }
}

/// Answers whoever connects, for ever.
pub(super) async fn run(world: Arc<World>, number: usize) -> turmoil::Result {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    let mut connections = 0;
    loop {
        let (stream, peer) = listener.accept().await?;
        connections += 1;
        let place = (number as u64) << 32 | connections;
        tokio::spawn(serve(Arc::clone(&world), stream, peer, place));
    }
}

async fn serve(world: Arc<World>, stream: TcpStream, peer: SocketAddr, connection: u64) {
    let at = world.elapsed().as_millis() as u64;
    let chance =
        Chance::branch(world.seed, "receiver", at ^ connection ^ u64::from(peer.port()) << 16);
    let mut conversation =
        Conversation { world, stream, peer, connection, chance, buffer: Vec::new() };
    while conversation.next().await.is_some() {}
}

/// One connection.
struct Conversation {
    world: Arc<World>,
    stream: TcpStream,
    peer: SocketAddr,
    connection: u64,
    chance: Chance,
    buffer: Vec<u8>,
}

impl Conversation {
    /// Reads a request and answers it; `None` ends the connection.
    async fn next(&mut self) -> Option<()> {
        let request = self.read().await?;
        let number = request.path.strip_prefix("/e").and_then(|number| number.parse().ok());
        let mood = match number {
            Some(number) if self.world.phase() != Phase::Drain => {
                self.world.receivers().moods.get(&number).copied().unwrap_or(Mood::Well)
            }
            _ => Mood::Well,
        };
        let mood = match mood {
            Mood::Any => Receivers::any_mood(&mut self.chance),
            other => other,
        };
        let place = self.note(request);
        self.answer(mood, place, number).await
    }

    async fn read(&mut self) -> Option<ReceivedRequest> {
        let head_end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await?;
        };
        let head = String::from_utf8(self.buffer[..head_end].to_vec()).ok()?;
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length");
        let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        while self.buffer.len() < head_end + length {
            self.read_more().await?;
        }
        let body = Bytes::copy_from_slice(&self.buffer[head_end..head_end + length]);
        self.buffer.drain(..head_end + length);
        let path = target.split('?').next().unwrap_or(target).to_owned();
        let (at, connection) = (Instant::now(), self.connection as usize);
        Some(ReceivedRequest { method, path, headers, body, at, connection, answered: None })
    }

    async fn read_more(&mut self) -> Option<()> {
        let mut some = [0; 4_096];
        let read = self.stream.read(&mut some).await.ok().filter(|read| *read > 0)?;
        self.buffer.extend_from_slice(&some[..read]);
        Some(())
    }

    /// Notes the request; answers its place.
    fn note(&self, request: ReceivedRequest) -> usize {
        let world = &self.world;
        let event = request.header("webhook-id").unwrap_or("nothing").to_owned();
        let node = world.host_at(self.peer.ip());
        world.say(format_args!("r{} got {event} at {}", self.connection >> 32, request.path));
        let ledger = world.ledger();
        let slot = ledger.slot_at(&request.path);
        let stamp = request.header("webhook-timestamp").unwrap_or_default();
        let node = node.and_then(|name| name.strip_prefix('n')?.parse().ok());
        let event = domain::id::EventId::parse(&event).ok();
        let send = match (node, event, slot) {
            (Some(node), Some(event), Some(slot)) => ledger.send_of(node, event, slot, stamp),
            _ => None,
        };
        drop(ledger);
        let mut receivers = world.receivers();
        receivers.requests.push(Received { request, at: world.elapsed(), send });
        receivers.requests.len() - 1
    }

    async fn answer(&mut self, mood: Mood, place: usize, endpoint: Option<usize>) -> Option<()> {
        let world = Arc::clone(&self.world);
        match mood {
            Mood::Well | Mood::Any => {
                if self.chance.one_in(6) {
                    sleep(self.chance.millis(1, 400)).await;
                }
                self.respond(place, 200, "", b"ok").await
            }
            Mood::Failing(status) => {
                world.count(Sometimes::AnsweredServerError);
                self.respond(place, status, "", b"no").await
            }
            Mood::Throttling(status, seconds) => {
                world.count(Sometimes::AnsweredTooMany);
                let asked = format!("Retry-After: {seconds}\r\n");
                self.respond(place, status, &asked, b"").await
            }
            Mood::Gone => {
                world.count(Sometimes::AnsweredGone);
                if let Some(slot) = endpoint {
                    let now = world.elapsed();
                    world.ledger().slots[slot].said_gone(now);
                }
                self.respond(place, 410, "", b"").await
            }
            Mood::Hanging => {
                world.count(Sometimes::LeftHanging);
                sleep(HANGING).await;
                None
            }
            Mood::Resetting => {
                world.count(Sometimes::ConnectionReset);
                None
            }
            Mood::CuttingHead => {
                world.count(Sometimes::AnswerCutOff);
                self.stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-le").await.ok()?;
                None
            }
            Mood::CuttingBody => {
                world.count(Sometimes::AnswerCutOff);
                let head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
                self.stream.write_all(head).await.ok()?;
                self.answered(place, 200);
                None
            }
            Mood::Slow(wait) => {
                sleep(wait).await;
                self.respond(place, 200, "", b"late").await
            }
            Mood::Forgetful => {
                world.count(Sometimes::ConnectionForgotten);
                self.respond(place, 200, "", b"ok").await?;
                sleep(self.chance.millis(0, 2_000)).await;
                None
            }
        }
    }

    async fn respond(&mut self, place: usize, status: u16, more: &str, body: &[u8]) -> Option<()> {
        let head =
            format!("HTTP/1.1 {status} Said\r\n{more}content-length: {}\r\n\r\n", body.len());
        let mut answer = head.into_bytes();
        answer.extend_from_slice(body);
        self.stream.write_all(&answer).await.ok()?;
        self.answered(place, status);
        Some(())
    }

    fn answered(&self, place: usize, status: u16) {
        self.world.say(format_args!("r{} said {status}", self.connection >> 32));
        self.world.receivers().requests[place].request.answered = Some(status);
    }
}
