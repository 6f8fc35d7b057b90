//! A name server of the tests' own, over UDP and TCP: says about each name what the
//! test wants said, right or wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use http_sender::resolve::HickoryResolver;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// What a resolver accepts over UDP (DNS flag day 2020); more is cut off and fetched over TCP.
const UDP_BYTES_MAX: usize = 1_232;

/// What the server says when asked for a name.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Those of the records that are of the asked type, and all aliases.
    Records(Vec<Record>),
    /// An error.
    Code(ResponseCode),
    /// Nothing.
    Silence,
    /// An answer that calls itself cut off, over TCP too.
    CutOff,
    /// These records under another message's id.
    WrongId(Vec<Record>),
    /// These records as the answer to a question nobody asked.
    WrongQuestion(Vec<Record>),
    /// These records from another port.
    WrongPort(Vec<Record>),
    /// What is no DNS message.
    Garbage,
}

/// What is said about one name: the replies take turns, for each type of question.
type Script = Vec<Reply>;

#[derive(Default)]
struct Zone {
    scripts: HashMap<String, Script>,
    questions: Vec<(String, RecordType)>,
    asked: HashMap<(String, RecordType), Asked>,
}

/// How often something was asked, and under which id last.
#[derive(Clone, Copy, Default)]
struct Asked {
    times: usize,
    last_id: Option<u16>,
}

impl Zone {
    /// The next reply to a question; the same again to a repetition under the same id. Names nobody
    /// has set do not exist.
    fn reply(&mut self, message: &Message) -> Reply {
        let question: &Query = &message.queries[0];
        let mut name = question.name().to_lowercase().to_ascii();
        name.truncate(name.trim_end_matches('.').len());
        let asked = (name.clone(), question.query_type());
        self.questions.push(asked.clone());
        let asked = self.asked.entry(asked).or_default();
        let id = Some(message.metadata.id);
        if asked.last_id != id {
            *asked = Asked { times: asked.times + 1, last_id: id };
        }
        match self.scripts.get(&name) {
            Some(replies) => replies[(asked.times - 1) % replies.len()].clone(),
            None => Reply::Code(ResponseCode::NXDomain),
        }
    }
}

/// The server; ends with the runtime of the test.
pub(crate) struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        // The system gives a UDP port that may be taken for TCP by somebody else.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        Self::serve(udp, tcp)
    }

    /// Serves on these sockets, which have one address.
    pub(crate) fn serve(udp: UdpSocket, tcp: TcpListener) -> Self {
        let address = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone::default()));
        tokio::spawn(serve_udp(udp, Arc::clone(&zone)));
        tokio::spawn(serve_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone }
    }

    /// From now on these addresses and aliases are the answer about a name, with a TTL of a minute.
    pub(crate) fn set(&self, name: &str, answers: &[&str]) {
        self.script(name, [records(name, 60, answers)]);
    }

    /// From now on these replies take turns.
    pub(crate) fn script(&self, name: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies = replies.into_iter().collect();
        self.zone.lock().unwrap().scripts.insert(name.to_owned(), replies);
    }

    /// Every question so far.
    pub(crate) fn questions(&self) -> Vec<(String, RecordType)> {
        self.zone.lock().unwrap().questions.clone()
    }

    /// Every name that was asked for, once.
    pub(crate) fn asked_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.questions().into_iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// How often this was asked; repetitions of one question count once.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> usize {
        let key = (name.to_owned(), kind);
        self.zone.lock().unwrap().asked.get(&key).map_or(0, |asked| asked.times)
    }

    /// A resolver that asks this server and knows nothing yet.
    pub(crate) fn resolver(&self) -> HickoryResolver {
        HickoryResolver::from_servers(&[self.address])
    }
}

/// One record about a name: an address, or else the name it is an alias of.
pub(crate) fn record(name: &str, ttl: u32, data: &str) -> Record {
    let data = match data.parse() {
        Ok(std::net::IpAddr::V4(address)) => RData::A(A(address)),
        Ok(std::net::IpAddr::V6(address)) => RData::AAAA(AAAA(address)),
        Err(_) => RData::CNAME(CNAME(absolute(data))),
    };
    Record::from_rdata(absolute(name), ttl, data)
}

pub(crate) fn records(name: &str, ttl: u32, answers: &[&str]) -> Reply {
    Reply::Records(answers.iter().map(|data| record(name, ttl, data)).collect())
}

/// An alias chain from one name to the next, in one answer; the last is what the chain leads to.
pub(crate) fn chain(names: &[&str]) -> Reply {
    Reply::Records(names.windows(2).map(|pair| record(pair[0], 60, pair[1])).collect())
}

fn absolute(name: &str) -> Name {
    let mut name = Name::from_ascii(name).unwrap();
    name.set_fqdn(true);
    name
}

async fn serve_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 4_096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let reply = zone.lock().unwrap().reply(&question);
        let elsewhere = matches!(reply, Reply::WrongPort(_));
        let Some(mut answer) = encode(&question, reply) else { continue };
        if answer.len() > UDP_BYTES_MAX {
            answer = encode(&question, Reply::CutOff).unwrap();
        }
        if elsewhere {
            let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            stranger.send_to(&answer, from).await.unwrap();
        } else {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn serve_tcp(listener: TcpListener, zone: Arc<Mutex<Zone>>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(serve_stream(stream, Arc::clone(&zone)));
    }
}

/// RFC 1035, section 4.2.2: each message after its length.
async fn serve_stream(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut question = vec![0; usize::from(length)];
        stream.read_exact(&mut question).await?;
        let question = Message::from_vec(&question).unwrap();
        let reply = zone.lock().unwrap().reply(&question);
        let Some(answer) = encode(&question, reply) else { continue };
        let mut message = u16::try_from(answer.len()).unwrap().to_be_bytes().to_vec();
        message.extend(answer);
        stream.write_all(&message).await?;
    }
}

fn encode(question: &Message, reply: Reply) -> Option<Vec<u8>> {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_available = true;
    answer.additionals.clear();
    let kind = question.queries[0].query_type();
    match reply {
        Reply::Silence => return None,
        Reply::Garbage => {
            // The id is right, so that it is looked at at all.
            let id = question.metadata.id.to_be_bytes();
            return Some([&id[..], &[0xff; 30]].concat());
        }
        Reply::Code(code) => answer.metadata.response_code = code,
        Reply::CutOff => answer.metadata.truncation = true,
        Reply::WrongId(records) => {
            answer.metadata.id = answer.metadata.id.wrapping_add(1);
            answer.answers = fitting(records, kind);
        }
        Reply::WrongQuestion(records) => {
            answer.queries[0].set_name(absolute("other.com"));
            answer.answers = fitting(records, kind);
        }
        Reply::Records(records) | Reply::WrongPort(records) => {
            answer.answers = fitting(records, kind);
        }
    }
    Some(answer.to_vec().unwrap())
}

fn fitting(mut records: Vec<Record>, kind: RecordType) -> Vec<Record> {
    records.retain(|record| [kind, RecordType::CNAME].contains(&record.record_type()));
    records
}
