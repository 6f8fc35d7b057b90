//! Signing secrets: what an endpoint's owner uses to verify our deliveries.
//!
//! Promise: neither `Debug` nor any error shows a secret; the text leaves only through
//! [`SigningSecret::reveal`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

/// The prefix of every secret (Standard Webhooks; the JoggAI v2 and KonPro v1 samples agree).
pub const SECRET_PREFIX: &str = "whsec_";

/// Random bytes in a secret: the least that Standard Webhooks allows (24 to 64).
pub const SECRET_BYTES: usize = 24;

/// A secret: `whsec_` and the base64 of its random bytes.
///
/// Its two uses take two different keys: the `jogg_v2` and `konpro_v1` signatures use the whole
/// text as UTF-8, Standard Webhooks uses the decoded bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    text: String,
    decoded: Vec<u8>,
}

/// A text that is not a signing secret. Says nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a signing secret")]
pub struct SigningSecretError;

impl SigningSecret {
    /// The secret made of these random bytes.
    pub fn from_random(random: &[u8; SECRET_BYTES]) -> Self {
        Self {
            text: format!("{SECRET_PREFIX}{}", STANDARD.encode(random)),
            decoded: random.to_vec(),
        }
    }

    /// Reads a stored secret.
    pub fn parse(text: &str) -> Result<Self, SigningSecretError> {
        let encoded = text.strip_prefix(SECRET_PREFIX).ok_or(SigningSecretError)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| SigningSecretError)?;
        Ok(Self { text: text.to_owned(), decoded })
    }

    /// The text, for its owner and for storage only.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The key of the contract signatures: the whole text as UTF-8.
    pub(crate) fn text_key(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The key of Standard Webhooks signatures: the decoded bytes.
    pub(crate) fn decoded_key(&self) -> &[u8] {
        &self.decoded
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_debug_shows_nothing_of_it() {
        let secret = SigningSecret::from_random(&[7; SECRET_BYTES]);
        assert_eq!(SigningSecret::parse(secret.reveal()), Ok(secret.clone()));
        assert_eq!(secret.reveal().len(), SECRET_PREFIX.len() + 32);
        assert_eq!(format!("{secret:?}"), "SigningSecret(hidden)");
        assert_eq!(SigningSecret::parse("whsec_%"), Err(SigningSecretError));
    }
}
