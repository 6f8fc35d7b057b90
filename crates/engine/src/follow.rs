//! Following events from the oldest to the newest, so that an account can recover by itself.
//!
//! Promise: whoever asks again and again, each time with the cursor it was given, sees every
//! acknowledged event of the account once and skips none. An event has its id before it is
//! durable, so only events older than the account's oldest that is still on its way are shown
//! ([`Births`]). Neighbours: [`crate::publish`] gives birth to events; the store reads them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::id::{AccountId, EventId};
use domain::page::PageRequest;
use store::history::{EventFilter, Followed};
use tokio::time::Instant;

use crate::Engine;
use crate::error::EngineError;
use crate::scope::Scope;

/// How long an event counts as on its way whose publisher went away while storage had it: far
/// longer than a commit takes.
const LOST_FOR: Duration = Duration::from_mins(1);

/// The events that have an id and of which it is not yet known whether they are durable.
#[derive(Default)]
pub(crate) struct Births {
    under_way: Mutex<UnderWay>,
}

#[derive(Default)]
struct UnderWay {
    events: BTreeSet<(AccountId, EventId)>,
    /// Those whose publisher went away, and when they count no more; the earliest first.
    lost: VecDeque<(Instant, AccountId, EventId)>,
}

/// An event on its way to be durable, until dropped.
pub(crate) struct Birth {
    births: Arc<Births>,
    account: AccountId,
    id: EventId,
    /// Whether storage has it and has not answered.
    pub(crate) is_submitted: bool,
}

impl Births {
    /// Begins an event of the account with the id that `draw` draws. Ids are drawn one after the
    /// other and must grow.
    pub(crate) fn begin(
        self: &Arc<Self>,
        account: AccountId,
        draw: impl FnOnce() -> EventId,
    ) -> Birth {
        let mut under_way = self.under_way();
        let id = draw();
        under_way.events.insert((account, id));
        Birth { births: Arc::clone(self), account, id, is_submitted: false }
    }

    /// The id before which nothing of the account is still to come: its oldest event on its way, or
    /// else what `draw` draws.
    fn settled_before(&self, account: AccountId, draw: impl FnOnce() -> EventId) -> EventId {
        let mut under_way = self.under_way();
        under_way.forget_lost(Instant::now());
        let of_account =
            (account, EventId::from_u128(0))..=(account, EventId::from_u128(u128::MAX));
        under_way.events.range(of_account).next().map_or_else(draw, |(_, id)| *id)
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn forget_lost(&mut self, now: Instant) {
        while let Some((until, account, id)) = self.lost.front()
            && *until <= now
        {
            self.events.remove(&(*account, *id));
            self.lost.pop_front();
        }
    }
}

impl Birth {
    /// The event's id.
    pub(crate) fn id(&self) -> EventId {
        self.id
    }
}

impl Drop for Birth {
    fn drop(&mut self) {
        let mut under_way = self.births.under_way();
        if self.is_submitted {
            let now = Instant::now();
            under_way.forget_lost(now);
            under_way.lost.push_back((now + LOST_FOR, self.account, self.id));
        } else {
            under_way.events.remove(&(self.account, self.id));
        }
    }
}

impl Engine {
    /// Events of the account after `after`, oldest first, at most `limit`; with `undelivered`, only
    /// those that its endpoints have not all got. To be asked again with [`Followed::through`], or
    /// with the same `after` if nothing was looked at.
    pub async fn follow_events(
        &self,
        scope: Scope,
        account: AccountId,
        after: Option<EventId>,
        undelivered: bool,
        limit: usize,
    ) -> Result<Followed, EngineError> {
        scope.check(account, "account")?;
        // Taken before storage is read: what is settled by then is there to be read.
        let before = self
            .births()
            .settled_before(account, || EventId::from_u128(self.dice().id(self.clock().now())));
        Ok(self.store().follow_events(account, after, before, undelivered, limit).await?)
    }

    /// Makes sure that new events sort after those of earlier processes, even if the clock was set
    /// back, so that who follows along misses none.
    pub(crate) async fn go_on_after_newest_event(&self) {
        let newest = PageRequest { before: None, limit: 1 };
        match self.store().list_events(EventFilter::default(), newest).await {
            Ok(page) => {
                if let Some(newest) = page.items.first() {
                    self.dice().go_on_after(newest.event.id.as_u128());
                }
            }
            Err(error) => tracing::warn!(%error, "could not read the newest event"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bits: u128) -> EventId {
        EventId::from_u128(bits)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_counts_as_settled_that_is_still_on_its_way() {
        let births = Arc::new(Births::default());
        let (john, jane) = (AccountId::from_u128(1), AccountId::from_u128(2));
        let first = births.begin(john, || event(1));
        let second = births.begin(john, || event(2));
        let other = births.begin(jane, || event(3));
        let bound = |account| births.settled_before(account, || event(9));
        assert_eq!((bound(john), bound(jane)), (event(1), event(3)));
        drop(second);
        assert_eq!(bound(john), event(1));
        drop((first, other));
        assert_eq!((bound(john), bound(jane)), (event(9), event(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_whose_publisher_went_away_counts_as_on_its_way_for_a_while() {
        let births = Arc::new(Births::default());
        let account = AccountId::from_u128(1);
        let mut birth = births.begin(account, || event(1));
        birth.is_submitted = true;
        drop(birth);
        let bound = || births.settled_before(account, || event(9));
        tokio::time::advance(LOST_FOR.saturating_sub(Duration::from_millis(1))).await;
        assert_eq!(bound(), event(1));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(bound(), event(9));
        assert!(births.under_way().events.is_empty());
    }
}
