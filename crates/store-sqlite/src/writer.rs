//! The one thread that writes: whatever waits becomes one transaction.
//!
//! Promise: a request is answered only after its transaction is on stable storage, or with an
//! error after it was undone; every request is answered, also when the thread dies. While one
//! transaction commits, requests gather, and the next takes them all: the group grows with the
//! load, and an idle store commits at once. Neighbours: `ledger` is what requests work on,
//! `checkpoint` keeps the log short.

use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use store::StoreError;
use store::vault::Vault;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::Checkpointer;
use crate::condition::Condition;
use crate::failure::{Failure, Result, Verdict};
use crate::ledger::Ledger;
use crate::lock::FileLock;
use crate::statistics::Gauges;

/// Requests that may wait for the writer; beyond, callers wait to ask. Four full transactions.
const WAITING_MAX: usize = 4 * REQUESTS_PER_COMMIT_MAX;

/// Most requests in one transaction, so that the first of them does not wait for long.
const REQUESTS_PER_COMMIT_MAX: usize = 1_024;

/// No request joins a transaction that has this much to write, in rows or pages. About 50 ms.
const WEIGHT_PER_COMMIT_MAX: usize = 16_384;

/// How long requests that can wait are kept back for one that cannot. A sync takes 0.1 to 4 ms on
/// common disks; recording an attempt is nobody's wait, an accept that finds the disk busy is.
const LINGER: Duration = Duration::from_millis(2);

/// From how many requests in the last transaction on the writer rests before the next, so that
/// those who were just answered can ask again and share it. Below, nobody else is likely to come.
const CROWD: usize = 6;

/// The shortest and the longest rest; in between it is twice as long as the last transaction took. A
/// rest costs one timer; without it each newcomer wakes the thread and fills a transaction alone.
const REST: RangeInclusive<Duration> = Duration::from_micros(200)..=Duration::from_millis(2);

/// Whether somebody waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Commit at once.
    AtOnce,
    /// Sharing a sync is worth [`LINGER`].
    CanWait,
}

/// One request, with its caller.
trait Request: Send {
    /// Does the work; the answer is kept until [`Self::answer`].
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<()>;

    /// Answers: what the work brought, or why it came to nothing.
    fn answer(self: Box<Self>, undone: Option<&Verdict>);
}

struct Call<T, Work> {
    work: Option<Work>,
    brought: Option<std::result::Result<T, Verdict>>,
    reply: oneshot::Sender<std::result::Result<T, StoreError>>,
}

impl<T, Work> Request for Call<T, Work>
where
    T: Send,
    Work: FnOnce(&mut Ledger<'_>) -> Result<T> + Send,
{
    fn run(&mut self, ledger: &mut Ledger<'_>) -> Result<()> {
        let work = self.work.take().expect("a request is run once");
        match work(ledger) {
            Ok(answer) => self.brought = Some(Ok(answer)),
            // The row is unreadable or not written, the transaction is sound.
            Err(failure @ (Failure::Unreadable { .. } | Failure::NoRoom)) => {
                self.brought = Some(Err(Verdict::from(&failure)));
            }
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    fn answer(self: Box<Self>, undone: Option<&Verdict>) {
        let answer = match (undone, self.brought) {
            (Some(verdict), _) => Err(verdict.clone().into()),
            (None, Some(brought)) => brought.map_err(StoreError::from),
            (None, None) => Err(StoreError::Broken("a request was passed over".to_owned())),
        };
        // A caller that does not wait any more needs no answer.
        let _ = self.reply.send(answer);
    }
}

enum Message {
    Write { request: Box<dyn Request>, haste: Haste, weight: usize },
    Close(oneshot::Sender<()>),
}

/// The callers' side of the thread.
pub(crate) struct Writer {
    messages: Option<mpsc::Sender<Message>>,
    thread: Option<JoinHandle<()>>,
    condition: Arc<Condition>,
}

/// What the thread works with.
pub(crate) struct Workplace {
    pub(crate) connection: Connection,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) condition: Arc<Condition>,
    pub(crate) vault: Arc<Vault>,
    /// Held until the last write is done.
    pub(crate) lock: Arc<FileLock>,
}

impl Writer {
    pub(crate) fn start(workplace: Workplace) -> std::io::Result<Self> {
        let (messages, inbox) = mpsc::channel(WAITING_MAX);
        let timer = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let condition = Arc::clone(&workplace.condition);
        let shift =
            Shift { inbox, timer, batch: Batch::default(), last: Last::default(), closing: None };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || shift.work(workplace))?;
        Ok(Self { messages: Some(messages), thread: Some(thread), condition })
    }

    /// Has `work` done in a transaction, alone or with others, and answers what it brought once it
    /// is on stable storage. `weight` is about how many rows or pages it writes.
    pub(crate) async fn write<T, Work>(
        &self,
        haste: Haste,
        weight: usize,
        work: Work,
    ) -> std::result::Result<T, StoreError>
    where
        T: Send + 'static,
        Work: FnOnce(&mut Ledger<'_>) -> Result<T> + Send + 'static,
    {
        self.condition.check()?;
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Call { work: Some(work), brought: None, reply });
        self.send(Message::Write { request, haste, weight }).await?;
        answer.await.unwrap_or_else(|_| Err(self.condition.gone()))
    }

    /// Ends the thread once everything asked before is done.
    pub(crate) async fn close(&self) -> std::result::Result<(), StoreError> {
        match self.condition.check() {
            Err(StoreError::Closed) => return Ok(()),
            other => other?,
        }
        self.condition.set_closed();
        let (reply, answer) = oneshot::channel();
        self.send(Message::Close(reply)).await?;
        answer.await.map_err(|_| self.condition.gone())
    }

    async fn send(&self, message: Message) -> std::result::Result<(), StoreError> {
        let messages = self.messages.as_ref().expect("only `drop` takes the sender");
        messages.send(message).await.map_err(|_| self.condition.gone())
    }
}

impl Drop for Writer {
    /// Waits for the transaction under way, so that the file is free afterwards.
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// The requests of one transaction.
#[derive(Default)]
struct Batch {
    requests: Vec<Box<dyn Request>>,
    weight: usize,
    in_haste: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.requests.len() >= REQUESTS_PER_COMMIT_MAX || self.weight >= WEIGHT_PER_COMMIT_MAX
    }

    fn answer(&mut self, undone: Option<&Verdict>) {
        for request in self.requests.drain(..) {
            request.answer(undone);
        }
        self.weight = 0;
        self.in_haste = false;
    }
}

/// The thread's side.
struct Shift {
    inbox: mpsc::Receiver<Message>,
    timer: Runtime,
    batch: Batch,
    last: Last,
    closing: Option<oneshot::Sender<()>>,
}

/// The transaction before.
#[derive(Clone, Copy, Default)]
struct Last {
    requests: usize,
    took: Duration,
}

impl Shift {
    fn work(mut self, workplace: Workplace) {
        let Workplace { connection, mut checkpointer, gauges, condition, vault, lock } = workplace;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let ledger = Ledger::new(&connection, &vault)?;
            self.commit_all(ledger, &mut checkpointer, &gauges, &condition)
        }));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => condition.set_broken(failure.to_string()),
            Err(_) => condition.set_broken("the writer panicked".to_owned()),
        }
        let finished = match condition.broken() {
            Some(why) => {
                self.refuse_all(&Verdict::Broken(why.to_owned()));
                false
            }
            None if self.closing.is_some() => match checkpointer.finish(&connection, &lock) {
                Ok(()) => true,
                Err(failure) => {
                    condition.set_broken(failure.to_string());
                    false
                }
            },
            None => false,
        };
        checkpointer.stop();
        drop(connection);
        drop(lock);
        if finished && let Some(reply) = self.closing.take() {
            // Whoever closed may have stopped waiting.
            let _ = reply.send(());
        }
    }

    /// Answers all who wait, and whoever comes.
    fn refuse_all(&mut self, verdict: &Verdict) {
        self.batch.answer(Some(verdict));
        self.inbox.close();
        while let Some(message) = self.inbox.blocking_recv() {
            if let Message::Write { request, .. } = message {
                request.answer(Some(verdict));
            }
        }
    }

    /// Commits until closed or abandoned; an error is one after which nothing may be acknowledged.
    fn commit_all(
        &mut self,
        mut ledger: Ledger<'_>,
        checkpointer: &mut Checkpointer,
        gauges: &Gauges,
        condition: &Condition,
    ) -> Result<()> {
        while self.gather() {
            if condition.broken().is_some() {
                return Ok(());
            }
            match self.transact(&mut ledger, gauges) {
                Ok(()) => self.batch.answer(None),
                Err(failure) if failure.is_fatal() => return Err(failure),
                Err(failure) => {
                    ledger.roll_back()?;
                    tracing::warn!(%failure, "a transaction was undone");
                    self.batch.answer(Some(&Verdict::from(&failure)));
                }
            }
            checkpointer.after_commit(ledger.connection)?;
        }
        Ok(())
    }

    fn transact(&mut self, ledger: &mut Ledger<'_>, gauges: &Gauges) -> Result<()> {
        let begun_at = now();
        ledger.begin()?;
        for request in &mut self.batch.requests {
            request.run(ledger)?;
        }
        let committing_at = now();
        ledger.commit()?;
        gauges.note_commit(self.batch.requests.len(), committing_at.elapsed());
        self.last = Last { requests: self.batch.requests.len(), took: begun_at.elapsed() };
        Ok(())
    }

    /// Fills the batch with what waits, waiting for a first request; `false` if none will come.
    fn gather(&mut self) -> bool {
        while self.batch.requests.is_empty() {
            match self.inbox.blocking_recv() {
                Some(message) => self.take(message),
                None => return false,
            }
        }
        self.take_waiting();
        if self.last.requests >= CROWD && !self.batch.is_full() && self.closing.is_none() {
            std::thread::park_timeout((self.last.took * 2).clamp(*REST.start(), *REST.end()));
            self.take_waiting();
        }
        if !self.batch.in_haste && !self.batch.is_full() && self.closing.is_none() {
            self.linger();
        }
        true
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Write { request, haste, weight } => {
                self.batch.requests.push(request);
                self.batch.weight = self.batch.weight.saturating_add(weight);
                self.batch.in_haste |= haste == Haste::AtOnce;
            }
            Message::Close(reply) => {
                // What was sent before stays to be received.
                self.inbox.close();
                self.closing = Some(reply);
            }
        }
    }

    fn take_waiting(&mut self) {
        while !self.batch.is_full()
            && let Ok(message) = self.inbox.try_recv()
        {
            self.take(message);
        }
    }

    fn linger(&mut self) {
        let until = tokio::time::Instant::now() + LINGER;
        while !self.batch.in_haste && !self.batch.is_full() && self.closing.is_none() {
            let next = async { tokio::time::timeout_at(until, self.inbox.recv()).await };
            match self.timer.block_on(next) {
                Ok(Some(message)) => self.take(message),
                Ok(None) | Err(_) => return,
            }
        }
        self.take_waiting();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a commit took is told to metrics and decides nothing"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
