//! How fast attempts to one endpoint begin.
//!
//! Promise: an endpoint's own rate holds in every second, give or take a tenth; after an outage
//! attempts begin slowly, so that who is just back is not run over by what waited; and who says "too
//! many" is believed at once and tried a little faster each second, the way TCP shares a line
//! (additive increase, multiplicative decrease: Chiu and Jain, 1989). Pure, in whole numbers, so that
//! nothing drifts. Neighbours: [`crate::breaker`] says whether at all; [`crate::retry`] says when a
//! delivery is due, which a pace can only delay.

use std::time::Duration;

use crate::attempt::Outcome;
use crate::endpoint::RatePerSecond;
use crate::limits::RATE_PER_SECOND_MAX;
use crate::time::Timestamp;

/// How many attempts may begin at once after a rest, as a part of those of a second; at least one.
/// So no second has more than the rate and a tenth.
pub const BURST_DIVISOR: u64 = 10;

/// The allowed rate in the first second after a breaker closed, in attempts a second; and how many
/// may be on their way at once. Both double each second (TCP's slow start).
pub const SLOW_START_RATE: u32 = 1;

/// Longest time a receiver can stop its whole lane with one `Retry-After`. The delivery that got the
/// answer waits as long as it says; the others try again in a minute, since a wait is often meant for
/// one request.
pub const PAUSE_MAX: Duration = Duration::from_mins(1);

/// How long the lane pauses after a 429 that does not say how long.
pub const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// By what the rate is divided when a receiver says "too many".
pub const CUT_DIVISOR: u32 = 2;

/// In how many seconds a rate that was cut is back where it was cut from: slow enough that few
/// answers are "too many", fast enough to use what is there.
pub const REGAINED_IN_SECONDS: u32 = 16;

/// A rate that was cut is forgotten once it is so many times the rate at which the receiver said
/// "too many" and it did not say so again.
pub const FORGOTTEN_AT_FACTOR: u32 = 2;

/// A rate that was cut is kept at least until it is so high, in attempts a second, however little was
/// achieved when the receiver said "too many": a burst from memory is not more than this.
pub const FORGOTTEN_AT_RATE_MIN: u32 = 64;

/// What one attempt takes from the bucket. A token has a thousand parts, since a rate of `n` a second
/// is `n` parts a millisecond, which is what the clock counts.
const PARTS_PER_ATTEMPT: u64 = 1_000;

/// What a receiver answered that bears on how fast it may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowDown {
    /// When the attempt began.
    pub began_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Attempts that were on their way to the endpoint then, this one included.
    pub in_flight: usize,
    /// How long it asks to wait, if it says.
    pub retry_after: Option<Duration>,
}

/// How long the receiver asks the whole lane to wait, if it does: with a 429, or a 503 that says how
/// long (RFC 6585 section 4, RFC 9110 section 15.6.4).
pub const fn asks_to_slow_down(outcome: Outcome) -> Option<Option<Duration>> {
    match outcome {
        Outcome::Answered { status: 429, retry_after } => Some(retry_after),
        Outcome::Answered { status: 503, retry_after: Some(wait) } => Some(Some(wait)),
        Outcome::Answered { .. } | Outcome::Failed(_) => None,
    }
}

/// The pace of one endpoint. An endpoint without one has no rate of its own and is never slowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Parts of tokens.
    parts: u64,
    /// When there were so many.
    at: Timestamp,
    paused_until: Option<Timestamp>,
    throttle: Option<Throttle>,
}

/// A rate that grows until it limits nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Throttle {
    /// The rate at `since`.
    rate: u32,
    since: Timestamp,
    growth: Growth,
    /// Attempts that began before were not slowed by it.
    cut_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// It doubles each second.
    Doubling,
    /// So much is added each second, until it is so high.
    Adding { each_second: u32, until: u32 },
}

impl Throttle {
    /// The rate allowed at `now`; `None` once it limits nothing.
    fn allowed(&self, now: Timestamp) -> Option<u32> {
        let seconds = u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX);
        let (rate, until) = match self.growth {
            Growth::Doubling => {
                (self.rate.saturating_mul(2_u32.saturating_pow(seconds)), RATE_PER_SECOND_MAX)
            }
            Growth::Adding { each_second, until } => {
                (self.rate.saturating_add(each_second.saturating_mul(seconds)), until)
            }
        };
        (rate < until).then_some(rate)
    }

    /// From when on it limits nothing.
    fn ends_at(&self) -> Timestamp {
        let seconds = match self.growth {
            Growth::Doubling => (RATE_PER_SECOND_MAX / self.rate.max(1)).ilog2() + 1,
            Growth::Adding { each_second, until } => {
                until.saturating_sub(self.rate).div_ceil(each_second.max(1))
            }
        };
        self.since.plus(Duration::from_secs(seconds.into()))
    }

    /// When its rate next grows.
    fn grows_at(&self, now: Timestamp) -> Timestamp {
        self.since.plus(Duration::from_secs(now.since(self.since).as_secs() + 1))
    }
}

impl Pace {
    /// The pace of an endpoint that had a rest.
    pub fn new(now: Timestamp) -> Self {
        Self { parts: u64::MAX, at: now, paused_until: None, throttle: None }
    }

    /// Until when nothing begins, because the receiver asked for it. A pause that is longer than any
    /// is one from before the clock was set back.
    pub fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.paused_until.filter(|until| now < *until && until.since(now) <= PAUSE_MAX)
    }

    /// The throttle, unless it is one from before the clock was set back: none begins to grow later
    /// than the longest pause.
    fn throttle(&self, now: Timestamp) -> Option<Throttle> {
        let latest = now.plus(PAUSE_MAX);
        self.throttle.filter(|throttle| throttle.since.max(throttle.cut_at) <= latest)
    }

    /// The rate allowed now; `None` if there is no limit. `own` is the endpoint's own.
    pub fn rate(&self, own: Option<RatePerSecond>, now: Timestamp) -> Option<u32> {
        let throttled = self.throttle(now).and_then(|throttle| throttle.allowed(now));
        match (own.map(RatePerSecond::get), throttled) {
            (Some(own), Some(throttled)) => Some(own.min(throttled)),
            (own, throttled) => own.or(throttled),
        }
    }

    /// When the next attempt may begin: `now` or later. Later is when to ask again, and earlier if
    /// one of the `in_flight` attempts ends.
    pub fn may_begin_at(
        &self,
        own: Option<RatePerSecond>,
        in_flight: usize,
        now: Timestamp,
    ) -> Timestamp {
        if let Some(until) = self.paused_until(now) {
            return until;
        }
        let Some(rate) = self.rate(own, now) else { return now };
        if let Some(throttle) = self.throttle(now)
            && throttle.growth == Growth::Doubling
            && throttle.allowed(now).is_some_and(|allowed| in_flight >= allowed as usize)
        {
            return throttle.grows_at(now);
        }
        let missing = PARTS_PER_ATTEMPT.saturating_sub(self.parts_at(rate, now));
        now.plus(Duration::from_millis(missing.div_ceil(rate.into())))
    }

    /// An attempt begins that may.
    pub fn begin(&mut self, own: Option<RatePerSecond>, now: Timestamp) {
        let Some(rate) = self.rate(own, now) else {
            self.throttle = None;
            return;
        };
        self.parts = self.parts_at(rate, now).saturating_sub(PARTS_PER_ATTEMPT);
        self.at = now;
    }

    /// The breaker closed: begin slowly.
    pub fn start_slowly(&mut self, now: Timestamp) {
        self.throttle = Some(Throttle {
            rate: SLOW_START_RATE,
            since: now,
            growth: Growth::Doubling,
            cut_at: now,
        });
    }

    /// The receiver says "too many": pause, then go on at half the rate that was achieved, and add to
    /// it each second. Answers to attempts that began before the last cut only lengthen the pause.
    ///
    /// What was achieved is the number on their way by the time that one took (Little's law), but no
    /// more than what was allowed.
    pub fn slow_down(&mut self, said: SlowDown, own: Option<RatePerSecond>, now: Timestamp) {
        let pause = said.retry_after.unwrap_or(PAUSE_DEFAULT).min(PAUSE_MAX);
        let until = now.plus(pause).max(self.paused_until(now).unwrap_or(now));
        self.paused_until = Some(until);
        self.throttle = self.throttle(now);
        let is_news = self.throttle.is_none_or(|throttle| {
            throttle.cut_at < said.began_at || throttle.growth == Growth::Doubling
        });
        if !is_news {
            if let Some(throttle) = &mut self.throttle {
                throttle.since = throttle.since.max(until);
            }
            return;
        }
        let took_ms = said.took.as_millis().max(1);
        let achieved = (said.in_flight as u128).saturating_mul(1_000) / took_ms;
        let achieved = u32::try_from(achieved).unwrap_or(u32::MAX).min(RATE_PER_SECOND_MAX);
        let achieved = self.rate(own, now).map_or(achieved, |allowed| allowed.min(achieved));
        let rate = (achieved / CUT_DIVISOR).max(1);
        let each_second = (achieved.saturating_sub(rate) / REGAINED_IN_SECONDS).max(1);
        let until_rate = achieved
            .saturating_mul(FORGOTTEN_AT_FACTOR)
            .clamp(FORGOTTEN_AT_RATE_MIN, RATE_PER_SECOND_MAX);
        self.throttle = Some(Throttle {
            rate,
            since: until,
            growth: Growth::Adding { each_second, until: until_rate },
            cut_at: now,
        });
    }

    /// From when on it is as good as none, if nothing begins until then.
    pub fn forgettable_at(&self, own: Option<RatePerSecond>) -> Timestamp {
        // A bucket of at most a tenth of a second's tokens, or of one, is full again in a second.
        let full_at = own.map(|_| self.at.plus(Duration::from_secs(1)));
        let ends_at = self.throttle.map(|throttle| throttle.ends_at());
        let never = Timestamp::from_millis(i64::MIN);
        [full_at, ends_at, self.paused_until].into_iter().flatten().max().unwrap_or(never)
    }

    /// What is in the bucket: all it holds, when the clock was set back.
    fn parts_at(&self, rate: u32, now: Timestamp) -> u64 {
        let burst = (u64::from(rate) * PARTS_PER_ATTEMPT / BURST_DIVISOR).max(PARTS_PER_ATTEMPT);
        if now < self.at {
            return burst;
        }
        let rested = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX);
        let refill = rested.saturating_mul(rate.into());
        self.parts.saturating_add(refill).min(burst)
    }
}

#[cfg(test)]
mod tests;
