//! Open connections between two requests, by scheme, host and port, and by the client certificate
//! they were opened with.
//!
//! A connection serves the one name it was opened for: nothing is shared between names that live
//! at one address, nor between endpoints that show different certificates, or none. Reuse needs no look-up, because the connection already leads to a judged
//! address; a connection's limited life makes sure that the judgement is renewed. The rules
//! themselves cannot change under a pool: it belongs to one sender, a sender to one policy, and
//! other rules mean another process.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use domain::credentials::ClientIdentity;
use domain::target_url::TargetUrl;
use tokio::time::{Instant, sleep};

use crate::connection::{Http1, Http2, Line};
use crate::limits::{
    IDLE_MAX, IDLE_PER_ORIGIN_MAX, IDLE_TIME_MAX, SHARED_PER_ORIGIN_MAX, SWEEP_EVERY,
};

#[derive(Default)]
pub(crate) struct Pool {
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_origin: HashMap<Box<str>, Origin>,
    /// Connections in all. HTTP/2 ones count while they are used, too.
    kept: usize,
    sweeping: bool,
}

#[derive(Default)]
struct Origin {
    /// The one used last is at the end and is used next, so that the others grow old.
    http1: Vec<Idle>,
    http2: Vec<Arc<Http2>>,
}

struct Idle {
    connection: Box<Http1>,
    since: Instant,
}

/// What connections that may serve one another's requests have in common: the origin of a URL and,
/// after a `#`, which no origin has, the client certificate.
pub(crate) fn origin_of<'a>(url: &'a TargetUrl, identity: Option<&ClientIdentity>) -> Cow<'a, str> {
    let Some(identity) = identity else { return url.origin().into() };
    let digest = identity.digest();
    let mut origin = String::with_capacity(url.origin().len() + 1 + 2 * digest.len());
    origin.push_str(url.origin());
    origin.push('#');
    for byte in digest {
        let _ = write!(origin, "{byte:02x}");
    }
    origin.into()
}

impl Pool {
    /// A usable connection to the origin, if there is one.
    pub(crate) fn take(&self, origin: &str) -> Option<Line> {
        loop {
            let mut idle = {
                let mut connections = self.lock();
                let found = connections.by_origin.get_mut(origin)?;
                if let Some(stream) = found.http2.iter().find_map(Http2::lease) {
                    return Some(Line::Http2(stream));
                }
                let idle = found.http1.pop()?;
                connections.kept -= 1;
                idle
            };
            if idle.since.elapsed() < IDLE_TIME_MAX && idle.connection.is_usable() {
                return Some(Line::Http1(idle.connection));
            }
        }
    }

    /// Keeps a connection for the next request. When there is no room it is closed instead.
    pub(crate) fn put(self: &Arc<Self>, origin: &str, connection: Box<Http1>) {
        let mut connections = self.lock();
        if connections.kept >= IDLE_MAX {
            return;
        }
        let idle = Idle { connection, since: Instant::now() };
        if let Some(found) = connections.by_origin.get_mut(origin) {
            if found.http1.len() >= IDLE_PER_ORIGIN_MAX {
                return;
            }
            found.http1.push(idle);
        } else {
            let origin = connections.by_origin.entry(origin.into()).or_default();
            origin.http1.push(idle);
        }
        connections.kept += 1;
        self.keep_sweeping(&mut connections);
    }

    /// Shares an HTTP/2 connection, unless there is a good one already. When there is no room, it
    /// closes with its last stream instead.
    pub(crate) fn share(self: &Arc<Self>, origin: &str, connection: &Arc<Http2>) {
        let mut connections = self.lock();
        if connections.kept >= IDLE_MAX {
            return;
        }
        let found = connections.by_origin.entry(origin.into()).or_default();
        let before = found.http2.len();
        found.http2.retain(|other| other.is_usable());
        let lost = before - found.http2.len();
        let has_place = found.http2.len() < SHARED_PER_ORIGIN_MAX;
        let is_wanted = has_place && !found.http2.iter().any(|other| other.has_room());
        if is_wanted {
            found.http2.push(Arc::clone(connection));
        }
        connections.kept = connections.kept - lost + usize::from(is_wanted);
        self.keep_sweeping(&mut connections);
    }

    /// One task looks after all kept connections, and only while there are any.
    fn keep_sweeping(self: &Arc<Self>, connections: &mut Connections) {
        if !connections.sweeping {
            connections.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Drops what is old or closed. False when nothing is left.
    fn sweep_once(&self) -> bool {
        let mut connections = self.lock();
        let mut kept = 0;
        connections.by_origin.retain(|_, origin| {
            origin.http1.retain_mut(|idle| {
                idle.since.elapsed() < IDLE_TIME_MAX && idle.connection.is_usable()
            });
            origin.http2.retain(|connection| connection.is_usable() && !connection.was_idle());
            kept += origin.http1.len() + origin.http2.len();
            !origin.http1.is_empty() || !origin.http2.is_empty()
        });
        connections.kept = kept;
        connections.sweeping = !connections.by_origin.is_empty();
        connections.sweeping
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEEP_EVERY).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep_once() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::limits::STREAMS_PER_CONNECTION_MAX;
    use crate::wire::Wire;

    /// A fresh connection and the receiver's end of it.
    async fn http2() -> (Arc<Http2>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1_024);
        (Http2::open(Wire::new(Box::new(near))).await.unwrap(), far)
    }

    fn is_shared(connection: &Arc<Http2>) -> bool {
        Arc::strong_count(connection) > 1
    }

    #[tokio::test(start_paused = true)]
    async fn http2_connections_count_among_all_that_are_kept() {
        let pool = Arc::new(Pool::default());
        let mut receivers = Vec::new();
        for number in 0..IDLE_MAX {
            let (connection, receiver) = http2().await;
            pool.share(&format!("https://n{number}.com"), &connection);
            assert!(is_shared(&connection), "{number}");
            receivers.push(receiver);
        }
        let (late, _receiver) = http2().await;
        pool.share("https://late.com", &late);
        assert!(!is_shared(&late));
        let (near, _far) = tokio::io::duplex(1_024);
        let http1 = Http1::open(Wire::new(Box::new(near))).await.unwrap();
        pool.put("https://late.com", Box::new(http1));
        assert!(pool.take("https://late.com").is_none());

        // Once one is lost there is room for another.
        drop(receivers.pop());
        sleep(SWEEP_EVERY * 3 / 2).await;
        pool.share("https://late.com", &late);
        assert!(is_shared(&late));
    }

    #[tokio::test]
    async fn one_host_has_eight_shared_connections_at_most() {
        let pool = Arc::new(Pool::default());
        let mut receivers = Vec::new();
        let mut streams = Vec::new();
        for number in 0..=SHARED_PER_ORIGIN_MAX {
            let (connection, receiver) = http2().await;
            pool.share("https://a.com", &connection);
            assert_eq!(is_shared(&connection), number < SHARED_PER_ORIGIN_MAX, "{number}");
            streams.extend((0..STREAMS_PER_CONNECTION_MAX).map(|_| connection.begin()));
            receivers.push(receiver);
        }
        // The ninth lives as long as its streams.
        assert_eq!(pool.lock().kept, SHARED_PER_ORIGIN_MAX);
        // Those that fell make room.
        drop((streams, receivers));
        let (another, _receiver) = http2().await;
        pool.share("https://a.com", &another);
        assert!(is_shared(&another));
        assert_eq!(pool.lock().kept, 1);
    }
}
