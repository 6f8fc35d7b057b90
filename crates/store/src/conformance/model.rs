//! The model test: random sequences of calls, answered alike by the store under test and by
//! [`MemoryStore`](crate::memory::MemoryStore).
//!
//! A [`Step`] names things by how recently they were made, so that a sequence still means
//! something when it is made shorter. [`Names`] turns it into a [`Call`] with real ids, which each
//! [`Side`] makes of its own store. Only what a store chooses freely is left out of the
//! comparison: the ids of sessions, the versions of rosters, where a page ends, and how many steps
//! cleaning takes.

use std::fmt::Write as _;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use tokio::runtime::Builder;

use super::Harness;
use super::memory_harness::InMemory;
use call::Names;
use side::Side;
use step::{Step, any_steps};

mod call;
mod side;
mod step;

/// Sequences tried, unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 64;

/// Fails with the shortest sequence found that the store of the harness answers otherwise than
/// [`MemoryStore`](crate::memory::MemoryStore) does. `new_harness` is called once per sequence.
pub fn agrees_with_memory<H: Harness>(new_harness: impl Fn() -> H) {
    let mut config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = TestRunner::new(config).run(&any_steps(), |steps| {
        runtime.block_on(compare(&steps, &new_harness())).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Abort(reason)) => panic!("{reason}"),
        Err(TestError::Fail(reason, steps)) => {
            let mut sequence = String::new();
            for (number, step) in steps.iter().enumerate() {
                writeln!(sequence, "{number}: {step:?}").unwrap();
            }
            panic!("{reason}\nafter these steps:\n{sequence}");
        }
    }
}

/// Takes the steps on both stores; an error says where they part.
async fn compare(steps: &[Step], harness: &dyn Harness) -> Result<(), String> {
    let memory = InMemory::default();
    let mut expected = Side::open(&memory).await;
    let mut actual = Side::open(harness).await;
    let mut names = Names::default();
    for (number, step) in steps.iter().enumerate() {
        let roster = expected.roster(names.account_of(step)).await;
        let call = names.call(step, roster.as_ref());
        let expected = expected.make(&call).await;
        let actual = actual.make(&call).await;
        if expected != actual {
            return Err(format!("step {number}\nexpected {expected}\n but got {actual}"));
        }
    }
    let (expected, actual) = (expected.everything().await, actual.everything().await);
    match expected.lines().zip(actual.lines()).find(|(expected, actual)| expected != actual) {
        Some((expected, actual)) => {
            Err(format!("what is there in the end\nexpected {expected}\n but got {actual}"))
        }
        None if expected.len() != actual.len() => Err("one has more in the end".to_owned()),
        None => Ok(()),
    }
}
