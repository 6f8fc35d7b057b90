//! The simulation of itself: that it is deterministic, and that it finds what it should.

use super::*;

/// Seeds of every shape, few enough to be quick.
const SEEDS: std::ops::Range<u64> = 0..6;

#[test]
fn no_promise_is_broken() {
    for seed in SEEDS {
        let ran = run(seed, None, false);
        assert_eq!(ran.violations, Vec::<String>::new(), "seed {seed}");
        assert!(ran.tally.acknowledged > 0, "seed {seed}: {:?}", ran.tally);
    }
}

#[test]
fn one_seed_gives_one_trace_in_every_thread() {
    for seed in SEEDS {
        let first = run(seed, None, true);
        let again = std::thread::spawn(move || run(seed, None, true)).join().unwrap();
        let differ = first.trace.iter().zip(&again.trace).position(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.digest, again.digest, "seed {seed}");
    }
}

#[test]
fn another_seed_gives_another_trace() {
    assert_ne!(run(1, None, false).digest, run(2, None, false).digest);
}

#[test]
fn a_protection_that_is_switched_off_is_missed() {
    for sabotage in [Sabotage::Idempotency, Sabotage::Order, Sabotage::Acknowledgement] {
        let is_found = (0..10).any(|seed| !run(seed, Some(sabotage), false).violations.is_empty());
        assert!(is_found, "{sabotage:?}");
    }
}
