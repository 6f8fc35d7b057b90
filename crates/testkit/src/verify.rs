//! A receiver's view of signatures, written apart from `domain::signature` on purpose.
//!
//! Promise: says yes exactly when a receiver that follows the public documents would: JoggAI v2,
//! "Webhook Signature Verification" (hex HMAC-SHA256 of the raw body, key = the whole secret
//! text), and the Standard Webhooks specification (`v1,` base64 HMAC-SHA256 of
//! `id.timestamp.body`, key = the base64 part of the secret, decoded).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::contract::Contract;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::receiver::ReceivedRequest;

/// Why a delivery is not genuine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// A header is not there.
    Missing(&'static str),
    /// A header is there more than once.
    Repeated(&'static str),
    /// A header's value is not of its form.
    Malformed(&'static str, String),
    /// The secret is not `whsec_` and base64.
    BadSecret,
    /// The header's signature is not the one of these bytes.
    Wrong(&'static str),
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(name) => write!(f, "there is no {name} header"),
            Self::Repeated(name) => write!(f, "there are several {name} headers"),
            Self::Malformed(name, value) => write!(f, "{name} is malformed: {value:?}"),
            Self::BadSecret => f.write_str("the secret is not whsec_ and base64"),
            Self::Wrong(name) => write!(f, "{name} is not the signature of these bytes"),
        }
    }
}

impl std::error::Error for VerifyError {}

/// The header that carries the contract's own signature, in lower case; `standard` has none.
pub fn contract_header(contract: Contract) -> Option<&'static str> {
    match contract {
        Contract::JoggV2 => Some("x-webhook-signature"),
        Contract::KonproV1 => Some("signature"),
        Contract::Standard => None,
    }
}

/// The header that announces the contract's own signature under a new secret while the old one
/// still signs, in lower case; `standard` has none, since its header carries several signatures.
pub fn next_contract_header(contract: Contract) -> Option<&'static str> {
    match contract {
        Contract::JoggV2 => Some("x-webhook-signature-next"),
        Contract::KonproV1 => Some("signature-next"),
        Contract::Standard => None,
    }
}

/// Verifies every signature a delivery of the contract must carry: the contract's own, if it has
/// one, and the Standard Webhooks one.
pub fn verify(
    contract: Contract,
    secret: &str,
    request: &ReceivedRequest,
) -> Result<(), VerifyError> {
    if let Some(name) = contract_header(contract) {
        verify_hex(name, only(request, name)?, secret, &request.body)?;
    }
    verify_standard(
        only(request, "webhook-id")?,
        only(request, "webhook-timestamp")?,
        only(request, "webhook-signature")?,
        secret,
        &request.body,
    )
}

/// Verifies a contract signature found in the header `name`.
pub fn verify_hex(
    name: &'static str,
    value: &str,
    secret: &str,
    body: &[u8],
) -> Result<(), VerifyError> {
    let digits = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if value.len() != 64 || !value.bytes().all(digits) {
        return Err(VerifyError::Malformed(name, value.to_owned()));
    }
    if value == sign_hex(secret, body) { Ok(()) } else { Err(VerifyError::Wrong(name)) }
}

/// Verifies the three Standard Webhooks headers. Says nothing about how old the timestamp is: the
/// test's clock may be anywhere.
pub fn verify_standard(
    id: &str,
    timestamp: &str,
    signatures: &str,
    secret: &str,
    body: &[u8],
) -> Result<(), VerifyError> {
    if id.is_empty() || id.contains('.') {
        return Err(VerifyError::Malformed("webhook-id", id.to_owned()));
    }
    if timestamp.is_empty() || !timestamp.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::Malformed("webhook-timestamp", timestamp.to_owned()));
    }
    let well_formed = |signature: &str| {
        signature.split_once(',').is_some_and(|(version, encoded)| {
            version == "v1" && STANDARD.decode(encoded).is_ok_and(|mac| mac.len() == 32)
        })
    };
    if !signatures.split(' ').all(well_formed) {
        return Err(VerifyError::Malformed("webhook-signature", signatures.to_owned()));
    }
    let expected = sign_standard(secret, id, timestamp, body)?;
    if signatures.split(' ').any(|signature| signature == expected) {
        Ok(())
    } else {
        Err(VerifyError::Wrong("webhook-signature"))
    }
}

/// The contract signature of the body.
pub fn sign_hex(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

/// One Standard Webhooks signature, `v1,…`.
pub fn sign_standard(
    secret: &str,
    id: &str,
    timestamp: &str,
    body: &[u8],
) -> Result<String, VerifyError> {
    let key = secret
        .strip_prefix("whsec_")
        .and_then(|encoded| STANDARD.decode(encoded).ok())
        .ok_or(VerifyError::BadSecret)?;
    let mut signed = format!("{id}.{timestamp}.").into_bytes();
    signed.extend_from_slice(body);
    let mut mac =
        Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(&signed);
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

fn only<'a>(request: &'a ReceivedRequest, name: &'static str) -> Result<&'a str, VerifyError> {
    let mut values =
        request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let value = values.next().ok_or(VerifyError::Missing(name))?;
    if values.next().is_some() { Err(VerifyError::Repeated(name)) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    // printf %s '{"a":1}' | openssl dgst -sha256 -hmac "$secret"
    #[test]
    fn the_hex_signature_is_the_one_openssl_computes() {
        assert_eq!(
            sign_hex(SECRET, br#"{"a":1}"#),
            "45ec03b2b33403c8043a90de06bedad0827183927115fd7e448ef97eeb13c5be"
        );
    }

    // The sample of the Standard Webhooks specification's own libraries.
    #[test]
    fn the_standard_signature_is_the_one_of_the_published_sample() {
        assert_eq!(
            sign_standard(
                SECRET,
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "1614265330",
                br#"{"test": 2432232314}"#
            ),
            Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
        );
    }

    #[test]
    fn each_fault_has_its_own_error() {
        let good = sign_standard(SECRET, "evt_1", "5", b"x").unwrap();
        let check = |id, timestamp, signatures: &str, secret, body: &[u8]| {
            verify_standard(id, timestamp, signatures, secret, body)
        };
        assert_eq!(check("evt_1", "5", &good, SECRET, b"x"), Ok(()));
        assert_eq!(check("evt_1", "5", &format!("{good} {good}"), SECRET, b"x"), Ok(()));
        let wrong = Err(VerifyError::Wrong("webhook-signature"));
        assert_eq!(check("evt_1", "5", &good, SECRET, b"y"), wrong);
        assert_eq!(check("evt_2", "5", &good, SECRET, b"x"), wrong);
        assert_eq!(check("evt_1", "6", &good, SECRET, b"x"), wrong);
        assert_eq!(check("evt_1", "5", &good, "x", b"x"), Err(VerifyError::BadSecret));
        let malformed = Err(VerifyError::Malformed("webhook-signature", "v1".to_owned()));
        assert_eq!(check("evt_1", "5", "v1", SECRET, b"x"), malformed);

        let hex = sign_hex(SECRET, b"x");
        assert_eq!(verify_hex("signature", &hex, SECRET, b"x"), Ok(()));
        let wrong = Err(VerifyError::Wrong("signature"));
        assert_eq!(verify_hex("signature", &hex, SECRET, b"y"), wrong);
        let upper = hex.to_uppercase();
        let malformed = Err(VerifyError::Malformed("signature", upper.clone()));
        assert_eq!(verify_hex("signature", &upper, SECRET, b"x"), malformed);
    }
}
