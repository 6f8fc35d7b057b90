//! Open connections between two requests, by scheme, host and port.
//!
//! A connection serves the one name it was opened for: nothing is shared between names that live
//! at one address. Reuse needs no look-up, because the connection already leads to a judged
//! address; a connection's limited life makes sure that the judgement is renewed. The rules
//! themselves cannot change under a pool: it belongs to one sender, a sender to one policy, and
//! other rules mean another process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::{Instant, sleep};

use crate::connection::{Http1, Http2, Line};
use crate::limits::{IDLE_MAX, IDLE_PER_ORIGIN_MAX, IDLE_TIME_MAX, SWEEP_EVERY};

#[derive(Default)]
pub(crate) struct Pool {
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    by_origin: HashMap<Box<str>, Origin>,
    /// HTTP/1.1 connections in all.
    idle: usize,
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
                connections.idle -= 1;
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
        if connections.idle >= IDLE_MAX {
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
        connections.idle += 1;
        self.keep_sweeping(&mut connections);
    }

    /// Shares an HTTP/2 connection, unless there is a good one already.
    pub(crate) fn share(self: &Arc<Self>, origin: &str, connection: &Arc<Http2>) {
        let mut connections = self.lock();
        let found = connections.by_origin.entry(origin.into()).or_default();
        found.http2.retain(|other| other.is_usable());
        if !found.http2.iter().any(|other| other.has_room()) {
            found.http2.push(Arc::clone(connection));
        }
        self.keep_sweeping(&mut connections);
    }

    /// One task looks after all idle connections, and only while there are any.
    fn keep_sweeping(self: &Arc<Self>, connections: &mut Connections) {
        if !connections.sweeping {
            connections.sweeping = true;
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Drops what is old or closed. False when nothing is left.
    fn sweep_once(&self) -> bool {
        let mut connections = self.lock();
        let mut idle = 0;
        connections.by_origin.retain(|_, origin| {
            origin.http1.retain_mut(|idle| {
                idle.since.elapsed() < IDLE_TIME_MAX && idle.connection.is_usable()
            });
            origin.http2.retain(|connection| connection.is_usable() && !connection.was_idle());
            idle += origin.http1.len();
            !origin.http1.is_empty() || !origin.http2.is_empty()
        });
        connections.idle = idle;
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
