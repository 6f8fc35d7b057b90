//! The guarded way from a URL to an open connection.
//!
//! Promise: no packet leaves for an address that is not allowed. The URL is judged again, every
//! address of its name and every name it is an alias of is judged, exactly a judged address is
//! dialled (which must not be this machine's own either), and the peer that answered is judged once more. There is one look-up per connection, so
//! a name cannot change its answer between the judgement and the call. Whatever cannot be judged
//! (no answer, an empty one, a failing resolver) is not dialled. Nothing else in this crate opens
//! connections, but for the one to the operator's own [`crate::proxy`], which is then asked for the
//! judged address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use domain::address::AnswerRefusal;
use domain::attempt::Failure;
use domain::credentials::ClientIdentity;
use domain::target_url::{Host, TargetUrl, UrlPolicy, is_local_name, is_reserved_name};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::dial::{Dial, Dialled, Stream};
use crate::failed::{Failed, with_sources};
use crate::limits::{
    ADDRESSES_MAX, ADDRESSES_TRIED_MAX, CONNECT_TIME_MAX, DNS_TIME_MAX, TLS_TIME_MAX,
};
use crate::resolve::{DnsFailure, Found, Resolve};
use crate::stopwatch::{Phase, Stopwatch};
use crate::tls::{ALPN_HTTP2, TlsConnectors};
use crate::wire::Wire;

pub(crate) struct Connector {
    pub(crate) policy: UrlPolicy,
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) dialer: Arc<dyn Dial>,
    pub(crate) tls: TlsConnectors,
}

/// An open connection, ready for HTTP.
pub(crate) struct Connected {
    pub(crate) wire: Wire,
    pub(crate) http2: bool,
}

impl Connector {
    pub(crate) async fn connect(
        &self,
        url: &TargetUrl,
        identity: Option<&ClientIdentity>,
        stopwatch: &mut Stopwatch,
    ) -> Result<Connected, Failed> {
        self.policy.judge(url).map_err(|refusal| blocked(refusal.code(), refusal))?;
        let tls = self.tls.showing(identity)?;
        let found = self.find(url.host(), stopwatch).await?;
        self.judge_found(&found)?;
        stopwatch.enter(Phase::Connect);
        let stream = self.dial_first(&found.addresses, url.port()).await?;
        if !url.is_https() {
            return Ok(Connected { wire: Wire::new(stream), http2: false });
        }
        stopwatch.enter(Phase::Tls);
        secure(&tls, stream, url.host()).await
    }

    async fn find(&self, host: &Host, stopwatch: &mut Stopwatch) -> Result<Found, Failed> {
        let known = |addresses| Ok(Found { addresses, aliases: Vec::new() });
        match host {
            Host::Ip(address) => known(vec![*address]),
            Host::Name(name) if is_local_name(name) => {
                known(self.policy.addresses.open_loopback().collect())
            }
            Host::Name(name) => {
                stopwatch.enter(Phase::Dns);
                let answer = timeout(DNS_TIME_MAX, self.resolver.resolve(name)).await;
                answer
                    .unwrap_or(Err(DnsFailure::Timeout))
                    .and_then(|found| match found.addresses.len() {
                        ..=ADDRESSES_MAX => Ok(found),
                        _ => Err(DnsFailure::Addresses),
                    })
                    .map_err(|failure| Failed::new(Failure::Dns, format!("DNS_ERROR: {failure}")))
            }
        }
    }

    fn judge_found(&self, Found { addresses, aliases }: &Found) -> Result<(), Failed> {
        let policy = &self.policy.addresses;
        policy.judge_all(addresses).map_err(|refusal| match refusal {
            AnswerRefusal::Empty => {
                Failed::new(Failure::Dns, format!("{}: {refusal}", refusal.code()))
            }
            AnswerRefusal::Forbidden { .. } | AnswerRefusal::Mixed { .. } => {
                blocked(refusal.code(), refusal)
            }
        })?;
        let is_unopened = |address: &&IpAddr| !policy.opens(**address);
        let reserved = aliases.iter().find(|alias| is_reserved_name(alias));
        if let Some(alias) = reserved
            && addresses.iter().any(|address| is_unopened(&address))
        {
            return Err(blocked(
                "DNS_FORBIDDEN",
                format_args!("it is an alias of {alias}, a name reserved for private use"),
            ));
        }
        // Each of these questions costs a socket.
        let mut unopened = tried(addresses).iter().filter(is_unopened);
        match unopened.find(|&&address| self.dialer.is_own(address)) {
            Some(own) => Err(blocked("OWN_ADDRESS", format_args!("{own} is this machine"))),
            None => Ok(()),
        }
    }

    /// Tries the addresses one after the other. Each gets a fair share of the time that is left, so
    /// that one that swallows packets does not use up the others' chance.
    async fn dial_first(&self, addresses: &[IpAddr], port: u16) -> Result<Box<dyn Stream>, Failed> {
        let until = Instant::now() + CONNECT_TIME_MAX;
        let tried = tried(addresses);
        let mut failed = Failed::new(Failure::Connect, "no address was tried");
        for (index, &address) in tried.iter().enumerate() {
            let now = Instant::now();
            let share = until.saturating_duration_since(now) / (tried.len() - index) as u32;
            let address = SocketAddr::new(address, port);
            failed = match timeout_at(now + share, self.dialer.dial(address)).await {
                Ok(Ok(dialled)) => return self.judge_peer(dialled, address),
                Ok(Err(error)) => Failed::new(Failure::Connect, format!("{address}: {error}")),
                Err(_) => Failed::new(Failure::Connect, format!("{address}: no answer in time")),
            };
        }
        Err(failed)
    }

    fn judge_peer(
        &self,
        dialled: Dialled,
        expected: SocketAddr,
    ) -> Result<Box<dyn Stream>, Failed> {
        let Dialled { stream, peer } = dialled;
        if (peer.ip(), peer.port()) != (expected.ip(), expected.port()) {
            return Err(blocked("PEER_MISMATCH", format_args!("{peer} instead of {expected}")));
        }
        match self.policy.addresses.judge(peer.ip()) {
            Ok(()) => Ok(stream),
            Err(refusal) => Err(blocked("PEER_FORBIDDEN", refusal)),
        }
    }
}

async fn secure(
    tls: &TlsConnector,
    stream: Box<dyn Stream>,
    host: &Host,
) -> Result<Connected, Failed> {
    let failed = |detail: String| Failed::new(Failure::Tls, detail);
    let server = match host {
        Host::Ip(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone())
            .map_err(|error| failed(format!("not a TLS server name: {error}")))?,
    };
    match timeout(TLS_TIME_MAX, tls.connect(server, stream)).await {
        Ok(Ok(stream)) => {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
            Ok(Connected { wire: Wire::new(Box::new(stream)), http2 })
        }
        Ok(Err(error)) => Err(failed(with_sources(&error))),
        Err(_) => Err(failed("the handshake did not end in time".to_owned())),
    }
}

/// Those of the addresses that are dialled, one after the other.
fn tried(addresses: &[IpAddr]) -> &[IpAddr] {
    &addresses[..addresses.len().min(ADDRESSES_TRIED_MAX)]
}

fn blocked(code: &str, why: impl std::fmt::Display) -> Failed {
    Failed::new(Failure::Blocked, format!("{code}: {why}"))
}
