//! Opening a connection to exactly one socket address.
//!
//! Promise: nothing in here looks up a name. Neighbours: the connector calls with judged addresses
//! only; tests and the simulation bring networks of their own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::LazyLock;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A byte stream in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection and whom it reached.
pub struct Dialled {
    /// The connection.
    pub stream: Box<dyn Stream>,
    /// The other end, as the network says.
    pub peer: SocketAddr,
}

/// Opens connections.
#[async_trait]
pub trait Dial: Send + Sync {
    /// Connects to this address and no other.
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled>;

    /// Whether the address is one of this machine's own. They are as private as loopback, even
    /// when they are public.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDial;

#[async_trait]
impl Dial for TcpDial {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        let stream = TcpStream::connect(address).await?;
        // One request is one write; waiting to fill a packet would only delay it.
        stream.set_nodelay(true)?;
        let peer = stream.peer_addr()?;
        Ok(Dialled { stream: Box::new(stream), peer })
    }

    fn is_own(&self, address: IpAddr) -> bool {
        let binding_tells = match address {
            IpAddr::V4(_) => *IPV4_BINDING_TELLS,
            IpAddr::V6(_) => *IPV6_BINDING_TELLS,
        };
        binding_tells && may_be_own(address)
    }
}

/// Only an own address can be bound to, so binding tells without a list of interfaces that would
/// grow stale. Whatever keeps us from asking (no descriptors, no memory) counts as a yes.
fn may_be_own(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => {
            error.kind() != io::ErrorKind::AddrNotAvailable
                && error.raw_os_error() != Some(ADDRESS_FAMILY_NOT_SUPPORTED)
        }
    }
}

/// `EAFNOSUPPORT` on Linux: without IPv6 there is no own IPv6 address.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;

/// False where the system lets anybody bind any address (Linux: `ip_nonlocal_bind`, used by
/// fail-over pairs); there the question has no answer. Each family has a setting of its own.
static IPV4_BINDING_TELLS: LazyLock<bool> =
    LazyLock::new(|| binding_tells(Ipv4Addr::new(192, 0, 2, 1).into()));
static IPV6_BINDING_TELLS: LazyLock<bool> =
    LazyLock::new(|| binding_tells(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()));

/// Whether an address that is nobody's, one for documentation, cannot be bound to.
fn binding_tells(documentation: IpAddr) -> bool {
    let tells = UdpSocket::bind((documentation, 0)).is_err();
    if !tells {
        let family = if documentation.is_ipv4() { "IPv4" } else { "IPv6" };
        tracing::warn!(
            family,
            "this system binds foreign addresses (ip_nonlocal_bind): the machine's own public \
             addresses cannot be told apart and are not refused"
        );
    }
    tells
}
