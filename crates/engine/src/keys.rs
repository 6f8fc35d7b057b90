//! API keys: made, shown once, kept only as a keyed hash, checked.
//!
//! A key is `pr_ak_` (account) or `pr_op_` (operator), 16 characters that name it, `_`, 43
//! characters that stand for 256 random bits, and 6 that are the CRC-32 of all before, so that a
//! leaked key can be told from noise without asking us (as GitHub's token format does). Promise:
//! what is stored opens nothing; comparison takes the same time wherever the difference is.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::entropy::Dice;

/// The prefix of account keys.
pub const ACCOUNT_KEY_PREFIX: &str = "pr_ak_";

/// The prefix of operator keys.
pub const OPERATOR_KEY_PREFIX: &str = "pr_op_";

const PUBLIC_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

/// A key in the clear: shown once, then gone.
pub struct ApiKey(String);

impl ApiKey {
    /// Makes a key.
    pub(crate) fn make(prefix: &str, dice: &Dice) -> Self {
        let public = base62(&dice.secret::<12>(), PUBLIC_LENGTH);
        let secret = base62(&dice.secret::<32>(), SECRET_LENGTH);
        let unchecked = format!("{prefix}{public}_{secret}");
        let checksum = checksum(&unchecked);
        Self(unchecked + &checksum)
    }

    /// The text, for whoever asked for the key.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The part that names it.
    pub(crate) fn public_part(&self) -> &str {
        let at = ACCOUNT_KEY_PREFIX.len();
        &self.0[at..at + PUBLIC_LENGTH]
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// The part that names the key, if the text is well formed and its checksum right.
pub(crate) fn public_part(text: &str) -> Option<&str> {
    let rest =
        text.strip_prefix(ACCOUNT_KEY_PREFIX).or_else(|| text.strip_prefix(OPERATOR_KEY_PREFIX))?;
    let well_formed = rest.len() == PUBLIC_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH
        && rest
            .bytes()
            .enumerate()
            .all(|(at, b)| if at == PUBLIC_LENGTH { b == b'_' } else { b.is_ascii_alphanumeric() });
    if !well_formed {
        return None;
    }
    let (unchecked, given) = text.split_at(text.len() - CHECKSUM_LENGTH);
    (checksum(unchecked) == given).then(|| &rest[..PUBLIC_LENGTH])
}

/// The keyed hash of a key.
pub(crate) fn hash(pepper: &[u8; 32], key: &str) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(pepper).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(key.as_bytes());
    mac.finalize().into_bytes().into()
}

/// Whether two hashes are equal, in constant time.
pub(crate) fn same_hash(left: &[u8; 32], right: &[u8; 32]) -> bool {
    left.ct_eq(right).into()
}

fn checksum(text: &str) -> String {
    base62(&crc32fast::hash(text.as_bytes()).to_be_bytes(), CHECKSUM_LENGTH)
}

/// The number that the bytes stand for, modulo 62^`length`, in exactly `length` base-62 digits.
fn base62(bytes: &[u8], length: usize) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut digits = vec![0; length];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("the remainder is below 62");
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    String::from_utf8(digits).expect("base-62 digits are ASCII")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn a_key_names_itself_and_one_wrong_character_is_noticed() {
        let dice = Dice::new(Arc::new(SystemEntropy));
        let key = ApiKey::make(ACCOUNT_KEY_PREFIX, &dice);
        assert_eq!(public_part(key.reveal()), Some(key.public_part()));
        assert_eq!(key.reveal().len(), 6 + 16 + 1 + 43 + 6);
        for at in 0..key.reveal().len() {
            let mut bytes = key.reveal().as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(public_part(&String::from_utf8(bytes).unwrap()), None, "at {at}");
        }
        assert_eq!(format!("{key:?}"), "ApiKey(hidden)");
    }

    #[test]
    fn base_62_is_positional() {
        assert_eq!(base62(&[0, 61], 3), "00z");
        assert_eq!(base62(&[0, 62], 3), "010");
        assert_eq!(base62(&[1, 0], 3), "048");
    }
}
