//! How much may wait to be made durable.
//!
//! Promise: publishers get a clear "not just now" instead of a growing queue: when storage has not
//! moved for [`WAIT_MAX`] while somebody waits, or when what waits passes [`WAITING_KIB_MAX`].
//! Deliveries go on meanwhile.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::error::EngineError;

/// How long storage may stand still, and how long a publisher waits for room: a healthy commit
/// takes milliseconds, and a caller that waits longer has better things to do.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// What may wait to be made durable at once, payloads and rows, in KiB.
const WAITING_KIB_MAX: u32 = 128 * 1024;

/// What an event or a delivery takes beside its payload, in bytes, give or take.
const ROW_BYTES: usize = 512;

/// How much waits to be made durable.
pub(crate) struct Intake {
    room: Semaphore,
    progress: Mutex<Progress>,
}

struct Progress {
    waiting: usize,
    /// When something was made durable last, or began to wait after a time when nothing did.
    moved_at: Instant,
}

/// Leave to have something made durable; given back when dropped.
pub(crate) struct Admitted<'a> {
    intake: &'a Intake,
    _room: SemaphorePermit<'a>,
}

impl Intake {
    pub(crate) fn new() -> Self {
        Self {
            room: Semaphore::new(WAITING_KIB_MAX as usize),
            progress: Mutex::new(Progress { waiting: 0, moved_at: Instant::now() }),
        }
    }

    /// Admits `rows` rows with `bytes` of payload, or says that storage is overloaded.
    pub(crate) async fn admit(
        &self,
        bytes: usize,
        rows: usize,
    ) -> Result<Admitted<'_>, EngineError> {
        let overloaded =
            || EngineError::unavailable("too much waits for storage just now; nothing was changed");
        {
            let progress = self.progress();
            if progress.waiting > 0 && progress.moved_at.elapsed() > WAIT_MAX {
                return Err(overloaded());
            }
        }
        let kib = (bytes + rows * ROW_BYTES).div_ceil(1024);
        let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(WAITING_KIB_MAX);
        let room = match self.room.try_acquire_many(kib) {
            Ok(room) => room,
            Err(_) => Box::pin(tokio::time::timeout(WAIT_MAX, self.room.acquire_many(kib)))
                .await
                .ok()
                .and_then(Result::ok)
                .ok_or_else(overloaded)?,
        };
        let mut progress = self.progress();
        if progress.waiting == 0 {
            progress.moved_at = Instant::now();
        }
        progress.waiting += 1;
        Ok(Admitted { intake: self, _room: room })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let mut progress = self.intake.progress();
        progress.waiting -= 1;
        progress.moved_at = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn publishers_are_turned_away_while_storage_stands_still_and_no_longer() {
        let intake = Intake::new();
        let stuck = intake.admit(1_000, 2).await.ok().unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(intake.admit(1_000, 2).await.is_ok());
        let still_stuck = intake.admit(1_000, 2).await.ok().unwrap();
        drop(stuck);
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        assert!(intake.admit(1_000, 2).await.is_err());
        drop(still_stuck);
        assert!(intake.admit(1_000, 2).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded_in_bytes() {
        let intake = Intake::new();
        let half = WAITING_KIB_MAX as usize * 1024 / 2;
        let first = intake.admit(half, 0).await.ok().unwrap();
        let _second = intake.admit(half, 0).await.ok().unwrap();
        assert!(intake.admit(1, 0).await.is_err());
        drop(first);
        assert!(intake.admit(1, 0).await.is_ok());
    }
}
