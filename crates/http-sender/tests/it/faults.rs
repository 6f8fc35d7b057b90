//! TLS in twelve wrong ways, and one that is only unusual. Nothing of a request may leave for a
//! receiver that did not prove its name, and the operator's log must tell the faults apart.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::attempt::Failure;
use http_sender::tls::Roots;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, NameConstraints, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::secure::{Authority, certificate_for};
use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

/// Made once with OpenSSL, because today's libraries do not sign like this any more: a key, and a
/// certificate for `a.com`, valid for a hundred years, signed with ECDSA over SHA-1.
const SHA1: &[u8] = include_bytes!("../fixtures/tls/sha1-signature.pem");
const SHA1_ROOT: &[u8] = include_bytes!("../fixtures/tls/sha1-signature-root.pem");

/// The same, signed over SHA-256 by an authority with an RSA key of 1024 bits.
const RSA_1024: &[u8] = include_bytes!("../fixtures/tls/rsa-1024-authority.pem");
const RSA_1024_ROOT: &[u8] = include_bytes!("../fixtures/tls/rsa-1024-authority-root.pem");

/// What a receiver does, and how the sender may know whom to believe.
struct Fault {
    name: &'static str,
    receiver: Receiver,
    roots: Roots,
    /// Words of the operator's log.
    detail: &'static str,
}

enum Receiver {
    /// An ordinary server.
    Server(Arc<ServerConfig>),
    /// Answers the client's greeting with these bytes.
    Words(Vec<u8>),
}

fn server(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Receiver {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Receiver::Server(Arc::new(config))
}

fn from_pem(pem: &[u8]) -> Receiver {
    let certificate = CertificateDer::from_pem_slice(pem).unwrap();
    server(vec![certificate], PrivateKeyDer::from_pem_slice(pem).unwrap())
}

fn roots_from(pem: &[u8]) -> Roots {
    let mut roots = Roots::none();
    roots.add_pem(pem).unwrap();
    roots
}

fn self_signed(is_ca: IsCa) -> Receiver {
    let key = KeyPair::generate().unwrap();
    let mut params = certificate_for("a.com");
    params.distinguished_name.push(DnType::CommonName, "a.com");
    params.is_ca = is_ca;
    let certificate = params.self_signed(&key).unwrap();
    server(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// A good certificate, and behind it an authority that is longer than a megabyte.
fn endless_chain(authority: &Authority) -> Receiver {
    let mut params = CertificateParams::default();
    let filling = vec![0; 1024 * 1024];
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], filling)];
    let key = KeyPair::generate().unwrap();
    let leaf = certificate_for("a.com").signed_by(&key, &authority.0).unwrap();
    let long = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let chain = vec![leaf.der().clone(), long.der().clone()];
    server(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// An authority in between that may only speak for another name.
fn constrained(authority: &Authority) -> Receiver {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Only for b.com");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("b.com".to_owned())],
        excluded_subtrees: Vec::new(),
    });
    let key = KeyPair::generate().unwrap();
    let between = CertifiedIssuer::signed_by(params, key, &authority.0).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = certificate_for("a.com").signed_by(&key, &between).unwrap();
    let chain = vec![leaf.der().clone(), between.der().clone()];
    server(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

/// A record of TLS (RFC 5246, section 6.2.1).
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 3, 3], &(payload.len() as u16).to_be_bytes()[..], payload].concat()
}

/// A fatal alert (RFC 5246, section 7.2).
fn alert(description: u8) -> Vec<u8> {
    record(21, &[2, description])
}

/// A server's greeting (RFC 5246, section 7.4.1.3) that chose this version and cipher suite.
fn greeting(version: [u8; 2], cipher_suite: [u8; 2]) -> Vec<u8> {
    let hello = [&version[..], &[7; 32], &[0], &cipher_suite, &[0]].concat();
    record(22, &[&[2, 0, 0, hello.len() as u8], &hello[..]].concat())
}

/// ECDHE-ECDSA-AES128-GCM-SHA256, which we offer; and AES128-SHA without forward secrecy.
const OFFERED: [u8; 2] = [0xc0, 0x2b];
const NOT_OFFERED: [u8; 2] = [0x00, 0x2f];

fn faults() -> Vec<Fault> {
    let authority = Authority::new();
    let issued = |change: fn(&mut CertificateParams)| {
        let mut params = certificate_for("a.com");
        change(&mut params);
        Receiver::Server(Arc::new(authority.server(&params, &[])))
    };
    let fault = |name, receiver, detail| Fault { name, receiver, roots: authority.roots(), detail };
    vec![
        fault(
            "expired",
            issued(|params| {
                params.not_before = date_time_ymd(2019, 1, 1);
                params.not_after = date_time_ymd(2020, 1, 1);
            }),
            "certificate expired",
        ),
        fault(
            "not yet valid",
            issued(|params| params.not_before = date_time_ymd(4000, 1, 1)),
            "certificate not valid yet",
        ),
        fault(
            "another name",
            Receiver::Server(Arc::new(authority.server(&certificate_for("b.com"), &[]))),
            "not valid for name \"a.com\"",
        ),
        fault("self-signed", self_signed(IsCa::NoCa), "SelfSigned"),
        fault(
            "self-signed authority",
            self_signed(IsCa::Ca(BasicConstraints::Unconstrained)),
            "CaUsedAsEndEntity",
        ),
        Fault {
            name: "unknown authority",
            receiver: issued(|_| {}),
            roots: roots_from(SHA1_ROOT),
            detail: "UnknownIssuer",
        },
        fault("TLS 1.0", Receiver::Words(greeting([3, 1], NOT_OFFERED)), "Tls12"),
        fault("TLS 1.1", Receiver::Words(greeting([3, 2], OFFERED)), "Tls12"),
        fault("only old versions", Receiver::Words(alert(70)), "ProtocolVersion"),
        fault("no shared cipher", Receiver::Words(alert(40)), "HandshakeFailure"),
        fault(
            "a cipher of its own",
            Receiver::Words(greeting([3, 3], NOT_OFFERED)),
            "UnofferedCipherSuite",
        ),
        fault("a stalled handshake", Receiver::Words(Vec::new()), "did not end in time"),
        fault(
            "half a greeting",
            Receiver::Words(greeting([3, 3], OFFERED)[..20].to_vec()),
            "did not end in time",
        ),
        fault("an endless chain", endless_chain(&authority), "HandshakePayloadTooLarge"),
        Fault {
            name: "a signature over SHA-1",
            receiver: from_pem(SHA1),
            roots: roots_from(SHA1_ROOT),
            detail: "UnsupportedSignatureAlgorithm",
        },
        Fault {
            name: "a weak authority",
            receiver: from_pem(RSA_1024),
            roots: roots_from(RSA_1024_ROOT),
            detail: "BadSignature",
        },
        fault(
            "for clients only",
            issued(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            "extended key usage",
        ),
        fault("beyond its authority", constrained(&authority), "NameConstraintViolation"),
    ]
}

/// Serves one connection; everything the receiver could read of a request ends up in `heard`.
fn serving(receiver: Receiver, heard: Arc<Mutex<Vec<u8>>>) -> Route {
    let acceptor = match &receiver {
        Receiver::Server(config) => Some(tokio_rustls::TlsAcceptor::from(Arc::clone(config))),
        Receiver::Words(_) => None,
    };
    let words = match receiver {
        Receiver::Server(_) => Vec::new(),
        Receiver::Words(words) => words,
    };
    script(move |_, mut stream| {
        let (acceptor, words, heard) = (acceptor.clone(), words.clone(), Arc::clone(&heard));
        async move {
            let mut read = Vec::new();
            if let Some(acceptor) = acceptor {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = stream.read_to_end(&mut read).await;
                }
            } else {
                let mut hello = vec![0; 16 * 1024];
                let length = stream.read(&mut hello).await.unwrap();
                let _ = stream.write_all(&words).await;
                let _ = stream.read_to_end(&mut read).await;
                // Without keys there is nothing to hide behind: all it got are greeting and alert.
                assert_eq!(hello[0], 22, "a handshake record");
                assert!(read.is_empty() || read[0] == 21, "{read:?} after {length} bytes");
                read.clear();
            }
            heard.lock().unwrap().extend(read);
        }
    })
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_tls_is_refused_in_its_own_words_and_hears_nothing() {
    let mut details = HashSet::new();
    for Fault { name, receiver, roots, detail } in faults() {
        let heard = Arc::default();
        let bench = bench_with(policy(), serving(receiver, Arc::clone(&heard)), roots);
        let exchange = bench.post("https://a.com/").await;
        assert_failed(&exchange, Failure::Tls, detail);
        let limit = if detail.contains("in time") { 5 * SECOND } else { Duration::ZERO };
        assert!(exchange.duration.abs_diff(limit) < SECOND, "{name}: {exchange:?}");
        assert!(heard.lock().unwrap().is_empty(), "{name}");
        details.insert(detail);
    }
    assert_eq!(details.len(), 16, "of 18 faults, only the old versions and the stalls are alike");
}

#[tokio::test]
async fn a_good_certificate_is_believed_although_its_neighbours_are_not() {
    let authority = Authority::new();
    let mut params = certificate_for("a.com");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let config = authority.server(&params, &[]);
    let heard = Arc::default();
    let route = serving(Receiver::Server(Arc::new(config)), Arc::clone(&heard));
    let bench = bench_with(policy(), route, authority.roots());
    let exchange = bench.post_within("https://a.com/", SECOND / 10).await;
    assert_failed(&exchange, Failure::Timeout, "time limit");
    while heard.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(heard.lock().unwrap().starts_with(b"POST / HTTP/1.1\r\n"), "what is heard is seen");
}

#[tokio::test]
async fn the_words_of_a_certificate_are_cut_to_a_line() {
    let authority = Authority::new();
    let names: Vec<_> =
        (0..1_000).map(|number| format!("a-rather-long-name-{number}.com")).collect();
    let params = CertificateParams::new(names).unwrap();
    let receiver = Receiver::Server(Arc::new(authority.server(&params, &[])));
    let bench = bench_with(policy(), serving(receiver, Arc::default()), authority.roots());
    let exchange = bench.post("https://a.com/").await;
    assert_failed(&exchange, Failure::Tls, "not valid for name");
    let detail = exchange.detail.unwrap();
    assert!(detail.len() <= 512 && !detail.contains(char::is_control), "{detail}");
}
