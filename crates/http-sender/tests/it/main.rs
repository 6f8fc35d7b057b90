//! The sender against scripted resolvers, networks and receivers.
//!
//! Receivers are plain scripts over a byte stream: what is on the wire is what the test says.
//! Where time matters the network is in memory and the clock is paused; where the operating system
//! matters (resets, refused connections, proxies) it is TCP on the loopback interface.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests may unwrap")]

mod answers;
mod apart;
mod breaking;
mod dns;
mod endless;
mod exchange;
mod faults;
mod frames;
mod guard;
mod hanging;
mod http2;
mod identity;
mod limits;
mod lookup;
mod malformed;
mod names;
mod proxy;
mod rebinding;
mod reuse;
mod secure;
mod stale;
mod support;
mod tokens;
mod world;
