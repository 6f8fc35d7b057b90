//! The breaker of an endpoint: when to stop trying for a while, and how to find out that it is well.
//!
//! Promise: while a breaker is open nothing is attempted, so that a receiver that is down is left
//! alone and no attempt of any delivery is used up; half open, one attempt at a time tells. Pure:
//! the engine says when attempts begin and end, the breaker says whether another may begin.
//! Neighbours: [`crate::pace`] says how fast, [`crate::health`] is the same over days.

use std::time::Duration;

use crate::attempt::Outcome;
use crate::retry::Chance;
use crate::time::Timestamp;

/// Failures in a row that open a breaker (Zendesk and Envoy open after 5 to 10): more than a restart
/// of a receiver costs, and little for one that is down.
pub const ROW_OPENS: u32 = 10;

/// The share of failures that opens a breaker, in per cent (Zendesk, Convoy: 70 %).
pub const SHARE_OPENS_PERCENT: u32 = 70;

/// Attempts of which that share is taken at least, so that a handful says nothing.
pub const SHARE_OF_ATTEMPTS_MIN: u32 = 20;

/// How far back attempts are counted for the share. They are counted in [`WINDOW_PARTS`] parts, so
/// it is up to a part less.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Parts of the window: six of ten seconds, so that a breaker remembers twelve numbers and not every
/// attempt.
pub const WINDOW_PARTS: usize = 6;

/// How long a breaker is open the first time (Envoy: 30 s); each time that follows, twice as long.
pub const OPEN_FIRST: Duration = Duration::from_secs(30);

/// How long a breaker is open at most, before jitter: nobody who is back waits much longer.
pub const OPEN_MAX: Duration = Duration::from_mins(10);

/// How much shorter or longer than that a breaker is open, in per cent of it, so that many endpoints
/// of one receiver do not come back at once.
pub const OPEN_JITTER_PERCENT: u32 = 20;

/// The longest time a breaker is open, jitter included.
const OPEN_LONGEST: Duration =
    Duration::from_millis(OPEN_MAX.as_millis() as u64 / 100 * (100 + OPEN_JITTER_PERCENT as u64));

/// Successes in a row that close a half-open breaker: one may be luck.
pub const SUCCESSES_CLOSE: u32 = 3;

/// How long everything must be quiet before the past is forgotten: so long after it was closed for
/// good, a breaker opens for [`OPEN_FIRST`] again; and failures further apart make no row. As long as
/// a breaker is open at most.
pub const FORGOTTEN_AFTER: Duration = OPEN_MAX;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakerState {
    /// Attempts are made.
    Closed,
    /// None is made; once its time is over, the next is a probe.
    Open,
    /// One at a time is made.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// The word used in JSON and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// What an attempt says about its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Success,
    /// It does not.
    Failure,
}

impl Verdict {
    /// What the outcome says: 2xx is a success, all else a failure, except 429, which says that the
    /// receiver works and is asked too often.
    pub const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Answered { status: 200..=299, .. } => Some(Self::Success),
            Outcome::Answered { status: 429, .. } => None,
            Outcome::Answered { .. } | Outcome::Failed(_) => Some(Self::Failure),
        }
    }
}

/// In which of a breaker's states an attempt began, counted: what ends in a later one says nothing
/// any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn(u32);

/// The breaker of one endpoint. An endpoint without one is closed and has no past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breaker {
    phase: Phase,
    turn: Turn,
    /// Failures since the last success.
    row: u32,
    window: Window,
    /// How often it opened since it was last closed for good.
    openings: u32,
    /// When it opened or closed last.
    changed_at: Option<Timestamp>,
    /// When an attempt last ended with a verdict, or the first probe began.
    last_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    Open { until: Timestamp },
    HalfOpen { successes: u32, is_probing: bool },
}

impl Breaker {
    /// A closed breaker without a past.
    pub fn new(now: Timestamp) -> Self {
        Self {
            phase: Phase::Closed,
            turn: Turn::default(),
            row: 0,
            window: Window::default(),
            openings: 0,
            changed_at: None,
            last_at: now,
        }
    }

    /// Where it stands.
    pub const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// When it opened, unless it is closed.
    pub fn opened_at(&self) -> Option<Timestamp> {
        self.changed_at.filter(|_| self.phase != Phase::Closed)
    }

    /// When the next probe may begin, while it is open.
    pub const fn probe_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::HalfOpen { .. } => None,
        }
    }

    /// Whether a probe is on its way.
    pub const fn is_probing(&self) -> bool {
        matches!(self.phase, Phase::HalfOpen { is_probing: true, .. })
    }

    /// Whether an attempt may begin. A breaker that would be open for longer than any is one that
    /// opened before the clock was set back: its time is over.
    pub fn may_begin(&self, now: Timestamp) -> bool {
        match self.phase {
            Phase::Closed => true,
            Phase::Open { until } => until <= now || until.since(now) > OPEN_LONGEST,
            Phase::HalfOpen { is_probing, .. } => !is_probing,
        }
    }

    /// An attempt begins that may; [`Self::end`] wants the answer back.
    pub fn begin(&mut self, now: Timestamp) -> Turn {
        match &mut self.phase {
            Phase::Closed => {}
            Phase::Open { .. } => {
                self.last_at = now;
                self.enter(Phase::HalfOpen { successes: 0, is_probing: true });
            }
            Phase::HalfOpen { is_probing, .. } => *is_probing = true,
        }
        self.turn
    }

    /// An attempt that began in `turn` ended; `verdict` is `None` if it says nothing about the
    /// receiver, or ended without an outcome. `chance` decides the jitter should the breaker open.
    pub fn end(&mut self, turn: Turn, verdict: Option<Verdict>, now: Timestamp, chance: Chance) {
        if turn != self.turn {
            return;
        }
        if let Phase::HalfOpen { is_probing, .. } = &mut self.phase {
            *is_probing = false;
        }
        let Some(verdict) = verdict else { return };
        let is_stale = self.last_at.plus(FORGOTTEN_AFTER) <= now;
        self.last_at = now;
        match (self.phase, verdict) {
            (Phase::Closed, verdict) => self.count(verdict, is_stale, now, chance),
            (Phase::HalfOpen { successes, .. }, Verdict::Success) => {
                if successes + 1 < SUCCESSES_CLOSE {
                    self.phase = Phase::HalfOpen { successes: successes + 1, is_probing: false };
                } else {
                    self.enter(Phase::Closed);
                    self.changed_at = Some(now);
                }
            }
            (Phase::HalfOpen { .. }, Verdict::Failure) => self.open(now, chance),
            // No attempt begins while it is open.
            (Phase::Open { .. }, _) => {}
        }
    }

    /// Lets the next probe begin at once: its owner has changed the endpoint.
    pub fn probe_now(&mut self, now: Timestamp) {
        if let Phase::Open { until } = &mut self.phase {
            *until = now.min(*until);
        }
    }

    /// From when on it is as good as none, if nothing begins or ends until then.
    pub fn forgettable_at(&self) -> Timestamp {
        match self.phase {
            Phase::Open { until } => until.plus(FORGOTTEN_AFTER),
            Phase::Closed | Phase::HalfOpen { .. } => self.last_at.plus(FORGOTTEN_AFTER),
        }
    }

    /// Whether it has no past that matters.
    pub fn is_pristine(&self, now: Timestamp) -> bool {
        let is_blank = self.phase == Phase::Closed
            && self.row == 0
            && self.openings == 0
            && self.window.counts(now).failures == 0;
        is_blank || self.forgettable_at() <= now
    }

    /// Counts a verdict while closed.
    fn count(&mut self, verdict: Verdict, is_stale: bool, now: Timestamp, chance: Chance) {
        self.window.count(verdict, now);
        if verdict == Verdict::Success {
            self.row = 0;
            return;
        }
        self.row = if is_stale { 1 } else { self.row + 1 };
        let Counts { attempts, failures } = self.window.counts(now);
        let is_share_reached = attempts >= SHARE_OF_ATTEMPTS_MIN
            && u64::from(failures) * 100 >= u64::from(attempts) * u64::from(SHARE_OPENS_PERCENT);
        if self.row >= ROW_OPENS || is_share_reached {
            let was_closed_for_good =
                self.changed_at.is_some_and(|closed_at| closed_at.plus(FORGOTTEN_AFTER) <= now);
            if was_closed_for_good {
                self.openings = 0;
            }
            self.open(now, chance);
        }
    }

    fn open(&mut self, now: Timestamp, chance: Chance) {
        let until = now.plus(open_for(self.openings, chance));
        self.openings = self.openings.saturating_add(1);
        self.changed_at = Some(now);
        self.enter(Phase::Open { until });
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn = Turn(self.turn.0.wrapping_add(1));
        self.row = 0;
        self.window = Window::default();
    }
}

/// How long a breaker is open that was opened `openings` times before since it was closed for good.
pub fn open_for(openings: u32, chance: Chance) -> Duration {
    let wait = OPEN_FIRST.saturating_mul(2_u32.saturating_pow(openings)).min(OPEN_MAX);
    let jitter = f64::from(OPEN_JITTER_PERCENT) / 100.0;
    wait.mul_f64(1.0 - jitter + 2.0 * jitter * chance.fraction())
}

/// Attempts and failures of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    parts: [Counts; WINDOW_PARTS],
    /// The number of the part counted in last, from the epoch on.
    last_part: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    attempts: u32,
    failures: u32,
}

impl Window {
    fn count(&mut self, verdict: Verdict, now: Timestamp) {
        let part = Self::part_at(now);
        for passed in 0..Self::parts_between(self.last_part, part) {
            self.parts[Self::place(part - passed as i64)] = Counts::default();
        }
        self.last_part = part;
        let counts = &mut self.parts[Self::place(part)];
        counts.attempts += 1;
        counts.failures += u32::from(verdict == Verdict::Failure);
    }

    /// What was counted in the last minute.
    fn counts(&self, now: Timestamp) -> Counts {
        let over = Self::parts_between(self.last_part, Self::part_at(now));
        let mut sum = Counts::default();
        for age in 0..WINDOW_PARTS.saturating_sub(over) {
            let counts = self.parts[Self::place(self.last_part - age as i64)];
            sum.attempts += counts.attempts;
            sum.failures += counts.failures;
        }
        sum
    }

    /// How many parts to forget. All, when the clock was set back.
    fn parts_between(earlier: i64, later: i64) -> usize {
        usize::try_from(later - earlier).unwrap_or(WINDOW_PARTS).min(WINDOW_PARTS)
    }

    fn part_at(now: Timestamp) -> i64 {
        now.as_millis().div_euclid(WINDOW.as_millis() as i64 / WINDOW_PARTS as i64)
    }

    fn place(part: i64) -> usize {
        part.rem_euclid(WINDOW_PARTS as i64) as usize
    }
}

#[cfg(test)]
mod tests;
