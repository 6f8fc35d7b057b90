//! The port through which everything gets chance: ids, secrets, jitter.
//!
//! [`SystemEntropy`] is the one place in the product that asks the operating system for it.

use std::sync::{Arc, Mutex, PoisonError};

use domain::id::uuid_v7;
use domain::retry::Chance;
use domain::time::Timestamp;

/// Gives random bytes fit for secrets.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Entropy, shared.
pub type SharedEntropy = Arc<dyn Entropy>;

/// The operating system's entropy.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for chance")]
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes once it is up");
    }
}

/// Random bytes asked of the entropy at once, so that a system call serves many ids.
const POOL_BYTES: usize = 4096;

/// Entropy that asks for much at once and gives it away in small parts: for ids and jitter, which
/// need chance often and are no secrets.
pub struct PooledEntropy {
    entropy: SharedEntropy,
    pool: Mutex<Vec<u8>>,
}

impl PooledEntropy {
    /// A pool of `entropy`.
    pub fn new(entropy: SharedEntropy) -> Self {
        Self { entropy, pool: Mutex::default() }
    }
}

impl Entropy for PooledEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if bytes.len() > POOL_BYTES {
            return self.entropy.fill(bytes);
        }
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < bytes.len() {
            // Filled before it is the pool: should filling panic, nobody draws zeros.
            let mut fresh = vec![0; POOL_BYTES];
            self.entropy.fill(&mut fresh);
            *pool = fresh;
        }
        let at = pool.len() - bytes.len();
        bytes.copy_from_slice(&pool[at..]);
        pool.truncate(at);
    }
}

/// Makes ids that grow strictly within this process, and draws chances and secrets.
pub(crate) struct Dice {
    entropy: SharedEntropy,
    pooled: PooledEntropy,
    last_id: Mutex<u128>,
}

impl Dice {
    /// Dice that draw from `entropy`.
    pub(crate) fn new(entropy: SharedEntropy) -> Self {
        let pooled = PooledEntropy::new(Arc::clone(&entropy));
        Self { entropy, pooled, last_id: Mutex::new(0) }
    }

    /// The bits of a new id born at `now`, greater than all before it even when the clock is set
    /// back.
    pub(crate) fn id(&self, now: Timestamp) -> u128 {
        let mut random = [0; 10];
        self.pooled.fill(&mut random);
        let fresh = uuid_v7(u64::try_from(now.as_millis()).unwrap_or(0), &random);
        let mut last_id = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        // Two apart, since the lowest bit of an endpoint id is taken by its prefix.
        *last_id = fresh.max(last_id.wrapping_add(2));
        *last_id
    }

    /// Lets the ids to come be greater than `last_id`, and others than those that were counted up
    /// from it while the clock was behind, by an earlier process or by another engine: they begin
    /// anywhere in the next millisecond.
    pub(crate) fn go_on_after(&self, last_id: u128) {
        let mut random = [0; 10];
        self.pooled.fill(&mut random);
        let millis = u64::try_from(last_id >> 80).expect("48 bits are left");
        let beyond = uuid_v7(millis + 1, &random);
        let mut own = self.last_id.lock().unwrap_or_else(PoisonError::into_inner);
        *own = beyond.max(*own);
    }

    /// The id of a new span; never 0 (W3C Trace Context, section 3.2.2.4).
    pub(crate) fn span_id(&self) -> u64 {
        let mut bits = [0; 8];
        self.pooled.fill(&mut bits);
        u64::from_be_bytes(bits).max(1)
    }

    /// A chance.
    pub(crate) fn chance(&self) -> Chance {
        let mut bits = [0; 8];
        self.pooled.fill(&mut bits);
        Chance::from_bits(u64::from_be_bytes(bits))
    }

    /// Random bytes for a secret, straight from the entropy.
    pub(crate) fn secret<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_strictly_whatever_the_clock_does() {
        let dice = Dice::new(Arc::new(SystemEntropy));
        let mut last = 0;
        for millis in [5, 5, 5, 9, 3, 3, 9, 10] {
            let id = dice.id(Timestamp::from_millis(millis));
            assert!(id > last && (id | 1) > (last | 1));
            last = id;
        }
    }

    #[test]
    fn whoever_goes_on_after_an_id_while_the_clock_is_behind_draws_none_that_another_drew() {
        let behind = Timestamp::from_millis(3);
        let first = Dice::new(Arc::new(SystemEntropy));
        let newest = first.id(Timestamp::from_millis(1_000));
        let mut drawn: std::collections::HashSet<u128> =
            (0..100).map(|_| first.id(behind)).collect();
        for _ in 0..3 {
            let next = Dice::new(Arc::new(SystemEntropy));
            next.go_on_after(newest);
            for _ in 0..100 {
                let id = next.id(behind);
                assert!(id > newest && drawn.insert(id));
            }
        }
    }

    #[test]
    fn pooled_entropy_gives_nothing_twice() {
        let pooled = PooledEntropy::new(Arc::new(SystemEntropy));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let mut bytes = [0; 16];
            pooled.fill(&mut bytes);
            assert!(seen.insert(bytes));
        }
    }
}
