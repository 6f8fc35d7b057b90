//! Arbitrary bytes as the answer of a name server, over UDP and TCP on loopback: nothing is dialled
//! that was not in the answer, and nothing at all when one address of the answer is forbidden.
//!
//! The first byte says how the rest is used: even, as a whole message whose id is put right; odd,
//! as flags, three counts and records after the question that was asked.

#![no_main]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use domain::address::AddressPolicy;
use domain::attempt::Outcome;
use domain::target_url::{TargetUrl, UrlPolicy};
use engine::sender::{Request, Sender};
use http_sender::HttpSender;
use http_sender::dial::{Dial, Dialled};
use http_sender::limits::ADDRESSES_TRIED_MAX;
use http_sender::resolve::{DnsFailure, Found, HickoryResolver, Resolve};
use http_sender::tls::Roots;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Length of the header of a message (RFC 1035, section 4.1.1).
const HEADER_BYTES: usize = 12;

/// Largest message over TCP.
const MESSAGE_BYTES_MAX: usize = u16::MAX as usize;

fuzz_target!(|input: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime can be had");
    runtime.block_on(exchange(input.to_vec()));
});

async fn exchange(input: Vec<u8>) {
    let server = start_name_server(input.clone()).await.expect("loopback is there");
    let resolver = HickoryResolver::from_servers(&[server]);
    let resolver = Arc::new(Remembering { resolver, found: Mutex::default() });
    let network = Arc::new(Network::default());
    let sender = HttpSender::new(
        UrlPolicy::default(),
        Arc::clone(&resolver) as _,
        Arc::clone(&network) as _,
        Roots::none(),
    );
    let url = TargetUrl::from_stored("https://hooks.customer.com/").expect("a right URL");
    let body = Bytes::from_static(b"{}");
    let request = Request {
        url,
        headers: Vec::new(),
        body,
        timeout: TIMEOUT,
        identity: None,
        credentials: None,
    };
    let exchange = sender.send(request).await;
    assert!(matches!(exchange.outcome, Outcome::Failed(_)), "{exchange:?}");

    let found = resolver.found.lock().expect("nobody panicked").take();
    let dialled = network.dialled.lock().expect("nobody panicked");
    assert!(dialled.len() <= ADDRESSES_TRIED_MAX);
    assert!(found.is_some() || dialled.is_empty(), "{dialled:?}");
    let Some(found) = found else { return };
    for &address in &found.addresses {
        assert!(is_in(&input, address), "{address} came from nowhere");
    }
    let policy = AddressPolicy::default();
    let is_good = found.addresses.iter().all(|&address| policy.judge(address).is_ok());
    assert!(is_good || dialled.is_empty(), "{found:?} {dialled:?}");
    for address in dialled.iter() {
        assert!(address.port() == 443 && found.addresses.contains(&address.ip()), "{address}");
    }
}

fn is_in(input: &[u8], address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => input.windows(4).any(|bytes| bytes == address.octets()),
        IpAddr::V6(address) => input.windows(16).any(|bytes| bytes == address.octets()),
    }
}

/// What is answered to a question.
fn answer(input: &[u8], question: &[u8]) -> Option<Vec<u8>> {
    let id = question.get(..2)?;
    let (manner, rest) = input.split_first()?;
    if manner % 2 == 0 {
        let message = rest.get(2..).unwrap_or_default();
        return Some([id, message].concat());
    }
    let (&[high, low, answers, authorities, additionals], records) = rest.split_first_chunk()?;
    let counts = [0, 1, 0, answers, 0, authorities, 0, additionals];
    let name = question.get(HEADER_BYTES..)?.iter().position(|&length| length == 0)?;
    // The name's end, its type and its class.
    let asked = question.get(HEADER_BYTES..HEADER_BYTES + name + 5)?;
    Some([id, &[high, low], &counts, asked, records].concat())
}

async fn start_name_server(input: Vec<u8>) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    if let Ok(listener) = TcpListener::bind(address).await {
        let input = input.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_over_tcp(stream, input.clone()));
            }
        });
    }
    tokio::spawn(async move {
        let mut question = [0; 1_024];
        while let Ok((length, from)) = socket.recv_from(&mut question).await {
            if let Some(answer) = answer(&input, &question[..length]) {
                // What is too long for UDP is not heard.
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok(address)
}

async fn answer_over_tcp(mut stream: TcpStream, input: Vec<u8>) -> io::Result<()> {
    loop {
        let mut question = vec![0; stream.read_u16().await?.into()];
        stream.read_exact(&mut question).await?;
        let Some(mut answer) = answer(&input, &question) else { return Ok(()) };
        answer.truncate(MESSAGE_BYTES_MAX);
        stream.write_u16(answer.len() as u16).await?;
        stream.write_all(&answer).await?;
    }
}

/// The resolver of production, and what it found.
struct Remembering {
    resolver: HickoryResolver,
    found: Mutex<Option<Found>>,
}

#[async_trait]
impl Resolve for Remembering {
    async fn resolve(&self, name: &str) -> Result<Found, DnsFailure> {
        let found = self.resolver.resolve(name).await?;
        *self.found.lock().expect("nobody panicked") = Some(found.clone());
        Ok(found)
    }
}

/// A network on which nobody answers.
#[derive(Default)]
struct Network {
    dialled: Mutex<Vec<SocketAddr>>,
}

#[async_trait]
impl Dial for Network {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        self.dialled.lock().expect("nobody panicked").push(address);
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn is_own(&self, _: IpAddr) -> bool {
        false
    }
}
