//! DNS and TCP of the simulated network, behind the ports of `http-sender`.
//!
//! Promise: every address that is dialled is one that the rules allow, whatever the names say; the
//! others are noted as a broken promise. Neighbours: [`super::weather`] changes what names say.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_sender::dial::{Dial, Dialled};
use http_sender::resolve::{DnsFailure, Found, Resolve};

use super::trace::Sometimes;
use super::world::World;

/// Longer than any look-up may take.
const SILENCE: Duration = Duration::from_mins(10);

/// What DNS says of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// The receiver's address.
    Receiver(usize),
    /// An address that must not be called: that of a cloud's metadata.
    Metadata,
    /// The receiver's address, and this machine.
    ReceiverAndLoopback(usize),
    /// There is no such name.
    Nothing,
    /// No answer.
    Silence,
}

/// The names, and what is said of them.
pub(super) type Names = BTreeMap<String, Says>;

/// The name of a receiver's host.
pub(super) fn receiver_host(number: usize) -> String {
    format!("r{number}")
}

/// The name of an engine's host.
pub(super) fn node_host(number: usize) -> String {
    format!("n{number}")
}

/// DNS.
pub(super) struct SimResolve(pub(super) Arc<World>);

#[async_trait]
impl Resolve for SimResolve {
    async fn resolve(&self, name: &str) -> Result<Found, DnsFailure> {
        let says = self.0.receivers().names.get(name).copied();
        let receiver = |number: usize| turmoil::lookup(receiver_host(number));
        let addresses = match says {
            Some(Says::Receiver(number)) => vec![receiver(number)],
            Some(Says::Metadata) => {
                self.0.count(Sometimes::NameForbidden);
                vec![IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254))]
            }
            Some(Says::ReceiverAndLoopback(number)) => {
                self.0.count(Sometimes::NameForbidden);
                vec![receiver(number), IpAddr::V4(Ipv4Addr::LOCALHOST)]
            }
            Some(Says::Nothing) | None => {
                self.0.count(Sometimes::NameFailed);
                return Err(DnsFailure::NoAddress);
            }
            Some(Says::Silence) => {
                self.0.count(Sometimes::NameFailed);
                tokio::time::sleep(SILENCE).await;
                return Err(DnsFailure::Timeout);
            }
        };
        Ok(Found { addresses, aliases: Vec::new() })
    }
}

/// TCP.
pub(super) struct SimDial(pub(super) Arc<World>);

#[async_trait]
impl Dial for SimDial {
    async fn dial(&self, address: SocketAddr) -> io::Result<Dialled> {
        let is_receiver = self.0.host_at(address.ip()).is_some_and(|name| name.starts_with('r'));
        if !is_receiver {
            self.0.violation(format_args!("a forbidden address was dialled: {address}"));
        }
        let stream = turmoil::net::TcpStream::connect(address).await?;
        let peer = stream.peer_addr()?;
        Ok(Dialled { stream: Box::new(stream), peer })
    }

    fn is_own(&self, _address: IpAddr) -> bool {
        false
    }
}
