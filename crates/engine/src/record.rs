//! Writing down what came of attempts, many in one step.
//!
//! Attempts finish one by one; here they are gathered while the previous step is being made
//! durable, so that the batch grows with the load. Promise: what is handed over is written down,
//! however long storage is away; the bounded queue before it slows sending down meanwhile. If the
//! process dies first, the lease dies with it and the attempt is made again.

use std::time::Duration;

use domain::attempt::Attempt;
use domain::audit::AuditNote;
use domain::delivery::Transition;
use domain::id::{AccountId, EndpointId};
use domain::time::Timestamp;
use store::StoreError;
use store::queue::{AttemptRecord, Claimed, GivenBack, Lease, Recorded};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::Engine;

/// Attempts waiting to be written down; beyond it sending slows down.
const QUEUE_MAX: usize = 1_024;

/// Attempts written down in one step.
const BATCH_MAX: usize = 512;

/// How long to wait before storage is asked again after it failed.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What to write down about a delivery.
pub(crate) struct Work {
    endpoint: EndpointId,
    account: AccountId,
    /// Whether its end makes another claimable.
    is_ordered: bool,
    kind: WorkKind,
    /// What is noted once this is written down; not if the lease was lost meanwhile.
    note: Option<Box<AuditNote>>,
    /// Kept until this is written down.
    _alone: Option<OwnedSemaphorePermit>,
}

enum WorkKind {
    Record(Box<AttemptRecord>),
    /// And claim it again from then on; `None` is at once.
    GiveBack(Lease, Option<Timestamp>),
    SetAside(Lease),
}

/// What the queue carries.
pub(crate) enum Queued {
    Work(Work),
    /// Answered once everything before it was written down or given up.
    Flush(oneshot::Sender<()>),
}

impl Work {
    pub(crate) fn record(claimed: &Claimed, record: AttemptRecord) -> Self {
        Self::of(claimed, WorkKind::Record(Box::new(record)))
    }

    pub(crate) fn give_back(claimed: &Claimed) -> Self {
        Self::of(claimed, WorkKind::GiveBack(claimed.lease, None))
    }

    pub(crate) fn give_back_until(claimed: &Claimed, until: Timestamp) -> Self {
        Self::of(claimed, WorkKind::GiveBack(claimed.lease, Some(until)))
    }

    pub(crate) fn set_aside(claimed: &Claimed) -> Self {
        Self::of(claimed, WorkKind::SetAside(claimed.lease))
    }

    /// The same work, at the end of which the permit is free again.
    pub(crate) fn holding(self, alone: OwnedSemaphorePermit) -> Self {
        Self { _alone: Some(alone), ..self }
    }

    /// The same work, with what is to be noted of it.
    pub(crate) fn noting(self, note: AuditNote) -> Self {
        Self { note: Some(Box::new(note)), ..self }
    }

    fn of(claimed: &Claimed, kind: WorkKind) -> Self {
        let Claimed { endpoint, account, is_ordered, .. } = *claimed;
        Self { endpoint, account, is_ordered, kind, note: None, _alone: None }
    }

    /// The attempt that was made, if one was.
    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        match &self.kind {
            WorkKind::Record(record) => Some(&record.attempt),
            WorkKind::GiveBack(..) | WorkKind::SetAside(_) => None,
        }
    }
}

/// The queue of what is to be written down.
pub(crate) struct Recorder {
    queue: mpsc::Sender<Queued>,
}

impl Recorder {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (queue, taken) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, taken)
    }

    /// Hands work over; waits while the queue is full. After the end of the engine it is dropped,
    /// and the lease with it.
    pub(crate) async fn send(&self, work: Work) {
        let _ = self.queue.send(Queued::Work(work)).await;
    }

    /// Waits until everything handed over so far was written down, or storage is out of order.
    pub(crate) async fn flushed(&self) {
        let (flush, flushed) = oneshot::channel();
        if self.queue.send(Queued::Flush(flush)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

impl Engine {
    /// Writes down what is handed over, for ever.
    pub(crate) async fn run_recorder(self, mut queue: mpsc::Receiver<Queued>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while queue.recv_many(&mut batch, BATCH_MAX).await > 0 {
            while let Err(error) = self.write_down(&batch).await {
                if matches!(error, StoreError::Broken(_) | StoreError::Closed) {
                    // What cannot be recorded must not be sent.
                    self.dispatch().lanes().halt();
                    tracing::error!(%error, attempts = batch.len(), "attempts stay unrecorded");
                    break;
                }
                tracing::warn!(%error, "could not record attempts; will try again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            for queued in batch.drain(..) {
                if let Queued::Flush(flush) = queued {
                    // Whoever stops may have lost patience.
                    let _ = flush.send(());
                }
            }
        }
    }

    async fn write_down(&self, batch: &[Queued]) -> Result<(), StoreError> {
        let now = self.clock().now();
        let mut records: Vec<AttemptRecord> = Vec::with_capacity(batch.len());
        let mut recorded: Vec<&Work> = Vec::with_capacity(batch.len());
        let mut leases = Vec::new();
        let mut given_back = Vec::new();
        let (mut suspects, mut set_aside) = (Vec::new(), Vec::new());
        let works = batch.iter().filter_map(|queued| match queued {
            Queued::Work(work) => Some(work),
            Queued::Flush(_) => None,
        });
        for work in works {
            match &work.kind {
                WorkKind::Record(record) => {
                    records.push(AttemptRecord::clone(record));
                    recorded.push(work);
                }
                WorkKind::GiveBack(lease, until) => {
                    leases.push(*lease);
                    given_back.push((work, until.unwrap_or(now)));
                }
                WorkKind::SetAside(lease) => {
                    suspects.push(*lease);
                    set_aside.push(work);
                }
            }
        }
        if !leases.is_empty() {
            self.store().give_back(leases, GivenBack::Unused).await?;
            for (work, claimable_at) in given_back {
                // Whether the endpoint was enabled again meanwhile, the claimer finds out.
                self.dispatch().note_stored(work.endpoint, work.account, claimable_at);
            }
        }
        if !suspects.is_empty() {
            let answers = self.store().set_aside(suspects, now).await?;
            self.ended(set_aside.into_iter().zip(answers)).await;
        }
        if records.is_empty() {
            return Ok(());
        }
        let transitions: Vec<Transition> = records.iter().map(|record| record.transition).collect();
        let answers = self.store().record(records).await?;
        let mut ended = Vec::with_capacity(answers.len());
        for ((work, transition), answer) in recorded.into_iter().zip(transitions).zip(answers) {
            match (answer, transition) {
                (Recorded::Applied, Transition::RetryAt(due_at)) => {
                    self.dispatch().note_stored(work.endpoint, work.account, due_at);
                }
                (answer, _) => ended.push((work, answer)),
            }
        }
        self.ended(ended).await;
        Ok(())
    }

    /// Deliveries ended, unless their leases were lost: what waited behind them, if anything did, is
    /// claimable now. All notes of them are one step of storage.
    async fn ended(&self, ended: impl IntoIterator<Item = (&Work, Recorded)>) {
        let mut notes = Vec::new();
        for (work, answer) in ended {
            if work.is_ordered {
                self.dispatch().note_stored(work.endpoint, work.account, self.clock().now());
            }
            match (answer, &work.note) {
                (Recorded::Applied, Some(note)) => notes.push((work.endpoint, &**note)),
                (Recorded::Applied, None) => {}
                (Recorded::LeaseLost, _) => self.metrics().lease_lost(),
            }
        }
        self.note_exhausting(notes).await;
    }

    /// Gives waiting deliveries back to storage, for whoever comes next.
    pub(crate) async fn give_back_ready(&self) -> Result<(), StoreError> {
        let ready = self.dispatch().lanes().take_ready();
        for some in ready.chunks(BATCH_MAX) {
            let leases = some.iter().map(|claimed| claimed.lease).collect();
            self.store().give_back(leases, GivenBack::Unused).await?;
        }
        Ok(())
    }
}
