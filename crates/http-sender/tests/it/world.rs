//! A small internet: real DNS, real sockets, public addresses that lead to one receiver, and
//! everything else, private addresses above all, to a trap.
//!
//! What is proven with it is proven by counting: the trap accepts whoever comes, and nobody may.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::target_url::UrlPolicy;
use engine::sender::{Exchange, Sender};
use http_sender::HttpSender;
use http_sender::dial::{Dial, Dialled, TcpDial};
use http_sender::tls::Roots;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::dns::NameServer;
use crate::support::{LONG, PUBLIC, read_request, request};

/// Another public address of the receiver.
pub(crate) const PUBLIC_TOO: &str = "2606:4700::1111";

/// An answer after which the connection ends, so that the next request needs another.
pub(crate) const OK_AND_CLOSE: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// A listener on loopback that counts its connections.
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Place {
    /// Answers every request with these bytes.
    pub(crate) async fn open(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    while read_request(&mut stream).await.is_some() {
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// The way of packets: the receiver's addresses lead to it, all others to the trap.
pub(crate) struct Roads {
    public: Vec<IpAddr>,
    receiver: SocketAddr,
    trap: SocketAddr,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Roads {
    pub(crate) fn dialled(&self) -> Vec<String> {
        self.dialled.lock().unwrap().iter().map(ToString::to_string).collect()
    }
}

#[async_trait]
impl Dial for Roads {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        self.dialled.lock().unwrap().push(address);
        let is_public = self.public.contains(&address.ip());
        let road = if is_public { self.receiver } else { self.trap };
        let stream = TcpStream::connect(road).await?;
        Ok(Dialled { stream: Box::new(stream), peer: address })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        TcpDial.is_own(address)
    }
}

pub(crate) struct World {
    pub(crate) names: NameServer,
    pub(crate) receiver: Place,
    pub(crate) trap: Place,
    pub(crate) roads: Arc<Roads>,
    policy: UrlPolicy,
    pub(crate) sender: Arc<HttpSender>,
}

impl World {
    /// With plain http and nothing else permitted.
    pub(crate) async fn new() -> Self {
        Self::with(UrlPolicy { allow_http: true, ..UrlPolicy::default() }, OK_AND_CLOSE).await
    }

    pub(crate) async fn with(policy: UrlPolicy, answer: impl Into<String>) -> Self {
        let names = NameServer::start().await;
        let trap = Place::open(OK_AND_CLOSE.to_owned()).await;
        let receiver = Place::open(answer.into().replace("TRAP", &trap.address.to_string())).await;
        let roads = Arc::new(Roads {
            public: [PUBLIC, PUBLIC_TOO].map(|address| address.parse().unwrap()).into(),
            receiver: receiver.address,
            trap: trap.address,
            dialled: Mutex::default(),
        });
        let sender = sender(&policy, &names, &roads);
        Self { names, receiver, trap, roads, policy, sender }
    }

    /// Forgets every answer of DNS, as time would make it, and every connection.
    pub(crate) fn forget(&mut self) {
        self.sender = sender(&self.policy, &self.names, &self.roads);
    }

    pub(crate) async fn post(&self, url: &str) -> Exchange {
        self.sender.send(request(url, LONG)).await
    }

    /// Connections to the receiver and to the trap.
    pub(crate) fn connections(&self) -> (usize, usize) {
        (self.receiver.connections(), self.trap.connections())
    }
}

fn sender(policy: &UrlPolicy, names: &NameServer, roads: &Arc<Roads>) -> Arc<HttpSender> {
    let resolver = Arc::new(names.resolver());
    Arc::new(HttpSender::new(policy.clone(), resolver, Arc::clone(roads) as _, Roots::none()))
}
