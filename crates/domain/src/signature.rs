//! Signatures over the bytes we send.
//!
//! Promise: pure functions of secret and bytes. Two schemes: the contracts' own (hex HMAC-SHA256
//! of the raw body, key = the whole secret text; JoggAI v2, "Webhook Signature Verification") and
//! Standard Webhooks (`v1,` and base64 HMAC-SHA256 of `id.timestamp.body`, key = decoded secret).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::id::{EventId, HEX_DIGITS};
use crate::secret::SigningSecret;
use crate::time::Timestamp;

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The contract signature: lower-case hex HMAC-SHA256 of the raw body.
pub fn hex_signature(secret: &SigningSecret, body: &[u8]) -> String {
    hex(&hmac_sha256(secret.text_key(), &[body]))
}

/// A hash in lower-case hex.
pub(crate) fn hex(hash: &[u8; 32]) -> String {
    let mut text = String::with_capacity(64);
    for byte in hash {
        text.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The value of `webhook-signature`: one `v1,…` per live secret, space-separated.
pub fn standard_signature<'a>(
    secrets: impl IntoIterator<Item = &'a SigningSecret>,
    id: EventId,
    attempted_at: Timestamp,
    body: &[u8],
) -> String {
    let mut prefix = String::with_capacity(64);
    write!(prefix, "{id}.{}.", attempted_at.as_seconds()).expect("a string takes all");
    let mut value = String::with_capacity(48);
    for secret in secrets {
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        let mac = hmac_sha256(secret.decoded_key(), &[prefix.as_bytes(), body]);
        STANDARD.encode_string(mac, &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Computed independently: printf %s '{"a":1}' | openssl dgst -sha256 -hmac "$secret"
    #[test]
    fn the_contract_signature_is_the_hex_hmac_keyed_with_the_whole_secret_text() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            hex_signature(&secret, br#"{"a":1}"#),
            "45ec03b2b33403c8043a90de06bedad0827183927115fd7e448ef97eeb13c5be"
        );
    }

    proptest! {
        #[test]
        fn one_changed_bit_changes_both_signatures(
            body in proptest::collection::vec(any::<u8>(), 1..200),
            at in 0..1600usize,
        ) {
            let secret = SigningSecret::from_random(&[9; 24]);
            let mut changed = body.clone();
            let bit = at % (body.len() * 8);
            changed[bit / 8] ^= 1 << (bit % 8);
            let id = EventId::from_u128(5);
            let now = Timestamp::from_seconds(1_732_806_631);
            prop_assert_ne!(hex_signature(&secret, &body), hex_signature(&secret, &changed));
            let secrets = [secret];
            prop_assert_ne!(
                standard_signature(&secrets, id, now, &body),
                standard_signature(&secrets, id, now, &changed)
            );
        }
    }

    #[test]
    fn every_live_secret_signs_in_one_header() {
        let secrets = [SigningSecret::from_random(&[1; 24]), SigningSecret::from_random(&[2; 24])];
        let value =
            standard_signature(&secrets, EventId::from_u128(5), Timestamp::from_seconds(1), b"x");
        assert_eq!(value.split(' ').filter(|part| part.starts_with("v1,")).count(), 2);
    }
}
