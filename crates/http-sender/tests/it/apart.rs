//! Names that share an address, a server and a certificate share nothing on our side: no connection,
//! no TLS session, whatever the server offers.

use std::sync::{Arc, Mutex};

use http_sender::dial::Stream;
use http_sender::tls::Roots;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::*;
use crate::world::OK_AND_CLOSE;

/// A server for both `a.com` and `b.com`, and whom to believe.
fn server_of_both(alpn: &[u8]) -> (TlsAcceptor, Roots) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["a.com".to_owned(), "b.com".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let mut roots = Roots::none();
    roots.add_pem(issuer.pem().as_bytes()).unwrap();
    (TlsAcceptor::from(Arc::new(config)), roots)
}

#[tokio::test]
async fn a_tls_session_is_resumed_for_its_own_name_only() {
    let (acceptor, roots) = server_of_both(b"http/1.1");
    let handshakes = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&handshakes);
    let route = script(move |_, stream| {
        let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let session = stream.get_ref().1;
            let kind = session.handshake_kind().unwrap();
            noted.lock().unwrap().push((session.server_name().unwrap().to_owned(), kind));
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK_AND_CLOSE.as_bytes()).await.unwrap();
        }
    });
    let bench = bench_with(policy(), route, roots);
    for name in ["a.com", "a.com", "b.com", "b.com", "a.com"] {
        assert_status(&bench.post(&format!("https://{name}/")).await, 200);
    }
    let expected = [
        ("a.com", HandshakeKind::Full),
        ("a.com", HandshakeKind::Resumed),
        ("b.com", HandshakeKind::Full),
        ("b.com", HandshakeKind::Resumed),
        ("a.com", HandshakeKind::Resumed),
    ];
    assert_eq!(*handshakes.lock().unwrap(), expected.map(|(name, kind)| (name.to_owned(), kind)));
}

/// One HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A text after its length.
fn counted(text: &[u8]) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// Serves HTTP/2 by hand: says that it speaks for `b.com` too and that everything is elsewhere, then
/// answers every request with 200.
async fn offer_other_origins(mut stream: TlsStream<Box<dyn Stream>>) -> std::io::Result<()> {
    const SETTINGS: u8 = 4;
    const ALTSVC: u8 = 0x0a;
    const ORIGIN: u8 = 0x0c;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.write_all(&frame(ORIGIN, 0, 0, &counted(b"https://b.com"))).await?;
    let elsewhere = [&counted(b"https://a.com")[..], b"h2=\"127.0.0.1:443\"; persist=1"].concat();
    stream.write_all(&frame(ALTSVC, 0, 0, &elsewhere)).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        let (kind, flags) = (head[3], head[4]);
        let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        if kind == SETTINGS && flags & 1 == 0 {
            stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
        }
        // DATA or HEADERS that end the request: `:status: 200` is field 8 of the static table.
        if kind <= 1 && flags & 1 == 1 {
            stream.write_all(&frame(ALTSVC, 0, number, &elsewhere[15..])).await?;
            stream.write_all(&frame(1, 0b101, number, &[0x88])).await?;
        }
    }
}

#[tokio::test]
async fn an_http_2_connection_serves_one_name_whatever_it_offers() {
    let (acceptor, roots) = server_of_both(b"h2");
    let names = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&names);
    let route = script(move |_, stream| {
        let (acceptor, noted) = (acceptor.clone(), Arc::clone(&noted));
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            noted.lock().unwrap().push(stream.get_ref().1.server_name().unwrap().to_owned());
            // Ends when the sender is gone.
            let _ = offer_other_origins(stream).await;
        }
    });
    let bench = bench_with(policy(), route, roots);
    for name in ["a.com", "b.com", "a.com", "b.com", "a.com"] {
        assert_status(&bench.post(&format!("https://{name}/")).await, 200);
    }
    assert_eq!(*names.lock().unwrap(), ["a.com", "b.com"]);
    assert_eq!(bench.network.dialled(), [format!("{PUBLIC}:443"), format!("{PUBLIC}:443")]);
}
