//! Sealing: what is kept secret in storage, and bound to the place it was written for.
//!
//! Promise: a sealed text opens only with the key that sealed it and only in its own place; moved
//! to another row, or changed by a bit, it does not open. Pure functions of key, nonce and bytes:
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), whose 24-byte nonces may be drawn at random
//! without limit. Neighbours: `store` holds the keys in use and draws the nonces.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;

use crate::id::{AccountId, DeliveryId, EndpointId, EventId};

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;

/// Most keys of a ring: one a week for years.
pub const RING_KEYS_MAX: usize = 256;

/// What every sealed text begins with.
const VERSION: u8 = 1;

/// Bytes before the ciphertext: version, key id, nonce.
const HEAD_BYTES: usize = 1 + 8 + NONCE_BYTES;

/// Bytes after it, which prove it whole.
const TAG_BYTES: usize = 16;

/// Bytes that name a place: version, kind, key id, two ids.
const ASSOCIATED_BYTES: usize = 2 + 8 + 16 + 16;

/// Which key sealed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingKeyId([u8; 8]);

impl SealingKeyId {
    /// The id of these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for SealingKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// A key. `Debug` shows its id only.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey {
    id: SealingKeyId,
    bytes: [u8; KEY_BYTES],
}

impl SealingKey {
    /// A key made of random bytes.
    pub const fn new(id: SealingKeyId, bytes: [u8; KEY_BYTES]) -> Self {
        Self { id, bytes }
    }

    /// Its id.
    pub const fn id(&self) -> SealingKeyId {
        self.id
    }

    /// Its bytes, to be sealed under another key or written into the key file.
    pub const fn reveal(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }

    /// Seals `plain` for the place that `binding` names. A nonce must never be used twice with a
    /// key: draw it at random.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], binding: &Binding, plain: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD_BYTES + plain.len() + TAG_BYTES);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id.0);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let associated = Aad::from(binding.associated_data(self.id));
        let (key, nonce) = self.keyed_for(&nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, associated, &mut sealed[HEAD_BYTES..])
            .expect("a text in memory is shorter than the 256 GiB that the cipher takes");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// XChaCha20-Poly1305 is ChaCha20-Poly1305 (RFC 8439) under a key made of this one and the
    /// first 16 bytes of the nonce, with the other 8 as its nonce.
    fn keyed_for(&self, nonce: &[u8; NONCE_BYTES]) -> (LessSafeKey, Nonce) {
        let (first, last) = nonce.split_at(16);
        let first = first.try_into().expect("it was split there");
        let derived = hchacha::<R20>(&self.bytes.into(), first);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &derived).expect("a derived key is 32 bytes");
        let mut short = [0; 12];
        short[4..].copy_from_slice(last);
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(short))
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({}, hidden)", self.id)
    }
}

/// The place a sealed text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The pepper of key hashes.
    Pepper,
    /// A data key.
    DataKey(SealingKeyId),
    /// An endpoint's signing secret.
    Secret(AccountId, EndpointId),
    /// The signing secret that an endpoint had before.
    PreviousSecret(AccountId, EndpointId),
    /// An endpoint's custom headers.
    Headers(AccountId, EndpointId),
    /// The body of an event's deliveries.
    Body(AccountId, EventId),
    /// What was sent and answered in a delivery's attempt of that number.
    Exchange(DeliveryId, u32),
    /// The client certificate and private key that an endpoint demands.
    ClientIdentity(AccountId, EndpointId),
    /// The client credentials with which an endpoint's tokens are fetched.
    ClientCredentials(AccountId, EndpointId),
}

impl Binding {
    /// What is authenticated beside the text: the kind of place, the ids that name it, the key.
    fn associated_data(&self, key: SealingKeyId) -> [u8; ASSOCIATED_BYTES] {
        let (kind, first, second) = match self {
            Self::Pepper => (0, 0, 0),
            Self::DataKey(id) => (1, u128::from(u64::from_be_bytes(id.0)), 0),
            Self::Secret(account, endpoint) => (2, account.as_u128(), endpoint.as_u128()),
            Self::PreviousSecret(account, endpoint) => (3, account.as_u128(), endpoint.as_u128()),
            Self::Headers(account, endpoint) => (4, account.as_u128(), endpoint.as_u128()),
            Self::Body(account, event) => (5, account.as_u128(), event.as_u128()),
            Self::Exchange(delivery, number) => (6, delivery.as_u128(), u128::from(*number)),
            Self::ClientIdentity(account, endpoint) => (7, account.as_u128(), endpoint.as_u128()),
            Self::ClientCredentials(account, endpoint) => {
                (8, account.as_u128(), endpoint.as_u128())
            }
        };
        let mut data = [0; ASSOCIATED_BYTES];
        data[..2].copy_from_slice(&[VERSION, kind]);
        data[2..10].copy_from_slice(&key.0);
        data[10..26].copy_from_slice(&first.to_be_bytes());
        data[26..].copy_from_slice(&second.to_be_bytes());
        data
    }
}

/// Why a sealed text does not open. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It is not in our form.
    #[error("not a sealed text")]
    Malformed,
    /// The ring does not hold its key.
    #[error("sealed under the key {0}, which the ring does not hold")]
    UnknownKey(SealingKeyId),
    /// It was altered or moved, or the ring's key of that id is another.
    #[error("sealed under the key {0}, but altered, moved, or under another key of that id")]
    Refused(SealingKeyId),
}

/// The key that sealed the text.
pub fn sealed_under(sealed: &[u8]) -> Result<SealingKeyId, OpenError> {
    let (head, _) = sealed.split_first_chunk::<HEAD_BYTES>().ok_or(OpenError::Malformed)?;
    if head[0] != VERSION {
        return Err(OpenError::Malformed);
    }
    let id = head[1..].first_chunk::<8>().ok_or(OpenError::Malformed)?;
    Ok(SealingKeyId(*id))
}

/// Keys, the active one first: it seals, all open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing(Vec<SealingKey>);

/// Why a text is not a key ring. Says nothing of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyRingError {
    /// No key.
    #[error("holds no key")]
    Empty,
    /// Over [`RING_KEYS_MAX`].
    #[error("holds more than {RING_KEYS_MAX} keys")]
    TooMany,
    /// A line that is not a key.
    #[error("line {0} is not `ID KEY`, 16 hex digits and the base64 of 32 bytes")]
    BadLine(usize),
    /// Two keys of one id.
    #[error("line {0} repeats the id of a key before it")]
    Repeated(usize),
}

impl KeyRing {
    /// A ring of one key.
    pub fn of(key: SealingKey) -> Self {
        Self(vec![key])
    }

    /// Reads a key file: a key a line, the active one first; empty lines and lines that begin with
    /// `#` are passed over.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<SealingKey> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = parse_key(line).ok_or(KeyRingError::BadLine(number))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(KeyRingError::Repeated(number));
            }
            if keys.len() >= RING_KEYS_MAX {
                return Err(KeyRingError::TooMany);
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyRingError::Empty) } else { Ok(Self(keys)) }
    }

    /// The key's line of a key file, with its line break.
    pub fn line(key: &SealingKey) -> String {
        format!("{} {}\n", key.id, STANDARD.encode(key.bytes))
    }

    /// The same ring with `key` as its active key.
    #[must_use]
    pub fn with_active(&self, key: SealingKey) -> Self {
        let id = key.id;
        let others = self.0.iter().filter(|known| known.id != id).cloned();
        Self(std::iter::once(key).chain(others).collect())
    }

    /// The key that seals.
    pub fn active(&self) -> &SealingKey {
        &self.0[0]
    }

    /// Every key, the active one first.
    pub fn keys(&self) -> &[SealingKey] {
        &self.0
    }

    /// Opens what was sealed for that place.
    pub fn open(&self, binding: &Binding, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let id = sealed_under(sealed)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey(id))?;
        let nonce = sealed[9..].first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
        let associated = Aad::from(binding.associated_data(id));
        let (key, nonce) = key.keyed_for(nonce);
        let mut text = sealed[HEAD_BYTES..].to_vec();
        let plain = key.open_in_place(nonce, associated, &mut text);
        let plain_bytes = plain.map_err(|_| OpenError::Refused(id))?.len();
        text.truncate(plain_bytes);
        Ok(text)
    }
}

fn parse_key(line: &str) -> Option<SealingKey> {
    let (id, key) = line.split_once(' ')?;
    let is_id = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u64::from_str_radix(id, 16).ok().filter(|_| is_id)?;
    let bytes = STANDARD.decode(key.trim()).ok()?.try_into().ok()?;
    Some(SealingKey::new(SealingKeyId(id.to_be_bytes()), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> SealingKey {
        SealingKey::new(SealingKeyId([number; 8]), [number; KEY_BYTES])
    }

    const PLACE: Binding = Binding::Secret(AccountId::from_u128(1), ENDPOINT);
    const ENDPOINT: EndpointId = EndpointId::from_bytes([9; 16]);

    #[test]
    fn what_is_sealed_opens_in_its_own_place_and_nowhere_else() {
        let ring = KeyRing::of(key(1));
        let sealed = ring.active().seal([5; NONCE_BYTES], &PLACE, b"whsec_abc");
        assert_eq!(ring.open(&PLACE, &sealed).as_deref(), Ok(b"whsec_abc".as_slice()));
        let account = AccountId::from_u128(1);
        let elsewhere = [
            Binding::Pepper,
            Binding::DataKey(SealingKeyId([9; 8])),
            Binding::Secret(AccountId::from_u128(2), ENDPOINT),
            Binding::Secret(account, EndpointId::from_bytes([8; 16])),
            Binding::PreviousSecret(account, ENDPOINT),
            Binding::Headers(account, ENDPOINT),
            Binding::Body(account, EventId::from_bytes([9; 16])),
            Binding::Exchange(DeliveryId::from_u128(1), 9),
            Binding::ClientIdentity(account, ENDPOINT),
            Binding::ClientCredentials(account, ENDPOINT),
        ];
        for place in elsewhere {
            let id = SealingKeyId([1; 8]);
            assert_eq!(ring.open(&place, &sealed), Err(OpenError::Refused(id)), "{place:?}");
        }
    }

    /// The example of draft-irtf-cfrg-xchacha-03, section A.3.1.
    #[test]
    fn the_cipher_is_the_one_of_the_draft() {
        let key = SealingKey::new(SealingKeyId([0; 8]), std::array::from_fn(|i| 0x80 + i as u8));
        let (key, nonce) = key.keyed_for(&std::array::from_fn(|i| 0x40 + i as u8));
        let associated = *b"PQRS\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7";
        let mut text = *b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
            tip for the future, sunscreen would be it.";
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut text).unwrap();
        assert_eq!(text[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        let expected = 0xc087_5924_c1c7_9879_47de_afd8_780a_cf49_u128;
        assert_eq!(tag.as_ref(), expected.to_be_bytes());
    }

    #[test]
    fn one_changed_bit_anywhere_keeps_it_shut() {
        let ring = KeyRing::of(key(1));
        let sealed = ring.active().seal([5; NONCE_BYTES], &PLACE, b"secret");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(ring.open(&PLACE, &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(ring.open(&PLACE, &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn the_active_key_seals_and_every_key_of_the_ring_opens() {
        let old = KeyRing::of(key(1));
        let sealed = old.active().seal([0; NONCE_BYTES], &PLACE, b"x");
        let both = old.with_active(key(2));
        assert_eq!(both.active().id(), SealingKeyId([2; 8]));
        assert_eq!(both.open(&PLACE, &sealed).as_deref(), Ok(b"x".as_slice()));
        assert_eq!(sealed_under(&sealed), Ok(SealingKeyId([1; 8])));
        let new = KeyRing::of(key(2));
        assert_eq!(new.open(&PLACE, &sealed), Err(OpenError::UnknownKey(SealingKeyId([1; 8]))));
        let impostor = KeyRing::of(SealingKey::new(SealingKeyId([1; 8]), [7; KEY_BYTES]));
        assert_eq!(impostor.open(&PLACE, &sealed), Err(OpenError::Refused(SealingKeyId([1; 8]))));
    }

    #[test]
    fn a_key_file_reads_back_and_a_bad_line_is_named_without_its_text() {
        let text = format!("# ours\n\n{}{}", KeyRing::line(&key(2)), KeyRing::line(&key(1)));
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.keys(), [key(2), key(1)]);
        assert_eq!(KeyRing::parse("# none\n"), Err(KeyRingError::Empty));
        assert_eq!(KeyRing::parse("\nabc def"), Err(KeyRingError::BadLine(2)));
        let twice = KeyRing::line(&key(1)).repeat(2);
        assert_eq!(KeyRing::parse(&twice), Err(KeyRingError::Repeated(2)));
        assert_eq!(format!("{:?}", key(1)), "SealingKey(0101010101010101, hidden)");
    }

    #[test]
    fn a_sealed_text_is_as_long_as_was_set_aside_for_it() {
        for length in [0, 1, 63, 64, 65, 100_000] {
            let plain = vec![7; length];
            let sealed = key(1).seal([5; NONCE_BYTES], &PLACE, &plain);
            assert_eq!(sealed.len(), HEAD_BYTES + length + TAG_BYTES);
            assert_eq!(KeyRing::of(key(1)).open(&PLACE, &sealed), Ok(plain));
        }
    }

    #[test]
    fn two_texts_sealed_alike_differ_only_by_their_nonce() {
        let one = key(1).seal([1; NONCE_BYTES], &PLACE, b"same");
        let other = key(1).seal([2; NONCE_BYTES], &PLACE, b"same");
        assert_ne!(one[HEAD_BYTES..], other[HEAD_BYTES..]);
    }
}
