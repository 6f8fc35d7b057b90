//! Whom we believe: the TLS settings of every outgoing connection.
//!
//! Promise: TLS 1.2 or newer, certificates checked against the roots and the name, no client
//! certificate ever sent.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};

/// The authorities whose certificates are accepted.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

impl Roots {
    /// None: every TLS connection fails.
    pub fn none() -> Self {
        Self(RootCertStore::empty())
    }

    /// Those of the platform. A machine without any still starts; the log says what to install.
    pub fn platform() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut store = RootCertStore::empty();
        let (added, _) = store.add_parsable_certificates(found.certs);
        if added == 0 {
            tracing::warn!(
                errors = ?found.errors,
                "no root certificates found: every HTTPS delivery will fail; install the \
                 ca-certificates package or set SSL_CERT_FILE"
            );
        }
        Self(store)
    }

    /// Adds the certificates of a PEM file; answers how many.
    pub fn add_pem(&mut self, pem: &[u8]) -> Result<usize, RootsError> {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            self.add(certificate?)?;
            added += 1;
        }
        if added == 0 { Err(RootsError::Empty) } else { Ok(added) }
    }

    /// Adds one certificate.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), RootsError> {
        Ok(self.0.add(certificate)?)
    }
}

/// Why additional roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// No certificate inside.
    #[error("there is no PEM certificate in it")]
    Empty,
    /// Not PEM.
    #[error("it is not a PEM file: {0:?}")]
    Pem(pem::Error),
    /// Not a certificate.
    #[error("it holds something that is not a root certificate: {0}")]
    Certificate(#[from] rustls::Error),
}

impl From<pem::Error> for RootsError {
    fn from(error: pem::Error) -> Self {
        Self::Pem(error)
    }
}

/// The protocol name of HTTP/2 (RFC 9113, section 3.1).
pub(crate) const ALPN_HTTP2: &[u8] = b"h2";

pub(crate) fn client_config(roots: Roots) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3")
        .with_root_certificates(roots.0)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
