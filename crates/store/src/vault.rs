//! The keys that seal what is secret in storage, and the chance that sealing needs.
//!
//! Promise: nothing sealed here opens without a key of the ring; the ring can be exchanged while
//! everything goes on. Two rings: the *master* ring comes from outside (a key file) and seals
//! signing secrets, custom headers, the pepper and the data keys; the *data* ring is kept in
//! storage, sealed under the master ring, and seals what is much: payloads and what was sent and
//! answered. So a rotation seals a few secrets again and leaves millions of payloads where they
//! are. Neighbours: adapters seal on the way in and open on the way out; `server` reads the key
//! file; the forms are `domain::sealing`'s.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use domain::sealing::{
    Binding, KEY_BYTES, KeyRing, NONCE_BYTES, OpenError, SealingKey, SealingKeyId,
};

/// Fills bytes with chance fit for keys and nonces.
pub type FillRandom = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// The keys in use.
pub struct Vault {
    master: RwLock<Arc<KeyRing>>,
    /// Empty until storage was opened.
    data: RwLock<Option<Arc<KeyRing>>>,
    fill_random: FillRandom,
}

impl Vault {
    /// A vault with this master ring.
    pub fn new(master: KeyRing, fill_random: FillRandom) -> Self {
        Self { master: RwLock::new(Arc::new(master)), data: RwLock::default(), fill_random }
    }

    /// A key nobody has: for a new ring, or a data key.
    pub fn make_key(fill_random: &FillRandom) -> SealingKey {
        let mut id = [0; 8];
        let mut bytes = [0; KEY_BYTES];
        fill_random(&mut id);
        fill_random(&mut bytes);
        SealingKey::new(SealingKeyId::from_bytes(id), bytes)
    }

    /// A new data key, not yet in use.
    pub fn make_data_key(&self) -> SealingKey {
        Self::make_key(&self.fill_random)
    }

    /// The master ring as it stands.
    pub fn master(&self) -> Arc<KeyRing> {
        Arc::clone(&self.master.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another master ring in the place of the present one. Whoever does must know that it
    /// opens everything in storage.
    pub fn replace_master(&self, ring: KeyRing) {
        *self.master.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Takes the data keys of storage into use.
    pub fn set_data(&self, ring: KeyRing) {
        *self.data.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ring));
    }

    /// Seals a secret under the master ring's active key.
    pub fn seal_secret(&self, binding: &Binding, plain: &[u8]) -> Vec<u8> {
        self.master().active().seal(self.nonce(), binding, plain)
    }

    /// Opens a secret.
    pub fn open_secret(&self, binding: &Binding, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.master().open(binding, sealed)
    }

    /// Seals data under the active data key.
    pub fn seal_data(&self, binding: &Binding, plain: &[u8]) -> Vec<u8> {
        self.data().active().seal(self.nonce(), binding, plain)
    }

    /// Opens data.
    pub fn open_data(&self, binding: &Binding, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.data().open(binding, sealed)
    }

    fn data(&self) -> Arc<KeyRing> {
        let ring = self.data.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(ring.as_ref().expect("a store takes its data keys into use when it is opened"))
    }

    fn nonce(&self) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        (self.fill_random)(&mut nonce);
        nonce
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("master", &self.master()).finish_non_exhaustive()
    }
}

/// A vault with this master ring and chance that is never the same twice, which is all that tests
/// and measurements ask of chance. A vault belongs to one open store.
#[cfg(feature = "testing")]
pub fn a_vault_with(master: KeyRing) -> Arc<Vault> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static DRAWN: AtomicU64 = AtomicU64::new(1);
    let fill = |bytes: &mut [u8]| {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = drawn[index % drawn.len()] ^ (index / drawn.len()) as u8;
        }
    };
    Arc::new(Vault::new(master, Arc::new(fill)))
}

/// The same with one key, which is secret to nobody.
#[cfg(feature = "testing")]
pub fn a_vault() -> Arc<Vault> {
    a_vault_with(KeyRing::of(SealingKey::new(SealingKeyId::from_bytes([1; 8]), [1; KEY_BYTES])))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use domain::id::{AccountId, EndpointId, EventId};
    use domain::sealing::sealed_under;

    use super::*;

    const SECRET: Binding = Binding::Secret(AccountId::from_u128(1), EndpointId::from_u128(2));
    const BODY: Binding = Binding::Body(AccountId::from_u128(1), EventId::from_u128(3));

    /// Chance that gives 1, 2, 3, …, each as often as there are bytes to fill.
    fn counting() -> FillRandom {
        let last = AtomicU8::new(0);
        Arc::new(move |bytes: &mut [u8]| bytes.fill(last.fetch_add(1, Ordering::Relaxed) + 1))
    }

    fn ring_of_one(id: u8) -> KeyRing {
        KeyRing::of(SealingKey::new(SealingKeyId::from_bytes([id; 8]), [id; KEY_BYTES]))
    }

    #[test]
    fn what_was_sealed_opens_with_the_ring_it_was_sealed_under() {
        let vault = Vault::new(ring_of_one(1), counting());
        vault.set_data(ring_of_one(2));
        let secret = vault.seal_secret(&SECRET, b"whsec_abc");
        let body = vault.seal_data(&BODY, b"{}");
        assert_eq!(sealed_under(&secret), Ok(SealingKeyId::from_bytes([1; 8])));
        assert_eq!(sealed_under(&body), Ok(SealingKeyId::from_bytes([2; 8])));
        assert_eq!(vault.open_secret(&SECRET, &secret).as_deref(), Ok(b"whsec_abc".as_slice()));
        assert_eq!(vault.open_data(&BODY, &body).as_deref(), Ok(b"{}".as_slice()));
        let unknown = OpenError::UnknownKey(SealingKeyId::from_bytes([1; 8]));
        assert_eq!(vault.open_data(&SECRET, &secret), Err(unknown));
    }

    #[test]
    fn one_text_sealed_twice_is_sealed_under_two_nonces() {
        let vault = Vault::new(ring_of_one(1), counting());
        vault.set_data(ring_of_one(1));
        let sealed = [
            vault.seal_secret(&SECRET, b"same"),
            vault.seal_secret(&SECRET, b"same"),
            vault.seal_data(&SECRET, b"same"),
        ];
        let nonces = sealed.map(|sealed| sealed[9]);
        assert_eq!(nonces, [1, 2, 3], "each seal draws its own");
    }

    #[test]
    fn a_master_ring_put_in_place_seals_from_then_on_and_opens_what_it_holds_the_key_of() {
        let vault = Vault::new(ring_of_one(1), counting());
        let sealed = vault.seal_secret(&SECRET, b"old");
        let both = vault.master().with_active(ring_of_one(2).active().clone());
        vault.replace_master(both);
        assert_eq!(vault.open_secret(&SECRET, &sealed).as_deref(), Ok(b"old".as_slice()));
        let again = vault.seal_secret(&SECRET, b"new");
        assert_eq!(sealed_under(&again), Ok(SealingKeyId::from_bytes([2; 8])));
        vault.replace_master(ring_of_one(2));
        assert_eq!(vault.open_secret(&SECRET, &again).as_deref(), Ok(b"new".as_slice()));
        let unknown = OpenError::UnknownKey(SealingKeyId::from_bytes([1; 8]));
        assert_eq!(vault.open_secret(&SECRET, &sealed), Err(unknown));
    }

    #[test]
    fn a_ring_in_hand_stays_as_it_is_while_another_takes_its_place() {
        let vault = Vault::new(ring_of_one(1), counting());
        let in_hand = vault.master();
        vault.replace_master(ring_of_one(2));
        assert_eq!(*in_hand, ring_of_one(1));
        assert_eq!(*vault.master(), ring_of_one(2));
    }

    #[test]
    #[should_panic(expected = "takes its data keys into use")]
    fn nothing_is_sealed_as_data_before_the_data_keys_are_in_use() {
        Vault::new(ring_of_one(1), counting()).seal_data(&BODY, b"{}");
    }

    #[test]
    fn the_keys_made_are_drawn_by_chance_and_no_two_alike() {
        let vault = Vault::new(ring_of_one(9), counting());
        let (first, second) = (vault.make_data_key(), vault.make_data_key());
        assert_eq!(first, SealingKey::new(SealingKeyId::from_bytes([1; 8]), [2; KEY_BYTES]));
        assert_eq!(second, SealingKey::new(SealingKeyId::from_bytes([3; 8]), [4; KEY_BYTES]));
    }

    #[test]
    fn a_vault_shows_no_key() {
        let vault = Vault::new(ring_of_one(1), counting());
        vault.set_data(ring_of_one(2));
        let expected = "Vault { master: KeyRing([SealingKey(0101010101010101, hidden)]), .. }";
        assert_eq!(format!("{vault:?}"), expected);
    }
}
