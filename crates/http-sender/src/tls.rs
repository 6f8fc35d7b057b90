//! Whom we believe: the TLS settings of every outgoing connection.
//!
//! Promise: TLS 1.2 or newer, certificates checked against the roots and the name, and no client
//! certificate but the one that belongs to the request. A certificate that is not good is named by
//! what is wrong with it.

use std::sync::Arc;

use domain::attempt::Failure;
use domain::credentials::{ClientIdentity, CredentialsDigest};
use engine::sender::IdentityRefusal;
use quick_cache::sync::Cache;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use tokio_rustls::TlsConnector;

use crate::failed::{Failed, with_sources};
use crate::limits::{IDENTITIES_KEPT_MAX, SESSIONS_PER_IDENTITY_MAX};

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

fn client_config(roots: Roots) -> Arc<ClientConfig> {
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

/// TLS without a client certificate, and with each that was needed lately.
///
/// Every identity has settings of its own, and with them its own memory of sessions to resume: a
/// session that was opened with a certificate is never resumed for a request without it.
pub(crate) struct TlsConnectors {
    plain: TlsConnector,
    with_identity: Cache<CredentialsDigest, TlsConnector>,
}

impl TlsConnectors {
    pub(crate) fn new(roots: Roots) -> Self {
        Self { plain: client_config(roots).into(), with_identity: Cache::new(IDENTITIES_KEPT_MAX) }
    }

    /// TLS that shows this identity to whoever asks for one.
    pub(crate) fn showing(
        &self,
        identity: Option<&ClientIdentity>,
    ) -> Result<TlsConnector, Failed> {
        let Some(identity) = identity else { return Ok(self.plain.clone()) };
        let made = self.with_identity.get_or_insert_with(identity.digest(), || {
            let certified = certified_key(identity)?;
            let mut config = ClientConfig::clone(self.plain.config());
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
            config.resumption = Resumption::in_memory_sessions(SESSIONS_PER_IDENTITY_MAX);
            Ok(Arc::new(config).into())
        });
        made.map_err(|refusal: IdentityRefusal| {
            let detail = format!("the client certificate cannot be used: {refusal}");
            Failed::new(Failure::Credentials, detail)
        })
    }
}

/// Reads an identity, and makes sure that its key belongs to its certificate.
pub(crate) fn certified_key(identity: &ClientIdentity) -> Result<CertifiedKey, IdentityRefusal> {
    let chain = certificate_chain(identity.certificate_chain())?;
    let key = PrivateKeyDer::from_pem_slice(identity.private_key().as_bytes()).map_err(|_| {
        refused_key("must be one unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1)")
    })?;
    let provider = rustls::crypto::ring::default_provider();
    let key = provider.key_provider.load_private_key(key).map_err(|_| {
        refused_key(
            "is of no known kind: use RSA (2048 to 4096 bits), ECDSA on P-256 or P-384, or Ed25519",
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(_) => Err(refused_key("does not belong to the first certificate of the chain")),
    }
}

fn certificate_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityRefusal> {
    let refused = |why: String| IdentityRefusal::Certificate(why);
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let number = chain.len() + 1;
        let certificate = certificate
            .map_err(|_| refused(format!("is not well-formed PEM at certificate {number}")))?;
        ParsedCertificate::try_from(&certificate).map_err(|error| {
            refused(format!("has no X.509 certificate at {number}: {}", with_sources(&error)))
        })?;
        chain.push(certificate);
    }
    if chain.is_empty() {
        return Err(refused("must hold at least one certificate in PEM".to_owned()));
    }
    if pem.matches("-----BEGIN ").count() != chain.len() {
        return Err(refused("must hold nothing but certificates".to_owned()));
    }
    Ok(chain)
}

fn refused_key(why: &str) -> IdentityRefusal {
    IdentityRefusal::Key(why.to_owned())
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
