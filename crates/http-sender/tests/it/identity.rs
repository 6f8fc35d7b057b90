//! Client certificates: shown to who asks, by the endpoint they belong to and by no other.

use std::sync::{Arc, Mutex};

use domain::attempt::Failure;
use domain::credentials::ClientIdentity;
use engine::sender::{IdentityRefusal, Sender as _};
use http_body_util::Full;
use hyper::Response;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncWriteExt;

use crate::secure::{Authority, Secured, answer_always, certificate_for, http2_receiver, secured};
use crate::support::*;

const URL: &str = "https://a.com/";

impl Authority {
    /// A client of that name with a certificate of this authority.
    fn client(&self, name: &str) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ClientIdentity::new(&certificate.pem(), &key.serialize_pem())
    }
}

/// The SHA-256 of a client's certificate, if it showed one.
type Certificate = Option<String>;

/// What receivers saw: the SHA-256 of the client's certificate, and how the session began.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<(Certificate, HandshakeKind)>>>);

impl Shown {
    fn note(&self, stream: &Secured) {
        let session = stream.get_ref().1;
        let first = session.peer_certificates().map(|chain| {
            let pem = rcgen_pem(&chain[0]);
            ClientIdentity::new(&pem, "").certificate_sha256().unwrap()
        });
        self.0.lock().unwrap().push((first, session.handshake_kind().unwrap()));
    }

    fn all(&self) -> Vec<(Certificate, HandshakeKind)> {
        self.0.lock().unwrap().clone()
    }
}

fn rcgen_pem(certificate: &[u8]) -> String {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn a_receiver_that_demands_a_certificate_lets_in_whom_it_knows() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (known, unknown) = (authority.client("shop"), stranger.client("shop"));
    for version in [&TLS12, &TLS13] {
        for alpn in ["http/1.1", "h2"] {
            let config = authority.server_asking(
                &certificate_for("a.com"),
                &[alpn],
                authority.demanded().build().unwrap(),
                &[version],
            );
            let route = if alpn == "h2" {
                http2_receiver(config, |_| async { Response::new(Full::default()) })
            } else {
                secured(config, answer_always)
            };
            let bench = bench_with(policy(), route, authority.roots());
            assert_status(&bench.post_as(URL, Some(&known)).await, 200);
            assert_failed(&bench.post_as(URL, Some(&unknown)).await, Failure::Tls, "");
            assert_failed(&bench.post_as(URL, None).await, Failure::Tls, "");
            // A connection that was let in serves its own endpoint again, and nobody else.
            assert_status(&bench.post_as(URL, Some(&known)).await, 200);
            assert_eq!(bench.dials(), 3);
        }
    }
}

#[tokio::test]
async fn endpoints_of_one_host_never_share_a_connection_unless_they_show_the_same_certificate() {
    let authority = Authority::new();
    let (blue, red) = (authority.client("blue"), authority.client("red"));
    for alpn in ["http/1.1", "h2"] {
        let judge = authority.demanded().allow_unauthenticated().build().unwrap();
        let config = authority.server_asking(
            &certificate_for("a.com"),
            &[alpn],
            judge,
            rustls::ALL_VERSIONS,
        );
        let shown = Shown::default();
        let noted = shown.clone();
        let route = if alpn == "h2" {
            let ok = |_| async {
                Ok::<_, std::convert::Infallible>(Response::new(Full::<bytes::Bytes>::default()))
            };
            secured(config, move |_, stream| {
                noted.note(&stream);
                async move {
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let server = hyper::server::conn::http2::Builder::new(executor);
                    let stream = hyper_util::rt::TokioIo::new(stream);
                    let _ = server.serve_connection(stream, hyper::service::service_fn(ok)).await;
                }
            })
        } else {
            secured(config, move |number, stream| {
                noted.note(&stream);
                answer_always(number, stream)
            })
        };
        let bench = bench_with(policy(), route, authority.roots());
        let blue_again = ClientIdentity::new(blue.certificate_chain(), blue.private_key());
        for _ in 0..3 {
            for identity in [Some(&blue), Some(&red), None, Some(&blue_again)] {
                assert_status(&bench.post_as(URL, identity).await, 200);
            }
        }
        let certificates: Vec<_> = shown.all().into_iter().map(|(shown, _)| shown).collect();
        let expected = [blue.certificate_sha256(), red.certificate_sha256(), None];
        assert_eq!(certificates, expected, "{alpn}");
    }
}

#[tokio::test]
async fn a_session_is_resumed_only_for_the_certificate_it_began_with() {
    let authority = Authority::new();
    let (blue, red) = (authority.client("blue"), authority.client("red"));
    for version in [&TLS12, &TLS13] {
        let judge = authority.demanded().allow_unauthenticated().build().unwrap();
        let config = authority.server_asking(&certificate_for("a.com"), &[], judge, &[version]);
        let shown = Shown::default();
        let noted = shown.clone();
        let route = secured(config, move |_, mut stream| {
            noted.note(&stream);
            async move {
                read_request(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(answer).await.unwrap();
                let _ = stream.shutdown().await;
            }
        });
        let bench = bench_with(policy(), route, authority.roots());
        let identities = [Some(&blue), Some(&red), None];
        for identity in identities.into_iter().chain(identities) {
            assert_status(&bench.post_as(URL, identity).await, 200);
        }
        let sha256 = |identity: Option<&ClientIdentity>| {
            identity.and_then(ClientIdentity::certificate_sha256)
        };
        let first = identities.map(|identity| (sha256(identity), HandshakeKind::Full));
        let second = identities.map(|identity| (sha256(identity), HandshakeKind::Resumed));
        assert_eq!(shown.all(), [first, second].concat(), "{version:?}");
    }
}

const RSA: (&str, &str) =
    (include_str!("../fixtures/client/rsa.crt"), include_str!("../fixtures/client/rsa_pkcs1.key"));
const P256: (&str, &str) =
    (include_str!("../fixtures/client/p256.crt"), include_str!("../fixtures/client/p256_sec1.key"));
const P521: (&str, &str) =
    (include_str!("../fixtures/client/p521.crt"), include_str!("../fixtures/client/p521_sec1.key"));
const ENCRYPTED: &str = include_str!("../fixtures/client/p256_encrypted.key");

#[test]
fn an_identity_is_checked_before_it_is_taken() {
    let sender = bench(Route::Refused).sender;
    let check = |chain: &str, key: &str| sender.check_identity(&ClientIdentity::new(chain, key));
    let authority = Authority::new();
    let pkcs8 = authority.client("shop");
    let own = authority.0.pem();
    for (chain, key) in [
        RSA,
        P256,
        (pkcs8.certificate_chain(), pkcs8.private_key()),
        (&(pkcs8.certificate_chain().to_owned() + &own), pkcs8.private_key()),
    ] {
        assert_eq!(check(chain, key), Ok(()));
    }
    let broken = P256.0.replacen("MII", "AII", 1);
    for (chain, reason) in [
        ("", "must hold at least one certificate in PEM"),
        ("certificate", "must hold at least one certificate in PEM"),
        (&P256.0[..200], "is not well-formed PEM at certificate 1"),
        (&(P256.0.to_owned() + &P256.0[..200]), "is not well-formed PEM at certificate 2"),
        (&broken, "has no X.509 certificate at 1"),
        (&(P256.0.to_owned() + &broken), "has no X.509 certificate at 2"),
        (&(P256.0.to_owned() + P256.1), "must hold nothing but certificates"),
    ] {
        match check(chain, P256.1) {
            Err(IdentityRefusal::Certificate(text)) => {
                assert!(text.starts_with(reason), "{text} for {chain}");
            }
            other => panic!("{other:?} for {chain}"),
        }
    }
    let not_a_key = "must be one unencrypted private key in PEM (PKCS#8, PKCS#1 or SEC1)";
    for (chain, key, reason) in [
        (P256.0, "", not_a_key),
        (P256.0, P256.0, not_a_key),
        (P256.0, ENCRYPTED, not_a_key),
        (P521.0, P521.1, "is of no known kind"),
        (P256.0, RSA.1, "does not belong to the first certificate of the chain"),
        (
            &(own + pkcs8.certificate_chain()),
            pkcs8.private_key(),
            "does not belong to the first certificate of the chain",
        ),
    ] {
        match check(chain, key) {
            Err(IdentityRefusal::Key(text)) => assert!(text.starts_with(reason), "{text}"),
            other => panic!("{other:?} for {key}"),
        }
    }
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_fails_before_anything_is_sent() {
    let bench = bench(silent());
    let useless = ClientIdentity::new(P256.0, RSA.1);
    let exchange = bench.post_as(URL, Some(&useless)).await;
    assert_failed(&exchange, Failure::Credentials, "does not belong");
    assert_eq!(bench.dials(), 0);
}
