//! Whether a delivery is genuine, as a customer's program would find out.
//!
//! Written from the receiver's documents, apart from what signs: JoggAI v2 and KonPro v1 (hex
//! HMAC-SHA256 of the raw body, keyed with the whole secret text) and the Standard Webhooks
//! specification (base64 HMAC-SHA256 of `id.timestamp.body`, keyed with the decoded secret).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use domain::contract::Contract;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::HeaderMap;
use serde_json::Value;
use sha2::Sha256;

/// What a genuine delivery says.
pub(super) struct Verified {
    /// The event's id.
    pub(super) event: String,
    /// The event's type.
    pub(super) event_type: String,
    /// The whole body.
    pub(super) body: Bytes,
}

/// Verifies every signature a delivery of the contract carries; says why it is not genuine.
pub(super) fn verify(
    contract: Contract,
    secret: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Verified, String> {
    let header = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or_else(|| format!("there is no {name}"))
    };
    let (contract_signature, name_of_type) = match contract {
        Contract::JoggV2 => (Some("x-webhook-signature"), "event"),
        Contract::KonproV1 => (Some("signature"), "event_type"),
        Contract::Standard => (None, "type"),
    };
    if let Some(name) = contract_signature
        && !is_hex_of(header(name)?, secret.as_bytes(), body)
    {
        return Err(format!("{name} is wrong"));
    }
    let id = header("webhook-id")?;
    let timestamp = header("webhook-timestamp")?;
    let key = secret.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    let key = key.ok_or("the secret is not whsec_ and base64")?;
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let is_right = |signature: &str| {
        let encoded = signature.strip_prefix("v1,");
        let signature = encoded.and_then(|encoded| STANDARD.decode(encoded).ok());
        signature.is_some_and(|signature| hmac(&key, &signed).verify_slice(&signature).is_ok())
    };
    if !header("webhook-signature")?.split(' ').any(is_right) {
        return Err("webhook-signature is wrong".to_owned());
    }
    // Only now is the body worth reading.
    let content: Value =
        serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
    let event_type = content.get(name_of_type).and_then(Value::as_str);
    let event_type = event_type.ok_or_else(|| format!("the body has no {name_of_type}"))?;
    Ok(Verified { event: id.to_owned(), event_type: event_type.to_owned(), body: body.clone() })
}

fn is_hex_of(hex: &str, key: &[u8], message: &[u8]) -> bool {
    let is_lower = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let bytes: Option<Vec<u8>> = (0..hex.len())
        .step_by(2)
        .map(|at| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok()))
        .collect();
    is_lower && bytes.is_some_and(|bytes| hmac(key, message).verify_slice(&bytes).is_ok())
}

fn hmac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length (RFC 2104)");
    mac.update(message);
    mac
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn headers() -> HeaderMap {
        // printf %s "$body" | openssl dgst -sha256 -hmac "$secret", and the Python library
        // standardwebhooks for the other.
        HeaderMap::from_iter(
            [
                ("x-webhook-signature", HEX),
                ("webhook-id", "evt_1"),
                ("webhook-timestamp", "1732806631"),
                ("webhook-signature", STANDARD_SIGNATURE),
            ]
            .map(|(name, value)| {
                (http::HeaderName::from_static(name), HeaderValue::from_static(value))
            }),
        )
    }

    const BODY: &str = r#"{"event_id":"evt_1","event":"generated_video_success","timestamp":1732806631,"data":{}}"#;
    const HEX: &str = "4c252f0348a2abdc3484230d742d374424f35c4b0a7cbee728fd2ca7f8955053";
    const STANDARD_SIGNATURE: &str = "v1,BHrwt4fOV9O/34BibuD+/LbpqakyYv79xuiH3ds38zE=";

    #[test]
    fn a_genuine_delivery_is_believed() {
        let body = Bytes::from_static(BODY.as_bytes());
        let verified = verify(Contract::JoggV2, SECRET, &headers(), &body);
        let verified = verified.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(verified.event, "evt_1");
        assert_eq!(verified.event_type, "generated_video_success");
    }

    #[test]
    fn one_changed_character_anywhere_is_refused() {
        for at in 0..BODY.len() {
            let mut body = BODY.as_bytes().to_vec();
            body[at] ^= 1;
            let body = Bytes::from(body);
            assert!(verify(Contract::JoggV2, SECRET, &headers(), &body).is_err(), "{at}");
            // The other signature alone is enough to tell.
            assert!(verify(Contract::Standard, SECRET, &headers(), &body).is_err(), "{at}");
        }
        for name in ["x-webhook-signature", "webhook-id", "webhook-timestamp", "webhook-signature"]
        {
            let mut headers = headers();
            headers.remove(name);
            let body = Bytes::from_static(BODY.as_bytes());
            assert!(verify(Contract::JoggV2, SECRET, &headers, &body).is_err(), "{name}");
        }
    }
}
