//! Scripted resolvers, networks and receivers.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::attempt::{Failure, Outcome};
use domain::credentials::ClientIdentity;
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::{Exchange, Request, Sender};
use http_sender::HttpSender;
use http_sender::dial::{Dial, Dialled, Stream};
use http_sender::resolve::{DnsFailure, Found, Resolve};
use http_sender::tls::Roots;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A public address that nothing here ever really calls.
pub(crate) const PUBLIC: &str = "93.184.215.14";

pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Answers from a table; counts the questions.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Result<Vec<IpAddr>, DnsFailure>>>,
    questions: AtomicUsize,
}

impl Names {
    pub(crate) fn set(&self, name: &str, answers: &[&str]) {
        let answers = answers.iter().map(|answer| answer.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), Ok(answers));
    }

    pub(crate) fn fail(&self, name: &str, failure: DnsFailure) {
        self.answers.lock().unwrap().insert(name.to_owned(), Err(failure));
    }

    pub(crate) fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, name: &str) -> Result<Found, DnsFailure> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().get(name).cloned();
        match answer {
            Some(answer) => answer.map(|addresses| Found { addresses, aliases: Vec::new() }),
            None => std::future::pending().await,
        }
    }
}

pub(crate) type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a receiver does with one connection; the number counts connections from 0.
pub(crate) type Script = Arc<dyn Fn(usize, Box<dyn Stream>) -> Served + Send + Sync>;

/// What happens when an address is dialled.
#[derive(Clone)]
pub(crate) enum Route {
    /// A connection in memory, served by a script.
    Memory(Script),
    Refused,
    Silent,
    /// A connection whose other end is somebody else.
    Hijacked(SocketAddr, Script),
}

/// A network; remembers every address that was dialled.
pub(crate) struct Network {
    route: Mutex<Route>,
    by_address: Mutex<HashMap<IpAddr, Route>>,
    dialled: Mutex<Vec<SocketAddr>>,
    own: Mutex<Vec<IpAddr>>,
}

impl Network {
    pub(crate) fn new(route: Route) -> Arc<Self> {
        Arc::new(Self {
            route: Mutex::new(route),
            by_address: Mutex::default(),
            dialled: Mutex::default(),
            own: Mutex::default(),
        })
    }

    pub(crate) fn set(&self, address: &str, route: Route) {
        self.by_address.lock().unwrap().insert(address.parse().unwrap(), route);
    }

    pub(crate) fn own(&self, address: &str) {
        self.own.lock().unwrap().push(address.parse().unwrap());
    }

    pub(crate) fn dials(&self) -> usize {
        self.dialled.lock().unwrap().len()
    }

    pub(crate) fn dialled(&self) -> Vec<String> {
        self.dialled.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

fn served(script: &Script, number: usize) -> Box<dyn Stream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(script(number, Box::new(far)));
    Box::new(near)
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        let number = {
            let mut dialled = self.dialled.lock().unwrap();
            dialled.push(address);
            dialled.len() - 1
        };
        let special = self.by_address.lock().unwrap().get(&address.ip()).cloned();
        let route = special.unwrap_or_else(|| self.route.lock().unwrap().clone());
        match route {
            Route::Memory(script) => Ok(Dialled { stream: served(&script, number), peer: address }),
            Route::Hijacked(peer, script) => Ok(Dialled { stream: served(&script, number), peer }),
            Route::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
            Route::Silent => std::future::pending().await,
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.lock().unwrap().contains(&address)
    }
}

/// A sender with everything scripted, and handles on the parts.
pub(crate) struct Bench {
    pub(crate) sender: HttpSender,
    pub(crate) names: Arc<Names>,
    pub(crate) network: Arc<Network>,
}

/// `http` and `https` permitted; `a.com` and `b.com` are public names.
pub(crate) fn policy() -> UrlPolicy {
    UrlPolicy { allow_http: true, ..UrlPolicy::default() }
}

pub(crate) fn bench(route: Route) -> Bench {
    bench_with(policy(), route, Roots::none())
}

pub(crate) fn bench_with(policy: UrlPolicy, route: Route, roots: Roots) -> Bench {
    let names = Arc::new(Names::default());
    names.set("a.com", &[PUBLIC]);
    names.set("b.com", &[PUBLIC]);
    let network = Network::new(route);
    let sender = HttpSender::new(policy, Arc::clone(&names) as _, Arc::clone(&network) as _, roots);
    Bench { sender, names, network }
}

pub(crate) fn script<F, Fut>(serve: F) -> Route
where
    F: Fn(usize, Box<dyn Stream>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Route::Memory(Arc::new(move |number, stream| Box::pin(serve(number, stream))))
}

/// A receiver that answers every request on every connection with these bytes.
pub(crate) fn answering(answer: &'static [u8]) -> Route {
    script(move |_, mut stream| async move {
        while read_request(&mut stream).await.is_some() {
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    })
}

/// A receiver that accepts connections and does nothing with them.
pub(crate) fn silent() -> Route {
    script(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
}

/// A receiver that answers one request with these bytes, then keeps the connection open, silent.
pub(crate) fn answering_once(answer: Vec<u8>) -> Route {
    script(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One request with its body, as it came; `None` when the connection ended.
pub(crate) async fn read_request(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    loop {
        let head = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = head.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .map(|length| length.parse::<usize>().unwrap())
                .next()
                .unwrap_or(0);
            if body.len() >= length {
                return Some(String::from_utf8(request).unwrap());
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => request.extend_from_slice(&buffer[..read]),
        }
    }
}

impl Bench {
    pub(crate) async fn post(&self, url: &str) -> Exchange {
        self.post_within(url, LONG).await
    }

    pub(crate) async fn post_within(&self, url: &str, timeout: Duration) -> Exchange {
        self.sender.send(request(url, timeout)).await
    }

    /// Posts with a client certificate.
    pub(crate) async fn post_as(&self, url: &str, identity: Option<&ClientIdentity>) -> Exchange {
        self.sender.send(Request { identity: identity.cloned(), ..request(url, LONG) }).await
    }

    /// The number of the dialled connection that carried a request, seen from the receiver.
    pub(crate) fn dials(&self) -> usize {
        self.network.dials()
    }
}

pub(crate) fn request(url: &str, timeout: Duration) -> Request {
    Request {
        url: TargetUrl::from_stored(url).unwrap(),
        headers: vec![
            ("content-type".into(), "application/json".into()),
            ("user-agent".into(), "Postrider/0".into()),
            ("accept-encoding".into(), "identity".into()),
        ],
        body: Bytes::from_static(b"{}"),
        timeout,
        identity: None,
        credentials: None,
    }
}

#[track_caller]
pub(crate) fn assert_status(exchange: &Exchange, expected: u16) {
    assert_eq!(exchange.outcome.status(), Some(expected), "{exchange:?}");
}

#[track_caller]
pub(crate) fn assert_failed(exchange: &Exchange, expected: Failure, detail: &str) {
    assert_eq!(exchange.outcome, Outcome::Failed(expected), "{exchange:?}");
    assert!(exchange.detail.as_ref().unwrap().contains(detail), "{exchange:?}");
    assert!(exchange.response_excerpt.is_empty());
}
