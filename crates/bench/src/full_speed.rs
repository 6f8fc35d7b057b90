//! Many exchanges at once on one thread, each connection sending the next request as soon as the
//! last is answered.
//!
//! Promise: it shares the processors with what it measures, so it does no more than it must: a write
//! and a read an exchange, one wait for all that came. Neighbours: `publisher` says what is sent and
//! reads the answers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock::now_nanos;
use crate::wire::{Answer, answer, extent};

/// No answer for this long means that none will come.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Room for an answer; more is made where one is longer.
const ANSWER_BYTES: usize = 4 * 1024;

/// When an exchange took place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// When its request was sent.
    pub(crate) began_nanos: u64,
    /// When its answer was there.
    pub(crate) answered_nanos: u64,
}

/// What is exchanged.
pub(crate) trait Exchanges {
    /// Appends the bytes of the request of this number.
    fn write_request(&mut self, number: usize, request: &mut Vec<u8>);

    /// Takes the answer to it.
    fn take_answer(&mut self, number: usize, timing: Timing, answer: &Answer<'_>) -> Result<()>;
}

/// Makes `count` exchanges on `connections` connections.
pub(crate) fn exchange_all(
    address: SocketAddr,
    count: usize,
    connections: usize,
    exchanges: &mut impl Exchanges,
) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut callers = Vec::with_capacity(connections);
    for token in 0..connections.min(count) {
        // Blocking, so that whoever does not listen is noticed here.
        let stream = std::net::TcpStream::connect(address).context("connecting")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(token), interest)?;
        callers.push(Caller::new(stream));
    }
    let mut started = 0;
    for caller in &mut callers {
        caller.begin(started, exchanges)?;
        started += 1;
    }
    let mut answered = 0;
    let mut events = Events::with_capacity(connections.max(1));
    while answered < count {
        poll.poll(&mut events, Some(SILENCE_MAX)).or_else(ignore_interruption)?;
        if events.is_empty() {
            bail!("no answer for {} s", SILENCE_MAX.as_secs());
        }
        for event in &events {
            let caller = &mut callers[event.token().0];
            caller.flush()?;
            if !caller.is_waiting || !caller.hear(exchanges)? {
                continue;
            }
            answered += 1;
            if started < count {
                caller.begin(started, exchanges)?;
                started += 1;
            }
        }
    }
    Ok(())
}

/// A signal, a debugger's for example, is no reason to stop.
pub(crate) fn ignore_interruption(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(error) }
}

struct Caller {
    stream: TcpStream,
    request: Vec<u8>,
    sent: usize,
    buffer: Vec<u8>,
    filled: usize,
    is_waiting: bool,
    number: usize,
    began_nanos: u64,
}

impl Caller {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            request: Vec::new(),
            sent: 0,
            buffer: vec![0; ANSWER_BYTES],
            filled: 0,
            is_waiting: false,
            number: 0,
            began_nanos: 0,
        }
    }

    fn begin(&mut self, number: usize, exchanges: &mut impl Exchanges) -> Result<()> {
        self.request.clear();
        exchanges.write_request(number, &mut self.request);
        (self.sent, self.filled) = (0, 0);
        (self.number, self.is_waiting) = (number, true);
        self.began_nanos = now_nanos();
        self.flush()
    }

    /// Sends what is left of the request, as far as the connection takes it.
    fn flush(&mut self) -> Result<()> {
        while self.sent < self.request.len() {
            match self.stream.write(&self.request[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("sending a request"),
            }
        }
        Ok(())
    }

    /// Reads what is there; answers whether that ended the exchange.
    fn hear(&mut self, exchanges: &mut impl Exchanges) -> Result<bool> {
        loop {
            if self.filled == self.buffer.len() {
                self.buffer.resize(2 * self.filled, 0);
            }
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => bail!("the connection was closed before the answer"),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("reading an answer"),
            }
            let came = &self.buffer[..self.filled];
            if let Some(extent) = extent(came)?
                && came.len() >= extent.message
            {
                let timing = Timing { began_nanos: self.began_nanos, answered_nanos: now_nanos() };
                self.is_waiting = false;
                exchanges.take_answer(self.number, timing, &answer(came, extent)?)?;
                return Ok(true);
            }
        }
    }
}
