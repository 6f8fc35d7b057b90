//! The receiver, a process of its own: answers 200 to everything and notes what came, and when.
//!
//! Commands on its input: `count` answers how many deliveries came; `report FILE` writes one line
//! for each (`webhook-id`, endpoint number, nanoseconds), forgets them and answers `done`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use domain::id::EventId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::clock::now_nanos;
use crate::process::{Spoken, Usage, say};
use crate::wire::{extent, header};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

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

type Receipts = Arc<Mutex<Vec<Receipt>>>;

/// Runs the receiver until its input ends.
pub(crate) fn run() -> Result<()> {
    let receipts = Receipts::default();
    let noted = Arc::clone(&receipts);
    std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(accept(noted))
    });
    for line in std::io::stdin().lines() {
        let line = line?;
        let held = || receipts.lock().unwrap_or_else(PoisonError::into_inner);
        match line.split_once(' ') {
            Some(("report", file)) => {
                let receipts = std::mem::take(&mut *held());
                write_report(Path::new(file), &receipts)?;
                say("done");
            }
            _ => say(held().len()),
        }
    }
    Ok(())
}

async fn accept(receipts: Receipts) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let receipts = Arc::clone(&receipts);
        tokio::spawn(async move {
            // A connection that ends is the sender's business.
            let _ = serve(stream, &receipts).await;
        });
    }
}

async fn serve(mut stream: TcpStream, receipts: &Receipts) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        while let Some(extent) = extent(&buffer)? {
            if buffer.len() < extent.message {
                break;
            }
            let at_nanos = now_nanos();
            let head = &buffer[..extent.head];
            if let Some(event) = header(head, "webhook-id").and_then(|id| EventId::parse(id).ok()) {
                let receipt = Receipt { event, endpoint: endpoint_number(head), at_nanos };
                receipts.lock().unwrap_or_else(PoisonError::into_inner).push(receipt);
            }
            buffer.drain(..extent.message);
            stream.write_all(ANSWER).await?;
        }
    }
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

fn write_report(file: &Path, receipts: &[Receipt]) -> Result<()> {
    let mut text = String::with_capacity(receipts.len() * 72);
    for Receipt { event, endpoint, at_nanos } in receipts {
        writeln!(text, "{event} {endpoint} {at_nanos}")?;
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
