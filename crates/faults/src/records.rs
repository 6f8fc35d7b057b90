//! The two logs that an oracle judges by: JSON lines, one file for what publishers were told and one
//! for what receivers saw.
//!
//! Promise: a line is in the file, in full, before what it tells of goes on. Both files outlive the
//! service and tell nothing of each other.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use testkit::auditor::Digest;

/// A line of a publisher's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Published {
    /// It is about to ask; written before every request, repeats included.
    Asking {
        /// The idempotency key: one for each event.
        key: String,
        /// SHA-256 of its data, in hex.
        data_sha256: String,
        /// The paths of the endpoints it is owed to.
        paths: Vec<String>,
        /// Milliseconds since the log was begun.
        at_ms: u64,
    },
    /// It was told; written after every request.
    Told {
        /// The key of the request.
        key: String,
        /// How it ended.
        outcome: Outcome,
        /// The event's id, if acknowledged.
        event: Option<String>,
        /// The status of the answer, if there was one.
        status: Option<u16>,
        /// Milliseconds since the log was begun.
        at_ms: u64,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Answered with 2xx.
    Acknowledged,
    /// Answered that nothing was changed: with 4xx, or in so many words.
    Refused,
    /// Not answered, or so that nobody can tell.
    Unknown,
}

/// A line of a receiver's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    /// The path it came to.
    pub(crate) path: String,
    /// Its `webhook-id`.
    pub(crate) webhook_id: Option<String>,
    /// How many of this event came to this path so far, this one included.
    pub(crate) attempt: u32,
    /// SHA-256 of the body, in hex.
    pub(crate) body_sha256: String,
    /// SHA-256 of the publisher's data in it, in hex.
    pub(crate) data_sha256: Option<String>,
    /// What is wrong with its signature, if anything is.
    pub(crate) forged: Option<String>,
    /// The status it was answered with; `None` if with none.
    pub(crate) status: Option<u16>,
    /// When it came, in milliseconds since the log was begun.
    pub(crate) at_ms: u64,
}

/// A file of JSON lines that grows.
#[derive(Debug)]
pub(crate) struct Log {
    file: Mutex<File>,
    path: PathBuf,
    begun_at: tokio::time::Instant,
}

impl Log {
    /// Begins one; an existing file goes on.
    pub(crate) fn begin(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        let begun_at = tokio::time::Instant::now();
        Ok(Self { file: Mutex::new(file), path: path.to_owned(), begun_at })
    }

    /// Milliseconds since it was begun.
    pub(crate) fn now_ms(&self) -> u64 {
        self.begun_at.elapsed().as_millis() as u64
    }

    /// Adds a line.
    ///
    /// # Panics
    ///
    /// When the file cannot be written: nothing can be judged without it.
    pub(crate) fn write(&self, line: &impl Serialize) {
        let mut text = serde_json::to_vec(line).expect("the lines have nothing JSON cannot say");
        text.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text).expect("the logs of the fault suite can be written");
    }

    /// Everything in it.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let path = self.path.display();
        let text = {
            // So that no line is read by half.
            let _appending = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            std::fs::read_to_string(&self.path).with_context(|| format!("reading {path}"))?
        };
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().with_context(|| format!("a line of {path} is damaged"))
    }
}

/// A digest in hex.
pub(crate) fn hex(digest: &Digest) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// The digest in this hex.
pub(crate) fn from_hex(text: &str) -> Result<Digest> {
    let mut digest = Digest::default();
    anyhow::ensure!(text.len() == 64 && text.is_ascii(), "no SHA-256 in hex: {text}");
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16)?;
    }
    Ok(digest)
}
