//! The receiver, a process of its own: answers 200 to everything and notes what came, and when.
//!
//! Promise: it shares the processors with what it measures, so it does no more than it must while
//! deliveries come: a read and a write for each, and a copy of its id, which is read when all is over.
//!
//! Commands on its input: `count` answers how many deliveries came; `report FILE` writes one line
//! for each (`webhook-id`, endpoint number, nanoseconds), forgets them and answers `done`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use domain::id::EventId;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::clock::now_nanos;
use crate::full_speed::ignore_interruption;
use crate::process::{Spoken, Usage, say};
use crate::wire::{extent, header};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The listener; connections have the numbers after it.
const LISTENER: Token = Token(0);

/// Room for a delivery; more is made where one is longer.
const DELIVERY_BYTES: usize = 4 * 1024;

/// Connections looked after in one turn.
const EVENTS_MAX: usize = 1_024;

/// A delivery that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    /// Whose `webhook-id`.
    pub(crate) event: EventId,
    /// The number at the end of the path.
    pub(crate) endpoint: u32,
    /// When its last byte was read.
    pub(crate) at_nanos: u64,
}

/// A delivery as it was noted: the value of its `webhook-id`, the rest as in [`Receipt`].
struct Noted {
    id: Box<[u8]>,
    endpoint: u32,
    at_nanos: u64,
}

/// Runs the receiver until its input ends.
pub(crate) fn run() -> Result<()> {
    let noted: Arc<Mutex<Vec<Noted>>> = Arc::default();
    let shared = Arc::clone(&noted);
    let mut listener =
        TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).context("listening")?;
    say(listener.local_addr()?);
    std::thread::spawn(move || serve_all(&mut listener, &shared));
    for line in std::io::stdin().lines() {
        let line = line?;
        let held = || noted.lock().unwrap_or_else(PoisonError::into_inner);
        match line.split_once(' ') {
            Some(("report", file)) => {
                let noted = std::mem::take(&mut *held());
                write_report(Path::new(file), &noted)?;
                say("done");
            }
            _ => say(held().len()),
        }
    }
    Ok(())
}

fn serve_all(listener: &mut TcpListener, noted: &Mutex<Vec<Noted>>) -> Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(listener, LISTENER, Interest::READABLE)?;
    let mut senders: HashMap<Token, Sender> = HashMap::new();
    let mut next = LISTENER.0;
    let mut events = Events::with_capacity(EVENTS_MAX);
    loop {
        poll.poll(&mut events, None).or_else(ignore_interruption)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    next += 1;
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE)?;
                    senders.insert(Token(next), Sender { stream, buffer: Vec::new(), filled: 0 });
                }
            } else if let Some(sender) = senders.get_mut(&event.token())
                && sender.serve(noted).is_err()
            {
                // A connection that ends is the sender's business.
                senders.remove(&event.token());
            }
        }
    }
}

/// A connection of the program under test.
struct Sender {
    stream: TcpStream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Sender {
    /// Reads what is there and answers what is complete. An error ends the connection.
    fn serve(&mut self, noted: &Mutex<Vec<Noted>>) -> Result<()> {
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize((2 * self.filled).max(DELIVERY_BYTES), 0);
            }
            let room = self.buffer.len() - self.filled;
            let read = match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => anyhow::bail!("closed"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.filled += read;
            while let Some(extent) = extent(&self.buffer[..self.filled])?
                && self.filled >= extent.message
            {
                if let Some(one) = note(&self.buffer[..extent.head]) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
                // So few bytes fit into any socket whose peer reads them.
                self.stream.write_all(ANSWER)?;
                self.buffer.copy_within(extent.message..self.filled, 0);
                self.filled -= extent.message;
            }
            if read < room {
                // Whatever comes later is told again.
                return Ok(());
            }
        }
    }
}

fn note(head: &[u8]) -> Option<Noted> {
    let at_nanos = now_nanos();
    let id = header(head, "webhook-id")?.as_bytes().into();
    Some(Noted { id, endpoint: endpoint_number(head), at_nanos })
}

/// The number at the end of the path of a request's first line.
fn endpoint_number(head: &[u8]) -> u32 {
    head.split(|byte| *byte == b' ')
        .nth(1)
        .and_then(|path| path.rsplit(|byte| *byte == b'/').next())
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(u32::MAX)
}

fn write_report(file: &Path, noted: &[Noted]) -> Result<()> {
    let mut text = String::with_capacity(noted.len() * 72);
    for Noted { id, endpoint, at_nanos } in noted {
        writeln!(text, "{} {endpoint} {at_nanos}", String::from_utf8_lossy(id))?;
    }
    std::fs::write(file, text).context("writing the receiver's report")
}

/// A receiver's process, seen from the benchmark.
pub(crate) struct ReceiverProcess {
    process: Spoken,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl ReceiverProcess {
    /// Starts one.
    pub(crate) fn start() -> Result<Self> {
        let mut process = Spoken::this_program(&["receiver"])?;
        let address = process.hear()?.parse().context("reading the receiver's address")?;
        Ok(Self { process, address })
    }

    /// How many deliveries came since the last report.
    pub(crate) fn count(&mut self) -> Result<usize> {
        self.process.ask("count")?.parse().context("reading the receiver's count")
    }

    /// What came since the last report.
    pub(crate) fn report(&mut self, folder: &Path) -> Result<Vec<Receipt>> {
        let file = folder.join("receipts");
        self.process.ask(&format!("report {}", file.display()))?;
        let text = std::fs::read_to_string(&file).context("reading the receiver's report")?;
        text.lines().map(|line| parse_receipt(line).context("reading a receipt")).collect()
    }

    /// What it has used.
    pub(crate) fn usage(&self) -> Result<Usage> {
        self.process.usage()
    }
}

fn parse_receipt(line: &str) -> Option<Receipt> {
    let mut fields = line.split(' ');
    Some(Receipt {
        event: EventId::parse(fields.next()?).ok()?,
        endpoint: fields.next()?.parse().ok()?,
        at_nanos: fields.next()?.parse().ok()?,
    })
}

/// When each event came to each endpoint, and how many deliveries were repeats.
pub(crate) fn index(receipts: &[Receipt]) -> (HashMap<(EventId, u32), u64>, usize) {
    let mut first_at = HashMap::with_capacity(receipts.len());
    let mut repeats = 0;
    for receipt in receipts {
        let key = (receipt.event, receipt.endpoint);
        if first_at.insert(key, receipt.at_nanos).is_some() {
            repeats += 1;
        }
    }
    (first_at, repeats)
}
