//! The clock of a running service: the machine's, without its steps.
//!
//! Retries, ages and retention go by instants. When the machine's clock is set forward by a year, all
//! that is pending would be too old at once; when it is set back by a day, every retry would wait a
//! day longer. Promise: an hour of this clock is an hour, give or take a tenth, whatever the wall clock
//! does; and it comes to agree with the wall clock, a minute in ten. At the start it is the wall clock.
//! Time that the machine slept through counts where the system tells it (Linux).

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use domain::time::Timestamp;
use engine::clock::{Clock, SystemClock};

/// A step is made good in so many times its length.
const SLOWNESS: i64 = 10;

/// How often the wall clock is looked at, in milliseconds: clocks agree closely enough in between.
const LOOK_EVERY_MS: i64 = 100;

/// From which difference on the operator is told. Clocks that are kept right differ by less, and
/// receivers forgive more.
const TOLD_FROM: Duration = Duration::from_mins(1);

/// What the time is read from, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Sources {
    /// Since the machine's start, or another instant that stays.
    up_ms: fn() -> i64,
    /// Since the Unix epoch, as the machine is told.
    wall_ms: fn() -> i64,
}

/// The machine's wall clock, without its steps.
#[derive(Debug)]
pub struct SteadyClock {
    sources: Sources,
    /// What is added to the time since the machine's start to get the time of day; milliseconds.
    offset_ms: AtomicI64,
    /// When the wall clock was looked at last, since the machine's start.
    looked_at_ms: AtomicI64,
    is_told: AtomicBool,
}

impl SteadyClock {
    /// One that agrees with the wall clock now.
    pub fn start() -> Self {
        Self::of(Sources { up_ms, wall_ms: || SystemClock.now().as_millis() })
    }

    fn of(sources: Sources) -> Self {
        let up_ms = (sources.up_ms)();
        Self {
            sources,
            offset_ms: AtomicI64::new((sources.wall_ms)() - up_ms),
            looked_at_ms: AtomicI64::new(up_ms),
            is_told: AtomicBool::new(false),
        }
    }

    /// Comes closer to the wall clock. Whoever else asks for the time meanwhile goes by what was.
    fn look(&self, up_ms: i64, looked_at_ms: i64) {
        let is_mine = self
            .looked_at_ms
            .compare_exchange(looked_at_ms, up_ms, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if is_mine {
            let offset_ms = self.offset_ms.load(Ordering::Relaxed);
            let wall_offset_ms = (self.sources.wall_ms)() - up_ms;
            let closer_ms = closer(offset_ms, wall_offset_ms, up_ms - looked_at_ms);
            self.offset_ms.store(closer_ms, Ordering::Release);
            self.tell(wall_offset_ms.saturating_sub(closer_ms));
        }
    }

    fn tell(&self, behind_ms: i64) {
        let is_far = Duration::from_millis(behind_ms.unsigned_abs()) >= TOLD_FROM;
        if self.is_told.swap(is_far, Ordering::Relaxed) != is_far {
            let seconds = behind_ms / 1_000;
            if is_far {
                tracing::warn!(
                    seconds,
                    "the machine's clock was set; retries and records follow it slowly, at once after \
                     a restart"
                );
            } else {
                tracing::info!("the machine's clock is followed again");
            }
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        let up_ms = (self.sources.up_ms)();
        let looked_at_ms = self.looked_at_ms.load(Ordering::Relaxed);
        if up_ms - looked_at_ms >= LOOK_EVERY_MS {
            self.look(up_ms, looked_at_ms);
        }
        Timestamp::from_millis(up_ms + self.offset_ms.load(Ordering::Acquire))
    }

    fn told(&self) -> Timestamp {
        Timestamp::from_millis((self.sources.wall_ms)())
    }
}

/// An offset closer to the one that is wanted, after so long.
fn closer(offset_ms: i64, wanted_ms: i64, after_ms: i64) -> i64 {
    let most = (after_ms / SLOWNESS).max(1);
    offset_ms.saturating_add(wanted_ms.saturating_sub(offset_ms).clamp(-most, most))
}

/// Milliseconds since the machine's start, or since some instant before this process's.
fn up_ms() -> i64 {
    #[cfg(target_os = "linux")]
    {
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        up.tv_sec * 1_000 + up.tv_nsec / 1_000_000
    }
    #[cfg(not(target_os = "linux"))]
    {
        static BEGUN: std::sync::OnceLock<tokio::time::Instant> = std::sync::OnceLock::new();
        let since = BEGUN.get_or_init(tokio::time::Instant::now).elapsed();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

    #[test]
    fn an_hour_stays_an_hour_give_or_take_a_tenth_however_the_wall_clock_is_set() {
        for step in [60_000, DAY_MS, 400 * DAY_MS, -60_000, -DAY_MS, i64::MAX, i64::MIN] {
            let mut offset = 0;
            for _ in 0..36_000 {
                offset = closer(offset, step, 100);
            }
            assert!(offset.abs() <= 360_000, "{step}: {offset}");
            assert_eq!(offset.signum(), step.signum());
        }
    }

    #[test]
    fn a_step_is_made_good_in_ten_times_its_length() {
        for step in [60_000, -60_000] {
            let looks = (1..).scan(0, |offset, _| {
                *offset = closer(*offset, step, 100);
                Some(*offset)
            });
            let looks = looks.take_while(|offset| *offset != step).count() as i64;
            assert_eq!(looks + 1, 60_000 * SLOWNESS / 100);
        }
    }

    thread_local! {
        static UP_MS: Cell<i64> = const { Cell::new(1_000) };
        static WALL_MS: Cell<i64> = const { Cell::new(1_705_314_600_000) };
    }

    fn scripted() -> SteadyClock {
        SteadyClock::of(Sources { up_ms: || UP_MS.get(), wall_ms: || WALL_MS.get() })
    }

    fn pass(ms: i64) {
        UP_MS.set(UP_MS.get() + ms);
        WALL_MS.set(WALL_MS.get() + ms);
    }

    #[test]
    fn it_begins_as_the_wall_clock_and_stays_with_it() {
        let clock = scripted();
        for _ in 0..1_000 {
            assert_eq!([clock.now(), clock.told()].map(Timestamp::as_millis), [WALL_MS.get(); 2]);
            pass(37);
        }
    }

    #[test]
    fn a_step_of_the_machines_clock_is_followed_a_tenth_as_fast_and_told_at_once() {
        for step in [DAY_MS, -DAY_MS] {
            let clock = scripted();
            let begun_at = clock.now().as_millis();
            WALL_MS.set(WALL_MS.get() + step);
            let mut before = begun_at;
            for _ in 0..600 {
                pass(100);
                let now = clock.now().as_millis();
                assert!((90..=110).contains(&(now - before)), "{now} after {before}");
                before = now;
                assert_eq!(clock.told().as_millis(), WALL_MS.get());
            }
            let passed = before - begun_at;
            assert_eq!(passed, 60_000 + 6_000 * step.signum(), "a tenth of a minute was made good");
        }
    }
}
