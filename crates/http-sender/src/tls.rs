//! Whom we believe: the TLS settings of every outgoing connection.
//!
//! Promise: TLS 1.2 or newer, certificates checked against the roots and the name, no client
//! certificate ever sent. A certificate that is not good is named by what is wrong with it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};

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
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("ring supports TLS 1.2 and 1.3");
    let mut config = match verifier(roots.0.clone(), &provider) {
        Some(verifier) => {
            let verifier = Arc::new(Verifier { verifier, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
        None => builder.with_root_certificates(roots.0).with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// The library's own verifier; `None` without any root.
fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Option<Arc<WebPkiServerVerifier>> {
    let roots = Arc::new(roots);
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build().ok()
}

/// Leaves every judgement to the library's verifier. It only looks once more at a certificate that
/// was refused because nobody knows its issuer: the receiver's operator must know whether that is
/// the certificate itself, or an authority that is not among the roots (often because the receiver
/// does not send its intermediate certificates).
#[derive(Debug)]
struct Verifier {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

/// The certificate is signed with its own key.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is self-signed")]
struct SelfSigned;

impl Verifier {
    /// Whether the certificate would be good if it were a root.
    fn is_self_signed(
        &self,
        certificate: &CertificateDer<'_>,
        server: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let mut itself = RootCertStore::empty();
        itself.add(certificate.clone().into_owned()).is_ok()
            && verifier(itself, &self.provider).is_some_and(|verifier| {
                verifier.verify_server_cert(certificate, &[], server, &[], now).is_ok()
            })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verifier = &self.verifier;
        let unknown = rustls::Error::from(CertificateError::UnknownIssuer);
        match verifier.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Err(error) if error == unknown && self.is_self_signed(end_entity, server_name, now) => {
                Err(CertificateError::Other(OtherError(Arc::new(SelfSigned))).into())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
