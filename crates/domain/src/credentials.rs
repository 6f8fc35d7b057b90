//! What an endpoint may demand of whoever calls it: a client certificate, an OAuth 2 token.
//!
//! Promise: neither `Debug` nor any error shows a private key or a client secret. Neighbours: the
//! endpoint holds them, stores seal them, the sender uses them.

use std::fmt;

use crate::target_url::TargetUrl;

/// Largest certificate chain or private key in PEM, in bytes: a chain of four with RSA-4096 keys.
pub const CLIENT_PEM_BYTES_MAX: usize = 16 * 1024;

/// Longest client id, client secret, scope or audience, in bytes.
pub const OAUTH2_TEXT_BYTES_MAX: usize = 1_024;

/// A client certificate with its private key, for mutual TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate chain in PEM, the client's own first.
    pub certificate_chain: String,
    /// The private key in PEM.
    pub private_key: String,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(hidden)")
    }
}

/// How to get a token (RFC 6749 section 4.4, client credentials).
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCredentials {
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

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("token_url", &self.token_url)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
