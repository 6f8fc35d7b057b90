//! From a name to addresses, by DNS and nothing else.
//!
//! Promise: no hosts file, no search domains, no guessing: an absolute name is asked for, A and
//! AAAA, and every answer is handed on to be judged. Neighbours: the connector asks; tests and the
//! simulation bring resolvers of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
    ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{TokioResolver, system_conf};

use crate::limits::DNS_TIME_MAX;

/// An answer is believed at least this long, so that a name with a TTL of 0 costs no look-up per
/// connection.
const TTL_MIN: Duration = Duration::from_secs(5);

/// An answer is believed at most this long, so that a receiver's move is followed.
const TTL_MAX: Duration = Duration::from_mins(5);

/// The same for "there is no such name": short, because a customer may be about to create it.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(30);

/// Answers kept. Two per name.
const CACHE_ANSWERS_MAX: u64 = 16 * 1024;

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
    /// Anything else, for the operator.
    #[error("{0}")]
    Other(String),
}

/// Finds the addresses of a name.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a host name in lower case without a final dot.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure>;
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
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.preserve_intermediates = false;
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
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        let resolver = self.resolver.as_ref().map_err(|fault| DnsFailure::Other(fault.clone()))?;
        let mut absolute =
            Name::from_ascii(name).map_err(|error| DnsFailure::Other(error.to_string()))?;
        absolute.set_fqdn(true);
        match resolver.lookup_ip(absolute).await {
            Ok(answers) => Ok(answers.iter().collect()),
            Err(NetError::Timeout) => Err(DnsFailure::Timeout),
            Err(error) if error.is_no_records_found() => Err(DnsFailure::NoAddress),
            Err(error) => Err(DnsFailure::Other(error.to_string())),
        }
    }
}
