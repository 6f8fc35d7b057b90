//! Keeps what is noted without being a change from being noted again and again.
//!
//! Promise: the first look at a secret is always noted; no flood of refused keys writes more than
//! [`REFUSALS_PER_MINUTE_MAX`] entries a minute, and made-up keys do not crowd out those that exist.
//! Bounded memory.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::id::KeyId;
use domain::time::Timestamp;

/// For how long repeated looks of the same key at the same secrets are one look: the customer
/// contracts' lists show secrets each time they are read, and some clients read them all the time.
const REVEAL_LASTS: Duration = Duration::from_mins(1);

/// Most looks remembered: less than a megabyte. Beyond it each look is noted again.
const REVEALS_KEPT_MAX: usize = 10_000;

/// Most refused keys of each kind noted in a minute, in the whole installation: enough to see an
/// attack and what it tries, and few enough for the disk. The rest counts in a metric.
const REFUSALS_PER_MINUTE_MAX: usize = 60;

const MINUTE_MILLIS: i64 = 60_000;

/// Which looks were noted lately, by the key that was shown and what was looked at.
#[derive(Default)]
pub(crate) struct Reveals(Mutex<HashMap<(Option<KeyId>, u128), Timestamp>>);

impl Reveals {
    /// Whether this look was noted lately.
    pub(super) fn was_noted(&self, key: Option<KeyId>, of: u128, now: Timestamp) -> bool {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(&(key, of)).is_some_and(|at| lasts(*at, now))
    }

    /// Remembers a look that is noted now.
    pub(super) fn remember(&self, key: Option<KeyId>, of: u128, now: Timestamp) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() >= REVEALS_KEPT_MAX {
            noted.retain(|_, at| lasts(*at, now));
        }
        if noted.len() < REVEALS_KEPT_MAX {
            noted.insert((key, of), now);
        }
    }

    /// Forgets every look at these: there is something new to see.
    pub(crate) fn forget(&self, of: [u128; 2]) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|(_, seen), _| !of.contains(seen));
    }
}

/// Whether a look at `at` still counts. One in the future is of a clock that was set back since.
fn lasts(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.since(at) < REVEAL_LASTS
}

/// What to do about a refused key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Note it.
    Noted,
    /// It is noted already in this minute, or as many others are as may be.
    Counted,
}

/// Which refused keys were noted in this minute: those that exist, and those that do not.
#[derive(Default)]
pub(crate) struct Refusals {
    known: Mutex<RefusedThisMinute>,
    unknown: Mutex<RefusedThisMinute>,
}

#[derive(Default)]
struct RefusedThisMinute {
    minute: i64,
    public_parts: HashSet<String>,
}

impl Refusals {
    /// What to do about the refusal of this key now.
    pub(super) fn judge(&self, public_part: &str, is_known: bool, now: Timestamp) -> Refusal {
        let refused = if is_known { &self.known } else { &self.unknown };
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_millis().div_euclid(MINUTE_MILLIS);
        if refused.minute != minute {
            refused.minute = minute;
            refused.public_parts.clear();
        }
        let is_full = refused.public_parts.len() >= REFUSALS_PER_MINUTE_MAX;
        if is_full || refused.public_parts.contains(public_part) {
            return Refusal::Counted;
        }
        refused.public_parts.insert(public_part.to_owned());
        Refusal::Noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn a_look_lasts_a_minute_for_the_same_key_and_the_same_secrets() {
        let reveals = Reveals::default();
        let (john, jane) = (Some(KeyId::from_u128(1)), Some(KeyId::from_u128(2)));
        assert!(!reveals.was_noted(john, 7, at(100)));
        reveals.remember(john, 7, at(100));
        let check = |key, of, now, expected| {
            assert_eq!(reveals.was_noted(key, of, at(now)), expected, "{key:?} {of} {now}");
        };
        check(john, 7, 100, true);
        check(john, 7, 159, true);
        check(john, 7, 160, false);
        check(john, 7, 99, false);
        check(john, 8, 100, false);
        check(jane, 7, 100, false);
        check(None, 7, 100, false);
    }

    #[test]
    fn a_look_at_something_new_is_noted_again() {
        let reveals = Reveals::default();
        reveals.remember(None, 7, at(0));
        reveals.remember(None, 8, at(0));
        reveals.forget([7, 9]);
        assert!(!reveals.was_noted(None, 7, at(1)));
        assert!(reveals.was_noted(None, 8, at(1)));
    }

    #[test]
    fn remembered_looks_are_bounded_and_old_ones_make_room() {
        let reveals = Reveals::default();
        for of in 0..=REVEALS_KEPT_MAX as u128 {
            reveals.remember(None, of, at(0));
        }
        let kept = || reveals.0.lock().unwrap().len();
        assert_eq!(kept(), REVEALS_KEPT_MAX);
        assert!(!reveals.was_noted(None, REVEALS_KEPT_MAX as u128, at(0)));
        reveals.remember(None, 0, at(60));
        assert_eq!(kept(), 1);
    }

    #[test]
    fn a_refused_key_is_noted_once_a_minute_and_sixty_keys_at_most() {
        let refusals = Refusals::default();
        assert_eq!(refusals.judge("a", false, at(0)), Refusal::Noted);
        assert_eq!(refusals.judge("a", false, at(59)), Refusal::Counted);
        assert_eq!(refusals.judge("a", false, at(60)), Refusal::Noted);
        let noted = (0..1_000)
            .filter(|number| refusals.judge(&number.to_string(), false, at(61)) == Refusal::Noted)
            .count();
        assert_eq!(noted, 59);
        let unknown = refusals.unknown.lock().unwrap().public_parts.len();
        assert_eq!(unknown, REFUSALS_PER_MINUTE_MAX);
        assert_eq!(refusals.judge("b", true, at(61)), Refusal::Noted, "a key that exists");
        assert_eq!(refusals.judge("a", false, at(120)), Refusal::Noted);
    }
}
