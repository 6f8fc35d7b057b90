//! The sender against scripted resolvers, networks and receivers.
//!
//! Receivers are plain scripts over a byte stream: what is on the wire is what the test says.
//! Where time matters the network is in memory and the clock is paused; where the operating system
//! matters (resets, refused connections, proxies) it is TCP on the loopback interface.

#![allow(clippy::unwrap_used, clippy::allow_attributes, reason = "tests may unwrap")]

mod exchange;
mod guard;
mod limits;
mod lookup;
mod reuse;
mod secure;
mod support;
