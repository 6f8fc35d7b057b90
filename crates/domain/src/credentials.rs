//! What an endpoint may demand of whoever calls it: a client certificate, an OAuth 2 token.
//!
//! Promise: neither `Debug` nor any error shows a private key or a client secret; a copy is cheap,
//! because every attempt takes one. Neighbours: the endpoint holds them, stores seal them, the
//! sender uses them.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::signature::hex;
use crate::target_url::TargetUrl;

/// Largest certificate chain or private key in PEM, in bytes: a chain of four with RSA-4096 keys.
pub const CLIENT_PEM_BYTES_MAX: usize = 16 * 1024;

/// Longest client id, client secret, scope or audience, in bytes.
pub const OAUTH2_TEXT_BYTES_MAX: usize = 1_024;

/// What tells credentials apart: a hash of all they hold. It goes into no log and no answer.
pub type CredentialsDigest = [u8; 32];

/// A client certificate with its private key, for mutual TLS.
#[derive(Clone)]
pub struct ClientIdentity {
    certificate_chain: Arc<str>,
    private_key: Arc<str>,
    digest: CredentialsDigest,
}

impl ClientIdentity {
    /// The certificate chain in PEM, the client's own first, and the private key in PEM.
    pub fn new(certificate_chain: &str, private_key: &str) -> Self {
        Self {
            digest: digest([Some(certificate_chain), Some(private_key)]),
            certificate_chain: certificate_chain.into(),
            private_key: private_key.into(),
        }
    }

    /// The certificate chain in PEM, the client's own first.
    pub fn certificate_chain(&self) -> &str {
        &self.certificate_chain
    }

    /// The private key in PEM.
    pub fn private_key(&self) -> &str {
        &self.private_key
    }

    /// SHA-256 of the client's own certificate in hex, by which people know it. `None` if the chain does
    /// not begin with one, which no chain that was checked does.
    pub fn certificate_sha256(&self) -> Option<String> {
        let (_, from_first) = self.certificate_chain.split_once("-----BEGIN CERTIFICATE-----")?;
        let (first, _) = from_first.split_once("-----END CERTIFICATE-----")?;
        let first: String = first.split_ascii_whitespace().collect();
        Some(hex(&Sha256::digest(STANDARD.decode(first).ok()?).into()))
    }

    /// What tells it apart from others.
    pub const fn digest(&self) -> &CredentialsDigest {
        &self.digest
    }
}

impl PartialEq for ClientIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for ClientIdentity {}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(hidden)")
    }
}

/// How to get a token (RFC 6749 section 4.4, client credentials).
#[derive(Clone)]
pub struct ClientCredentials(Arc<(TokenRequest, CredentialsDigest)>);

/// What is asked for a token, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Where tokens are given out; judged and called like any endpoint.
    pub token_url: TargetUrl,
    /// The client's id.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: String,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// The audience to ask for, which some authorisation servers demand.
    pub audience: Option<String>,
}

impl ClientCredentials {
    /// Credentials that ask so.
    pub fn new(request: TokenRequest) -> Self {
        let digest = digest([
            Some(request.token_url.as_str()),
            Some(request.client_id.as_str()),
            Some(request.client_secret.as_str()),
            request.scope.as_deref(),
            request.audience.as_deref(),
        ]);
        Self(Arc::new((request, digest)))
    }

    /// What is asked for a token, and where.
    pub fn request(&self) -> &TokenRequest {
        &self.0.0
    }

    /// What tells them apart from others.
    pub fn digest(&self) -> &CredentialsDigest {
        &self.0.1
    }
}

impl PartialEq for ClientCredentials {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for ClientCredentials {}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request().fmt(f)
    }
}

impl fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRequest")
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// A hash of the parts and of where each ends.
fn digest<'a>(parts: impl IntoIterator<Item = Option<&'a str>>) -> CredentialsDigest {
    let mut hash = Sha256::new();
    for part in parts {
        // No part has this length: it stands for one that is not there.
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        hash.update(length.to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(client_id: &str, client_secret: &str, scope: Option<&str>) -> ClientCredentials {
        ClientCredentials::new(TokenRequest {
            token_url: TargetUrl::from_stored("https://auth.customer.com/token").unwrap(),
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            scope: scope.map(str::to_owned),
            audience: None,
        })
    }

    #[test]
    fn credentials_are_the_same_only_if_every_part_is() {
        assert_eq!(ClientIdentity::new("a", "b"), ClientIdentity::new("a", "b"));
        assert_ne!(ClientIdentity::new("a", "b"), ClientIdentity::new("ab", ""));
        assert_ne!(ClientIdentity::new("a", "b"), ClientIdentity::new("a", "c"));
        let all = [
            asking("a", "b", None),
            asking("ab", "", None),
            asking("a", "b", Some("")),
            asking("a", "b", Some("c")),
            asking("a", "c", None),
        ];
        for (index, one) in all.iter().enumerate() {
            for (other_index, other) in all.iter().enumerate() {
                assert_eq!(one == other, index == other_index);
            }
        }
    }

    #[test]
    fn a_certificate_is_known_by_the_hash_of_the_first_in_the_chain() {
        let certificate = |body: &str| {
            format!("-----BEGIN CERTIFICATE-----\r\n{body}\r\n-----END CERTIFICATE-----\r\n")
        };
        let chain = certificate("aGVs\r\nbG8=") + &certificate("AAAA");
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let known = ClientIdentity::new(&chain, "").certificate_sha256();
        assert_eq!(known.as_deref(), Some(hello));
        for broken in ["", "-----BEGIN CERTIFICATE-----\naGVs", &certificate("!")] {
            assert_eq!(ClientIdentity::new(broken, "").certificate_sha256(), None);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let identity = format!("{:?}", ClientIdentity::new("chain", "hush"));
        let credentials = format!("{:?}", asking("id", "hush", None));
        assert!(!identity.contains("hush") && !credentials.contains("hush"));
        assert!(credentials.contains("auth.customer.com"));
    }
}
