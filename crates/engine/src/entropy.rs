//! The port through which the engine gets chance: ids, secrets, jitter.
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

/// Makes ids that grow strictly within this process, and draws chances.
pub struct Dice {
    entropy: SharedEntropy,
    state: Mutex<DiceState>,
}

struct DiceState {
    pool: Vec<u8>,
    last_id: u128,
}

impl Dice {
    /// Dice that draw from `entropy`.
    pub fn new(entropy: SharedEntropy) -> Self {
        Self { entropy, state: Mutex::new(DiceState { pool: Vec::new(), last_id: 0 }) }
    }

    /// The bits of a new id born at `now`, greater than all before it even when the clock is set
    /// back.
    pub fn id(&self, now: Timestamp) -> u128 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let random = self.draw::<10>(&mut state);
        let fresh = uuid_v7(u64::try_from(now.as_millis()).unwrap_or(0), &random);
        // Two apart, since the lowest bit of an endpoint id is taken by its prefix.
        let id = if fresh > state.last_id { fresh } else { state.last_id.wrapping_add(2) };
        state.last_id = id;
        id
    }

    /// A chance.
    pub fn chance(&self) -> Chance {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Chance::from_bits(u64::from_be_bytes(self.draw(&mut state)))
    }

    /// Random bytes for a secret, straight from the entropy.
    pub fn secret<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }

    fn draw<const N: usize>(&self, state: &mut DiceState) -> [u8; N] {
        if state.pool.len() < N {
            state.pool.resize(POOL_BYTES, 0);
            self.entropy.fill(&mut state.pool);
        }
        let mut bytes = [0; N];
        let at = state.pool.len() - N;
        bytes.copy_from_slice(&state.pool[at..]);
        state.pool.truncate(at);
        bytes
    }
}
