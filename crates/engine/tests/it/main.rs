//! The engine under paused time, on the in-memory store, with a scripted sender: days pass in
//! milliseconds, and every run is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod accounts;
mod audit_log;
mod delivering;
mod harness;
mod poison;
mod publishing;
mod recovery;
mod request_rate;
mod rotation;
mod schedule;
