//! The resolver against a scripted name server.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use http_sender::resolve::{DnsFailure, HickoryResolver, Resolve};
use tokio::net::UdpSocket;

/// A name server over UDP that answers from a list of records, with these TTLs, and remembers the
/// questions.
struct NameServer {
    address: SocketAddr,
    questions: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    async fn start(records: Vec<(&'static str, RData)>, ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let questions = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::clone(&questions);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = question.queries[0].clone();
                asked.lock().unwrap().push(query.name().to_string());
                if query.name().to_string() == "silent.com." {
                    continue;
                }
                let mut answer = question.clone();
                answer.metadata.message_type = MessageType::Response;
                answer.metadata.recursion_available = true;
                answer.additionals.clear();
                for (name, data) in &records {
                    let name = Name::from_ascii(name).unwrap();
                    let kind = data.record_type();
                    let fits = kind == query.query_type() || kind == RecordType::CNAME;
                    if &name == query.name() && fits {
                        answer.answers.push(Record::from_rdata(name, ttl, data.clone()));
                    }
                }
                if answer.answers.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        Self { address, questions }
    }

    fn resolver(&self) -> HickoryResolver {
        HickoryResolver::from_servers(&[self.address])
    }

    fn questions(&self) -> Vec<String> {
        self.questions.lock().unwrap().clone()
    }
}

fn a(address: &str) -> RData {
    RData::A(A(address.parse().unwrap()))
}

fn aaaa(address: &str) -> RData {
    RData::AAAA(AAAA(address.parse().unwrap()))
}

fn cname(name: &str) -> RData {
    RData::CNAME(CNAME(Name::from_ascii(name).unwrap()))
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_name_has_all_its_ipv4_and_ipv6_addresses() {
    let records = vec![
        ("a.com.", a("8.8.8.8")),
        ("a.com.", aaaa("2606:4700::1")),
        ("a.com.", a("10.0.0.1")),
        ("b.com.", aaaa("::ffff:10.0.0.1")),
    ];
    let server = NameServer::start(records, 60).await;
    let resolver = server.resolver();
    let mut found = resolver.resolve("a.com").await.unwrap();
    found.sort_unstable();
    assert_eq!(found, addresses(&["8.8.8.8", "10.0.0.1", "2606:4700::1"]));
    assert_eq!(resolver.resolve("b.com").await, Ok(addresses(&["::ffff:10.0.0.1"])));
}

#[tokio::test]
async fn a_chain_of_aliases_ends_at_its_addresses_or_nowhere() {
    let records = vec![
        ("a.com.", cname("db.internal.")),
        ("db.internal.", a("10.0.0.1")),
        ("loop.com.", cname("pool.com.")),
        ("pool.com.", cname("loop.com.")),
    ];
    let server = NameServer::start(records, 60).await;
    let resolver = server.resolver();
    assert_eq!(resolver.resolve("a.com").await, Ok(addresses(&["10.0.0.1"])));
    assert!(resolver.resolve("loop.com").await.is_err());
}

#[tokio::test]
async fn only_the_absolute_name_is_asked_for_and_no_hosts_file_is_read() {
    let server = NameServer::start(Vec::new(), 60).await;
    let resolver = server.resolver();
    for name in ["a.b", "localhost.localdomain", "single"] {
        assert_eq!(resolver.resolve(name).await, Err(DnsFailure::NoAddress));
    }
    let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_else(|_| "me".to_owned());
    let hostname = hostname.trim();
    assert_eq!(resolver.resolve(hostname).await, Err(DnsFailure::NoAddress));
    let absolute = ["a.b.", "localhost.localdomain.", "single.", &format!("{hostname}.")];
    for question in server.questions() {
        assert!(absolute.contains(&question.as_str()), "{question}");
    }
}

#[tokio::test]
async fn an_answer_is_believed_for_five_seconds_although_its_ttl_is_zero() {
    let server = NameServer::start(vec![("a.com.", a("8.8.8.8"))], 0).await;
    let resolver = server.resolver();
    for _ in 0..3 {
        assert_eq!(resolver.resolve("a.com").await, Ok(addresses(&["8.8.8.8"])));
    }
    let of_a = server.questions().len();
    assert!(of_a <= 4, "A once, AAAA at most three times: {of_a}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_server_is_a_timeout() {
    let server = NameServer::start(Vec::new(), 60).await;
    let began = tokio::time::Instant::now();
    assert_eq!(server.resolver().resolve("silent.com").await, Err(DnsFailure::Timeout));
    assert!(began.elapsed() <= Duration::from_millis(3_100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn without_name_servers_every_look_up_fails() {
    assert!(HickoryResolver::from_servers(&[]).resolve("a.com").await.is_err());
}
