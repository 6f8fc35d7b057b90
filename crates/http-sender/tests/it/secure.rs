//! TLS and HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::attempt::Failure;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use http_sender::dial::Stream;
use http_sender::tls::{Roots, RootsError};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientCertVerifierBuilder, NoClientAuth, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::io::AsyncWriteExt;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::*;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Authority(pub(crate) CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn roots(&self) -> Roots {
        let mut roots = Roots::none();
        assert_eq!(roots.add_pem(self.0.pem().as_bytes()).unwrap(), 1);
        roots
    }

    pub(crate) fn server(&self, params: &CertificateParams, alpn: &[&str]) -> ServerConfig {
        self.server_asking(params, alpn, Arc::new(NoClientAuth), rustls::ALL_VERSIONS)
    }

    /// A server that judges client certificates so.
    pub(crate) fn server_asking(
        &self,
        params: &CertificateParams,
        alpn: &[&str],
        judge: Arc<dyn ClientCertVerifier>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(judge)
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// Demands certificates of this authority.
    pub(crate) fn demanded(&self) -> ClientCertVerifierBuilder {
        let mut trusted = rustls::RootCertStore::empty();
        trusted.add(self.0.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider)
    }
}

pub(crate) fn certificate_for(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

pub(crate) type Secured = TlsStream<Box<dyn Stream>>;

/// A receiver behind TLS; connections whose handshake fails are dropped.
pub(crate) fn secured<F, Fut>(config: ServerConfig, serve: F) -> Route
where
    F: Fn(usize, Secured) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let acceptor = TlsAcceptor::from(Arc::new(config));
    script(move |number, stream| {
        let (acceptor, serve) = (acceptor.clone(), serve.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(number, stream).await;
            }
        }
    })
}

pub(crate) async fn answer_always(_: usize, mut stream: Secured) {
    while read_request(&mut stream).await.is_some() {
        stream.write_all(OK).await.unwrap();
    }
}

/// A receiver that speaks HTTP/2.
pub(crate) fn http2_receiver<F, Fut>(config: ServerConfig, serve: F) -> Route
where
    F: Fn(Request<Incoming>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    secured(config, move |_, stream| {
        let serve = serve.clone();
        async move {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let service = service_fn(move |request| {
                let serve = serve.clone();
                async move { Ok::<_, Infallible>(serve(request).await) }
            });
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        }
    })
}

fn ok() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"ok")))
}

#[tokio::test]
async fn http_1_1_is_spoken_over_tls_when_the_receiver_has_nothing_else() {
    for alpn in [&[][..], &["http/1.1"]] {
        let authority = Authority::new();
        let config = authority.server(&certificate_for("a.com"), alpn);
        let route = secured(config, |number, stream| async move {
            assert_eq!(stream.get_ref().1.server_name(), Some("a.com"));
            answer_always(number, stream).await;
        });
        let bench = bench_with(policy(), route, authority.roots());
        let exchange = bench.post("https://a.com/").await;
        assert_status(&exchange, 200);
        assert!(exchange.phases.tls > Duration::ZERO);
        assert_status(&bench.post("https://a.com/").await, 200);
        assert_eq!(bench.network.dialled(), [format!("{PUBLIC}:443")]);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_a_tls_failure() {
    let authority = Authority::new();
    let mut expired = certificate_for("a.com");
    expired.not_before = date_time_ymd(2019, 1, 1);
    expired.not_after = date_time_ymd(2020, 1, 1);
    for (params, roots, detail) in [
        (certificate_for("b.com"), authority.roots(), "not valid for name"),
        (expired, authority.roots(), "expired"),
        (certificate_for("a.com"), Authority::new().roots(), "certificate"),
        (certificate_for("a.com"), Roots::none(), "UnknownIssuer"),
    ] {
        let route = secured(authority.server(&params, &[]), |_, mut stream| async move {
            assert_eq!(read_request(&mut stream).await, None, "a request was sent");
        });
        let exchange = bench_with(policy(), route, roots).post("https://a.com/").await;
        assert_failed(&exchange, Failure::Tls, detail);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_is_a_tls_failure() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let route = script(move |_, mut stream| async move {
            let _ = stream.write_all(answer).await;
        });
        assert_failed(&bench(route).post("https://a.com/").await, Failure::Tls, "");
    }
}

#[tokio::test]
async fn a_receiver_that_wants_a_client_certificate_gets_none_unless_the_endpoint_has_one() {
    let authority = Authority::new();
    for alpn in ["http/1.1", "h2"] {
        let config = authority.server_asking(
            &certificate_for("a.com"),
            &[alpn],
            authority.demanded().build().unwrap(),
            rustls::ALL_VERSIONS,
        );
        let route = secured(config, answer_always);
        let bench = bench_with(policy(), route, authority.roots());
        assert_failed(&bench.post("https://a.com/").await, Failure::Tls, "CertificateRequired");
    }
}

#[tokio::test(start_paused = true)]
async fn http_2_is_chosen_by_alpn_and_one_connection_carries_all_requests() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2", "http/1.1"]);
    let route = http2_receiver(config, |request| async move {
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri().to_string(), "https://a.com/hook?x=1");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert!(!request.headers().contains_key("host"));
        assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "{}");
        sleep(SECOND).await;
        ok()
    });
    let bench = Arc::new(bench_with(policy(), route, authority.roots()));
    let exchange = bench.post("https://a.com/hook?x=1").await;
    assert_status(&exchange, 200);
    assert_eq!(exchange.response_excerpt, "ok");
    let wave: Vec<_> = (0..64)
        .map(|_| {
            let bench = Arc::clone(&bench);
            tokio::spawn(async move { bench.post("https://a.com/hook?x=1").await })
        })
        .collect();
    for request in wave {
        assert_status(&request.await.unwrap(), 200);
    }
    assert_eq!(bench.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_http_2_connection_lives_for_five_minutes_and_lies_idle_for_less() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let route = http2_receiver(config, |_| async { ok() });
    let bench = bench_with(policy(), route, authority.roots());
    for _ in 0..60 {
        bench.post("https://a.com/").await;
        sleep(5 * SECOND).await;
    }
    assert_eq!(bench.dials(), 1);
    bench.post("https://a.com/").await;
    assert_eq!(bench.dials(), 2, "too old");
    sleep(30 * SECOND).await;
    bench.post("https://a.com/").await;
    assert_eq!(bench.dials(), 3, "too long idle");
}

#[tokio::test]
async fn the_limits_of_a_head_hold_for_http_2() {
    let authority = Authority::new();
    for (fields, bytes, early) in
        [(101, 1, true), (101, 1, false), (1, 20_000, true), (1, 20_000, false)]
    {
        let config = authority.server(&certificate_for("a.com"), &["h2"]);
        let route = http2_receiver(config, move |request| async move {
            if !early {
                request.into_body().collect().await.unwrap();
            }
            let mut response = ok();
            for number in 0..fields {
                let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
                response.headers_mut().insert(name, "y".repeat(bytes).parse().unwrap());
            }
            response
        });
        let bench = bench_with(policy(), route, authority.roots());
        let exchange = bench.post("https://a.com/").await;
        assert_failed(&exchange, Failure::Protocol, "");
    }
}

#[tokio::test]
async fn an_early_answer_counts_over_http_2_too() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let route = http2_receiver(config, |_| async {
        let mut response = ok();
        *response.status_mut() = http::StatusCode::PAYLOAD_TOO_LARGE;
        response
    });
    let bench = bench_with(policy(), route, authority.roots());
    for _ in 0..3 {
        let mut request = request("https://a.com/", LONG);
        request.body = vec![b'x'; 1024 * 1024].into();
        let exchange = engine::sender::Sender::send(&bench.sender, request).await;
        assert_status(&exchange, 413);
    }
    assert_eq!(bench.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_http_2_body_without_end_is_cut_off() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let route = http2_receiver(config, |_| async {
        Response::new(Full::new(Bytes::from(vec![b'y'; 1024 * 1024])))
    });
    let bench = bench_with(policy(), route, authority.roots());
    for _ in 0..3 {
        let exchange = bench.post("https://a.com/").await;
        assert_status(&exchange, 200);
        assert_eq!(exchange.response_excerpt, "y".repeat(8 * 1024));
        assert!(exchange.duration < SECOND);
    }
    assert_eq!(bench.dials(), 1);
}

#[tokio::test]
async fn an_http_2_connection_that_died_is_replaced_at_once() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    let route = secured(config, move |number, stream| {
        let count = Arc::clone(&count);
        async move {
            let (die, mut dying) = tokio::sync::mpsc::channel(1);
            let service = service_fn(move |_: Request<Incoming>| {
                let (count, die) = (Arc::clone(&count), die.clone());
                async move {
                    let served = count.fetch_add(1, Ordering::SeqCst);
                    if number == 0 && served == 1 {
                        die.send(()).await.unwrap();
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, Infallible>(ok())
                }
            });
            let server = http2::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = server.serve_connection(TokioIo::new(stream), service) => {}
                _ = dying.recv() => {}
            }
        }
    });
    let bench = bench_with(policy(), route, authority.roots());
    for _ in 0..3 {
        assert_status(&bench.post("https://a.com/").await, 200);
    }
    assert_eq!((bench.dials(), served.load(Ordering::SeqCst)), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn an_http_2_connection_on_which_a_request_came_to_no_end_gets_no_more() {
    let authority = Authority::new();
    let config = authority.server(&certificate_for("a.com"), &["h2"]);
    let served = Arc::new(AtomicUsize::new(0));
    let route = http2_receiver(config, move |_| {
        let first = served.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            ok()
        }
    });
    let bench = bench_with(policy(), route, authority.roots());
    assert_failed(&bench.post_within("https://a.com/", SECOND).await, Failure::Timeout, "");
    assert_status(&bench.post_within("https://a.com/", SECOND).await, 200);
    assert_eq!(bench.dials(), 2);
}

#[test]
fn additional_roots_are_refused_when_they_are_none() {
    let mut roots = Roots::none();
    assert!(matches!(roots.add_pem(b""), Err(RootsError::Empty)));
    assert!(matches!(
        roots.add_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        Err(RootsError::Certificate(_))
    ));
    assert!(matches!(
        roots.add_pem(b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n"),
        Err(RootsError::Pem(_))
    ));
}
