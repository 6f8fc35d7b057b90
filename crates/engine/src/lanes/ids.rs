//! Maps that are looked into many times for every delivery.
//!
//! Their keys are ids of ours, whose bits are random (and of hosts, which are hashes under a secret
//! key), so that nobody can choose keys that collide and a plain mixing of bits is hash enough.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by ids that callers cannot choose.
pub(super) type IdMap<Id, V> = HashMap<Id, V, BuildHasherDefault<IdHasher>>;

/// An odd number without a pattern (2⁶⁴ over the golden ratio), so that each bit of an id moves many.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, bits: u64) {
        self.0 = (self.0.rotate_left(5) ^ bits).wrapping_mul(MIX);
    }

    fn write_u128(&mut self, bits: u128) {
        self.write_u64(bits as u64);
        self.write_u64((bits >> 64) as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes its place from the lowest bits, which a product mixes least.
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher as _, BuildHasherDefault};

    use domain::id::{EndpointId, uuid_v7};

    use super::*;

    #[test]
    fn ids_that_differ_little_lie_far_apart() {
        let hasher = BuildHasherDefault::<IdHasher>::default();
        let first = uuid_v7(1_732_806_631_000, &[7; 10]);
        let hashes = (0..1_000_u128).map(|step| {
            // As the dice draw them when the random bits happen to be smaller than the last.
            hasher.hash_one(EndpointId::from_u128(first + 2 * step))
        });
        // The lowest bits choose the place, the seven highest tell neighbours there apart.
        let (places, tags): (HashSet<u64>, HashSet<u64>) =
            hashes.map(|hash| (hash & 1_023, hash >> 57)).unzip();
        assert!(places.len() > 550, "{}", places.len());
        assert_eq!(tags.len(), 128);
    }
}
