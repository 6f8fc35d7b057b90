//! From a name to addresses, by DNS and nothing else.
//!
//! Promise: no hosts file, no search domains, no guessing: an absolute name is asked for, A and
//! AAAA, and every address of it, and every name it is an alias of, is handed on to be judged. An
//! answer to another question, under another id or from another sender is not heard; records of
//! other names in an answer are left out. Neighbours: the connector asks; tests and the simulation
//! bring resolvers of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use crate::limits::{ADDRESSES_MAX, DNS_TIME_MAX};

/// An answer is believed at least this long, so that a name with a TTL of 0 costs no look-up per
/// connection.
const TTL_MIN: Duration = Duration::from_secs(5);

/// An answer is believed at most this long, so that a receiver's move is followed.
const TTL_MAX: Duration = Duration::from_mins(5);

/// The same for "there is no such name": short, because a customer may be about to create it.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);

/// Answers kept. Two per name, and as many for its alias: a thousand names at the least. At the
/// 64 KiB that one DNS message can have they take some 256 MiB, if somebody makes all of them so.
const CACHE_ANSWERS_MAX: u64 = 4_096;

/// Most records of an answer that is kept: all addresses a name may have, and as many about aliases
/// and name servers. A record takes several times its size in the message.
const CACHE_RECORDS_MAX: usize = 2 * ADDRESSES_MAX;

/// Longest chain of aliases; common content networks need three or four.
pub const ALIASES_MAX: usize = 8;

/// Questions on their way at once per name server: two per attempt in flight.
const QUESTIONS_MAX: usize = 1_024;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsFailure {
    /// The name, or an address for it, does not exist.
    #[error("no such name, or no address for it")]
    NoAddress,
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The name is an alias of an alias and so on, perhaps of itself.
    #[error("a chain of more than {ALIASES_MAX} aliases")]
    Aliases,
    /// The name has too many addresses to judge.
    #[error("more than {ADDRESSES_MAX} addresses")]
    Addresses,
    /// Anything else, for the operator.
    #[error("{0}")]
    Other(String),
}

/// What DNS says about a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// All its addresses.
    pub addresses: Vec<IpAddr>,
    /// The names it is an alias of, in lower case without a final dot.
    pub aliases: Vec<String>,
}

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a host name in lower case without a final dot.
    async fn resolve(&self, name: &str) -> Result<Found, DnsFailure>;
}

/// The resolver of production.
pub struct HickoryResolver {
    /// Without it, why the system's configuration cannot be used.
    resolver: Result<TokioResolver, String>,
}

impl HickoryResolver {
    /// Asks the name servers of the system's configuration. When there is none, every look-up
    /// fails with the reason, and whatever needs no look-up still works.
    pub fn from_system() -> Self {
        let servers = system_conf::read_system_conf()
            .map(|(config, _)| config.name_servers().to_vec())
            .map_err(|error| format!("the system has no usable DNS configuration: {error}"));
        Self { resolver: servers.and_then(build) }
    }

    /// Asks these name servers, over UDP and TCP.
    pub fn from_servers(servers: &[SocketAddr]) -> Self {
        let servers = servers.iter().map(|server| {
            let connections =
                [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        Self { resolver: build(servers.collect()) }
    }

    /// Why no look-up can succeed, when that is known already.
    pub fn fault(&self) -> Option<&str> {
        self.resolver.as_ref().err().map(String::as_str)
    }
}

fn build(servers: Vec<NameServerConfig>) -> Result<TokioResolver, String> {
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let provider = TokioRuntimeProvider::default();
    TokioResolver::builder_with_config(config, provider)
        .with_options(options())
        .build()
        .map_err(|error| format!("the DNS resolver could not be set up: {error}"))
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.use_hosts_file = ResolveHosts::Never;
    options.preserve_intermediates = true; // The aliases are judged too.
    options.timeout = DNS_TIME_MAX / 2;
    options.attempts = 1; // Hickory counts repetitions.
    options.cache_size = CACHE_ANSWERS_MAX;
    options.max_active_requests = QUESTIONS_MAX;
    options.positive_min_ttl = Some(TTL_MIN);
    options.positive_max_ttl = Some(TTL_MAX);
    options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
    options
}

#[async_trait]
impl Resolve for HickoryResolver {
    /// One family of addresses is enough: name servers that fail at AAAA are common.
    async fn resolve(&self, name: &str) -> Result<Found, DnsFailure> {
        let resolver = self.resolver.as_ref().map_err(|fault| DnsFailure::Other(fault.clone()))?;
        let mut absolute =
            Name::from_ascii(name).map_err(|error| DnsFailure::Other(error.to_string()))?;
        absolute.set_fqdn(true);
        let (ipv4, ipv6) = tokio::join!(
            look_up(resolver, &absolute, RecordType::A),
            look_up(resolver, &absolute, RecordType::AAAA),
        );
        match (ipv4, ipv6) {
            (Ok(mut found), Ok(more)) => {
                found.addresses.extend(more.addresses);
                found.aliases.extend(more.aliases);
                Ok(found)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(failure), Err(_)) => Err(failure),
        }
    }
}

/// Follows the aliases from the name on to its addresses.
///
/// Hickory follows them too, but whatever it has in its cache comes without the way to it, or with
/// that of another name. Only links that begin at our name count, and missing ones are asked for.
async fn look_up(
    resolver: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Found, DnsFailure> {
    let mut found = Found::default();
    let mut owner = name.clone();
    let mut records = ask(resolver, &owner, kind).await?;
    loop {
        let known = alias(&records, &owner);
        let is_missing = known.is_none();
        if is_missing {
            let addresses = records.iter().filter(|record| record.name == owner);
            found.addresses = addresses.filter_map(|record| record.data.ip_addr()).collect();
            if !found.addresses.is_empty() {
                return Ok(found);
            }
        }
        let target = match known {
            Some(target) => target,
            None => alias(&ask(resolver, &owner, RecordType::CNAME).await?, &owner)
                .ok_or(DnsFailure::NoAddress)?,
        };
        if found.aliases.len() == ALIASES_MAX {
            return Err(DnsFailure::Aliases);
        }
        let mut text = target.to_lowercase().to_ascii();
        text.truncate(text.trim_end_matches('.').len());
        found.aliases.push(text);
        owner = target;
        if is_missing {
            records = ask(resolver, &owner, kind).await?;
        }
    }
}

/// The name that this one is an alias of.
fn alias(records: &[Record], owner: &Name) -> Option<Name> {
    records.iter().find_map(|record| match &record.data {
        RData::CNAME(CNAME(target)) if record.name == *owner => Some(target.clone()),
        _ => None,
    })
}

async fn ask(
    resolver: &TokioResolver,
    name: &Name,
    kind: RecordType,
) -> Result<Vec<Record>, DnsFailure> {
    let answer = match resolver.lookup(name.clone(), kind).await {
        Ok(answer) => answer,
        Err(NetError::Timeout) => return Err(DnsFailure::Timeout),
        Err(error) if error.is_no_records_found() => return Err(DnsFailure::NoAddress),
        Err(error) => return Err(DnsFailure::Other(error.to_string())),
    };
    let sections = [answer.answers(), answer.authorities(), answer.additionals()];
    if sections.iter().map(|section| section.len()).sum::<usize>() > CACHE_RECORDS_MAX {
        resolver.clear_lookup_cache(name.clone(), kind);
        // The end of a chain of aliases is kept under its own name, too.
        for record in answer.answers() {
            resolver.clear_lookup_cache(record.name.clone(), kind);
        }
    }
    Ok(answer.answers().to_vec())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hickory_resolver::proto::op::{Message, MessageType};
    use hickory_resolver::proto::rr::rdata::A;
    use tokio::net::UdpSocket;

    use super::*;

    /// Answers one question with 8.8.8.8 and this TTL.
    async fn answer_once(socket: UdpSocket, ttl: u32) {
        let mut buffer = [0; 4_096];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let mut answer = Message::from_vec(&buffer[..length]).unwrap();
        answer.metadata.message_type = MessageType::Response;
        let name = answer.queries[0].name().clone();
        answer.answers = vec![Record::from_rdata(name, ttl, RData::A(A::new(8, 8, 8, 8)))];
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }

    #[tokio::test]
    #[expect(
        clippy::disallowed_methods,
        reason = "the resolver's own clock tells how long it believes"
    )]
    async fn an_answer_is_believed_for_five_seconds_to_five_minutes_whatever_its_ttl() {
        for (ttl, expected) in [
            (0, TTL_MIN),
            (1, TTL_MIN),
            (60, Duration::from_mins(1)),
            (86_400, TTL_MAX),
            (1 << 31, TTL_MAX),
        ] {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let resolver = HickoryResolver::from_servers(&[socket.local_addr().unwrap()]);
            tokio::spawn(answer_once(socket, ttl));
            let before = Instant::now();
            let resolver = resolver.resolver.unwrap();
            let answer = resolver.lookup("a.com.", RecordType::A).await.unwrap();
            let (until, after) = (answer.valid_until(), Instant::now());
            assert!(until >= before + expected && until <= after + expected, "{ttl}");
        }
    }
}
