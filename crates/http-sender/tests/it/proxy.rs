//! Through the operator's egress proxy, which is asked for judged addresses only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::attempt::Failure;
use domain::target_url::TargetUrl;
use engine::sender::Sender;
use http_sender::HttpSender;
use http_sender::dial::Stream;
use http_sender::proxy::ProxyDial;
use http_sender::tls::Roots;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::support::*;

const PUBLIC_V6: &str = "2606:4700::1111";
const HTTP: &str = "http://10.0.0.9:3128";
const SOCKS: &str = "socks5://10.0.0.9:1080";

/// A sender whose way out is this proxy, served by this route.
fn proxied(proxy: &str, route: Route, roots: Roots) -> Bench {
    let names = Arc::new(Names::default());
    names.set("a.com", &[PUBLIC]);
    names.set("six.com", &[PUBLIC_V6]);
    let network = Network::new(route);
    let dialer = ProxyDial::new(proxy.parse().unwrap(), Arc::clone(&network) as _);
    let sender = HttpSender::new(policy(), Arc::clone(&names) as _, Arc::new(dialer), roots);
    Bench { sender, names, network }
}

/// What a proxy was asked for.
type Asked = Arc<Mutex<Vec<String>>>;

/// A right proxy that writes down the target and then is the receiver, served by `serve`.
fn tunnel<F, Fut>(asked: &Asked, serve: F) -> Route
where
    F: Fn(Box<dyn Stream>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let asked = Arc::clone(asked);
    script(move |_, mut stream| {
        let (asked, serve) = (Arc::clone(&asked), serve.clone());
        async move {
            let first = stream.read_u8().await.unwrap();
            let target = match first {
                5 => socks_target(&mut stream).await,
                first => connect_target(first, &mut stream).await,
            };
            asked.lock().unwrap().push(target);
            serve(stream).await;
        }
    })
}

async fn connect_target(first: u8, stream: &mut Box<dyn Stream>) -> String {
    let head = read_request(stream).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n").await.unwrap();
    format!("{}{head}", char::from(first))
}

/// RFC 1928: the methods, then the request; any kind of target is understood.
async fn socks_target(stream: &mut Box<dyn Stream>) -> String {
    let count = stream.read_u8().await.unwrap();
    let mut methods = vec![0; usize::from(count)];
    stream.read_exact(&mut methods).await.unwrap();
    stream.write_all(&[5, 0]).await.unwrap();
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[..3], [5, 1, 0], "CONNECT");
    let host = match head[3] {
        1 => IpAddr::from(Ipv4Addr::from(stream.read_u32().await.unwrap())),
        4 => IpAddr::from(Ipv6Addr::from(stream.read_u128().await.unwrap())),
        kind => panic!("asked for an address of kind {kind}"),
    };
    let port = stream.read_u16().await.unwrap();
    // Bound to a name, which only changes the length of the answer.
    stream.write_all(&[5, 0, 0, 3, 2, b'm', b'e', 1, 1]).await.unwrap();
    SocketAddr::new(host, port).to_string()
}

/// Answers plain HTTP for as long as it is asked.
async fn answer(mut stream: Box<dyn Stream>) {
    while let Some(request) = read_request(&mut stream).await {
        let host = request.lines().find_map(|line| line.strip_prefix("Host: ")).unwrap();
        assert!(host.contains(".com"), "the host is still the receiver's name: {request}");
        assert!(!request.contains("Proxy-"), "{request}");
        stream.write_all(OK).await.unwrap();
    }
}

#[tokio::test]
async fn the_proxy_is_asked_for_the_judged_address_and_never_for_the_name() {
    for (proxy, dialled) in [(HTTP, "10.0.0.9:3128"), (SOCKS, "10.0.0.9:1080")] {
        let asked = Asked::default();
        let bench = proxied(proxy, tunnel(&asked, answer), Roots::none());
        for url in
            ["http://a.com/hook", "http://a.com/again", "http://six.com/", "http://a.com:8443/"]
        {
            assert_status(&bench.post(url).await, 200);
        }
        let connect = |target| format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let targets =
            [format!("{PUBLIC}:80"), format!("[{PUBLIC_V6}]:80"), format!("{PUBLIC}:8443")];
        let expected = if proxy == HTTP { targets.map(connect) } else { targets };
        assert_eq!(*asked.lock().unwrap(), expected);
        assert_eq!(bench.network.dialled(), [dialled; 3], "the proxy's address is not judged");
        let url = TargetUrl::from_stored("http://six.com:8443/").unwrap();
        assert_eq!(bench.sender.probe(&url, None, LONG).await.status(), Some(200));
        assert!(asked.lock().unwrap()[3].contains(PUBLIC_V6));
    }
}

#[tokio::test]
async fn tls_goes_through_the_tunnel_to_the_name() {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.com".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for proxy in [HTTP, SOCKS] {
        let asked = Asked::default();
        let acceptor = acceptor.clone();
        let route = tunnel(&asked, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                // The certificate for a.com is refused for six.com.
                let Ok(stream) = acceptor.accept(stream).await else { return };
                assert_eq!(stream.get_ref().1.server_name(), Some("a.com"));
                answer(Box::new(stream)).await;
            }
        });
        let mut roots = Roots::none();
        roots.add_pem(issuer.pem().as_bytes()).unwrap();
        let bench = proxied(proxy, route, roots);
        assert_status(&bench.post("https://a.com/hook").await, 200);
        assert_failed(
            &bench.post("https://six.com/hook").await,
            Failure::Tls,
            "not valid for name",
        );
        let asked = asked.lock().unwrap();
        assert!(asked[0].contains(&format!("{PUBLIC}:443")), "{asked:?}");
        assert!(!asked.concat().contains(".com"), "{asked:?}");
    }
}

#[tokio::test]
async fn a_forbidden_target_is_never_asked_for() {
    for proxy in [HTTP, SOCKS] {
        let asked = Asked::default();
        let bench = proxied(proxy, tunnel(&asked, answer), Roots::none());
        for (answers, code) in [
            (&["127.0.0.1"][..], "DNS_FORBIDDEN"),
            (&["10.0.0.9"], "DNS_FORBIDDEN"),
            (&["169.254.169.254"], "DNS_FORBIDDEN"),
            (&["::1"], "DNS_FORBIDDEN"),
            (&["::ffff:10.0.0.1"], "DNS_FORBIDDEN"),
            (&[PUBLIC, "10.0.0.9"], "DNS_MIXED"),
        ] {
            bench.names.set("a.com", answers);
            assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, code);
            let url = TargetUrl::from_stored("http://a.com/").unwrap();
            let probed = bench.sender.probe(&url, None, LONG).await;
            assert_eq!(probed.status(), None);
        }
        bench.network.own(PUBLIC);
        bench.names.set("a.com", &[PUBLIC]);
        assert_failed(&bench.post("http://a.com/").await, Failure::Blocked, "OWN_ADDRESS");
        assert_failed(&bench.post("http://10.0.0.9:3128/").await, Failure::Blocked, "IP_FORBIDDEN");
        assert_eq!((bench.dials(), asked.lock().unwrap().len()), (0, 0), "not even the proxy");
    }
}

#[tokio::test]
async fn credentials_go_to_the_proxy_alone() {
    let route = script(|_, mut stream| async move {
        let head = read_request(&mut stream).await.unwrap();
        let basic = "Proxy-Authorization: Basic d2FsdGVyOnM6ZWM=\r\n";
        assert!(head.ends_with(&format!("{basic}\r\n")), "{head}");
        stream.write_all(b"HTTP/1.0 200 Fine\r\n\r\n").await.unwrap();
        answer(stream).await;
    });
    let bench = proxied("http://walter:s%3Aec@10.0.0.9:3128", route, Roots::none());
    assert_status(&bench.post("http://a.com/").await, 200);

    let route = script(|_, mut stream| async move {
        let mut methods = [0; 4];
        stream.read_exact(&mut methods).await.unwrap();
        assert_eq!(methods, [5, 2, 0, 2]);
        stream.write_all(&[5, 2]).await.unwrap();
        let mut message = [0; 13];
        stream.read_exact(&mut message).await.unwrap();
        assert_eq!(&message, b"\x01\x06walter\x04s:ec");
        stream.write_all(&[1, 0]).await.unwrap();
        let mut request = [0; 10];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, [5, 1, 0, 1, 93, 184, 215, 14, 0, 80]);
        stream.write_all(&[&[5, 0, 0, 4][..], &[0; 18]].concat()).await.unwrap();
        answer(stream).await;
    });
    let bench = proxied("socks5://walter:s%3Aec@10.0.0.9:1080", route, Roots::none());
    assert_status(&bench.post("http://a.com/").await, 200);

    // A proxy that wants none is not told.
    let asked = Asked::default();
    let bench = proxied("socks5://u:p@10.0.0.9:1", tunnel(&asked, answer), Roots::none());
    assert_status(&bench.post("http://a.com/").await, 200);
}

/// A proxy that answers what it is sent, piece by piece, and asserts that nothing but the asking
/// comes: no byte of the delivery.
fn refusing(answers: &[&[u8]]) -> Route {
    let answers: Vec<_> = answers.iter().map(|answer| answer.to_vec()).collect();
    script(move |_, mut stream| {
        let answers = answers.clone();
        async move {
            for answer in answers {
                let mut heard = [0; 1_024];
                let read = stream.read(&mut heard).await.unwrap();
                assert!(!heard[..read].windows(4).any(|word| word == b"POST"));
                let _ = stream.write_all(&answer).await;
            }
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        }
    })
}

#[tokio::test]
async fn a_proxy_that_refuses_or_answers_nonsense_is_a_connect_failure() {
    static LONG_HEAD: [u8; 20_000] = [b'x'; 20_000];
    for (answers, detail) in [
        (&[&b"HTTP/1.1 403 Forbidden\r\n\r\n"[..]][..], "answered CONNECT with 403"),
        (&[b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n"], "answered CONNECT with 407"),
        (&[b"HTTP/1.1 502 Bad Gateway\r\n\r\n"], "502"),
        (&[b"HTTP/1.1 301 Moved\r\nLocation: http://a.com/\r\n\r\n"], "301"),
        (&[b"HTTP/1.1 101 Switching\r\n\r\n"], "101"),
        (&[b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], "sent more than its answer"),
        (&[b"HTTP/1.1 2000 OK\r\n\r\n"], "did not answer CONNECT in HTTP/1.1"),
        (&[b"HTTP/1.1 +20 OK\r\n\r\n"], "did not answer CONNECT in HTTP/1.1"),
        (&[b"HTTP/2 200 OK\r\n\r\n"], "did not answer CONNECT in HTTP/1.1"),
        (&[b"SSH-2.0-x\r\n\r\n"], "did not answer CONNECT in HTTP/1.1"),
        (&[&LONG_HEAD], "answered without an end"),
    ] {
        let bench = proxied(HTTP, refusing(answers), Roots::none());
        let exchange = bench.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, "the egress proxy");
        assert_failed(&exchange, Failure::Connect, detail);
    }
    for (answers, detail) in [
        (&[&[5, 0xff][..]][..], "asks for credentials"),
        (&[&[5, 2]], "does not speak SOCKS5"),
        (&[&[4, 0]], "does not speak SOCKS5"),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "does not speak SOCKS5"),
        (&[&[5, 0], &[5, 1, 0, 1]], "refused: general failure"),
        (&[&[5, 0], &[5, 2, 0, 1]], "refused: not allowed by its rules"),
        (&[&[5, 0], &[5, 5, 0, 1]], "refused: connection refused"),
        (&[&[5, 0], &[5, 99, 0, 1]], "refused: no known reason"),
        (&[&[5, 0], &[4, 0, 0, 1]], "does not speak SOCKS5"),
        (&[&[5, 0], &[5, 0, 0, 9]], "an address of no known kind"),
    ] {
        let bench = proxied(SOCKS, refusing(answers), Roots::none());
        let exchange = bench.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, "the egress proxy");
        assert_failed(&exchange, Failure::Connect, detail);
    }
    for (answers, detail) in [
        (&[&[5, 0xff][..]][..], "takes no user name and password"),
        (&[&[5, 2], &[1, 1]], "refused user name and password"),
        (&[&[5, 2], &[5, 0]], "does not speak SOCKS5"),
    ] {
        let bench = proxied("socks5://walter:secret@10.0.0.9:1", refusing(answers), Roots::none());
        let exchange = bench.post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, detail);
        assert!(!exchange.detail.unwrap().contains("secret"));
    }
}

#[tokio::test]
async fn a_proxy_that_breaks_off_or_is_away_is_a_connect_failure() {
    for proxy in [HTTP, SOCKS] {
        let closing = script(|_, mut stream| async move {
            let _ = stream.read_u8().await;
        });
        let exchange = proxied(proxy, closing, Roots::none()).post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, "the egress proxy");
        let exchange = proxied(proxy, Route::Refused, Roots::none()).post("http://a.com/").await;
        assert_failed(&exchange, Failure::Connect, "the egress proxy cannot be reached");
        // Somebody else answers: it is not asked for anything.
        let stranger: Script = Arc::new(|_, mut stream| {
            Box::pin(async move {
                let mut heard = Vec::new();
                let _ = stream.read_to_end(&mut heard).await;
                assert_eq!(heard, b"", "a stranger was told the target");
            })
        });
        for peer in ["10.0.0.8:3128", "127.0.0.1:1080", "10.0.0.9:1"] {
            let hijacked = Route::Hijacked(peer.parse().unwrap(), Arc::clone(&stranger));
            let exchange = proxied(proxy, hijacked, Roots::none()).post("http://a.com/").await;
            assert_failed(&exchange, Failure::Connect, &format!("{peer} answered instead of"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_has_the_time_a_connection_has() {
    for proxy in [HTTP, SOCKS] {
        let trickling = script(move |_, mut stream| async move {
            let answer = if proxy == HTTP { &b"HTTP/1.1 200 "[..] } else { &[5] };
            let _ = stream.write_all(answer).await;
            while stream.write_all(if proxy == HTTP { b"x" } else { b"" }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        for route in [Route::Silent, silent(), trickling] {
            let bench = proxied(proxy, route, Roots::none());
            let began = Instant::now();
            let exchange = bench.post("http://a.com/").await;
            assert_failed(&exchange, Failure::Connect, "no answer in time");
            assert_eq!(began.elapsed(), Duration::from_secs(5));
        }
    }
}

#[tokio::test]
async fn the_next_address_is_asked_for_when_the_proxy_cannot_reach_one() {
    let asked = Asked::default();
    let noted = Arc::clone(&asked);
    let route = script(move |number, mut stream| {
        let noted = Arc::clone(&noted);
        async move {
            let request = read_request(&mut stream).await.unwrap();
            noted.lock().unwrap().push(request);
            if number == 0 {
                stream.write_all(b"HTTP/1.1 504 Timeout\r\n\r\n").await.unwrap();
            } else {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                answer(stream).await;
            }
        }
    });
    let bench = proxied(HTTP, route, Roots::none());
    bench.names.set("a.com", &["8.8.8.1", "8.8.8.2"]);
    assert_status(&bench.post("http://a.com/").await, 200);
    let asked = asked.lock().unwrap();
    assert!(
        asked[0].starts_with("CONNECT 8.8.8.1:80 ") && asked[1].starts_with("CONNECT 8.8.8.2:80 ")
    );
}

#[tokio::test]
async fn the_proxy_itself_may_be_a_name_that_the_system_knows() {
    let asked = Asked::default();
    let bench = proxied("http://localhost:3128", tunnel(&asked, answer), Roots::none());
    assert_status(&bench.post("http://a.com/").await, 200);
    let dialled: SocketAddr = bench.network.dialled()[0].parse().unwrap();
    assert!(dialled.ip().is_loopback() && dialled.port() == 3128, "{dialled}");
    assert_eq!(bench.names.questions(), 1, "asked for the receiver's name only");
}
