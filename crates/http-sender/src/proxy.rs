//! The operator's egress proxy: a way to a judged address through somebody else's machine.
//!
//! Promise: the proxy is asked for the one address that was judged, by HTTP CONNECT (RFC 9110,
//! section 9.3.6) or SOCKS5 (RFC 1928), never for a name; names are resolved and judged here, just
//! as without a proxy, and a forbidden address is never asked for. Whom TLS and `Host` name stays
//! the receiver. Only the operator's explicit setting counts: no variable of the environment does.
//!
//! The proxy's own address is the operator's choice: it is not judged, its name is looked up as the
//! system does it (a hosts file and search domains included), and the connection to it must reach
//! exactly the address dialled. From there on the proxy's word is taken: an egress proxy is trusted
//! as the machine's network is. What it answers is bounded all the same, in size here and in time
//! by the connector, which calls this as it calls any [`Dial`].

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;

use crate::dial::{Dial, Dialled, Stream};

mod connect;
mod socks5;

/// Most addresses of the proxy's name that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Longest user name and longest password, in bytes (RFC 1929, section 2).
const CREDENTIAL_BYTES_MAX: usize = 255;

/// Longest host name, in bytes (RFC 1035, section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// A proxy as the operator names it: `http://[user:password@]host:port` or
/// `socks5://[user:password@]host:port`. Neither `Display` nor `Debug` shows the credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct EgressProxy {
    protocol: Protocol,
    host: ProxyHost,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Connect,
    Socks5,
}

#[derive(Clone, PartialEq, Eq)]
enum ProxyHost {
    Name(String),
    Ip(IpAddr),
}

/// A user and a password, 1 to [`CREDENTIAL_BYTES_MAX`] bytes each.
#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: String,
    password: String,
}

/// Why a text names no proxy. Repeats nothing of the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// Another scheme, or none. TLS to the proxy is not supported.
    #[error("must start with http:// (HTTP CONNECT) or socks5://")]
    Scheme,
    /// Something after the port.
    #[error("must end after the port, without a path")]
    Path,
    /// User name or password missing, too long or not readable.
    #[error(
        "must have user name and password as user:password@, 1 to {CREDENTIAL_BYTES_MAX} bytes \
         each, without control characters, and with : @ / and % in them percent-encoded"
    )]
    Credentials,
    /// Not a host.
    #[error("has no host: a name, an IPv4 address, or an IPv6 address in brackets")]
    Host,
    /// No port, or none that exists.
    #[error("must name the port, 1 to 65535, after the host")]
    Port,
}

impl FromStr for EgressProxy {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(ProxyUrlError::Scheme)?;
        let protocol = match scheme {
            "http" => Protocol::Connect,
            "socks5" => Protocol::Socks5,
            _ => return Err(ProxyUrlError::Scheme),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(read_credentials(credentials)?), authority),
            None => (None, rest),
        };
        if authority.contains(['/', '?', '#']) {
            return Err(ProxyUrlError::Path);
        }
        let (host, port) = authority.rsplit_once(':').ok_or(ProxyUrlError::Port)?;
        let host = read_host(host)?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|&port| is_number && port != 0);
        Ok(Self { protocol, host, port: port.ok_or(ProxyUrlError::Port)?, credentials })
    }
}

fn read_host(text: &str) -> Result<ProxyHost, ProxyUrlError> {
    if let Some(inner) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        let address = inner.parse::<Ipv6Addr>().map_err(|_| ProxyUrlError::Host)?;
        return Ok(ProxyHost::Ip(address.into()));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        // Without brackets the last group of an IPv6 address could be its port.
        return if address.is_ipv4() {
            Ok(ProxyHost::Ip(address))
        } else {
            Err(ProxyUrlError::Host)
        };
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_right = (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_name);
    if is_right { Ok(ProxyHost::Name(text.to_owned())) } else { Err(ProxyUrlError::Host) }
}

fn read_credentials(text: &str) -> Result<Credentials, ProxyUrlError> {
    let read = || {
        let (user, password) = text.split_once(':')?;
        let user = percent_decoded(user).filter(|user| !user.contains(':'))?;
        Some(Credentials { user, password: percent_decoded(password)? })
    };
    read().ok_or(ProxyUrlError::Credentials)
}

/// One half of the credentials in clear text.
fn percent_decoded(text: &str) -> Option<String> {
    if text.contains([':', '@', '/']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push((digit(digits[0])? * 16 + digit(digits[1])?) as u8);
        rest = after;
    }
    let text = String::from_utf8(bytes).ok()?;
    let is_right = (1..=CREDENTIAL_BYTES_MAX).contains(&text.len());
    (is_right && !text.contains(char::is_control)).then_some(text)
}

impl fmt::Display for EgressProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.protocol {
            Protocol::Connect => "http",
            Protocol::Socks5 => "socks5",
        };
        let hidden = if self.credentials.is_some() { "…@" } else { "" };
        let port = self.port;
        match &self.host {
            ProxyHost::Name(name) => write!(formatter, "{scheme}://{hidden}{name}:{port}"),
            ProxyHost::Ip(address) => {
                write!(formatter, "{scheme}://{hidden}{}", SocketAddr::new(*address, port))
            }
        }
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "EgressProxy({self})")
    }
}

/// Dials through a proxy.
pub struct ProxyDial {
    proxy: EgressProxy,
    /// Opens the connections to the proxy.
    direct: Arc<dyn Dial>,
}

impl ProxyDial {
    /// Dials through this proxy, which `direct` reaches.
    pub fn new(proxy: EgressProxy, direct: Arc<dyn Dial>) -> Self {
        Self { proxy, direct }
    }

    /// A connection to the proxy itself.
    async fn reach(&self) -> io::Result<Box<dyn Stream>> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in self.addresses().await? {
            match self.direct.dial(address).await {
                Ok(Dialled { stream, peer }) => {
                    if (peer.ip(), peer.port()) == (address.ip(), address.port()) {
                        return Ok(stream);
                    }
                    failed = io::Error::other(format!("{peer} answered instead of {address}"));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let port = self.proxy.port;
        match &self.proxy.host {
            ProxyHost::Ip(address) => Ok(vec![SocketAddr::new(*address, port)]),
            ProxyHost::Name(name) => {
                let found = tokio::net::lookup_host((name.as_str(), port)).await?;
                Ok(found.take(ADDRESSES_TRIED_MAX).collect())
            }
        }
    }
}

#[async_trait]
impl Dial for ProxyDial {
    /// The peer is the target, by the proxy's word.
    async fn dial(&self, target: SocketAddr) -> io::Result<Dialled> {
        let mut stream = self.reach().await.map_err(|error| {
            io::Error::new(error.kind(), format!("the egress proxy cannot be reached: {error}"))
        })?;
        let credentials = self.proxy.credentials.as_ref();
        let asked = match self.proxy.protocol {
            Protocol::Connect => connect::ask(&mut stream, target, credentials).await,
            Protocol::Socks5 => socks5::ask(&mut stream, target, credentials).await,
        };
        match asked {
            Ok(()) => Ok(Dialled { stream, peer: target }),
            Err(error) => Err(io::Error::new(error.kind(), format!("the egress proxy {error}"))),
        }
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.direct.is_own(address)
    }
}

/// The end of the connection is the proxy's refusal too.
fn ended(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("broke off its answer: {error}"))
}

#[cfg(test)]
mod tests;
