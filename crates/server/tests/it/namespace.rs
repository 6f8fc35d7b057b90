//! The settings of production, in a network of the test's own: nothing is opened, nothing scripted.
//!
//! Two network namespaces and a cable between them. In one, `sender`, the real binary runs, with its
//! own public address; in the other there are public addresses with a receiver behind TLS, private
//! ones with traps, and a name server. `resolv.conf` and the hosts file are replaced for this test
//! alone. It needs root and Linux namespaces; where it cannot have them it says so on standard
//! error, captured or not, and proves nothing.
//!
//! The test binary runs itself again inside, as `unshare --net --mount` leaves nothing behind; once
//! more for the traps on the sender's own loopback.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use domain::contract::Contract;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;
use testkit::PATIENCE;
use testkit::journal::Journal;
use testkit::receiver::{Answer, Receiver};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};
use tokio_rustls::TlsAcceptor;

use self::dns::{NameServer, records};
use crate::customer::Customer;
use crate::program::{Home, Service, binary, clean};

#[path = "../../../http-sender/tests/it/dns.rs"]
#[expect(dead_code, reason = "written for the sender's own tests")]
mod dns;

/// Says to the test binary which part it plays.
const ROLE: &str = "NAMESPACE_TEST_ROLE";
const INSIDE: &str = "inside";
const TRAP: &str = "trap";

/// This test, for the test binary's own command line.
const NAME: &str =
    "namespace::nothing_leaves_for_a_forbidden_address_with_the_settings_of_production";

/// Whether there can be namespaces with a cable between them.
const CHECK: &str = "mount -t tmpfs none /run && ip netns add there \
                     && ip link add here type veth peer name uplink netns there";

/// The receiver's address, one where nobody listens, and one that swallows packets.
const PUBLIC: &str = "93.184.215.14";
const REFUSING: &str = "93.184.215.15";
const SWALLOWING: &str = "93.184.215.99";

/// The binary's own address.
const OWN: &str = "93.184.215.20";

/// Where the name server and the traps of the other namespace are.
const NAME_SERVER: &str = "198.18.0.1";
const TRAPS: [&str; 4] =
    ["10.1.2.3:443", "169.254.169.254:443", "169.254.169.254:80", "10.1.2.3:3128"];

/// Traps on the sender's own loopback.
const TRAPS_AT_HOME: [&str; 4] = ["127.0.0.1:443", "127.0.0.1:80", "[::1]:443", "127.0.0.1:3128"];

/// An egress proxy.
const PROXY: &str = "198.18.0.1:3129";

const SETUP: &str = "
set -e
mount -t tmpfs none /run
printf 'nameserver 198.18.0.1\\nsearch search-corp.com\\noptions ndots:5\\n' > /run/resolv.conf
printf '127.0.0.1 localhost hosts.shop.com\\n93.184.215.14 only-hosts.shop.com\\n' > /run/hosts
mount --bind /run/resolv.conf /etc/resolv.conf
mount --bind /run/hosts /etc/hosts
ip netns add sender
ip link add cable type veth peer name uplink netns sender
ip link set lo up
ip link set cable up
ip addr add 198.18.0.1/30 dev cable
for address in 93.184.215.14 93.184.215.15 10.1.2.3 169.254.169.254; do
  ip addr add $address/32 dev lo
done
ip netns exec sender sh -e -c '
  ip link set lo up
  ip link set uplink up
  ip addr add 198.18.0.2/30 dev uplink
  ip addr add 93.184.215.20/32 dev uplink
  ip route add default via 198.18.0.1
  ip route add 93.184.215.99/32 dev uplink
  ip neigh add 93.184.215.99 lladdr 02:00:00:00:00:99 dev uplink'
ip route add 93.184.215.20/32 via 198.18.0.2
";

#[test]
fn nothing_leaves_for_a_forbidden_address_with_the_settings_of_production() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var(ROLE).as_deref() {
        Ok(INSIDE) => runtime.block_on(inside()),
        Ok(TRAP) => runtime.block_on(trap()),
        _ => outside(),
    }
}

/// Goes inside, if there is an inside.
fn outside() {
    use std::process::Command;
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount"]);
        command
    };
    let checked = unshare().args(["sh", "-c", CHECK]).output();
    if !checked.is_ok_and(|output| output.status.success()) {
        // Not by `eprintln`, which a passing test's capture swallows.
        let line = format!("not run: {NAME} needs root and network namespaces (unshare, ip)\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let again = std::env::current_exe().unwrap();
    let ran =
        unshare().arg(again).args([NAME, "--exact", "--nocapture"]).env(ROLE, INSIDE).output();
    let ran = ran.unwrap();
    let said = [ran.stdout, ran.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(ran.status.success() && said[0].contains("1 passed"), "{}", said.concat());
}

/// The part of the sender's own loopback: says who comes.
#[expect(clippy::print_stdout, reason = "the process that set it listens there")]
async fn trap() {
    let caught = Arc::new(Journal::default());
    for address in TRAPS_AT_HOME {
        catch(address, &caught).await;
    }
    println!("\ntrap ready");
    for number in 1.. {
        let caught = caught.wait_until("a catch", Duration::MAX, |seen| seen.len() >= number).await;
        println!("\ntrap caught {}", caught[number - 1]);
    }
}

/// Accepts whoever comes and writes down where.
async fn catch(address: &'static str, caught: &Arc<Journal<String>>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let caught = Arc::clone(caught);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            caught.push(address.to_owned());
        }
    });
}

/// Every trap of both namespaces.
struct Traps {
    caught: Arc<Journal<String>>,
    _at_home: Child,
}

impl Traps {
    async fn set() -> Self {
        let caught = Arc::new(Journal::default());
        for address in TRAPS {
            catch(address, &caught).await;
        }
        let again = std::env::current_exe().unwrap();
        let mut at_home = in_sender(&again)
            .args([NAME, "--exact", "--nocapture"])
            .env(ROLE, TRAP)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(at_home.stdout.take().unwrap()).lines();
        while lines.next_line().await.unwrap().expect("the traps are set") != "trap ready" {}
        let noted = Arc::clone(&caught);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(address) = line.strip_prefix("trap caught ") {
                    noted.push(address.to_owned());
                }
            }
        });
        Self { caught, _at_home: at_home }
    }

    /// Each of them catches somebody who comes from where the sender is; then all are empty.
    async fn try_out(&self) {
        for (address, at) in TRAPS.iter().chain(&TRAPS_AT_HOME).zip(1..) {
            let (host, port) = address.rsplit_once(':').unwrap();
            let host = host.trim_matches(['[', ']']);
            let knock = format!("exec 3<>/dev/tcp/{host}/{port}");
            let knocked = in_sender(Path::new("bash")).args(["-c", &knock]).status().await;
            assert!(knocked.unwrap().success(), "{address} cannot be reached");
            self.caught.wait_until(address, PATIENCE, |caught| caught.len() >= at).await;
        }
        self.caught.take();
    }

    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.caught.entries(), [""; 0]);
    }
}

/// A command in the sender's namespace, in a clean environment.
fn in_sender(program: &Path) -> Command {
    let mut command = clean(Path::new("ip"), &["netns", "exec", "sender"]);
    command.arg(program).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

async fn shell(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// TLS for every name under `shop.com`; the authority's certificate as PEM.
fn certificates() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["*.shop.com".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (issuer.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Passes what comes in TLS on to the receiver.
async fn terminate_tls(acceptor: TlsAcceptor, receiver: SocketAddr) {
    let listener = TcpListener::bind((PUBLIC, 443)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut outer = acceptor.accept(stream).await?;
                let mut inner = TcpStream::connect(receiver).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
}

/// An HTTP proxy that does as it is told and writes down the head of what it is told.
async fn proxy(asked: &Arc<Journal<String>>) {
    let listener = TcpListener::bind(PROXY).await.unwrap();
    let asked = Arc::clone(asked);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(near.read_u8().await?);
                }
                let head = String::from_utf8(head).unwrap();
                let target = head.split(' ').nth(1).unwrap().to_owned();
                asked.push(head);
                let mut far = TcpStream::connect(target).await?;
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
}

/// The world of the test.
struct World {
    names: NameServer,
    receiver: Receiver,
    traps: Traps,
    home: Home,
}

impl World {
    async fn new() -> Self {
        shell(SETUP).await;
        let udp = UdpSocket::bind((NAME_SERVER, 53)).await.unwrap();
        let tcp = TcpListener::bind((NAME_SERVER, 53)).await.unwrap();
        let names = NameServer::serve(udp, tcp);
        let receiver = Receiver::start().await;
        // So that every delivery needs a connection, and every connection a look-up.
        receiver.otherwise(Answer::status(200).with_header("connection", "close"));
        let (authority, acceptor) = certificates();
        terminate_tls(acceptor, receiver.address()).await;
        let home = Home::new();
        std::fs::write(home.folder().join("authority.pem"), authority).unwrap();
        let traps = Traps::set().await;
        traps.try_out().await;
        Self { names, receiver, traps, home }
    }

    /// The real binary without a word about what may be called.
    async fn serve(&self, further: &[&str]) -> Service {
        let mut command = in_sender(binary());
        let store = format!("sqlite:{}", self.home.store().display());
        let authority = self.home.folder().join("authority.pem");
        command.args(["serve", "--store", &store, "--tls-ca"]).arg(authority);
        command.args(["--listen", &format!("{OWN}:8080"), "--retry-schedule", "0"]);
        command.args(["--log", "info,engine=debug,http_sender=debug"]).args(further);
        for variable in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(variable, "http://10.1.2.3:3128");
            command.env(variable.to_lowercase(), "http://127.0.0.1:3128");
        }
        self.home.serve_by(command).await
    }

    /// Publishes to every endpoint of the customer and answers what became of each, by URL.
    async fn outcomes(&self, service: &Service, customer: &Customer) -> Vec<(String, String)> {
        let published = service
            .operator()
            .post(
                "/api/v1/events",
                &json!({"account": customer.account, "type": customer.event_type, "data": {}}),
            )
            .await
            .json(202);
        service.settled().await;
        let event = published["id"].as_str().unwrap();
        let path = format!("/api/v1/deliveries?event={event}&limit=100");
        let deliveries = service.operator().get(&path).await;
        let path = format!("/api/v1/accounts/{}/endpoints?limit=100", customer.account);
        let endpoints = service.operator().get(&path).await;
        let mut outcomes = Vec::new();
        for delivery in deliveries["data"].as_array().unwrap() {
            let path = format!("/api/v1/deliveries/{}/attempts", delivery["id"].as_str().unwrap());
            let attempts = service.operator().get(&path).await;
            let outcome = attempts["data"][0]["outcome"].as_str().unwrap().to_owned();
            let mut all = endpoints["data"].as_array().unwrap().iter();
            let endpoint = all.find(|endpoint| endpoint["id"] == delivery["endpoint"]);
            let url = endpoint.unwrap_or_else(|| panic!("{delivery} {endpoints}"))["url"].clone();
            outcomes.push((url.as_str().unwrap().to_owned(), outcome));
        }
        outcomes.sort();
        outcomes
    }
}

/// An account with an endpoint at `https://NAME.shop.com/` for each name.
async fn customer(service: &Service, username: &str, names: &[&str]) -> Customer {
    let customer = Customer::named(service, Contract::Standard, username).await;
    for name in names {
        customer.register(&format!("https://{name}.shop.com/")).await;
    }
    customer
}

fn expected(outcomes: &[(&str, &str)]) -> Vec<(String, String)> {
    let url = |name: &str| format!("https://{name}.shop.com/");
    let mut all: Vec<_> =
        outcomes.iter().map(|(name, outcome)| (url(name), (*outcome).to_owned())).collect();
    all.sort();
    all
}

async fn inside() {
    let world = World::new().await;
    let service = world.serve(&[]).await;
    only_public_addresses_of_dns_are_called(&world, &service).await;
    every_failing_registration_looks_the_same(&world, &service).await;
    let rebinding = names_that_move_are_followed_nowhere(&world, &service).await;
    service.terminate();
    assert!(service.ended().await.success());

    // A new process knows no answer any more: now the names lead to the traps.
    let service = world.serve(&[]).await;
    let outcomes = world.outcomes(&service, &rebinding).await;
    assert_eq!(outcomes.len(), REBINDING);
    assert!(outcomes.iter().all(|(_, outcome)| outcome == "blocked"), "{outcomes:?}");
    world.traps.assert_empty();
    service.terminate();
    assert!(service.ended().await.success());

    a_proxy_is_asked_for_judged_addresses(&world).await;
    world.traps.assert_empty();
}

async fn only_public_addresses_of_dns_are_called(world: &World, service: &Service) {
    let names = &world.names;
    for (name, answers) in [
        ("good", &[PUBLIC][..]),
        ("alias", &["good.shop.com", PUBLIC]),
        // The hosts file says 127.0.0.1 of it.
        ("hosts", &[PUBLIC]),
        ("loopback", &["127.0.0.1"]),
        ("loopback-6", &["::1"]),
        ("private", &["10.1.2.3"]),
        ("metadata", &["169.254.169.254"]),
        ("mixed", &[PUBLIC, "10.1.2.3"]),
        ("own", &[OWN]),
        ("refusing", &[REFUSING]),
    ] {
        names.set(&format!("{name}.shop.com"), answers);
    }
    names.script("alias.shop.com", [dns::chain(&["alias.shop.com", "good.shop.com", PUBLIC])]);
    // What the search domain would make of a name that does not exist.
    names.set("absent.shop.com.search-corp.com", &[PUBLIC]);
    let outcomes = expected(&[
        ("good", "success"),
        ("alias", "success"),
        ("hosts", "success"),
        ("only-hosts", "dns"),
        ("absent", "dns"),
        ("loopback", "blocked"),
        ("loopback-6", "blocked"),
        ("private", "blocked"),
        ("metadata", "blocked"),
        ("mixed", "blocked"),
        ("own", "blocked"),
        ("refusing", "connect"),
    ]);
    let all: Vec<_> = outcomes.iter().map(|(url, _)| url[8..].split('.').next().unwrap()).collect();
    let customer = customer(service, "of all kinds", &all).await;
    assert_eq!(world.outcomes(service, &customer).await, outcomes);
    let hosts: Vec<_> =
        world.receiver.requests().iter().map(|r| r.header("host").unwrap().to_owned()).collect();
    assert_eq!(hosts.len(), 3, "{hosts:?}");
    assert!(names.asked_names().iter().all(|name| name.ends_with(".shop.com")), "no search domain");
    for detail in ["DNS_FORBIDDEN", "DNS_MIXED", "OWN_ADDRESS", "DNS_ERROR"] {
        service.logged(detail).await;
    }
    // An address that the machine gets while we run is its own from the next connection on.
    shell(&format!("ip netns exec sender ip addr add {PUBLIC}/32 dev uplink")).await;
    let outcome = world.outcomes(service, &customer).await;
    let good = outcome.iter().find(|(url, _)| url == "https://good.shop.com/").unwrap();
    assert_eq!(good.1, "blocked");
    shell(&format!("ip netns exec sender ip addr del {PUBLIC}/32 dev uplink")).await;
    world.traps.assert_empty();
}

/// Longest that a refused registration may take.
const REGISTRATION_TIME_MAX: Duration = Duration::from_millis(1_200);

async fn every_failing_registration_looks_the_same(world: &World, service: &Service) {
    for (name, answers) in [
        ("swallowing.shop.com", &[SWALLOWING][..]),
        ("wrong-certificate.com", &[PUBLIC]),
        ("slow.shop.com", &[PUBLIC]),
        ("failing.shop.com", &[PUBLIC]),
    ] {
        world.names.set(name, answers);
    }
    world.receiver.always("/slow", Answer::hang());
    world.receiver.always("/failing", Answer::status(503).with_body("an internal detail"));
    let customer = Customer::new(service, Contract::KonproV1).await;
    customer.register("https://good.shop.com/").await;
    let mut refusals = Vec::new();
    for url in [
        "https://loopback.shop.com/",
        "https://private.shop.com/",
        "https://mixed.shop.com/",
        "https://own.shop.com:8443/",
        "https://only-hosts.shop.com/",
        "https://refusing.shop.com/",
        "https://swallowing.shop.com/",
        "https://wrong-certificate.com/",
        "https://slow.shop.com/slow",
        "https://failing.shop.com/failing",
    ] {
        let began = tokio::time::Instant::now();
        let body = json!({"url": url, "events": [customer.event_type]});
        let answer = customer.caller.post("/v1/webhook/endpoint.add", &body).await;
        assert!(began.elapsed() <= REGISTRATION_TIME_MAX, "{url}: {:?}", began.elapsed());
        let mut body = answer.json(400);
        assert!(body.as_object_mut().unwrap().remove("request_id").is_some());
        refusals.push(body);
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    for url in [
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://93.184.215.14/",
        "https://localhost/",
        "https://metadata.google.internal/",
        "https://good.shop.com:3128/",
        "http://good.shop.com/",
    ] {
        let body = json!({"url": url, "events": [customer.event_type]});
        let answer = customer.caller.post("/v1/webhook/endpoint.add", &body).await;
        assert_eq!(answer.status, 400, "{url}: {}", answer.text);
    }
    world.traps.assert_empty();
}

/// Names that move from the receiver to a trap.
const REBINDING: usize = 30;

async fn names_that_move_are_followed_nowhere(world: &World, service: &Service) -> Customer {
    let names: Vec<_> = (0..REBINDING).map(|number| format!("moving-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let name = format!("{name}.shop.com");
        let trap: &[&str] = match number % 3 {
            0 => &["127.0.0.1", "::1"],
            1 => &["10.1.2.3"],
            _ => &["169.254.169.254", PUBLIC],
        };
        world.names.script(&name, [records(&name, 0, &[PUBLIC]), records(&name, 0, trap)]);
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let customer = customer(service, "moving", &names).await;
    let outcomes = world.outcomes(service, &customer).await;
    let moved = outcomes.iter().filter(|(_, outcome)| outcome != "success").count();
    assert_eq!((outcomes.len(), moved), (REBINDING, 0), "{outcomes:?}");
    world.traps.assert_empty();
    customer
}

async fn a_proxy_is_asked_for_judged_addresses(world: &World) {
    let asked = Arc::new(Journal::default());
    proxy(&asked).await;
    let service = world.serve(&["--egress-proxy", &format!("http://walter:secret@{PROXY}")]).await;
    let customer = customer(&service, "behind a proxy", &["good", "private", "mixed", "own"]).await;
    let outcomes = world.outcomes(&service, &customer).await;
    let blocked = [("private", "blocked"), ("mixed", "blocked"), ("own", "blocked")];
    assert_eq!(outcomes, expected(&[&[("good", "success")], &blocked[..]].concat()));
    let head = format!(
        "CONNECT {PUBLIC}:443 HTTP/1.1\r\nHost: {PUBLIC}:443\r\n\
         Proxy-Authorization: Basic d2FsdGVyOnNlY3JldA==\r\n\r\n"
    );
    assert_eq!(asked.entries(), [head]);
    let said_so = |line: &String| line.contains("every request leaves through the egress proxy");
    assert!(service.log().iter().any(said_so));
    assert!(!service.log().iter().any(|line| line.contains("secret")), "{:?}", service.log());
}
