//! The real binary, as a child process, over real HTTP on this machine.
//!
//! What is proven in depth elsewhere (rules, engine, store, sender, surfaces) is proven here to be
//! wired together; `architecture` holds the shape of the workspace itself. Start with `program`
//! (the child process), `customer` (accounts and endpoints) and `client`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architecture;
mod backup;
mod client;
mod constant_time;
mod crash;
mod customer;
mod demo;
mod deploy;
mod documents;
mod endpoints;
mod foreign;
mod hostile_bodies;
mod hostile_callers;
mod main_job;
mod metrics;
mod misuse;
mod namespace;
mod program;
mod scarcity;
mod secrets;
mod stop;
mod tls;
mod tracing;
