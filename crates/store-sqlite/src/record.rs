//! Attempts recorded: one row changed and one inserted for each.

use domain::attempt::{Attempt, Outcome};
use domain::delivery::{StateName, Transition};
use domain::sealing::Binding;
use domain::time::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use store::queue::{AttemptRecord, Recorded};
use store::vault::Vault;

use crate::failure::Result;
use crate::ledger::Ledger;
use crate::row::{exchange, nanoseconds};
use crate::state;

/// An attempt to record, with what was sent and answered sealed.
pub(crate) struct SealedRecord {
    record: AttemptRecord,
    exchange: Vec<u8>,
}

impl SealedRecord {
    pub(crate) fn of(record: AttemptRecord, vault: &Vault) -> Self {
        let attempt = &record.attempt;
        let plain = exchange(&attempt.request_head, &attempt.response_excerpt);
        let place = Binding::Exchange(record.lease.delivery, attempt.number);
        Self { exchange: vault.seal_data(&place, &plain), record }
    }
}

impl Ledger<'_> {
    pub(crate) fn record(&mut self, records: &[SealedRecord]) -> Result<Vec<Recorded>> {
        records.iter().map(|record| self.record_one(record)).collect()
    }

    fn record_one(&mut self, sealed: &SealedRecord) -> Result<Recorded> {
        let record = &sealed.record;
        // Nearly all attempts are first ones, and that there is none before is checked by the
        // statement that moves the delivery; only for others the chain is looked up.
        let place = self.take_place()?;
        if record.attempt.number <= 1 && self.move_delivery(record, None, place)? {
            self.insert_attempt(sealed, None, place)?;
            return self.conclude(record);
        }
        let last_attempt: Option<Option<i64>> = self
            .prepare("SELECT last_attempt FROM deliveries WHERE id = ?1")?
            .query_row([record.lease.delivery.to_bytes()], |row| row.get(0))
            .optional()?;
        let Some(last_attempt) = last_attempt else { return Ok(Recorded::LeaseLost) };
        if !self.move_delivery(record, last_attempt, place)? {
            return Ok(Recorded::LeaseLost);
        }
        self.insert_attempt(sealed, last_attempt, place)?;
        self.conclude(record)
    }

    /// Moves the delivery as the record says, if its lease is current and its last attempt the
    /// one given; answers whether it did.
    fn move_delivery(
        &mut self,
        record: &AttemptRecord,
        last_attempt: Option<i64>,
        place: i64,
    ) -> Result<bool> {
        let (state, due_at, reason) = match record.transition {
            Transition::RetryAt(due_at) => (state::WAITING, Some(due_at), None),
            Transition::Delivered => (state::DELIVERED, None, None),
            Transition::Exhausted(reason) => (state::EXHAUSTED, None, Some(reason.name())),
        };
        let attempt = &record.attempt;
        let ended_at = due_at.is_none().then(|| ended_at(attempt));
        let changed = self.hot.move_delivery.execute(params![
            state,
            place,
            due_at.map(Timestamp::as_millis),
            ended_at.map(Timestamp::as_millis),
            reason,
            record.lease.delivery.to_bytes(),
            record.lease.session.0 as i64,
            record.lease.fence,
            last_attempt,
        ])?;
        Ok(changed > 0)
    }

    /// The delivery moved: if it ended, that is counted, and what waits behind it goes on.
    fn conclude(&mut self, record: &AttemptRecord) -> Result<Recorded> {
        let end = match record.transition {
            Transition::RetryAt(_) => return Ok(Recorded::Applied),
            Transition::Delivered => StateName::Delivered,
            Transition::Exhausted(_) => StateName::Exhausted,
        };
        self.counted.end(1, end);
        self.advance(record.lease.delivery.to_bytes(), ended_at(&record.attempt))?;
        Ok(Recorded::Applied)
    }

    fn insert_attempt(
        &mut self,
        sealed: &SealedRecord,
        earlier: Option<i64>,
        place: i64,
    ) -> Result<()> {
        let attempt = &sealed.record.attempt;
        let (status, retry_after, failure) = match attempt.outcome {
            Outcome::Answered { status, retry_after } => (Some(status), retry_after, None),
            Outcome::Failed(failure) => (None, None, Some(failure.name())),
        };
        self.hot.insert_attempt.execute(params![
            place,
            earlier,
            attempt.number,
            attempt.at.as_millis(),
            nanoseconds(attempt.duration),
            nanoseconds(attempt.phases.dns),
            nanoseconds(attempt.phases.connect),
            nanoseconds(attempt.phases.tls),
            nanoseconds(attempt.phases.first_byte),
            status,
            retry_after.map(nanoseconds),
            failure,
            attempt.next_at.map(Timestamp::as_millis),
            sealed.exchange,
        ])?;
        Ok(())
    }
}

/// When a delivery ended whose last attempt this is.
fn ended_at(attempt: &Attempt) -> Timestamp {
    attempt.at.plus(attempt.duration)
}
